"""An exercise again from its blank stub: evidence for the coach, and nothing else changes."""

from datetime import UTC, datetime, timedelta

import nbformat
import pytest
from nbclient import NotebookClient

from grading import progress, status, units
from grading.checkers import checkers
from grading.cli import launch
from grading.coach.again import prepare
from grading.coach.evidence import occasions
from grading.coach.skills import skills
from grading.events import Attempt, Practice
from grading.workspace import WorkspaceError

SOFTMAX = "def softmax(logits, dim):\n    e = (logits - logits.amax(dim, keepdim=True)).exp()\n    return e / e.sum(dim, keepdim=True)"  # noqa: E501
UNSTABLE = "def softmax(logits, dim):\n    return logits.exp() / logits.exp().sum(dim, keepdim=True)"


def solved(unit, *names, days_ago=30, tries=0):
    """Say that exercises were solved some time ago, after so many failed tries."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    for checker in checkers(unit):
        if checker.name in names:
            for outcome in [*["failed"] * tries, "passed"]:
                at += timedelta(minutes=1)
                progress.append(
                    Attempt(
                        at=at, unit=unit.id, exercise=checker.name, checker=checker.digest, outcome=outcome,
                        points=checker.points * (outcome == "passed"), max_points=checker.points,
                        context="live" if outcome == "failed" else "fresh", seed=0, requirements={},
                    )
                )  # fmt: skip


def executed(file, *code):
    """The practice notebook with `code` for its stub, then more cells, run in a real kernel; the outputs of all."""
    notebook = nbformat.read(file, as_version=4)
    stub = next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("solution"))
    stub.source, *more = code
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in more]
    NotebookClient(
        notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(file.parent)}}
    ).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def practised():
    return [e for e in progress.load().events if isinstance(e, Practice)]


def test_the_command_puts_a_blank_stub_into_a_notebook_of_its_own(solo, tiny, monkeypatch):
    solved(tiny, "softmax")
    mine = tiny.workspace_notebook.read_bytes()
    opened = []
    monkeypatch.setattr(launch, "jupyterlab", opened.append)
    code, out, err = solo("review", "--again", "lab9", "softmax")
    assert (code, err) == (0, "")
    file = tiny.workspace_notebook.parent / "practice" / "softmax.ipynb"
    assert opened == [file]
    assert "counts as practice" in out
    sources = [cell.source for cell in nbformat.read(file, as_version=4).cells]
    assert any("import torch" in s for s in sources)
    assert any("Write softmax along `dim`." in s for s in sources)
    assert sum("NotImplementedError" in s for s in sources) == 1
    assert not any("amax" in s for s in sources), "no answer"
    assert not any("attention" in s for s in sources), "no other exercise"
    assert tiny.workspace_notebook.read_bytes() == mine


def test_an_earlier_practice_notebook_is_backed_up(solo, tiny):
    solved(tiny, "softmax")
    solo("review", "--again", "lab9", "softmax", "--no-lab")
    file = tiny.workspace_notebook.parent / "practice" / "softmax.ipynb"
    first = file.read_bytes()
    out = solo("review", "--again", "lab9", "softmax", "--no-lab")[1]
    (backup,) = (file.parent / "backups").iterdir()
    assert backup.read_bytes() == first
    assert backup.name in "".join(out.split())
    assert file.read_bytes() != first, "another round"


def test_a_check_there_is_evidence_and_changes_neither_points_nor_states(tiny):
    solved(tiny, "softmax", tries=4)
    before = status.derive(progress.load().events)
    earlier = skills(progress.load().events, datetime.now(UTC))["numerics"]
    file, _ = prepare(tiny, "softmax", progress.load().events)
    outputs = executed(file, UNSTABLE, 'hint("softmax")', SOFTMAX, 'check("softmax")')
    told = str(outputs)
    assert "your points stay as they are" in told
    assert "Hint 1 of 3" in told
    failed, passed = practised()
    assert (failed.outcome, failed.hints, failed.mistake is not None) == ("failed", 0, True)
    assert (passed.outcome, passed.hints, passed.round) == ("passed", 1, failed.round)
    assert status.derive(progress.load().events) == before
    assert progress.hints_given(tiny.id, "softmax") == 0
    now = skills(progress.load().events, datetime.now(UTC))["numerics"]
    assert len(now.occasions) == len(earlier.occasions) + 1
    last = occasions(progress.load().events)[-1]
    assert (last.practice, last.right, last.failed, last.hints, len(last.mistakes)) == (True, True, 1, 1, 1)


def test_what_the_exercise_needs_is_there_as_the_learner_wrote_it(tiny, rewritten):
    mine = SOFTMAX + "  # my own"
    tiny.workspace_notebook.write_text(rewritten(softmax=mine))
    solved(tiny, "softmax", "attention")
    file, _ = prepare(tiny, "attention", progress.load().events)
    assert mine in [c.source for c in nbformat.read(file, as_version=4).cells]
    tiny.workspace_notebook.unlink()
    file, _ = prepare(tiny, "attention", progress.load().events)
    executed(file, "def attention(q, k):\n    return torch.softmax(q @ k.T / q.shape[-1] ** 0.5, -1)")
    assert practised()[-1].outcome == "passed", "the reference stands in"


def test_an_answer_that_was_shown_ends_the_round_and_takes_nothing_away(tiny):
    solved(tiny, "softmax")
    before = status.derive(progress.load().events)
    file, _ = prepare(tiny, "softmax", progress.load().events)
    hint, reveal = 'hint("softmax")', 'reveal("softmax")'
    outputs = executed(file, "", reveal, hint, hint, hint, hint, reveal, SOFTMAX, 'check("softmax")')
    assert "hints left" in str(outputs[-8])
    assert "That was all" in str(outputs[-4])
    assert "amax" in str(outputs[-3])
    shown, passed = practised()
    assert (shown.revealed, passed.outcome) == (True, "passed")
    last = occasions(progress.load().events)[-1]
    assert (last.revealed, last.right) == (True, False)
    assert status.derive(progress.load().events) == before


def test_only_its_own_exercise_is_recorded_and_an_untouched_stub_is_not(tiny):
    solved(tiny, "softmax")
    file, _ = prepare(tiny, "softmax", progress.load().events)
    stub = next(
        c.source
        for c in nbformat.read(file, as_version=4).cells
        if c.cell_type == "code" and "NotImplementedError" in c.source
    )
    told = str(executed(file, stub, 'check("scale")'))
    assert "practises <code>softmax</code>, so nothing is recorded" in told
    assert practised() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("lab9", "attention"), "not solved yet"),
        (("lab9", "nothing"), "It has: softmax, attention, scale."),
        (("lab9",), "Which exercise of lab9?"),
        (("phase1/project", "data"), "Exercises of labs"),
        (("phase1/quiz", "doubled"), "`solo quiz phase1` draws anew"),
        ((), "Nothing needs practice now"),
    ],
)
def test_what_cannot_be_practised_is_one_sentence(solo, tiny, arguments, sentence):
    code, _, err = solo("review", "--again", *arguments, "--no-lab")
    assert code == 2
    assert sentence in err
    assert not (tiny.workspace_notebook.parent / "practice").exists()


def test_an_exercise_without_again_is_one_sentence(solo, tiny):
    code, _, err = solo("review", "lab9", "softmax")
    assert code == 2
    assert "--again" in err


def test_without_names_the_coach_chooses_and_says_why(solo, tiny):
    solved(tiny, "softmax", tries=6)
    code, out, _ = solo("review", "--again", "--no-lab")
    assert code == 0
    assert "You solved it at the seventh try; it is 29 days ago" in out
    assert (tiny.workspace_notebook.parent / "practice" / "softmax.ipynb").exists()


def test_every_exercise_of_the_real_labs_can_be_put_before_a_learner(real):
    for lab in units.labs():
        known = checkers(lab)
        events = [
            Attempt(
                unit=lab.id, exercise=c.name, checker=c.digest, outcome="passed", points=c.points,
                max_points=c.points, context="fresh", seed=0, requirements={},
            )
            for c in known
        ]  # fmt: skip
        for checker in known:
            file, _ = prepare(lab, checker.name, events)
            cells = nbformat.read(file, as_version=4).cells
            stubs = [c for c in cells if "NotImplementedError" in c.source and c.metadata.get("nbgrader")]
            assert len(stubs) == 1, (lab.id, checker.name)
            assert any((c.cell_type == "markdown" and c.source.startswith("## ")) or "### " in c.source for c in cells)


def test_a_broken_copy_is_no_obstacle(tiny):
    solved(tiny, "attention")
    tiny.workspace_notebook.write_text("{")
    assert prepare(tiny, "attention", progress.load().events)[0].exists()
    with pytest.raises(WorkspaceError):
        prepare(tiny, "softmax", progress.load().events)
