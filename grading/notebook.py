"""What a notebook talks to: `check`, `hint` and `reveal`, bound to one unit by its first cell.

Nothing heavy is imported here: torch loads with the first check, in a kernel that has it already.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from grading import units
from grading.units import Unit

if TYPE_CHECKING:
    from grading.coach.page import Section
    from grading.events import Event
    from grading.report import Context, ExerciseReport, Report


_bound: list[Unit] = []
"""The units that this kernel has bound, the newest last."""


class Score(float):
    """The points of one check: a number to nbgrader (partial credit), a card to a person.

    `repr` is exactly the number: nbgrader gives full marks for an output that it cannot read.
    """

    def __new__(
        cls, exercise: "ExerciseReport", footer: str = "", worth: float | None = None, unit: Unit | None = None
    ) -> "Score":
        """`worth` overrides the points where they count as XP only; `unit` tells the card where answers are written."""
        score = super().__new__(cls, exercise.points if worth is None else worth)
        score.exercise = exercise
        score.footer, score.unit = footer, unit
        return score

    def __repr__(self) -> str:
        return repr(round(float(self), 2))

    def _repr_html_(self) -> str:
        from grading import card

        return card.html(self.exercise, self.footer, place=card.place_in(self.unit))


@dataclass(frozen=True)
class Message:
    """A few paragraphs for the learner, as text or as HTML."""

    paragraphs: tuple[str, ...]
    code: str = ""

    def __repr__(self) -> str:
        return "\n".join((*self.paragraphs, *([self.code] if self.code else [])))

    def _repr_html_(self) -> str:
        from grading.card import inline

        text = "".join(f'<div style="margin:.25em 0">{inline(p)}</div>' for p in self.paragraphs)
        code = f'<pre style="margin:.4em 0">{escape(self.code)}</pre>' if self.code else ""
        return f'<div style="border-left:4px solid #767676;padding:.4em .9em;max-width:60em">{text}{code}</div>'


def unit(name: str) -> tuple[Callable[[str], Any], Callable[[str], Any], Callable[[str], Any]]:
    """Bind the calling notebook to a unit: its `check`, `hint` and `reveal`.

    Raises `UnitNotFound` for a name that is none.
    """
    bound = units.find(name)
    _bound.append(bound)
    if "SOLO_FRESH" in os.environ:
        return quiet, quiet, quiet
    desk = Desk(bound, sys._getframe(1).f_globals)
    desk.explain_stubs()
    return desk.check, desk.hint, desk.reveal


@dataclass(frozen=True)
class Shown:
    """The coach's page of a unit, as text or as HTML."""

    title: str
    sections: "list[Section]"

    def __repr__(self) -> str:
        from grading.coach import page

        return page.plain(self.title, self.sections)

    def _repr_html_(self) -> str:
        from grading.coach import page

        return page.html(self.title, self.sections)


def review(name: str | None = None) -> Shown | Message | None:
    """The coach's last review of a unit: of the one this notebook is bound to, unless another is named.

    In a fresh run and under nbgrader nothing happens. Raises `UnitNotFound` for a name that is none.
    """
    if {"SOLO_FRESH", "NBGRADER_EXECUTION"} & os.environ.keys():
        return None
    from grading import progress
    from grading.coach import page

    about = units.find(name) if name else next(reversed(_bound), None)
    if about is None:
        return Message(('Of which unit? `review("phase1/lab1")` names one.',))
    kept = page.kept(progress.load().events, about.id)
    if kept is None:
        return Message((f"There is no review of {about.id} yet: `solo check {about.id}` in a terminal makes one.",))
    return Shown(*kept)


def mark_as_read(name: str) -> Message:
    """Note that a theory brief has been read."""
    from grading.events import Done

    brief = units.find(name)
    unrecorded = () if "SOLO_FRESH" in os.environ else noted(Done(unit=brief.id))
    return Message(unrecorded or (f"“{brief.title}” is marked as read.",))


def noted(event: "Event") -> tuple[str, ...]:
    """Record `event`; where that cannot be done, the sentence that says so."""
    from grading import progress

    try:
        progress.append(event)
    except progress.ProgressError as error:
        return (f"Not recorded: {error}",)
    return ()


def quiet(name: str, wrong_on_purpose: object = None) -> None:
    """In a fresh run the runner checks, not the notebook."""


class Desk:
    """One notebook at work: its unit and its live namespace."""

    def __init__(self, bound: Unit, namespace: dict[str, Any]) -> None:
        self.unit, self.namespace = bound, namespace

    def check(self, name: str, wrong_on_purpose: object = None) -> Score:
        """Check one exercise against the definitions in this kernel, record it, and show what came of it.

        `wrong_on_purpose` is checked in place of the kernel's own answer, to show what a failure looks like; nothing
        is recorded then.
        """
        from grading import card

        report = self._report(name, wrong_on_purpose)
        footer = self._record(report) if wrong_on_purpose is None else _rehearsal(report[name])
        exercise = report[name]
        score = Score(exercise, footer, worth=0.0 if self._graded and exercise.side_quest else None, unit=self.unit)
        if not _in_kernel():
            print(card.text(exercise, footer, place=card.place_in(self.unit)))
        return score

    def _report(self, name: str, wrong_on_purpose: object) -> "Report":
        """A lab's exercise is judged in the live kernel; a project's milestone afresh, from the files as they are."""
        from grading.runner import new_seed, run

        # A learner's own check repeats the same numbers, so that they can be followed; a grading run chooses new ones.
        seed = new_seed() if self._graded else 0
        if self.unit.kind == "project":
            from grading.fresh import run_fresh

            context: Context = "autograde" if self._graded else "fresh"
            return run_fresh(self.unit, Path.cwd(), name, seed=seed, context=context, find_causes=not self._graded)
        context = "autograde" if self._graded else "live"
        namespace = self.namespace if wrong_on_purpose is None else self._with(name, wrong_on_purpose)
        return run(self.unit, namespace, name, seed=seed, context=context, find_causes=not self._graded)

    def hint(self, name: str) -> Message:
        """The next of the exercise's hints. They cost nothing."""
        from grading import progress
        from grading.checkers import checker

        hints = checker(self.unit, name).hints
        given = progress.hints_given(self.unit.id, name)
        if given >= len(hints):
            return self._shown(Message((*numbered(hints), f'That was all. `reveal("{name}")` shows the answer.')))
        unrecorded = noted(progress.Hint(unit=self.unit.id, exercise=name)) if self._counts else ()
        return self._shown(Message((*numbered(hints[: given + 1]), *unrecorded)))

    def reveal(self, name: str) -> Message:
        """The answer, after the third hint. It is recorded, opens the way, and earns nothing."""
        from grading import progress
        from grading.checkers import checker
        from grading.reference import solution_code

        hints = checker(self.unit, name).hints
        if progress.hints_given(self.unit.id, name) < len(hints):
            return self._shown(Message((f'There are hints left: try hint("{name}") first.',)))
        code = solution_code(self.unit, name)
        if code is None:
            return self._shown(Message(("This edition ships without solutions: ask your instructor.",)))
        unrecorded = noted(progress.Reveal(unit=self.unit.id, exercise=name)) if self._counts else ()
        return self._shown(Message((*unrecorded, "One way to write it. Read it, close it, and write your own:"), code))

    def explain_stubs(self) -> None:
        """Let a demonstration that meets an unwritten exercise print one line instead of a traceback."""
        shell = _shell()
        if shell is None:
            return

        def handler(shell: Any, kind: type, error: Exception, tb: Any, tb_offset: int | None = None) -> list[str]:
            name = self._unwritten(error, tb)
            if name is None:
                shell.showtraceback((kind, error, tb), tb_offset=tb_offset)
            else:
                print(f"`{name}` is not written yet.")
            return []

        shell.set_custom_exc((NotImplementedError, NameError), handler)

    def _unwritten(self, error: Exception, tb: Any) -> str | None:
        """The stub that raised `error`, or the exercise whose cell has left no name behind."""
        if hasattr(error, "stub"):
            return error.stub  # met in another process
        frame = list(walk_tb(tb))[-1][0]
        if frame.f_globals is not self.namespace and not self._in_project(frame.f_code.co_filename):
            return None
        if isinstance(error, NotImplementedError):
            return frame.f_code.co_qualname if frame.f_code.co_name != "<module>" else None
        from grading.reference import exercise_of

        return error.name if error.name in exercise_of(self.unit) else None

    def _in_project(self, file: str) -> bool:
        return self.unit.kind == "project" and Path(file).is_relative_to(Path.cwd())

    def _with(self, exercise: str, answer: object) -> dict[str, Any]:
        """The namespace with `answer` under the name that the exercise's cell defines first."""
        from grading.reference import exercise_of

        defined = next((n for n, owner in exercise_of(self.unit).items() if owner == exercise), exercise)
        return {**self.namespace, defined: answer}

    def _record(self, report: "Report") -> str:
        """Keep the result where it counts; the sentence that tells the learner which case this is."""
        if self._graded:
            return ""
        if not self._counts:
            return f"This is the original notebook, so nothing is recorded. `solo open {self.unit.id}` opens your copy."
        from grading import progress

        try:
            rank_up = progress.record(report)
        except progress.ProgressError as error:
            return f"Not recorded: {error}"
        told = [*([rank_up.words] if rank_up else []), *report.problems, *progress.notices()]
        if report.context == "live" and report.exercises[0].passed:
            told.append(f"Passed here; `solo check {self.unit.id}` confirms it in a fresh process.")
        return " ".join(told)

    @property
    def _counts(self) -> bool:
        """Whether this is the learner's copy: in the unit's own folder stand only the starter and the solution."""
        return not self._graded and not Path.cwd().is_relative_to(self.unit.folder)

    @property
    def _graded(self) -> bool:
        return "NBGRADER_EXECUTION" in os.environ

    def _shown(self, message: Message) -> Message:
        if not _in_kernel() and _shell() is None:
            print(message)
        return message


def _rehearsal(exercise: "ExerciseReport") -> str:
    if exercise.passed:
        return "This answer was to be wrong on purpose, and it passes. Nothing is recorded."
    return "This failure is expected: the answer is wrong on purpose. Nothing is recorded."


def numbered(hints: tuple[str, ...]) -> tuple[str, ...]:
    """`hints` as they are shown."""
    return tuple(f"Hint {i} of 3: {hint}" for i, hint in enumerate(hints, 1))


def _shell() -> Any:
    """The running IPython shell, None in plain Python."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()


def _in_kernel() -> bool:
    """Whether a front end shows HTML."""
    return type(_shell()).__name__ == "ZMQInteractiveShell"
