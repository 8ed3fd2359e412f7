"""Why the next quest comes next, and how long it takes."""

from collections.abc import Iterable

from grading import units
from grading.checkers import checker
from grading.coach.words import listed, number
from grading.events import Attempt, Event, Hint
from grading.status import Quest, Status


def why(quest: Quest, status: Status, events: Iterable[Event]) -> str:
    """One sentence on why `quest` comes next."""
    match quest.kind:
        case "read":
            return _why_read(quest)
        case "confirm":
            return "It has passed in your notebook, and what a fresh run confirms counts for your rank."
        case "quiz":
            phase = units.find(quest.unit).phase
            return f"You are through the labs of {phase}, and 70 % open what comes after it."
    return _why_solve(quest, status, list(events))


def duration(quest: Quest, status: Status) -> str | None:
    """`two hours for the whole lab, of which 3 of 8 exercises are solved`; None where the unit does not say."""
    takes = units.find(quest.unit).duration
    if quest.kind == "confirm":
        return "some minutes, and nothing for you to do"
    if not takes or quest.kind != "solve":
        return takes
    path = status[quest.unit].path
    solved = sum(e.state in {"passed_here", "confirmed", "revealed"} for e in path)
    return f"{takes} for all of {quest.unit}, of which {solved} of {len(path)} exercises are behind you"


def _why_read(quest: Quest) -> str:
    lab = next((u for u in units.labs() if u.id == quest.unit.replace("/theory", "/lab")), None)
    return f"It prepares you for “{lab.title}”." if lab else "It is the next brief, and you have not read it yet."


def _why_solve(quest: Quest, status: Status, events: list[Event]) -> str:
    mine = [e for e in events if (getattr(e, "unit", 0), getattr(e, "exercise", 0)) == (quest.unit, quest.exercise)]
    tries = sum(isinstance(e, Attempt) for e in mine)
    path = status[quest.unit].path
    state = next(e.state for e in path if e.name == quest.exercise)
    wanted = checker(units.find(quest.unit), quest.exercise)
    if state == "to_recheck":
        return "Its check has changed since you were judged by it."
    if tries:
        left = len(wanted.hints) - sum(isinstance(e, Hint) for e in mine)
        hints = f", and {number(left)} of its hints {'is' if left == 1 else 'are'} left" if left > 0 else ""
        return f"You have tried it {'once' if tries == 1 else f'{number(tries)} times'}{hints}."
    if wanted.needs:
        return f"It builds on {listed([f'`{name}`' for name in wanted.needs])}."
    if path[0].name == quest.exercise:
        return f"It is where {quest.unit} begins."
    return f"It is the next of {quest.unit} that is open."
