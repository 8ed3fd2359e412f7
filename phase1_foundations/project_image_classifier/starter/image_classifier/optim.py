"""What decides how far each step goes: weight decay by group, and the learning rate of a step."""

import math

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Groups for `torch.optim.AdamW`: parameters of two or more dimensions decay, all others (norms, biases) do not.

    Every parameter that requires a gradient is in exactly one group, frozen ones are in none.
    """
    # Your code here
    raise NotImplementedError


def learning_rate(step: int, warmup: int, total: int, peak: float) -> float:
    """The learning rate of step number `step`, counted from 0: up in a line, then down along half a cosine.

    Below `warmup` it is `peak * (step + 1) / warmup`; then, with `p = (step - warmup) / (total - warmup)`, it is
    `peak * (1 + cos(π p)) / 2`; from `total` on it is 0. `warmup` may be 0, and is less than `total`.
    """
    # Your code here
    raise NotImplementedError
