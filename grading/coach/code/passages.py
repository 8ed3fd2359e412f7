"""What is reviewed together: the cells of a notebook, or a file of a project, as one text."""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import libcst

from grading.checkers import snake_case
from grading.learner_notebook import NotebookCell, read_notebook
from grading.projects import is_test, module_files
from grading.reference import exercise_of
from grading.units import Unit

CODE_MAGIC = re.compile(r"\A(?P<blank>\s*)%%(time|timeit|capture|prun)\b.*", re.MULTILINE)
"""The first line of a cell under which there is ordinary Python."""
MAGIC = re.compile(r"^(?P<indent>[ \t]*)(?P<target>\w+ *= *)?(?:[%!].*|\?+[\w.]+|[\w.]+\?+)[ \t]*$", re.MULTILINE)
"""`%matplotlib inline`, `!ls`, `files = !ls`, `torch.stack?`"""


@dataclass(frozen=True)
class Passage:
    """A cell, or a file: its code, the exercise it answers, and which of its lines the learner was given.

    A passage that is not the learner's at all is read for what it defines and uses, never reviewed.
    """

    source: str
    exercise: str | None = None
    learners: bool = True
    given: frozenset[str] = frozenset()
    """Lines as they stand in the starter, without indentation."""


@dataclass(frozen=True)
class Place:
    """A line of the whole text: its passage, its number there, from 1, and the line itself without indentation."""

    passage: Passage
    line: int
    code: str


class Text:
    """Passages as one module. What is no Python is left out, line for line: magics, and passages that do not parse."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._places: list[Place] = []
        self.last_lines: set[int] = set()
        """Where a passage's last statement begins; a notebook shows its value."""
        lines, own = [], []
        codes = [(passage, python_of(passage.source)) for passage in passages]
        if not _parses_whole(codes):
            codes = [(passage, code) for passage, code in codes if _parses_whole([(passage, code)])]
        for passage, code in codes:
            if not code:
                continue
            statements, added = ast.parse(code).body, code.split("\n")
            self.last_lines.add(len(lines) + statements[-1].lineno)
            written = passage.source.splitlines()
            self._places += [Place(passage, i, line.strip()) for i, line in enumerate(written, 1)]
            lines += added
            own += added if passage.learners else _imports_alone(statements, added)
        self.source = "".join(f"{line}\n" for line in lines)
        self.own_source = "".join(f"{line}\n" for line in own)
        """The same lines, but of what is given only the imports."""

    @property
    def has_own_lines(self) -> bool:
        """Whether there is anything to review."""
        return any(self.is_learners(line) for line in range(1, len(self._places) + 1))

    def place(self, line: int) -> Place:
        """Where line `line` of the text, from 1, comes from."""
        return self._places[line - 1]

    def is_learners(self, line: int) -> bool:
        """Whether the learner wrote that line: they were not given it, in a passage of theirs."""
        place = self.place(line)
        return place.passage.learners and place.code != "" and place.code not in place.passage.given


def of_notebook(unit: Unit, cells: Sequence[NotebookCell]) -> list[Passage]:
    """The code cells of a notebook of `unit`; what a check asks is of no interest."""
    starter = read_notebook(unit.notebook) if unit.notebook.exists() else []
    stubs = {cell.grade_id: cell.source for cell in starter if cell.grade_id}
    given = {cell.source.strip() for cell in starter if not cell.grade_id}
    return [
        Passage(
            source=cell.source,
            exercise=snake_case(cell.grade_id) if cell.grade_id else None,
            learners=not cell.demo and (cell.grade_id is not None or cell.source.strip() not in given),
            given=_lines(stubs.get(cell.grade_id, "")),
        )
        for cell in cells
        if not cell.check
    ]


def of_project(unit: Unit, folder: Path) -> list[Passage]:
    """The modules in `folder` and its tests, each to be reviewed by itself."""
    exercises = exercise_of(unit)
    return [
        Passage(
            source=(folder / file.path).read_text(encoding="utf-8"),
            exercise=exercises.get(file.name),
            given=_lines(_read(unit.starter / file.path)) if not is_test(file.name) else frozenset(),
        )
        for file in module_files(unit, folder)
    ]


def python_of(source: str) -> str:
    """`source` as Python with as many lines: magics are made harmless. Empty if it does not parse even so."""
    code = CODE_MAGIC.sub(r"\g<blank>", "\n".join(source.splitlines()), count=1)
    if _parses(code):
        return code
    code = MAGIC.sub(
        lambda found: f"{found['indent']}{found['target']}None" if found["target"] else found["indent"] + "pass", code
    )
    return code if _parses(code) else ""


def _parses(code: str) -> bool:
    """Whether it does; code without a statement is of no use either."""
    try:
        return bool(ast.parse(code).body)
    except (SyntaxError, ValueError, RecursionError):
        return False


def _parses_whole(codes: Iterable[tuple[Passage, str]]) -> bool:
    """Whether libcst can parse all of it, as it can nearly always what Python can."""
    try:
        libcst.parse_module("".join(f"{code}\n" for _, code in codes))
    except (libcst.ParserSyntaxError, RecursionError):
        return False
    return True


def _imports_alone(statements: list[ast.stmt], lines: list[str]) -> list[str]:
    """`lines`, those that import nothing made empty."""
    kept = {
        number
        for statement in statements
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for number in range(statement.lineno, statement.end_lineno + 1)
    }
    return [line if number in kept else "" for number, line in enumerate(lines, 1)]


def _lines(code: str) -> frozenset[str]:
    return frozenset(line.strip() for line in code.splitlines() if line.strip())


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
