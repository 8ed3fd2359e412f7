"""What the coach tells simulated learners to do next, and that its sentences say what the record says."""

import re
from datetime import timedelta

import pytest

from grading import units
from grading.checkers import checker, checkers
from grading.coach import words
from grading.coach.evidence import occasions
from grading.coach.skills import skills
from grading.coach.steps import MOST, MUCH_HELP, PER_KIND, REST, challenges, next_steps
from grading.events import Attempt, Done, Placement
from grading.quizzes import bank

SEEDS = range(8)
LABS = "phase1/lab1", "phase1/lab2", "phase1/lab3"


def after_the_labs(learner):
    for lab in LABS:
        learner.do(lab)
        learner.wait(4)
    return learner


def told(learner, *kinds):
    return [s for s in next_steps(learner.events, learner.now) if not kinds or s.kind in kinds]


def test_who_has_done_nothing_is_told_nothing(strong):
    learner = strong(0)
    assert next_steps([], learner.now) == ()
    learner.tell(Done, unit="phase1/theory1")
    assert next_steps(learner.events, learner.now) == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_strong_learner_is_sent_on_and_not_back(strong, seed):
    learner = after_the_labs(strong(seed))
    assert {s.kind for s in told(learner)} <= {"try", "skip", "quiz"}
    assert told(learner, "try")


@pytest.mark.parametrize("seed", SEEDS)
def test_who_guesses_is_sent_back_and_nothing_is_called_superfluous(guessing, seed):
    learner = after_the_labs(guessing(seed))
    steps = told(learner)
    assert steps[0].kind == "again"
    assert "read" in {s.kind for s in steps}
    assert "skip" not in {s.kind for s in steps}
    for step in told(learner, "again"):
        (occasion,) = [o for o in occasions(learner.events) if (o.unit, o.name) == (step.unit, step.exercise)]
        assert occasion.revealed or occasion.help >= MUCH_HELP


@pytest.mark.parametrize("seed", SEEDS)
def test_who_forgets_is_left_alone_at_first_and_sent_back_later(forgetful, seed):
    learner = after_the_labs(forgetful(seed))
    hard = {(o.unit, o.name) for o in occasions(learner.events) if o.help >= MUCH_HELP}
    assert {(s.unit, s.exercise) for s in told(learner, "again")} <= hard, "only what was hard"
    learner.wait(80)
    steps = told(learner, "again")
    assert len(steps) == PER_KIND
    for step in steps:
        assert re.search(r"it is (8\d|9\d) days ago", step.why)
    learner.sit()
    review = told(learner, "review")
    (asked,) = [e for e in learner.events if e.kind == "sitting"]
    left = [q for q in bank.read(units.find("phase1/quiz")).questions if q.id not in asked.questions]
    weak = {s.name for s in skills(learner.events, learner.now).values() if s.weak}
    count = sum(bool(weak & set(q.skills)) for q in left)
    assert words.counted(count, "question") in review[0].why


def test_practice_takes_an_exercise_off_the_list_and_a_failed_one_does_not(forgetful):
    learner = after_the_labs(forgetful(0))
    learner.wait(80)
    first, second = told(learner, "again")
    learner.practise(first.unit, first.exercise)
    learner.practise(second.unit, second.exercise, outcome="failed")
    names = [s.exercise for s in told(learner, "again")]
    assert first.exercise not in names
    learner.wait(REST.days + 1)
    assert first.exercise not in [s.exercise for s in told(learner, "again")]


@pytest.mark.parametrize("seed", SEEDS)
def test_few_steps_ranked_and_the_same_every_time(guessing, forgetful, seed):
    for learner in (after_the_labs(guessing(seed)), after_the_labs(forgetful(seed))):
        learner.wait(30)
        learner.sit()
        steps = next_steps(learner.events, learner.now)
        assert 0 < len(steps) <= MOST
        assert all([s.kind for s in steps].count(kind) <= PER_KIND for kind in {s.kind for s in steps})
        assert steps == next_steps(reversed(learner.events), learner.now)
        assert all(step.why.endswith(".") and step.why.count(". ") == 0 for step in steps)


def test_the_sentence_says_what_happened(strong):
    learner = strong(0)
    exercise = checker(units.find("phase1/lab1"), "log_sum_exp")
    outcomes = iter([0.0] * 5 + [1.0])
    learner.hint_after, learner.passes = 1, lambda skills, now: next(outcomes)
    learner.solve("phase1/lab1", exercise)
    learner.wait(20)
    (step,) = told(learner, "again")
    assert step.why == "You solved it at the sixth try and after three hints; it is 20 days ago."
    assert (step.unit, step.exercise, step.title) == ("phase1/lab1", "log_sum_exp", exercise.title)


def test_an_exercise_that_names_no_skill_is_no_trouble(tiny, strong, monkeypatch):
    learner = strong(0)
    monkeypatch.setenv("SOLO_CONTENT", str(tiny.folder.parents[1]))
    units.all_units.cache_clear()
    learner.hint_after, learner.passes = 1, lambda skills, now: len(learner.events) > 6
    learner.do(tiny.id)
    learner.wait(20)
    assert {c.skills for c in checkers(tiny)} >= {()}
    assert [s.exercise for s in told(learner, "again")] == ["softmax"]
    (scale,) = challenges(tiny, learner.events, learner.now)
    assert scale.why == "It is worth 1 XP."


def test_nothing_is_repeated_on_the_day_it_was_hard(guessing):
    learner = guessing(0)
    learner.do("phase1/lab1")
    assert told(learner, "again") == []


def test_the_quiz_comes_when_every_lab_of_its_phase_is_passed(strong):
    learner = strong(0)
    labs = [unit.id for unit in units.labs() if unit.phase == "phase1"]
    for lab in labs:
        assert told(learner, "quiz") == []
        learner.do(lab)
        learner.wait(1)
    assert "every lab of phase1" in told(learner, "quiz")[0].why
    learner.passes = lambda skills, now: 0.0
    learner.sit()
    assert re.search(r"best sitting has .*14 of 20 points pass", told(learner, "quiz")[0].why)


def test_what_is_left_of_a_passed_lab_may_be_skipped_by_the_strong_only(strong, guessing):
    for learner, may in ((strong(1), True), (guessing(1), False)):
        learner.do("phase1/lab2")
        learner.wait(2)
        learner.do("phase1/lab1")
        dropped = ("phase1/lab2", "residual_block")
        learner.events = [e for e in learner.events if (getattr(e, "unit", 0), getattr(e, "exercise", 0)) != dropped]
        for name in ("modules", "initialisation", "residual") * 3:  # the rest of the evidence, without doubt
            learner.wait(1)
            skilled = [q.id for q in bank.read(units.find("phase1/quiz")).questions if name in q.skills]
            learner.tell(Placement, unit="phase1/quiz", seed=1, marks=dict.fromkeys(skilled, 1.0 if may else 0.0))
        skipped = [s for s in told(learner, "skip") if s.exercise == "residual_block"]
        assert bool(skipped) == may


def test_a_placement_that_went_right_lets_a_brief_be_skipped(strong):
    learner = strong(0)
    right = dict.fromkeys(("broadcast-shape", "list-of-layers"), 1.0)
    learner.tell(Placement, unit="phase1/quiz", seed=1, marks=right)
    assert [s.unit for s in told(learner, "skip")] == ["phase1/theory1", "phase1/theory2"]
    learner.tell(Placement, unit="phase1/quiz", seed=1, marks={"shares-memory": 0.0})
    assert [s.unit for s in told(learner, "skip")] == ["phase1/theory2"]


def test_challenges_that_train_what_is_weak_come_first_then_what_is_very_strong(guessing, strong):
    lab = units.find("phase1/lab1")
    quests = {c.name for c in checkers(lab) if c.side_quest}
    untouched = challenges(lab, [], strong(0).now)
    assert {s.exercise for s in untouched} == quests
    for learner in (guessing(0), strong(0)):
        learner.do("phase1/lab1")
        learner.sit()
        known = skills(learner.events, learner.now)
        ranked = challenges(lab, learner.events, learner.now)
        assert {s.exercise for s in ranked} == quests
        weak = [any(known[s].weak for s in checker(lab, r.exercise).skills if s in known) for r in ranked]
        assert weak == sorted(weak, reverse=True)
    done = checker(lab, "softplus")
    learner.tell(
        Attempt, unit=lab.id, exercise="softplus", checker=done.digest, outcome="passed", points=done.points,
        max_points=done.points, context="live", seed=0, requirements={},
    )  # fmt: skip
    assert "softplus" not in {s.exercise for s in challenges(lab, learner.events, learner.now)}


@pytest.mark.parametrize(
    ("count", "ordinal"), [(1, "first"), (10, "tenth"), (11, "11th"), (12, "12th"), (21, "21st"), (112, "112th")]
)
def test_ordinals(count, ordinal):
    assert words.ordinal(count) == ordinal


def test_times_and_lists(strong):
    now = strong(0).now
    assert [words.ago(now - timedelta(days=d), now) for d in (-1, 0.9, 1, 20)] == [
        "today", "today", "yesterday", "20 days ago",
    ]  # fmt: skip
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed(["a", "b", "c", "d"]) == "a, b and 2 more"
