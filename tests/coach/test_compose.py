"""A review is made of parts, kept small, and compared with the last one; a part that fails costs only itself."""

import shutil
import sys
from types import ModuleType

import pytest

from grading import progress, units
from grading.coach.compose import MOST_FINDINGS, PARTS, keep, review_unit
from grading.coach.iterate import compare, reviews
from grading.coach.review import ArchitectureNote, Finding, Review, SpeedNote
from grading.report import Report

FINDING = Finding(rule="data-attribute", exercise="first", line=2, code="x.data", why="It hides.", better="x.detach()")
SPEED = SpeedNote(
    exercise="first", ratio=3.0, memory_ratio=None, exponent=1.0, reference_exponent=1.0, text="Three times as slow."
)
BUILD = ArchitectureNote(exercise="second", facts={"parameters": "10"}, remarks=("A bias before a norm is idle.",))


@pytest.fixture
def parts(monkeypatch):
    """Stands in for the coach's measuring parts: what each returns or raises, and what it was called with."""
    results = {"review_code": (FINDING,), "measured_notes": ((SPEED,), (BUILD,), ())}
    called = {}

    def stand_in(name):
        def part(*arguments):
            called[name] = arguments
            if isinstance(results[name], Exception):
                raise results[name]
            return results[name]

        return part

    for module, name in zip(("code", "measuring"), results, strict=True):
        fake = ModuleType(f"grading.coach.{module}")
        setattr(fake, name, stand_in(name))
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return results, called


@pytest.fixture
def lab(curriculum):
    unit = units.find("lab1")
    unit.workspace_notebook.parent.mkdir(parents=True)
    unit.workspace_notebook.write_bytes(unit.notebook.read_bytes())
    return unit


def test_all_parts_come_together(lab, parts, report):
    told = []
    ran = report("lab1", first=6, second=2)
    review = review_unit(lab, lab.workspace_notebook, ran, told.append)
    assert (review.points, review.max_points, review.unit) == (8, 10, lab.id)
    assert (review.findings, review.speed, review.architecture) == ((FINDING,), (SPEED,), (BUILD,))
    assert [s.exercise for s in review.challenges] == ["extra"]
    assert review.omitted == {}
    assert told == list(PARTS.values())
    _, called = parts
    assert [c.grade_id for c in called["review_code"][1] if not c.check] == ["first", "second", "extra"]
    assert called["measured_notes"] == (lab, lab.workspace_notebook, ["first"]), "only what passes is measured"


@pytest.mark.parametrize("broken", ["review_code", "measured_notes"])
def test_a_part_that_fails_costs_its_own_section_and_says_so(lab, parts, report, broken):
    results, _ = parts
    results[broken] = ValueError("odd code\nin many lines")
    review = review_unit(lab, lab.workspace_notebook, report("lab1", first=6))
    (sentence,) = review.omitted.values()
    assert "ValueError: odd code)" in sentence
    assert bool(review.findings) is (broken != "review_code")
    assert bool(review.speed) is bool(review.architecture) is (broken != "measured_notes")


def test_a_part_that_returns_what_it_should_not_is_as_good_as_failed(lab, parts, report):
    results, _ = parts
    results["measured_notes"] = None
    review = review_unit(lab, lab.workspace_notebook, report("lab1", first=6))
    assert set(review.omitted) == {"measured"}


def test_a_kept_review_is_small(lab, parts, report):
    results, _ = parts
    results["review_code"] = tuple(FINDING.model_copy(update={"line": i}) for i in range(100))
    review = review_unit(lab, lab.workspace_notebook, report("lab1", first=6))
    assert len(review.findings) == MOST_FINDINGS
    assert review.omitted["code"].startswith("80 more")
    keep(review)
    assert reviews(progress.load().events, lab.id) == [review]
    assert len(progress.path().read_text()) < 8000


def test_the_modules_of_a_project_are_read(tiny, monkeypatch, tmp_path):
    project = units.find("phase1/project")
    folder = tmp_path / "project"
    shutil.copytree(project.solution, folder)
    (folder / "tiny" / "model.py").write_text(
        "def spread(values):\n    try:\n        return 1\n    except:\n        pass\n"
    )
    nobody = Report(unit=project.id, context="fresh", seed=0, exercises=())
    review = review_unit(project, folder, nobody)
    assert [finding.rule for finding in review.findings] == ["bare-except"]


def test_an_untouched_record_has_no_review(lab):
    assert reviews(progress.load().events, lab.id) == []


def test_this_attempt_is_compared_with_the_last():
    moved = FINDING.model_copy(update={"line": 9})
    other = FINDING.model_copy(update={"code": "y.data"})
    noisy, fast = SPEED.model_copy(update={"exercise": "noisy"}), SPEED.model_copy(update={"ratio": 1.1})
    before = Review(unit="u", points=4, max_points=10, findings=(FINDING, FINDING), speed=(SPEED, noisy))
    now = Review(
        unit="u", points=6.5, max_points=10, findings=(moved, other),
        speed=(fast, noisy.model_copy(update={"ratio": 3.9}), SPEED.model_copy(update={"exercise": "unheard_of"})),
    )  # fmt: skip
    changes = compare(before, now)
    assert changes.points == 2.5
    assert (changes.gone, changes.new) == ((FINDING,), (other,))
    assert changes.speed == {"first": (3.0, 1.1)}
    same = compare(before, before)
    assert (same.points, same.gone, same.new, same.speed) == (0, (), (), {})


def test_a_review_says_nothing_of_points_states_or_ranks(lab, parts, report):
    from grading import status

    ran: Report = report("lab1", first=6)
    progress.record(ran)
    before = status.derive(progress.load().events)
    keep(review_unit(lab, lab.workspace_notebook, ran))
    assert status.derive(progress.load().events) == before
