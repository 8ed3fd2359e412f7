"""`class.toml`: who is in the class, and where its things are."""

import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

VARIABLE = "SOLO_CLASS"
"""The environment variable that says where the file is."""


class HubError(RuntimeError):
    """The class cannot be served; the message says what to do."""


class ClassSettings(BaseModel):
    """One class. People are accounts of the machine, places are absolute."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    course: str
    """nbgrader's course id; the instructors' course is the folder of that name in their homes."""
    instructors: frozenset[str]
    learners: frozenset[str]
    edition: Path
    """What `solo class bundle` wrote: learners' code runs on it."""
    repository: Path
    """The clone with the solutions: instructors' code runs on it, and learners must not be able to enter it."""
    exchange: Path
    """nbgrader's exchange, which everybody may write to."""
    data: Path
    """The shared cache of data sets, filled once by `solo data fetch`."""
    address: str = "http://127.0.0.1:8000"
    idle_s: int = 3600
    """A server that nobody has used for so long is ended."""

    @model_validator(mode="after")
    def _nobody_is_both(self) -> "ClassSettings":
        both = self.instructors & self.learners
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot be an instructor and a learner")
        return self

    def root_of(self, user: str) -> Path:
        """The repository that `user`'s code runs on."""
        return self.repository if user in self.instructors else self.edition


def read(path: Path | None = None) -> ClassSettings:
    """The settings at `path`, or where `$SOLO_CLASS` says. Raises `HubError` for a file that cannot be used."""
    place = path or Path(os.environ.get(VARIABLE, ""))
    if not place.is_file():
        raise HubError(f"Say where the class's settings are: set {VARIABLE} to the path of a class.toml.")
    try:
        return ClassSettings.model_validate(tomllib.loads(place.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc'])) or 'the class'}: {first['msg']}" if first else str(error)
        raise HubError(f"{place} cannot be used: {why}.") from None


def environment(settings: ClassSettings, user: str) -> dict[str, str]:
    """What the server of `user` needs to find its edition, its settings and the data."""
    here = Path(__file__).parent
    places = [here / "jupyter"] if user in settings.instructors else [here / "learner", here / "jupyter"]
    return {
        "PYTHONPATH": str(settings.root_of(user)),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(map(str, places)),
        "SOLO_COURSE": settings.course,
        "SOLO_DATA": str(settings.data),
    }
