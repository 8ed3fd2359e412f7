"""Grading a class: ours with one and two workers beside `nbgrader autograde`, mark by mark and second by second.

python benchmarks/class_grading.py [UNIT] [--students N] [--peer K] [--otter PROGRAM]

The class is made of the solution with known answers, right and wrong, in the place of some of it. nbgrader grades the
first K of the same submissions; the time of the whole class is scaled from those, start-up counted once. So does Otter
where its program is named (it needs an environment of its own): each of its tests calls our check.
"""

import ast
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Annotated

import nbformat
import psutil
import typer
from nbclient import NotebookClient
from nbgrader.api import Gradebook
from rich.console import Console
from rich.table import Table

from grading.answers import answers
from grading.build import render
from grading.checkers import checkers
from grading.classroom.engine import Engine
from grading.classroom.intake import code_cells
from grading.classroom.ledger import Ledger
from grading.reference import exercise_of
from grading.release import nbgrader, release
from grading.units import PACKAGE, Unit, find

CHANGED = 3
"""At most so many exercises of a submission are not answered as in the solution."""


def main(
    unit: Annotated[str, typer.Argument()] = "phase1/lab1",
    students: int = 40,
    peer: int = 5,
    otter: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Print seconds and ratios, and fail if a mark differs."""
    bound = find(unit)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SOLO_PROGRESS"] = str(Path(scratch, "progress.json"))  # kernels check, and nobody learns by it
        course = make_class(bound, Path(scratch, "course"), students)
        ours = {workers: grade(bound, copy(course, f"ours{workers}"), workers) for workers in (1, 2)}
        theirs = copy(course, "peer", peer)
        first, rest = nbgrader_grades(bound, theirs)
        whole = first + rest * (students - 1) / max(1, peer - 1)
        table = Table("", "seconds", "a submission", "ratio", title=f"{bound.id}, {students} submissions")
        table.add_row(f"nbgrader autograde, from {peer}", f"{whole:.0f}", f"{whole / students:.2f}", "")
        for workers, seconds in ours.items():
            label = f"solo class grade, {workers} worker{'s' * (workers > 1)}"
            table.add_row(label, f"{seconds:.0f}", f"{seconds / students:.2f}", f"{whole / seconds:.1f}×")
        if otter:
            each = otter_grades(bound, copy(course, "otter", peer), otter)
            table.add_row(
                f"otter run, from {peer}", f"{each * students:.0f}", f"{each:.2f}", f"{whole / students / each:.1f}×"
            )
        Console().print(table)
        overhead(bound, course.parent / "ours1", ours)
        memory(bound, Path(scratch, "memory"))
        compare(bound, marks(course.parent / "ours1", bound), marks(course.parent / "ours2", bound))
        compare(bound, marks(course.parent / "ours1", bound), marks(theirs, bound))


def make_class(unit: Unit, course: Path, students: int) -> Path:
    """A course with a release of `unit` and `students` submissions, the same ones each time."""
    release(unit, course)
    solution, known, rng = render(unit)[unit.solution], answer_codes(unit), random.Random(0)
    for i in range(students):
        notebook = nbformat.reads(solution, as_version=4)
        for answer in rng.sample(sorted(known), rng.randint(0, CHANGED)):
            exercise, code = known[answer]
            cell = next(c for c in notebook.cells if exercise_of(unit).get(c.id) == exercise)
            cell.source = f"{cell.source}\n\n\n{code}"
        place = course / "submitted" / f"student{i:02}" / unit.name
        place.mkdir(parents=True)
        nbformat.write(notebook, place / f"{unit.name}.ipynb")
    return course


def answer_codes(unit: Unit) -> dict[str, tuple[str, str]]:
    """The exercise and the code of each known answer."""
    tree = ast.parse(unit.answers.read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return {
        answer.name: (
            answer.exercise,
            "\n\n".join(ast.unparse(statement) for statement in classes[answer.name].body[2:]),
        )
        for answer in answers(unit)
    }


def copy(course: Path, name: str, students: int | None = None) -> Path:
    """A copy of the course with the first `students` only."""
    other = course.parent / name
    shutil.copytree(course, other)
    for folder in sorted((other / "submitted").iterdir())[students:] if students else ():
        shutil.rmtree(folder)
    return other


def grade(unit: Unit, course: Path, workers: int) -> float:
    """Seconds of `solo class grade` as typed, everything included."""
    solo = Path(sysconfig.get_path("scripts"), "solo")
    command = [sys.executable, solo, "class", "grade", unit.id, "--course", course, "--workers", str(workers)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def nbgrader_grades(unit: Unit, course: Path) -> tuple[float, float]:
    """Seconds of `nbgrader autograde` for the first submission, start-up included, and for the rest."""
    first = sorted((course / "submitted").iterdir())[0].name
    times = []
    for selection in ([f"--student={first}"], []):
        start = time.perf_counter()
        run = nbgrader("autograde", unit.name, *selection, course=course)
        if run.returncode:
            raise RuntimeError(f"nbgrader autograde failed: {run.stderr.strip()}")
        times.append(time.perf_counter() - start)
    start_up = startup(course)
    return times[0], times[1] - start_up


def otter_grades(unit: Unit, course: Path, program: Path) -> float:
    """Seconds of `otter run` for a submission. Raises `RuntimeError` if it does not give the solution full marks."""
    tests = course / "tests"
    tests.mkdir()
    core = [c for c in checkers(unit) if not c.side_quest]
    for checker in core:
        code = f">>> with redirect_stdout(StringIO()):\n...     score = check({checker.name!r})\n"
        code = f">>> from contextlib import redirect_stdout\n>>> from io import StringIO\n{code}"
        case = {"code": f"{code}>>> float(score) >= {checker.points}\nTrue", "hidden": False, "locked": False}
        suite = {"cases": [case], "scored": True, "setup": "", "teardown": "", "type": "doctest"}
        test = {"name": checker.name, "points": checker.points, "suites": [suite]}
        (tests / f"{checker.name}.py").write_text(f"OK_FORMAT = True\n\ntest = {test!r}\n", encoding="utf-8")
    where = {
        **os.environ,
        "PYTHONPATH": str(PACKAGE.parent),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
    }
    run = partial(subprocess.run, check=True, capture_output=True, text=True, cwd=course, env=where)
    run([program, "generate", "-t", "tests", "--no-environment"])
    shutil.copyfile(unit.solution, course / "solution.ipynb")
    run([program, "run", "-a", "autograder.zip", "solution.ipynb"])
    told = json.loads((course / "results.json").read_text(encoding="utf-8"))["tests"]
    if sum(test.get("score", 0) for test in told) < sum(checker.points for checker in core):
        raise RuntimeError(f"Otter does not give the solution full marks: {told[0]['output'][:2000]}")
    start = time.perf_counter()
    submissions = sorted((course / "submitted").glob("*/*/*.ipynb"))
    for submission in submissions:
        run([program, "run", "-a", "autograder.zip", submission])
    return (time.perf_counter() - start) / len(submissions)


def startup(course: Path) -> float:
    """Seconds that an nbgrader command takes to do nothing."""
    start = time.perf_counter()
    nbgrader("autograde", "--help", course=course)
    return time.perf_counter() - start


def overhead(unit: Unit, course: Path, seconds: dict[int, float]) -> None:
    """What a submission costs beyond the seconds that its cells and tests take, and how near that is to no cost."""
    entries = Ledger(course, unit.name).entries().values()
    work, inside = sum(e.work_s for e in entries), sum(e.report.seconds for e in entries)
    n = len(entries)
    print(f"a submission works {work / n:.2f} s; running it costs {(inside - work) / n:.2f} s more,")
    for workers, whole in seconds.items():
        least = work / workers
        print(
            f"with {workers} at a time the whole command takes {whole / least:.2f} × the least possible {least:.0f} s,"
        )
        print(f"{(whole - least) / n:.2f} s more a submission, start-up and the rehearsal included")


def memory(unit: Unit, folder: Path) -> None:
    """Private memory of a warm worker and of a kernel that each run the solution, at most and at the end."""
    folder.mkdir()
    solution = nbformat.read(unit.solution, as_version=4)
    with Engine(unit, frozenset()) as engine:
        known = {p.pid for p in _children()}
        warm = _private(lambda: engine.grade(code_cells(solution), folder), known)
    known = {p.pid for p in _children()}
    cold = _private(lambda: NotebookClient(solution, kernel_name="python3", allow_errors=True).execute(), known)
    for when, ours, theirs in zip(("at most", "at the end"), warm, cold, strict=True):
        print(f"private memory {when}: a warm worker {ours:.0f} MB, a kernel {theirs:.0f} MB: {theirs / ours:.1f} ×")


def _children() -> list[psutil.Process]:
    with suppress(psutil.Error):  # one ended while they were counted
        return psutil.Process().children(recursive=True)
    return []


def _private(run: Callable[[], object], known: set[int]) -> tuple[float, float]:
    """MB that the processes held for themselves which `run` has started: at most together, and the largest's last."""
    seen: dict[int, list[int]] = {}
    ended = Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for process in _children():
                with suppress(psutil.Error):  # it has just ended
                    if process.pid not in known:
                        held = process.memory_full_info().uss
                        seen.setdefault(process.pid, []).append(held)

    thread = Thread(target=watch)
    thread.start()
    run()
    ended.set()
    thread.join()
    largest = max(seen.values(), key=max)
    # The very last moments are those of a process that ends.
    return max(largest) / 2**20, largest[int(0.95 * len(largest))] / 2**20


def marks(course: Path, unit: Unit) -> dict[str, dict[str, float | None]]:
    """The marks in a gradebook, by student and cell."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id: {grade.name: grade.auto_score for n in submission.notebooks for grade in n.grades}
            for submission in gradebook.assignment_submissions(unit.name)
        }


def compare(unit: Unit, ours: dict, theirs: dict) -> None:
    """Fail if two gradebooks differ where they have the same student."""
    both = ours.keys() & theirs.keys()
    differing = {(s, c, ours[s][c], theirs[s][c]) for s in both for c in ours[s] if ours[s][c] != theirs[s][c]}
    cells = sum(len(ours[s]) for s in both)
    print(f"{cells - len(differing)} of {cells} marks of {len(both)} students are the same")
    if differing:
        raise SystemExit(f"these differ: {sorted(differing)}")


if __name__ == "__main__":
    typer.run(main)
