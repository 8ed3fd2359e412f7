"""The first `solo start`: what a newcomer knows already. Only where somebody sits at a terminal."""

import secrets
import sys

import typer
from rich.markdown import Markdown

from grading import progress, units
from grading.cli import show
from grading.coach import placement
from grading.events import Event
from grading.units import Unit


def offer(events: tuple[Event, ...]) -> None:
    """Ask a newcomer, phase by phase, as long as the answers open the next one; Enter alone starts at the beginning."""
    quizzes = [unit for unit in units.all_units() if unit.kind == "quiz"]
    newcomer = not events and not (units.home() / "workspace").exists()
    if not (quizzes and newcomer and sys.stdin.isatty() and sys.stdout.isatty()):
        return
    show.say("Is PyTorch new to you? Then press Enter, and begin at the beginning.")
    show.say(f"If not, {placement.QUESTIONS} short questions show what you may skip. Nothing is locked by them.")
    try:
        for quiz in quizzes:
            wish = typer.prompt(f"y for the questions of {quiz.phase}, Enter to go on", default="", show_default=False)
            if not wish.strip().lower().startswith("y") or not _place(quiz):
                return
    except typer.Abort:
        show.say()


def _place(quiz: Unit) -> bool:
    """Ask, record and tell; whether a later phase is open now."""
    seed, answers = secrets.randbits(31), {}
    asked = placement.draw(quiz, seed)
    for i, drawn in enumerate(asked, 1):
        show.console.print(Markdown(f"### Question {i} of {len(asked)}\n\n{drawn.text}"))
        answers[drawn.question.id] = typer.prompt(
            f"{drawn.asks_for}; Enter if you do not know", default="", show_default=False
        )
    placed = placement.judged(quiz, seed, answers)
    progress.append(placed)
    opened = f"{placed.opens} is open to you." if placed.opens else "Begin here: it is where you will learn most."
    show.say(f"{sum(placed.marks.values()):g} of {len(asked)} are right. {opened}", style="bold")
    return placed.opens is not None
