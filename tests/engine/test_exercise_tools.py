"""`forbid`, `count_calls` and `raises`: what checkers are written with."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grading.exercise import ForbiddenCall, count_calls, forbid, raises

A, B = torch.ones(2, 3), torch.ones(3, 2)


@pytest.mark.parametrize(
    "product",
    [
        lambda: A @ B,
        lambda: torch.matmul(A, B),
        lambda: A.mm(B),
        lambda: torch.einsum("ij,jk->ik", A, B),
        lambda: torch.tensordot(A, B, 1),
        lambda: F.linear(A, B.T),
        lambda: nn.Linear(3, 2)(A),
        lambda: torch.bmm(A[None], B[None]),
        lambda: torch.linalg.multi_dot([A, B]),
        lambda: A[0].dot(B[:, 0]),
    ],
)
def test_every_spelling_of_a_matrix_product_is_caught(product):
    with pytest.raises(ForbiddenCall), forbid("matmul"):
        product()


def test_other_operations_may_run():
    with forbid("matmul"):
        (A.unsqueeze(-1) * B.unsqueeze(0)).sum(1)


def _swallow() -> None:
    try:
        torch.logsumexp(A, 0)
    except Exception:
        A.exp()


def test_a_swallowed_call_is_raised_at_the_end():
    with pytest.raises(ForbiddenCall, match="logsumexp"), forbid("logsumexp"):
        _swallow()


@pytest.mark.parametrize(
    "differentiate",
    [
        lambda x: x.pow(2).sum().backward(),
        lambda x: torch.autograd.backward(x.sum()),
        lambda x: torch.autograd.grad(x.sum(), x),
        lambda x: torch.autograd.functional.jacobian(torch.sum, x),
        lambda x: torch.func.grad(torch.sum)(x),
    ],
)
def test_autograd_can_be_forbidden(differentiate):
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ForbiddenCall), forbid("autograd"):
        differentiate(x)
    x.sum().backward()
    assert x.grad is not None, "autograd works again afterwards"


def test_a_python_loop_shows_in_the_count():
    def calls(n: int) -> int:
        x = torch.ones(n, 2)
        with count_calls() as counts:
            sum(row.sum() for row in x)
        return counts.total()

    assert calls(20) > calls(5)
    with count_calls() as counts:
        torch.ones(20, 2).sum()
    assert counts["sum"] == 1


def test_raises_accepts_the_expected_and_explains_the_rest():
    with raises(ValueError, match="dim"):
        raise ValueError("bad DIM")
    with pytest.raises(AssertionError, match="expected ValueError to be raised, but nothing was"), raises(ValueError):
        pass
    with pytest.raises(AssertionError, match="got KeyError"), raises(ValueError):
        raise KeyError("x")
    with pytest.raises(AssertionError, match="to mention 'shape'"), raises(ValueError, match="shape"):
        raise ValueError("no")


def test_a_stub_is_never_the_expected_runtime_error():
    with pytest.raises(NotImplementedError), raises(RuntimeError):
        raise NotImplementedError
