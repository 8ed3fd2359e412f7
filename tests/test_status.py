"""What events amount to."""

from datetime import UTC, datetime, timedelta

import pytest

from grading import units
from grading.checkers import checker
from grading.events import Attempt, Done, Hint, Note, RankUp, Reveal
from grading.plan import phases
from grading.status import derive

START = datetime(2026, 1, 1, tzinfo=UTC)
PASSED, PARTLY, FAILED = 6.0, 3.0, 0.0
LIVE, FRESH = "live", "fresh"
OLD = "an older checker"


def events(*told):
    """`(context, points)`, `(context, points, digest)` or "reveal", an hour apart, about `first` in lab 1."""
    digest = checker(units.find("lab1"), "first").digest
    for hour, event in enumerate(told):
        at = START + timedelta(hours=hour)
        if event == "reveal":
            yield Reveal(at=at, unit="phase1/lab1", exercise="first")
            continue
        context, points, checked_by = (*event, digest)[:3]
        yield Attempt(
            at=at, unit="phase1/lab1", exercise="first", checker=checked_by, context=context, seed=0,
            outcome="passed" if points == PASSED else "failed", points=points, max_points=6, requirements={},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "state", "points"),
    [
        ([], "open", 0),
        ([(LIVE, FAILED)], "tried", 0),
        ([(LIVE, PASSED)], "passed_here", 0),
        ([(FRESH, PASSED)], "confirmed", 6),
        ([("autograde", PASSED)], "confirmed", 6),
        ([("class", PASSED)], "confirmed", 6),
        ([(FRESH, PARTLY)], "tried", 3),
        ([(LIVE, PARTLY)], "tried", 0),
        ([(FRESH, PASSED), (FRESH, FAILED)], "confirmed", 6),
        (["reveal"], "revealed", 0),
        (["reveal", (FRESH, PASSED)], "revealed", 0),
        ([(FRESH, PARTLY), "reveal", (FRESH, PASSED)], "revealed", 3),
        ([(FRESH, PASSED), "reveal"], "confirmed", 6),
        ([(LIVE, PASSED), "reveal"], "passed_here", 0),
        ([(LIVE, PASSED), "reveal", (FRESH, PASSED)], "confirmed", 6),
        ([(FRESH, PASSED, OLD)], "to_recheck", 0),
        ([(FRESH, PASSED, OLD), (FRESH, FAILED)], "tried", 0),
        ([(FRESH, PASSED, OLD), "reveal"], "to_recheck", 0),
        ([(FRESH, PASSED, OLD), "reveal", (FRESH, PASSED)], "confirmed", 6),
        ([(FRESH, FAILED, OLD), "reveal", (FRESH, PASSED)], "revealed", 0),
    ],
)
def test_state_and_points(curriculum, told, state, points):
    first = derive(events(*told))["phase1/lab1"].exercises[0]
    assert (first.state, first.points) == (state, points)


def test_order_of_the_list_does_not_matter(curriculum):
    told = list(events((FRESH, PARTLY), "reveal", (FRESH, PASSED)))
    assert derive(told) == derive(reversed(told))


def attempts(report, *runs):
    return [
        Attempt.of(r, e)
        for r in (report(unit, context, **points) for unit, context, points in runs)
        for e in r.exercises
    ]


@pytest.mark.parametrize(
    ("runs", "quest"),
    [
        ([], ("read", "phase1/theory1", None)),
        ([("lab1", LIVE, {"first": 0})], ("solve", "phase1/lab1", "first")),
        ([("lab1", FRESH, {"first": 6})], ("solve", "phase1/lab1", "second")),
        ([("lab1", LIVE, {"first": 6})], ("solve", "phase1/lab1", "second")),
        ([("lab1", LIVE, {"first": 6, "second": 4})], ("confirm", "phase1/lab1", None)),
        ([("lab1", FRESH, {"first": 6, "second": 4})], ("solve", "phase1/lab2", "first")),
    ],
)
def test_next_quest(report, runs, quest):
    found = derive(attempts(report, *runs)).next_quest
    assert (found.kind, found.unit, found.exercise) == quest


def test_next_quest_goes_round_a_revealed_exercise_and_a_read_brief(curriculum):
    done = Done(unit="phase1/theory1")
    assert derive([done]).next_quest.exercise == "first"
    assert derive([done, Reveal(unit="phase1/lab1", exercise="first")]).next_quest.exercise == "second"


def test_no_quest_when_all_is_confirmed(report):
    full = {"first": 6, "second": 4}
    assert derive(attempts(report, ("lab1", FRESH, full), ("lab2", FRESH, full))).next_quest is None


def test_side_quests_give_xp_only_and_hints_cost_nothing(report):
    told = attempts(report, ("lab1", FRESH, {"first": 6, "extra": 5}))
    hints = [Hint(unit="phase1/lab1", exercise="first")] * 3
    lab = derive(told)["phase1/lab1"]
    assert (lab.points, lab.max_points, lab.xp) == (6, 10, 11)
    assert derive([*told, *hints]) == derive(told)


def test_rank_needs_every_planned_lab(report, curriculum):
    both = attempts(report, ("lab1", FRESH, {"first": 6, "second": 1}), ("lab2", FRESH, {"first": 6, "second": 1}))
    assert derive(both).rank == "D"
    assert derive(both).next_rank == "C"
    plan = curriculum / "phase1_foundations" / "phase.toml"
    plan.write_text(plan.read_text() + 'lab3_planned = "Not built"\n')
    assert derive(both).rank == "E"


def test_a_unit_without_points_holds_nothing_back(report, curriculum):
    both = attempts(report, ("lab1", FRESH, {"first": 6, "second": 4}), ("lab2", FRESH, {"first": 6, "second": 4}))
    phase = curriculum / "phase1_foundations"
    (phase / "lab0_orientation").mkdir()
    (phase / "lab0_orientation" / "lab.py").write_text("# # Orientation")
    (phase / "lab0_orientation" / "test_lab.py").write_text("")
    (phase / "phase.toml").write_text((phase / "phase.toml").read_text() + 'lab0_orientation = "Orientation"\n')
    units.all_units.cache_clear()
    assert derive(both).rank == "D"


@pytest.fixture
def orientation(curriculum):
    """A lab whose two exercises earn XP only, before all else."""
    folder = curriculum / "phase1_foundations" / "lab0_orientation"
    folder.mkdir()
    (folder / "lab.py").write_text("# # Orientation")
    exercise = (
        'class Test{}(Exercise):\n    """It."""\n    side_quest = True\n    def test_it(self, lab):\n        """it"""\n'
    )
    (folder / "test_lab.py").write_text(exercise.format("Here") + exercise.format("There"))
    units.all_units.cache_clear()


def test_the_orientation_comes_first_and_nobody_is_sent_back_to_it(orientation, report):
    quests = [
        derive(attempts(report, *runs)).next_quest
        for runs in (
            [],
            [("lab0", FRESH, {"here": 1})],
            [("lab0", LIVE, {"here": 1, "there": 1})],
            [("lab0", LIVE, {"here": 1}), ("lab1", LIVE, {"first": 0})],
        )
    ]
    assert [(q.kind, q.unit, q.exercise) for q in quests] == [
        ("solve", "phase1/lab0", "here"),
        ("solve", "phase1/lab0", "there"),
        ("confirm", "phase1/lab0", None),
        ("solve", "phase1/lab1", "first"),
    ]


def test_a_rank_once_earned_stays(curriculum):
    assert derive([RankUp(rank="C"), RankUp(rank="D")]).rank == "C"


def test_notes_and_own_word_are_apart_from_grades(curriculum):
    lab = derive([Note(unit="phase1/lab1", text="strides", improve=True), Done(unit="phase1/lab1")])["phase1/lab1"]
    assert lab.done
    assert lab.points == 0
    assert lab.notes[0].text == "strides"


def test_the_real_plan_can_be_read_and_names_what_is_built(monkeypatch):
    monkeypatch.delenv("SOLO_CONTENT", raising=False)
    units.all_units.cache_clear()
    planned = {(phase.id, name) for phase in phases() for name in phase.units}
    assert {(unit.phase, unit.name) for unit in units.labs()} <= planned
    assert [phase.id for phase in phases()] == list(units.PHASES)
    units.all_units.cache_clear()
