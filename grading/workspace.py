"""The learner's own copies of notebooks and projects: made once, and never overwritten without a dated backup."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from grading.checkers import checker, snake_case
from grading.files import copy_file, dated, write_atomically
from grading.projects import module_path
from grading.units import Unit, home

ORIGINALS = ".originals"
"""The folder of what copies were made from."""


class WorkspaceError(Exception):
    """A copy cannot be made, read or reset; the message says what to do."""


def ensure(unit: Unit) -> bool:
    """Make the learner's copy of `unit`, or what is missing of it; whether there was none."""
    parts = originals(unit)
    absent = [path for path in parts if not path.exists()]
    for path in absent:
        _write(path, parts[path])
    return unit.workspace_notebook in absent


def reset(unit: Unit) -> Path | None:
    """Start the learner's copy over. Returns the backup of what it held, None if there was no copy."""
    parts = originals(unit)
    backup = back_up(unit, parts)
    for path, text in parts.items():
        _write(path, text)
    return backup


def reset_exercise(unit: Unit, exercise: str) -> Path | None:
    """Put the stub of one exercise back into the learner's copy, all else untouched. Returns the backup.

    Of a project's milestone these are its modules. Raises `LookupError` for an unknown exercise.
    """
    modules = checker(unit, exercise).modules
    copy = unit.workspace_notebook
    if modules:
        paths = [copy.parent / module_path(unit, module) for module in modules]
        parts = {path: text for path, text in originals(unit).items() if path in paths}
        backup = back_up(unit, parts)
        for path, text in parts.items():
            _write(path, text)
        return backup
    if not copy.exists():
        raise WorkspaceError(f"You have no copy of {unit.id} yet: `solo open {unit.id}` makes one.")
    notebook = parsed(copy, unit)
    _put_back(notebook, exercise, nbformat.reads(_original(unit), as_version=4))
    backup = back_up(unit, [copy])
    write_atomically(copy, nbformat.writes(notebook) + "\n")
    return backup


def originals(unit: Unit) -> dict[Path, str]:
    """What the learner's copy is made of, by where it belongs: a notebook, and of a project the starter's files."""
    place = unit.workspace_notebook.parent
    found = {unit.workspace_notebook: _original(unit)}
    if unit.kind == "project":
        starter = [path for path in sorted(unit.starter.rglob("*")) if path.is_file()]
        found |= {place / path.relative_to(unit.starter): path.read_text(encoding="utf-8") for path in starter}
    return found


def _original(unit: Unit) -> str:
    try:
        return unit.notebook.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WorkspaceError(f"{unit.notebook} is not built yet: run `make notebooks`.") from None


def original_of(path: Path) -> str | None:
    """What a file of the learner's copy was made from, None if that is not known."""
    kept = _original_place(path)
    return kept.read_text(encoding="utf-8") if kept.exists() else None


def remember(made_from: Mapping[Path, str]) -> None:
    """Keep what the files of a copy are made from, so that an update can tell the learner's work from ours."""
    for path, text in made_from.items():
        kept = _original_place(path)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, text)


def _original_place(path: Path) -> Path:
    place = home() / "workspace"
    return place / ORIGINALS / path.relative_to(place)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    remember({path: text})


def back_up(unit: Unit, paths: Iterable[Path]) -> Path | None:
    """Copy those of `paths` that exist, into one dated folder if the unit has many; None if there are none."""
    place = unit.workspace_notebook.parent
    present = [path for path in paths if path.exists()]
    if not present:
        return None
    folder = place / "backups"
    folder.mkdir(exist_ok=True)
    if unit.kind != "project":
        (copy,) = present
        return copy_file(copy, dated(folder, copy.stem, copy.suffix))
    kept = dated(folder, unit.name, "")
    for path in present:
        target = kept / path.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(path, target)
    return kept


def parsed(copy: Path, unit: Unit) -> NotebookNode:
    """The learner's notebook. Raises `WorkspaceError` for a file that is none."""
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
