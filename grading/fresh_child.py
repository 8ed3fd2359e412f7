"""The child process of a fresh run: executes the cells, checks the exercises, and tells its parent of every step."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from grading.files import reason
from grading.learner_notebook import NotebookCell, new_module, run_cells
from grading.processes import MARK
from grading.projects import ModuleFile, load
from grading.report import Evidence
from grading.units import all_units, find

FILE_SIZE = 256 * 2**20


SETTING = "SOLO_"
"""What the names of our environment variables begin with."""


def with_settings(settings: dict[str, str], target: Callable[..., None], *arguments: object) -> None:
    """Run `target` under `settings`: a fork server hands on the environment of its own first day."""
    for name in [name for name in os.environ if name.startswith(SETTING)]:
        del os.environ[name]
    os.environ |= settings
    all_units.cache_clear()
    if sys.platform == "linux":
        # A child of a fork server would start its own by another one, and each DataLoader worker would load torch.
        multiprocessing.set_start_method("fork", force=True)
    target(*arguments)


@dataclass(frozen=True)
class Job:
    """One child's work."""

    unit: str
    cells: tuple[NotebookCell | ModuleFile, ...]
    """What to execute: a notebook's cells, or a project's modules."""
    exercises: tuple[str, ...]
    seed: int
    folder: str
    """Where the notebook or the project is: the working directory, as in Jupyter."""
    scratch: str
    """An empty folder of the run's own; the parent removes it, however the child ends."""
    dead: dict[str, Evidence] = field(default_factory=dict)
    """Exercises whose tests ended an earlier child."""
    broken: dict[str, str] = field(default_factory=dict)
    """Why a name is not defined: its cell ended an earlier child."""
    find_causes: bool = True


def main(pipe: Connection, job: Job) -> None:
    """Execute and check what `job` says."""
    run_job(pipe, job, _check)


def run_job(
    pipe: Connection, job: Job, work: Callable[[Connection, Job, dict[str, Any], dict[str, str]], None]
) -> None:
    """Execute what `job` says and do `work` on what that has defined, which is told why names are missing.

    Reports over `pipe`, and leaves at once: no thread or `atexit` of the learner's keeps the process.
    """
    quiet(Path(job.folder))
    os.environ[MARK] = job.scratch
    if find(job.unit).kind == "project":
        namespace, broken = _import_project(pipe, job)
    else:
        try:
            module = new_module(Path(job.scratch), list(job.cells))
        except OSError as error:
            pipe.send(("unable", f"The fresh run could not start: {job.scratch} cannot be written ({reason(error)})."))
            return
        namespace, broken = module.__dict__, _run_notebook(pipe, job, module)
    work(pipe, job, namespace, broken)
    pipe.send(("finished",))
    pipe.close()
    os._exit(0)


def quiet(folder: Path) -> None:
    """Make the process a quiet place: no output, one math thread, files of limited size, `folder` to work in."""
    if hasattr(os, "setsid"):
        os.setsid()  # what the learner's code starts can then be ended with it
    silence = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(silence, fd)
    # Under a fork server sys.stdin is closed; IPython looks at it.
    sys.stdin = open(os.devnull)  # noqa: SIM115 - lives as long as the process
    os.environ |= {MARK: "1", "MPLBACKEND": "agg"}
    os.chdir(folder)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    import torch

    torch.set_num_threads(1)


def _run_notebook(pipe: Connection, job: Job, module: ModuleType) -> dict[str, str]:
    """Execute the cells; why a name is not defined, by name."""
    errors = run_cells(job.cells, module, lambda cell: pipe.send(("cell", cell.index, cell.label)))
    return _broken(pipe, job, errors)


def _import_project(pipe: Connection, job: Job) -> tuple[dict[str, Any], dict[str, str]]:
    """Import the modules; the package, and why a module is not there, by name."""
    unit, folder = find(job.unit), Path(job.folder)
    package, errors = load(unit, folder, job.cells, lambda file: pipe.send(("cell", file.index, file.label)))
    return package, _broken(pipe, job, errors)


def _broken(pipe: Connection, job: Job, errors: dict[int, str]) -> dict[str, str]:
    """Tell of what raised, by index; why a name is not defined, by name."""
    broken = dict(job.broken)
    for cell in job.cells:
        if cell.index in errors:
            pipe.send(("problem", f"{cell.label} raised {errors[cell.index]}"))
            broken |= dict.fromkeys(cell.defines(), f"{cell.label} raised {errors[cell.index]}")
    return broken


def _check(pipe: Connection, job: Job, namespace: dict[str, Any], broken: dict[str, str]) -> None:
    from grading.runner import Session

    os.chdir(job.folder)  # a cell may have gone elsewhere, and deleted that folder
    session = Session(
        find(job.unit),
        namespace,
        seed=job.seed,
        find_causes=job.find_causes,
        broken=broken,
        dead=job.dead,
        on_test=lambda exercise, test: pipe.send(("test", exercise, test)),
    )
    for name in job.exercises:
        pipe.send(("exercise", name))
        pipe.send(("done", session.exercise(name).model_dump_json()))
