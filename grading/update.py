"""A learner's copy brought up to date with a unit that has changed: their work stays, what they were given is new."""

import difflib
import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from grading import workspace
from grading.checkers import checkers
from grading.files import write_atomically
from grading.nbgrader_config import STUB_LINE
from grading.projects import module_path
from grading.units import Unit

OUR_IDS = re.compile(r"(prose|code|demo|check|rubric)-")
"""How the cells that we give begin; a learner's own are numbered by JupyterLab."""


@dataclass(frozen=True)
class Update:
    """What an update has done to a copy."""

    backup: Path
    """The copy as it was."""
    diff: Path
    """What has changed, in a text file."""
    notes: tuple[str, ...]
    """What the learner should look at, a sentence each."""


def is_due(unit: Unit) -> bool:
    """Whether `unit` is not what the learner's copy was made from."""
    return any(
        path.exists() and original is not None and original != text
        for path, text in workspace.originals(unit).items()
        for original in [workspace.original_of(path)]
    )


def update(unit: Unit) -> Update | None:
    """Merge `unit` as it is now into the learner's copy; None if nothing changes. What was there is backed up.

    Raises `WorkspaceError` where there is no copy, or none that can be read.
    """
    if not unit.workspace_notebook.exists():
        raise workspace.WorkspaceError(f"You have no copy of {unit.id} yet: `solo open {unit.id}` makes one.")
    originals = workspace.originals(unit)
    notes: list[str] = []
    merged = {path: _merged(unit, path, text, notes) for path, text in originals.items()}
    before = {path: path.read_text(encoding="utf-8") if path.exists() else "" for path in merged}
    changed = {path: text for path, text in merged.items() if text != before[path]}
    if not changed:
        workspace.remember(originals)
        return None
    backup = workspace.back_up(unit, before)
    diff = backup.with_name(f"{backup.name}.diff")
    write_atomically(diff, "".join(_diff(path, before[path], text) for path, text in changed.items()))
    for path, text in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    workspace.remember(originals)
    return Update(backup, diff, tuple(notes))


def _merged(unit: Unit, path: Path, new: str, notes: list[str]) -> str:
    """One file of the copy, as it should be now."""
    if not path.exists():
        return new
    original = workspace.original_of(path)
    if path.suffix != ".ipynb":
        return _merged_module(unit, path, original, new, notes)
    mine = workspace.parsed(path, unit)
    base = nbformat.reads(original, as_version=4) if original is not None else None
    return nbformat.writes(merged_notebook(mine, nbformat.reads(new, as_version=4), base, notes)) + "\n"


def _merged_module(unit: Unit, path: Path, original: str | None, new: str, notes: list[str]) -> str:
    """A file of a project: the learner's if they have changed it, else ours."""
    mine = path.read_text(encoding="utf-8")
    place = path.relative_to(unit.workspace_notebook.parent)
    to_write = {module_path(unit, module) for checker in checkers(unit) for module in checker.modules}
    touched = mine != original if original is not None else place in to_write
    if not touched:
        return new
    if new not in (original, mine):
        notes.append(f"{place.as_posix()} stays as you wrote it; ours has changed: compare {unit.starter / place}.")
    return mine


def merged_notebook(mine: NotebookNode, new: NotebookNode, base: NotebookNode | None, notes: list[str]) -> NotebookNode:
    """`new` with the learner's answers, with what they changed where we did not, and with the cells they added.

    `base` is what `mine` was made from, None where that is not known. What to look at is added to `notes`.
    """
    merged, given = deepcopy(new), _by_key(base) if base else None
    own, fresh = _by_key(mine), _by_key(new)
    for cell in merged.cells:
        theirs = own.get(_key(cell))
        if theirs is None or theirs.source == cell.source:
            kept = theirs is not None
        else:
            kept = _keeps(theirs, cell, given, notes)
        if kept and theirs.cell_type == cell.cell_type:
            cell.source = theirs.source
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = theirs.outputs, theirs.execution_count
    _insert_added(merged, mine, given, fresh, notes)
    return merged


def _keeps(theirs: NotebookNode, cell: NotebookNode, given: dict[str, NotebookNode] | None, notes: list[str]) -> bool:
    """Whether the learner's text stays in a cell that we have, too."""
    key, answers = _key(cell), _is_answer(cell)
    original = given.get(key) if given else None
    if original is None:
        return answers and STUB_LINE not in theirs.source
    if theirs.source == original.source:
        return False
    if answers and cell.source != original.source:
        notes.append(f"`{key}`: your answer stays, but what was given with it has changed; the diff shows how.")
    return answers or cell.source == original.source


def _insert_added(
    merged: NotebookNode, mine: NotebookNode, given: dict[str, NotebookNode] | None, fresh: dict, notes: list[str]
) -> None:
    """Put the learner's own cells, and answers to what is no longer asked, after the cells that they followed."""
    after = ""
    for cell in mine.cells:
        key = _key(cell)
        if key in fresh:
            after = key
            continue
        ours = key in given if given else bool(OUR_IDS.match(key)) or _is_answer(cell)
        answered = _is_answer(cell) and STUB_LINE not in cell.source
        if ours and not answered:
            continue
        added = deepcopy(cell)
        added.metadata.pop("nbgrader", None)
        if answered:
            notes.append(f"`{key}` is no longer asked for; your answer stays as a cell of your own.")
        places = [i for i, c in enumerate(merged.cells) if _key(c) == after]
        merged.cells.insert(places[0] + 1 if places else 0, added)
        after = key


def _by_key(notebook: NotebookNode) -> dict[str, NotebookNode]:
    return {_key(cell): cell for cell in notebook.cells}


def _key(cell: NotebookNode) -> str:
    """By what a cell is known from one version to the next."""
    return cell.metadata.get("nbgrader", {}).get("grade_id") or cell.get("id", "")


def _is_answer(cell: NotebookNode) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def _diff(path: Path, before: str, after: str) -> str:
    """What has changed in a file; of a notebook, in the text of its cells."""
    old, new = (_readable(path, text).splitlines(keepends=True) for text in (before, after))
    return "".join(difflib.unified_diff(old, new, f"{path.name} (yours)", f"{path.name} (now)"))


def _readable(path: Path, text: str) -> str:
    if path.suffix != ".ipynb" or not text:
        return text
    cells = nbformat.reads(text, as_version=4).cells
    return "\n".join(f"# %% {_key(cell)}\n{cell.source}\n" for cell in cells)
