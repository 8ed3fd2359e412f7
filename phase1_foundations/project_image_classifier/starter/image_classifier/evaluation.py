"""After accuracy: which classes, how sure, how wrong, how fast."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

COLDEST, HOTTEST = 0.05, 20.0
"""The temperatures that `fit_temperature` chooses from."""


class PerClass(NamedTuple):
    """Float64 tensors `(classes,)`."""

    precision: Tensor
    recall: Tensor
    f1: Tensor


class Reliability(NamedTuple):
    """For each of the bins: how many rows, int64, and their mean confidence and accuracy, float64 (0 if empty)."""

    count: Tensor
    confidence: Tensor
    accuracy: Tensor


class Latency(NamedTuple):
    """Milliseconds that half of the calls, and 95 % of them, stay below."""

    p50: float
    p95: float


class Assessment(NamedTuple):
    """What there is to say of a network after a test."""

    accuracy: float
    matrix: Tensor
    per_class: PerClass
    temperature: float
    loss: tuple[float, float]
    """Mean cross-entropy without and with the temperature."""
    reliability: tuple[Reliability, Reliability]
    calibration_error: tuple[float, float]
    worst: Tensor
    probabilities: Tensor
    """`(n, classes)`, with the temperature."""


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Counts `(classes, classes)`, int64: rows are true classes, columns predicted ones."""
    # Your code here
    raise NotImplementedError


def per_class(matrix: Tensor) -> PerClass:
    """Precision, recall and F1 (their harmonic mean) of each class of a confusion matrix; 0 where they would be 0 /
    0."""
    # Your code here
    raise NotImplementedError


def worst_mistakes(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Row numbers of at most `k` misclassified rows, the least probable true class first."""
    # Your code here
    raise NotImplementedError


def reliability(probabilities: Tensor, labels: Tensor, bins: int = 15) -> Reliability:
    """Rows sorted by confidence, the probability of the predicted class, into equal bins from 0 to 1.

    Bin i holds the rows with i / bins <= confidence < (i + 1) / bins; the last one also those of exactly 1.
    """
    # Your code here
    raise NotImplementedError


def calibration_error(bins: Reliability) -> float:
    """The expected calibration error: the mean over all **rows** of their bin's |accuracy − confidence|."""
    # Your code here
    raise NotImplementedError


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T from `COLDEST` to `HOTTEST` with the lowest mean cross-entropy of `logits / T`.

    Accurate to four significant digits; it need not be rounded.
    """
    # Your code here
    raise NotImplementedError


def latency(call: Callable[[], object], warmup: int = 10, repeats: int = 100) -> Latency:
    """Run `call` `warmup` times, then `repeats` times by the clock; the percentiles are those of the latter."""
    # Your code here
    raise NotImplementedError


def assess(validation: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], worst: int = 12) -> Assessment:
    """All of the above for the `(logits, labels)` of the test part; the temperature is fitted on the validation part.

    Pairs hold the value without the temperature, then with it; `worst` is how many mistakes to list, ranked without
    it.
    """
    # Your code here
    raise NotImplementedError
