"""Where a learner stands: exercises, XP, rank and the next quest, derived from the events and the units on disk."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from grading import plan, ranks, units
from grading.checkers import Checker, checkers
from grading.events import Attempt, Done, Event, Marked, Note, Placement, RankUp, Reveal
from grading.quizzes import MAX_POINTS
from grading.units import Unit

State = Literal["open", "tried", "passed_here", "confirmed", "revealed", "to_recheck"]
"""`passed_here`: in a live kernel only. `revealed`: its answer was shown before it passed, so it earns nothing.
`to_recheck`: all its results are of an older checker."""

TO_SOLVE: frozenset[State] = frozenset({"open", "tried", "to_recheck"})


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class ExerciseStatus(_Model):
    """One exercise; `points` are the confirmed ones, the best run counts."""

    name: str
    title: str
    state: State
    points: float
    max_points: float
    side_quest: bool


class UnitStatus(_Model):
    """One unit; `done` is what the learner says of it, all else is graded."""

    id: str
    title: str
    kind: str
    done: bool
    exercises: tuple[ExerciseStatus, ...]
    notes: tuple[Note, ...]

    @property
    def core(self) -> tuple[ExerciseStatus, ...]:
        """The exercises that count towards passing."""
        return tuple(e for e in self.exercises if not e.side_quest)

    @computed_field
    @property
    def points(self) -> float:
        """Confirmed points of the core."""
        return round(sum(e.points for e in self.core), 2)

    @computed_field
    @property
    def max_points(self) -> float:
        """Points of the core."""
        return sum(e.max_points for e in self.core)

    @computed_field
    @property
    def xp(self) -> float:
        """Confirmed points, side quests included."""
        return round(sum(e.points for e in self.exercises), 2)

    @property
    def path(self) -> tuple[ExerciseStatus, ...]:
        """The exercises that lead through the unit: its core, or all of a unit that has none (the orientation)."""
        return self.core or self.exercises

    def having(self, *states: State) -> tuple[ExerciseStatus, ...]:
        """The exercises on the path in one of `states`."""
        return tuple(e for e in self.path if e.state in states)


class Quest(_Model):
    """What to do next: read a brief, solve an exercise, confirm what passed in the kernel, or sit a quiz."""

    kind: Literal["read", "solve", "confirm", "quiz"]
    unit: str
    title: str
    exercise: str | None = None


class Status(_Model):
    """Everything that is derived from `progress.json`."""

    rank: str
    next_rank: str | None
    next_rank_needs: str | None
    xp: float
    next_quest: Quest | None
    units: tuple[UnitStatus, ...]

    def __getitem__(self, unit_id: str) -> UnitStatus:
        """The unit called `unit_id`."""
        return next(unit for unit in self.units if unit.id == unit_id)


def derive(events: Iterable[Event]) -> Status:
    """The status that `events` amount to, for the units that are on disk now."""
    events = sorted(events, key=lambda event: (event.at, event.id))
    of_unit: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        of_unit[getattr(event, "unit", "")].append(event)
    found = tuple(_unit(unit, of_unit[unit.id]) for unit in units.all_units())
    rank = _rank(found, events)
    following = ranks.after(rank)
    return Status(
        rank=rank,
        next_rank=following,
        next_rank_needs=ranks.REQUIREMENTS.get(following),
        xp=round(sum(unit.xp for unit in found), 2),
        next_quest=_next_quest(found),
        units=found,
    )


def gate(events: Iterable[Event], phase: str) -> str | None:
    """The quiz that must be passed before `phase` opens; None where it is open, be it by a placement."""
    events = tuple(events)
    if any(isinstance(event, Placement) and event.opens == phase for event in events):
        return None
    order = list(units.PHASES)
    before = order[order.index(phase) - 1] if order.index(phase) else None
    return next((u.id for u in derive(events).units if u.id == f"{before}/quiz" and u.having(*TO_SOLVE)), None)


def _unit(unit: Unit, events: list[Event]) -> UnitStatus:
    return UnitStatus(
        id=unit.id,
        title=unit.title,
        kind=unit.kind,
        done=any(isinstance(event, Done) for event in events),
        exercises=_sitting(events) if unit.kind == "quiz" else tuple(_exercise(c, events) for c in checkers(unit)),
        notes=tuple(event for event in events if isinstance(event, Note)),
    )


def _sitting(events: list[Event]) -> tuple[ExerciseStatus]:
    """A quiz as one exercise: its best sitting counts, and 70 % pass."""
    points = [event.points for event in events if isinstance(event, Marked)]
    best = max(points, default=0.0)
    passed = best >= ranks.PASS * MAX_POINTS
    state: State = "confirmed" if passed else "tried" if points else "open"
    return (
        ExerciseStatus(
            name="sitting", title="A sitting", state=state, points=best, max_points=MAX_POINTS, side_quest=False
        ),
    )


def _exercise(checker: Checker, events: list[Event]) -> ExerciseStatus:
    tries = [e for e in events if isinstance(e, Attempt) and e.exercise == checker.name]
    shown_at = min((e.at for e in events if isinstance(e, Reveal) and e.exercise == checker.name), default=None)
    # A learner who had passed before looking has earned it, and may confirm or re-check it afterwards.
    spoilt = shown_at is not None and not any(e.passed and e.at < shown_at for e in tries)
    current = [e for e in tries if e.checker == checker.digest]
    counted = [e for e in current if not spoilt or e.at < shown_at]
    if any(e.passed and e.confirms for e in counted):
        state = "confirmed"
    elif any(e.passed for e in counted):
        state = "passed_here"
    elif spoilt:
        state = "revealed"
    elif current:
        state = "tried"
    else:
        state = "to_recheck" if tries else "open"
    return ExerciseStatus(
        name=checker.name,
        title=checker.title,
        state=state,
        points=max((e.points for e in counted if e.confirms), default=0.0),
        max_points=checker.points,
        side_quest=checker.side_quest,
    )


def _rank(found: tuple[UnitStatus, ...], events: list[Event]) -> str:
    rank = ranks.rank(_shares(found))
    for event in events:
        if isinstance(event, RankUp):
            rank = ranks.higher(rank, event.rank)
    return rank


def _shares(found: tuple[UnitStatus, ...]) -> dict[str, dict[str, float]]:
    """Each planned unit's confirmed share of its points; a built unit that has none (orientation) is left out."""
    built = {(unit.phase, unit.name): status for unit, status in zip(units.all_units(), found, strict=True)}
    shares: dict[str, dict[str, float]] = {}
    for phase in plan.phases():
        known = {name: built.get((phase.id, name)) for name in phase.units}
        shares[phase.id] = {
            name: unit.points / unit.max_points if unit else 0.0
            for name, unit in known.items()
            if unit is None or unit.max_points
        }
    return shares


def _next_quest(found: tuple[UnitStatus, ...]) -> Quest | None:
    """The first thing that is left to do, in curriculum order; side quests are never in the way."""
    begun = max((i for i, unit in enumerate(found) if any(e.state != "open" for e in unit.exercises)), default=-1)
    for i, unit in enumerate(found):
        if not unit.max_points and i < begun:
            continue  # who is past a brief, or the orientation, is not sent back
        if unit.kind == "theory":
            if not unit.done:
                return Quest(kind="read", unit=unit.id, title=unit.title)
        elif not (to_solve := unit.having(*TO_SOLVE)):
            if unit.having("passed_here"):
                return Quest(kind="confirm", unit=unit.id, title=unit.title)
        elif unit.kind == "quiz":
            return Quest(kind="quiz", unit=unit.id, title=unit.title)
        else:
            return Quest(kind="solve", unit=unit.id, title=to_solve[0].title, exercise=to_solve[0].name)
    return None
