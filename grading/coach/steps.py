"""What to do next, and why, in one sentence each: to practise again, to read, to be asked, to try, to skip.

The rule. A skill is *weak* or *strong* by `grading.coach.skills`, both only on enough evidence.

- **again**: a solved exercise of a lab, `REST` or longer ago, that took `MUCH_HELP` or more (failed tries, hints, known
  mistakes, an answer shown), or of which a skill has faded. Practice from its blank stub takes it off the list.
- **read**: the brief of the lab that first trained a skill which is weak, and was weak before any forgetting.
- **review**: where a quiz was sat before, and it has questions on weak skills that were not drawn yet.
- **quiz**: where every lab of the phase is passed and its quiz is not.
- **try**: the first challenge (`challenges`) of the last unit whose core is passed.
- **skip**: what is left of a lab that is passed, where all evidence says *strong*; and the brief before a lab that was
  not begun, where the same holds, or a placement asked for what it explains and nothing on it ever went wrong.

Each has an urgency in [0, 1], mostly how far mastery is from 1. The most urgent come first, at most `PER_KIND` of a
kind and `MOST` in all, and no skill twice in the same kind. Nobody who has done nothing is told anything.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from grading import status as status_of
from grading import units
from grading.checkers import Checker, checkers
from grading.coach.evidence import Occasion, occasions
from grading.coach.review import Step
from grading.coach.skills import Skill, skills
from grading.coach.words import ago, counted, how_it_went, listed, named, percent, record
from grading.events import Event, Marked, Placement, Sitting
from grading.quizzes import MAX_POINTS, bank
from grading.ranks import PASS
from grading.status import TO_SOLVE, Status, UnitStatus
from grading.units import Unit

MOST, PER_KIND = 5, 2
REST = timedelta(days=3)
"""So long an exercise is left alone after it was solved or practised."""
MUCH_HELP = 4


@dataclass(frozen=True)
class _Known:
    """All that the rules look at."""

    events: tuple[Event, ...]
    now: datetime
    skills: dict[str, Skill]
    status: Status

    @classmethod
    def of(cls, events: Iterable[Event], now: datetime) -> "_Known":
        events = tuple(events)
        return cls(events, now, skills(events, now), status_of.derive(events))

    def passed(self, unit: Unit) -> bool:
        """Whether enough of a unit's core is confirmed."""
        mine = self.status[unit.id]
        return mine.points >= PASS * mine.max_points

    def weakest(self, names: Iterable[str]) -> Skill | None:
        """The skill of `names` that is furthest from mastery, of those that something is known of."""
        return min((self.skills[n] for n in names if n in self.skills), key=lambda s: s.mastery, default=None)

    def all_strong(self, names: Iterable[str]) -> bool:
        """Whether everything that is known of `names` says so, and something is known of at least half of them."""
        names = set(names)
        known = [self.skills[n] for n in names if n in self.skills]
        return bool(names) and 2 * len(known) >= len(names) and all(s.strong for s in known)


@dataclass(frozen=True)
class _Candidate:
    """A step, how urgent it is, and the skill that it is about."""

    urgency: float
    step: Step
    about: str = ""


def next_steps(events: Iterable[Event], now: datetime) -> tuple[Step, ...]:
    """At most five things to do at `now`, the most urgent first, by the rule of this module."""
    known = _Known.of(events, now)
    found = [c for rule in (_again, _read, _review, _quiz, _try, _skip) for c in rule(known)]
    chosen: list[_Candidate] = []
    per_kind: Counter[str] = Counter()
    for candidate in sorted(found, key=lambda c: -c.urgency):
        kind = candidate.step.kind
        told = any(c.about and c.about == candidate.about and c.step.kind == kind for c in chosen)
        if len(chosen) < MOST and per_kind[kind] < PER_KIND and not told:
            chosen.append(candidate)
            per_kind[kind] += 1
    return tuple(c.step for c in chosen)


def challenges(unit: Unit, events: Iterable[Event], now: datetime) -> tuple[Step, ...]:
    """The open side quests of `unit`: first those for what is weak, then for what is very strong, then the others."""
    known = _Known.of(events, now)
    states = {e.name: e.state for e in known.status[unit.id].exercises}
    quests = [c for c in checkers(unit) if c.side_quest and states[c.name] in TO_SOLVE]
    return tuple(_challenge(unit, quest, known) for quest in sorted(quests, key=lambda q: _fit(q, known)))


def _fit(quest: Checker, known: _Known) -> tuple[int, float]:
    """Where a side quest belongs in the list."""
    weakest = known.weakest(quest.skills)
    if weakest and weakest.weak:
        return 0, weakest.mastery
    if known.all_strong(quest.skills):
        return 1, -weakest.mastery
    return 2, 0.0


def _challenge(unit: Unit, quest: Checker, known: _Known) -> Step:
    weakest = known.weakest(quest.skills)
    match _fit(quest, known)[0]:
        case 0:
            why = f"It trains {named([weakest.name])}, {record(weakest, known.now)}."
        case 1:
            why = f"You are sure in {named(quest.skills)} ({percent(weakest.mastery)}), and this asks more of it."
        case _:
            trains = f"It trains {named(quest.skills)}, for" if quest.skills else "It is worth"
            why = f"{trains} {quest.points} XP."
    return Step(kind="try", unit=unit.id, exercise=quest.name, title=quest.title, why=why)


def _again(known: _Known) -> Iterator[_Candidate]:
    latest: dict[tuple[str, str], Occasion] = {}
    for occasion in occasions(known.events):
        if occasion.ended:
            latest[occasion.unit, occasion.name] = occasion
    labs = {unit.id: unit for unit in units.labs()}
    for (unit_id, name), occasion in latest.items():
        weakest = known.weakest(occasion.skills)  # None for an exercise that names no skill
        if unit_id not in labs or known.now - occasion.at < REST or weakest is None:
            continue
        hard = occasion.revealed or occasion.help >= MUCH_HELP
        faded = [known.skills[s] for s in occasion.skills if known.skills[s].faded]
        if not hard and not faded:
            continue
        title = next(c.title for c in checkers(labs[unit_id]) if c.name == name)
        step = Step(kind="again", unit=unit_id, exercise=name, title=title, why=_why_again(occasion, faded, known.now))
        yield _Candidate((1 - weakest.mastery) * (1 if hard else 0.8), step, weakest.name)


def _why_again(occasion: Occasion, faded: list[Skill], now: datetime) -> str:
    alone = [s.name for s in faded if s.last == occasion.at]
    low = [f"{named([s.name])} is down to {percent(s.mastery)}" for s in faded]
    since = f", and nothing has asked for {named(alone)} since" if alone else f", and {low[0]}" if low else ""
    return f"{how_it_went(occasion)}; it is {ago(occasion.at, now)}{since}."


def _read(known: _Known) -> Iterator[_Candidate]:
    taught = briefs()
    for skill in known.skills.values():
        brief = taught.get(skill.name)
        if brief and skill.weak and not skill.faded:
            why = f"It explains {named([skill.name])}, {record(skill, known.now)}."
            step = Step(kind="read", unit=brief.id, title=brief.title, why=why)
            yield _Candidate(0.9 * (1 - skill.mastery), step, brief.id)


def briefs() -> dict[str, Unit]:
    """The brief before the lab that first trains each skill."""
    by_id = {unit.id: unit for unit in units.all_units()}
    found: dict[str, Unit] = {}
    for lab in units.labs():
        brief = by_id.get(lab.id.replace("/lab", "/theory"))
        for skill in (s for c in checkers(lab) for s in c.skills if brief):
            found.setdefault(skill, brief)
    return found


def _review(known: _Known) -> Iterator[_Candidate]:
    for quiz in _quizzes():
        drawn = {q for e in known.events if isinstance(e, Sitting) and e.unit == quiz.id for q in e.questions}
        if not drawn:
            continue
        left = [set(q.skills) for q in bank.read(quiz).questions if q.id not in drawn]
        weak = [s for s in known.skills.values() if s.weak and any(s.name in skills for skills in left)]
        if weak:
            names = [s.name for s in sorted(weak, key=lambda s: s.mastery)]
            count = sum(bool(skills & set(names)) for skills in left)
            questions = f"{counted(count, 'question')} on {named(names)}"
            why = f"A new sitting begins with what was not drawn for you yet, and that has {questions}."
            step = Step(kind="review", unit=quiz.id, title=f"Quiz questions on {named(names)}", why=why)
            yield _Candidate(0.85 * (1 - min(s.mastery for s in weak)), step)


def _quiz(known: _Known) -> Iterator[_Candidate]:
    for quiz in _quizzes():
        labs = [unit for unit in units.labs() if unit.phase == quiz.phase]
        if known.passed(quiz) or not all(map(known.passed, labs)):
            continue
        points = [e.points for e in known.events if isinstance(e, Marked) and e.unit == quiz.id]
        needed = f"{PASS * MAX_POINTS:g} of {MAX_POINTS} points pass"
        if points:
            why = f"Your best sitting has {max(points):g}, {needed}, and a retake draws other questions."
        else:
            why = f"You have passed every lab of {quiz.phase}; {needed}, and what comes after it opens."
        yield _Candidate(0.5, Step(kind="quiz", unit=quiz.id, title=quiz.title, why=why))


def _quizzes() -> list[Unit]:
    return [unit for unit in units.all_units() if unit.kind == "quiz"]


def _try(known: _Known) -> Iterator[_Candidate]:
    begun = [lab for lab in units.labs() if known.status[lab.id].points and known.passed(lab)]
    for lab in reversed(begun):
        for step in challenges(lab, known.events, known.now)[:1]:
            yield _Candidate(0.45, step)
            return


def _skip(known: _Known) -> Iterator[_Candidate]:
    for lab in units.labs():
        mine = known.status[lab.id]
        core = {c.name: c for c in checkers(lab) if not c.side_quest}
        if mine.points and known.passed(lab):
            left = [core[e.name] for e in mine.having("open", "tried")]
            if left and known.all_strong(s for c in left for s in c.skills):
                yield _Candidate(0.4, _skip_rest(lab, mine, left, known))
        elif not any(e.state != "open" for e in mine.exercises):
            yield from _skip_brief(lab, {s for c in core.values() for s in c.skills}, known)


def _skip_rest(lab: Unit, mine: UnitStatus, left: list[Checker], known: _Known) -> Step:
    names = list(dict.fromkeys(s for c in left for s in c.skills))
    sure = known.weakest(names).mastery
    title = listed([c.title for c in left])
    why = (
        f"You have {mine.points:g} of {mine.max_points:g} points in {lab.id} already, "
        f"and you are sure in {named(names)} ({percent(sure)})."
    )
    return Step(kind="skip", unit=lab.id, exercise=left[0].name, title=title, why=why)


def _skip_brief(lab: Unit, trained: set[str], known: _Known) -> Iterator[_Candidate]:
    """The brief of a lab that was not begun."""
    brief = next((u for u in units.all_units() if u.id == lab.id.replace("/lab", "/theory")), None)
    if brief is None or known.status[brief.id].done:
        return
    asked = [o for o in occasions(known.events) if set(o.skills) & trained]
    right = [o for o in asked if o.right and not o.help]
    if asked == right and (about := _placed(brief, known)):
        why = f"Nothing that it prepares for went wrong so far, and the placement asked for {named(about)}."
        yield _Candidate(0.35, Step(kind="skip", unit=brief.id, title=brief.title, why=why))
    elif known.all_strong(trained):
        why = f"What it prepares for went right without help in {len(right)} of {len(asked)} cases."
        yield _Candidate(0.35, Step(kind="skip", unit=brief.id, title=brief.title, why=why))


def _placed(brief: Unit, known: _Known) -> list[str]:
    """The main skills of placement questions that are what `brief` explains."""
    taught, about = briefs(), {}
    for event in known.events:
        quiz = next((u for u in _quizzes() if isinstance(event, Placement) and u.id == event.unit), None)
        for question in bank.read(quiz).questions if quiz else ():
            if question.id in event.marks and taught.get(question.skills[0]) == brief:
                about[question.skills[0]] = None
    return list(about)
