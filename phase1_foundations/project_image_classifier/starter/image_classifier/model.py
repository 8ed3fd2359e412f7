"""The architecture: yours to choose, within a contract."""

import torch
from torch import Tensor, nn

BUDGET = 100_000
"""Parameters that a network of the default width may have, for three channels and ten classes."""


class Residual(nn.Module):
    """`relu(branch(x) + shortcut(x))`: a part that you may use."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


class Classifier(nn.Module):
    """Logits `(batch, classes)` for normalised pictures `(batch, channels, h, w)`, of 28×28 or of 32×32 pixels.

    `width` scales the number of channels inside: a larger one has more parameters. Every parameter changes the loss;
    the bias of a convolution does not if batch norm comes next, which takes it off again.
    """

    def __init__(self, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        # Your code here
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        # Your code here
        raise NotImplementedError
