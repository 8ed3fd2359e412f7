"""`solo start` is the guide: what is next, why, how long; and what a newcomer knows already."""

import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from grading import progress, status, units
from grading.cli import launch
from grading.coach import guide, placement
from grading.coach.steps import briefs
from grading.events import Attempt, Done, Hint, Placement
from grading.quizzes import bank
from grading.ranks import PASS

REPO = Path(__file__).parents[2]


class Typed(io.StringIO):
    """What somebody types, at a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def at_a_terminal(monkeypatch, capsys):
    """`at_a_terminal("y", "b")`: somebody sits there and types these lines."""

    def sit(*lines):
        monkeypatch.setattr(sys, "stdin", Typed("".join(f"{line}\n" for line in lines)))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    monkeypatch.setattr(launch, "jupyterlab", lambda notebook: None)
    return sit


@pytest.fixture
def quiz(tiny, home):
    """The tiny quiz; and nobody has been here yet."""
    import shutil

    shutil.rmtree(home / "workspace")
    return units.find("phase1/quiz")


def right_answers(quiz, seed):
    answers = {}
    for drawn in placement.draw(quiz, seed):
        letters = "".join(x for x, c in zip(bank.LETTERS, drawn.choices, strict=False) if c.right)
        answers[drawn.question.id] = letters or str(drawn.number)
    return answers


def placements():
    return [e for e in progress.load().events if isinstance(e, Placement)]


def test_every_unit_says_how_long_it_takes(real):
    assert {unit.id: unit.duration for unit in units.all_units() if unit.duration is None} == {}
    assert units.find("phase1/lab1").duration == "two hours"
    assert units.find("phase1/theory1").duration == "15 minutes"
    assert units.find("phase1/quiz").duration == "about 30 minutes"
    assert units.find("phase1/project").duration == "six to nine hours"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ([], "It prepares you for “lab1_alpha”."),
        ([Done(unit="phase1/theory1")], "It is where phase1/lab1 begins."),
        ([("lab1", "live", {"first": 0})] * 2, "You have tried it two times, and three of its hints are left."),
        ([("lab1", "live", {"first": 0}), Hint(unit="phase1/lab1", exercise="first")], "tried it once, and two of its"),
        ([("lab1", "live", {"first": 6})], "It is the next of phase1/lab1 that is open."),
        ([("lab1", "live", {"first": 6, "second": 4})], "what a fresh run confirms counts"),
    ],
)  # fmt: skip
def test_why_says_what_the_record_says(curriculum, report, told, sentence):
    events = []
    for event in told:
        if isinstance(event, tuple):
            ran = report(event[0], event[1], **event[2])
            events += [Attempt.of(ran, exercise) for exercise in ran.exercises]
        else:
            events.append(event)
    now = status.derive(events)
    assert sentence in guide.why(now.next_quest, now, events)


def test_every_quest_of_the_real_curriculum_has_its_why_and_its_time(real, strong):
    learner, seen = strong(0), Counter()
    for unit in units.all_units():
        now = status.derive(learner.events)
        if now.next_quest and now.next_quest.kind in {"read", "solve", "quiz"}:
            seen[now.next_quest.kind] += 1
            assert guide.why(now.next_quest, now, learner.events).endswith(".")
            assert guide.duration(now.next_quest, now)
        learner.tell(Done, unit=unit.id) if unit.kind == "theory" else learner.do(unit.id)
    assert seen["read"] > 3


def test_start_tells_why_how_long_and_what_else(solo, real, strong):
    learner = strong(0)
    learner.do("phase1/lab1")
    progress.append(*learner.events)
    out = solo("start", "--no-lab")[1]
    assert "Why: It prepares you for “Lab 2" in out
    assert "Time: 15 minutes." in out
    assert "Also: " in out


def test_a_placement_asks_a_few_questions_spread_over_the_labs(real):
    quiz, taught = units.find("phase1/quiz"), briefs()
    for seed in range(20):
        asked = placement.draw(quiz, seed)
        assert len({q.question.id for q in asked}) == placement.QUESTIONS
        labs = Counter(taught.get(q.question.skills[0]) for q in asked)
        assert len(labs) >= 5
        skills = Counter(s for q in asked for s in q.question.skills)
        assert max(skills.values()) <= 2
        assert [q.text for q in placement.draw(quiz, seed)] == [q.text for q in asked]


def test_right_answers_open_the_next_phase_and_a_guess_does_not(real):
    quiz = units.find("phase1/quiz")
    for seed in range(20):
        answers = right_answers(quiz, seed)
        assert placement.judged(quiz, seed, answers).opens == "phase2"
        one_wrong = dict(list(answers.items())[1:])
        assert placement.judged(quiz, seed, one_wrong).opens == "phase2"
        two_wrong = dict(list(answers.items())[2:])
        assert len(two_wrong) < PASS * placement.QUESTIONS
        assert placement.judged(quiz, seed, two_wrong).opens is None
        assert placement.judged(quiz, seed, dict.fromkeys(answers, "a")).opens is None


def test_a_placement_opens_and_never_locks(quiz):
    assert status.gate([], "phase2") == "phase1/quiz"
    failed = Placement(unit=quiz.id, seed=1, marks={"choice-0": 0.0})
    passed = Placement(unit=quiz.id, seed=1, marks={"choice-0": 1.0}, opens="phase2")
    assert status.gate([failed], "phase2") == "phase1/quiz"
    assert status.gate([passed], "phase2") is None
    assert status.gate([passed, failed], "phase2") is None
    assert status.gate([failed], "phase1") is None
    assert status.derive([passed]).rank == "E"
    assert status.derive([passed]).xp == 0


def test_a_newcomer_is_asked_and_enter_goes_on(solo, quiz, at_a_terminal):
    at_a_terminal("")
    code, out, _ = solo("start")
    assert code == 0
    assert "Is PyTorch new to you?" in out
    assert "Next quest" in out
    assert placements() == []


def test_the_answers_of_a_newcomer_are_judged_and_kept(solo, quiz, at_a_terminal, monkeypatch):
    monkeypatch.setattr("grading.cli.placement.secrets.randbits", lambda bits: 5)
    at_a_terminal("y", *right_answers(quiz, 5).values())
    code, out, _ = solo("start")
    assert code == 0
    assert f"Question 1 of {placement.QUESTIONS}" in out
    assert "6 of 6 are right. phase2 is open to you." in out
    (kept,) = placements()
    assert (kept.opens, sum(kept.marks.values())) == ("phase2", 6)
    at_a_terminal()
    assert "Is PyTorch new" not in solo("start")[1], "once"


def test_who_knows_nothing_begins_at_the_beginning(solo, quiz, at_a_terminal):
    at_a_terminal("yes", *[""] * placement.QUESTIONS)
    out = solo("start")[1]
    assert "0 of 6 are right. Begin here" in out
    assert placements()[0].opens is None


def test_to_leave_in_the_middle_is_no_error(solo, quiz, at_a_terminal):
    at_a_terminal("y", "a")
    code, out, _ = solo("start")
    assert code == 0
    assert "Next quest" in out
    assert placements() == []


def test_nobody_is_asked_without_a_terminal_or_with_a_record(solo, quiz, at_a_terminal, monkeypatch):
    at_a_terminal()
    assert "Is PyTorch" not in solo("start", "--no-lab")[1]
    assert "Is PyTorch" not in solo("start")[1], "there is a workspace now"
    progress.append(Done(unit="phase1/lab9"))
    assert "Is PyTorch" not in solo("start")[1]


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_no_lab_never_waits_for_anybody_even_at_a_terminal(quiz):
    import pty

    master, slave = pty.openpty()
    command = [sys.executable, "-c", "from grading.cli import main; main()", "start", "--no-lab"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env) as process:
        assert process.wait(60) == 0
    os.close(slave)
    assert b"Next quest" in os.read(master, 100_000)
    os.close(master)
