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
    ### BEGIN SOLUTION
    return torch.bincount(labels * classes + predictions, minlength=classes**2).view(classes, classes)
    ### END SOLUTION


def per_class(matrix: Tensor) -> PerClass:
    """Precision, recall and F1 (their harmonic mean) of each class of a confusion matrix; 0 where they would be 0 /
    0."""
    ### BEGIN SOLUTION
    matrix = matrix.double()
    hits, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return PerClass(
        hits / predicted.clamp(min=1),
        hits / true.clamp(min=1),
        2 * hits / (true + predicted).clamp(min=1),
    )
    ### END SOLUTION


def worst_mistakes(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Row numbers of at most `k` misclassified rows, the least probable true class first."""
    ### BEGIN SOLUTION
    wrong = (logits.argmax(1) != labels).nonzero()[:, 0]
    loss = F.cross_entropy(logits[wrong], labels[wrong], reduction="none")
    return wrong[loss.argsort(descending=True)][:k]
    ### END SOLUTION


def reliability(probabilities: Tensor, labels: Tensor, bins: int = 15) -> Reliability:
    """Rows sorted by confidence, the probability of the predicted class, into equal bins from 0 to 1.

    Bin i holds the rows with i / bins <= confidence < (i + 1) / bins; the last one also those of exactly 1.
    """
    ### BEGIN SOLUTION
    confidence, predicted = probabilities.double().max(1)
    where = (confidence * bins).long().clamp(max=bins - 1)
    count = torch.bincount(where, minlength=bins)
    right = (predicted == labels).double()
    sums = [torch.bincount(where, weights=values, minlength=bins) for values in (confidence, right)]
    return Reliability(count, *(total / count.clamp(min=1) for total in sums))
    ### END SOLUTION


def calibration_error(bins: Reliability) -> float:
    """The expected calibration error: the mean over all **rows** of their bin's |accuracy − confidence|."""
    ### BEGIN SOLUTION
    gaps = (bins.accuracy - bins.confidence).abs()
    return ((bins.count * gaps).sum() / bins.count.sum()).item()
    ### END SOLUTION


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T from `COLDEST` to `HOTTEST` with the lowest mean cross-entropy of `logits / T`.

    Accurate to four significant digits; it need not be rounded.
    """
    ### BEGIN SOLUTION
    logits = logits.double()
    logits = logits - logits.gather(1, labels[:, None])
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(50):  # the loss is convex in 1 / T: halve the interval by the sign of its derivative
        middle = (low + high) / 2
        derivative = ((logits * middle).softmax(1) * logits).sum()
        low, high = (low, middle) if derivative > 0 else (middle, high)
    return 2 / (low + high)
    ### END SOLUTION


def latency(call: Callable[[], object], warmup: int = 10, repeats: int = 100) -> Latency:
    """Run `call` `warmup` times, then `repeats` times by the clock; the percentiles are those of the latter."""
    ### BEGIN SOLUTION
    for _ in range(warmup):
        call()
    times = torch.zeros(repeats, dtype=torch.float64)
    for i in range(repeats):
        start = time.perf_counter()
        call()
        times[i] = time.perf_counter() - start
    p50, p95 = (1000 * times.quantile(torch.tensor([0.5, 0.95], dtype=torch.float64))).tolist()
    return Latency(p50, p95)
    ### END SOLUTION


def assess(validation: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], worst: int = 12) -> Assessment:
    """All of the above for the `(logits, labels)` of the test part; the temperature is fitted on the validation part.

    Pairs hold the value without the temperature, then with it; `worst` is how many mistakes to list, ranked without
    it.
    """
    ### BEGIN SOLUTION
    logits, labels = test
    temperature = fit_temperature(*validation)
    variants = [logits.double(), logits.double() / temperature]
    matrix = confusion_matrix(labels, logits.argmax(1), logits.shape[1])
    bins = tuple(reliability(z.softmax(1), labels) for z in variants)
    return Assessment(
        accuracy=(logits.argmax(1) == labels).double().mean().item(),
        matrix=matrix,
        per_class=per_class(matrix),
        temperature=temperature,
        loss=tuple(F.cross_entropy(z, labels).item() for z in variants),
        reliability=bins,
        calibration_error=tuple(map(calibration_error, bins)),
        worst=worst_mistakes(logits, labels, worst),
        probabilities=variants[1].softmax(1),
    )
    ### END SOLUTION
