"""What `check("…")` costs beyond the tests it runs, for every exercise of a unit. The first call is told apart.

python benchmarks/check_overhead.py [UNIT] [--rounds N]
"""

import os
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from grading.checkers import checkers
from grading.learner_notebook import new_module, read_notebook, run_cells
from grading.notebook import Desk
from grading.units import Unit, find


def main(unit: Annotated[str, typer.Argument()] = "phase1/lab1", rounds: int = 15) -> None:
    """Print, per exercise, the median milliseconds of the tests, of the whole check, and of the difference."""
    bound = find(unit)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SOLO_PROGRESS"] = f"{scratch}/progress.json"
        measure(bound, Desk(bound, solved(bound, Path(scratch))), rounds)


def measure(unit: Unit, desk: Desk, rounds: int) -> None:
    """Check every exercise `rounds` times, recording included, and print the table."""
    first, _ = one_check(desk, checkers(unit)[0].name)
    table = Table(
        "exercise", "tests (ms)", "check (ms)", "overhead (ms)", title=f"check() on {unit.id}, {rounds} rounds"
    )
    overheads = []
    for checker in checkers(unit):
        totals, tests = zip(*(one_check(desk, checker.name) for _ in range(rounds)), strict=True)
        extra = [total - test for total, test in zip(totals, tests, strict=True)]
        overheads += extra
        table.add_row(checker.name, *(f"{1000 * statistics.median(column):.1f}" for column in (tests, totals, extra)))
    Console().print(table)
    print(f"median overhead {1000 * statistics.median(overheads):.1f} ms; the first check took {1000 * first:.0f} ms")


def solved(unit: Unit, scratch: Path) -> dict[str, Any]:
    """The namespace that the definitions of a unit's solution leave behind."""
    cells = [cell for cell in read_notebook(unit.solution) if not cell.check and not cell.demo]
    module = new_module(scratch, cells)
    run_cells(cells, module)
    return module.__dict__


def one_check(desk: Desk, exercise: str) -> tuple[float, float]:
    """Seconds of a whole check, and of its tests alone."""
    start = time.perf_counter()
    with redirect_stdout(StringIO()):
        score = desk.check(exercise)
    total = time.perf_counter() - start
    return total, sum(requirement.seconds for requirement in score.exercise.requirements)


if __name__ == "__main__":
    typer.run(main)
