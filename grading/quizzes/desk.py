"""What a quiz's notebooks talk to: `quiz` begins a sitting, `sitting` binds its paper, `hand_in` judges it."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grading import units
from grading.notebook import Message
from grading.quizzes import MAX_POINTS
from grading.ranks import PASS

if TYPE_CHECKING:
    from grading.quizzes.sitting import Marks, Paper
    from grading.report import ExerciseReport


def quiz(name: str) -> Message:
    """Begin a sitting, or go on with the one that is open: says where its notebook is."""
    from grading.quizzes import paper, sitting

    begun = sitting.begin(units.find(name))
    file = paper.ensure(begun)
    shown = file.name if file.parent == Path.cwd() else str(file)
    return Message((f"Your sitting is the notebook `{shown}`. Open it in the file browser on the left.",))


def sitting(name: str, sitting_id: str) -> "Desk":
    """Bind the calling notebook to a sitting that was begun. Raises `QuizError` for one that was not."""
    from grading.quizzes.sitting import find

    return Desk(find(units.find(name), sitting_id), sys._getframe(1).f_globals)


class Desk:
    """A sitting's notebook at work."""

    def __init__(self, paper: "Paper", namespace: dict[str, Any]) -> None:
        self.paper, self.namespace = paper, namespace

    def hand_in(self) -> "Shown | None":
        """Judge what the namespace holds, record it, and show what each answer is worth and why.

        In a fresh run nothing happens: whoever started it hands in. Raises `QuizError` for an empty paper.
        """
        if "SOLO_FRESH" in os.environ:
            return None
        from grading.quizzes.sitting import hand_in
        from grading.runner import new_seed, run

        seed = new_seed()

        def check(exercise: str) -> "ExerciseReport":
            return run(self.paper.unit, self.namespace, exercise, seed=seed)[exercise]

        return Shown(*hand_in(self.paper, self.namespace, check))


class Shown:
    """The marks of a sitting, as text or as HTML."""

    def __init__(self, marks: "Marks", first: bool) -> None:
        self.marks, self.first = marks, first

    def __repr__(self) -> str:
        from grading import card

        return "\n".join([*self._lines(), *(card.text(report, hint=None) for report in self._unsolved())])

    def _repr_html_(self) -> str:
        from grading import card

        head, *rest = self._lines()
        rows = "".join(f'<div style="margin:.3em 0">{card.inline(line)}</div>' for line in rest)
        cards = "".join(card.html(report, hint=None) for report in self._unsolved())
        return f'<div style="max-width:60em;line-height:1.45"><b>{card.inline(head)}</b>{rows}{cards}</div>'

    def _lines(self) -> list[str]:
        """A headline, the rank that was earned, and a line for each item."""
        share = self.marks.points / MAX_POINTS
        verdict = "passed" if share >= PASS else f"{PASS:.0%} pass, and a retake draws other questions"
        again = "" if self.first else " It was handed in before, so this does not count again."
        head = f"{self.marks.points:g} of {MAX_POINTS} points ({share:.0%}): {verdict}.{again}"
        items = (
            f"{'✓' if m.full else '✗'} {m.title} · {m.points:g} of {m.max_points:g}. {m.why}" for m in self.marks.items
        )
        celebrated = [self.marks.rank_up.words] if self.marks.rank_up else []
        return [head, *celebrated, *(item.strip() for item in items)]

    def _unsolved(self) -> "list[ExerciseReport]":
        return [m.report for m in self.marks.items if m.report and not m.full]
