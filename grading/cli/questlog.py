"""The quest log: a unit's exercises and where each stands, rank and next quest, kept live below what is printed."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from grading import card, progress
from grading import status as status_of
from grading.cli import results, show
from grading.report import Outcome, Report
from grading.units import Unit


class QuestLog:
    """What a learner has of one unit. Shows what the record says, and of each exercise the result of the last run."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.outcomes: dict[str, Outcome] = {}
        self.status = status_of.derive(progress.load().events)

    def take(self, report: Report) -> None:
        """Note results, which the record has already."""
        self.outcomes |= {result.name: result.outcome for result in report.exercises}
        self.status = status_of.derive(progress.load().events)

    def __rich__(self) -> Group:
        mine = self.status[self.unit.id]
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for exercise in mine.exercises:
            outcome = self.outcomes.get(exercise.name)
            mark = Text(card.MARKS[outcome] if outcome else "", results.STYLES.get(outcome, ""))
            worth = "XP" if exercise.side_quest else "points"
            points = f"{exercise.points:g} / {exercise.max_points:g} {worth}"
            table.add_row(mark, exercise.name, Text(*show.STATES[exercise.state]), points)
        heading = Text.assemble((f"{self.unit.id} ", "bold"), show.bar(mine.points, mine.max_points))
        heading.append(f" {mine.points:g} / {mine.max_points:g}")
        return Group(Text(), heading, table, show.rank_line(self.status), show.quest_line(self.status))


@contextmanager
def live(log: QuestLog) -> Iterator[None]:
    """Keep `log` at the bottom of a terminal, below whatever is printed; anywhere else there is none."""
    if not show.console.is_terminal:
        yield
        return
    with Live(log, console=show.console, refresh_per_second=4):
        yield
