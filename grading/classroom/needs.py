"""What a unit needs while it is graded: `[needs]` in a `unit.toml` beside its source, where that is not the usual."""

import tomllib

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from grading.units import Unit

FILE = "unit.toml"


class NeedsError(ValueError):
    """A `unit.toml` that does not say what it should."""


class Needs(BaseModel):
    """The limits of one submission."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(600, gt=0)
    """For all of it: every cell and every check, again after a crash."""
    memory_mb: int = Field(4096, gt=0)
    processes: int = Field(64, gt=0)
    """Processes and threads at a time."""
    disk_mb: int = Field(512, gt=0)


def needs_of(unit: Unit) -> Needs:
    """The limits of `unit`: its own, else the usual ones. Raises `NeedsError`."""
    path = unit.folder / FILE
    if not path.exists():
        return Needs()
    try:
        return Needs(**tomllib.loads(path.read_text(encoding="utf-8")).get("needs", {}))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise NeedsError(f"{path}: {' '.join(str(error).split())}") from None
