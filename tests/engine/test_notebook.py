"""`check`, `hint` and `reveal` where learners meet them: in a real kernel, and in plain Python."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from grading import progress
from grading.notebook import Desk

CONTENT = Path(__file__).parents[1] / "content"
SETUP = """
from grading import unit
check, hint, reveal = unit("phase1/lab9")
import torch
from torch import Tensor, nn
"""
UNSTABLE = "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)"
STABLE = "def softmax(x, dim):\n    w = (x - x.amax(dim, keepdim=True)).exp()\n    return w / w.sum(dim, keepdim=True)"
STUB = "def softmax(x, dim):\n    raise NotImplementedError"


class Kernel:
    """A running kernel; `run` gives what a cell printed and displayed."""

    def __init__(self, cwd: Path, record: Path, **env: str) -> None:
        everything = os.environ | {"SOLO_CONTENT": str(CONTENT), "SOLO_PROGRESS": str(record), **env}
        self.manager, self.client = start_new_kernel(cwd=str(cwd), env=everything)

    def run(self, code: str) -> dict[str, str]:
        seen = {"stdout": "", "stderr": "", "text/plain": "", "text/html": "", "error": ""}

        def hook(message: dict) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                seen[content["name"]] += content["text"]
            if message["msg_type"] == "execute_result":
                seen.update({k: v for k, v in content["data"].items() if k in seen})
            if message["msg_type"] == "error":
                seen["error"] += content["ename"]

        self.client.execute_interactive(code, output_hook=hook, timeout=60)
        return seen

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("record") / "progress.json"


@pytest.fixture(scope="module")
def kernel(record: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path_factory.mktemp("workspace"), record)
    kernel.run(SETUP)
    yield kernel
    kernel.stop()


def events(record: Path) -> list[dict]:
    return json.loads(record.read_text(encoding="utf-8"))["events"] if record.exists() else []


def test_a_wrong_answer_shows_a_card_and_partial_points(kernel, record):
    kernel.run(UNSTABLE)
    seen = kernel.run('check("softmax")')
    assert seen["text/plain"] == "1.0"
    assert "Likely cause" in seen["text/html"]
    assert seen["stdout"] + seen["stderr"] + seen["error"] == ""
    last = events(record)[-1]
    assert (last["exercise"], last["outcome"], last["points"]) == ("softmax", "failed", 1.0)
    assert (last["mistake"], last["context"]) == ("NoMaxSubtraction", "live")


def test_a_right_answer_passes_here_and_is_to_be_confirmed(kernel, record):
    kernel.run(STABLE)
    seen = kernel.run('check("softmax")')
    assert seen["text/plain"] == "2.0"
    assert "solo check phase1/lab9" in seen["text/html"]
    assert events(record)[-1]["outcome"] == "passed"


def test_a_rehearsed_failure_is_shown_as_expected_and_not_recorded(kernel, record):
    before = events(record)
    kernel.run(STABLE)
    kernel.run(UNSTABLE.replace("def softmax", "def hasty"))
    seen = kernel.run('check("softmax", wrong_on_purpose=hasty)')
    assert "Likely cause" in seen["text/html"]
    assert "This failure is expected" in seen["text/html"]
    assert "it passes" in kernel.run('check("softmax", wrong_on_purpose=softmax)')["text/html"]
    assert events(record) == before


def test_an_unwritten_exercise_in_a_demonstration_prints_one_line(kernel):
    kernel.run(STUB)
    seen = kernel.run("softmax(torch.ones(3), 0)")
    assert seen["stdout"] == "`softmax` is not written yet.\n"
    assert seen["stderr"] == ""


def test_a_class_that_is_still_a_stub_prints_one_line_too(kernel):
    assert (
        kernel.run("class Scale(nn.Module):\n    raise NotImplementedError")["stdout"]
        == "`Scale` is not written yet.\n"
    )
    assert kernel.run("Scale(3)")["stdout"] == "`Scale` is not written yet.\n"
    assert kernel.run("print(tehsor)")["error"] == "NameError"


def test_other_not_implemented_errors_keep_their_traceback(kernel):
    assert kernel.run("nn.Module()(1)")["error"] == "NotImplementedError"


def test_an_untouched_exercise_is_no_attempt(kernel, record):
    kernel.run(STUB)
    before = len(events(record))
    seen = kernel.run('check("softmax")')
    assert seen["text/plain"] == "0.0"
    assert "not attempted" in seen["text/html"]
    assert len(events(record)) == before


def test_hints_come_one_by_one_and_then_the_answer(kernel, record):
    assert "There are hints left" in kernel.run('reveal("attention")')["text/plain"]
    shown = [kernel.run('hint("attention")')["text/plain"] for _ in range(4)]
    assert [text.count("Hint ") for text in shown] == [1, 2, 3, 3]
    assert 'reveal("attention")' in shown[3]
    assert sum(e["kind"] == "hint" for e in events(record)) == 3
    assert "def attention" in kernel.run('reveal("attention")')["text/plain"]
    assert events(record)[-1]["kind"] == "reveal"


@pytest.mark.parametrize(("call", "says"), [('check("nope")', "LookupError"), ('hint("nope")', "LookupError")])
def test_a_misspelt_exercise_is_an_error_of_one_kind(kernel, call, says):
    assert kernel.run(call)["error"] == says


def test_learner_noise_stays_off_stderr(kernel):
    kernel.run(STABLE.replace("    w =", "    import sys, os; print('x', file=sys.stderr); os.write(2, b'x')\n    w ="))
    seen = kernel.run('check("softmax")')
    assert seen["stderr"] == ""
    assert seen["text/plain"] == "2.0"


def test_in_the_units_own_folder_nothing_counts(record):
    kernel = Kernel(CONTENT / "phase1_foundations/lab9_tiny", record)
    try:
        kernel.run(SETUP)
        kernel.run(STABLE)
        before = len(events(record))
        assert "nothing is recorded" in kernel.run('check("softmax")')["text/html"]
        assert len(events(record)) == before
    finally:
        kernel.stop()


@pytest.fixture
def desk(tiny, solved, tmp_path, monkeypatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOLO_PROGRESS", str(tmp_path / "progress.json"))
    return Desk(tiny, solved)


def test_plain_python_prints_the_card(desk, capsys):
    score = desk.check("softmax")
    assert capsys.readouterr().out.startswith("✓ Numerically stable softmax — passed · 2 of 2 points")
    assert repr(score) == "2.0"


def test_under_nbgrader_the_number_is_the_mark_and_nothing_is_recorded(desk, monkeypatch, capsys):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    exec(UNSTABLE, desk.namespace)
    score = desk.check("softmax")
    assert re.fullmatch(r"\d+\.\d+", repr(score))
    assert score == 1.0
    assert score.exercise.cause is None, "no causes are looked for while the clock of a class runs"
    assert repr(desk.check("scale")) == "0.0", "a side quest is worth no marks"
    assert not progress.path().exists()


def test_a_record_that_cannot_be_written_does_not_hide_the_result(desk, monkeypatch, tmp_path):
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("SOLO_PROGRESS", str(tmp_path / "a_file" / "progress.json"))
    score = desk.check("softmax")
    assert score == 2.0
    assert "Not recorded" in score._repr_html_()
