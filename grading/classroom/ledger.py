"""What has been graded, when and how: one small file per student, in the course's folder `.solo`.

By it a second run knows what is new, and the report what the class has made of each exercise.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from grading.checkers import checkers
from grading.files import write_atomically
from grading.report import Report
from grading.units import Unit


class Entry(BaseModel):
    """One graded submission."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    student: str
    submission: str
    """Hash of what was handed in."""
    grader: str
    """Hash of what it was graded by."""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    report: Report | None = None
    """None where there was nothing to run."""
    reason: str | None = None
    """Why there is no mark of its own: unreadable, or not to be graded."""
    work_s: float = 0.0
    """Seconds in its cells and tests; the report's seconds are all that it took."""
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Ledger:
    """The entries of one assignment."""

    def __init__(self, course: Path, assignment: str) -> None:
        self._folder = course / ".solo" / assignment

    def entries(self) -> dict[str, Entry]:
        """All entries that can be read, by student; what cannot be read is graded again."""
        found = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                entry = Entry.model_validate_json(path.read_bytes())
            except (ValidationError, OSError):
                continue
            found[entry.student] = entry
        return found

    def write(self, entry: Entry) -> None:
        """Keep `entry` in place of the student's last."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(entry.student.encode()).hexdigest()[:16]
        write_atomically(self._folder / f"{name}.json", entry.model_dump_json())


def grader_digest(unit: Unit) -> str:
    """Hash of all that decides the marks of `unit`."""
    parts = [f"{c.name} {c.points} {c.digest}" for c in checkers(unit)]
    files = [unit.source, *DECISIVE[unit.kind](unit)]
    texts = [path.read_text(encoding="utf-8") for path in files if path.exists()]
    return hashlib.sha256("\n".join([*parts, *texts]).encode()).hexdigest()[:16]


DECISIVE = {
    "lab": lambda unit: [],
    "quiz": lambda unit: [unit.folder / "quiz.yaml"],
    "project": lambda unit: [unit.answers],  # what a learner's own tests must notice
}
"""By the kind of unit, the files that decide marks beside its source and its checkers."""
