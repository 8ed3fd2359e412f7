"""In a submission's process: notes the values that the checks compare, for the grader to compare them again."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from grading.classroom.witness import KINDS, LARGEST, MOST

_met: list[list] = []
"""The pairs of the test that runs, in the submission's process; within its reach, as all values are."""


def observe(kind: type) -> None:
    """Let a kind of pair of `torch.testing` be noted before it is compared."""
    compare = kind.compare

    def compared(pair: Any) -> None:
        if len(_met) < MOST:
            _met.append(pack(pair.actual, pair.expected, pair.rtol, pair.atol))
        compare(pair)

    kind.compare = compared


class Scribe:
    """In the submission's process: sends the pairs of a test when the next begins, or the run ends."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell, self._run, self._at = tell, 0, None

    def begin(self, exercise: str, test: str) -> None:
        """A test begins."""
        self._send()
        self._at = exercise, test

    def end_run(self) -> None:
        """The tests that were asked for have run."""
        self._send()
        self._run, self._at = self._run + 1, None

    def _send(self) -> None:
        if self._at and _met:
            self._tell("compared", self._run, *self._at, list(_met))
        _met.clear()


def pack(actual: Any, expected: Any, rtol: float, atol: float) -> list:
    """Two tensors as plain data."""
    return [_pack(actual), _pack(expected), rtol, atol]


def _pack(value: Any) -> list | None:
    """Type, shape and bytes of a tensor or number; None if it is large, or nothing that numpy can hold."""
    array = np.asarray(value) if not isinstance(value, torch.Tensor) else _array(value)
    if array is None or array.dtype.kind not in KINDS or array.nbytes > LARGEST:
        return None
    return [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _array(tensor: torch.Tensor) -> np.ndarray | None:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return None
    if tensor.numel() * tensor.element_size() > LARGEST:
        return None
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    return (plain.float() if plain.dtype in {torch.bfloat16, torch.float16} else plain).numpy()
