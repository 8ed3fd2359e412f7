"""What a practice notebook talks to: its `check` is evidence for the coach, and no points."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grading import units
from grading.notebook import Desk, Message, noted, numbered, quiet
from grading.units import Unit

if TYPE_CHECKING:
    from grading.report import Report


def practice(
    name: str, exercise: str, round_id: str
) -> tuple[Callable[[str], Any], Callable[[str], Any], Callable[[str], Any]]:
    """Bind the calling notebook to one round of practice: its `check`, `hint` and `reveal`.

    Raises `UnitNotFound` for a name that is none.
    """
    bound = units.find(name)
    if "SOLO_FRESH" in os.environ:
        return quiet, quiet, quiet
    desk = PracticeDesk(bound, sys._getframe(1).f_globals, exercise, round_id)
    desk.explain_stubs()
    return desk.check, desk.hint, desk.reveal


class PracticeDesk(Desk):
    """A practice notebook at work. Only its own exercise is recorded."""

    def __init__(self, bound: Unit, namespace: dict[str, Any], exercise: str, round_id: str) -> None:
        super().__init__(bound, namespace)
        self.exercise, self.round_id, self.hints_given = exercise, round_id, 0

    def hint(self, name: str) -> Message:
        """The next of the exercise's hints, counted anew in this notebook."""
        from grading.checkers import checker

        hints = checker(self.unit, name).hints
        told = self.hints_given >= len(hints)
        self.hints_given = min(self.hints_given + 1, len(hints))
        last = (f'That was all. `reveal("{name}")` shows the answer.',) if told else ()
        return self._shown(Message((*numbered(hints[: self.hints_given]), *last)))

    def reveal(self, name: str) -> Message:
        """The answer, after the third hint; it ends the round."""
        from grading.checkers import checker
        from grading.reference import solution_code
        from grading.report import Outcome

        if self.hints_given < len(checker(self.unit, name).hints):
            return self._shown(Message((f'There are hints left: try hint("{name}") first.',)))
        code = solution_code(self.unit, name)
        if code is None:
            return self._shown(Message(("This edition ships without solutions: ask your instructor.",)))
        unrecorded = self._keep(Outcome.NOT_ATTEMPTED, revealed=True)
        return self._shown(Message((*unrecorded, "One way to write it. Read it, close it, and write your own:"), code))

    def _record(self, report: "Report") -> str:
        from grading.report import Outcome

        (result,) = report.exercises
        if result.name != self.exercise:
            return f"This notebook practises `{self.exercise}`, so nothing is recorded."
        if result.outcome is Outcome.NOT_ATTEMPTED:
            return ""
        requirements = {r.id: r.outcome for r in result.requirements}
        mistake = result.cause.mistake if result.cause else None
        unrecorded = self._keep(result.outcome, requirements=requirements, mistake=mistake)
        return " ".join(unrecorded) or "Practice: the coach knows, and your points stay as they are."

    def _keep(self, outcome: str, requirements: dict[str, str] | None = None, **facts: object) -> tuple[str, ...]:
        """Record one event of this round; where that cannot be done, the sentence that says so."""
        from grading.events import Practice

        return noted(
            Practice(
                unit=self.unit.id,
                exercise=self.exercise,
                round=self.round_id,
                outcome=outcome,
                requirements=requirements or {},
                hints=self.hints_given,
                **facts,
            )
        )
