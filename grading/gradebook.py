"""From nbgrader's gradebook to learners' records."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from nbgrader.api import Grade, Gradebook, MissingEntry, SubmittedNotebook

from grading import progress, units
from grading.checkers import checkers
from grading.events import Event
from grading.report import Outcome
from grading.source import read_source
from grading.units import Unit

NO_RESPONSE = "No response."  # nbgrader's comment on a solution cell that is as it was released


class GradebookError(LookupError):
    """The gradebook does not have what was asked for."""


def write_grades(
    course: Path, assignment: str, out: Path, db_url: str | None = None
) -> Iterator[tuple[str, float, Path]]:
    """Add the marks of `assignment` to `out/STUDENT/progress.json`; each student, total points and path.

    `db_url` is where the gradebook is if it is not the course's own file. An exercise that was not touched leaves no
    mark, and marks that the record has already are not added again. Side quests and written answers are left out:
    nbgrader has no points for the former, no checker judges the latter.
    """
    unit = units.find(assignment)
    database = course / "gradebook.db"
    if db_url is None and not database.exists():
        raise GradebookError(f"There is no gradebook in {course}: run `nbgrader autograde {assignment}` there first.")
    with Gradebook(db_url or f"sqlite:///{database.resolve()}") as gradebook:
        try:
            submissions = gradebook.assignment_submissions(assignment)
        except MissingEntry:
            raise GradebookError(f"The gradebook of {course} has no assignment {assignment!r}.") from None
        for submission in submissions:
            student = submission.student.id
            graded = course / "autograded" / student / assignment / f"{assignment}.ipynb"
            if not graded.exists():
                continue
            at = datetime.fromtimestamp(graded.stat().st_mtime, UTC)
            path = out / student / "progress.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            known = {event.id for event in progress.load(path).events}
            of_kind = _sitting if unit.kind == "quiz" else _attempts
            key = f"{assignment}/{student}"
            events = [e for n in submission.notebooks for e in of_kind(unit, n, at, key, course)]
            progress.append(*(e for e in events if e.id not in known), path=path)
            yield student, submission.score, path


def _sitting(unit: Unit, notebook: SubmittedNotebook, at: datetime, key: str, course: Path) -> Iterator[Event]:
    """The sitting of the class's paper, and its marks."""
    from grading.classroom.exam import paper_of, recorded

    scores = {grade.name.removeprefix("check-"): grade.score for grade in notebook.grades}
    yield from recorded(paper_of(unit, course), scores, at, key)


def _attempts(unit: Unit, notebook: SubmittedNotebook, at: datetime, key: str, _course: Path) -> Iterator[Event]:
    """One attempt for each core exercise that the student worked on."""
    grades: dict[str, Grade] = {grade.name: grade for grade in notebook.grades}
    untouched = {comment.name for comment in notebook.comments if comment.auto_comment == NO_RESPONSE}
    solution_cell = {cell.name: cell.names[0] for cell in read_source(unit.source) if cell.kind == "solution"}
    for checker in checkers(unit):
        grade = grades.get(f"check-{checker.name}")
        if checker.side_quest or grade is None or solution_cell.get(checker.name) in untouched:
            continue
        if (
            unit.kind == "project" and not grade.score
        ):  # its modules are no cells: whether they were touched is not known
            continue
        if grade.auto_score is None and grade.manual_score is None:  # its check cell is gone: a person must look
            continue
        yield progress.Attempt(
            # The same grade is the same event, however often it is exported: records merge as a union.
            id=uuid5(NAMESPACE_URL, f"{key}/{checker.name}/{at.isoformat()}/{grade.score}").hex,
            at=at,
            unit=unit.id,
            exercise=checker.name,
            checker=checker.digest,
            outcome=Outcome.PASSED if grade.score >= checker.points else Outcome.FAILED,
            points=grade.score,
            max_points=checker.points,
            context="autograde",
            seed=0,  # nbgrader keeps neither the seed nor the single requirements
            requirements={},
        )
