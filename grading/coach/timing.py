"""The same work on both sides, yours and ours: time at several sizes, operations and peak memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch

from grading.coach.sides import Side
from grading.coach.tracing import Trace, trace
from grading.pytest_plugin import Lab
from labkit.measure import NOISE, peak_bytes

T = TypeVar("T")
Both: TypeAlias = tuple[T, T]
"""Yours and ours."""
Workload: TypeAlias = Callable[[Lab, int, torch.Generator], Callable[[], object]]

SIZES = 1, 2, 4
BUDGET_S = 0.25
"""For the timing of one size: as many runs, in turn, as it allows."""
FEWEST, MOST = 5, 20
SLOW_S = 0.5
"""What takes longer is run once, and traced at the smallest size."""
SURE = 10
"""A ratio below it is measured twice more."""
SHORT_S, TRACES = 0.05, 3
"""What is short is traced several times: an interruption would make one operation look costly."""
TINY_S = 1e-4
"""Less time than this nobody misses."""
FEW = 32
"""So few operations do no harm, however few the reference makes."""


@dataclass(frozen=True)
class Work:
    """What a checker declares as its workload, at one size."""

    size: int
    sides: Both[Side]
    calls: Both[Callable[[], object]]

    @classmethod
    def of(cls, workload: Workload, size: int, sides: Both[Side]) -> "Work":
        """The workload with the same inputs on both sides."""
        return cls(size, sides, tuple(side.build(lambda lab, rng: workload(lab, size, rng)) for side in sides))

    def seconds(self) -> Both[float]:
        """The fastest of several runs in turn, after one to warm up; where that is slow, it is the measurement.

        Not the median: on a shared machine most runs may be interrupted, and an interruption only adds.
        """
        first = self._each(Side.seconds)
        if sum(first) > SLOW_S:
            return first
        runs = min(max(FEWEST, round(BUDGET_S / sum(first))), MOST)
        yours, ours = zip(*(self._each(Side.seconds) for _ in range(runs)), strict=True)
        return min(yours), min(ours)

    def traces(self, runs: int) -> Both[Trace]:
        """The operations, each as fast as in its fastest run."""
        return self._each(lambda side, call: side.run(lambda: trace(call, side.namespace, runs)))

    def peaks(self) -> Both[int]:
        """The most bytes of tensors that are held at one time."""
        return self._each(lambda side, call: side.run(lambda: peak_bytes(call)))

    def _each(self, measure: Callable[[Side, Callable[[], object]], T]) -> Both[T]:
        return tuple(measure(side, call) for side, call in zip(self.sides, self.calls, strict=True))


@dataclass(frozen=True)
class Comparison:
    """What was measured at the largest size; of what is slow, the operations are those at the smallest."""

    seconds: Both[float]
    traced: Work
    traces: Both[Trace]

    @property
    def ratio(self) -> float:
        """How many times longer yours takes."""
        return self.seconds[0] / self.seconds[1]

    @property
    def slower(self) -> bool:
        """Whether yours is, by more than the noise of a shared machine."""
        return self.ratio >= NOISE and self.seconds[0] >= TINY_S

    @property
    def busier(self) -> bool:
        """Whether yours makes many more operations, without being faster for it."""
        yours, ours = self.operations
        return yours >= NOISE * ours and yours > FEW and self.ratio > 1 / NOISE

    @property
    def operations(self) -> Both[int]:
        """How many there are that compute something."""
        return tuple(trace.computing.total() for trace in self.traces)


def compare(workload: Workload, sides: Both[Side]) -> Comparison:
    """Time both sides at the largest size, and look at their operations."""
    largest = Work.of(workload, SIZES[-1], sides)
    seconds = _seconds(largest)
    traced = largest if seconds[0] <= SLOW_S else Work.of(workload, SIZES[0], sides)
    return Comparison(seconds, traced, traced.traces(TRACES if seconds[0] <= SHORT_S else 1))


def _seconds(work: Work) -> Both[float]:
    """A difference is measured again before it is claimed: the machine may have been busy."""

    def ratio(seconds: Both[float]) -> float:
        return seconds[0] / seconds[1]

    best = work.seconds()
    for limit in (float("inf"), SURE, SURE):
        if NOISE <= ratio(best) < limit:
            best = min(best, work.seconds(), key=ratio)
    return best
