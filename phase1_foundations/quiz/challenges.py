# %% [markdown]
"""
# Quiz: Foundations

A sitting takes about 30 minutes: ten questions, a coding challenge and a code review, drawn from a larger bank. It is
worth 20 points; 70 % pass and open Phase 2. When you hand in, every choice tells you why it is right or wrong, so a
guess costs nothing and teaches something. You may sit as often as you like: a retake draws other questions, and your
best sitting counts.

The next cell begins a sitting, or goes on with the one that is open, as a notebook of its own. In a terminal,
`solo quiz phase1` does the same, and `solo quiz phase1 --terminal` asks you there.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/quiz")

# %%
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# %% [markdown]
"""
## A mean that knows what to leave out

Padded batches are full of positions that mean nothing. Write the mean of `x` along `dim` over those positions where
`mask` is True. `mask` has the shape of `x`. Where a slice has no True position the mean is 0, and the gradient there
is 0 as well, never NaN, whatever stands at the masked positions, `inf` and NaN included.
"""


# %%
def masked_mean(x: Tensor, mask: Tensor, dim: int) -> Tensor:
    """The mean of `x` along `dim` where `mask` (bool, same shape) is True, 0 where it nowhere is; `dim` goes."""
    ### BEGIN SOLUTION
    kept = torch.where(mask, x, 0)
    return kept.sum(dim) / mask.sum(dim).clamp(min=1)
    ### END SOLUTION


# %%
check("masked_mean")

# %% [markdown]
"""
## A layer that standardises

Features arrive in years, metres and millimoles. Write a module that is fitted once on the training rows and then
standardises whatever comes in:

- `Standardise(d)` has the buffers `mean` and `std`, both `(d,)`, zeros and ones at first, which are saved in the
  `state_dict` and move with `.to(...)`. It has no parameters.
- `fit(rows)`, rows `(n, d)`, sets them to the mean and the standard deviation of each column (dividing by `n`), and
  returns the module itself. A column that never changes gets the standard deviation 1.
- `forward(x)`, x `(..., d)`, returns `(x - mean) / std`.
"""


# %%
class Standardise(nn.Module):
    """Subtracts a fitted mean and divides by a fitted standard deviation, feature by feature."""

    ### BEGIN SOLUTION
    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("std", torch.ones(d))

    def fit(self, rows: Tensor) -> "Standardise":
        std = rows.std(dim=0, correction=0)
        self.mean.copy_(rows.mean(dim=0))
        self.std.copy_(torch.where(rows.amax(dim=0) == rows.amin(dim=0), 1.0, std))
        return self

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    ### END SOLUTION


# %%
check("standardise")

# %% [markdown]
"""
## One epoch

Train `model` for one pass over `batches` of `(x, target)`, with the mean squared error (averaged over all elements of
a batch) as the loss. In each step: a fresh gradient, the loss, `backward`, the gradient of all parameters together
clipped to the norm `max_norm` with `nn.utils.clip_grad_norm_`, and the optimizer's step. The model trains in training
mode. Return the mean loss **per row** as a float: a batch of 3 rows counts three times as much as one of 1.
"""


# %%
def train_epoch(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer, max_norm: float
) -> float:
    """One epoch; x `(rows, d_in)`, target `(rows, d_out)`. Returns the mean loss per row, each before its step."""
    ### BEGIN SOLUTION
    model.train()
    total, rows = 0.0, 0
    for x, target in batches:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        total += loss.detach() * len(x)
        rows += len(x)
    return float(total / rows)
    ### END SOLUTION


# %%
check("train_epoch")

# %% [markdown]
"""
## Review: an accuracy

`accuracy` is to return the share of rows, over all batches, whose highest logit is that of their label; batches may
differ in size. The model comes back in the mode it came in. The number that this code reports is sometimes off by a
little. Name the line, then mend it.
"""


# %%
def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The share of rows that `model`, in evaluation mode, classifies rightly; x `(rows, d)`, labels `(rows,)`."""
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    right, count = 0, 0
    with torch.no_grad():
        for x, labels in batches:
            right += (model(x).argmax(dim=1) == labels).sum().item()
            count += len(labels)
    model.train(was_training)
    return right / count
    ### END SOLUTION


# %%
check("accuracy")

# %% [markdown]
"""
## Review: a classifier's head

`Head` is a linear layer, a relu, dropout with probability `p`, and a second linear layer, as layers `first` and
`second`. In production it gives another answer each time it is asked the same question. Name the line, then mend it.
"""


# %%
class Head(nn.Module):
    """`second(dropout(relu(first(x))))`; x `(batch, d_in)`, result `(batch, classes)`."""

    ### BEGIN SOLUTION
    def __init__(self, d_in: int, d_hidden: int, classes: int, p: float = 0.1) -> None:
        super().__init__()
        self.first = nn.Linear(d_in, d_hidden)
        self.second = nn.Linear(d_hidden, classes)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        hidden = F.dropout(hidden, self.p, training=self.training)
        return self.second(hidden)

    ### END SOLUTION


# %%
check("head")

# %% [markdown]
"""
## Review: a batch of sequences

`pad` makes one batch of sequences of different lengths: a tensor `(batch, longest)` filled up with zeros, and a mask
of the same shape which is True where there is data. Models trained on it attend to the padding. Name the line, then
mend it.
"""


# %%
def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sequences `(length,)` as a padded batch `(batch, longest)` and its mask, True where there is data."""
    ### BEGIN SOLUTION
    lengths = torch.tensor([len(s) for s in sequences])
    batch = torch.zeros(len(sequences), int(lengths.max()), dtype=sequences[0].dtype)
    for row, sequence in zip(batch, sequences, strict=True):
        row[: len(sequence)] = sequence
    mask = torch.arange(batch.shape[1]) < lengths[:, None]
    return batch, mask
    ### END SOLUTION


# %%
check("pad")
