"""A quiz in a class: one paper for everybody, drawn when it is released, and marked as a sitting is.

The process of a submission runs the code on the paper. Its questions are judged here, from the values that come back.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from nbformat import NotebookNode
from pydantic import ValidationError

from grading.classroom.engine import Result
from grading.events import Marked, Sitting
from grading.files import write_atomically
from grading.quizzes.bank import LETTERS, Drawn, faulty_lines
from grading.quizzes.paper import class_notebook, points
from grading.quizzes.sitting import LINE, Mark, Paper, QuizError, draw, judge
from grading.reference import solution_code
from grading.report import Evidence, ExerciseReport, Outcome, Requirement
from grading.units import Unit

CHECKER = "sitting"
"""In place of a checker's digest, of an item that no checker judges."""


def paper_of(unit: Unit, course: Path) -> Paper:
    """The paper of a class. Raises `QuizError` if none was released."""
    try:
        return Paper(unit, Sitting.model_validate_json(_file(unit, course).read_bytes()))
    except (OSError, ValidationError):
        raise QuizError(f"There is no paper of {unit.id} in {course}: `solo class release` draws one.") from None


def draw_paper(unit: Unit, course: Path) -> Paper:
    """The paper of a class, drawn now unless it has been."""
    file = _file(unit, course)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, draw(unit, secrets.randbits(31), []).model_dump_json())
    return paper_of(unit, course)


def solved(paper: Paper) -> NotebookNode:
    """The paper with every answer right, to see that here it gets full marks."""
    answers = {f"q{i}": _right(question) for i, question in enumerate(paper.questions, 1)}
    answers[LINE] = faulty_lines(paper.unit, paper.review)[0]
    exercises = paper.sitting.challenge, paper.sitting.review
    return class_notebook(paper, answers, {name: solution_code(paper.unit, name) or "" for name in exercises})


def names(paper: Paper) -> tuple[str, ...]:
    """What a submission's answers that are no code are called."""
    return tuple(name for name in points(paper) if name not in {paper.sitting.challenge, paper.sitting.review})


def marked(paper: Paper, result: Result) -> Result:
    """`result` with every item of the paper judged, as exercises of a report."""
    code = {e.name: e for e in result.report.exercises}
    marks = judge(paper, result.values, code.__getitem__)
    exercises = tuple(_exercise(name, mark) for name, mark in zip(points(paper), marks.items, strict=True))
    return replace(result, report=result.report.model_copy(update={"exercises": exercises}))


def recorded(paper: Paper, scores: Mapping[str, float], at: datetime, key: str) -> tuple[Sitting, Marked]:
    """The sitting as a student's record keeps it; `scores` are by names on the paper, and `key` says whose it is."""
    worth, review = points(paper), paper.sitting.review
    kept = [*paper.sitting.questions, paper.sitting.challenge, f"{review}: line", review]
    sitting = paper.sitting.model_copy(update={"id": uuid5(NAMESPACE_URL, key).hex})
    marks = Marked(
        # The same marks are the same event, however often they are exported: records merge as a union.
        id=uuid5(NAMESPACE_URL, f"{key}/{at.isoformat()}/{sorted(scores.items())}").hex,
        at=at,
        unit=paper.unit.id,
        sitting=sitting.id,
        points=round(sum(scores.values()), 2),
        max_points=sum(worth.values()),
        marks={name: scores.get(item, 0.0) / worth[item] for name, item in zip(kept, worth, strict=True)},
    )
    return sitting, marks


def _file(unit: Unit, course: Path) -> Path:
    return course / ".solo" / "sittings" / f"{unit.assignment}.json"


def _right(question: Drawn) -> str | float:
    if not question.choices:
        return question.number
    return "".join(letter for letter, choice in zip(LETTERS, question.choices, strict=False) if choice.right)


def _exercise(name: str, mark: Mark) -> ExerciseReport:
    """An item as an exercise: one that code answers keeps what its checks said, the others say why in a sentence."""
    if mark.report:
        return mark.report.model_copy(
            update={"title": mark.title, "points": mark.points, "max_points": mark.max_points}
        )
    outcome = Outcome.PASSED if mark.full else Outcome.FAILED
    evidence = None if mark.full else Evidence(stage="values", message=mark.why)
    told = Requirement(id=name, text=mark.why if mark.full else "is right", outcome=outcome, evidence=evidence)
    return ExerciseReport(
        name=name,
        title=mark.title,
        outcome=outcome,
        points=mark.points,
        max_points=mark.max_points,
        checker=CHECKER,
        requirements=(told,),
    )
