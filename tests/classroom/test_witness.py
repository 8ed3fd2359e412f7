"""Values that a submission's checks compare are compared again by the grader, with the solution as the measure."""

import pytest
import torch

from grading.classroom.scribe import pack
from grading.classroom.witness import LARGEST, MOST, Witness, contradictions, measure
from grading.report import ExerciseReport, Outcome, Requirement

FIRST = 1, 0
"""The first run of the first child."""


def exercise(*outcomes):
    requirements = tuple(
        Requirement(id=f"test_{i}", text="is right", outcome=outcome) for i, outcome in enumerate(outcomes)
    )
    return ExerciseReport(
        name="sum", title="Sum", outcome=outcomes[0], points=1, max_points=1, checker="0", requirements=requirements
    )


def witness(*pairs):
    seen = Witness()
    seen.take(FIRST, "sum", "test_0", [pack(*pair) for pair in pairs])
    return seen


def close(actual, expected, rtol=1e-5, atol=1e-6):
    return torch.as_tensor(actual), torch.as_tensor(expected), rtol, atol


PASSED = [exercise(Outcome.PASSED)]
BY = measure(witness(close([1.0, 2.0], [1.0, 2.0])), PASSED)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(torch.float32, (2, 3)), (torch.bfloat16, (4,)), (torch.int64, ()), (torch.bool, (2, 0)), (torch.complex64, (3,))],
)
def test_values_arrive_as_they_were(dtype, shape):
    value = torch.randn(shape).mul(10).to(dtype).permute(tuple(reversed(range(len(shape)))))  # not contiguous
    ((pair,),) = witness(close(value, value)).of("sum", "test_0")
    assert pair.actual.tolist() == value.tolist()
    assert pair.agrees(0, 0)


def test_numbers_and_what_numpy_cannot_hold():
    seen = witness(
        (3, 3, 0, 0),
        (2.5, 2.5, 0, 0),
        close(torch.zeros(LARGEST), torch.zeros(LARGEST)),
        close(torch.eye(3).to_sparse(), torch.eye(3).to_sparse()),
        close(torch.zeros(3, device="meta"), torch.zeros(3, device="meta")),
    )
    (pairs,) = seen.of("sum", "test_0")
    assert [pair.actual is None for pair in pairs] == [False, False, True, True, True]
    assert all(pair.agrees(0, 0) for pair in pairs)


@pytest.mark.parametrize(
    ("actual", "expected", "agree"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.00001], [1.0, 2.0], True),
        ([1.0, 2.1], [1.0, 2.0], False),
        ([1.0, 2.0], [[1.0, 2.0]], False),
        ([1.0, float("nan")], [1.0, 2.0], False),
        ([1.0, float("nan")], [1.0, float("nan")], True),
        ([1.0, float("inf")], [1.0, float("inf")], True),
        ([1.0, float("-inf")], [1.0, float("inf")], False),
    ],
)
def test_what_agrees(actual, expected, agree):
    found = contradictions(PASSED, witness(close(actual, expected)), BY)
    assert found == ([] if agree else ["sum: values that are said to agree do not (test_0)"])


def test_the_tolerance_is_the_solutions_own():
    generous = witness(close([1.5], [1.0], rtol=1.0, atol=1.0))
    assert contradictions(PASSED, generous, BY)
    assert not contradictions(PASSED, generous, measure(generous, PASSED))


def test_who_has_passed_must_have_compared():
    assert contradictions(PASSED, Witness(), BY) == [
        "sum: a test is said to have passed that has compared nothing (test_0)"
    ]
    assert contradictions([exercise(Outcome.FAILED)], Witness(), BY) == []
    assert contradictions(PASSED, Witness(), measure(Witness(), PASSED)) == []


def test_one_run_that_agrees_is_enough():
    seen = witness(close([9.0], [1.0]))
    seen.take((1, 1), "sum", "test_0", [pack(*close([1.0], [1.0]))])
    assert contradictions(PASSED, seen, BY) == []


def test_tests_that_differ_in_the_solution_too_are_no_measure():
    expects_a_difference = witness(close([9.0], [1.0]))
    assert measure(expects_a_difference, PASSED) == {}


@pytest.mark.parametrize(
    "packed",
    [
        [["<f4", [2], "AAAA"]],
        [["|O", [1], "AAAAAAAAAAA="], None, 0, 0],
        [["<f8", [10**9], ""], None, 0, 0],
        [["<f4", [1], "not base64"], None, 0, 0],
        [["<f4", [2], "AAAAAA=="], None, 0, 0],
        [7, 8, 0, 0],
        [None, None, "wide", 0],
    ],
)
def test_what_no_check_has_sent_is_refused(packed):
    with pytest.raises((ValueError, TypeError)):
        Witness().take(FIRST, "sum", "test_0", [packed])


def test_only_so_many_are_kept():
    seen = witness(*[close(1.0, 1.0)] * (MOST - 5))
    seen.take(FIRST, "sum", "test_0", [pack(*close(1.0, 1.0))] * 10)  # a test with parameters sends them one by one
    assert len(seen.of("sum", "test_0")[0]) == MOST
