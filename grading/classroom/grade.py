"""Grading a class: workers execute, this process keeps the books. Nothing that one submission does stops the next."""

import os
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbformat import NotebookNode

from grading.checkers import checkers
from grading.classroom import exam
from grading.classroom.books import CHECK, Books, NotBooked
from grading.classroom.engine import Engine, EngineLost, Result
from grading.classroom.intake import Intake, code_cells, digest_of, stage, take_in
from grading.classroom.ledger import Entry, Ledger, grader_digest
from grading.classroom.sandbox import Layer
from grading.classroom.witness import Measure, Witness, contradictions, measure
from grading.classroom.zygote import Zygote, ZygoteError
from grading.projects import module_path
from grading.units import Unit

if TYPE_CHECKING:
    from grading.classroom.cluster import Cluster
    from grading.classroom.cold import Cold


@dataclass(frozen=True)
class Graded:
    """One submission, executed and not yet in the books."""

    student: str
    intake: Intake | None
    """None if the grader failed before it could be run."""
    result: Result
    staged: Path
    """The folder that nbgrader takes the submissions from."""


@dataclass(frozen=True)
class Change:
    """A mark that a regrading would change."""

    student: str
    cell: str
    before: float | None
    after: float


@dataclass(frozen=True)
class Plan:
    """Who is to be graded, and who is left out because nothing has changed."""

    todo: dict[str, Path]
    done: tuple[str, ...]
    outdated: tuple[str, ...]
    """Of the done, those whose marks were given by other checkers than today's."""


class Classroom:
    """One assignment of one course."""

    def __init__(self, course: Path, unit: Unit) -> None:
        self.unit, self.assignment = unit, unit.assignment
        self.books = Books(course)
        self.ledger = Ledger(self.books.course, self.assignment)
        self.released = self.books.released(self.assignment)
        self._paper = exam.paper_of(unit, self.books.course) if unit.kind == "quiz" else None
        self._grader = grader_digest(unit)
        self._measure: Measure = {}

    def engine(self, layers: frozenset[Layer], seed: int | None = None, start: "Zygote | Cold | None" = None) -> Engine:
        """What executes the submissions to this assignment, here; `start` as of `Engine`."""
        return Engine(self.unit, layers, course=self.books.course, seed=seed, start=start, **self._asked)

    def cluster(self, address: str, seed: int | None = None) -> "Cluster":
        """What executes them on the workers of a Dask scheduler. Raises `ClusterError`."""
        from grading.classroom.cluster import Cluster

        return Cluster(self.unit, address, seed, **self._asked)

    @property
    def _asked(self) -> dict[str, tuple[str, ...]]:
        """What is checked and told of each submission, if it is not the whole unit."""
        if self._paper is None:
            return {}
        sitting = self._paper.sitting
        return {"only": (sitting.challenge, sitting.review), "values": exam.names(self._paper)}

    def plan(self, again: bool = False, only: Collection[str] = ()) -> Plan:
        """What there is to do: what is new or has changed, or `again` everything; `only` these students."""
        known = self.ledger.entries()
        todo, done, outdated = {}, [], []
        for student, folder in self.books.submissions(self.assignment).items():
            if only and student not in only:
                continue
            entry = known.get(student)
            if again or entry is None or entry.submission != digest_of(folder):
                todo[student] = folder
            else:
                done.append(student)
                outdated += [student] if entry.grader != self._grader else []
        return Plan(todo, tuple(done), tuple(outdated))

    def rehearse(self, engine: "Engine | Cluster", scratch: Path) -> str | None:
        """Grade the solution in every place: why it does not get full marks, if it does not. Then nobody would."""
        if not self.unit.solution.exists():
            return None
        if self.unit.kind == "project":
            shutil.copytree(self.unit.solution, scratch, dirs_exist_ok=True)
        notebook = self._solution()
        for place in engine.places:
            result = engine.grade(code_cells(notebook), scratch, place)
            self._measure = measure(result.witness, result.report.exercises)
            report = self._judged(result).report
            if report.points < report.max_points:
                failed = [r.evidence.message for e in report.path for r in e.requirements if r.evidence]
                why = [*report.problems, *failed, "no reason"][0]
                return f"{report.points:g} of {report.max_points:g} points{f' on {place}' if place else ''}; {why}"
        return None

    def _solution(self) -> NotebookNode:
        if self._paper:
            return exam.solved(self._paper)
        path = self.unit.notebook if self.unit.kind == "project" else self.unit.solution
        return nbformat.read(path, as_version=4)

    def _judged(self, result: Result) -> Result:
        """With what its process has only sent to be judged here: the answers of a quiz, and values compared."""
        flags = contradictions(result.report.exercises, result.witness, self._measure)
        judged = replace(result, flags=(*result.flags, *flags), witness=Witness())  # which a class need not keep
        return exam.marked(self._paper, judged) if self._paper else judged

    def run(self, engine: "Engine | Cluster", todo: dict[str, Path], workers: int, scratch: Path) -> Iterator[Graded]:
        """Execute and check submissions, `workers` at a time, in whatever order they end.

        Few wait in line at a time, and none that is done is kept: a large class needs no more memory than a small one.
        """
        to_come, under_way = iter(enumerate(todo.items())), set()
        with ThreadPoolExecutor(workers) as pool:
            try:
                while True:
                    for i, (student, folder) in islice(to_come, 2 * workers - len(under_way)):
                        under_way.add(pool.submit(self._one, engine, student, folder, scratch / str(i)))
                    if not under_way:
                        return
                    done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    while done:
                        yield done.pop().result()
            except BaseException:  # Ctrl-C too: nobody waits for what is under way
                for future in under_way:
                    future.cancel()
                engine.close()
                raise

    def _one(self, engine: "Engine | Cluster", student: str, folder: Path, scratch: Path) -> Graded:
        """Take in, stage, run and check one submission. A failure of ours is told, and tried again next time."""
        place = scratch / student / self.assignment
        try:
            intake = take_in(folder, self.released, self.assignment, notebook_counts=self.unit.kind != "project")
            stage(folder, intake, self.assignment, place)
            self._add_released_files(place)
            if intake.reason:
                result = self._judged(engine.refused(intake.reason))
            else:
                result = self._judged(engine.grade(code_cells(intake.notebook), place))
        except (OSError, EOFError, ZygoteError, EngineLost) as error:
            refused = engine.refused(f"it could not be graded now: {error}")
            return Graded(student, None, self._judged(refused), scratch)
        return Graded(student, intake, result, scratch)

    def _add_released_files(self, place: Path) -> None:
        """What the instructor gave out beside the notebook, in place of the student's copies of it."""
        given = self.books.folder("source", ".", self.assignment)
        own = {str(given / module_path(self.unit, module)) for c in checkers(self.unit) for module in c.modules}

        def left_out(folder: str, names: list[str]) -> list[str]:
            return [n for n in names if n.endswith(".ipynb") or n == "__pycache__" or os.path.join(folder, n) in own]

        shutil.copytree(given, place, ignore=left_out, dirs_exist_ok=True)

    def changes(self, graded: Collection[Graded]) -> list[Change]:
        """The marks that would change if `graded` were written."""
        before = self.books.marks(self.assignment)
        found = []
        for one in (g for g in graded if g.intake):
            for name, after in marks(one).items():
                was = before.get(one.student, {}).get(name)
                if was is None or abs(was - after) > 1e-6:
                    found.append(Change(one.student, name, was, after))
        return found

    def write(self, graded: Graded) -> Entry:
        """Put one submission into nbgrader's gradebook and into the ledger; its entry.

        What could not be run or booked is not put down as done: the next run tries it again.
        """
        reason, intake = graded.result.reason, graded.intake
        booked = False
        try:
            if intake:
                self.books.book(self.assignment, graded.student, graded.staged, graded.result, intake.notes)
                booked = True
        except NotBooked as error:
            reason = f"nbgrader could not take it: {error}"
        finally:
            shutil.rmtree(graded.staged, ignore_errors=True)
        entry = Entry(
            student=graded.student,
            submission=intake.digest if intake else "",
            grader=self._grader,
            report=graded.result.report,
            reason=reason,
            work_s=graded.result.work_s,
            flags=graded.result.flags,
            notes=intake.notes if intake else (),
        )
        if booked:
            self.ledger.write(entry)
        return entry


def marks(graded: Graded) -> dict[str, float]:
    """The marks by graded cell, as they go into the gradebook: core exercises only, nothing for what is flagged."""
    withheld = bool(graded.result.flags)
    core = (e for e in graded.result.report.exercises if not e.side_quest)
    return {f"{CHECK}{e.name}": 0.0 if withheld else e.points for e in core}
