"""What was handed in, made safe to work with: whatever arrives becomes a notebook of the released form, or a reason.

Locked cells and everything that decides marks come from the release; from the submission come its answers, its own
cells and its order. A file that cannot be read is graded as if nothing had been done, and says so on top.
"""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, v4
from nbgrader.utils import is_locked, is_solution, parse_utc

from grading.learner_notebook import NotebookCell, code_cell

NOTEBOOK_MB, FILES_MB, MOST_FILES = 100, 100, 1000
MOST_CELLS, MOST_CHARS = 2000, 5_000_000
TIMESTAMP = "timestamp.txt"
GONE = "# The submission does not have this cell any more."


class Unreadable(ValueError):
    """A submission that is no notebook; the message says why."""


@dataclass(frozen=True)
class Intake:
    """A submission as it is graded."""

    notebook: NotebookNode
    digest: str
    """Of what was handed in, as it was."""
    notes: tuple[str, ...] = ()
    """What had to be mended, a sentence each."""
    reason: str | None = None
    """Why it could not be read, if it could not."""

    @property
    def cells(self) -> list[NotebookCell]:
        """Its code cells, by their place in the notebook."""
        return code_cells(self.notebook)


def code_cells(notebook: NotebookNode) -> list[NotebookCell]:
    """The code cells of a notebook, by their place in it."""
    return [code_cell(c, i) for i, c in enumerate(notebook.cells) if c.cell_type == "code"]


def take_in(folder: Path, released: NotebookNode, name: str, notebook_counts: bool = True) -> Intake:
    """The submission in `folder` to the assignment called `name`.

    Where the notebook does not count, the released one stands in for one that cannot be read.
    """
    notes: list[str] = []
    try:
        path = _find_notebook(folder, name, notes)
        notebook = _normalised(_read(path), released, notes)
    except Unreadable as error:
        if not notebook_counts:
            return Intake(deepcopy(released), digest_of(folder), (f"The notebook was not used: {error}.",))
        return Intake(_untouched(released, str(error)), digest_of(folder), reason=str(error))
    return Intake(notebook, digest_of(folder), tuple(notes))


def stage(folder: Path, intake: Intake, name: str, to: Path) -> None:
    """Put the submission into the new folder `to`: its notebook in the released form, and the plain files beside it."""
    to.mkdir(parents=True)
    for path in _beside(folder):
        place = to / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    timestamp = to / TIMESTAMP
    if timestamp.exists() and not _is_time(timestamp):
        timestamp.unlink()
    (to / f"{name}.ipynb").write_text(nbformat.writes(intake.notebook), encoding="utf-8", newline="\n")


def digest_of(folder: Path) -> str:
    """A hash of all that was handed in, by which a changed submission is told."""
    whole = hashlib.sha256()
    for path in _plain_files(folder):
        whole.update(os.fsencode(path.relative_to(folder)) + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _find_notebook(folder: Path, name: str, notes: list[str]) -> Path:
    path = folder / f"{name}.ipynb"
    if path.is_symlink():
        raise Unreadable(f"{path.name} is a link, not a file")
    if path.is_file():
        return path
    others = [p for p in _plain_files(folder) if p.suffix == ".ipynb" and p.parent == folder]
    if len(others) != 1:
        raise Unreadable(f"there is no {path.name}" + (f" among {len(others)} notebooks" if others else ""))
    notes.append(f"The notebook was called {others[0].name}.")
    return others[0]


def _read(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook file in any of its formats, as plain data."""
    if path.stat().st_size > NOTEBOOK_MB * 2**20:
        raise Unreadable(f"{path.name} has {path.stat().st_size / 2**20:.0f} MB; at most {NOTEBOOK_MB} are read")
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        raise Unreadable(f"{path.name} is not a notebook: it is not JSON") from None
    if not isinstance(content, dict):
        raise Unreadable(f"{path.name} is not a notebook: it has no cells")
    sheets = content.get("worksheets")  # the format before 2014
    cells = sheets[0].get("cells") if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict) else None
    cells = content.get("cells", cells)
    if not isinstance(cells, list):
        raise Unreadable(f"{path.name} is not a notebook: it has no cells")
    cells = [cell for cell in cells if isinstance(cell, dict)]
    if len(cells) > MOST_CELLS or sum(len(_source(c)) for c in cells) > MOST_CHARS:
        raise Unreadable(f"{path.name} is too long: at most {MOST_CELLS} cells and {MOST_CHARS:,} characters are read")
    return cells


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    # Half a surrogate pair is valid JSON, but no text that could be written again.
    return source.encode("utf-8", errors="replace").decode() if isinstance(source, str) else ""


def _normalised(cells: list[dict[str, Any]], released: NotebookNode, notes: list[str]) -> NotebookNode:
    """The submitted cells, those of the release in their released form, and what is missing of it put back."""
    known = {c.metadata.nbgrader.grade_id: c for c in released.cells if "nbgrader" in c.metadata}
    last = {_grade_id(cell): i for i, cell in enumerate(cells)}  # of a cell that was doubled, nbgrader takes the last
    result: list[NotebookNode] = []
    for i, cell in enumerate(cells):
        name = _grade_id(cell)
        if name in known and last[name] == i:
            result.append(_as_released(known[name], cell, notes))
        else:
            if name in known:
                notes.append(f"The cell `{name}` was there more than once: the last one counts.")
            result.append(_own(cell))
    _restore(result, known, notes)
    _number(result)
    notebook = deepcopy(released)
    notebook.cells = result
    return notebook


def _grade_id(cell: dict[str, Any]) -> str | None:
    metadata = cell.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = marks.get("grade_id") if isinstance(marks, dict) else None
    return name if isinstance(name, str) else None


def _as_released(original: NotebookNode, cell: dict[str, Any], notes: list[str]) -> NotebookNode:
    """The released cell, with the submitted text where it is the student's to write."""
    mended = deepcopy(original)
    if not is_locked(original):
        mended.source = _source(cell)
    elif _source(cell).strip() != original.source.strip():
        notes.append(f"The locked cell `{original.metadata.nbgrader.grade_id}` was changed; the released one was run.")
    return mended


def _own(cell: dict[str, Any]) -> NotebookNode:
    """A cell that the student has added, or one of the prose; nothing of its metadata but the tags."""
    kind = cell.get("cell_type")
    make = {"code": v4.new_code_cell, "raw": v4.new_raw_cell}.get(kind, v4.new_markdown_cell)
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    kept = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    new = make(_source(cell), metadata={"tags": kept} if kept else {})
    if isinstance(cell.get("id"), str):
        new.id = cell["id"]
    return new


def _restore(cells: list[NotebookNode], known: dict[str, NotebookNode], notes: list[str]) -> None:
    """Put back the released cells that are missing, each after the one that it followed."""
    names = list(known)
    for i, name in enumerate(names):
        places = {c.metadata.nbgrader.grade_id: at for at, c in enumerate(cells) if "nbgrader" in c.metadata}
        if name in places:
            continue
        restored = deepcopy(known[name])
        if is_solution(restored):
            # Not the stub: the answer may stand in a cell of the student's own, and would be undone.
            restored.source = GONE if restored.cell_type == "code" else ""
        at = max((places[before] + 1 for before in names[:i] if before in places), default=0)
        cells.insert(at, restored)
        notes.append(f"The cell `{name}` was missing and was put back.")


def _number(cells: list[NotebookNode]) -> None:
    """Give every cell an id that is valid and its own."""
    seen: set[str] = set()
    for i, cell in enumerate(cells):
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell.get("id", "")) or cell.id in seen:
            cell.id = f"submitted-{i}"
        seen.add(cell.id)


def _untouched(released: NotebookNode, reason: str) -> NotebookNode:
    notebook = deepcopy(released)
    text = f"**What was handed in could not be read: {reason}.** It was graded as if nothing had been done."
    notebook.cells.insert(0, v4.new_markdown_cell(text, id="unreadable"))
    return notebook


def _beside(folder: Path) -> Iterator[Path]:
    """The plain files that came with the notebook, as far as they are not too much."""
    room, left = FILES_MB * 2**20, MOST_FILES
    for path in sorted(_plain_files(folder), key=lambda path: path.suffix != ".py"):  # what is graded comes first
        size = path.stat().st_size
        if path.suffix == ".ipynb" or size > room or not left:
            continue
        room, left = room - size, left - 1
        yield path


def _plain_files(folder: Path) -> Iterator[Path]:
    """Files, in order: no links, no pipes, nothing of a checkpoint or a cache."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in {".ipynb_checkpoints", "__pycache__"})
        for name in sorted(names):
            path = Path(place, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _is_time(path: Path) -> bool:
    try:
        return parse_utc(path.read_text(encoding="utf-8").strip()) is not None
    except (ValueError, OverflowError, TypeError, AttributeError):
        return False
