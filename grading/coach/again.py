"""An exercise again, from its blank stub: in a notebook of its own, whose check is practice and earns nothing."""

import ast
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import nbformat
from nbformat import NotebookNode, v4

from grading import status as status_of
from grading.checkers import checker, checkers, snake_case
from grading.coach.review import Step
from grading.coach.steps import next_steps
from grading.events import Event
from grading.files import copy_file, dated, write_atomically
from grading.learner_notebook import NotebookError, read_notebook
from grading.status import TO_SOLVE
from grading.units import Unit
from grading.workspace import WorkspaceError

SETUP = 'from grading import practice\n\ncheck, hint, reveal = practice("{unit}", "{exercise}", "{round}")'
HEAD = """# Once more: {title}

The exercise `{exercise}` of {unit}, from its blank stub. What you write here is practice: the check tells the coach
how it went, and your points and your copy of the lab stay as they are. Hints begin anew and are counted here only."""
BUILDS = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
HEADING = re.compile(r"^#{2,3} ", re.MULTILINE)


def choice(events: Iterable[Event], now: datetime) -> Step | None:
    """The exercise that the coach would have practised now, if there is one."""
    return next((step for step in next_steps(events, now) if step.kind == "again"), None)


def prepare(unit: Unit, exercise: str, events: Iterable[Event]) -> tuple[Path, Path | None]:
    """Write the practice notebook of an exercise, a new round; its path, and the backup of an earlier one.

    Raises `WorkspaceError` for what cannot be practised, `LookupError` for an unknown exercise.
    """
    wanted = checker(unit, exercise)
    if unit.kind != "lab":
        other = f"`solo quiz {unit.phase}` draws anew" if unit.kind == "quiz" else f"`solo reset {unit.id}` starts over"
        raise WorkspaceError(f"Exercises of labs can be practised, and {unit.id} is none: {other}.")
    state = next(e.state for e in status_of.derive(events)[unit.id].exercises if e.name == exercise)
    if state in TO_SOLVE:
        raise WorkspaceError(f"`{exercise}` is not solved yet: `solo open {unit.id}` is where it earns points.")
    made = _notebook(unit, wanted.name, wanted.title)
    file = unit.workspace_notebook.parent / "practice" / f"{exercise}.ipynb"
    backup = _backup(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, nbformat.writes(made) + "\n")
    return file, backup


def _backup(file: Path) -> Path | None:
    if not file.exists():
        return None
    folder = file.parent / "backups"
    folder.mkdir(exist_ok=True)
    return copy_file(file, dated(folder, file.stem, file.suffix))


def _notebook(unit: Unit, exercise: str, title: str) -> NotebookNode:
    """The exercise's prose, stub and check; before them what they build on, with the learner's own earlier answers."""
    starter = nbformat.read(unit.notebook, as_version=4)
    place = next(i for i, cell in enumerate(starter.cells) if _answers(cell) == exercise)
    setup = SETUP.format(unit=unit.id, exercise=exercise, round=uuid4().hex[:8])
    cells = [
        v4.new_markdown_cell(HEAD.format(title=title, exercise=exercise, unit=unit.id)),
        v4.new_code_cell(setup),
        *_ground(unit, exercise, starter.cells[:place]),
        *_prose(starter.cells[:place]),
        v4.new_code_cell(starter.cells[place].source, metadata=starter.cells[place].metadata),
        v4.new_code_cell(f'check("{exercise}")'),
    ]
    return v4.new_notebook(cells=cells, metadata={**starter.metadata, "solo": {"unit": unit.id, "practice": exercise}})


def _ground(unit: Unit, exercise: str, before: list[NotebookNode]) -> list[NotebookNode]:
    """Imports and helpers that the lab gives, and the learner's answers to the exercises that this one needs.

    Where there is none, the check brings the reference along.
    """
    needed, own = _needs(unit, exercise), _own_answers(unit)
    sources = [
        own.get(_answers(cell), "") if _answers(cell) in needed else cell.source
        for cell in before
        if cell.cell_type == "code" and (_answers(cell) in needed or _is_given(cell))
    ]
    return [v4.new_code_cell(source) for source in sources if source.strip()]


def _prose(before: list[NotebookNode]) -> list[NotebookNode]:
    """What the lab says from the exercise's heading on."""
    told = [cell for cell in before if cell.cell_type == "markdown"]
    first = max((i for i, cell in enumerate(told) if HEADING.search(cell.source)), default=0)
    return [v4.new_markdown_cell(cell.source) for cell in told[first:]]


def _needs(unit: Unit, exercise: str) -> set[str]:
    """The exercises that this one calls, however indirectly."""
    by_name = {c.name: c for c in checkers(unit)}
    found, left = set(), list(by_name[exercise].needs)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += by_name[name].needs
    return found


def _own_answers(unit: Unit) -> dict[str, str]:
    """The code in the learner's copy, by exercise; empty where there is no copy that can be read."""
    try:
        cells = read_notebook(unit.workspace_notebook)
    except NotebookError:
        return {}
    return {snake_case(cell.grade_id): cell.source for cell in cells if cell.grade_id and not cell.check}


def _answers(cell: NotebookNode) -> str | None:
    """The exercise whose solution cell this is."""
    meta = cell.metadata.get("nbgrader", {})
    return snake_case(meta["grade_id"]) if meta.get("solution") else None


def _is_given(cell: NotebookNode) -> bool:
    """Whether later cells build on a code cell: it imports or defines, and is no answer, check or demonstration."""
    meta = cell.metadata.get("nbgrader", {})
    if meta.get("solution") or meta.get("grade") or "demo" in cell.metadata.get("tags", []):
        return False
    statements = ast.parse(cell.source).body
    return "from grading import" not in cell.source and any(isinstance(s, BUILDS) for s in statements)
