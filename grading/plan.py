"""What each phase will contain, read from `phase.toml` in its folder: built or not, in the order it is taught."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from grading import units


class Phase(BaseModel):
    """One phase. `units` maps the name of a unit's folder to its title; empty until the phase is planned in detail."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    goal: str
    weeks: str | None = None
    units: dict[str, str] = {}


def phases() -> tuple[Phase, ...]:
    """Every phase that has a plan, in order."""
    files = {phase: units.content_root() / folder / "phase.toml" for phase, folder in units.PHASES.items()}
    return tuple(Phase(id=phase, **_read(file)) for phase, file in files.items() if file.exists())


def _read(file: Path) -> dict:
    return tomllib.loads(file.read_text(encoding="utf-8"))
