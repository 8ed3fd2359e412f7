"""The learner's own copies of the notebooks: made once, and never overwritten without a dated backup."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from grading.checkers import checker, snake_case
from grading.files import copy_file, dated, write_atomically
from grading.units import Unit


class WorkspaceError(Exception):
    """A copy cannot be made, read or reset; the message says what to do."""


def ensure(unit: Unit) -> bool:
    """Make the learner's copy of `unit` unless it is there; whether it was made."""
    copy = unit.workspace_notebook
    if copy.exists():
        return False
    original = _original(unit)
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(copy, original)
    return True


def reset(unit: Unit) -> Path | None:
    """Start the learner's copy over. Returns the backup of what it held, None if there was no copy."""
    copy, original = unit.workspace_notebook, _original(unit)
    backup = _backup(copy) if copy.exists() else None
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(copy, original)
    return backup


def reset_exercise(unit: Unit, exercise: str) -> Path:
    """Put the stub of one exercise back into the learner's copy, all else untouched. Returns the backup.

    Raises `LookupError` for an unknown exercise.
    """
    checker(unit, exercise)
    copy = unit.workspace_notebook
    if not copy.exists():
        raise WorkspaceError(f"You have no copy of {unit.id} yet: `solo open {unit.id}` makes one.")
    notebook = _parsed(copy, unit)
    _put_back(notebook, exercise, nbformat.reads(_original(unit), as_version=4))
    backup = _backup(copy)
    write_atomically(copy, nbformat.writes(notebook) + "\n")
    return backup


def _original(unit: Unit) -> str:
    try:
        return unit.notebook.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WorkspaceError(f"{unit.notebook} is not built yet: run `make notebooks`.") from None


def _backup(copy: Path) -> Path:
    folder = copy.parent / "backups"
    folder.mkdir(exist_ok=True)
    return copy_file(copy, dated(folder, copy.stem, copy.suffix))


def _parsed(copy: Path, unit: Unit) -> NotebookNode:
    try:
        return nbformat.read(copy, as_version=4)
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError):
        raise WorkspaceError(
            f"{copy} is not a notebook any more; `solo reset {unit.id}` keeps it as a backup and starts over."
        ) from None


def _put_back(notebook: NotebookNode, exercise: str, original: NotebookNode) -> None:
    """The stub in place of the exercise's cell, and of copies of it; before its check where the cell was deleted."""
    stub = original.cells[_places(original, exercise)[0]]
    mine = _places(notebook, exercise)
    checks = [i for i, cell in enumerate(notebook.cells) if _grade_id(cell) == f"check-{exercise}"]
    place = (mine or checks or [len(notebook.cells)])[0]
    notebook.cells = [cell for i, cell in enumerate(notebook.cells) if i not in mine]
    notebook.cells.insert(place, stub)


def _places(notebook: NotebookNode, exercise: str) -> list[int]:
    return [i for i, cell in enumerate(notebook.cells) if snake_case(_grade_id(cell)) == exercise]


def _grade_id(cell: NotebookNode) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")
