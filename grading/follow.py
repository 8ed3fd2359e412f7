"""Following a child process step by step: what it is at, until when it may be, and what it died of.

The child reports each step. If it dies, the parent knows at which cell or exercise, and another child goes round it.
"""

import math
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

from grading import processes
from grading.checkers import checkers
from grading.learner_notebook import NotebookCell, NotebookError
from grading.report import Evidence, ExerciseReport
from grading.units import Unit

POLL_S, MEMORY_S = 0.05, 0.2
"""How often there is a look at the child, and at what it holds in memory, which costs more."""


class Child(Protocol):
    """A process that can be waited for, as `multiprocessing.Process` is."""

    pid: int
    exitcode: int | None

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""


class Pipe(Protocol):
    """What the child's messages come through, as `multiprocessing.connection.Connection` is."""

    def poll(self, timeout: float) -> bool:
        """Whether there is a message."""

    def recv(self) -> Any:
        """The next message; `EOFError` or `OSError` when there will be no more."""


@dataclass(frozen=True)
class Limits:
    """What one step may take, and all steps of one child together."""

    test_s: float = 10
    slow_test_s: float = 60
    cell_s: float = 120
    memory_mb: int = 4096
    total_s: float = math.inf


@dataclass(frozen=True)
class Listener:
    """Who is told of a run, as it goes."""

    on_step: Callable[[str], None]
    on_exercise: Callable[[ExerciseReport], None]
    on_wait: Callable[[], None]


@dataclass
class Run:
    """What is known so far, across the children of one run."""

    done: dict[str, ExerciseReport] = field(default_factory=dict)
    dead: dict[str, Evidence] = field(default_factory=dict)
    skipped_cells: set[int] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    finished: bool = False


@dataclass
class Step:
    """What the child is doing, and until when it may."""

    kind: str = "start"
    name: str = ""
    deadline: float = 0.0


class Follower:
    """Reads the messages of one child, and keeps it to its limits."""

    def __init__(self, unit: Unit, run: Run, limits: Limits, listener: Listener) -> None:
        self.run, self.limits, self.listener = run, limits, listener
        self.slow = {(c.name, t.id) for c in checkers(unit) for t in c.tests if t.slow}
        self.step = Step(deadline=time.monotonic() + limits.cell_s)

    def follow(self, pipe: Pipe, process: Child) -> str | None:
        """Read messages until the child finishes or must be stopped; how it died, None if it finished."""
        last_moment = time.monotonic() + self.limits.total_s
        next_weighing = 0.0
        while True:
            try:
                while pipe.poll(POLL_S):
                    kind, *rest = pipe.recv()
                    if kind == "finished":
                        self.run.finished = True
                        return None
                    self.take(kind, rest)
            except (EOFError, OSError):
                process.join(5)
                return _how_it_ended(process.exitcode)
            self.listener.on_wait()
            if time.monotonic() > min(self.step.deadline, last_moment):
                return "did not finish in time: is there a loop that never ends?"
            if time.monotonic() < next_weighing:
                continue
            next_weighing = time.monotonic() + MEMORY_S
            if processes.memory_mb(process.pid) > self.limits.memory_mb:
                return f"needed more than {self.limits.memory_mb} MB of memory and was stopped"

    def take(self, kind: str, rest: list) -> None:
        """Act on one message."""
        match kind, rest:
            case "cell", [index, label]:
                self._enter("cell", str(index), self.limits.cell_s)
                self.listener.on_step(f"running {label}")
            case "test", [exercise, test]:
                slow = (exercise, test) in self.slow
                self._enter("test", exercise, self.limits.slow_test_s if slow else self.limits.test_s)
            case "exercise", [name]:
                self.listener.on_step(f"checking {name}")
            case "done", [report]:
                exercise = ExerciseReport.model_validate_json(report)
                self.run.done[exercise.name] = exercise
                self.listener.on_exercise(exercise)
            case "problem", [text]:
                self.run.problems.append(text)
            case "unable", [sentence]:
                raise NotebookError(sentence)

    def _enter(self, kind: str, name: str, seconds: float) -> None:
        self.step = Step(kind, name, time.monotonic() + seconds)

    def bury(self, death: str, cells: Collection[NotebookCell]) -> None:
        """Note what the child died of, so that the next one goes round it."""
        step, run = self.step, self.run
        if step.kind == "test" and step.name not in run.dead:
            run.dead[step.name] = Evidence(stage="limit", message=f"your code {death}")
        elif step.kind == "cell":
            cell = next(c for c in cells if str(c.index) == step.name)
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
