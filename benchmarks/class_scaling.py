"""How long a class of any size takes: a model from measured parts, checked with stub work at a size that can be run.

python benchmarks/class_scaling.py [UNIT] [--check N]

One process takes submissions in, sends them out through Dask and writes nbgrader's gradebook; workers execute. What
each part costs of that process's computing is measured on a few submissions. The check runs a whole class whose work is
a stub, a result that was made once, so that what it takes is what we add.
"""

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from distributed import LocalCluster
from rich.console import Console
from rich.table import Table

from grading.build import render
from grading.classroom.cluster import Cluster, _packed
from grading.classroom.engine import Engine, Result
from grading.classroom.grade import Classroom, Graded
from grading.classroom.intake import code_cells, stage, take_in
from grading.learner_notebook import NotebookCell
from grading.release import release
from grading.units import Unit, find

SAMPLE = 50
SIZES, WORKERS = (800, 10_000, 100_000), (2, 16, 64, 256)


class Stub(Cluster):
    """A cluster whose workers do nothing and send back what they are given."""

    result: Result

    def grade(self, cells: list[NotebookCell], files: Path, place: str | None = None) -> Result:
        """Carry a submission to a worker, and the same result back each time."""
        return self._client.submit(_return, cells, _packed(files), self.result, pure=False).result()


def _return(cells: list[NotebookCell], packed: bytes, result: Result) -> Result:
    return result


def main(unit: Annotated[str, typer.Argument()] = "phase1/lab1", check: int = 2000) -> None:
    """Print the parts, the model's figures, and how far it is from what a class of stubs takes."""
    bound = find(unit)
    with (
        tempfile.TemporaryDirectory() as scratch,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as dask,
    ):
        course = make_class(bound, Path(scratch, "course"), check)
        room = Classroom(course, bound)
        work_s, result = one_real(room, Path(scratch, "one"))
        with Stub(bound, dask.scheduler_address) as cluster:
            cluster.result = result
            parts = measured(room, cluster, Path(scratch, "parts"))
            start, on_the_clock = time.process_time(), time.perf_counter()
            n = whole(room, cluster, Path(scratch, "whole"))
            took, on_the_clock = time.process_time() - start, time.perf_counter() - on_the_clock
    serial = sum(parts.values())
    print(f"{bound.id}: a submission's own work takes {work_s:.2f} s; of the grader's time one takes, in milliseconds:")
    print(", ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in parts.items()))
    said = n * serial
    print(f"{n} submissions with stub work: the model says {said:.0f} s, it took {took:.0f} s ({took / said:.2f} ×)")
    print(f"of computing; on the clock, on a machine that did other things too or not, {on_the_clock:.0f} s")
    table = Table("submissions", *(f"{w} workers" for w in WORKERS), title="minutes, and what they wait for")
    for size in SIZES:
        table.add_row(f"{size:,}", *(told(size, workers, work_s, serial) for workers in WORKERS))
    Console().print(table)


def told(size: int, workers: int, work_s: float, serial: float) -> str:
    """The longer of both: the workers, side by side, and the one process that does the rest."""
    there, here = size * work_s / workers, size * serial
    return f"{max(there, here) / 60:.0f} ({'workers' if there > here else 'grader'})"


def make_class(unit: Unit, course: Path, students: int) -> Path:
    """A course where everybody hands in the solution."""
    release(unit, course)
    solution = render(unit)[unit.solution]
    for i in range(students):
        place = course / "submitted" / f"student{i:06}" / unit.assignment
        place.mkdir(parents=True)
        (place / f"{unit.assignment}.ipynb").write_text(solution, encoding="utf-8")
    return course


def one_real(room: Classroom, scratch: Path) -> tuple[float, Result]:
    """One submission executed for real: the seconds of its work, and its result."""
    scratch.mkdir()
    with Engine(room.unit, frozenset()) as engine:
        result = engine.grade(code_cells(room._solution()), scratch)
    return result.work_s, result


def measured(room: Classroom, cluster: Stub, scratch: Path) -> dict[str, float]:
    """Seconds of the grader's time for one submission, by what it does."""
    todo = list(room.plan().todo.items())[:SAMPLE]
    graded, taken = [], 0.0
    for i, (student, folder) in enumerate(todo):
        start = time.process_time()
        place = scratch / str(i) / student / room.assignment
        intake = take_in(folder, room.released, room.assignment)
        stage(folder, intake, room.assignment, place)
        taken += time.process_time() - start
        graded.append(Graded(student, intake, cluster.result, scratch / str(i)))
    start = time.process_time()
    with ThreadPoolExecutor(cluster.width) as pool:
        list(pool.map(lambda g: cluster.grade(code_cells(g.intake.notebook), g.staged), graded))
    carried = time.process_time() - start
    room.write(graded.pop())  # the first one loads what nbgrader needs
    start = time.process_time()
    for one in graded:
        room.write(one)
    booked = time.process_time() - start
    return {"taking in": taken / len(todo), "Dask": carried / len(todo), "the gradebook": booked / len(graded)}


def whole(room: Classroom, cluster: Stub, scratch: Path) -> int:
    """Grade everybody who is left; how many that were."""
    todo = room.plan().todo
    for graded in room.run(cluster, todo, cluster.width, scratch):
        room.write(graded)
    shutil.rmtree(scratch, ignore_errors=True)
    return len(todo)


if __name__ == "__main__":
    typer.run(main)
