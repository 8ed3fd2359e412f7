# %% [markdown]
"""
# Quiz: Intermediate

A sitting takes about 30 minutes: ten questions, a coding challenge and a code review, drawn from a larger bank. It is
worth 20 points; 70 % pass. When you hand in, every choice tells you why it is right or wrong, so a guess costs nothing
and teaches something. You may sit as often as you like: a retake draws other questions, and your best sitting counts.

The next cell begins a sitting, or goes on with the one that is open, as a notebook of its own. In a terminal,
`solo quiz phase2` does the same, and `solo quiz phase2 --terminal` asks you there.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase2/quiz")

# %%
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# %% [markdown]
"""
## A window to the past

Many long-context models let a token see only what is near. Write causal attention with a sliding window: query `i`
attends to the keys `j` with `i - window < j <= i`, so to itself and the `window - 1` before it. Scores are divided by
√d, where d is the number of features of a query. `q`, `k` and `v` have the same number of positions, and any number
of axes in front; `window` is 1 or more, and may be larger than the sequence.
"""


# %%
def window_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Attention of q and k `(..., n, d)` over v `(..., n, d_v)` to the last `window` positions: `(..., n, d_v)`."""
    ### BEGIN SOLUTION
    positions = torch.arange(q.shape[-2], device=q.device)
    distance = positions[:, None] - positions
    allowed = (distance >= 0) & (distance < window)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
    ### END SOLUTION


# %%
check("window_attention")

# %% [markdown]
"""
## One step in parts

A batch does not fit into memory, so it comes in parts `(x, target)` of any size. Take **one** step of the optimizer
that equals the step of the whole batch, whose loss is the mean squared error over all its elements. Begin with fresh
gradients; hold the graph of one part at a time. Return the loss of the whole batch, before the step, as a float.
"""


# %%
def accumulated_step(
    model: nn.Module, parts: Sequence[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer
) -> float:
    """One step over all `parts`, x `(rows, d_in)` and target `(rows, d_out)`; returns the loss of all rows together."""
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    rows = sum(len(x) for x, _ in parts)
    total = 0.0
    for x, target in parts:
        loss = F.mse_loss(model(x), target) * len(x) / rows
        loss.backward()
        total += loss.detach()
    optimizer.step()
    return float(total)
    ### END SOLUTION


# %%
check("accumulated_step")

# %% [markdown]
"""
## Rows in eight bits

Quantize a weight matrix symmetrically to int8, **row by row**. The scale of a row is its largest magnitude divided by
127, and 1 where the row is zero throughout. The integers are `weight / scale`, rounded to the nearest.
"""


# %%
def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """`weight` `(rows, columns)` as integers `(rows, columns)`, int8, and scales `(rows,)` of the weight's dtype."""
    ### BEGIN SOLUTION
    largest = weight.abs().amax(1)
    scale = torch.where(largest > 0, largest / 127, 1)
    integers = (weight / scale[:, None]).round().clamp(-127, 127)
    return integers.to(torch.int8), scale
    ### END SOLUTION


# %%
check("quantize_rows")

# %% [markdown]
"""
## Review: nucleus sampling

`nucleus` keeps, in each row, the smallest set of the likeliest tokens whose probabilities sum to `p` or more, and sets
the logits of all others to −∞; so at least one token always stays. With this code a model that is very sure of
itself raises an error in `torch.multinomial`. Name the line, then mend it.
"""


# %%
def nucleus(logits: Tensor, p: float) -> Tensor:
    """`logits` `(batch, vocabulary)` with −∞ for all tokens outside the nucleus of mass `p`, 0 < p < 1."""
    ### BEGIN SOLUTION
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    ordered = ordered.masked_fill(probabilities.cumsum(-1) - probabilities >= p, -torch.inf)
    return torch.empty_like(ordered).scatter(-1, order, ordered)
    ### END SOLUTION


# %%
check("nucleus")

# %% [markdown]
"""
## Review: pictures and captions

`matched_pairs` is the symmetric InfoNCE loss: row i of `images` belongs to row i of `texts`. It is the mean of two
cross-entropies, of finding the text of each image and of finding the image of each text; logits are cosine
similarities divided by the temperature. A model trained with this code finds captions for pictures well, and pictures
for captions badly. Name the line, then mend it.
"""


# %%
def matched_pairs(images: Tensor, texts: Tensor, temperature: float = 0.07) -> Tensor:
    """Symmetric InfoNCE of embeddings `(batch, d)`, of any length; a scalar."""
    ### BEGIN SOLUTION
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    logits = images @ texts.T / temperature
    targets = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    ### END SOLUTION


# %%
check("matched_pairs")

# %% [markdown]
"""
## Review: a checkpoint from a wrapper

DDP puts `module.` before the name of every parameter it saves. `load_portable` loads such a state into the bare
model, and one that was saved without the wrapper just as well; the model's own names never begin with the prefix.
It has worked for years. With a new model `load_state_dict` complains of an unexpected key, `subweight`. Name the line,
then mend it.
"""


# %%
def load_portable(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "module.") -> nn.Module:
    """Load `state`, with `prefix` before each name or without, into `model`, strictly, and return the model."""
    ### BEGIN SOLUTION
    portable = {}
    for name, value in state.items():
        portable[name.removeprefix(prefix)] = value
    model.load_state_dict(portable)
    return model
    ### END SOLUTION


# %%
check("load_portable")
