"""Why a test failed: an exception becomes an outcome, evidence a learner can read, and a signature to compare.

The questions are asked in a fixed order: not attempted, undefined, raised, NaN, shape, dtype, values.
"""

import linecache
import re
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

import pytest
import torch

from grading.comparison import as_tensor, compare, pairs
from grading.exercise import ForbiddenCall
from grading.namespaces import Package, full_name, owns
from grading.report import Evidence, Outcome

Frames = list[tuple[FrameType, int]]
"""The frames of a traceback, outermost first, each with its line number."""


class Undefined(AttributeError):
    """A test asked for a name that the learner's namespace does not have."""


@dataclass(frozen=True)
class Signature:
    """What two failures of one test have in common if they have the same cause."""

    kind: str
    line: int
    message: str
    values: tuple[Any, ...] | None

    @property
    def strong(self) -> bool:
        """Whether more than a place in a file is compared."""
        return self.values is not None or bool(self.message)

    def matches(self, other: "Signature") -> bool:
        """Same exception at the same line with the same values, within tolerance."""
        if (self.kind, self.line) != (other.kind, other.line):
            return False
        if self.values is None or other.values is None:
            return self.values is other.values and self.message == other.message
        return len(self.values) == len(other.values) and all(map(_same, self.values, other.values))


@dataclass(frozen=True)
class Diagnosis:
    """The outcome of a failed test, its evidence and its signature."""

    outcome: Outcome
    evidence: Evidence
    signature: Signature
    blames: str | None = None
    """The learner's name that is a stub or missing, if that is why the test failed."""


def diagnose(excinfo: pytest.ExceptionInfo, namespace: dict[str, Any], checkers: Path) -> Diagnosis:
    """Say why the test that raised `excinfo` failed."""
    error, frames = excinfo.value, list(walk_tb(excinfo.tb))
    comparison = _comparison(frames)
    signature = Signature(
        kind=type(error).__name__,
        line=next((lineno for frame, lineno in frames if frame.f_code.co_filename == str(checkers)), 0),
        message="" if comparison else _normalised(error),
        values=_compared_values(comparison) if comparison else None,
    )
    absent = _absent(error, frames, namespace)
    if absent:
        outcome, evidence, name = absent
        return Diagnosis(outcome, evidence, signature, name)
    if comparison:
        return Diagnosis(Outcome.FAILED, compare(**comparison), signature)
    evidence = _explain(error, _learner_line(frames, namespace))
    return Diagnosis(Outcome.RAISED if evidence.stage == "raised" else Outcome.FAILED, evidence, signature)


def _absent(error: BaseException, frames: Frames, namespace: dict[str, Any]) -> tuple[Outcome, Evidence, str] | None:
    """The learner's name that is a stub or not there at all, if that is what the test stumbled on."""
    last, _ = frames[-1]
    if isinstance(error, Undefined):
        name = error.args[0]
        message = f"`{name}` is not defined here: {_remedy(namespace)}"
        return Outcome.FAILED, Evidence(stage="undefined", message=message), name
    if isinstance(error, NotImplementedError) and (met := getattr(error, "stub", None)):  # in another process
        return Outcome.NOT_ATTEMPTED, _unwritten(met), met.split(".")[0]
    if not owns(namespace, last):
        return None
    if isinstance(error, NotImplementedError):
        name = full_name(namespace, last)
        blamed = name.split(".")[0]  # the exercise's function or class, or a project's module
        said = name if isinstance(namespace, Package) else blamed
        return Outcome.NOT_ATTEMPTED, _unwritten(said), blamed
    if isinstance(error, NameError) and error.name:
        message = f"your code uses `{error.name}`, which is not defined"
        evidence = Evidence(stage="undefined", message=message, line=_learner_line(frames, namespace))
        return Outcome.RAISED, evidence, error.name
    return None


def _unwritten(name: str) -> Evidence:
    return Evidence(stage="not_attempted", message=f"`{name}` is not written yet")


def _remedy(namespace: dict[str, Any]) -> str:
    if isinstance(namespace, Package):
        return "the module could not be imported"
    return "write and run its cell, mend it if it raises"


def _explain(error: BaseException, learner_line: str | None) -> Evidence:
    if isinstance(error, ForbiddenCall):
        return Evidence(stage="forbidden", message=str(error))
    if isinstance(error, AssertionError):
        return Evidence(stage="assertion", message=_first_words(error))
    said = f"{type(error).__name__}: {_first_words(error)}".rstrip(": ")
    if learner_line is None:
        hint = ": is a `return` missing?" if "NoneType" in said else ""
        return Evidence(stage="unusable", message=f"the check cannot use what your code returned{hint} ({said})")
    return Evidence(stage="raised", message=f"your code raised {said}", line=learner_line)


def _comparison(frames: Frames) -> dict[str, Any] | None:
    """The arguments of the `assert_close` that failed, read from its frame."""
    for frame, _ in frames:
        if frame.f_code is torch.testing.assert_close.__code__:
            return {key: frame.f_locals[key] for key in ("actual", "expected", "rtol", "atol")}
    return None


def _compared_values(comparison: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(_kept(actual) for _, actual, _ in pairs(comparison["actual"], comparison["expected"]))


def _learner_line(frames: list[tuple[FrameType, int]], namespace: dict[str, Any]) -> str | None:
    """The innermost line of the learner's own code, with the function it stands in."""
    for frame, lineno in reversed(frames):
        if owns(namespace, frame):
            code = frame.f_code
            source = linecache.getline(code.co_filename, lineno).strip()
            # In a file one looks for the line of the file, in a cell for that of the function.
            line = lineno if isinstance(namespace, Package) else lineno - code.co_firstlineno + 1
            place = f"{full_name(namespace, frame)}, line {line}"
            return f"{place}: {source}" if source else place
    return None


def _first_words(error: BaseException) -> str:
    """An error's message without pytest's introspection and without a wall of text."""
    text = str(error).split("\nassert ")[0].strip()
    return text if len(text) <= 600 else text[:600] + " …"


def _normalised(error: BaseException) -> str:
    return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?|0x[0-9a-f]+", "#", _first_words(error))


def _kept(value: Any) -> Any:
    """A value as it is now, for a signature."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    tensor = as_tensor(value)
    return repr(value) if tensor is None else tensor.clone()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        return torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
    return type(a) is type(b) and a == b
