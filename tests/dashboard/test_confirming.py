"""After a save: what passed in the live kernel is confirmed, by one run at a time, and nothing else is judged."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from grading import progress
from grading.checkers import checkers
from grading.dashboard import confirming
from grading.dashboard.confirming import Confirmer, Saves
from grading.events import Attempt

REPO = Path(__file__).parents[2]
ENDLESS = "def softmax(logits, dim):\n    while True: pass"
GONE = "def other(queries, keys):\n    return queries"


@pytest.fixture
def passed_here(tiny):
    """`passed_here("softmax")`: these exercises of the tiny unit pass in the kernel."""

    def note(*names):
        known = {c.name: c for c in checkers(tiny)}
        progress.append(
            *(
                Attempt(
                    unit=tiny.id, exercise=name, checker=known[name].digest, outcome="passed", points=2, max_points=2,
                    context="live", seed=0, requirements={},
                )
                for name in names
            )
        )  # fmt: skip

    return note


@pytest.fixture
def confirmer():
    """One that keeps what it tells."""
    told = []
    made = Confirmer(Saves(), lambda **news: told.append(news))
    made.told = told
    return made


def fresh():
    found = [e for e in progress.load().events if isinstance(e, Attempt) and e.context == "fresh"]
    return [(e.exercise, e.outcome) for e in found]


def test_only_what_passed_here_is_confirmed(tiny, passed_here, confirmer):
    passed_here("softmax")
    confirmer.confirm(tiny, tiny.workspace_notebook)
    assert fresh() == [("softmax", "passed")]
    assert confirmer.told[0]["checking"] == "Confirming `softmax` in a fresh process."
    assert confirmer.told[-1]["told"] == "Confirmed: `softmax`."


def test_nothing_runs_where_nothing_waits(tiny, confirmer, monkeypatch):
    monkeypatch.setattr(confirming, "run_fresh", lambda *a, **k: pytest.fail("not asked for"))
    confirmer.confirm(tiny, tiny.workspace_notebook)
    assert fresh() == []
    assert confirmer.told == [{}]


def test_what_a_fresh_run_refutes_is_told_and_not_run_again_unless_the_code_changes(
    tiny, passed_here, confirmer, rewritten, monkeypatch
):
    tiny.workspace_notebook.write_text(rewritten(attention=GONE))
    passed_here("softmax", "attention")
    confirmer.confirm(tiny, tiny.workspace_notebook)
    assert fresh() == [("softmax", "passed")]
    assert "`attention` passed in your kernel and not in a fresh process" in confirmer.told[-1]["told"]
    with monkeypatch.context() as patch:
        patch.setattr(confirming, "run_fresh", lambda *a, **k: pytest.fail("the code is the same"))
        confirmer.confirm(tiny, tiny.workspace_notebook)
    tiny.workspace_notebook.write_text(rewritten())
    confirmer.confirm(tiny, tiny.workspace_notebook)
    assert fresh() == [("softmax", "passed"), ("attention", "passed")]


def test_a_save_in_between_ends_the_run(tiny, passed_here, confirmer, rewritten):
    tiny.workspace_notebook.write_text(rewritten(softmax=ENDLESS))
    passed_here("softmax")
    timer = threading.Timer(2, confirmer.saves.add, [tiny.workspace_notebook])
    timer.start()
    confirmer.confirm(tiny, tiny.workspace_notebook)
    assert fresh() == []
    assert confirmer.told[-1] == {}
    assert confirmer.saves.next() == tiny.workspace_notebook


def test_a_notebook_that_cannot_be_read_is_one_sentence(tiny, passed_here, confirmer):
    passed_here("softmax")
    tiny.workspace_notebook.write_text("{")
    confirmer.confirm(tiny, tiny.workspace_notebook)
    assert confirmer.told[-1]["told"].startswith("Not confirmed: ")
    assert fresh() == []


def test_saves_are_kept_once_each_and_the_end_is_the_end():
    saves, one, two = Saves(), Path("one"), Path("two")
    for path in (one, two, one):
        saves.add(path)
    assert saves.overtakes(one)
    assert (saves.next(), saves.next()) == (one, two)
    assert not saves.overtakes(one)
    saves.end()
    assert saves.next() is None
    assert saves.overtakes(one)


def test_the_process_answers_and_ends_with_its_input(tiny, passed_here):
    passed_here("softmax")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.Popen(
        [sys.executable, "-m", "grading.dashboard.confirming"],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    done.stdin.write(f"{tiny.workspace_notebook.parent / 'other.ipynb'}\n{tiny.workspace_notebook}\n")
    done.stdin.flush()
    news = [json.loads(done.stdout.readline()) for _ in range(2)]
    assert [bool(n["checking"]) for n in news] == [True, False]
    assert news[-1]["told"] == "Confirmed: `softmax`."
    done.stdin.close()
    assert done.wait(30) == 0
    done.stdout.close()
