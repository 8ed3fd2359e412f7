"""Learners who are simulated: how each one works is stated here, and the coach sees nothing but the events."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from grading import units
from grading.checkers import checkers
from grading.coach.evidence import chance
from grading.events import Attempt, Event, Hint, Marked, Practice, Reveal
from grading.quizzes import MAX_POINTS, bank
from grading.quizzes.sitting import draw

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
PASSED, FAILED = "passed", "failed"
LABS = "phase1/lab1", "phase1/lab2", "phase1/lab3"


@dataclass
class Learner:
    """Someone with a way of working: `passes(skills, now)` is how likely one try at code that needs them passes."""

    seed: int
    passes: Callable[[tuple[str, ...], datetime], float]
    hint_after: int = 3
    """Failed tries before each hint."""
    gives_up: float = 0.0
    """How likely the answer is looked up once all hints are read, after each failed try."""
    answers: Callable[[tuple[str, ...], datetime], float] | None = None
    """How likely a question is known; who does not know it guesses."""
    now: datetime = START
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def do(self, lab: str, confirm: bool = True) -> None:
        """Work through the core of a lab, ten minutes a try, and confirm it."""
        unit = units.find(lab)
        core = [c for c in checkers(unit) if not c.side_quest]
        solved = [c for c in core if self.solve(lab, c)]
        if confirm:
            for checker in solved:
                self.tell(Attempt, unit=lab, context="fresh", **_attempt(checker, PASSED))

    def solve(self, lab: str, checker) -> bool:
        """Try one exercise until it passes, or its answer is shown; which of the two."""
        hints = tries = 0
        while True:
            self.now += timedelta(minutes=10)
            passed = self.rng.random() < self.passes(checker.skills, self.now)
            outcome = PASSED if passed else FAILED
            self.tell(Attempt, unit=lab, context="live", **_attempt(checker, outcome))
            if passed:
                return True
            tries += 1
            if hints < 3 and tries % self.hint_after == 0:
                hints += 1
                self.tell(Hint, unit=lab, exercise=checker.name)
            elif hints == 3 and self.rng.random() < self.gives_up:
                self.tell(Reveal, unit=lab, exercise=checker.name)
                return False

    def sit(self, quiz: str = "phase1/quiz") -> None:
        """Sit a quiz: ten questions, a challenge and a review."""
        unit, known = units.find(quiz), bank.read(units.find(quiz))
        earlier = [e for e in self.events if e.kind == "sitting"]
        sitting = draw(unit, self.rng.randrange(2**31), earlier)
        self.now += timedelta(minutes=30)
        self.events.append(sitting.model_copy(update={"at": self.now}))
        marks = {}
        for question in map(known.question, sitting.questions):
            knows = (self.answers or self.passes)(question.skills, self.now)
            marks[question.id] = float(self.rng.random() < knows + (1 - knows) * chance(question))
        for checker in checkers(unit):
            if checker.name in {sitting.challenge, sitting.review}:
                marks[checker.name] = float(self.rng.random() < self.passes(checker.skills, self.now))
        points = 10 * sum(marks.values()) / len(marks)
        self.tell(Marked, unit=quiz, sitting=sitting.id, points=points, max_points=MAX_POINTS, marks=marks)

    def practise(self, lab: str, exercise: str, outcome: str = PASSED) -> None:
        """One round from the blank stub, with one try."""
        self.tell(Practice, unit=lab, exercise=exercise, round=str(len(self.events)), outcome=outcome, requirements={})

    def wait(self, days: float) -> None:
        """Do something else."""
        self.now += timedelta(days=days)

    def tell(self, kind: type[Event], **facts: object) -> None:
        """One event, now."""
        self.events.append(kind(at=self.now, **facts))


def _attempt(checker, outcome: str) -> dict[str, object]:
    points = checker.points if outcome == PASSED else 0
    return {
        "exercise": checker.name, "checker": checker.digest, "outcome": outcome, "points": points,
        "max_points": checker.points, "seed": 0, "requirements": {"test_it": outcome},
    }  # fmt: skip


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real curriculum: its exercises, their skills, its bank."""
    monkeypatch.delenv("SOLO_CONTENT", raising=False)
    units.all_units.cache_clear()
    yield
    units.all_units.cache_clear()


@pytest.fixture
def strong(real: None) -> Callable[[int], Learner]:
    """Nine tries of ten pass, and no hint is needed."""
    return lambda seed: Learner(seed, passes=lambda skills, now: 0.9)


@pytest.fixture
def guessing(real: None) -> Callable[[int], Learner]:
    """Changes code until it passes, one try in eight; a hint every other try, then looks; guesses every answer."""
    return lambda seed: Learner(
        seed, passes=lambda skills, now: 1 / 8, hint_after=2, gives_up=0.5, answers=lambda skills, now: 0.0
    )


@pytest.fixture
def forgetful(real: None) -> Callable[[int], Learner]:
    """Works well, and knows the half of it twenty days after it was done last."""

    def make(seed: int) -> Learner:
        learner = Learner(seed, passes=lambda skills, now: 0.75)

        def remembers(skills: tuple[str, ...], now: datetime) -> float:
            done = [e.at for e in learner.events if isinstance(e, Attempt)]
            return 0.95 * 0.5 ** ((now - max(done)) / timedelta(days=20))

        learner.answers = remembers
        return learner

    return make


@pytest.fixture
def patchy(real: None) -> Callable[[int], tuple[Learner, set[str]]]:
    """Has every other skill, by chance: seven tries of ten pass with all that are needed, one of ten without."""

    def make(seed: int) -> tuple[Learner, set[str]]:
        every = sorted({s for lab in LABS for c in checkers(units.find(lab)) for s in c.skills})
        has = set(random.Random(seed).sample(every, len(every) // 2))
        knows = lambda skills, now: set(skills) <= has  # noqa: E731
        return Learner(
            seed, passes=lambda skills, now: 0.7 if knows(skills, now) else 0.1, gives_up=0.2,
            answers=lambda skills, now: 0.9 * knows(skills, now),
        ), has  # fmt: skip

    return make
