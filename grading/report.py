"""`Report`, the waist of the hourglass: what every run produces and every reader reads."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Outcome(StrEnum):
    """What became of a requirement or an exercise; the five are never mixed up."""

    PASSED = "passed"
    FAILED = "failed"
    RAISED = "raised"
    WAITING = "waiting"
    """Another exercise is needed first, and its reference is not at hand."""
    NOT_ATTEMPTED = "not_attempted"


Stage = Literal[
    "not_attempted", "undefined", "raised", "unusable", "limit", "forbidden",
    "nan", "shape", "dtype", "device", "values", "assertion",
]  # fmt: skip
"""Where the diagnosis stopped, in the order it asks. `unusable`: the check could not work with what was returned;
`limit`: time, memory or the process itself ran out."""

Context = Literal["live", "fresh", "autograde", "class"]
"""Who ran: the learner's kernel, a fresh process, nbgrader, or a class-grading worker."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evidence(_Model):
    """Why a requirement failed, ready to be read: one sentence, then facts as label and value."""

    stage: Stage
    message: str
    facts: dict[str, str] = {}
    line: str | None = None
    """The learner's own line that raised, as `softmax, line 3: return x.exp() / total`."""


class Requirement(_Model):
    """One test: what was asked in words, and what came of it."""

    id: str
    text: str
    guard: bool = False
    slow: bool = False
    outcome: Outcome
    evidence: Evidence | None = None
    seconds: float = 0.0


class Cause(_Model):
    """A known mistake whose results are the learner's results."""

    mistake: str
    message: str
    exact: bool
    """All failures match; otherwise the mistake's failures are among the learner's."""


class ExerciseReport(_Model):
    """One exercise: its requirements, points and, where one is known, the cause of its failure."""

    name: str
    title: str
    outcome: Outcome
    points: float
    max_points: float
    side_quest: bool = False
    checker: str
    """Hash of the checker class: a result counts for the checker it was made with."""
    requirements: tuple[Requirement, ...]
    cause: Cause | None = None
    carried: tuple[str, ...] = ()
    """Needed exercises that do not pass and were replaced by the reference: this result does not suffer for them."""

    @property
    def passed(self) -> bool:
        """Full marks."""
        return self.outcome is Outcome.PASSED


class Report(_Model):
    """The result of one run of a unit's checkers, whole or in part."""

    unit: str
    context: Context
    seed: int
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    exercises: tuple[ExerciseReport, ...]
    problems: tuple[str, ...] = ()
    """What happened outside the exercises, a sentence each: a cell that raised, a notebook with a cell missing."""

    def __getitem__(self, name: str) -> ExerciseReport:
        """The exercise called `name`; `KeyError` if it was not in this run."""
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        raise KeyError(name)

    @property
    def path(self) -> tuple[ExerciseReport, ...]:
        """The exercises that lead through the unit: the core ones, or all where there is no core (the orientation)."""
        return tuple(e for e in self.exercises if not e.side_quest) or self.exercises

    @property
    def points(self) -> float:
        """Points of the core exercises in this run."""
        return round(sum(e.points for e in self.exercises if not e.side_quest), 2)

    @property
    def max_points(self) -> float:
        """Points to be had in the core exercises of this run."""
        return sum(e.max_points for e in self.exercises if not e.side_quest)


def award(requirements: tuple[Requirement, ...], max_points: float) -> float:
    """Points earned: the share of value tests that pass; each failed guard withholds one value test's share.

    A forbidden call withholds everything. Where no value test was run, nothing is earned.
    """
    if any(r.evidence and r.evidence.stage == "forbidden" for r in requirements):
        return 0.0
    values = [r for r in requirements if not r.guard]
    if not values:
        return 0.0
    earned = sum(r.outcome is Outcome.PASSED for r in values)
    withheld = sum(r.guard and r.outcome is not Outcome.PASSED for r in requirements)
    return round(max_points * max(0, earned - withheld) / len(values), 2)


def overall(requirements: tuple[Requirement, ...]) -> Outcome:
    """An exercise's outcome from those of its requirements."""
    outcomes = {r.outcome for r in requirements}
    if outcomes == {Outcome.PASSED}:
        return Outcome.PASSED
    if outcomes <= {Outcome.PASSED, Outcome.NOT_ATTEMPTED}:
        values = {r.outcome for r in requirements if not r.guard}
        return Outcome.NOT_ATTEMPTED if Outcome.PASSED not in values else Outcome.FAILED
    return next(o for o in (Outcome.WAITING, Outcome.RAISED, Outcome.FAILED) if o in outcomes)
