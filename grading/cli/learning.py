"""Commands for working on a unit: start, open, check, hint, reset."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from grading import progress, units
from grading import status as status_of
from grading.checkers import Checker, checker, checkers, snake_case
from grading.cli import coaching, launch, placement, results, show
from grading.cli.record import UnitName
from grading.coach import guide, page
from grading.coach.steps import next_steps
from grading.events import Placement
from grading.report import Report
from grading.status import Status
from grading.units import Unit

ALSO = 2
"""Of the coach's steps, how many the guide tells."""


def start(
    lab: Annotated[bool, typer.Option("--lab/--no-lab", help="Open JupyterLab, or only prepare.")] = True,
) -> None:
    """Go on where you were: your rank, the next quest, why and how long, and its notebook in JupyterLab."""
    if lab:
        placement.offer(progress.load().events)
    events = progress.load().events
    now = status_of.derive(events)
    show.headline(now)
    show.quest(now)
    _guide(now, events)
    wanted = _quest_units(units.find(now.next_quest.unit)) if now.next_quest else []
    for unit in wanted:
        _prepare(unit)
    if lab:
        launch.jupyterlab(wanted[-1].workspace_notebook if wanted else None)


def _guide(now: Status, events: tuple[progress.Event, ...]) -> None:
    """Why the next quest is next, how long it takes, and what else the coach would do."""
    if now.next_quest:
        show.say(f"Why: {guide.why(now.next_quest, now, events)}")
        if takes := guide.duration(now.next_quest, now):
            show.say(f"Time: {takes}.")
    for event in events:
        if isinstance(event, Placement) and event.opens and any(u.phase == event.opens for u in units.all_units()):
            show.say(f"Your placement opened {event.opens}: `solo list` shows it. Ranks ask for what is before it too.")
    for step in next_steps(events, datetime.now(UTC))[:ALSO]:
        command = f" {page.how(step)}." if page.how(step) else ""
        show.say(f"Also: {page.LEADS[step.kind]} {step.title}. {step.why}{command}")


def _quest_units(quest: Unit) -> list[Unit]:
    """What the next quest needs on the desk; a brief comes with its lab, where the first exercise is."""
    everything = units.all_units()
    following = everything[everything.index(quest) + 1 :]
    lab = next((unit for unit in following if unit.kind == "lab" and unit.phase == quest.phase), None)
    return [quest, lab] if quest.kind == "theory" and lab else [quest]


def open_unit(
    unit: UnitName,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also in a phase that is not open yet.")] = False,
) -> None:
    """Open a unit in JupyterLab: your copy, which is made if there is none."""
    wanted = units.find(unit)
    gate = status_of.gate(progress.load().events, wanted.phase)
    if gate and not anyway:
        raise show.Refused(f"{wanted.phase} opens with 70 % in {gate}. `--anyway` opens {wanted.id} all the same.")
    _prepare(wanted)
    launch.jupyterlab(wanted.workspace_notebook)


def check(
    unit: UnitName,
    exercise: Annotated[str | None, typer.Option(help="Check this one only.")] = None,
    seed: Annotated[int | None, typer.Option(help="Repeat a run; chosen anew without it.")] = None,
    notebook: Annotated[Path | None, typer.Option(help="Another notebook than your copy.")] = None,
    review: Annotated[bool, typer.Option("--review/--no-review", help="The coach's review of a whole unit.")] = True,
) -> None:
    """Run your notebook from the top in a fresh process and confirm what passes. Exit code 0 if the core passes."""
    wanted = find_lab(unit)
    only = _exercise(wanted, exercise).name if exercise else None
    path = notebook or (Path(unit) if unit.endswith(".ipynb") else own_copy(wanted))
    report = _run(wanted, path, only, seed)
    for result in report.exercises:
        results.exercise(wanted.id, result)
    results.summary(report)
    if results.counts(wanted, path):
        results.keep(report)
        if review and not only:
            coaching.after_check(wanted, path, report)
        results.next_quest()
    else:
        show.say(f"{show.short(path)} is the repository's own notebook, so this does not count.")
    asked = report.exercises if only else report.path
    raise typer.Exit(0 if all(e.passed for e in asked) else 1)


def hint(
    unit: UnitName, exercise: Annotated[str, typer.Argument(metavar="EXERCISE", help="Its name, as in check(…).")]
) -> None:
    """The next of an exercise's hints. They cost nothing."""
    wanted = find_lab(unit)
    asked = _exercise(wanted, exercise)
    given = progress.hints_given(wanted.id, asked.name)
    for number, text in enumerate(asked.hints[: given + 1], 1):
        show.say(f"Hint {number} of {len(asked.hints)}: {text}")
    if given < len(asked.hints):
        progress.append(progress.Hint(unit=wanted.id, exercise=asked.name))
    else:
        show.say(f'That was all. reveal("{asked.name}") in the notebook shows the answer, which then earns nothing.')


def reset(
    unit: UnitName,
    exercise: Annotated[str | None, typer.Option(help="Reset the cell of this exercise only.")] = None,
) -> None:
    """Start a notebook, or one exercise in it, over. What you had is kept as a dated backup."""
    from grading import workspace

    wanted = units.find(unit)
    if exercise:
        name = _exercise(wanted, exercise).name
        backup = workspace.reset_exercise(wanted, name)
        show.say(f"`{name}` is a blank stub again.")
    else:
        backup = workspace.reset(wanted)
        show.say(f"{show.short(wanted.workspace_notebook)} is as it was at the beginning.")
    if backup:
        show.say(f"What you had is in {show.short(backup)}.")
        show.say("If it is open in JupyterLab: File → Reload Notebook from Disk.")


def update(
    unit: Annotated[str | None, typer.Argument(metavar="[UNIT]", help="A unit; all your copies without one.")] = None,
) -> None:
    """Bring your copies up to date with units that have changed. Your answers and your own cells stay."""
    from grading import update as updating

    wanted = [units.find(unit)] if unit else [u for u in units.all_units() if u.workspace_notebook.exists()]
    for one in wanted:
        done = updating.update(one)
        if done is None:
            show.say(f"{one.id} is up to date.")
            continue
        show.say(f"{one.id} is up to date now: {show.short(done.diff)} says what has changed.")
        for note in done.notes:
            show.say(f"  {note}")
        show.say(f"  What you had is in {show.short(done.backup)}.")
    if not wanted:
        show.say("You have no copies yet: `solo start` makes the first.")


def _prepare(unit: Unit) -> None:
    from grading import update as updating
    from grading import workspace

    made = workspace.ensure(unit)
    show.say(f"Your copy: {show.short(unit.workspace_notebook)}{' (new)' if made else ''}")
    if not made and updating.is_due(unit):
        show.say(f"{unit.id} has changed since: `solo update {unit.id}` brings your copy up to date, your work stays.")


def find_lab(name: str) -> Unit:
    """The unit that `name` means, if it has exercises to check."""
    unit = units.find(name)
    if not checkers(unit):
        raise show.Refused(f"{unit.id} has no exercises to check; `solo done {unit.id}` marks it as read.")
    return unit


def own_copy(unit: Unit) -> Path:
    """The learner's copy of `unit`, which must have been made."""
    if not unit.workspace_notebook.exists():
        raise show.Refused(f"You have no copy of {unit.id} yet: `solo open {unit.id}` makes one.")
    return unit.workspace_notebook


def _exercise(unit: Unit, name: str) -> Checker:
    try:
        return checker(unit, snake_case(name.strip().replace("-", "_")))
    except LookupError as error:
        raise show.Refused(str(error)) from None


def _run(unit: Unit, path: Path, only: str | None, seed: int | None) -> Report:
    from grading.fresh import run_fresh

    if path.exists():
        show.say(_what_is_checked(unit, path))
    with show.console.status("starting a fresh process") as spinner:
        return run_fresh(unit, path, only, seed, on_step=lambda step: spinner.update(escape(step)))


def _what_is_checked(unit: Unit, path: Path) -> str:
    """What is read, and of when: a notebook, or the modules of a project's folder."""
    if unit.kind != "project":
        return f"Checking {show.short(path)} as saved at {datetime.fromtimestamp(path.stat().st_mtime):%H:%M:%S}."
    from grading.projects import saved_at

    folder = path if path.is_dir() else path.parent
    newest = datetime.fromtimestamp(saved_at(unit, folder))
    return f"Checking {show.short(folder)}, whose newest module was saved at {newest:%H:%M:%S}."
