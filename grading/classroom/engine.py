"""Grading one submission: what there is to run of it in, a report and the cells' outputs out; no gradebooks here."""

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grading.checkers import Checker, checkers
from grading.classroom.channel import FORGED, Line
from grading.classroom.child import Job
from grading.classroom.cold import Cold
from grading.classroom.needs import Needs, needs_of
from grading.classroom.sandbox import Bounds, Layer
from grading.classroom.witness import Witness
from grading.classroom.zygote import Zygote
from grading.follow import Follower, Limits, Listener, Run
from grading.learner_notebook import NotebookCell, NotebookError
from grading.projects import ModuleFile, ProjectError, is_test, missing_modules, module_files
from grading.reference import exercise_of, sources
from grading.report import Evidence, ExerciseReport, Outcome, Report, Requirement, award, overall
from grading.units import LABKIT, PACKAGE, Unit, content_root
from labkit.store import cache as data_cache

MOST_FLAGS = 20
Plain = str | int | float | None
TIME_IS_UP = "the time for the whole submission was used up before this exercise was checked"


class EngineLost(RuntimeError):
    """What was running a submission is gone, by no fault of the submission's: it can be tried again."""


@dataclass(frozen=True)
class Result:
    """What came of one submission."""

    report: Report
    outputs: dict[int, list[dict[str, Any]]]
    """Of the cells that ran, by index."""
    flags: tuple[str, ...] = ()
    """Signs of tampering."""
    work_s: float = 0.0
    """Seconds in cells and in tests: what no engine can save."""
    reason: str | None = None
    """Why it could not be run to its end, if it could not."""
    values: dict[str, Plain] = field(default_factory=dict)
    """Of the names that were asked for."""
    witness: Witness = field(default_factory=Witness)
    """What its checks have compared."""


@dataclass
class _Run(Run):
    outputs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    values: dict[str, Plain] = field(default_factory=dict)
    witness: Witness = field(default_factory=Witness)
    children: int = 0
    """How many have been at it, each going round what has ended the one before."""
    work_s: float = 0.0

    def begin(self) -> None:
        """Begin another stage, in which nothing of the one before is in the way."""
        self.finished = False
        self.skipped_cells.clear()
        self.broken.clear()


@dataclass(frozen=True)
class _Stage:
    """What runs in a process of its own: steps, the exercises that are then checked, and the folder of it all."""

    steps: tuple[NotebookCell | ModuleFile, ...]
    exercises: tuple[str, ...]
    files: Path
    on_reference: bool = False


def children(unit: Unit, layers: Collection[Layer]) -> Zygote | Cold:
    """What an engine starts its children with. It prepares itself, so that it can be had before the engine."""
    return Zygote(unit, layers) if sys.platform == "linux" else Cold()


class Engine:
    """Grades submissions to one unit. Its `grade` may be called from several threads."""

    def __init__(
        self,
        unit: Unit,
        layers: frozenset[Layer],
        limits: Limits | None = None,
        needs: Needs | None = None,
        course: Path | None = None,
        seed: int | None = None,
        only: Collection[str] = (),
        values: Collection[str] = (),
        start: Zygote | Cold | None = None,
    ) -> None:
        """`start` comes from `children`, and is the engine's from now on.

        `course` is kept from submissions, wherever it is, as the units are.

        `only` these exercises are checked, if any are named; of each submission the `values` of these names are told.
        `seed` is that of all checks of one run, a new and secret one unless given: the same numbers for everybody.
        """
        self.unit, self.layers = unit, layers
        self.seed = secrets.randbits(31) if seed is None else seed
        self.needs = needs or needs_of(unit)
        self.limits = limits or Limits()
        self._hidden = tuple(str(path) for path in (content_root(), course) if path)
        self._children = start or children(unit, layers)
        self._owners = exercise_of(unit)
        self.only, self._values = tuple(only), tuple(values)
        self._checkers = _asked(unit, only)
        self._order = _needed_first(self._checkers)

    def __enter__(self) -> "Engine":
        try:
            self._children.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything that runs."""
        self._children.close()

    @property
    def places(self) -> tuple[None]:
        """Where it runs: here."""
        return (None,)

    @property
    def width(self) -> int:
        """How many submissions to have under way."""
        return os.cpu_count() or 1

    def grade(self, cells: list[NotebookCell], files: Path, place: None = None) -> Result:
        """Run and check a submission: its code cells, and the folder of what came with them.

        Of a project the folder is all that counts. `place` is one of `places`.
        """
        start = time.perf_counter()
        run, reason = _Run(), None
        try:
            deadline = time.monotonic() + self.needs.seconds
            with self._stages(run, cells, files) as stages:
                for stage in stages:
                    self._until_finished(run, stage, deadline)
        except (NotebookError, ProjectError) as error:
            reason = str(error)
        report = Report(
            unit=self.unit.id,
            context="class",
            seed=self.seed,
            seconds=round(time.perf_counter() - start, 3),
            exercises=tuple(run.done.get(c.name) or never_checked(c, reason or TIME_IS_UP) for c in self._checkers),
            problems=tuple(dict.fromkeys(run.problems)),
        )
        outputs = {} if self.unit.kind == "project" else run.outputs  # those of modules are no cells'
        flags = tuple(dict.fromkeys(run.flags))
        return Result(report, outputs, flags, round(run.work_s, 3), reason, run.values, run.witness)

    def refused(self, reason: str) -> Result:
        """The result of a submission that there is nothing to run of."""
        return refused(self.unit, self.only, reason)

    @contextmanager
    def _stages(self, run: _Run, cells: list[NotebookCell], files: Path) -> Iterator[list[_Stage]]:
        """What is run one after the other, and nothing of one is in memory in the next."""
        if self.unit.kind != "project":
            yield [_Stage(tuple(c for c in cells if not c.check), tuple(self._order), files)]
            return
        steps = module_files(self.unit, files)
        run.problems += missing_modules(self.unit, files, None)
        judged = {c.name for c in self._checkers if any(map(is_test, c.modules)) and self.unit.solution.exists()}
        package = tuple(step for step in steps if not is_test(step.name))
        with tempfile.TemporaryDirectory(prefix="solo-class-") as scratch:
            stages = [_Stage(package, tuple(n for n in self._order if n not in judged), files)]
            if judged:
                # The reference's package in place of the learner's, whose tests alone meet it.
                right = Path(shutil.copytree(files, Path(scratch, "project")))
                shutil.copytree(self.unit.solution / self.unit.package, right / self.unit.package, dirs_exist_ok=True)
                stages.append(_Stage(tuple(module_files(self.unit, right)), tuple(judged), right, on_reference=True))
            yield stages

    def _until_finished(self, run: _Run, stage: _Stage, deadline: float) -> None:
        """Start children, each going round what has ended the one before, as long as there is time."""
        run.begin()
        while not run.finished and time.monotonic() < deadline:
            with tempfile.TemporaryDirectory(prefix="solo-class-", ignore_cleanup_errors=True) as scratch:
                self._one_child(run, self._job(run, stage, scratch), deadline - time.monotonic())

    def _job(self, run: _Run, stage: _Stage, scratch: str) -> Job:
        return Job(
            unit=self.unit.id,
            cells=tuple(c for c in stage.steps if c.index not in run.skipped_cells),
            exercises=tuple(name for name in stage.exercises if name not in run.done),
            owners=self._owners,
            token=secrets.token_hex(16),
            bounds=self._bounds(scratch, stage.files),
            layers=self.layers,
            dead=run.dead,
            broken=run.broken,
            on_reference=stage.on_reference,
            values=self._values,
        )

    def _one_child(self, run: _Run, job: Job, seconds: float) -> None:
        run.children += 1
        child = self._children.start(job)
        limits = replace(self.limits, memory_mb=self.needs.memory_mb, total_s=seconds)
        follower = _Follower(self.unit, run, limits, self.seed, Line(child.connection, job.token))
        try:
            death = follower.follow(follower.line, child)
        finally:
            child.end()
        if death:
            follower.bury(death, job.cells)

    def _bounds(self, scratch: str, files: Path) -> Bounds:
        return Bounds(
            scratch=scratch,
            readable=tuple(_readable()),
            hidden=self._hidden,
            stand_ins=(str(self.unit.checkers),),  # pytest looks whether they are there; it has read them already
            files=str(files),
            memory_mb=self.needs.memory_mb,
            processes=self.needs.processes,
            disk_mb=self.needs.disk_mb,
        )


def refused(unit: Unit, only: Collection[str], reason: str) -> Result:
    """The result of a submission that there is nothing to run of; `only` as of `Engine`."""
    exercises = tuple(never_checked(c, reason) for c in _asked(unit, only))
    return Result(Report(unit=unit.id, context="class", seed=0, exercises=exercises), {}, reason=reason)


def _asked(unit: Unit, only: Collection[str]) -> tuple[Checker, ...]:
    return tuple(c for c in checkers(unit) if not only or c.name in only)


def _readable() -> list[str]:
    """Our code, but not the units that an installed package carries in it, and the data sets."""
    parts = [str(path) for path in PACKAGE.iterdir() if path.name != "_content"]
    return [*parts, str(LABKIT), str(data_cache())]


class _Follower(Follower):
    """Answers what the child asks, keeps what its cells show, and believes only what can be true."""

    def __init__(self, unit: Unit, run: _Run, limits: Limits, seed: int, line: Line) -> None:
        super().__init__(unit, run, limits, Listener(_nothing, _nothing, _nothing))
        self.unit, self.seed, self.line = unit, seed, line
        self.checkers = {c.name: c for c in checkers(unit)}

    def take(self, kind: str, rest: list) -> None:
        """Act on one message."""
        match kind, rest:
            case "outputs", [int(index), list(outputs), float(seconds)]:
                self.run.outputs[index] = outputs
                self.run.work_s += seconds
            case "flag", [str(text)]:
                self._flag(text)
            case "seed", []:
                self.line.reply(self.seed)
            case "reference", [str(name)]:
                final = name in self.run.done or name in self.run.dead
                self.line.reply(list(sources(self.unit, name).items()) if final else [])
            case "values", [dict(values)]:
                self.run.values |= {name: value for name, value in values.items() if isinstance(value, Plain)}
            case "compared", [int(run), str(exercise), str(test), list(pairs)]:
                self._compared(run, exercise, test, pairs)
            case "done", [str(text)]:
                self._done(text)
            case "cell" | "test" | "exercise" | "problem" | "unable", _:
                super().take(kind, rest)
            case _:
                self._flag("wrote to the grader's line" if kind == FORGED else f"sent an unknown message, {kind[:40]}")

    def _compared(self, run: int, exercise: str, test: str, pairs: list) -> None:
        try:
            self.run.witness.take((self.run.children, run), exercise, test, pairs)
        except (ValueError, TypeError):
            self._flag("sent values that no check has sent")

    def _done(self, text: str) -> None:
        exercise = ExerciseReport.model_validate_json(text)
        checker = self.checkers.get(exercise.name)
        if checker is None or exercise.name in self.run.done:
            self._flag("sent a result that was not asked for")
            return
        self.run.done[exercise.name] = _trusted(exercise, checker)
        self.run.work_s += sum(r.seconds for r in exercise.requirements)

    def _flag(self, text: str) -> None:
        if len(self.run.flags) < MOST_FLAGS:
            self.run.flags.append(text[:500])


def _trusted(exercise: ExerciseReport, checker: Checker) -> ExerciseReport:
    """The child's report with everything that we know ourselves put in anew: title, points, and what was asked."""
    told = {r.id: r for r in exercise.requirements}
    if told.keys() != {t.id for t in checker.tests}:
        return never_checked(checker, "its result was incomplete")
    requirements = tuple(
        told[t.id].model_copy(update={"text": t.text, "guard": t.guard, "slow": t.slow}) for t in checker.tests
    )
    return _exercise(checker, requirements).model_copy(update={"carried": exercise.carried})


def never_checked(checker: Checker, why: str) -> ExerciseReport:
    """The report on an exercise that has no result, for a reason."""
    evidence = Evidence(stage="limit", message=why)
    return _exercise(
        checker,
        tuple(
            Requirement(id=t.id, text=t.text, guard=t.guard, slow=t.slow, outcome=Outcome.RAISED, evidence=evidence)
            for t in checker.tests
        ),
    )


def _exercise(checker: Checker, requirements: tuple[Requirement, ...]) -> ExerciseReport:
    return ExerciseReport(
        name=checker.name,
        title=checker.title,
        outcome=overall(requirements),
        points=award(requirements, checker.points),
        max_points=checker.points,
        side_quest=checker.side_quest,
        checker=checker.digest,
        requirements=requirements,
    )


def _needed_first(known: tuple[Checker, ...]) -> list[str]:
    """The exercises in order, each after those that it needs."""
    by_name = {c.name: c for c in known}
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        for need in by_name[name].needs:
            visit(need)
        order[name] = None

    for checker in known:
        visit(checker.name)
    return list(order)


def _nothing(*_: object) -> None:
    """Nobody listens."""
