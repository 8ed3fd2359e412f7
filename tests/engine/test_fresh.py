"""Fresh runs: whatever a notebook does, there is a Report, and only the guilty exercise suffers."""

import multiprocessing
import tempfile

import psutil
import pytest

from grading.fresh import Limits, NotebookError, run_fresh
from grading.report import Outcome

QUICK = Limits(test_s=3, cell_s=4)


def outcomes(report):
    return {e.name: e.outcome for e in report.exercises}


def test_a_solved_notebook_gets_full_marks(tiny, write_notebook):
    steps = []
    report = run_fresh(tiny, write_notebook(), on_step=steps.append)
    assert (report.points, report.max_points) == (4, 4)
    assert report.problems == ()
    assert report.context == "fresh"
    assert "running the cell of `softmax`" in steps
    assert "checking attention" in steps


def test_one_exercise_alone(tiny, write_notebook):
    report = run_fresh(tiny, write_notebook(), only="attention")
    assert [e.name for e in report.exercises] == ["attention"]
    assert report["attention"].passed


def test_seeds_are_new_unless_given(tiny, write_notebook):
    notebook = write_notebook()
    assert run_fresh(tiny, notebook, only="scale").seed != run_fresh(tiny, notebook, only="scale").seed
    assert run_fresh(tiny, notebook, only="scale", seed=7).seed == 7


@pytest.mark.parametrize(
    ("softmax", "says"),
    [
        ("def softmax(x, dim):\n    while True: pass", "did not finish in time"),
        ("def softmax(x, dim):\n    import os; os._exit(3)", "ended the Python process (exit code 3)"),
        ("def softmax(x, dim):\n    import os; os.kill(os.getpid(), 9)", "crashed the Python process (signal 9)"),
        ("def softmax(x, dim):\n    return softmax(x, dim)", "RecursionError"),
        ("def softmax(x, dim):\n    raise SystemExit", "SystemExit"),
    ],
)
def test_a_deadly_function_costs_its_own_exercise_only(tiny, write_notebook, softmax, says):
    report = run_fresh(tiny, write_notebook(softmax=softmax), limits=QUICK, demos=False)
    assert outcomes(report) == {"softmax": Outcome.RAISED, "attention": Outcome.PASSED, "scale": Outcome.PASSED}
    assert says in report["softmax"].requirements[0].evidence.message
    assert report["attention"].carried == ("softmax",)


def test_a_function_that_hoards_memory_is_stopped_by_its_memory(tiny, write_notebook):
    hoard = "kept = []\ndef softmax(x, dim):\n    while True: kept.append(torch.ones(25_000_000))"
    patient = Limits(test_s=120, memory_mb=1000)
    report = run_fresh(tiny, write_notebook(softmax=hoard), only="softmax", limits=patient, demos=False)
    assert report["softmax"].outcome is Outcome.RAISED
    assert "more than 1000 MB" in report["softmax"].requirements[0].evidence.message


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("while True: pass", "did not finish in time"),
        ("import os; os._exit(0)", "ended the Python process"),
        ("def softmax(x, dim", "SyntaxError"),
        ("raise ValueError('mine')", "ValueError: mine"),
        ("import sys; sys.exit()", "SystemExit"),
    ],
)
def test_a_deadly_cell_is_gone_round_and_named(tiny, write_notebook, cell, says):
    report = run_fresh(tiny, write_notebook(softmax=cell), limits=QUICK, demos=False)
    assert outcomes(report) == {"softmax": Outcome.FAILED, "attention": Outcome.PASSED, "scale": Outcome.PASSED}
    assert any(p.startswith("the cell of `softmax`") and says in p for p in report.problems)
    message = report["softmax"].requirements[0].evidence.message
    assert message.startswith("`softmax` is not defined, because the cell of `softmax`")
    assert says in message


def test_a_deleted_cell_is_named_with_its_cure(tiny, write_notebook):
    report = run_fresh(tiny, write_notebook(softmax=None))
    assert any("no cell for `softmax`" in p and "solo reset" in p for p in report.problems)
    assert report["attention"].passed


def test_magics_workers_threads_and_noise_are_harmless(tiny, write_notebook):
    softmax = """
%matplotlib inline
import os, sys, threading, time, warnings
from torch.utils.data import DataLoader, Dataset

print("noise"); os.write(2, b"noise"); warnings.warn("noise")
threading.Thread(target=time.sleep, args=(60,)).start()

class Squares(Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return i * i

for context in ("fork", "spawn"):
    batches = list(DataLoader(Squares(), num_workers=1, multiprocessing_context=context))
    assert [int(b) for b in batches] == [0, 1, 4, 9]

def softmax(x, dim):
    w = (x - x.amax(dim, keepdim=True)).exp()
    return w / w.sum(dim, keepdim=True)
"""
    report = run_fresh(tiny, write_notebook(softmax=softmax))
    assert report.problems == ()
    assert report.points == 4


def test_checks_inside_the_notebook_do_nothing_in_a_fresh_run(tiny, write_notebook):
    code = "assert check('softmax') is None\ndef softmax(x, dim):\n    return x"
    assert run_fresh(tiny, write_notebook(softmax=code)).problems == ()


@pytest.mark.parametrize(
    "content", ["{", "[]", "", "\x00\x01", '{"cells": 3}', '{"nbformat": 99, "nbformat_minor": 1}']
)
def test_what_is_no_notebook_is_said_in_one_sentence(tiny, tmp_path, content):
    path = tmp_path / "lab.ipynb"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(NotebookError, match="not a notebook that can be read"):
        run_fresh(tiny, path)
    assert path.read_text(encoding="utf-8") == content


def test_a_missing_notebook_is_said_in_one_sentence(tiny, tmp_path):
    with pytest.raises(NotebookError, match="There is no notebook"):
        run_fresh(tiny, tmp_path / "none.ipynb")


def test_nothing_is_left_behind(tiny, write_notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    softmax = "import subprocess\nsubprocess.Popen(['sleep', '61'])\ndef softmax(x, dim):\n    import os; os._exit(1)"
    run_fresh(tiny, write_notebook(softmax=softmax), limits=QUICK, demos=False)
    assert not list(tmp_path.glob("solo-*"))
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "61"]]
    assert not multiprocessing.active_children()
