"""Stretch: batches in which each picture is a mixture of two, and so is its label."""

import torch
from torch import Tensor
from torch.nn import functional as F


def beta(alpha: float, generator: torch.Generator) -> float:
    """One number from the Beta(alpha, alpha) distribution: x / (x + y) of two Gamma(alpha) numbers."""
    x, y = torch._standard_gamma(torch.tensor([alpha, alpha], dtype=torch.float64), generator=generator).tolist()
    return x / (x + y) if x + y > 0 else 0.5


def mixup(
    images: Tensor, labels: Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """MixUp (Zhang et al., 2018): `λ x + (1 − λ) x'`, and the same of the one-hot labels `(n, classes)`.

    One λ for the batch, from the Beta(`alpha`, `alpha`) distribution; the partner of each picture comes from a random
    permutation of the batch. All randomness comes from `generator`; the arguments are left as they are.
    """
    # Your code here
    raise NotImplementedError


def cutmix(
    images: Tensor, labels: Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al., 2019): one rectangle of each picture is its partner's, and the labels are mixed by area.

    With λ from Beta(`alpha`, `alpha`), the rectangle is `√(1 − λ)` times as high and as wide as the picture, rounded
    down, and its centre is drawn uniformly; what sticks out is cut off. The labels are mixed by the share of pixels
    that were **really** replaced. Partners and randomness as in `mixup`, the same rectangle for the whole batch.
    """
    # Your code here
    raise NotImplementedError
