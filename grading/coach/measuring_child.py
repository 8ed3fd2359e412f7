"""The child process of the coach's measurements: the learner's definitions, and each exercise beside the reference."""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from grading.checkers import checker
from grading.fresh_child import Job, run_job
from grading.learner_notebook import short
from grading.units import Unit, find

if TYPE_CHECKING:
    from grading.coach.sides import Side


def main(pipe: Connection, job: Job) -> None:
    """Execute what `job` says, and measure its exercises."""
    run_job(pipe, job, _measure)


def _measure(pipe: Connection, job: Job, namespace: dict[str, Any], broken: dict[str, str]) -> None:
    from grading.coach.sides import two_sides

    tempfile.tempdir = job.scratch  # what a workload writes goes when the run does
    unit = find(job.unit)
    declared = _declared(unit)
    for name in job.exercises:
        with two_sides(unit, namespace, name, job.seed) as sides:
            for kind, measure in _measurements(unit, name, declared, sides):
                pipe.send(("test", name, kind))
                _tell(pipe, f"the {kind} of {name}", measure)
        pipe.send(("measured", name))


def _declared(unit: Unit) -> dict[str, Any]:
    """What the checker file of `unit` defines."""
    spec = importlib.util.spec_from_file_location("coach_checkers", unit.checkers)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def _measurements(
    unit: Unit, name: str, declared: dict[str, Any], sides: "tuple[Side, Side]"
) -> Iterator[tuple[str, Callable[[], BaseModel | None]]]:
    from grading.coach.architecture import architecture_note
    from grading.coach.speed import speed_note

    says = checker(unit, name)
    exercise = declared[says.class_name]()
    if says.workload:
        yield "workload", lambda: speed_note(name, exercise.workload, sides)
    if says.architecture:
        yield "architecture", lambda: architecture_note(name, exercise.architecture, sides)


def _tell(pipe: Connection, what: str, measure: Callable[[], BaseModel | None]) -> None:
    try:
        note = measure()
    except (Exception, SystemExit) as error:
        pipe.send(("problem", f"{what} raised {type(error).__name__}: {short(error)}"))
        return
    if note is not None:
        pipe.send(("note", type(note).__name__, note.model_dump_json()))
