"""Grading on the workers of a real Dask scheduler: processes of their own, with folders of their own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grading.classroom.books import Books
from grading.classroom.cluster import Cluster, ClusterError
from grading.classroom.grade import Classroom

pytestmark = pytest.mark.slow

LAB = "lab9_tiny"
HALF = "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)"
SLOW = f"import time\ntime.sleep(2)\n{HALF}"


@pytest.fixture
def dask(tmp_path):
    """Start a scheduler and workers; returns its address and what starts a worker."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started: list[subprocess.Popen] = []

    def run(*arguments: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", *arguments]
        log = (tmp_path / f"dask{len(started)}.log").open("w")
        # What a worker leaves that is killed is ours to remove.
        environment = os.environ | {"TMPDIR": str(tmp_path)} | environment
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        started.append(process)
        return process

    def worker(**environment: str) -> subprocess.Popen:
        room = str(tmp_path / f"worker{len(started)}")
        options = "--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", room
        return run("worker", address, *options, **environment)

    run("scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard")
    yield address, worker
    for process in reversed(started):
        os.killpg(process.pid, signal.SIGTERM) if process.poll() is None else None
        process.wait(30)


def until_there_are(address: str, unit, count: int) -> None:
    """Wait for so many workers."""
    for _ in range(120):
        try:
            with Cluster(unit, address) as cluster:
                if len(cluster.places) >= count:
                    return
        except ClusterError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"there are no {count} workers")


def test_a_class_is_graded_by_workers_as_it_is_here(dask, course, unit, hand_in, solo):
    address, worker = dask
    worker(), worker()
    until_there_are(address, unit, 2)
    hand_in("amy")
    hand_in("bob", softmax=HALF)
    hand_in("cleo", softmax="import os\nos._exit(3)")
    (hand_in("dora") / f"{LAB}.ipynb").write_text("no JSON")
    code, said, complaint = solo("class", "grade", "lab9", "--course", str(course), "--scheduler", address)
    assert (code, complaint) == (0, "")
    assert "2 workers." in said
    assert "4 graded in" in said
    there = Books(course).marks(LAB)
    solo("class", "grade", "lab9", "--course", str(course), "--regrade", "--yes")
    assert Books(course).marks(LAB) == there
    assert there["bob"]["check-softmax"] == 1
    assert (
        "0 submissions to grade" in solo("class", "grade", "lab9", "--course", str(course), "--scheduler", address)[1]
    )


def test_a_lost_worker_costs_its_submissions_a_retry(dask, course, unit, hand_in, tmp_path):
    address, worker = dask
    lost, _ = worker(), worker()
    until_there_are(address, unit, 2)
    for i in range(5):
        hand_in(f"student{i}", softmax=SLOW)
    room = Classroom(course, unit)
    with room.cluster(address) as cluster:
        results = room.run(cluster, room.plan().todo, cluster.width, tmp_path / "staged")
        done = [next(results)]
        os.killpg(lost.pid, signal.SIGKILL)
        done += results
        assert len(cluster.places) == 1
    assert {g.result.report.points for g in done} == {3}
    assert all(g.intake and not g.result.reason for g in done)


def test_workers_with_other_checkers_are_refused(dask, course, unit, hand_in, solo, tmp_path):
    address, worker = dask
    old = Path(shutil.copytree(os.environ["SOLO_CONTENT"], tmp_path / "old"))
    worker(SOLO_CONTENT=str(old))
    until_there_are(address, unit, 1)
    hand_in("amy")
    unit.checkers.write_text(unit.checkers.read_text().replace("points = 2", "points = 3"))
    code, _, complaint = solo("class", "grade", "lab9", "--course", str(course), "--scheduler", address)
    assert code == 2
    assert "has other checkers of phase1/lab9 than the grader" in complaint


def test_a_scheduler_that_is_not_there_is_named(course, unit, hand_in, solo, monkeypatch):
    monkeypatch.setattr("grading.classroom.cluster.CONNECT_S", 1)
    hand_in("amy")
    code, _, complaint = solo("class", "grade", "lab9", "--course", str(course), "--scheduler", "tcp://127.0.0.1:9")
    assert code == 2
    assert "There is no Dask scheduler at tcp://127.0.0.1:9" in complaint


def test_a_scheduler_without_workers_is_named(dask, course, unit, hand_in, solo):
    address, _ = dask
    hand_in("amy")
    for _ in range(60):
        complaint = solo("class", "grade", "lab9", "--course", str(course), "--scheduler", address)[2]
        if "no Dask scheduler" not in complaint:
            break
    assert f"{address} has no workers" in complaint
