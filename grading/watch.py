"""Watching a notebook: every save is checked afresh, the exercises that were edited first, and only news is told."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from watchfiles import watch

from grading.checkers import checkers
from grading.fresh import run_fresh
from grading.learner_notebook import NotebookCell, NotebookError, read_notebook
from grading.reference import exercise_of
from grading.report import ExerciseReport, Report
from grading.units import Unit

LOOK_EVERY_MS = 1000
"""The system tells of a save at once; a look now and then is for network drives, and folders that were replaced."""


class Superseded(Exception):
    """The notebook was saved again while it was being checked."""


@dataclass(frozen=True)
class Look:
    """The notebook as it was found: the cells that a run executes, or the sentence that says why there are none."""

    stamp: tuple[int, ...] | None
    """Changes with the file, whether it is written in place or replaced; None without a file."""
    cells: tuple[NotebookCell, ...] = ()
    trouble: str | None = None

    @property
    def saved_at(self) -> float:
        """Seconds since the epoch; only of what is there."""
        return self.stamp[0] / 1e9


def looks(notebook: Path) -> Iterator[Look]:
    """The notebook as it is, and again whenever it has changed; without end.

    What is missing or cannot be read may be in the middle of being saved, and is not told before a second look agrees.
    """
    told = last = None
    for _ in _ticks(notebook):
        look = last if last and last.stamp == _stamp(notebook) else _look(notebook)
        if look != told and (look.trouble is None or look == last):
            told = look
            yield look
        last = look


def _ticks(notebook: Path) -> Iterator[object]:
    """At once, after each event around `notebook`, and every second."""
    yield None
    while True:
        with suppress(FileNotFoundError):  # the folder is gone too: look for it as well
            yield from watch(
                notebook.parent,
                watch_filter=lambda change, path: Path(path).name == notebook.name,
                rust_timeout=LOOK_EVERY_MS,
                yield_on_timeout=True,
                recursive=False,
            )
        time.sleep(LOOK_EVERY_MS / 1000)
        yield None


def _look(notebook: Path) -> Look:
    stamp = _stamp(notebook)
    if stamp is None:
        return Look(None, trouble=f"{notebook} is gone: was it renamed or deleted? Waiting for it to come back.")
    try:
        cells = read_notebook(notebook)
    except (NotebookError, OSError) as error:
        return Look(stamp, trouble=f"{error} Waiting for the next save.")
    return Look(stamp, tuple(cell for cell in cells if not cell.check and not cell.demo))


def _stamp(notebook: Path) -> tuple[int, ...] | None:
    try:
        found = notebook.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Watched:
    """What is known of a notebook: of each exercise, what its cells said when it was last checked, and the result."""

    def __init__(self, unit: Unit, notebook: Path) -> None:
        self.unit, self.notebook = unit, notebook
        self._results: dict[str, ExerciseReport] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._checked: tuple[str, ...] | None = None
        """The code of the last run that came to its end."""

    def unchanged(self, look: Look) -> bool:
        """Whether `look` runs the very code that was checked last: outputs, prose or the time alone are new."""
        return _code(look) == self._checked

    def edited(self, look: Look) -> tuple[str, ...]:
        """The exercises whose own cells have changed since they were checked, in order; none before the first run."""
        texts = self._texts_of(look)
        return tuple(name for name, text in self._texts.items() if texts[name] != text)

    def check(
        self,
        look: Look,
        on_news: Callable[[Report], None],
        on_step: Callable[[str], None] | None = None,
    ) -> Report:
        """Check the whole unit, demonstrations left out: first what was edited and what needs it, then the rest.

        `on_news` gets, each in a report of its own, the results that differ from the last ones or are of an edited
        exercise, as soon as they are known.
        Raises `Superseded` if the notebook changes meanwhile, and `NotebookError` as `run_fresh` does.
        """
        edited, texts, seed = self.edited(look), self._texts_of(look), secrets.randbits(31)

        def take(result: ExerciseReport) -> None:
            name = result.name
            news = name in edited or _gist(result) != _gist(self._results.get(name))
            self._results[name], self._texts[name] = result, texts[name]
            if news:
                on_news(Report(unit=self.unit.id, context="fresh", seed=seed, exercises=(result,)))

        report = run_fresh(
            self.unit,
            self.notebook,
            seed=seed,
            on_step=on_step,
            first=self._with_dependents(edited),
            on_exercise=take,
            on_wait=lambda: self._stop_if_changed(look),
            demos=False,
        )
        self._stop_if_changed(look)
        self._checked = _code(look)
        return report

    def _stop_if_changed(self, look: Look) -> None:
        if _stamp(self.notebook) != look.stamp:
            raise Superseded

    def _texts_of(self, look: Look) -> dict[str, tuple[str, ...]]:
        """Of each exercise, the code in its cells."""
        owner = exercise_of(self.unit)
        return {
            checker.name: tuple(cell.source for cell in look.cells if owner.get(cell.grade_id) == checker.name)
            for checker in checkers(self.unit)
        }

    def _with_dependents(self, edited: tuple[str, ...]) -> frozenset[str]:
        """`edited`, and all that need one of them, however indirectly."""
        found = set(edited)
        for checker in checkers(self.unit):  # an exercise comes after those it needs
            if found & set(checker.needs):
                found.add(checker.name)
        return frozenset(found)


def _code(look: Look) -> tuple[str, ...]:
    return tuple(cell.source for cell in look.cells)


def _gist(result: ExerciseReport | None) -> tuple | None:
    """What a learner would call the same result: the numbers in the evidence change with every seed."""
    if result is None:
        return None
    requirements = tuple((r.id, r.outcome, r.evidence and r.evidence.stage) for r in result.requirements)
    return result.outcome, result.points, result.carried, result.cause and result.cause.mistake, requirements
