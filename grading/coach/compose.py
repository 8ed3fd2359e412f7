"""One review of a unit, put together from the coach's parts; a part that fails costs its own section and no more."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from grading import progress
from grading.coach.review import Finding, Part, Review
from grading.events import Reviewed
from grading.learner_notebook import read_notebook, short
from grading.report import Report
from grading.units import Unit

MOST_FINDINGS = 20
"""A review is kept in the record, and nobody mends more at a time."""

PARTS: dict[Part, str] = {
    "code": "reading your code",
    "measured": "measuring what passes beside the reference",
    "challenges": "choosing challenges",
    "steps": "thinking about what is next",
}
"""The parts of a review in order, and what to tell while one is made."""


def review_unit(
    unit: Unit, notebook: Path, report: Report, on_part: Callable[[str], None] = lambda text: None
) -> Review:
    """The review of `notebook` after `report`, a run of all of `unit`'s checkers that is in the record already.

    Of a project, `notebook` is a file in its folder. `on_part` is told in words what is under way.
    """
    made: dict[Part, Sequence] = {}
    omitted: dict[Part, str] = {}
    for part, words in PARTS.items():
        on_part(words)
        try:
            made[part] = tuple(_make(part, unit, notebook, report))
        except Exception as error:  # whatever it is, the other parts are worth having
            omitted[part] = f"This part is missing, because it failed ({type(error).__name__}: {short(error)})."
    findings: Sequence[Finding] = made.get("code", ())
    if len(findings) > MOST_FINDINGS:
        omitted["code"] = f"{len(findings) - MOST_FINDINGS} more are not listed: mend these first."
    speed, architecture, problems = made.get("measured", ((), (), ()))
    if problems:
        omitted["measured"] = f"Not measured: {'; '.join(problems)}."
    return Review(
        unit=unit.id,
        points=report.points,
        max_points=report.max_points,
        findings=findings[:MOST_FINDINGS],
        speed=speed,
        architecture=architecture,
        challenges=made.get("challenges", ()),
        steps=made.get("steps", ()),
        omitted=omitted,
    )


def keep(review: Review) -> None:
    """Add `review` to the record."""
    progress.append(Reviewed(unit=review.unit, review=review))


def _make(part: Part, unit: Unit, notebook: Path, report: Report) -> Sequence:
    """One part; each imports what it needs, for some of that is heavy."""
    passed = [e.name for e in report.exercises if e.passed]
    match part:
        case "code":
            return _read_code(unit, notebook)
        case "measured":
            from grading.coach.measuring import measured_notes

            return measured_notes(unit, notebook, passed)
        case "challenges":
            from grading.coach.steps import challenges

            return challenges(unit, progress.load().events, datetime.now(UTC))
        case "steps":
            from grading.coach.steps import next_steps

            return next_steps(progress.load().events, datetime.now(UTC))


def _read_code(unit: Unit, notebook: Path) -> Sequence[Finding]:
    if unit.kind != "project":
        from grading.coach.code import review_code

        return review_code(unit, read_notebook(notebook))
    from grading.coach.code import review_project

    return review_project(unit, notebook if notebook.is_dir() else notebook.parent)
