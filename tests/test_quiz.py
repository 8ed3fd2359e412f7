"""Quizzes: what is drawn, how it is judged, and what both ways to take one record."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from grading import cli, progress, status, units
from grading.events import Marked
from grading.quizzes import MAX_POINTS, QUESTIONS, bank, paper, sitting
from grading.quizzes.bank import BankError

TINY = Path(__file__).parent / "content"
RIGHT = {"doubled": "def doubled(x):\n    return x + x", "mean_of": "def mean_of(x):\n    return (x / len(x)).sum()"}


@pytest.fixture
def quiz(monkeypatch):
    """The tiny quiz: 13 questions, one challenge, one review."""
    monkeypatch.setenv("SOLO_CONTENT", str(TINY))
    units.all_units.cache_clear()
    yield units.find("phase1/quiz")
    units.all_units.cache_clear()


@pytest.fixture
def solo(capsys, monkeypatch):
    """Run a command, typing these lines; what it printed."""

    def run(*arguments, typed=()):
        import io

        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out + printed.err

    return run


def right_answers(sheet):
    """The answers that earn everything."""
    answers = {}
    for i, question in enumerate(sheet.questions, 1):
        letters = "".join(x for x, c in zip(bank.LETTERS, question.choices, strict=False) if c.right)
        answers[f"q{i}"] = letters or question.number
    return answers | {"faulty_line": bank.faulty_lines(sheet.unit, sheet.review)[0]}


def taken(sheet, folder, answers, code=RIGHT):
    """The paper as a learner leaves it, executed in a real kernel; the output of its last cell."""
    notebook = paper.notebook(sheet, answers, code)
    NotebookClient(notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells[-1].outputs


def test_a_full_paper_in_a_notebook_passes_and_is_recorded_once(quiz, tmp_path, monkeypatch):
    monkeypatch.setenv("SOLO_PROGRESS", str(tmp_path / "progress.json"))
    sheet = sitting.begin(quiz)
    shown = taken(sheet, tmp_path, right_answers(sheet))[0]
    assert "20 of 20 points (100%): passed." in shown["data"]["text/html"]
    again = taken(sheet, tmp_path, {"q1": "a"})[0]
    assert "does not count again" in again["data"]["text/plain"]
    marked = [e for e in progress.load().events if isinstance(e, Marked)]
    assert [(e.points, e.max_points, e.sitting) for e in marked] == [(20, MAX_POINTS, sheet.sitting.id)]
    assert status.derive(progress.load().events)["phase1/quiz"].points == 20


def test_wrong_answers_are_told_why(quiz, tmp_path, monkeypatch):
    monkeypatch.setenv("SOLO_PROGRESS", str(tmp_path / "progress.json"))
    sheet = sitting.begin(quiz)
    answers = right_answers(sheet)
    place = next(i for i, q in enumerate(sheet.questions, 1) if q.choices)
    question = sheet.questions[place - 1]
    wrong = next(letter for letter, c in zip(bank.LETTERS, question.choices, strict=False) if not c.right)
    answers[f"q{place}"], answers["faulty_line"] = wrong, 99
    faulty = {"doubled": "def doubled(x):\n    return x * x", "mean_of": bank.snippet(quiz, sheet.review)}
    text = taken(sheet, tmp_path, answers, faulty)[0]["data"]["text/plain"]
    assert f"✗ Question {place} · 0 of 1." in text
    assert "That is" in text, "the chosen choice says why it is wrong"
    assert "It is" in text, "the right one why it is right"
    assert "Line 3: An in-place division changes the caller's tensor." in text
    assert "Likely cause: You square." in text
    assert "Next:" not in text, "what is handed in is not changed and checked again"
    (marked,) = [e for e in progress.load().events if isinstance(e, Marked)]
    assert marked.points == 9
    assert marked.marks[question.question.id] == 0
    assert marked.marks["doubled"] == 0


def test_an_empty_paper_is_not_handed_in(quiz, tmp_path, monkeypatch):
    monkeypatch.setenv("SOLO_PROGRESS", str(tmp_path / "progress.json"))
    output = taken(sitting.begin(quiz), tmp_path, {}, {})[0]
    assert output["ename"] == "QuizError"
    assert "no answer on the paper" in output["evalue"]
    assert not [e for e in progress.load().events if isinstance(e, Marked)]


def test_the_terminal_writes_the_same_result(quiz, solo, monkeypatch, tmp_path):
    sheet = sitting.begin(quiz)
    answers = right_answers(sheet)
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys; file = open(sys.argv[1], 'r+'); text = file.read(); file.seek(0); file.truncate()\n"
        f"file.write({RIGHT['doubled']!r} if 'def doubled' in text else {RIGHT['mean_of']!r})"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {editor}")
    typed = [answers[f"q{i}"] for i in range(1, QUESTIONS + 1)] + ["", answers["faulty_line"], ""]
    code, out = solo("quiz", "phase1", "--terminal", typed=typed)
    assert code == 0, out
    assert "20 of 20 points (100%): passed." in out
    (marked,) = [e for e in progress.load().events if isinstance(e, Marked)]
    assert (marked.points, marked.sitting) == (20, sheet.sitting.id)
    assert json.loads(paper.path(sheet).read_text())["cells"], "the paper is kept, filled in"


def test_an_editor_that_cannot_start_is_one_sentence(quiz, solo, monkeypatch):
    monkeypatch.setenv("VISUAL", "no-such-editor")
    code, out = solo("quiz", "phase1", "--terminal", typed=["a"] * 10 + [""])
    assert code == 2
    assert "no-such-editor cannot be used: set $EDITOR" in out


def test_a_sitting_goes_on_until_it_is_handed_in_and_a_retake_draws_others(quiz):
    first = sitting.begin(quiz)
    assert sitting.begin(quiz).sitting == first.sitting
    progress.append(Marked(unit=quiz.id, sitting=first.sitting.id, points=3, max_points=20, marks={}))
    second = sitting.begin(quiz)
    assert second.sitting.id != first.sitting.id
    unseen = {q.id for q in bank.read(quiz).questions} - set(first.sitting.questions)
    assert unseen < set(second.sitting.questions)
    assert len(set(second.sitting.questions)) == QUESTIONS


def test_the_quiz_is_the_next_quest_and_opens_the_next_phase(quiz, solo, monkeypatch):
    monkeypatch.setattr(cli.learning.launch, "jupyterlab", lambda notebook: None)
    for points, gate in ((13.9, "phase1/quiz"), (14.0, None)):
        progress.append(Marked(unit=quiz.id, sitting=str(points), points=points, max_points=20, marks={}))
        events = progress.load().events
        assert status.gate(events, "phase2") == gate
        assert status.gate(events, "phase1") is None
        assert status.derive(events)["phase1/quiz"].exercises[0].state == ("tried" if gate else "confirmed")


@pytest.mark.parametrize(
    ("answer", "right", "says"),
    [
        ("a", None, None),
        ("", False, "It is"),
        ("zz", False, "It is"),
    ],
)
def test_letters(quiz, answer, right, says):
    question = bank.drawn(bank.read(quiz).question("choice-3"), seed=5)
    letter = "abc"[[c.right for c in question.choices].index(True)]
    judged, why = question.judge(answer)
    assert judged is (answer == letter if right is None else right)
    assert says is None or says in why


def test_numbers_follow_their_parameters(quiz):
    question = bank.drawn(bank.read(quiz).question("parameters-of-linear"), seed=3)
    d_in, d_out = question.values["d_in"], question.values["d_out"]
    assert 3 <= d_in <= 9
    assert d_out in {2, 5}
    assert f"nn.Linear({d_in:g}, {d_out:g})" in question.text
    assert question.judge(str(d_in * d_out + d_out))[0]
    wrong, why = question.judge(d_in * d_out)
    assert not wrong
    assert why.startswith("You left out the bias.")
    assert question.judge("many") == (False, f"{question.number:g}. {question._filled(question.question.why)}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b["questions"][0]["choices"][0].pop("right"), "has a right one"),
        (lambda b: b["questions"][0].pop("choices"), "`answer` and a `why`"),
        (lambda b: b["questions"].append(b["questions"][0]), "used twice: choice-0"),
        (lambda b: b["questions"][0].pop("skills"), "skills"),
    ],
)
def test_a_bank_that_breaks_a_rule_is_refused(quiz, tmp_path, change, says):
    raw = yaml.safe_load((quiz.folder / "quiz.yaml").read_text())
    change(raw)
    (tmp_path / "quiz.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(BankError, match=says):
        bank.read(units.Unit("phase1/quiz", "quiz", tmp_path / "challenges.py"))


def test_the_cover_begins_a_sitting(quiz, tmp_path, monkeypatch):
    monkeypatch.setenv("SOLO_PROGRESS", str(tmp_path / "progress.json"))
    cover = nbformat.read(quiz.notebook, as_version=4)
    NotebookClient(cover, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "sitting-" in cover.cells[-1].outputs[0]["data"]["text/plain"]
    assert len(list(paper.path(sitting.begin(quiz)).parent.glob("sitting-*.ipynb"))) == 1
