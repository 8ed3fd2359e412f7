"""A fresh run: a notebook, or a project, executed and checked in a child process with limits on time and memory.

If the child dies, another one goes round what killed it: one endless loop costs its own exercise and nothing else.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from grading import processes
from grading.checkers import checkers
from grading.follow import Follower, Limits, Listener, Run
from grading.fresh_child import SETTING, Job, main, with_settings
from grading.learner_notebook import NotebookCell, NotebookError, missing_cells, read_notebook
from grading.projects import ModuleFile, missing_modules, module_files
from grading.report import Context, ExerciseReport, Report
from grading.units import Unit

__all__ = ["Limits", "NotebookError", "run_fresh"]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


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
    listener = Listener(on_step or _ignore, on_exercise or _ignore, on_wait or _ignore)
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    folder = notebook.resolve() if notebook.is_dir() else notebook.resolve().parent
    names = _names(unit, only)
    to_run, problems = _modules(unit, folder, only) if unit.kind == "project" else _cells(unit, notebook, only, demos)
    run = Run(problems=problems)
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
            follow_child(main, job, Follower(unit, run, limits, listener))
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


def follow_child(target: Callable[..., None], job: Job, follower: Follower) -> None:
    """Run `target(pipe, job)` in a child, follow it to its end, and note what it did and how it ended."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    started = time.time()
    process = start_child(target, theirs, job)
    theirs.close()
    try:
        death = follower.follow(ours, process)
    finally:
        processes.end(process, job.scratch, started)
        ours.close()
    if death:
        follower.bury(death, job.cells)


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
