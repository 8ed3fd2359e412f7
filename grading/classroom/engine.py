"""Grading one submission: normalised cells in, a report and the cells' outputs out. It knows nothing of gradebooks."""

import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grading.checkers import Checker, checkers
from grading.classroom.channel import FORGED, Line
from grading.classroom.child import Job
from grading.classroom.cold import Cold
from grading.classroom.needs import Needs, needs_of
from grading.classroom.sandbox import Bounds, Layer
from grading.classroom.zygote import Zygote
from grading.follow import Follower, Limits, Listener, Run
from grading.learner_notebook import NotebookCell, NotebookError
from grading.reference import exercise_of, sources
from grading.report import Evidence, ExerciseReport, Outcome, Report, Requirement, award, overall
from grading.units import PACKAGE, Unit, content_root
from labkit.store import cache as data_cache

MOST_FLAGS = 20
TIME_IS_UP = "the time for the whole submission was used up before this exercise was checked"


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


@dataclass
class _Run(Run):
    outputs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    work_s: float = 0.0


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
    ) -> None:
        """`course` is kept from submissions, wherever it is, as the units are.

        `seed` is that of all checks of one run, a new and secret one unless given: the same numbers for everybody.
        """
        self.unit, self.layers = unit, layers
        self.seed = secrets.randbits(31) if seed is None else seed
        self.needs = needs or needs_of(unit)
        self.limits = limits or Limits()
        self._hidden = tuple(str(path) for path in (content_root(), course) if path)
        self._children = Zygote(unit, layers) if sys.platform == "linux" else Cold()
        self._owners = exercise_of(unit)
        self._checkers = checkers(unit)
        self._order = _needed_first(self._checkers)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything that runs."""
        self._children.close()

    def grade(self, cells: list[NotebookCell], files: Path) -> Result:
        """Run and check a submission: its code cells, and the folder of what came with them."""
        start = time.perf_counter()
        run, reason = _Run(), None
        try:
            self._until_finished(run, [cell for cell in cells if not cell.check], files)
        except NotebookError as error:
            reason = str(error)
        report = Report(
            unit=self.unit.id,
            context="class",
            seed=self.seed,
            seconds=round(time.perf_counter() - start, 3),
            exercises=tuple(run.done.get(c.name) or never_checked(c, reason or TIME_IS_UP) for c in self._checkers),
            problems=tuple(dict.fromkeys(run.problems)),
        )
        return Result(report, run.outputs, tuple(dict.fromkeys(run.flags)), round(run.work_s, 3), reason)

    def refused(self, reason: str) -> Result:
        """The result of a submission that there is nothing to run of."""
        exercises = tuple(never_checked(c, reason) for c in self._checkers)
        return Result(Report(unit=self.unit.id, context="class", seed=0, exercises=exercises), {}, reason=reason)

    def _until_finished(self, run: _Run, cells: list[NotebookCell], files: Path) -> None:
        """Start children, each going round what has ended the one before, as long as there is time."""
        deadline = time.monotonic() + self.needs.seconds
        while not run.finished and time.monotonic() < deadline:
            with tempfile.TemporaryDirectory(prefix="solo-class-", ignore_cleanup_errors=True) as scratch:
                job = self._job(run, cells, files, scratch)
                self._one_child(run, job, deadline - time.monotonic())

    def _job(self, run: _Run, cells: list[NotebookCell], files: Path, scratch: str) -> Job:
        return Job(
            unit=self.unit.id,
            cells=tuple(c for c in cells if c.index not in run.skipped_cells),
            exercises=tuple(name for name in self._order if name not in run.done),
            owners=self._owners,
            token=secrets.token_hex(16),
            bounds=self._bounds(scratch, files),
            layers=self.layers,
            dead=run.dead,
            broken=run.broken,
        )

    def _one_child(self, run: _Run, job: Job, seconds: float) -> None:
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


def _readable() -> list[str]:
    """Our code, but not the units that an installed package carries in it, and the data sets."""
    parts = [str(path) for path in PACKAGE.iterdir() if path.name != "_content"]
    return [*parts, str(PACKAGE.parent / "labkit"), str(data_cache())]


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
                self.line.reply(sources(self.unit, name).get(None) if final else None)
            case "done", [str(text)]:
                self._done(text)
            case "cell" | "test" | "exercise" | "problem" | "unable", _:
                super().take(kind, rest)
            case _:
                self._flag("wrote to the grader's line" if kind == FORGED else f"sent an unknown message, {kind[:40]}")

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
