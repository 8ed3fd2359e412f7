"""The one pytest plugin of a check: gives tests the learner's namespace and keeps what became of them."""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grading.diagnosis import Diagnosis, Undefined, diagnose
from grading.report import Outcome


class Lab:
    """A namespace whose names are attributes: `lab.softmax`."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.__dict__["_namespace"] = namespace

    def __getattr__(self, name: str) -> Any:
        if name not in self._namespace:
            raise Undefined(name)
        return self._namespace[name]


@dataclass
class Collected:
    """What became of one test method; the parameters of a parametrised one are one requirement."""

    outcome: Outcome = Outcome.PASSED
    diagnosis: Diagnosis | None = None
    seconds: float = 0.0


@dataclass
class CheckPlugin:
    """Runs the tests of `classes` against `namespace`; `results` is keyed by class and method name."""

    namespace: dict[str, Any]
    checkers: Path
    seed: int
    classes: frozenset[str]
    fast_only: bool = False
    on_test: Callable[[str, str], None] | None = None
    results: dict[tuple[str, str], Collected] = field(default_factory=dict)
    collection_error: str | None = None
    interrupted: bool = False

    @pytest.fixture
    def lab(self) -> Lab:
        """The learner's namespace."""
        return Lab(self.namespace)

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> torch.Generator:
        """A generator seeded from the run's seed and the test's name."""
        return torch.Generator().manual_seed(self._seed_of(request.node))

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the asked exercises, and leave slow tests out where only fast ones are wanted."""
        items[:] = [
            item
            for item in items
            if item.cls.__name__ in self.classes and not (self.fast_only and item.get_closest_marker("slow"))
        ]
        # Else pytest parses the whole checker file to quote each failure, in a report that nobody reads.
        config.option.tbstyle = "native"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember why a checker file could not be read."""
        if report.failed:
            self.collection_error = str(report.longrepr)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Start every test from the same state, whatever ran before it."""
        if self.on_test:
            self.on_test(item.cls.__name__, item.originalname)
        seed = self._seed_of(item)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
        """Turn an exception into a diagnosis while its frames are alive."""
        result = self.results.setdefault((item.cls.__name__, item.originalname), Collected())
        result.seconds += call.duration
        if call.excinfo is not None and result.outcome is Outcome.PASSED:
            result.diagnosis = diagnose(call.excinfo, self.namespace, self.checkers)
            result.outcome = result.diagnosis.outcome
        return (yield)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo) -> None:
        """The learner pressed stop (pytest's own `Interrupted`, after a collection error, is another class)."""
        self.interrupted = excinfo.type is KeyboardInterrupt

    def _seed_of(self, item: pytest.Item) -> int:
        name = f"{self.seed}:{item.cls.__name__}:{item.name}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
