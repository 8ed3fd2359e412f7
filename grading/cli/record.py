"""Commands about the record: where you are, what there is, what you write down yourself."""

from pathlib import Path
from typing import Annotated

import typer

from grading import progress, units
from grading import status as status_of
from grading.cli import show

UnitName = Annotated[str, typer.Argument(metavar="UNIT", help="A unit: lab1, phase1/lab1, its folder or its notebook.")]


def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Your rank, a bar for each unit, and the next quest."""
    now = status_of.derive(progress.load().events)
    if as_json:
        typer.echo(now.model_dump_json(indent=2))
        return
    show.headline(now)
    show.say()
    show.overview(now)
    show.say()
    show.quest(now)


def list_units() -> None:
    """The curriculum: every unit there is, and what is coming."""
    show.curriculum(status_of.derive(progress.load().events))


def note(
    unit: UnitName,
    text: Annotated[list[str] | None, typer.Argument(help="What you learnt; without it your notes are shown.")] = None,
    improve: Annotated[bool, typer.Option("--improve", help="It is something to improve.")] = False,
) -> None:
    """Write down what you learnt, or what to improve."""
    about = units.find(unit)
    if text:
        progress.append(progress.Note(unit=about.id, text=" ".join(text), improve=improve))
        show.say(f"Noted for {about.id}.")
        return
    notes = status_of.derive(progress.load().events)[about.id].notes
    for written in notes:
        kind = "to improve" if written.improve else "learnt"
        show.say(f"{written.at.astimezone():%Y-%m-%d}  {kind}: {written.text}")
    if not notes:
        show.say(f'No notes on {about.id} yet: `solo note {about.id} "…"` writes one, --improve marks a weak spot.')


def done(unit: UnitName) -> None:
    """Say that a unit is done: a brief is read. Shown apart from what is graded."""
    finished = units.find(unit)
    progress.append(progress.Done(unit=finished.id))
    show.say(f"{finished.id} is marked as {'read' if finished.kind == 'theory' else 'done, on your word'}.")
    show.quest(status_of.derive(progress.load().events))


def merge(file: Annotated[Path, typer.Argument(help="The progress.json of another machine.")]) -> None:
    """Add what another progress.json knows to yours; nothing is lost on either side."""
    new = progress.merge(file)
    show.say(f"{new} new event{'' if new == 1 else 's'} from {file}." if new else f"{file} has nothing new.")
    show.headline(status_of.derive(progress.load().events))
