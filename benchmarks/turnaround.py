"""How long one waits: for a fresh run, a build and the whole tests; each beside its peer in nbgrader, where it has one.

python benchmarks/turnaround.py [UNIT] [--rounds N] [--tests]
"""

import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from grading.build import render
from grading.fresh import run_fresh
from grading.release import nbgrader, release
from grading.units import Unit, find

REPO = Path(__file__).parents[1]


def main(unit: Annotated[str, typer.Argument()] = "phase1/lab1", rounds: int = 3, tests: bool = False) -> None:
    """Print median seconds of ours and of the peer, run in turn, and their ratio; `--tests` adds the whole test run."""
    bound = find(unit)
    table = Table("what", "ours (s)", "peer (s)", "peer ÷ ours", "peer", title=f"{bound.id}, median of {rounds} rounds")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SOLO_PROGRESS"] = f"{scratch}/progress.json"
        course = Path(scratch, "course")
        release(bound, course)
        notebook = Path(shutil.copy(bound.solution, scratch))
        for what, ours, name, peer in (
            ("fresh run, cold", lambda: solo_check(bound, notebook), "nbgrader validate", lambda: validate(notebook)),
            ("fresh run, warm", lambda: run_fresh(bound, notebook), "nbgrader validate", lambda: validate(notebook)),
            ("build", lambda: render(bound), "nbgrader generate_assignment", lambda: assign(bound, course)),
        ):
            row(table, what, ours, name, peer, rounds)
    if tests:
        table.add_row("whole test run, 2 workers", f"{seconds(whole_tests):.0f}", "", "", "")
    Console().print(table)


def row(
    table: Table, what: str, ours: Callable[[], object], name: str, peer: Callable[[], object], rounds: int
) -> None:
    """Time both `rounds` times in turn, after one run of ours that is not counted, and add a row."""
    ours()
    times = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
    mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    table.add_row(what, f"{mine:.2f}", f"{theirs:.2f}", f"{theirs / mine:.1f}", name)


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def solo_check(unit: Unit, notebook: Path) -> None:
    """`solo check` as typed: a new process that finds everything cold."""
    solo = Path(sysconfig.get_path("scripts"), "solo")
    subprocess.run([solo, "check", unit.id, "--notebook", notebook], check=True, capture_output=True)


def validate(notebook: Path) -> None:
    """`nbgrader validate`: runs the notebook in a new kernel and looks for failed checks."""
    run = nbgrader("validate", str(notebook), course=notebook.parent)
    if run.returncode:
        raise RuntimeError(f"nbgrader validate failed: {run.stderr.strip()}")


def assign(unit: Unit, course: Path) -> None:
    """`nbgrader generate_assignment` on the instructor's version."""
    run = nbgrader("generate_assignment", unit.name, "--force", course=course)
    if run.returncode:
        raise RuntimeError(f"nbgrader generate_assignment failed: {run.stderr.strip()}")


def whole_tests() -> None:
    """What `make test` runs."""
    command = [sys.executable, "-m", "pytest", "-n", "2", "-q", "tests"]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)


if __name__ == "__main__":
    typer.run(main)
