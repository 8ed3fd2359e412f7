"""The two sides of a comparison: the learner's answer and the reference, each in its place in one namespace.

What an exercise needs is the reference's on both sides, so that an exercise answers for its own code alone.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from grading.checkers import checker
from grading.namespaces import Package, Patch, replaced, replaced_values
from grading.pytest_plugin import Lab
from grading.reference import sources
from grading.units import Unit

T = TypeVar("T")


@dataclass(frozen=True)
class Side:
    """One answer, which is in the `namespace` inside `place()`."""

    namespace: dict[str, Any]
    place: Callable[[], AbstractContextManager]
    seed: int

    def build(self, make: Callable[[Lab, torch.Generator], T]) -> T:
        """What `make(lab, rng)` returns: the same random numbers on both sides."""
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)
        random.seed(self.seed)
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        with self.place():
            return make(Lab(self.namespace), torch.Generator().manual_seed(self.seed))

    def run(self, call: Callable[[], T]) -> T:
        """What `call()` returns."""
        with self.place():
            return call()

    def seconds(self, call: Callable[[], object]) -> float:
        """How long `call()` takes."""
        with self.place():
            start = time.perf_counter()
            call()
            return time.perf_counter() - start


@contextmanager
def two_sides(unit: Unit, namespace: dict[str, Any], exercise: str, seed: int) -> Iterator[tuple[Side, Side]]:
    """The learner's side and the reference's of one exercise."""
    with _references(unit, namespace, _all_needs(unit, exercise)):
        before = {module: dict(_scope(namespace, module)) for module in sources(unit, exercise)}
        with _references(unit, namespace, [exercise]):
            defined = {module: _changed(names, _scope(namespace, module)) for module, names in before.items()}

        @contextmanager
        def reference() -> Iterator[None]:
            with ExitStack() as stack:
                for module, values in defined.items():
                    stack.enter_context(replaced_values(namespace, module, values))
                yield

        yield Side(namespace, nullcontext, seed), Side(namespace, reference, seed)


@contextmanager
def _references(unit: Unit, namespace: dict[str, Any], exercises: Iterable[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for exercise in exercises:
            for module, text in sources(unit, exercise).items():
                code = compile(text, f"<reference {exercise}>", "exec")
                stack.enter_context(replaced(namespace, Patch(code, module)))
        yield


def _all_needs(unit: Unit, exercise: str) -> list[str]:
    """Needed exercises, and those that they need, first things first."""
    names: dict[str, None] = {}
    for need in checker(unit, exercise).needs:
        names.update(dict.fromkeys((*_all_needs(unit, need), need)))
    return list(names)


def _scope(namespace: dict[str, Any], module: str | None) -> dict[str, Any]:
    return vars(namespace[module]) if isinstance(namespace, Package) else namespace


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if name not in before or before[name] is not value}
