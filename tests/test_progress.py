"""progress.json is whole, whatever happens, and nothing that was acknowledged is lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from grading import progress
from grading.progress import Done, Hint, Note, ProgressError, RankUp, Reveal

REPO = Path(__file__).parents[1]
WRITER = """
import sys
from grading import progress
for _ in range(int(sys.argv[1])):
    note = progress.Note(unit="phase1/lab1", text="x" * 2000)
    progress.append(note)
    print(note.id, flush=True)
"""


def ids():
    return [event.id for event in progress.load().events]


def writer(count):
    path = os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", WRITER, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_writer_killed_at_any_moment_loses_nothing_acknowledged():
    acknowledged, rng = [], random.Random(0)
    while len(acknowledged) < 200:
        process = writer(1000)
        acknowledged += [process.stdout.readline().strip() for _ in range(rng.randint(1, 30))]
        time.sleep(rng.uniform(0, 0.006))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].splitlines()
        acknowledged += [line for line in rest if len(line) == 32]
        known = ids()
        assert set(acknowledged) <= set(known)
        assert len(known) == len(set(known))
    assert progress.notices() == ()


def test_eight_writers_at_once_lose_nothing():
    processes = [writer(10) for _ in range(8)]
    acknowledged = [line for process in processes for line in process.communicate()[0].split()]
    assert len(acknowledged) == 80
    assert sorted(acknowledged) == sorted(ids())


def test_starts_empty_and_keeps_what_is_added(home):
    assert progress.load().events == ()
    assert not progress.path().exists()
    told = (Note(unit="phase1/lab1", text="“ß” ✓", improve=True), Done(unit="phase1/theory1"), RankUp(rank="D"))
    progress.append(*told)
    assert progress.load().events == told
    assert json.loads(progress.path().read_text(encoding="utf-8"))["schema"] == 1
    assert sorted(p.name for p in home.iterdir()) == ["progress.json", "progress.json.lock"]


def test_place_follows_the_environment(home, monkeypatch):
    assert progress.path() == home / "progress.json"
    monkeypatch.delenv("SOLO_PROGRESS")
    assert progress.path() == home / "progress.json"


def test_hints_and_reveals_are_counted_by_exercise():
    progress.append(Hint(unit="phase1/lab1", exercise="a"), Hint(unit="phase1/lab1", exercise="a"))
    progress.append(Hint(unit="phase1/lab2", exercise="a"), Reveal(unit="phase1/lab1", exercise="b"))
    assert progress.hints_given("phase1/lab1", "a") == 2
    assert progress.revealed("phase1/lab1", "b")
    assert not progress.revealed("phase1/lab1", "a")


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b'{"schema": 1, "events": [{"id": "a", "at"',
        b'<<<<<<< HEAD\n{"schema": 1, "events": []}\n',
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'{"schema": 1, "events": [{"id": "a", "at": "2026-01-01T00:00:00Z", "kind": "unheard-of"}]}',
    ],
)
def test_a_damaged_file_is_set_aside_and_said_so(home, damaged):
    progress.path().write_bytes(damaged)
    progress.append(Done(unit="phase1/theory1"))
    (aside,) = home.glob("progress.json.*-backup")
    assert aside.read_bytes() == damaged
    assert len(progress.load().events) == 1
    (notice,) = progress.notices()
    assert str(aside) in notice
    aside.unlink()
    assert progress.notices() == ()


def test_reading_sets_a_damaged_file_aside_too_and_never_over_another(home):
    for damage in ("one", "two", "three"):
        progress.path().write_text(damage)
        assert progress.load().events == ()
    assert sorted(p.read_text() for p in home.glob("*-backup")) == ["one", "three", "two"]


def test_a_newer_file_is_refused_and_left_alone():
    newer = '{"schema": 2, "events": [], "more": 1}'
    progress.path().write_text(newer)
    for action in (progress.load, lambda: progress.append(Done(unit="phase1/lab1"))):
        with pytest.raises(ProgressError, match="newer version"):
            action()
    assert progress.path().read_text() == newer


def test_a_missing_folder_is_one_sentence(tmp_path):
    nowhere = tmp_path / "no" / "progress.json"
    for action in (progress.load, lambda path: progress.append(Done(unit="phase1/lab1"), path=path)):
        with pytest.raises(ProgressError, match="does not exist"):
            action(nowhere)
    assert not nowhere.parent.exists()


def test_a_folder_in_its_place_is_one_sentence(tmp_path):
    with pytest.raises(ProgressError, match=r"cannot be read \(is a directory\)|cannot be read \(permission denied\)"):
        progress.load(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind here")
def test_a_read_only_folder_can_be_read_and_not_written(home):
    progress.append(Done(unit="phase1/lab1"))
    home.chmod(0o555)
    (home / "progress.json.lock").chmod(0o444)
    try:
        assert len(progress.load().events) == 1
        with pytest.raises(ProgressError, match="cannot be written"):
            progress.append(Done(unit="phase1/lab1"))
    finally:
        home.chmod(0o755)


def test_a_full_disk_leaves_the_file_as_it_was(monkeypatch):
    progress.append(Done(unit="phase1/lab1"))
    before = progress.path().read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("grading.files.os.fsync", full)
    with pytest.raises(ProgressError, match="no space left on device"):
        progress.append(Done(unit="phase1/lab1"))
    assert progress.path().read_bytes() == before


def test_a_lock_that_is_held_is_one_sentence(home, monkeypatch):
    monkeypatch.setattr(progress, "LOCK_PATIENCE_S", 0.05)
    with FileLock(home / "progress.json.lock"), pytest.raises(ProgressError, match="another process"):
        progress.append(Done(unit="phase1/lab1"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_a_link_stays_a_link(home, tmp_path):
    progress.path().symlink_to(tmp_path / "elsewhere.json")
    progress.append(Done(unit="phase1/lab1"))
    assert progress.path().is_symlink()
    assert (tmp_path / "elsewhere.json").exists()


def test_merge_is_a_union_in_order_of_time_and_idempotent(tmp_path):
    common, *rest = [Note(unit="phase1/lab1", text=str(i)) for i in range(7)]
    mine, theirs = tmp_path / "mine.json", tmp_path / "theirs.json"
    progress.append(common, *rest[::2], path=mine)
    progress.append(common, *rest[1::2], path=theirs)
    assert progress.merge(theirs, into=mine) == 3
    assert [event.text for event in progress.load(mine).events] == list("0123456")
    once = mine.read_bytes()
    assert progress.merge(theirs, into=mine) == 0
    assert progress.merge(mine, into=mine) == 0
    assert mine.read_bytes() == once
    progress.merge(mine, into=theirs)
    assert theirs.read_bytes() == once


def test_merge_refuses_what_is_no_record_and_leaves_it(tmp_path):
    other = tmp_path / "other.json"
    with pytest.raises(ProgressError, match="no file"):
        progress.merge(other)
    other.write_text("{")
    with pytest.raises(ProgressError, match="not valid JSON"):
        progress.merge(other)
    assert other.read_text() == "{"


def test_a_report_becomes_attempts_of_what_was_worked_on(report):
    assert progress.record(report("lab1", first=6, second=1, extra=None)) is None
    first, second = progress.load().events
    assert (first.exercise, first.outcome, first.points, first.requirements) == (
        "first",
        "passed",
        6,
        {"test_it": "passed"},
    )
    assert (second.exercise, second.outcome) == ("second", "failed")


def test_nothing_attempted_writes_nothing(report):
    assert progress.record(report("lab1", first=None)) is None
    assert not progress.path().exists()


def test_a_rank_is_recorded_once_and_only_for_confirmed_results(report):
    full = {"first": 6, "second": 4}
    progress.record(report("lab1", **full))
    assert progress.record(report("lab2", "live", **full)) is None
    assert progress.record(report("lab2", **full)).rank == "D"
    assert progress.record(report("lab2", **full)) is None
    assert [e.rank for e in progress.load().events if isinstance(e, RankUp)] == ["D"]


def test_merging_two_halves_earns_the_rank(report, tmp_path):
    full = {"first": 6, "second": 4}
    progress.record(report("lab1", **full))
    progress.record(report("lab2", **full), path=tmp_path / "other.json")
    progress.merge(tmp_path / "other.json")
    assert any(isinstance(event, RankUp) for event in progress.load().events)


def test_it_is_shipped_empty():
    git = shutil.which("git")
    shipped = git and subprocess.run([git, "show", "HEAD:progress.json"], cwd=REPO, capture_output=True)
    if not shipped or shipped.returncode:
        pytest.skip("this is no clone")
    assert json.loads(shipped.stdout)["events"] == []
