"""What the skill model makes of a record: rules one by one, and simulated learners over several seeds."""

from datetime import timedelta
from statistics import mean

import pytest

from grading import units
from grading.checkers import checkers
from grading.coach.evidence import Occasion, occasions
from grading.coach.skills import HALF_LIFE_DAYS, PRIOR, SURE, WEAK, likelihood_ratio, skills
from grading.events import Attempt, Hint, Placement, Reveal

SEEDS = range(8)
LABS = "phase1/lab1", "phase1/lab2", "phase1/lab3"


def after_the_labs(learner):
    for lab in LABS:
        learner.do(lab)
        learner.wait(3)
    return learner


def tell(strong, *told):
    """What is told of `reshape_by_strides`-like work: "pass", "confirm", "fail", "hint", "reveal" of lab 1's first."""
    learner = strong(0)
    first = checkers(units.find("phase1/lab1"))[0]
    for word in told:
        learner.wait(0.01)
        facts = {"unit": "phase1/lab1", "exercise": first.name}
        if word in {"hint", "reveal"}:
            learner.tell(Hint if word == "hint" else Reveal, **facts)
            continue
        outcome = "failed" if word in {"fail", "refail"} else "passed"
        learner.tell(
            Attempt, **facts, checker=first.digest, outcome=outcome, points=0, max_points=2, seed=0,
            context="fresh" if word in {"confirm", "refail"} else "live", requirements={"test": outcome},
        )  # fmt: skip
    return learner


def ratio(strong, *told):
    (occasion,) = occasions(tell(strong, *told).events)
    return likelihood_ratio(occasion)


def test_help_makes_a_pass_worth_less_until_it_speaks_against(strong):
    ways = (
        ("pass", "confirm"),
        ("pass",),
        ("fail", "pass"),
        ("fail", "hint", "pass"),
        ("fail", "fail", "fail", "hint", "hint", "hint", "pass"),
    )
    ratios = [ratio(strong, *way) for way in ways]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 10
    assert ratios[-1] < 1
    assert ratio(strong, "fail") < 1
    assert ratio(strong, "fail", "reveal", "pass") == ratio(strong, "reveal") < 0.2


def test_the_same_code_checked_again_is_no_evidence(strong):
    assert ratio(strong, "fail", "refail", "refail") == ratio(strong, "fail")
    assert ratio(strong, "pass", "confirm", "confirm", "fail") == ratio(strong, "pass", "confirm")
    assert occasions(tell(strong, "hint").events) == ()


def test_a_guess_is_worth_less_the_likelier_it_is():
    few, many = (Occasion("u", "q", ("s",), None, right=True, chance=1 / n) for n in (2, 5))
    assert 1 < likelihood_ratio(few) < likelihood_ratio(many)
    missed = Occasion("u", "q", ("s",), None, chance=0.25)
    assert likelihood_ratio(missed) < 0.2


def test_mastery_is_a_probability_and_falls_back_to_the_prior_with_time(strong):
    learner = after_the_labs(strong(0))
    ages = [skills(learner.events, learner.now + timedelta(days=d)) for d in (0, 30, 90, 3000)]
    for name in ages[0]:
        values = [age[name].mastery for age in ages]
        assert values == sorted(values, reverse=True)
        assert 0 <= values[-1] <= values[0] <= 1
        assert values[-1] <= PRIOR + 0.02
        assert len({age[name].learned for age in ages}) == 1


def test_spaced_practice_is_forgotten_more_slowly_and_cramming_is_not(strong):
    def half_life(gap_days):
        learner = tell(strong, "pass", "confirm")
        first = checkers(units.find("phase1/lab1"))[0]
        for _ in range(2):
            learner.wait(gap_days)
            learner.practise("phase1/lab1", first.name)
        return skills(learner.events, learner.now)[first.skills[0]].half_life_days

    assert half_life(0.01) == HALF_LIFE_DAYS
    assert half_life(10) == 4 * HALF_LIFE_DAYS


def test_a_placement_is_evidence_too(strong):
    learner = strong(0)
    learner.tell(Placement, unit="phase1/quiz", seed=1, marks={"broadcast-shape": 1.0, "no-longer-there": 1.0})
    known = skills(learner.events, learner.now)
    assert set(known) == {"broadcasting", "shapes"}
    assert known["shapes"].mastery > PRIOR


def test_what_is_no_longer_on_disk_says_nothing(strong):
    learner = tell(strong, "fail", "pass")
    gone = [e.model_copy(update={"exercise": "gone"}) for e in learner.events]
    moved = [e.model_copy(update={"unit": "phase9/lab1"}) for e in learner.events]
    assert skills(gone + moved, learner.now) == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_strong_learner_is_seen_as_strong(strong, seed):
    learner = after_the_labs(strong(seed))
    known = skills(learner.events, learner.now).values()
    assert mean(s.mastery for s in known) > 0.8
    assert mean(s.confidence for s in known) > 0.5
    assert not any(s.weak for s in known)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_guesses_is_not_taken_for_strong(guessing, seed):
    learner = after_the_labs(guessing(seed))
    learner.sit()
    learner.sit()
    known = skills(learner.events, learner.now).values()
    assert mean(s.mastery for s in known) < 0.55
    assert sum(s.weak for s in known) >= len(known) / 4
    assert sum(s.strong for s in known) <= len(known) / 8


@pytest.mark.parametrize("seed", SEEDS)
def test_who_forgets_is_strong_at_first_and_faded_later(forgetful, seed):
    learner = after_the_labs(forgetful(seed))
    before = skills(learner.events, learner.now).values()
    assert sum(s.weak for s in before) <= 1
    learner.wait(90)
    after = skills(learner.events, learner.now).values()
    sure = [s for s in after if s.confidence >= SURE]
    assert mean(s.faded for s in sure) > 0.9
    learner.sit()
    fell, held = set(), set()
    for occasion in occasions(learner.events):
        if occasion.unit == "phase1/quiz":
            (held if occasion.right else fell).update(occasion.skills)
    now = skills(learner.events, learner.now)
    assert all(now[name].mastery < WEAK for name in fell - held), "what the quiz has shown to be lost is lost"


def test_mastery_ranks_what_is_there_above_what_is_not(patchy):
    """The area under the curve: of two skills of one learner, one there and one not, how often the model knows which.

    The learner has every other skill; most exercises need two or three, so that most fail for the fault of one.
    """
    areas = {"labs": [], "quizzes": []}
    for seed in range(20):
        learner, has = patchy(seed)
        for stage, areas_then in areas.items():
            if stage == "labs":
                after_the_labs(learner)
            else:
                for _ in range(3):
                    learner.sit()
                    learner.wait(1)
            trained = {s for lab in LABS for c in checkers(units.find(lab)) for s in c.skills}
            known = {n: s.mastery for n, s in skills(learner.events, learner.now).items() if n in trained}
            there = [m for n, m in known.items() if n in has]
            missing = [m for n, m in known.items() if n not in has]
            wins = [(a > b) + (a == b) / 2 for a in there for b in missing]
            areas_then.append(mean(wins))
    assert mean(areas["labs"]) > 0.62
    assert mean(areas["quizzes"]) > 0.75
