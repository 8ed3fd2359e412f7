"""`solo watch`: every save is met, however it was written; what was edited comes first; only news is told and kept."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from grading import progress, watch
from grading.report import Outcome
from grading.watch import Superseded, Watched, looks

REPO = Path(__file__).parents[1]
UNSCALED = "def attention(queries, keys):\n    return softmax(queries @ keys.T, dim=-1)"
BUILTIN = "def softmax(logits, dim):\n    return torch.softmax(logits, dim)"
ENDLESS = "def softmax(logits, dim):\n    while True: pass"
PATIENCE_S = 60


def replace(path, text):
    """Write as most editors do: beside the file, then over it."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


@pytest.fixture
def watched(tiny, monkeypatch):
    """The learner's copy, its stream of looks, and the first of them."""
    monkeypatch.setattr(watch, "LOOK_EVERY_MS", 300)
    stream = looks(tiny.workspace_notebook)
    return tiny.workspace_notebook, stream, next(stream)


@pytest.mark.parametrize("save", [Path.write_text, replace])
def test_a_save_is_seen_written_in_place_or_replaced(watched, rewritten, save):
    path, stream, first = watched
    save(path, rewritten(attention=UNSCALED))
    second = next(stream)
    assert (first.trouble, second.trouble) == (None, None)
    assert [c.source for c in first.cells] != [c.source for c in second.cells]
    assert UNSCALED in [c.source for c in second.cells]


def test_a_half_written_notebook_is_waited_for(watched, rewritten):
    path, stream, _ = watched
    whole = rewritten(attention=UNSCALED)
    path.write_text(whole[: len(whole) // 2])
    threading.Timer(0.1, path.write_text, [whole]).start()
    look = next(stream)
    assert look.trouble is None
    assert UNSCALED in [c.source for c in look.cells]


def test_what_stays_broken_is_said_once_and_the_next_save_is_met(watched, rewritten):
    path, stream, _ = watched
    path.write_text("{")
    assert "not a notebook that can be read" in next(stream).trouble
    threading.Timer(1, path.write_text, [rewritten()]).start()
    assert next(stream).trouble is None


@pytest.mark.parametrize("gone", ["renamed", "deleted", "with its folder", "before it is watched"])
def test_a_notebook_that_goes_is_said_once_and_waited_for(watched, gone):
    path, stream, first = watched
    text = path.read_text()
    if gone != "before it is watched":
        os.utime(path, (1, 1))
        next(stream)
    match gone:
        case "renamed":
            path.rename(path.with_name("other.ipynb"))
        case "deleted":
            path.unlink()
        case _:
            shutil.rmtree(path.parent)
    assert "is gone" in next(stream).trouble
    path.parent.mkdir(exist_ok=True)
    threading.Timer(1, path.write_text, [text]).start()
    assert next(stream).cells == first.cells


def test_a_look_costs_nothing_while_nothing_happens(watched, monkeypatch):
    path, stream, _ = watched
    read = []
    monkeypatch.setattr("grading.watch.read_notebook", lambda path: read.append(path) or [])
    threading.Timer(1, os.utime, [path, (1, 1)]).start()
    next(stream)
    assert len(read) == 1


def test_what_was_edited_and_what_needs_it_comes_first_and_only_news_is_told(tiny, rewritten):
    path, stream = tiny.workspace_notebook, looks(tiny.workspace_notebook)
    watched, told, steps = Watched(tiny, path), [], []

    def answer():
        told.clear()
        steps.clear()
        look = next(stream)
        edited = watched.edited(look)
        report = watched.check(look, told.append, steps.append)
        return edited, {r.exercises[0].name: r.exercises[0].outcome for r in told}, report

    edited, news, report = answer()
    assert edited == ()
    assert news == dict.fromkeys(("softmax", "attention", "scale"), Outcome.PASSED)
    assert report.points == 4
    assert not any("softmax(torch.tensor" in step for step in steps), "demonstrations are left out"

    path.write_text(rewritten(attention=UNSCALED))
    edited, news, report = answer()
    assert (edited, news) == (("attention",), {"attention": Outcome.FAILED})
    assert [s for s in steps if s.startswith("checking")] == [
        f"checking {n}" for n in ("attention", "softmax", "scale")
    ]
    assert [(r.seed, r.context) for r in told] == [(report.seed, "fresh")]
    assert report.points == 3, "the unit as a whole is right"

    path.write_text(rewritten(attention=UNSCALED, softmax=BUILTIN))
    edited, news, _ = answer()
    assert edited == ("softmax",)
    assert news["softmax"] is Outcome.FAILED
    assert [s for s in steps if s.startswith("checking")][1] == "checking attention", "it needs softmax"
    assert "scale" not in news

    path.write_text(rewritten(softmax=BUILTIN + "  # my way"))
    edited, news, _ = answer()
    assert edited == ("softmax", "attention")
    assert news == {"softmax": Outcome.FAILED, "attention": Outcome.PASSED}, "an edit is answered, also with the same"


def test_a_save_of_outputs_or_prose_alone_is_known(tiny, rewritten):
    path, stream = tiny.workspace_notebook, looks(tiny.workspace_notebook)
    watched = Watched(tiny, path)
    look = next(stream)
    assert not watched.unchanged(look)
    watched.check(look, lambda report: None)
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["source"] = "My notes"
    path.write_text(json.dumps(notebook))
    assert watched.unchanged(next(stream))
    path.write_text(rewritten(attention=UNSCALED))
    assert not watched.unchanged(next(stream))


def test_a_save_during_a_run_ends_it_at_once(tiny, rewritten):
    path, stream = tiny.workspace_notebook, looks(tiny.workspace_notebook)
    watched, told = Watched(tiny, path), []
    path.write_text(rewritten(softmax=ENDLESS))
    look = next(stream)

    def save_on_the_way(step):
        if step == "checking softmax":
            path.write_text(rewritten())

    with pytest.raises(Superseded):
        watched.check(look, told.append, save_on_the_way)
    assert told == []
    second = next(stream)
    assert not watched.unchanged(second)
    assert watched.check(second, told.append).points == 4
    assert len(told) == 3


class Terminal:
    """`solo watch` in a process of its own, whose output goes into a pipe."""

    def __init__(self, unit):
        path = os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", "from grading.cli import main; main()", "watch", unit]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        self.lines = []
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()

    def since(self, action, until):
        """What is printed from `action` on, up to a line with `until`."""
        start, deadline = len(self.lines), time.monotonic() + PATIENCE_S
        action()
        while not any(until in line for line in self.lines[start:]):
            assert time.monotonic() < deadline, f"no {until!r} in {self.lines[start:]}"
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.05)
        return "".join(self.lines[start:])


@pytest.mark.skipif(os.name == "nt", reason="a process there cannot be sent Ctrl-C alone")
def test_the_command_answers_saves_records_them_and_ends_quietly(tiny, rewritten):
    path, terminal = tiny.workspace_notebook, Terminal("lab9")
    try:
        first = terminal.since(lambda: None, "exercises passed")
        assert "Ctrl-C ends this" in first
        assert "4 of 4 points, 2 of 2 exercises passed" in first
        second = terminal.since(lambda: replace(path, rewritten(attention=UNSCALED)), "exercises passed")
        assert "`attention` first" in second
        assert "✗ equals softmax(QKᵀ/√d)" in second
        assert "softmax —" not in second, "what has not changed is not told again"
        assert "3 of 4 points" in second
        gone = terminal.since(lambda: path.rename(path.with_name("mine.ipynb")), "is gone")
        assert "Traceback" not in gone
        same = terminal.since(lambda: path.with_name("mine.ipynb").rename(path), "Saved at")
        assert "the code is the same" in same
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(PATIENCE_S) == 0
        assert terminal.process.stderr.read() == ""
        assert "\x1b" not in "".join(terminal.lines)
    finally:
        terminal.process.kill()
    kept = [(event.exercise, event.outcome) for event in progress.load().events]
    assert kept == [("softmax", "passed"), ("attention", "passed"), ("scale", "passed"), ("attention", "failed")]


def test_without_a_copy_there_is_nothing_to_watch(solo, curriculum):
    code, _, err = solo("watch", "lab1")
    assert code == 2
    assert "`solo open phase1/lab1` makes one" in err
    assert solo("watch", "theory1")[0] == 2
