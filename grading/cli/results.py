"""How the result of a run is shown and kept: what `solo check` and `solo watch` share."""

from pathlib import Path

from grading import progress, units
from grading import status as status_of
from grading.cli import show
from grading.report import ExerciseReport, Outcome, Report
from grading.units import Unit

STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.RAISED: "red"}


def exercise(unit_id: str, result: ExerciseReport) -> None:
    """A line for what passed or was not begun, the whole card for the rest."""
    from grading import card

    hint = f"solo hint {unit_id} {{name}}"
    brief = result.outcome in {Outcome.PASSED, Outcome.NOT_ATTEMPTED}
    place = card.place_in(units.find(unit_id))
    first, *rest = (card.headline(result) if brief else card.text(result, hint=hint, place=place)).splitlines()
    show.say(first, style=STYLES.get(result.outcome, ""))
    if rest:
        show.say("\n".join(rest))


def summary(report: Report) -> None:
    """What happened outside the exercises, and one line for the whole run."""
    for problem in report.problems:
        show.say(f"Note: {problem}.")
    passed = sum(e.passed for e in report.path)
    points = f"{report.points:g} of {report.max_points:g} points, " if report.max_points else ""
    show.say(
        f"{report.unit}: {points}{passed} of {len(report.path)} exercises passed in {report.seconds:.1f} s "
        f"(seed {report.seed}).",
        style="bold",
    )


def counts(unit: Unit, notebook: Path) -> bool:
    """Whether results of `notebook` are the learner's: in the unit's own folder stand only starter and solution."""
    return not notebook.resolve().is_relative_to(unit.folder)


def keep(report: Report) -> None:
    """Record a run, and tell of the rank that it earned."""
    show.ranked_up(progress.record(report))


def next_quest() -> None:
    """What to do next, now that the record has grown."""
    show.quest(status_of.derive(progress.load().events))
