"""From a folder or a zip of what students handed in to nbgrader's `submitted/STUDENT/ASSIGNMENT/`."""

import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from grading.classroom.books import Books
from grading.classroom.intake import TIMESTAMP, digest_of
from grading.files import dated

MOST_MB, MOST_ENTRIES = 4096, 100_000
MOODLE = re.compile(r"(?P<student>.+)_\d+_assignsubmission_(file|onlinetext)(_.*)?")
CANVAS = re.compile(r"(?P<student>[^_]+)_(LATE_)?\d+_\d+_.+")


class CollectError(ValueError):
    """A folder or a zip that cannot be collected from; the message says why."""


@dataclass(frozen=True)
class Collected:
    """What became of one student's files: `new`, `changed`, `same`, or left out for a reason."""

    student: str
    state: str


def collect(books: Books, assignment: str, source: Path) -> Iterator[Collected]:
    """Copy every submission in `source` into the course; an earlier one that differs is kept in `.solo/replaced`.

    A folder of `source` is a student's, and so is a notebook: Moodle's and Canvas's names are understood. Raises
    `CollectError` for what is neither a folder nor a zip.
    """
    with _folder(source) as folder:
        taken: set[str] = set()
        for path in sorted(folder.iterdir()):
            if path.name.startswith((".", "__MACOSX")) or (path.is_file() and path.suffix != ".ipynb"):
                continue
            student = student_of(path)
            if not student or path.is_symlink():
                yield Collected(path.name, "left out: the name tells no student" if not student else "left out: a link")
            elif student in taken:
                yield Collected(student, f"left out: {path.name} is a second submission of the same name")
            else:
                taken.add(student)
                yield Collected(student, _take(books, assignment, student, path))


def student_of(path: Path) -> str:
    """The student whose file or folder this is, in letters that every system and nbgrader can bear."""
    name = path.stem if path.is_file() else path.name
    for pattern in (MOODLE, CANVAS):
        if found := pattern.fullmatch(name):
            name = found["student"]
            break
    return plain_name(name)


def plain_name(name: str) -> str:
    """A student's name in letters that every system and nbgrader can bear."""
    return re.sub(r"[^\w.@-]+", "-", name, flags=re.ASCII).strip("-.")[:100]


def _take(books: Books, assignment: str, student: str, path: Path) -> str:
    target = books.folder("submitted", student, assignment)
    with tempfile.TemporaryDirectory(prefix="solo-") as scratch:
        new = Path(scratch, assignment)
        _say_when(new, _copy(path, new, assignment))
        if target.exists() and digest_of(target) == digest_of(new):
            return "same"
        state = "changed" if target.exists() else "new"
        if target.exists():
            kept = books.course / ".solo" / "replaced"
            kept.mkdir(parents=True, exist_ok=True)
            shutil.move(target, dated(kept, f"{student}-{assignment}", ""))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(new, target, symlinks=True)
    return state


def _say_when(folder: Path, newest: float) -> None:
    """Note when it was handed in, from which nbgrader knows how late that was, unless it says so itself."""
    if not (folder / TIMESTAMP).exists():
        (folder / TIMESTAMP).write_text(f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M:%S} UTC\n")


def _copy(path: Path, to: Path, assignment: str) -> float:
    """Copy plain files; when the newest of them was written."""
    to.mkdir()
    if path.is_file():
        shutil.copy2(path, to / f"{assignment}.ipynb")
        return path.stat().st_mtime
    root = path / assignment if (path / assignment).is_dir() else path
    newest = 0.0
    for file in sorted(root.rglob("*")):
        if stat.S_ISREG(file.lstat().st_mode) and not any(p.is_symlink() for p in file.parents if root in p.parents):
            place = to / file.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
            newest = max(newest, file.stat().st_mtime)
    return newest


@contextmanager
def _folder(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield source
    elif zipfile.is_zipfile(source):
        with tempfile.TemporaryDirectory(prefix="solo-") as scratch, zipfile.ZipFile(source) as archive:
            _unpack(archive, Path(scratch))
            yield Path(scratch)
    else:
        raise CollectError(f"{source} is neither a folder nor a zip.")


def _unpack(archive: zipfile.ZipFile, to: Path) -> None:
    """Plain files with harmless names, and no more than a disk can bear."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MOST_ENTRIES or sum(e.file_size for e in entries) > MOST_MB * 2**20:
        raise CollectError(f"{archive.filename} holds more than {MOST_ENTRIES:,} files or {MOST_MB} MB.")
    for entry in entries:
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(entry.external_attr >> 16):
            continue
        place = to.joinpath(*path.parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as packed, place.open("wb") as file:
            shutil.copyfileobj(packed, file)
        _date(place, entry.date_time)


def _date(path: Path, when: tuple[int, ...]) -> None:
    """Give a file the time that the archive has for it."""
    try:
        at = datetime(*when).timestamp()
    except ValueError:
        return
    os.utime(path, (at, at))
