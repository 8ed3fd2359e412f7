"""Records of made-up learners on the real Phase 1."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from grading import units
from grading.answers import Answer, answers
from grading.checkers import Checker, checkers
from grading.events import Attempt, Context, Done, Event, Hint, Marked, Note, RankUp
from grading.units import Unit

NOTES = (
    "A view shares its storage: what I write into it, I write into the original.",
    "Subtract the maximum before exp(). Always.",
    "zero_grad() before backward(), or gradients of two steps add up.",
    "Broadcasting aligns from the right; (n,) + (n, 1) is (n, n).",
)


@cache
def _mistakes(unit: Unit) -> list[Answer]:
    return [answer for answer in answers(unit) if not answer.right]


def attempt(unit: Unit, checker: Checker, at: datetime, passed: bool, context: Context = "live", **facts) -> Attempt:
    """One check of one exercise."""
    outcome = "passed" if passed else "failed"
    return Attempt(
        at=at, unit=unit.id, exercise=checker.name, checker=checker.digest, outcome=outcome, context=context, seed=0,
        points=checker.points if passed else 0, max_points=checker.points,
        requirements={test.id: outcome for test in checker.tests}, **facts,
    )  # fmt: skip


def passed(unit: Unit, at: datetime) -> list[Attempt]:
    """A whole unit's core, confirmed."""
    return [attempt(unit, c, at, passed=True, context="fresh") for c in checkers(unit) if not c.side_quest]


def history(n_attempts: int, until: datetime, days: int = 60, labs: Sequence[str] = ("lab1", "lab2", "lab3")) -> list:
    """Someone who works through `labs`: tries, known mistakes, hints, notes; `n_attempts` checks in all."""
    rng = random.Random(0)
    work = [(units.find(lab), c) for lab in labs for c in checkers(units.find(lab))]
    known = {unit: _mistakes(unit) for unit, _ in work}
    start, told = until - timedelta(days=days), []
    for n in range(n_attempts):
        at = start + timedelta(days=int(days * (n / n_attempts) ** 1.2), minutes=n % 300)
        unit, checker = work[min(n * (len(work) + 2) // n_attempts, len(work) - 1)]
        wrong = [a.name for a in known[unit] if a.exercise == checker.name]
        right = rng.random() < 0.55
        if not right and wrong and rng.random() < 0.6:
            told.append(attempt(unit, checker, at, passed=False, mistake=rng.choice(wrong)))
        else:
            told.append(attempt(unit, checker, at, right, context=rng.choice(("live", "fresh"))))
        if not right and rng.random() < 0.2:
            told.append(Hint(at=at, unit=unit.id, exercise=checker.name))
        if n % max(n_attempts // 12, 1) == 0:
            told.append(Note(at=at, unit=unit.id, text=NOTES[len(told) % len(NOTES)], improve=rng.random() < 0.3))
    return told


def scholar(now: datetime) -> list[Event]:
    """Someone of rank C in the middle of things, for the pictures."""
    found: list[Event] = history(150, now - timedelta(days=1), days=40, labs=("lab1", "lab2", "lab3", "lab4"))
    found += [Done(at=now - timedelta(days=40 - 9 * n), unit=f"phase1/theory{n}") for n in (1, 2, 3, 4)]
    found += passed(units.find("lab1"), now - timedelta(days=31)) + passed(units.find("lab2"), now - timedelta(days=20))
    found += passed(units.find("lab3"), now - timedelta(days=9))
    quiz = units.find("phase1/quiz")
    found.append(Marked(at=now - timedelta(days=2), unit=quiz.id, sitting="s", points=16, max_points=20, marks={}))
    found.append(RankUp(at=now - timedelta(days=5), rank="D"))
    return sorted(found, key=lambda event: event.at)
