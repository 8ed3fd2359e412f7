"""`progress.json`, the learner's own record: the only module that reads or writes it.

The file holds events and is only ever added to. It is replaced as a whole, under a lock, so that neither a crash nor
several writers can halve it. What the events amount to is derived in `status`.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from grading import files, ranks, status, units
from grading.events import Attempt, Done, Event, Hint, Marked, Note, RankUp, Reveal
from grading.report import Outcome, Report

__all__ = ["Attempt", "Done", "Event", "Hint", "Note", "Progress", "ProgressError", "RankUp", "Reveal",
           "append", "hints_given", "load", "merge", "notices", "path", "record", "revealed"]  # fmt: skip

SCHEMA = 1
LOCK_PATIENCE_S = 10.0
SET_ASIDE = "-backup"


class ProgressError(Exception):
    """The record cannot be read or written; the message is one sentence, and the file is as it was."""


class _DamagedError(Exception):
    """The file is there and does not parse."""


class Progress(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = Field(alias="schema")
    events: tuple[Event, ...] = ()


def path() -> Path:
    """Where the record is: `$SOLO_PROGRESS`, else `progress.json` in the learner's root."""
    return Path(os.environ.get("SOLO_PROGRESS") or units.home() / "progress.json")


def begin(path: Path) -> None:
    """Write an empty record to `path`, where there is none."""
    _write(path, Progress(schema=SCHEMA))


def load(path: Path | None = None) -> Progress:
    """The record as it is; a file that does not parse is set aside (see `notices`) and an empty record begun."""
    path = _resolved(path)
    try:
        return _read(path)
    except _DamagedError:
        with _locked(path):
            return _read_or_set_aside(path)


def append(*events: Event, path: Path | None = None) -> RankUp | None:
    """Add events, and the `RankUp` that they earn, which is returned. When this returns, they are on disk."""
    path = _resolved(path)
    with _locked(path):
        return _add(path, _read_or_set_aside(path), events)


def record(report: Report, path: Path | None = None) -> RankUp | None:
    """Add one attempt for each exercise of `report` that was worked on; returns the rank if one was earned."""
    tried = [Attempt.of(report, e) for e in report.exercises if e.outcome is not Outcome.NOT_ATTEMPTED]
    return append(*tried, path=path) if tried else None


def merge(other: Path, into: Path | None = None) -> int:
    """Add what `other` knows and this record does not, in order of time; returns how many events were new."""
    into = _resolved(into)
    if not other.is_file():
        raise ProgressError(f"There is no file {other} to merge.")
    try:
        theirs = _read(other)
    except _DamagedError as error:
        raise ProgressError(f"{other} cannot be merged, because {error}.") from None
    with _locked(into):
        mine = _read_or_set_aside(into)
        known = {event.id for event in mine.events}
        new = {event.id: event for event in theirs.events if event.id not in known}
        if new:
            _add(into, mine, list(new.values()), in_order=True)
    return len(new)


def hints_given(unit: str, exercise: str, path: Path | None = None) -> int:
    """How many hints of an exercise were given."""
    return sum(_is(Hint, event, unit, exercise) for event in load(path).events)


def revealed(unit: str, exercise: str, path: Path | None = None) -> bool:
    """Whether the answer to an exercise was shown."""
    return any(_is(Reveal, event, unit, exercise) for event in load(path).events)


def notices(path: Path | None = None) -> tuple[str, ...]:
    """A sentence for each damaged file that was set aside and is still there.

    Derived from the folder, not from a warning at the time, so that it cannot be missed, wherever the damage was met.
    """
    path = _resolved(path)
    return tuple(
        f"Your record could not be read and was set aside, unchanged, as {aside}. If you can mend it, "
        f"`solo progress merge {aside}` brings it back; delete it when you no longer need it."
        for aside in sorted(path.parent.glob(f"{path.name}.*{SET_ASIDE}"))
    )


def _is(kind: type[Event], event: Event, unit: str, exercise: str) -> bool:
    return isinstance(event, kind) and event.unit == unit and event.exercise == exercise


def _resolved(given: Path | None) -> Path:
    """The file itself: replacing a symbolic link would cut it off from its target."""
    file = (given or path()).resolve()
    if not file.parent.is_dir():
        raise ProgressError(f"The folder {file.parent} for your record does not exist; make it first.")
    return file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the one lock, and turn what the operating system says into a `ProgressError`."""
    try:
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=LOCK_PATIENCE_S, poll_interval=0.01):
            yield
    except Timeout:
        raise ProgressError(
            f"{path} is being written by another process for over {LOCK_PATIENCE_S:.0f} s; close it and try again."
        ) from None
    except OSError as error:
        raise ProgressError(f"{path} cannot be written ({files.reason(error)}); nothing was recorded.") from None


def _read(path: Path) -> Progress:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Progress(schema=SCHEMA)
    except OSError as error:
        raise ProgressError(f"{path} cannot be read ({files.reason(error)}).") from None
    except UnicodeDecodeError:
        raise _DamagedError("it is not text") from None
    try:
        return Progress.model_validate(_current(json.loads(text), path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _DamagedError(f"it is not a record of this program ({where}: {first['msg']})") from None
    except json.JSONDecodeError as error:
        raise _DamagedError(f"it is not valid JSON (line {error.lineno}: {error.msg})") from None


def _current(raw: object, path: Path) -> object:
    """`raw` in today's schema. A change of the schema adds its step here, from the version before."""
    version = raw.get("schema") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise ProgressError(
            f"{path} was written by a newer version (schema {version}, this one knows {SCHEMA}): "
            "update this program; the file was left as it is."
        )
    return raw


def _read_or_set_aside(path: Path) -> Progress:
    """Read under the lock; a damaged file is renamed, never overwritten."""
    try:
        return _read(path)
    except _DamagedError:
        path.rename(files.dated(path.parent, path.name, SET_ASIDE))
        empty = Progress(schema=SCHEMA)
        _write(path, empty)
        return empty


def _add(path: Path, before: Progress, new: list[Event] | tuple[Event, ...], in_order: bool = False) -> RankUp | None:
    events = [*before.events, *new]
    if in_order:
        events.sort(key=lambda event: (event.at, event.id))
    counts = any(isinstance(e, Marked) or (isinstance(e, Attempt) and e.confirms) for e in new)
    rank_up = _earned(events) if counts else None
    _write(path, Progress(schema=SCHEMA, events=[*events, rank_up] if rank_up else events))
    return rank_up


def _earned(events: list[Event]) -> RankUp | None:
    """The rank that `events` earn, if it is higher than any that they record."""
    rank = status.derive(events).rank
    recorded = {event.rank for event in events if isinstance(event, RankUp)} | {ranks.RANKS[0]}
    return None if rank in recorded else RankUp(rank=rank)


def _write(path: Path, progress: Progress) -> None:
    """One event a line: small, and a diff shows what happened."""
    lines = ",\n".join(f"    {event.model_dump_json()}" for event in progress.events)
    events = f"[\n{lines}\n  ]" if lines else "[]"
    files.write_atomically(path, f'{{\n  "schema": {progress.version},\n  "events": {events}\n}}\n')
