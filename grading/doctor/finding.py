"""What an examination finds."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

INSTALL = "In the clone, with its environment active: pip install -r requirements.txt"


class State(StrEnum):
    """Whether something stops the learner (`problem`), may do so (`warning`), or is in order."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(BaseModel):
    """One thing that was looked at, what was seen, and what to do about it where `says` does not tell."""

    model_config = ConfigDict(frozen=True)

    about: str
    state: State
    says: str
    cure: str | None = None


def ok(about: str, says: str) -> Finding:
    """It is in order."""
    return Finding(about=about, state=State.OK, says=says)


def warning(about: str, says: str, cure: str | None = None) -> Finding:
    """It may stop the learner one day, or makes something less than it could be."""
    return Finding(about=about, state=State.WARNING, says=says, cure=cure)


def problem(about: str, says: str, cure: str | None = None) -> Finding:
    """It stops the learner."""
    return Finding(about=about, state=State.PROBLEM, says=says, cure=cure)
