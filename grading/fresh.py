"""A fresh run: a notebook, or a project, executed and checked in a child process with limits on time and memory.

The child reports each step. If it dies, the parent knows at which cell or exercise, and starts another child without
it: one endless loop costs its own exercise and nothing else.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from grading import processes
from grading.checkers import checkers
from grading.fresh_child import SETTING, Job, main, with_settings
from grading.learner_notebook import NotebookCell, NotebookError, missing_cells, read_notebook
from grading.projects import ModuleFile, missing_modules, module_files
from grading.report import Context, Evidence, ExerciseReport, Report
from grading.units import Unit

__all__ = ["Limits", "NotebookError", "run_fresh"]

POLL_S = 0.05
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Limits:
    """What one step of a fresh run may take."""

    test_s: float = 10
    slow_test_s: float = 60
    cell_s: float = 120
    memory_mb: int = 4096


@dataclass(frozen=True)
class _Listener:
    """Who is told of a run, as it goes."""

    on_step: Callable[[str], None]
    on_exercise: Callable[[ExerciseReport], None]
    on_wait: Callable[[], None]


@dataclass
class _Run:
    """What is known so far, across the children of one run."""

    done: dict[str, ExerciseReport] = field(default_factory=dict)
    dead: dict[str, Evidence] = field(default_factory=dict)
    skipped_cells: set[int] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    finished: bool = False


@dataclass
class _Step:
    """What the child is doing, and until when it may."""

    kind: str = "start"
    name: str = ""
    deadline: float = 0.0


def run_fresh(
    unit: Unit,
    notebook: Path,
    only: str | None = None,
    seed: int | None = None,
    on_step: Callable[[str], None] | None = None,
    *,
    limits: Limits | None = None,
    context: Context = "fresh",
    find_causes: bool = True,
    demos: bool = True,
    first: Collection[str] = (),
    on_exercise: Callable[[ExerciseReport], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Report:
    """Execute `notebook` from the top in a child process and check it, or `only` one exercise.

    Of a project, `notebook` is its folder or a file in it: all modules are imported. `seed` is chosen anew unless
    given; `demos=False` leaves demonstration cells out; the exercises in `first` are checked before the others.
    `on_step` is told in words what is under way, `on_exercise` each result as it comes; `on_wait` is called while there
    is nothing to tell. What they raise ends the run. Raises `NotebookError` for a notebook that cannot be read,
    `ProjectError` for a folder without the package, `LookupError` for an unknown exercise.
    """
    start = time.perf_counter()
    limits = limits or Limits()
    listener = _Listener(on_step or _ignore, on_exercise or _ignore, on_wait or _ignore)
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    folder = notebook.resolve() if notebook.is_dir() else notebook.resolve().parent
    names = _names(unit, only)
    to_run, problems = _modules(unit, folder, only) if unit.kind == "project" else _cells(unit, notebook, only, demos)
    run = _Run(problems=problems)
    while not run.finished:
        with tempfile.TemporaryDirectory(prefix="solo-") as scratch:
            job = Job(
                unit=unit.id,
                cells=tuple(c for c in to_run if c.index not in run.skipped_cells),
                exercises=tuple(n for n in sorted(names, key=lambda n: n not in first) if n not in run.done),
                seed=seed,
                folder=str(folder),
                scratch=scratch,
                dead=run.dead,
                broken=run.broken,
                find_causes=find_causes,
            )
            _one_child(unit, job, run, limits, listener)
    return Report(
        unit=unit.id,
        context=context,
        seed=seed,
        seconds=round(time.perf_counter() - start, 3),
        exercises=tuple(run.done[name] for name in names),
        problems=tuple(dict.fromkeys(run.problems)),
    )


def _ignore(*told: object) -> None:
    """Nobody listens."""


def _names(unit: Unit, only: str | None) -> list[str]:
    known = [c.name for c in checkers(unit)]
    if only is None:
        return known
    if only not in known:
        raise LookupError(f"{unit.id} has no exercise {only!r}. It has: {', '.join(known)}.")
    return [only]


def _cells(unit: Unit, notebook: Path, only: str | None, demos: bool) -> tuple[list[NotebookCell], list[str]]:
    """The cells to run, and a sentence for each that is missing."""
    from grading.source import read_source

    cells = read_notebook(notebook)
    expected = {c.names[0]: c.name for c in read_source(unit.source) if c.kind == "solution" and only in {None, c.name}}
    problems = [
        f"the notebook has no cell for `{grade_id}` any more: "
        f"`solo reset {unit.id} --exercise {expected[grade_id]}` restores it"
        for grade_id in missing_cells(cells, expected)
    ]
    return [c for c in cells if not c.check and (demos or not c.demo)], problems


def _modules(unit: Unit, folder: Path, only: str | None) -> tuple[list[ModuleFile], list[str]]:
    """The modules to import, and a sentence for each that is missing."""
    return module_files(unit, folder), missing_modules(unit, folder, only)


def _one_child(unit: Unit, job: Job, run: _Run, limits: Limits, listener: _Listener) -> None:
    """Start a child, follow it to its end, and note what it did and how it ended."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    started = time.time()
    process = start_child(main, theirs, job)
    theirs.close()
    step = _Step(deadline=time.monotonic() + limits.cell_s)
    slow = {(c.name, t.id) for c in checkers(unit) for t in c.tests if t.slow}
    try:
        death = _follow(ours, process, step, run, limits, slow, listener)
    finally:
        processes.end(process, job.scratch, started)
        ours.close()
    if death:
        _bury(step, death, job, run)


def _follow(
    pipe: Connection,
    process: multiprocessing.Process,
    step: _Step,
    run: _Run,
    limits: Limits,
    slow: set[tuple[str, str]],
    listener: _Listener,
) -> str | None:
    """Read the child's messages until it finishes or must be stopped; how it died, None if it finished."""
    while True:
        try:
            while pipe.poll(POLL_S):
                kind, *rest = pipe.recv()
                if kind == "finished":
                    run.finished = True
                    return None
                _take(kind, rest, step, run, limits, slow, listener)
        except (EOFError, OSError):
            process.join(5)
            return _how_it_ended(process.exitcode)
        listener.on_wait()
        if time.monotonic() > step.deadline:
            return "did not finish in time: is there a loop that never ends?"
        if processes.memory_mb(process.pid) > limits.memory_mb:
            return f"needed more than {limits.memory_mb} MB of memory and was stopped"


def _take(
    kind: str,
    rest: list,
    step: _Step,
    run: _Run,
    limits: Limits,
    slow: set[tuple[str, str]],
    listener: _Listener,
) -> None:
    now = time.monotonic()
    match kind, rest:
        case "cell", [index, label]:
            step.kind, step.name, step.deadline = "cell", str(index), now + limits.cell_s
            listener.on_step(f"running {label}")
        case "test", [exercise, test]:
            seconds = limits.slow_test_s if (exercise, test) in slow else limits.test_s
            step.kind, step.name, step.deadline = "test", exercise, now + seconds
        case "exercise", [name]:
            listener.on_step(f"checking {name}")
        case "done", [report]:
            exercise = ExerciseReport.model_validate_json(report)
            run.done[exercise.name] = exercise
            listener.on_exercise(exercise)
        case "problem", [text]:
            run.problems.append(text)
        case "unable", [sentence]:
            raise NotebookError(sentence)


def _bury(step: _Step, death: str, job: Job, run: _Run) -> None:
    """Note what the child died of, so that the next one goes round it."""
    if step.kind == "test" and step.name not in run.dead:
        run.dead[step.name] = Evidence(stage="limit", message=f"your code {death}")
    elif step.kind == "cell":
        cell = next(c for c in job.cells if str(c.index) == step.name)
        run.skipped_cells.add(cell.index)
        run.problems.append(f"{cell.label} {death}")
        run.broken |= dict.fromkeys(cell.defines(), run.problems[-1])
    else:
        raise NotebookError(f"The fresh run could not start: the child process {death}. Is there memory left?")


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        hint = ": is there a recursion without end?" if -code == signal.SIGSEGV else ""
        return f"crashed the Python process (signal {-code}){hint}"
    return f"ended the Python process (exit code {code}): is there an `os._exit` or `exit`?"


def start_child(target: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    """A child process that runs `target(*arguments)` with one math thread and this process's own settings."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(SETTING)}
    process = _child_context().Process(target=with_settings, args=(settings, target, *arguments), daemon=False)
    with _one_thread():
        process.start()
    return process


def _child_context() -> multiprocessing.context.BaseContext:
    """A fork server that has torch loaded where that is safe (Linux), else a new process."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["grading.fresh_child", "grading.preload"])
    return context


@contextmanager
def _one_thread() -> Iterator[None]:
    """One math thread from the first import on: thread pools are made when libraries load."""
    before = {key: os.environ.get(key) for key in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
