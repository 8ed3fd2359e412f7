"""The nursery of mutants: a process that runs the solution notebook once and forks a child for every mutant.

A child that loops, crashes or eats the memory ends alone.
"""

import gc
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

import psutil

from grading.checkers import checker
from grading.fresh_child import quiet
from grading.mutants import Mutant
from grading.namespaces import Patch, replaced
from grading.processes import MARK
from grading.proof import solution_namespace
from grading.units import Unit

WORKERS = 2
PATIENCE = 10
"""A mutant may take this many times as long as the solution, and never less than:"""
LEAST_CPU_S, LEAST_WALL_S = 2, 10
MEMORY = 2 * 2**30
SURVIVED = b"survived"

Fate = Literal["survived", "killed", "crashed", "timed out"]
"""Only a survivor got full marks; the last two ended without a word."""


def main(pipe: Connection, unit: Unit, tried: tuple[Mutant, ...], seed: int, scratch: str) -> None:
    """Send the index and `Fate` of each mutant as soon as it is known; a text if they cannot be tried."""
    try:
        quiet(Path(scratch))
        os.environ[MARK] = scratch
        bench = _Bench(unit, solution_namespace(unit, Path(scratch)), seed, pipe)
        limits = {name: bench.limits(name) for name in dict.fromkeys(m.exercise for m in tried)}
        if psutil.Process().num_threads() > 1:
            raise _Refused(f"The solution of {unit.id} leaves threads running, and such a process cannot fork safely.")
        gc.collect()
        gc.freeze()  # else the collector of every child would copy what it only looks at
        for message in _fates(bench, tried, limits):
            pipe.send(message)
    except _Refused as error:
        pipe.send(str(error))
    except Exception:
        pipe.send(traceback.format_exc())


class _Refused(Exception):
    """The message says why the mutants cannot be tried."""


@dataclass(frozen=True)
class _Limits:
    """What a mutant may take: processor time, which a busy machine does not stretch, and time for what waits."""

    cpu_s: int
    wall_s: float


@dataclass(frozen=True)
class _Child:
    """The process of one mutant."""

    index: int
    process: multiprocessing.Process
    pipe: Connection
    deadline: float

    def end(self) -> Fate:
        """End it and whatever it started; how it fared."""
        told = self._told()
        if told is None:
            self.process.kill()
        self.process.join()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.pipe.close()
        out_of_time = time.monotonic() > self.deadline or self.process.exitcode == -signal.SIGXCPU
        return told or ("timed out" if out_of_time else "crashed")

    def _told(self) -> Fate | None:
        with suppress(EOFError, OSError):
            if self.pipe.poll():
                return "survived" if self.pipe.recv_bytes() == SURVIVED else "killed"
        return None


@dataclass(frozen=True)
class _Bench:
    """The solution's namespace, in which each forked child puts its mutant."""

    unit: Unit
    namespace: dict[str, Any]
    seed: int
    report: Connection
    """Where the nursery tells fates: no business of a mutant's."""

    def limits(self, exercise: str) -> _Limits:
        """For the mutants of one exercise, by what its solution takes; refused if that does not pass."""
        cpu, wall = time.process_time(), time.monotonic()
        if not self._survives(exercise):
            raise _Refused(f"The solution of {exercise} does not get full marks: see `grading prove {self.unit.id}`.")
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        return _Limits(math.ceil(max(LEAST_CPU_S, PATIENCE * cpu)), max(LEAST_WALL_S, PATIENCE * wall))

    def fork(self, index: int, mutant: Mutant, limits: _Limits) -> _Child:
        """Let a mutant live in a process of its own."""
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=self._live, args=(mutant, limits, theirs))
        process.start()
        theirs.close()  # at once, so that no other child holds it open
        return _Child(index, process, ours, time.monotonic() + limits.wall_s)

    def _live(self, mutant: Mutant, limits: _Limits, pipe: Connection) -> None:
        """In the child: become the mutant, be checked, tell, and leave without ceremony."""
        import resource

        self.report.close()
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))
        memory = psutil.Process().memory_info().vms + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        survives = False
        patch = Patch(compile(mutant.code, "<mutant>", "exec"), mutant.module)
        with suppress(BaseException), replaced(self.namespace, patch):
            survives = self._survives(mutant.exercise)
        pipe.send_bytes(SURVIVED if survives else b"")
        os._exit(0)

    def _survives(self, exercise: str) -> bool:
        """Full marks, guards included; slow tests run only where the fast ones pass."""
        from grading.runner import Session

        session = Session(self.unit, self.namespace, seed=self.seed, find_causes=False)
        slow = any(test.slow for test in checker(self.unit, exercise).tests)
        return session.tested(exercise, fast_only=slow).passed and (not slow or session.tested(exercise).passed)


def _fates(bench: _Bench, tried: tuple[Mutant, ...], limits: dict[str, _Limits]) -> Iterator[tuple[int, Fate]]:
    """Some mutants at a time, each until it tells its fate, ends or runs out of time."""
    waiting = deque(enumerate(tried))
    running: dict[Connection, _Child] = {}
    while waiting or running:
        while waiting and len(running) < WORKERS:
            index, mutant = waiting.popleft()
            child = bench.fork(index, mutant, limits[mutant.exercise])
            running[child.pipe] = child
        next_deadline = min(child.deadline for child in running.values())
        ready = wait(list(running), max(0, next_deadline - time.monotonic()))
        overdue = [pipe for pipe, child in running.items() if child.deadline <= time.monotonic()]
        for pipe in {*ready, *overdue}:
            child = running.pop(pipe)
            yield child.index, child.end()
