"""The coach's measurements of one unit: what passes beside the reference, in a child process with limits."""

import os
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from grading.checkers import checkers
from grading.coach.measuring_child import main
from grading.coach.review import ArchitectureNote, SpeedNote
from grading.follow import Follower, Limits, Listener, Run
from grading.fresh import follow_child
from grading.fresh_child import Job
from grading.learner_notebook import NotebookCell, read_notebook
from grading.projects import ModuleFile, module_files
from grading.reference import sources
from grading.units import Unit

LIMITS = Limits(test_s=30, cell_s=60)
"""One measurement may take as long as one test."""


class Measured(NamedTuple):
    """What there is to say, in the order of the exercises."""

    speed: tuple[SpeedNote, ...] = ()
    architecture: tuple[ArchitectureNote, ...] = ()
    problems: tuple[str, ...] = ()
    """What could not be measured, and why."""


def measured_notes(unit: Unit, notebook: Path, only: Collection[str], limits: Limits = LIMITS) -> Measured:
    """Measure the exercises in `only`, which pass: their speed beside the reference's, and the build of modules.

    Of a project, `notebook` is its folder or a file in it. An answer that raises, never ends or ends the process costs
    its own notes and no others. Raises `NotebookError` for a notebook that cannot be read, `ProjectError` for a folder
    without the package.
    """
    declared = [c.name for c in checkers(unit) if c.workload or c.architecture]
    names = [name for name in declared if name in only and sources(unit, name)]
    if not names:
        return Measured()
    folder = notebook.resolve() if notebook.is_dir() else notebook.resolve().parent
    cells, run = _cells(unit, notebook, folder), _Run()
    while not run.finished:
        with tempfile.TemporaryDirectory(prefix="solo-") as scratch:
            job = Job(
                unit=unit.id,
                cells=tuple(c for c in cells if c.index not in run.skipped_cells),
                exercises=tuple(n for n in names if n not in run.measured and n not in run.dead),
                seed=int.from_bytes(os.urandom(4)),
                folder=str(folder),
                scratch=scratch,
            )
            follow_child(main, job, _Follower(unit, run, limits, _NOBODY))
    run.problems += [f"{name}: {evidence.message}" for name, evidence in run.dead.items()]
    return Measured(tuple(run.speed), tuple(run.architecture), tuple(run.problems))


def _cells(unit: Unit, notebook: Path, folder: Path) -> list[NotebookCell] | list[ModuleFile]:
    if unit.kind == "project":
        return module_files(unit, folder)
    return [cell for cell in read_notebook(notebook) if not cell.check and not cell.demo]


@dataclass
class _Run(Run):
    """What is known so far."""

    measured: set[str] = field(default_factory=set)
    speed: list[SpeedNote] = field(default_factory=list)
    architecture: list[ArchitectureNote] = field(default_factory=list)


class _Follower(Follower):
    """Keeps the notes that come."""

    run: _Run

    def take(self, kind: str, rest: list) -> None:
        """Act on one message."""
        match kind, rest:
            case "measured", [name]:
                self.run.measured.add(name)
            case "note", ["SpeedNote", note]:
                self.run.speed.append(SpeedNote.model_validate_json(note))
            case "note", ["ArchitectureNote", note]:
                self.run.architecture.append(ArchitectureNote.model_validate_json(note))
            case _:
                super().take(kind, rest)


def _ignore(*told: object) -> None:
    """Nobody listens."""


_NOBODY = Listener(on_step=_ignore, on_exercise=_ignore, on_wait=_ignore)
