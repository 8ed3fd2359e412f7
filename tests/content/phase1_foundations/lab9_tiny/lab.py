# %% [markdown]
"""
# Lab 9: Tiny

A unit small enough to test the engine with. It has one of everything.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab9")

# %%
import torch
from torch import Tensor, nn

# %% [markdown]
"""
## 1 · Softmax

Write softmax along `dim`.
"""


# %%
def softmax(logits: Tensor, dim: int) -> Tensor:
    """Softmax of `logits`, any shape, along `dim`; same shape and dtype."""
    ### BEGIN SOLUTION
    weights = (logits - logits.amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)
    ### END SOLUTION


# %% tags=["demo"]
softmax(torch.tensor([1.0, 2.0]), 0)

# %%
check("softmax")

# %% [markdown] tags=["explanation"]
"""
Subtracting the maximum changes nothing but the size of the numbers.
"""

# %% [markdown]
"""
## 2 · Attention weights

Use your softmax.
"""


# %%
def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Weights `softmax(queries @ keys.T / sqrt(d))` of shape `(n, m)` for `(n, d)` and `(m, d)`."""
    ### BEGIN SOLUTION
    return softmax(queries @ keys.T / queries.shape[-1] ** 0.5, dim=-1)
    ### END SOLUTION


# %%
check("attention")

# %% [markdown]
"""
## 3 · A module that counts
"""


# %%
class Scale(nn.Module):
    """Multiplies by a learned vector of `size` ones."""

    def __init__(self, size: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.weight = nn.Parameter(torch.ones(size))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        return x * self.weight
        ### END SOLUTION


# %%
check("scale")

# %% [markdown]
"""
### BEGIN ANSWER why_max 2
Because exp overflows.
### RUBRIC
- 1 point: names the overflow of exp.
- 1 point: says from which size on in float32.
### END ANSWER
"""

# %% [markdown]
"""
## Common pitfalls

<!-- pitfalls -->
"""
