"""What a checker file is written with: `Exercise`, `guard`, `raises`, `forbid`, `count_calls` and `StubMet`."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class Exercise:
    """Base of a checker class: one exercise, its price and its hints; every `test_…` method is one requirement.

    The docstring of the class is the exercise's title, the docstring of a test the requirement as the learner reads it.
    Class attributes must be literals: the engine reads them without importing the file.
    """

    points: ClassVar[int] = 1
    name: ClassVar[str | None] = None
    """The exercise's name where it is not the class's in snake case."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Exercises that this one calls: replaced by the reference while they do not pass."""
    side_quest: ClassVar[bool] = False
    """Points are XP only, outside the lab's 20."""
    skills: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ()
    """Of a project's milestone: the modules that the learner writes for it."""
    hints: ClassVar[tuple[str, ...]] = ()
    """Three, from a question to nearly the answer."""

    def workload(self, lab: Any, size: int, rng: torch.Generator) -> Callable[[], object]:
        """Optional, for the coach alone: what to time the exercise on.

        Makes inputs from `rng` that grow with `size`, which is 1, 2 and 4, and returns a call of the answer on them
        that can be repeated. At size 4 it should take the reference 1 to 10 ms. Nothing is judged by it.
        """
        raise NotImplementedError

    def architecture(self, lab: Any, rng: torch.Generator) -> tuple[nn.Module, tuple]:
        """Optional, for the coach alone: a module that the learner has built, and inputs for it, of random numbers.

        The module is as its constructor leaves it, on a CPU; the batch, of 32 or more, shows units that never fire.
        """
        raise NotImplementedError


def guard(test: Callable) -> Callable:
    """Mark a test that earns nothing and may only withhold: side effects, forbidden calls, the right exception."""
    test.is_guard = True
    return test


slow = pytest.mark.slow
"""Mark a test that trains, or starts processes: run once, and not while a cause is looked for."""


@contextmanager
def raises(*expected: type[BaseException], match: str | None = None) -> Iterator[None]:
    """Like `pytest.raises`, but a stub's `NotImplementedError` is no `RuntimeError`, and the failure is in words."""
    names = " or ".join(kind.__name__ for kind in expected)
    try:
        yield
    except NotImplementedError:
        if NotImplementedError in expected:
            return
        raise
    except expected as error:
        if match is not None:
            said = str(error)
            assert match.lower() in said.lower(), f"expected the {names} to mention {match!r}, got: {said}"
        return
    except Exception as error:
        raise AssertionError(f"expected {names} to be raised, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"expected {names} to be raised, but nothing was")


class StubMet(NotImplementedError):
    """A check that runs the learner's code in another process has met a function there that is not written yet."""

    def __init__(self, stub: str) -> None:
        """`stub` is the function's name, in a project with its module: `data.split`."""
        super().__init__(f"`{stub}` is not written yet")
        self.stub = stub


class ForbiddenCall(AssertionError):
    """The learner's code used an operation that the exercise asks to do without."""


# What one spelling may become below: `@`, `torch.matmul`, `nn.Linear` and `einsum` all multiply matrices.
FAMILIES = {
    "matmul": {"matmul", "rmatmul", "mm", "bmm", "mv", "dot", "vdot", "inner", "addmm", "addmv", "baddbmm", "addbmm",
               "einsum", "tensordot", "linear", "bilinear", "chain_matmul", "multi_dot"},
    "softmax": {"softmax", "log_softmax", "softmin", "gumbel_softmax", "safe_softmax"},
    "logsumexp": {"logsumexp", "logaddexp", "logcumsumexp"},
    "cdist": {"cdist", "euclidean_dist", "pdist", "pairwise_distance"},
    "attention": {"scaled_dot_product_attention", "multi_head_attention_forward"},
    "autograd": {"backward", "grad", "vjp", "vjpfunc", "jacobian", "jacrev", "jacfwd"},
}  # fmt: skip


def _plain(name: str) -> str:
    """`aten::_softmax` -> `softmax`, `__matmul__` -> `matmul`, `add_` -> `add`."""
    return name.split("::")[-1].split(".")[0].strip("_")


class _Calls(TorchDispatchMode):
    """Sees what reaches the dispatcher, whatever it was called above."""

    def __init__(self, seen: Callable[[str], None]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204 - torch's own signature
        self.seen(_plain(func._schema.name))
        return func(*args, **(kwargs or {}))


class _Spellings(TorchFunctionMode):
    """Sees composites (`einsum`, `softmax`) before they are taken apart."""

    def __init__(self, seen: Callable[[str], None]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204 - torch's own signature
        self.seen(_plain(getattr(func, "__name__", "")))
        return func(*args, **(kwargs or {}))


@contextmanager
def forbid(*operations: str) -> Iterator[None]:
    """Raise `ForbiddenCall` if an operation, in any spelling, runs inside; put it around the learner's call only.

    `operations` are names of operations (`"softmax"`) or of `FAMILIES`. A call that the learner's own `except`
    swallows is raised again at the end.
    """
    names = set().union(*(FAMILIES.get(op, {op}) for op in operations))
    called: list[str] = []

    def seen(name: str) -> None:
        if name in names:
            called.append(name)
            raise ForbiddenCall(f"`{name}` was called; this exercise is to be solved without it")

    with _Spellings(seen), _Calls(seen), _no_autograd(names, seen):
        yield
    if called:
        seen(called[0])


@contextmanager
def _no_autograd(names: set[str], seen: Callable[[str], None]) -> Iterator[None]:
    """`backward` and `autograd.grad` are Python functions that neither mode is told of when called directly."""
    if "grad" not in names:
        yield
        return
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        for owner, attribute in ((torch.autograd, "backward"), (torch.autograd, "grad")):
            original = getattr(owner, attribute)

            def watched(*args: object, _original: Callable = original, **kwargs: object) -> object:
                seen(_original.__name__)
                return _original(*args, **kwargs)

            patched.setattr(owner, attribute, functools.wraps(original)(watched))
        yield


@contextmanager
def count_calls() -> Iterator[Counter]:
    """Count the operations that reach the dispatcher inside, by name: what shows a Python loop over a dimension."""
    counts: Counter[str] = Counter()
    with _Calls(lambda name: counts.update([name])):
        yield counts
