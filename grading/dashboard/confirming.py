"""After a save, what passed in the live kernel is confirmed by a fresh run: a helper process of the Jupyter server.

It reads paths of notebooks, one a line, and answers with JSON, one object a line: `checking` is what is under way,
`told` what came of it. It is a process of its own so that the server, which all notebooks talk through, neither waits
nor loads torch; it ends with the server, when there is nothing more to read.
"""

import json
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from grading import progress, units
from grading import status as status_of
from grading.coach.words import listed
from grading.fresh import NotebookError, run_fresh
from grading.learner_notebook import read_notebook
from grading.report import ExerciseReport, Report
from grading.units import Unit
from grading.watch import Superseded


class Saves:
    """The notebooks that were saved and not looked at yet, each once."""

    def __init__(self) -> None:
        self._waiting: dict[Path, None] = {}
        self._ended = False
        self._change = threading.Condition()

    def add(self, notebook: Path) -> None:
        """`notebook` was saved."""
        with self._change:
            self._waiting[notebook] = None
            self._change.notify()

    def end(self) -> None:
        """There will be no more."""
        with self._change:
            self._ended = True
            self._change.notify()

    def next(self) -> Path | None:
        """Wait for a save; None at the end."""
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._ended)
            if self._ended:
                return None
            notebook = next(iter(self._waiting))
            del self._waiting[notebook]
            return notebook

    def overtakes(self, notebook: Path) -> bool:
        """Whether a run of `notebook` is of no use any more."""
        with self._change:
            return self._ended or notebook in self._waiting


class _Done(Exception):
    """All that was asked for is known, and the run need not go on."""


class Confirmer:
    """Runs saved notebooks afresh, for the exercises that have passed in the live kernel only."""

    def __init__(self, saves: Saves, tell: Callable[..., None]) -> None:
        self.saves, self.tell = saves, tell
        self._refuted: dict[Path, tuple[tuple[str, ...], set[str]]] = {}
        """Of each notebook: its code at the last run, and the exercises that did not pass with it."""

    def confirm(self, unit: Unit, notebook: Path) -> None:
        """Confirm what can be, record it, and tell of it; nothing happens where nothing is waiting for it."""
        try:
            code = tuple(cell.source for cell in read_notebook(notebook) if not cell.check and not cell.demo)
            passed = _passed_here(unit)
            waiting = passed - self._known_not_to(notebook, code)
            if not passed:
                self.tell()  # what was told last is of the past
            elif waiting:
                self.tell(checking=f"Confirming {_names(waiting)} in a fresh process.")
                self._run(unit, notebook, code, waiting)
        except Superseded:
            self.tell()  # the next save is on its way
        except (NotebookError, progress.ProgressError, OSError) as error:
            self.tell(told=f"Not confirmed: {error}")

    def _run(self, unit: Unit, notebook: Path, code: tuple[str, ...], waiting: set[str]) -> None:
        confirmed, refuted, seed, ranks = set(), set(), secrets.randbits(31), []

        def take(result: ExerciseReport) -> None:
            if result.name not in waiting:
                return
            (confirmed if result.passed else refuted).add(result.name)
            report = Report(unit=unit.id, context="fresh", seed=seed, exercises=(result,))
            ranks.append(progress.record(report))
            if confirmed | refuted == waiting:
                raise _Done

        def stop_if_saved_again() -> None:
            if self.saves.overtakes(notebook):
                raise Superseded

        with suppress(_Done):
            run_fresh(
                unit, notebook, seed=seed, first=waiting, demos=False, on_exercise=take, on_wait=stop_if_saved_again
            )
        known = self._known_not_to(notebook, code)
        self._refuted[notebook] = code, known | refuted
        self.tell(told=_outcome(confirmed, refuted), rank_up=next((rank.words for rank in ranks if rank), None))

    def _known_not_to(self, notebook: Path, code: tuple[str, ...]) -> set[str]:
        """The exercises that did not pass with this very code, which would only fail again."""
        before, refuted = self._refuted.get(notebook, ((), set()))
        return refuted if before == code else set()


def _passed_here(unit: Unit) -> set[str]:
    now = status_of.derive(progress.load().events)[unit.id]
    return {exercise.name for exercise in now.exercises if exercise.state == "passed_here"}


def _outcome(confirmed: set[str], refuted: set[str]) -> str:
    told = []
    if confirmed:
        told.append(f"Confirmed: {_names(confirmed)}.")
    if refuted:
        told.append(
            f"{_names(refuted)} passed in your kernel and not in a fresh process: is something used that no cell "
            "defines any more? `solo check` tells what fails."
        )
    return " ".join(told)


def _names(exercises: set[str]) -> str:
    return listed([f"`{name}`" for name in sorted(exercises)])


def main() -> None:
    """Read saves and answer, until there is nothing more to read."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's business, and we end with it
    saves = Saves()
    threading.Thread(target=_read, args=(saves,), daemon=True).start()
    confirmer = Confirmer(saves, _tell)
    while notebook := saves.next():
        unit = next((lab for lab in units.labs() if lab.workspace_notebook == notebook), None)
        if unit:
            confirmer.confirm(unit, notebook)


def _read(saves: Saves) -> None:
    for line in sys.stdin:
        saves.add(Path(line.rstrip("\n")))
    saves.end()


def _tell(checking: str | None = None, told: str | None = None, rank_up: str | None = None) -> None:
    print(json.dumps({"checking": checking, "told": " ".join(filter(None, [rank_up, told]))}), flush=True)


if __name__ == "__main__":
    main()
