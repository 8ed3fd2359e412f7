"""What a record says about skills: one `Occasion` for each exercise worked on, each practice round, each quiz question.

Events name exercises only; the skills that those train stand in their checkers and in the bank of the quiz.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from grading import units
from grading.checkers import Checker, checkers
from grading.events import Attempt, Event, Hint, Marked, Placement, Practice, Reveal
from grading.quizzes import bank
from grading.report import Outcome
from grading.units import Unit

TRIED = frozenset({Outcome.PASSED, Outcome.FAILED, Outcome.RAISED})


@dataclass
class Occasion:
    """One time that skills were asked for, and how it went.

    An exercise is one occasion from its first try until it passes or its answer is shown. What is checked later is the
    same code again, and no evidence; a practice round from the blank stub is an occasion of its own.
    """

    unit: str
    name: str
    skills: tuple[str, ...]
    at: datetime
    """When it ended, or was last worked on."""
    right: bool = False
    failed: int = 0
    """Tries that failed. A fresh run that fails as the try before did is none: it ran the same code again."""
    hints: int = 0
    mistakes: set[str] = field(default_factory=set)
    """Known mistakes that were recognised."""
    revealed: bool = False
    confirmed: bool = False
    """Passed in a fresh run, not in a live kernel alone."""
    practice: bool = False
    chance: float | None = None
    """Of a question: the chance to be right by guessing. None: code was written."""
    last_failure: tuple[dict[str, Outcome], str | None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more can come of it."""
        return self.right or self.revealed

    @property
    def help(self) -> int:
        """Failed tries, hints and known mistakes on the way."""
        return self.failed + self.hints + len(self.mistakes)

    @property
    def worked_on(self) -> bool:
        """Whether it says anything: a hint that was read alone does not."""
        return self.ended or self.failed > 0


def occasions(events: Iterable[Event]) -> tuple[Occasion, ...]:
    """Everything in `events` that says something about a skill, in order of time.

    What is no longer on disk, an exercise or a question that was removed, says nothing.
    """
    known = {unit.id: unit for unit in units.all_units() if unit.checkers}
    work: dict[tuple[str, ...], Occasion] = {}
    answered: list[Occasion] = []
    for event in sorted(events, key=lambda e: (e.at, e.id)):
        unit = known.get(getattr(event, "unit", ""))
        if unit is None:
            continue
        if isinstance(event, Marked | Placement):
            answered += _answered(unit, event)
        elif isinstance(event, Attempt | Hint | Reveal | Practice):
            _take(work, unit, event)
    return tuple(sorted([o for o in work.values() if o.worked_on] + answered, key=lambda o: o.at))


def _take(work: dict[tuple[str, ...], Occasion], unit: Unit, event: Attempt | Hint | Reveal | Practice) -> None:
    checker = _checker(unit, event.exercise)
    if checker is None:
        return
    key = unit.id, checker.name, *([event.round] if isinstance(event, Practice) else [])
    occasion = work.setdefault(key, Occasion(unit.id, checker.name, checker.skills, event.at, practice=len(key) > 2))
    if occasion.ended:
        if isinstance(event, Attempt) and event.passed and occasion.right:
            occasion.confirmed |= event.confirms
        return
    occasion.at = event.at
    match event:
        case Hint():
            occasion.hints += 1
        case Reveal():
            occasion.revealed = True
        case _:
            _try(occasion, event)


def _try(occasion: Occasion, event: Attempt | Practice) -> None:
    """Note one try."""
    if isinstance(event, Practice):
        occasion.hints, occasion.revealed = event.hints, event.revealed
    if event.outcome is Outcome.PASSED:
        occasion.right = True
        occasion.confirmed = isinstance(event, Attempt) and event.confirms
    elif event.outcome in TRIED:
        failure = event.requirements, event.mistake
        rerun = isinstance(event, Attempt) and event.confirms and failure == occasion.last_failure
        occasion.failed += not rerun
        occasion.last_failure = failure
        occasion.mistakes |= {event.mistake} - {None}


def _answered(unit: Unit, event: Marked | Placement) -> list[Occasion]:
    """The questions of a sitting or a placement, and the code of a sitting."""
    questions = {q.id: q for q in bank.read(unit).questions}
    found = []
    for name, share in event.marks.items():
        question, checker = questions.get(name), _checker(unit, name)
        if question:
            found.append(Occasion(unit.id, name, question.skills, event.at, share >= 1, chance=chance(question)))
        elif checker:
            found.append(
                Occasion(
                    unit.id, name, checker.skills, event.at, share >= 1, failed=int(share < 1), confirmed=share >= 1
                )
            )
    return found


def chance(question: bank.Question) -> float:
    """How likely a guess is right: one of the choices, one of their combinations, or a number out of the blue."""
    if not question.choices:
        return 0.02
    several = sum(choice.right for choice in question.choices) > 1
    return 1 / (2 ** len(question.choices) - 1 if several else len(question.choices))


def _checker(unit: Unit, exercise: str) -> Checker | None:
    return next((c for c in checkers(unit) if c.name == exercise), None)
