"""What a newcomer knows already: a few questions of a phase's bank, spread over what it teaches. It never locks."""

import random
from collections import Counter
from collections.abc import Mapping

from grading import units
from grading.coach.steps import briefs
from grading.events import Placement
from grading.quizzes import bank
from grading.quizzes.bank import Drawn
from grading.ranks import PASS
from grading.units import Unit

QUESTIONS = 6


def draw(quiz: Unit, seed: int) -> list[Drawn]:
    """`QUESTIONS` questions that have as little in common as can be: other labs, and other skills, first."""
    left = list(bank.read(quiz).questions)
    random.Random(seed).shuffle(left)
    taught, seen, chosen = briefs(), Counter(), []
    while left and len(chosen) < QUESTIONS:
        question = min(left, key=lambda q: (seen[taught.get(q.skills[0])], sum(seen[skill] for skill in q.skills)))
        left.remove(question)
        seen.update([taught.get(question.skills[0]), *question.skills])
        chosen.append(bank.drawn(question, seed))
    return chosen


def judged(quiz: Unit, seed: int, answers: Mapping[str, str]) -> Placement:
    """The placement that `answers`, by question id, amount to. Who passes may begin with the next phase."""
    asked = draw(quiz, seed)
    marks = {q.question.id: float(q.judge(answers.get(q.question.id))[0]) for q in asked}
    passed = sum(marks.values()) >= PASS * len(asked)
    following = list(units.PHASES)[list(units.PHASES).index(quiz.phase) + 1 :]
    return Placement(unit=quiz.id, seed=seed, marks=marks, opens=following[0] if passed and following else None)
