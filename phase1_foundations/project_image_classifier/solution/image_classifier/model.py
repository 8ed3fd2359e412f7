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
        ### BEGIN SOLUTION

        def convolution(c_in: int, c_out: int, kernel: int, stride: int) -> list[nn.Module]:
            convolved = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False)
            return [convolved, nn.BatchNorm2d(c_out)]

        def block(c_in: int, c_out: int, stride: int) -> Residual:
            branch = [*convolution(c_in, c_out, 3, stride), nn.ReLU(), *convolution(c_out, c_out, 3, 1)]
            shortcut = convolution(c_in, c_out, 1, stride) if stride != 1 or c_in != c_out else []
            return Residual(nn.Sequential(*branch), nn.Sequential(*shortcut))

        self.features = nn.Sequential(
            *convolution(channels, width, 3, 2),
            nn.ReLU(),
            block(width, width, 1),
            block(width, 2 * width, 2),
            block(2 * width, 4 * width, 2),
        )
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(4 * width, classes))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        return self.head(self.features(x).mean((2, 3)))
        ### END SOLUTION
