"""`solo review`: what the coach said of a unit; and how a check tells of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from grading import progress, units
from grading.checkers import snake_case
from grading.cli import launch, show
from grading.coach import page
from grading.coach.iterate import compare, reviews
from grading.events import Reviewed
from grading.report import Outcome, Report
from grading.units import Unit

REVIEWED_KINDS = frozenset({"lab", "project"})


def review(
    unit: Annotated[str | None, typer.Argument(metavar="[UNIT]", help="Without it, the last one reviewed.")] = None,
    exercise: Annotated[str | None, typer.Argument(metavar="[EXERCISE]", help="With --again: which one.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="An exercise once more from its blank stub; the coach chooses.")
    ] = False,
    lab: Annotated[bool, typer.Option("--lab/--no-lab", help="Open JupyterLab, or only prepare.")] = True,
) -> None:
    """Show the coach's review of a unit, beside the one before; or practise an exercise again."""
    if again:
        _practise(unit, exercise, lab)
        return
    if exercise:
        raise show.Refused(
            f"A review is of a whole unit; `solo review --again {unit} {exercise}` practises one exercise."
        )
    events = progress.load().events
    wanted = units.find(unit) if unit else _last_reviewed()
    kept = page.kept(events, wanted.id)
    if kept is None:
        raise show.Refused(f"There is no review of {wanted.id} yet: `solo check {wanted.id}` makes one.")
    show.console.print(page.terminal(*kept))


def _practise(unit: str | None, exercise: str | None, lab: bool) -> None:
    """Put a blank stub before the learner: the one that was named, or the one that needs it most."""
    from grading.coach import again

    events = progress.load().events
    if exercise:
        wanted, name = units.find(unit), snake_case(exercise.strip().replace("-", "_"))
    elif unit:
        raise show.Refused(f"Which exercise of {unit}? `solo review --again` alone lets the coach choose.")
    else:
        step = again.choice(events, datetime.now(UTC))
        if step is None:
            raise show.Refused(
                "Nothing needs practice now; `solo review --again UNIT EXERCISE` takes any that is solved."
            )
        wanted, name = units.find(step.unit), step.exercise
        show.say(f"{step.title} (`{name}` in {wanted.id}). {step.why}")
    try:
        file, backup = again.prepare(wanted, name, events)
    except LookupError as error:
        raise show.Refused(str(error)) from None
    show.say(f"Your practice notebook: {show.short(file)}. Its check counts as practice, not for points.")
    if backup:
        show.say(f"What was there is in {show.short(backup)}.")
    if lab:
        launch.jupyterlab(file)


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
    quiet = not show.console.is_terminal
    with Progress(*columns, console=show.console, transient=True, disable=quiet) as spinner:
        task = spinner.add_task("reviewing")
        made = review_unit(unit, notebook, report, lambda words: spinner.update(task, description=words))
    earlier = reviews(progress.load().events, unit.id)
    keep(made)
    shown = page.brief(made, compare(earlier[-1], made) if earlier else None)
    if shown:
        show.console.print(page.terminal("", shown))
    show.say()
    show.say(f"`solo review {unit.id}` shows the whole review, and so does `review()` in the notebook.")
