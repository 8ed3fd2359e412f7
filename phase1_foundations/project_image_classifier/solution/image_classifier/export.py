"""One file that serves: raw pictures in, probabilities out, and no Python of ours needed to load it."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from image_classifier.errors import CheckpointError


class Served(nn.Module):
    """What is deployed: uint8 pictures `(n, c, h, w)` to calibrated probabilities `(n, classes)`.

    It normalises as in training, applies `network`, divides the logits by `temperature` and takes the softmax. What it
    needs for that is in its state dict. It works on a copy of the network, in evaluation mode.
    """

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor, temperature: float) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.network = copy.deepcopy(network).eval()
        self.register_buffer("mean", mean.view(-1, 1, 1).clone())
        self.register_buffer("std", std.view(-1, 1, 1).clone())
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.eval()
        ### END SOLUTION

    def forward(self, images: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        normalised = (images.float() / 255 - self.mean) / self.std
        return (self.network(normalised) / self.temperature).softmax(1)
        ### END SOLUTION


def export(served: Served, images: Tensor, path: Path) -> float:
    """Write `served` to `path` by `torch.export`, for batches of any size; `images` are some pictures, at least two.

    Returns the largest absolute difference between `served` and the file, **read again**, on `images` and on the first
    of them alone.
    """
    ### BEGIN SOLUTION
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(served, (images,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    exported = read_exported(path)
    with torch.no_grad():
        gaps = [(exported(part) - served(part)).abs().max().item() for part in (images, images[:1])]
    return max(gaps)
    ### END SOLUTION


def read_exported(path: Path) -> nn.Module:
    """The module in an exported file. Raises `CheckpointError` if it cannot be read."""
    try:
        return torch.export.load(path).module()
    except Exception:  # as with checkpoints: it depends on where the bytes break
        raise CheckpointError(f"{path} is no exported network: `export` writes one.") from None
