"""How things look in a terminal: bold and four colours that light and dark backgrounds both bear; plain in a pipe."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from grading import plan, progress, units
from grading.events import RankUp
from grading.status import Quest, Status, UnitStatus

BAR_WIDTH = 16
STATES = {
    "confirmed": ("confirmed", "green"),
    "passed_here": ("passed here", "cyan"),
    "tried": ("tried", "red"),
    "to_recheck": ("to re-check", "magenta"),
    "revealed": ("revealed", ""),
    "open": ("open", ""),
}

# A pipe has no width: what reads it wants whole lines.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)


class Refused(Exception):
    """Input that cannot be acted on; the message says what would work."""


def say(text: str | Text = "", style: str = "") -> None:
    """Print a line as it is: no markup, and no line break where a pipe's reader does not expect one."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def short(path: Path) -> str:
    """`path` from the current folder where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def headline(status: Status) -> None:
    """Rank, XP and the way to the next rank; and what was set aside, until it is dealt with."""
    say(rank_line(status))
    if status.next_rank:
        say(f"Next rank, {status.next_rank}: {status.next_rank_needs}.")
    for notice in progress.notices():
        say(notice, style="red")


def rank_line(status: Status) -> Text:
    """Rank and XP."""
    return Text.assemble((f"Rank {status.rank}", "bold magenta"), f" · {status.xp:g} XP")


def ranked_up(rank_up: RankUp | None) -> None:
    """One line for a rank that was just earned."""
    if rank_up:
        say(rank_up.words, style="bold magenta")


def quest(status: Status) -> None:
    """What to do next."""
    say(quest_line(status))


def quest_line(status: Status) -> Text:
    """The next quest."""
    return Text.assemble(("Next quest: ", "bold"), _quest_text(status.next_quest))


def _quest_text(quest: Quest | None) -> str:
    match quest:
        case None:
            return "none. You are through everything that is built; side quests and `solo list` show what is left."
        case Quest(kind="read"):
            return f"read “{quest.title}” ({quest.unit})"
        case Quest(kind="quiz"):
            return f"{quest.title}: `solo quiz {quest.unit.split('/')[0]}` begins a sitting"
        case Quest(kind="confirm"):
            return f"`solo check {quest.unit}` confirms what passed in your notebook"
        case _:
            return f"{quest.title} (`{quest.exercise}` in {quest.unit})"


def overview(status: Status) -> None:
    """A row for each unit: bar, points, and what its exercises are."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for unit in status.units:
        if unit.kind == "theory":
            table.add_row(unit.id, "", "", "read" if unit.done else "not read yet")
        else:
            table.add_row(unit.id, bar(unit.points, unit.max_points), _points(unit), _states(unit))
    console.print(table)


def bar(points: float, max_points: float) -> Text:
    """A bar of confirmed points; full only when all are there."""
    full = int(BAR_WIDTH * points / max_points) if max_points else 0
    return Text.assemble(("█" * full, "green"), "░" * (BAR_WIDTH - full))


def curriculum(status: Status) -> None:
    """Each phase: what it is for, its units that can be opened, and what is coming."""
    plans = {phase.id: phase for phase in plan.phases()}
    for phase in units.PHASES:
        built = [unit for unit in units.all_units() if unit.phase == phase]
        planned = plans.get(phase)
        if not built and not planned:
            continue
        say(_heading(phase, planned), style="bold")
        if planned:
            say(planned.goal)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for unit in built:
            mine = status[unit.id]
            table.add_row(f"  {unit.id}", unit.title, _read(mine) if unit.kind == "theory" else _points(mine))
        if built:
            console.print(table)
        if planned:
            say(f"  {_coming(planned, {unit.name for unit in built})}")
        say()


def _coming(planned: plan.Phase, built: set[str]) -> str:
    if not planned.units:
        return "Not planned in detail yet."
    titles = [title for name, title in planned.units.items() if name not in built]
    return f"Coming: {' · '.join(titles)}" if titles else "All of it is built."


def _heading(phase: str, planned: plan.Phase | None) -> str:
    label = phase.replace("phase", "Phase ").capitalize()
    if planned is None or planned.title == label:
        return label
    return f"{label} · {planned.title}" + (f" (weeks {planned.weeks})" if planned.weeks else "")


def _read(unit: UnitStatus) -> str:
    return "read" if unit.done else ""


def _points(unit: UnitStatus) -> str:
    return f"{unit.points:g} / {unit.max_points:g}"


def _states(unit: UnitStatus) -> Text:
    """`3 confirmed, 1 tried, 4 open · side quests 2 XP · done, you say`."""
    counts = [(len(unit.having(state)), *words) for state, words in STATES.items()]
    text = Text(", ").join(Text(f"{count} {word}", style) for count, word, style in counts if count)
    if unit.xp > unit.points:
        text.append(f" · side quests {unit.xp - unit.points:g} XP")
    if unit.done:
        text.append(" · done, you say")
    return text
