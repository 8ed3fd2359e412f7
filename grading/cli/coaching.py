"""`solo review`: what the coach said of a unit; and how a check tells of it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from grading import progress, units
from grading.cli import show
from grading.coach import page
from grading.coach.iterate import compare, reviews
from grading.events import Reviewed
from grading.report import Outcome, Report
from grading.units import Unit

REVIEWED_KINDS = frozenset({"lab", "project"})
UnitName = Annotated[str | None, typer.Argument(metavar="[UNIT]", help="The last one reviewed without it.")]


def review(unit: UnitName = None) -> None:
    """Show what the coach said of a unit after its last whole check, beside what it said before."""
    events = progress.load().events
    wanted = units.find(unit) if unit else _last_reviewed()
    kept = page.kept(events, wanted.id)
    if kept is None:
        raise show.Refused(f"There is no review of {wanted.id} yet: `solo check {wanted.id}` makes one.")
    show.console.print(page.terminal(*kept))


def _last_reviewed() -> Unit:
    known = {unit.id: unit for unit in units.all_units()}
    found = [e.unit for e in progress.load().events if isinstance(e, Reviewed) and e.unit in known]
    if not found:
        raise show.Refused("There is no review yet: `solo check UNIT` makes one.")
    return known[found[-1]]


def after_check(unit: Unit, notebook: Path, report: Report) -> None:
    """Review a unit that was checked as a whole, keep it, and tell the most important of it."""
    if unit.kind not in REVIEWED_KINDS or all(e.outcome is Outcome.NOT_ATTEMPTED for e in report.exercises):
        return
    from grading.coach.compose import keep, review_unit

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=show.console, transient=True) as spinner:
        task = spinner.add_task("reviewing")
        made = review_unit(unit, notebook, report, lambda words: spinner.update(task, description=words))
    earlier = reviews(progress.load().events, unit.id)
    keep(made)
    shown = page.brief(made, compare(earlier[-1], made) if earlier else None)
    if shown:
        show.console.print(page.terminal("", shown))
    show.say()
    show.say(f"`solo review {unit.id}` shows the whole review, and so does `review()` in the notebook.")
