"""Random changes to a training picture that leave its class as it is, the same on every machine."""

import torch
from numpy.random import SeedSequence
from torch import Tensor
from torch.nn import functional as F


def generator_for(seed: int, epoch: int, index: int) -> torch.Generator:
    """A generator of its own for one picture in one epoch.

    It depends on the three numbers alone: not on the process, nor on what was loaded before. Two different triples
    give different streams (up to chance collisions of 32 bits), also where their sums agree, and for any `seed` below
    2**63. Mind that a CPU generator of PyTorch uses only the lowest 32 bits of what `manual_seed` is given, and that a
    list given to `SeedSequence` is joined word by word: give each number a fixed width.
    """
    ### BEGIN SOLUTION
    mixed = SeedSequence(seed, spawn_key=(epoch, index)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))
    ### END SOLUTION


def augment(image: Tensor, shift: int, mirror: bool, generator: torch.Generator) -> Tensor:
    """One picture `(c, h, w)`, moved and perhaps mirrored; a new tensor of the same shape and dtype.

    It is moved by whole numbers of pixels, drawn uniformly from `-shift` to `shift` (both included) for each of the two
    axes, with zeros moving in. If `mirror`, it is mirrored left to right with probability one half. All randomness
    comes from `generator`.
    """
    ### BEGIN SOLUTION
    _, h, w = image.shape
    y, x = torch.randint(0, 2 * shift + 1, (2,), generator=generator).tolist()
    moved = F.pad(image, (shift,) * 4)[:, y : y + h, x : x + w]
    flipped = mirror and torch.rand((), generator=generator).item() < 0.5
    return moved.flip(-1) if flipped else moved.clone()
    ### END SOLUTION
