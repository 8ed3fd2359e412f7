"""The one source of a notebook, as cells that know what they are.

`lab.py` and theory briefs are jupytext percent scripts. What a cell is follows from what stands in it.
"""

import ast
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from grading.checkers import snake_case
from grading.units import defined_names

if TYPE_CHECKING:
    from nbformat import NotebookNode

BEGIN_SOLUTION = "### BEGIN SOLUTION"
END_SOLUTION = "### END SOLUTION"
BEGIN_ANSWER = "### BEGIN ANSWER"
END_ANSWER = "### END ANSWER"
ANSWER = re.compile(
    rf"(?P<task>.*?)^{BEGIN_ANSWER} +(?P<name>[a-z]\w*) +(?P<points>\d+)\n"
    rf"(?P<model>.+?)\n### RUBRIC\n(?P<rubric>.+?)\n{END_ANSWER}\s*",
    re.DOTALL | re.MULTILINE,
)


class SourceError(ValueError):
    """A source that cannot become a notebook; the message names the file and the cell."""


@dataclass(frozen=True)
class WrittenAnswer:
    """An answer in words, marked by a person: what is asked, its price, a model answer and how it is marked."""

    name: str
    points: int
    task: str
    model: str
    rubric: str


@dataclass(frozen=True)
class Cell:
    """One cell of a source. `kind` is `prose`, `code`, `solution`, `check` or `answer` (marked by a person)."""

    kind: str
    text: str
    index: int
    tags: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """What a code or solution cell defines, the one exercise that a check cell checks, or an answer's name."""
    answer: WrittenAnswer | None = None

    @property
    def name(self) -> str:
        """The exercise this cell belongs to: in snake case, as the checker's, so `class LayerNorm` is `layer_norm`."""
        return snake_case(self.names[0])

    @property
    def markdown(self) -> bool:
        """Prose and written answers are Markdown; all else is code."""
        return self.kind in {"prose", "answer"}


def read_source(path: Path) -> tuple[Cell, ...]:
    """The cells of a percent script; `SourceError` if a cell cannot be parsed or breaks a rule."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, _mtime_ns: int) -> tuple[Cell, ...]:
    import jupytext  # takes 1.6 s, which the first check in a notebook can do without

    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    return tuple(_cell(cell, i, f"{path.parent.name}/{path.name}, cell {i}") for i, cell in enumerate(notebook.cells))


def without_markers(code: str) -> str:
    """`code` without the lines that mark where a solution begins and ends."""
    return "\n".join(line for line in code.splitlines() if line.strip() not in {BEGIN_SOLUTION, END_SOLUTION})


def is_withheld(code: str) -> bool:
    """Whether the solutions of `code` are stubs, as in the learners' edition."""
    inside, lines = False, []
    for line in code.splitlines():
        if line.strip() in {BEGIN_SOLUTION, END_SOLUTION}:
            inside = line.strip() == BEGIN_SOLUTION
        elif inside and not line.strip().startswith("#"):
            lines.append(line.strip())
    return bool(lines) and set(lines) <= {"raise NotImplementedError"}


def check_markers(code: str, where: str) -> None:
    """`SourceError` unless every solution region of `code` begins and ends, one after the other."""
    inside = False
    for line in code.splitlines():
        if "BEGIN SOLUTION" not in line and "END SOLUTION" not in line:
            continue
        expected = END_SOLUTION if inside else BEGIN_SOLUTION
        if line.strip() != expected:
            raise SourceError(f"{where}: expected a line `{expected}` here, found `{line.strip()}`.")
        inside = not inside
    if inside:
        raise SourceError(f"{where}: `{BEGIN_SOLUTION}` has no `{END_SOLUTION}`.")


def _cell(cell: "NotebookNode", index: int, where: str) -> Cell:
    tags = tuple(cell.metadata.get("tags", ()))
    if cell.cell_type != "code":
        return _markdown_cell(cell.source, index, tags, where)
    check_markers(cell.source, where)
    try:
        statements = ast.parse(cell.source).body
    except SyntaxError as error:
        raise SourceError(f"{where}: {error.msg} in {(error.text or '').strip()!r}.") from None
    if (checked := _checked(statements)) is not None:
        return Cell("check", cell.source, index, tags, (checked,))
    names = tuple(n for n in defined_names(statements) if not _imported(n, statements))
    if BEGIN_SOLUTION not in cell.source:
        return Cell("code", cell.source, index, tags, names)
    if not names:
        raise SourceError(f"{where}: a solution cell must define a function, a class or a name.")
    return Cell("solution", cell.source, index, tags, names)


def _markdown_cell(text: str, index: int, tags: tuple[str, ...], where: str) -> Cell:
    if BEGIN_ANSWER not in text and END_ANSWER not in text:
        return Cell("prose", text, index, tags)
    parts = ANSWER.fullmatch(text)
    if parts is None:
        raise SourceError(
            f"{where}: a written answer is `{BEGIN_ANSWER} name points`, the model answer, `### RUBRIC`, "
            f"how it is marked, `{END_ANSWER}`, each marker on a line of its own."
        )
    task, name, points, model, rubric = (parts[g].strip() for g in ("task", "name", "points", "model", "rubric"))
    return Cell("answer", text, index, tags, (name,), WrittenAnswer(name, int(points), task, model, rubric))


def _checked(statements: list[ast.stmt]) -> str | None:
    """The exercise of a cell whose only statement is `check("name")`."""
    match statements:
        case [ast.Expr(ast.Call(func=ast.Name("check"), args=[ast.Constant(str(name))], keywords=[]))]:
            return name
    return None


def _imported(name: str, statements: list[ast.stmt]) -> bool:
    return name in defined_names([s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)])


def first_heading(text: str) -> str | None:
    """The first Markdown heading of `text`, without its marks."""
    heading = re.search(r"^#+ +(.+)$", text, re.MULTILINE)
    return heading.group(1).strip() if heading else None
