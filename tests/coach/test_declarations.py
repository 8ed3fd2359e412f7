"""What checkers declare for the coach: it runs on every solution, says nothing of it, and decides no marks."""

import re
import shutil

import pytest

from grading import units
from grading.checkers import checkers
from grading.coach.measuring import measured_notes
from grading.units import Unit

DECLARED = [
    pytest.param(unit, id=unit.id)
    for unit in units.all_units()
    if any(c.workload or c.architecture for c in checkers(unit))
]


@pytest.mark.parametrize("unit", DECLARED)
def test_the_solution_is_measured_throughout_and_gives_no_cause_for_remarks(unit):
    found = measured_notes(unit, unit.solution, [c.name for c in checkers(unit)])
    assert found.problems == ()
    assert found.speed == ()
    assert [note.exercise for note in found.architecture] == [c.name for c in checkers(unit) if c.architecture]
    assert [note.remarks for note in found.architecture if note.remarks] == []


def test_declarations_are_read_and_decide_no_marks(tiny, tmp_path):
    shutil.copy(tiny.checkers, tmp_path)
    lab = Unit(tiny.id, "lab", tmp_path / "lab.py")
    text = lab.checkers.read_text(encoding="utf-8")
    other = text.replace("64 * size", "32 * size").replace("lab.Scale(6)", "lab.Scale(7)")
    without = re.sub(r"    def (workload|architecture)\(.*?(?=\n\n\n|\Z)", "", text, flags=re.DOTALL)
    digests = []
    for version in (text, other, without):
        lab.checkers.write_text(version, encoding="utf-8")
        digests.append([c.digest for c in checkers(lab)])
    assert digests[0] == digests[1] == digests[2]
    assert not any(c.workload or c.architecture for c in checkers(lab))
    assert [(c.workload, c.architecture) for c in checkers(tiny)] == [(True, False), (True, False), (False, True)]
