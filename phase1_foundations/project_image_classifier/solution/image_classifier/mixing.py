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
    ### BEGIN SOLUTION
    share = beta(alpha, generator)
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    targets = F.one_hot(labels, classes).to(images.dtype)
    return share * images + (1 - share) * images[partner], share * targets + (1 - share) * targets[partner]
    ### END SOLUTION


def cutmix(
    images: Tensor, labels: Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al., 2019): one rectangle of each picture is its partner's, and the labels are mixed by area.

    With λ from Beta(`alpha`, `alpha`), the rectangle is `√(1 − λ)` times as high and as wide as the picture, rounded
    down, and its centre is drawn uniformly; what sticks out is cut off. The labels are mixed by the share of pixels
    that were **really** replaced. Partners and randomness as in `mixup`, the same rectangle for the whole batch.
    """
    ### BEGIN SOLUTION
    h, w = images.shape[-2:]
    cut = (1 - beta(alpha, generator)) ** 0.5
    high, wide = int(h * cut), int(w * cut)
    y, x = (int(torch.randint(size, (), generator=generator)) for size in (h, w))
    rows = slice(max(y - high // 2, 0), min(y - high // 2 + high, h))
    columns = slice(max(x - wide // 2, 0), min(x - wide // 2 + wide, w))
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
    replaced = (rows.stop - rows.start) * (columns.stop - columns.start) / (h * w)
    targets = F.one_hot(labels, classes).to(images.dtype)
    return mixed, (1 - replaced) * targets + replaced * targets[partner]
    ### END SOLUTION
