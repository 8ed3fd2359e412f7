"""The order of the questions, and the words of the answers."""

import numpy as np
import pytest
import torch

from grading.comparison import compare

ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("actual", "expected", "stage", "says"),
    [
        (None, ONES, "unusable", "expected a tensor of shape (2, 3), got None"),
        (torch.full((2, 2), torch.nan), ONES, "nan", "4 of 4 values are NaN"),
        (torch.tensor([1.0, torch.inf]), torch.ones(2), "nan", "1 of 2 values are infinite"),
        (torch.ones(3, 2), ONES, "shape", "expected shape (2, 3), got (3, 2)"),
        (torch.ones(1, 2, 3), ONES, "shape", "expected shape (2, 3), got (1, 2, 3)"),
        (ONES.double(), ONES, "dtype", "expected dtype float32, got float64"),
        (torch.eye(3)[:2], ONES, "values", "4 of 6 values are wrong"),
        (3.0, 2.5, "values", "expected 2.5, got 3"),
        (2, 3, "values", "expected 3, got 2"),
        (np.zeros(2), torch.ones(2, dtype=torch.float64), "values", "2 of 2 values are wrong: all are zero"),
        ((ONES, ONES + 1), (ONES, ONES), "values", "6 of 6 values are wrong"),
        ({"a": ONES}, {"a": ONES.long()}, "dtype", "expected dtype int64, got float32"),
        ([ONES], [ONES, ONES], "unusable", "expected a list of 2, got a list of 1"),
        (torch.tensor([True, False]), torch.tensor([True, True]), "values", "1 of 2 values are wrong"),
    ],
)
def test_the_first_difference_is_named(actual, expected, stage, says):
    evidence = compare(actual, expected)
    assert evidence.stage == stage
    assert evidence.message.startswith(says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: -x, "the sign is turned round"),
        (lambda x: 2 * x, "all are 2 × what was expected"),
        (lambda x: x + 0.5, "all are off by +0.5"),
        (lambda x: x.mT.clone(), "it is the transpose of what was expected"),
        (torch.zeros_like, "all are zero"),
    ],
)
def test_a_simple_relation_is_noticed(change, says):
    expected = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    assert compare(change(expected), expected).message.endswith(says)


def test_the_worst_value_is_shown_with_its_place():
    expected = torch.zeros(3, 4)
    actual = expected.clone()
    actual[1, 2], actual[0, 0] = 5.0, 0.25
    evidence = compare(actual, expected)
    assert evidence.message == "2 of 12 values are wrong"
    assert evidence.facts["worst"] == "at [1, 2], expected 0, got 5"


def test_an_infinity_that_is_expected_is_no_fault():
    expected = torch.tensor([-torch.inf, 1.0])
    assert compare(torch.tensor([-torch.inf, 2.0]), expected).stage == "values"


def test_the_part_of_a_container_is_named():
    assert compare({"w": ONES, "b": ONES * 2}, {"w": ONES, "b": ONES}).facts["where"] == "in part ['b']"
