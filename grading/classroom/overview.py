"""What a class has made of an assignment: marks, exercises by difficulty, mistakes, time, and who is alike."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat

from grading.classroom.books import Books
from grading.classroom.known import Fingerprint, known_mistakes, mistake_of
from grading.classroom.ledger import Entry, Ledger
from grading.classroom.similarity import Pair, similar_pairs
from grading.projects import module_files
from grading.report import ExerciseReport, Outcome
from grading.units import Unit

Known = Mapping[str, dict[Fingerprint, str]]


@dataclass(frozen=True)
class ExerciseOverview:
    """One exercise, over all submissions."""

    name: str
    title: str
    max_points: float
    share: float
    """Mean points, of the maximum."""
    n_passed: int
    n_attempted: int
    requirements: tuple[tuple[str, int], ...]
    """Those that were missed, with how often, the most frequent first."""
    mistakes: tuple[tuple[str, int], ...]
    """Known mistakes, with how many made them."""


@dataclass(frozen=True)
class Overview:
    """All that there is to say of a class."""

    title: str
    entries: tuple[Entry, ...]
    exercises: tuple[ExerciseOverview, ...]
    pairs: tuple[Pair, ...]
    mistakes: Mapping[tuple[str, str], str]
    """By student and exercise."""

    @property
    def marked(self) -> tuple[Entry, ...]:
        """Submissions with marks of their own."""
        return tuple(entry for entry in self.entries if entry.report and not entry.reason)


class OverviewError(RuntimeError):
    """There is nothing to report on; the message says what to do first."""


def overview(books: Books, unit: Unit) -> Overview:
    """Look at all graded submissions of `unit`. Raises `OverviewError` if there are none."""
    entries = tuple(Ledger(books.course, unit.assignment).entries().values())
    reports = {entry.student: entry.report for entry in entries if entry.report}
    if not reports:
        raise OverviewError(
            f"Nothing of {unit.id} is graded in {books.course}: `solo class grade {unit.id}` does that."
        )
    ran = {entry.student: entry.report for entry in entries if entry.report and not entry.reason}
    known = {seed: known_mistakes(unit, seed) for seed in {report.seed for report in ran.values()}}  # one for each run
    mistakes = {
        (student, exercise.name): mistake
        for student, report in ran.items()
        for exercise in report.exercises
        if (mistake := mistake_of(exercise, known[report.seed]))
    }
    names = [exercise.name for exercise in next(iter(reports.values())).exercises]
    exercises = tuple(_exercise(name, {s: r[name] for s, r in reports.items()}, mistakes) for name in names)
    return Overview(unit.title, entries, exercises, tuple(_pairs(books, unit)), mistakes)


def _exercise(
    name: str, reports: Mapping[str, ExerciseReport], mistakes: Mapping[tuple[str, str], str]
) -> ExerciseOverview:
    one = next(iter(reports.values()))
    missed = Counter(r.text for e in reports.values() for r in e.requirements if r.evidence and _attempted(e))
    made = Counter(mistakes[student, name] for student in reports if (student, name) in mistakes)
    return ExerciseOverview(
        name=name,
        title=one.title,
        max_points=one.max_points,
        share=sum(e.points for e in reports.values()) / (one.max_points * len(reports)),
        n_passed=sum(e.passed for e in reports.values()),
        n_attempted=sum(map(_attempted, reports.values())),
        requirements=tuple(missed.most_common()),
        mistakes=tuple(made.most_common()),
    )


def _attempted(exercise: ExerciseReport) -> bool:
    return exercise.outcome is not Outcome.NOT_ATTEMPTED


def _pairs(books: Books, unit: Unit) -> Iterable[Pair]:
    code = {}
    for student, folder in books.submissions(unit.assignment).items():
        try:
            code[student] = _code(unit, folder)
        except Exception:  # what cannot be read is told by the grading
            continue
    return similar_pairs(code, _code(unit, books.folder("release", ".", unit.assignment)))


def _code(unit: Unit, folder: Path) -> str:
    """All code in a submission's folder, or in the release's."""
    if unit.kind == "project":
        return "\n".join((folder / file.path).read_text(encoding="utf-8") for file in module_files(unit, folder))
    notebook = nbformat.read(folder / f"{unit.assignment}.ipynb", as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def write_csv(seen: Overview, path: Path) -> None:
    """One line for each student and exercise."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["student", "exercise", "points", "of", "outcome", "known mistake", "seconds"])
        for entry in seen.entries:
            for exercise in entry.report.exercises if entry.report else ():
                mistake = seen.mistakes.get((entry.student, exercise.name), "")
                seconds = round(sum(r.seconds for r in exercise.requirements), 2)
                row = [entry.student, exercise.name, exercise.points, exercise.max_points, exercise.outcome.value]
                table.writerow([*row, mistake, seconds])
