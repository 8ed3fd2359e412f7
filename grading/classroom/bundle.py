"""The learners' edition of the repository: all that it takes to work, and no solutions, alternatives or keys."""

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

from grading import progress
from grading.answers import Alternative
from grading.mutation import EQUIVALENTS
from grading.nbgrader_config import CODE_STUB
from grading.source import BEGIN_ANSWER, BEGIN_SOLUTION, END_ANSWER, END_SOLUTION
from grading.units import PHASES, content_root

CONTENTS = (*PHASES.values(), "grading", "labkit", "README.md", "Makefile", "pyproject.toml", "requirements.txt")
LEFT_OUT = {"solution.ipynb", EQUIVALENTS, "results.py", "solution", "quiz"}
"""Of a phase: what is solved, what explains solutions and makes tables of them; and the quiz, whose bank is its key."""
CACHES = {"__pycache__", ".ipynb_checkpoints"}
PROGRESS = "progress.json"

SOLUTION = re.compile(rf"^( *){BEGIN_SOLUTION}\n.*?^\1{END_SOLUTION}$", re.DOTALL | re.MULTILINE)
MODEL_ANSWER = re.compile(rf"^({BEGIN_ANSWER}[^\n]*\n).*?(?=^### RUBRIC)", re.DOTALL | re.MULTILINE)
CELL = re.compile(r"^(?=# %%)", re.MULTILINE)


class BundleError(RuntimeError):
    """The edition cannot be written; the message says what to do."""


def bundle(out: Path) -> list[Path]:
    """Write the learners' edition into the folder `out`, which must be new or empty; the paths of its files.

    Raises `BundleError` if it is neither, or if this is no clone of the repository.
    """
    root = content_root()
    if not (root / "pyproject.toml").exists():
        raise BundleError("Only a clone of the repository can be bundled, and this is an installed package.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out} is not empty: name a new folder, so that nothing in it is lost.")
    written = [_write(root, path, out) for path in _files(root)]
    progress.begin(out / PROGRESS)
    return [*written, out / PROGRESS]


def _files(root: Path) -> Iterator[Path]:
    for name in CONTENTS:
        place = root / name
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (path for path in found if path.is_file() and not _left_out(path.relative_to(root)))


def _left_out(path: Path) -> bool:
    return bool(set(path.parts) & (LEFT_OUT | CACHES if _is_taught(path) else CACHES))


def _is_taught(path: Path) -> bool:
    return path.parts[0] in PHASES.values()


def _write(root: Path, path: Path, out: Path) -> Path:
    place = path.relative_to(root)
    target = out / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if _is_taught(place) and path.suffix == ".py":
        shortened = _without_alternatives if path.name == "answers.py" else withheld
        target.write_text(shortened(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    else:
        shutil.copy2(path, target)
    return target


def withheld(source: str) -> str:
    """A notebook's source with a stub in each solution, no explanations, and no model answers.

    The markers stay, so that the engine knows what is the learner's.
    """
    cells = [cell for cell in CELL.split(source) if '"explanation"' not in cell.split("\n", 1)[0]]
    text = SOLUTION.sub(lambda region: _stub(region.group(1)), "".join(cells))
    return MODEL_ANSWER.sub(r"\1\nThe answer is your instructor's.\n\n", text) if END_ANSWER in text else text


def _stub(indent: str) -> str:
    return textwrap.indent(f"{BEGIN_SOLUTION}\n{CODE_STUB}\n{END_SOLUTION}", indent)


def _without_alternatives(answers: str) -> str:
    """The known mistakes, which name causes, without the right answers between them."""
    lines = answers.splitlines(keepends=True)
    for node in reversed(ast.parse(answers).body):
        if isinstance(node, ast.ClassDef) and Alternative.__name__ in map(ast.unparse, node.bases):
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines).rstrip() + "\n"
