"""The process of one submission: closes the doors behind itself, runs the cells, and checks what they have defined.

The seed of the checks comes when all cells have run. The reference for an exercise comes once its own result is
final, so that the process never holds an answer to anything that can still be earned.
"""

import ast
import importlib
import logging
import os
import pickle
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from grading.classroom import sandbox
from grading.classroom.channel import teller
from grading.classroom.integrity import guard, snapshot
from grading.classroom.sandbox import Bounds, Layer
from grading.fresh_child import quiet
from grading.learner_notebook import NotebookCell, new_module, run_cells
from grading.processes import MARK
from grading.projects import ModuleFile, load
from grading.report import Evidence
from grading.units import LABKIT, PACKAGE, Unit, find

KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "PYTHONPATH",
    "SOLO_CONTENT",
    "SOLO_DATA",
    "SYSTEMROOT",
)
"""All that a submission sees of the instructor's environment."""

LONGEST_ANSWER = 200
Tell = Callable[..., None]
Ask = Callable[..., Any]


@dataclass(frozen=True)
class Job:
    """One child's work, sent by the grader."""

    unit: str
    cells: tuple[NotebookCell | ModuleFile, ...]
    """What to execute: a notebook's cells, or a project's modules."""
    exercises: tuple[str, ...]
    """Those that others need come before them."""
    owners: dict[str, str]
    """The exercise that each name of a solution cell belongs to."""
    token: str
    bounds: Bounds
    layers: frozenset[Layer] = frozenset()
    dead: dict[str, Evidence] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    on_reference: bool = False
    """It is the learner's own tests that are judged, by the reference and by known mistakes in it."""
    values: tuple[str, ...] = ()
    """Names whose values the grader judges itself: the answers of a quiz."""


def main(connection: Connection) -> None:
    """Run the job that waits on the line, and leave at once: nothing of the submission's keeps the process."""
    code = 1
    try:
        job: Job = pickle.loads(connection.recv_bytes())
        _grade(connection, job)
        code = 0
    finally:
        os._exit(code)


def _grade(connection: Connection, job: Job) -> None:
    tell, ask = teller(connection, job.token)
    try:
        folder, checks, run, replaced = _prepare(connection, job, tell, ask)
        namespace, broken = run()
        os.chdir(folder)  # a cell may have gone elsewhere
        _report(replaced(), tell)
        tell("values", {name: _plain(namespace.get(name)) for name in job.values})
        checks.begin(namespace, broken)
        _report(replaced(), tell)
        for name in job.exercises:
            tell("exercise", name)
            tell("done", checks.exercise(name))
        _report(replaced(), tell)
    except Exception as error:  # of ours: what the submission's code raises is a result
        tell("unable", f"The grader itself failed on this submission, {type(error).__name__}: {error}")
    else:
        tell("finished")


def _prepare(connection: Connection, job: Job, tell: Tell, ask: Ask) -> tuple:
    """All that is done before the first cell runs, with the locking of the doors at the end."""
    from grading.classroom.checking import Checks, load_reference

    unit = find(job.unit)
    if job.on_reference:
        load_reference(unit)
    sandbox.enclose(job.layers, job.bounds)
    folder = _desk(job, connection)
    checks = Checks(unit, job, tell, ask)
    run = _project(job, unit, folder, tell) if unit.kind == "project" else _notebook(job, tell)
    watch, replaced = guard(tell, str(unit.checkers))
    if Layer.FILES in job.layers:
        sandbox.lock_files(job.bounds, own_root=Layer.DISK in job.layers)
    if Layer.SYSCALLS in job.layers:
        sandbox.lock_calls()
    watch()
    return folder, checks, run, replaced


def _desk(job: Job, connection: Connection) -> Path:
    """The quiet place where the notebook runs: a folder of its own, no open files, no secrets, fresh random state."""
    scratch = Path(job.bounds.scratch)
    folder = scratch / "submission"
    shutil.copytree(job.bounds.files, folder)
    quiet(folder)
    if os.name == "posix":
        os.closerange(3, connection.fileno())
        os.closerange(connection.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    os.environ.clear()
    os.environ |= kept | dict.fromkeys(("HOME", "TMPDIR", "SOLO_HOME", "IPYTHONDIR"), str(scratch))
    os.environ |= {MARK: str(scratch), "SOLO_PROGRESS": str(scratch / "progress.json"), "PYTHONPATH": _library(scratch)}
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    for number in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGCHLD", signal.SIGINT)}:
        signal.signal(number, signal.SIG_DFL)
    _reseed()
    return folder


def _library(scratch: Path) -> str:
    """Where a program that a submission starts finds our packages: the folder that they are in cannot be listed."""
    place = scratch / "lib"
    place.mkdir()
    for package in (PACKAGE, LABKIT):
        (place / package.name).symlink_to(package)
    sys.path.append(str(place))
    return os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))


def _reseed() -> None:
    """A fork copies the random state; each submission begins with its own."""
    import numpy as np
    import torch

    random.seed()
    np.random.seed()
    torch.seed()


Ran = tuple[dict[str, Any], dict[str, str]]
"""A namespace, and why a name is not defined in it, by name."""


def _notebook(job: Job, tell: Tell) -> Callable[[], Ran]:
    """What executes the cells and tells what they show."""
    module = new_module(Path(job.bounds.scratch), list(job.cells))

    def run() -> Ran:
        with _recorded(tell, module) as (shell, on_cell):
            errors = run_cells(job.cells, module, on_cell, shell)
        return module.__dict__, _broken(job, errors, tell)

    return run


def _project(job: Job, unit: Unit, folder: Path, tell: Tell) -> Callable[[], Ran]:
    """What imports the modules."""

    def run() -> Ran:
        with _recorded(tell, ModuleType("package")) as (_, on_cell):
            package, errors = load(unit, folder, job.cells, on_cell)
        return package, _broken(job, errors, tell)

    return run


@contextmanager
def _recorded(tell: Tell, module: ModuleType) -> Iterator[tuple]:
    """Tell of each cell that begins, of what it has shown, and of how long it took."""
    from grading.classroom.recorder import Stream, give, recording_shell

    shell, recorder = recording_shell()
    give(shell, module)
    running: list[tuple[int, float]] = []

    def hand_over() -> None:
        for index, start in running:
            tell("outputs", index, recorder.take(), time.perf_counter() - start)
        running.clear()

    def on_cell(cell: NotebookCell | ModuleFile) -> None:
        hand_over()
        tell("cell", cell.index, cell.label)
        running.append((cell.index, time.perf_counter()))

    with redirect_stdout(Stream(recorder, "stdout")), redirect_stderr(Stream(recorder, "stderr")):
        yield shell, on_cell
    hand_over()


def _broken(job: Job, errors: dict[int, str], tell: Tell) -> dict[str, str]:
    """Tell of what raised, by index; why a name is not defined, by name."""
    broken = dict(job.broken)
    for cell in job.cells:
        if cell.index in errors:
            tell("problem", f"{cell.label} raised {errors[cell.index]}")
            broken |= dict.fromkeys(cell.defines(), f"{cell.label} raised {errors[cell.index]}")
    return broken


def _plain(value: object) -> str | float | None:
    """An answer as the grader may have it: a number or a short text."""
    if type(value) in {int, float} and abs(value) < 1e300:
        return value
    return value[:LONGEST_ANSWER] if type(value) is str else None


def _report(names: list[str], tell: Tell) -> None:
    if names:
        tell("flag", f"replaced: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}")


def warm(unit: Unit) -> None:
    """Load what every submission to `unit` needs; what only its author may know is forgotten again."""
    import grading.classroom.preload  # noqa: F401 - all of it, once
    from grading.classroom.checking import load
    from grading.classroom.recorder import recording_shell

    load(unit)
    _import_what(unit)
    recording_shell()
    snapshot()
    assert_one_thread()


def _import_what(unit: Unit) -> None:
    """Import what the unit's own source imports: then no submission waits for it, and all share its memory."""
    logging.disable(logging.WARNING)  # of what a machine has not, such as a GPU
    for node in ast.walk(ast.parse(unit.source.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        for name in names:
            with suppress(ImportError):  # a project's own package
                importlib.import_module(name)
    logging.disable(logging.NOTSET)


def assert_one_thread() -> None:
    """A fork copies one thread only: what another one holds would be held for ever."""
    threads = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else threading.active_count()
    if threads != 1:
        raise RuntimeError(f"{threads} threads run where there must be one: it is not safe to fork.")
