"""What the coach says of one unit after a whole check: findings, measurements and what to do next, as one page."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Part = Literal["code", "measured", "challenges", "steps"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(_Model):
    """A line of the learner's code that could be better, and how."""

    rule: str
    exercise: str | None
    """The exercise whose cell it is in; None for a cell that the learner added."""
    line: int
    """In its cell, from 1."""
    code: str
    """The line as it is written, without its indentation."""
    why: str
    better: str
    """The better line, or what to write instead."""
    brief: str | None = None
    """The theory brief that explains it, by unit id."""


class SpeedNote(_Model):
    """A learner's function beside the reference, on the same inputs."""

    exercise: str
    ratio: float
    """Time of the learner's over the reference's, at the largest size."""
    memory_ratio: float | None
    """Peak memory of the learner's over the reference's, where it could be measured."""
    exponent: float
    """Growth of the learner's time with the size: time ∝ size ** exponent."""
    reference_exponent: float
    text: str
    """One or two sentences, with the operation that costs most where the ratio is large."""


class ArchitectureNote(_Model):
    """What there is to say about a module's build."""

    exercise: str
    facts: dict[str, str]
    """Parameters and where they sit, FLOPs, receptive field, activation memory …, each as label and value."""
    remarks: tuple[str, ...] = ()
    """What stands out beside the reference or a rule of thumb, a sentence each, with its source."""


class Step(_Model):
    """Something to do next, and why, in one sentence."""

    kind: Literal["review", "again", "try", "skip", "read", "quiz"]
    unit: str
    exercise: str | None = None
    title: str
    why: str


class Review(_Model):
    """All that the coach says after one whole check of a unit."""

    unit: str
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    points: float
    max_points: float
    findings: tuple[Finding, ...] = ()
    speed: tuple[SpeedNote, ...] = ()
    architecture: tuple[ArchitectureNote, ...] = ()
    challenges: tuple[Step, ...] = ()
    steps: tuple[Step, ...] = ()
    omitted: dict[Part, str] = {}
    """Of a part that could not be made, or not be kept as a whole, the sentence that says so."""
