"""Values of a check, compared a second time by the grader: what a submission has done to the first cannot matter here.

The submission's process sends each pair that its checks compare; the grader compares them itself, and with the
solution as its measure: where the solution's check has compared values, the same check of a submission that is said to
have passed must have sent some, and they must agree within the solution's tolerances.

The values are still the submission's word. What this ends is replacing the comparison, not inventing both sides of it.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from grading.report import ExerciseReport, Outcome

LARGEST = 2**14
"""Bytes of a value that is sent; of larger ones it is only known that they were compared."""
MOST = 200
"""Pairs of a test that are sent."""
ROUNDING = 1.001
"""The grader compares in double precision, the check in the values' own: at the edge of the tolerance they differ."""

KINDS = "biufc"
"""Of numpy's types: truth values, whole, floating and complex numbers."""

Test = tuple[str, str]
"""An exercise and one of its tests."""
Run = tuple[int, int]
"""A child, and one of the runs of its tests."""


@dataclass(frozen=True)
class Pair:
    """Two values that a check has compared, None for each if they were too large to send."""

    actual: np.ndarray | None
    expected: np.ndarray | None
    rtol: float
    atol: float

    def agrees(self, rtol: float, atol: float) -> bool:
        """Whether they are close, NaN equal to NaN as far as the check saw to that."""
        if self.actual is None or self.expected is None:
            return True
        if self.actual.shape != self.expected.shape:
            return False
        close = np.isclose(self.actual, self.expected, rtol * ROUNDING, atol * ROUNDING, equal_nan=True)
        return bool(close.all())


@dataclass
class Witness:
    """The pairs that one submission has sent, by exercise and test, and within by the run that they were met in."""

    runs: dict[Test, dict[Run, list[Pair]]] = field(default_factory=dict)

    def take(self, run: Run, exercise: str, test: str, packed: Sequence[Sequence[Any]]) -> None:
        """Keep pairs as the scribe has packed them. Raises `ValueError` or `TypeError` for anything else."""
        met = self.runs.setdefault((exercise, test), {}).setdefault(run, [])
        for actual, expected, rtol, atol in packed[: MOST - len(met)]:
            met.append(Pair(_unpack(actual), _unpack(expected), float(rtol), float(atol)))

    def of(self, exercise: str, test: str) -> list[list[Pair]]:
        """The pairs of a test, each run's: it is repeated where the reference stands in for a needed exercise."""
        return [pairs for pairs in self.runs.get((exercise, test), {}).values() if pairs]


Measure = Mapping[Test, tuple[float, float]]
"""The largest tolerances of each test that has compared values in the solution."""


def measure(solution: Witness, exercises: Sequence[ExerciseReport]) -> Measure:
    """What the pairs of a submission are measured by. Tests whose pairs may differ, though they pass, are left out."""
    found = {}
    for exercise in exercises:
        for test in (r.id for r in exercise.requirements):
            for pairs in solution.of(exercise.name, test):
                if all(p.agrees(p.rtol, p.atol) for p in pairs):
                    found[exercise.name, test] = max(p.rtol for p in pairs), max(p.atol for p in pairs)
    return found


def contradictions(said: Sequence[ExerciseReport], seen: Witness, by: Measure) -> list[str]:
    """Where a submission's checks are said to have passed, and its values say otherwise."""
    found = []
    for exercise in said:
        for test in (r.id for r in exercise.requirements if r.outcome is Outcome.PASSED):
            if (exercise.name, test) not in by:
                continue
            runs = seen.of(exercise.name, test)
            if not runs:
                found.append(f"{exercise.name}: a test is said to have passed that has compared nothing ({test})")
            elif not any(all(p.agrees(*by[exercise.name, test]) for p in pairs) for pairs in runs):
                found.append(f"{exercise.name}: values that are said to agree do not ({test})")
    return found


def _unpack(packed: Any) -> np.ndarray | None:
    if packed is None:
        return None
    kind, shape, data = packed
    dtype = np.dtype(kind)
    if dtype.kind not in KINDS or math.prod(shape) * dtype.itemsize > 2 * LARGEST:
        raise ValueError("not a value that was packed here")
    return np.frombuffer(base64.b64decode(data, validate=True), dtype).reshape(shape)
