"""What happens to a learner, one model per kind of event; `progress.json` is a list of these and nothing else.

Kinds are only ever added. Points, states and ranks follow from `Attempt`, `Reveal`, `Marked` and `RankUp` alone; the
other kinds are there for the learner and the coach.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from grading.coach.review import Review
from grading.ranks import REQUIREMENTS
from grading.report import Context, ExerciseReport, Outcome, Report

CONFIRMING: frozenset[Context] = frozenset({"fresh", "autograde", "class"})
"""Contexts that ran the notebook from its first cell. A live kernel remembers what the notebook no longer says."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(default_factory=lambda: uuid4().hex)
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class Attempt(_Event):
    """One exercise was checked and had been worked on."""

    kind: Literal["attempt"] = "attempt"
    unit: str
    exercise: str
    checker: str
    """Digest of the checker that judged it."""
    outcome: Outcome
    points: float
    max_points: float
    context: Context
    seed: int
    requirements: dict[str, Outcome]
    mistake: str | None = None
    """Name of the known mistake that explains the failure."""
    carried: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: Report, exercise: ExerciseReport) -> "Attempt":
        """The attempt that `report` tells of."""
        return cls(
            at=report.at,
            unit=report.unit,
            exercise=exercise.name,
            checker=exercise.checker,
            outcome=exercise.outcome,
            points=exercise.points,
            max_points=exercise.max_points,
            context=report.context,
            seed=report.seed,
            requirements={r.id: r.outcome for r in exercise.requirements},
            mistake=exercise.cause.mistake if exercise.cause else None,
            carried=exercise.carried,
        )

    @property
    def passed(self) -> bool:
        """Full marks."""
        return self.outcome is Outcome.PASSED

    @property
    def confirms(self) -> bool:
        """Whether its points count for the rank."""
        return self.context in CONFIRMING


class Hint(_Event):
    """The next hint of an exercise was given."""

    kind: Literal["hint"] = "hint"
    unit: str
    exercise: str


class Reveal(_Event):
    """The answer to an exercise was shown."""

    kind: Literal["reveal"] = "reveal"
    unit: str
    exercise: str


class Note(_Event):
    """The learner wrote down what was learnt, or what to improve."""

    kind: Literal["note"] = "note"
    unit: str
    text: str
    improve: bool = False


class Done(_Event):
    """The learner says that a unit is done: a theory brief is read."""

    kind: Literal["done"] = "done"
    unit: str


class Sitting(_Event):
    """A sitting of a quiz was begun, and these items were drawn for it."""

    kind: Literal["sitting"] = "sitting"
    unit: str
    seed: int
    questions: tuple[str, ...]
    challenge: str
    review: str


class Marked(_Event):
    """A sitting was handed in."""

    kind: Literal["marked"] = "marked"
    unit: str
    sitting: str
    """Its id."""
    points: float
    max_points: float
    marks: dict[str, float]
    """The share that each item earned."""


class Practice(_Event):
    """An exercise was checked again from its blank stub: evidence of a skill, and no points."""

    kind: Literal["practice"] = "practice"
    unit: str
    exercise: str
    round: str
    """Which stub it was written from; every `solo review --again` begins a round."""
    outcome: Outcome
    requirements: dict[str, Outcome]
    mistake: str | None = None
    hints: int = 0
    """Given in this round so far."""
    revealed: bool = False
    """The answer was shown in this round."""


class Placement(_Event):
    """What a newcomer knew already: some questions of a phase's bank. It opens what comes after, and never locks."""

    kind: Literal["placement"] = "placement"
    unit: str
    """The quiz whose bank was drawn from."""
    seed: int
    marks: dict[str, float]
    """The share that each question earned."""
    opens: str | None = None
    """The phase that it opens, if it was passed."""


class Reviewed(_Event):
    """The coach's review of a unit after a whole check."""

    kind: Literal["reviewed"] = "reviewed"
    unit: str
    review: Review


class RankUp(_Event):
    """A rank was earned; it stays, whatever changes afterwards."""

    kind: Literal["rank_up"] = "rank_up"
    rank: str

    @property
    def words(self) -> str:
        """The line that celebrates it."""
        return f"Rank up! You are {self.rank}-rank now: {REQUIREMENTS[self.rank]}."


Event = Annotated[
    Attempt | Hint | Reveal | Note | Done | Sitting | Marked | Practice | Placement | Reviewed | RankUp,
    Field(discriminator="kind"),
]
