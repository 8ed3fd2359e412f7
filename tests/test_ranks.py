"""The rank rule, by table."""

import pytest

from grading import ranks

LABS = {"lab1_a": 0.7, "lab2_b": 1.0}
REST = {"quiz": 0.8, "project_x": 0.7}
FULL = {"lab1_a": 1.0, "quiz": 1.0}
ALL = {"phase1": LABS | REST, "phase2": FULL, "phase3": FULL, "phase4": FULL, "capstone": {"capstone": 0.7}}


@pytest.mark.parametrize(
    ("shares", "rank"),
    [
        ({}, "E"),
        ({"phase1": {}}, "E"),
        ({"phase1": LABS | {"lab2_b": 0.69, "quiz": 0.0}}, "E"),
        ({"phase1": LABS | {"quiz": 0.0}}, "D"),
        ({"phase1": LABS}, "D"),
        ({"phase1": REST}, "E"),
        ({"phase1": LABS | REST | {"quiz": 0.6}}, "D"),
        ({"phase1": LABS | REST}, "C"),
        ({"phase1": LABS | REST, "phase2": {}, "phase3": FULL}, "C"),
        ({"phase1": LABS, "phase2": FULL}, "D"),
        ({"phase1": LABS | REST, "phase2": FULL | {"lab1_a": 0.0}}, "C"),
        ({"phase1": LABS | REST, "phase2": FULL}, "B"),
        (ALL | {"phase4": {}}, "A"),
        (ALL | {"capstone": {}}, "A"),
        (ALL, "S"),
    ],
)
def test_rule(shares, rank):
    assert ranks.rank(shares) == rank


def test_higher_and_after():
    assert ranks.higher("C", "D") == "C"
    assert ranks.after("E") == "D"
    assert ranks.after("S") is None
    assert list(ranks.REQUIREMENTS) == list(ranks.RANKS)
