"""A sitting of a quiz: what was drawn for it, how what was handed in is judged, and what is recorded."""

import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from grading import progress
from grading.events import Marked, RankUp, Sitting
from grading.quizzes import MAX_POINTS, POINTS, QUESTIONS, bank
from grading.quizzes.bank import Bank, Drawn
from grading.report import ExerciseReport
from grading.units import Unit

CHALLENGE, REVIEW, LINE = "challenge", "review", "faulty_line"


class QuizError(Exception):
    """A sitting that cannot be begun or handed in; the message says what to do."""


@dataclass(frozen=True)
class Paper:
    """What lies before the learner: one sitting with its questions, its challenge and its review."""

    unit: Unit
    sitting: Sitting

    @property
    def questions(self) -> tuple[Drawn, ...]:
        """The ten questions, in order."""
        known = bank.read(self.unit)
        return tuple(bank.drawn(known.question(q), self.sitting.seed) for q in self.sitting.questions)

    @property
    def review(self) -> bank.Review:
        """The code review."""
        return bank.read(self.unit).review(self.sitting.review)


@dataclass(frozen=True)
class Mark:
    """What one item of a sitting earned, and why."""

    name: str
    title: str
    """What to call it before a learner."""
    points: float
    max_points: float
    why: str
    report: ExerciseReport | None = None

    @property
    def full(self) -> bool:
        """Whether nothing is missing."""
        return self.points >= self.max_points


@dataclass(frozen=True)
class Marks:
    """All of a sitting, judged."""

    items: tuple[Mark, ...] = field(default_factory=tuple)
    rank_up: RankUp | None = None
    """The rank that they earned."""

    @property
    def points(self) -> float:
        """Points of all items."""
        return round(sum(m.points for m in self.items), 2)


def begin(unit: Unit) -> Paper:
    """The sitting that is open, or a new one; a new one draws what has not been drawn yet, as far as there is any."""
    events = progress.load().events
    mine = [e for e in events if isinstance(e, Sitting) and e.unit == unit.id]
    handed_in = {e.sitting for e in events if isinstance(e, Marked)}
    opened = next((s for s in reversed(mine) if s.id not in handed_in), None)
    if opened is not None and _still_there(bank.read(unit), opened):
        return Paper(unit, opened)
    sitting = draw(unit, secrets.randbits(31), mine)
    progress.append(sitting)
    return Paper(unit, sitting)


def find(unit: Unit, sitting_id: str) -> Paper:
    """The paper of a sitting that was begun. Raises `QuizError`."""
    for event in progress.load().events:
        if isinstance(event, Sitting) and event.id == sitting_id:
            return Paper(unit, event)
    raise QuizError(f"Your record knows no such sitting: `solo quiz {unit.phase}` begins one.")


def draw(unit: Unit, seed: int, earlier: list[Sitting]) -> Sitting:
    """A new sitting; items that earlier ones drew come last."""
    known, rng = bank.read(unit), random.Random(seed)
    seen = [item for s in earlier for item in (*s.questions, s.challenge, s.review)]

    def some(items: list[str], count: int) -> list[str]:
        rng.shuffle(items)
        return sorted(items, key=seen.count)[:count]

    return Sitting(
        unit=unit.id,
        seed=seed,
        questions=tuple(some([q.id for q in known.questions], QUESTIONS)),
        challenge=some(list(known.challenges), 1)[0],
        review=some([r.exercise for r in known.reviews], 1)[0],
    )


def hand_in(paper: Paper, answers: Mapping[str, Any], check: Callable[[str], ExerciseReport]) -> tuple[Marks, bool]:
    """Judge and record; whether this was the first time. `answers` has `q1` … and `faulty_line`, `check` runs code.

    A sitting counts once: handed in again it is judged and not recorded. Raises `QuizError` for an empty paper.
    """
    marks = judge(paper, answers, check)
    code_earns = any(mark.points for mark in marks.items if mark.report)
    if not code_earns and not any(map(_written, _given(paper, answers))):
        raise QuizError("There is no answer on the paper yet, so it was not handed in.")
    events = progress.load().events
    first = not any(isinstance(e, Marked) and e.sitting == paper.sitting.id for e in events)
    if first:
        earned = progress.append(
            Marked(
                unit=paper.unit.id,
                sitting=paper.sitting.id,
                points=marks.points,
                max_points=MAX_POINTS,
                marks={m.name: m.points / m.max_points for m in marks.items},
            )
        )
        marks = replace(marks, rank_up=earned)
    return marks, first


def judge(paper: Paper, answers: Mapping[str, Any], check: Callable[[str], ExerciseReport]) -> Marks:
    """What each item earns, in the order of the paper."""
    reports = {CHALLENGE: check(paper.sitting.challenge), REVIEW: check(paper.sitting.review)}
    return Marks((*_questions(paper, _given(paper, answers)), _challenge(reports), *_review(paper, answers, reports)))


def _given(paper: Paper, answers: Mapping[str, Any]) -> list[Any]:
    return [answers.get(f"q{i}") for i in range(1, len(paper.questions) + 1)]


def _questions(paper: Paper, given: list[Any]) -> list[Mark]:
    judged = [(q, q.judge(answer)) for q, answer in zip(paper.questions, given, strict=True)]
    worth = POINTS["question"]
    return [
        Mark(q.question.id, f"Question {i}", worth * right, worth, why) for i, (q, (right, why)) in enumerate(judged, 1)
    ]


def _challenge(reports: Mapping[str, ExerciseReport]) -> Mark:
    report = reports[CHALLENGE]
    worth = POINTS["challenge"]
    return Mark(report.name, "Challenge", worth * report.points / report.max_points, worth, report.title, report)


def _review(paper: Paper, answers: Mapping[str, Any], reports: Mapping[str, ExerciseReport]) -> list[Mark]:
    right = bank.faulty_lines(paper.unit, paper.review)
    named = str(answers.get(LINE)).strip() in map(str, right)
    where = f"Line {' or '.join(map(str, right))}: {' '.join(paper.review.why.split())}"
    report = reports[REVIEW]
    line, fix = POINTS["line"], POINTS["fix"]
    return [
        Mark(f"{report.name}: line", "Review, the line", line * named, line, where),
        Mark(report.name, "Review, the fix", fix * report.points / report.max_points, fix, report.title, report),
    ]


def _written(answer: object) -> bool:
    return answer is not None and str(answer).strip() != ""


def _still_there(known: Bank, sitting: Sitting) -> bool:
    """Whether the bank has not lost an item since this sitting was drawn."""
    items = {q.id for q in known.questions} | set(known.challenges) | {r.exercise for r in known.reviews}
    return {*sitting.questions, sitting.challenge, sitting.review} <= items
