"""All that the dashboard shows, as one model: a pure function of the events and the time."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta

from pydantic import BaseModel, ConfigDict

from grading import plan, ranks, units
from grading import status as status_of
from grading.answers import answers
from grading.checkers import checkers
from grading.coach import guide, page
from grading.coach.review import Step
from grading.coach.skills import Skill, skills
from grading.coach.steps import next_steps
from grading.coach.words import ago
from grading.events import Attempt, Event, Marked, Note, Placement, Practice, RankUp
from grading.report import Outcome
from grading.status import Quest, State, Status, UnitStatus

STATES: dict[State, tuple[str, str]] = {
    "confirmed": ("✓", "confirmed"),
    "passed_here": ("◐", "passed here"),
    "tried": ("✗", "tried"),
    "to_recheck": ("↻", "to re-check"),
    "revealed": ("◇", "revealed"),
    "open": ("○", "open"),
}
"""Of each state of an exercise: its mark, and the word for it."""
MOST_BARS = 84
"""So many days are shown one by one; what reaches further back is summed up by the week."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Rank(_Model):
    """The rank, and what the next one asks for."""

    letter: str
    xp: float
    next: str | None
    needs: str | None
    celebration: str
    """The line for when it has just been earned; empty for the first one."""


class Todo(_Model):
    """Something to do: the next quest, or a step of the coach's."""

    title: str
    unit: str
    why: str
    how: str = ""
    """The command that does it, in backticks."""
    takes: str | None = None


class UnitCard(_Model):
    """One unit on the map; `status` is None while it is only planned."""

    title: str
    status: UnitStatus | None = None
    words: str

    @property
    def done(self) -> bool:
        """Whether nothing is left of it that counts."""
        if self.status is None:
            return False
        path = self.status.path
        return self.status.done or (bool(path) and len(self.status.having("confirmed")) == len(path))

    @property
    def share(self) -> float | None:
        """The confirmed share of its core; None where there are no points."""
        return self.status.points / self.status.max_points if self.status and self.status.max_points else None


class PhaseCard(_Model):
    """One phase on the map."""

    id: str
    title: str
    goal: str
    gate: str | None
    """The quiz that opens it, while it is closed."""
    units: tuple[UnitCard, ...]


class SkillBar(_Model):
    """One skill; shares are in [0, 1]."""

    name: str
    mastery: float
    learned: float
    confidence: float
    words: str


class Bar(_Model):
    """The checks of a day, or of a week that begins with it."""

    start: date
    passed: int
    others: int


class Milestone(_Model):
    """Something that was reached."""

    day: date
    text: str


class Work(_Model):
    """The time line: bars from the first check to today, and what was reached on the way, the latest first."""

    weekly: bool
    bars: tuple[Bar, ...]
    milestones: tuple[Milestone, ...]

    @property
    def highest(self) -> int:
        """The most checks of one bar."""
        return max((bar.passed + bar.others for bar in self.bars), default=0)


class MistakeMade(_Model):
    """A known mistake that was recognised in `checks` checks; `overcome` on the day the exercise passed after it."""

    unit: str
    exercise: str
    message: str
    checks: int
    last: date
    overcome: date | None


class Entry(_Model):
    """A note in the journal."""

    day: date
    unit: str
    title: str
    text: str
    improve: bool


class Dashboard(_Model):
    """The whole page."""

    at: datetime
    rank: Rank
    quest: Todo | None
    steps: tuple[Todo, ...]
    phases: tuple[PhaseCard, ...]
    skills: tuple[SkillBar, ...]
    work: Work
    mistakes: tuple[MistakeMade, ...]
    journal: tuple[Entry, ...]

    def unit(self, unit_id: str) -> UnitStatus | None:
        """The status of one unit that is built."""
        cards = (card.status for phase in self.phases for card in phase.units if card.status)
        return next((status for status in cards if status.id == unit_id), None)


def dashboard(events: Iterable[Event], now: datetime) -> Dashboard:
    """What `events` amount to at `now`, whose time zone decides where a day begins."""
    events = tuple(sorted(events, key=lambda event: (event.at, event.id)))
    status = status_of.derive(events)
    return Dashboard(
        at=now,
        rank=_rank(status),
        quest=_quest(status.next_quest, status, events) if status.next_quest else None,
        steps=tuple(_step(step) for step in next_steps(events, now)),
        phases=tuple(_phases(status, events)),
        skills=tuple(sorted((_skill(s, now) for s in skills(events, now).values()), key=lambda s: -s.mastery)),
        work=_work(events, status, now),
        mistakes=tuple(_mistakes(events, now)),
        journal=tuple(_journal(events, status, now)),
    )


def _rank(status: Status) -> Rank:
    earned = RankUp(rank=status.rank).words if status.rank != ranks.RANKS[0] else ""
    return Rank(
        letter=status.rank, xp=status.xp, next=status.next_rank, needs=status.next_rank_needs, celebration=earned
    )


def _quest(quest: Quest, status: Status, events: tuple[Event, ...]) -> Todo:
    match quest.kind:
        case "read":
            title, how = f"Read “{quest.title}”", f"`solo open {quest.unit}`"
        case "confirm":
            title, how = f"Confirm what passed in “{quest.title}”", f"`solo check {quest.unit}`"
        case "quiz":
            title, how = f"Sit “{quest.title}”", f"`solo quiz {quest.unit.split('/')[0]}`"
        case "solve":
            title, how = quest.title, f"`solo open {quest.unit}`, exercise `{quest.exercise}`"
    return Todo(
        title=title,
        unit=quest.unit,
        why=guide.why(quest, status, events),
        how=how,
        takes=guide.duration(quest, status),
    )


def _step(step: Step) -> Todo:
    return Todo(title=f"{page.LEADS[step.kind]} {step.title}", unit=step.unit, why=step.why, how=page.how(step))


def _phases(status: Status, events: tuple[Event, ...]) -> Iterator[PhaseCard]:
    plans = {phase.id: phase for phase in plan.phases()}
    for phase in units.PHASES:
        built = [unit for unit in units.all_units() if unit.phase == phase]
        planned = plans.get(phase)
        if not built and not planned:
            continue
        names = {unit.name for unit in built}
        coming = [title for name, title in planned.units.items() if name not in names] if planned else []
        yield PhaseCard(
            id=phase,
            title=_phase_title(phase, planned),
            goal=planned.goal if planned else "",
            gate=status_of.gate(events, phase),
            units=(
                *(UnitCard(title=unit.title, status=status[unit.id], words=_state(status[unit.id])) for unit in built),
                *(UnitCard(title=title, words="not built yet") for title in coming),
            ),
        )


def _phase_title(phase: str, planned: plan.Phase | None) -> str:
    """`Phase 1 · Foundations`, `Capstone`."""
    label = phase.replace("phase", "Phase ").capitalize()
    return label if planned is None or planned.title == label else f"{label} · {planned.title}"


def _state(unit: UnitStatus) -> str:
    """Where a unit stands, in a few words."""
    if unit.kind == "theory":
        return "read" if unit.done else "not read yet"
    if unit.kind == "quiz":
        return {"open": "not sat yet", "tried": "not passed yet"}.get(unit.path[0].state, "passed")
    counts = [(len(unit.having(state)), word) for state, (_, word) in STATES.items()]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _skill(skill: Skill, now: datetime) -> SkillBar:
    seen = f"last practised {ago(skill.last, now)}"
    if skill.strong:
        words = f"strong, {seen}"
    elif skill.faded:
        words = f"fading, {seen}"
    elif skill.weak:
        words = f"weak, {seen}"
    else:
        words = seen
    return SkillBar(
        name=skill.name.replace("-", " "),
        mastery=skill.mastery,
        learned=skill.learned,
        confidence=skill.confidence,
        words=words,
    )


def _work(events: tuple[Event, ...], status: Status, now: datetime) -> Work:
    tried = [event for event in events if isinstance(event, Attempt | Practice)]
    first = _day(tried[0], now) if tried else now.date()
    weekly = (now.date() - first).days >= MOST_BARS
    length = timedelta(days=7 if weekly else 1)
    start = first - timedelta(days=first.weekday()) if weekly else first
    counts = Counter(((_day(e, now) - start) // length, e.outcome is Outcome.PASSED) for e in tried)
    places = range((now.date() - start) // length + 1 if tried else 0)
    bars = (Bar(start=start + i * length, passed=counts[i, True], others=counts[i, False]) for i in places)
    reached = sorted(_milestones(events, status, now), key=lambda milestone: milestone.day, reverse=True)
    return Work(weekly=weekly, bars=tuple(bars)[-MOST_BARS:], milestones=tuple(reached))


def _milestones(events: tuple[Event, ...], status: Status, now: datetime) -> Iterator[Milestone]:
    for event in events:
        match event:
            case RankUp():
                yield Milestone(day=_day(event, now), text=f"Rank {event.rank} earned")
            case Marked():
                points = f"{event.points:g} of {event.max_points:g} points"
                yield Milestone(day=_day(event, now), text=f"Quiz of {event.unit.split('/')[0]}: {points}")
            case Placement(opens=str()):
                yield Milestone(day=_day(event, now), text=f"The placement opened {event.opens}")
    confirmed: dict[tuple[str, str], date] = {}
    for event in events:
        if isinstance(event, Attempt) and event.passed and event.confirms:
            confirmed.setdefault((event.unit, event.exercise), _day(event, now))
    for unit in status.units:
        days = [confirmed.get((unit.id, exercise.name)) for exercise in unit.path]
        if days and all(days) and len(unit.having("confirmed")) == len(days):
            yield Milestone(day=max(days), text=f"All of “{unit.title}” confirmed")


def _mistakes(events: tuple[Event, ...], now: datetime) -> list[MistakeMade]:
    """Those that still stand before those that were overcome, and the latest first."""
    met: dict[tuple[str, str, str], list[Attempt | Practice]] = defaultdict(list)
    passed: dict[tuple[str, str], Attempt | Practice] = {}
    for event in events:
        if isinstance(event, Attempt | Practice):
            if event.mistake:
                met[event.unit, event.exercise, event.mistake].append(event)
            if event.outcome is Outcome.PASSED:
                passed[event.unit, event.exercise] = event
    titles, messages = _explained({unit for unit, *_ in met})
    found = []
    for (unit, exercise, name), checks in met.items():
        later = passed.get((unit, exercise))
        found.append(
            MistakeMade(
                unit=unit,
                exercise=titles.get((unit, exercise), exercise),
                message=messages.get((unit, exercise, name), f"`{name}`"),
                checks=len(checks),
                last=_day(checks[-1], now),
                overcome=_day(later, now) if later and later.at > checks[-1].at else None,
            )
        )
    return sorted(found, key=lambda m: (m.overcome is not None, -m.last.toordinal()))


def _explained(wanted: set[str]) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str, str], str]]:
    """The titles of exercises and the messages of mistakes, of the units in `wanted` that are still there."""
    found = [unit for unit in units.all_units() if unit.id in wanted]
    titles = {(unit.id, checker.name): checker.title for unit in found for checker in checkers(unit)}
    messages = {(unit.id, a.exercise, a.name): a.message for unit in found for a in answers(unit)}
    return titles, messages


def _journal(events: tuple[Event, ...], status: Status, now: datetime) -> Iterator[Entry]:
    """The latest note first."""
    titles = {unit.id: unit.title for unit in status.units}
    for event in reversed(events):
        if isinstance(event, Note):
            yield Entry(
                day=_day(event, now),
                unit=event.unit,
                title=titles.get(event.unit, event.unit),
                text=event.text,
                improve=event.improve,
            )


def _day(event: Event, now: datetime) -> date:
    """The day of an event where the learner is."""
    return event.at.astimezone(now.tzinfo).date()
