"""How the coach puts numbers into sentences."""

from collections.abc import Sequence
from datetime import datetime

from grading.coach.evidence import Occasion
from grading.coach.skills import Skill

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def number(count: int) -> str:
    """`three`, and from 13 on `13`."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def counted(count: int, noun: str) -> str:
    """`one hint`, `three hints`."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def ordinal(count: int) -> str:
    """`sixth`, and from 11 on `11th`."""
    if count <= len(ORDINALS):
        return ORDINALS[count - 1]
    ending = "th" if 10 < count % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def ago(then: datetime, now: datetime) -> str:
    """`today`, `yesterday`, `20 days ago`, by whole days of 24 hours."""
    days = max((now - then).days, 0)
    return ("today", "yesterday")[days] if days < 2 else f"{days} days ago"


def listed(things: Sequence[str], most: int = 3) -> str:
    """`a, b and c`; of more than `most`, the first and how many others."""
    shown = list(things)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def named(skills: Sequence[str]) -> str:
    """Skills as they are read: `training loop and gradients`."""
    return listed([skill.replace("-", " ") for skill in skills])


def percent(share: float) -> str:
    """`94 %`; nothing is ever quite certain."""
    return f"{min(int(100 * share), 99)} %"


def how_it_went(occasion: Occasion) -> str:
    """`You solved it at the sixth try and after three hints`."""
    if occasion.revealed:
        tries = f" after {number(occasion.failed)} failed {'try' if occasion.failed == 1 else 'tries'}"
        return f"Its answer was shown to you{tries if occasion.failed else ''}"
    hints = f" and after {counted(occasion.hints, 'hint')}" if occasion.hints else ""
    return f"You solved it at the {ordinal(occasion.failed + 1)} try{hints}"


def record(skill: Skill, now: datetime) -> str:
    """What the model has seen of a skill: `which went right in 2 of 5 cases, 1 of them without help`."""
    if skill.faded:
        return f"which nothing has asked for it in {counted((now - skill.last).days, 'day')}"
    right = sum(o.right for o in skill.occasions)
    unaided = sum(o.right and not o.help for o in skill.occasions)
    cases = f"{len(skill.occasions)} case{'' if len(skill.occasions) == 1 else 's'}"
    helped = "" if right == unaided else f", {unaided or 'none'} of them without help"
    return f"which went right in {right} of {cases}{helped}"
