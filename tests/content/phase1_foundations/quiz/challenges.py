# %% [markdown]
"""
# Quiz: Tiny

A quiz small enough to test the engine with.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/quiz")

# %%
from torch import Tensor

# %% [markdown]
"""
## Doubling

Double every element of `x`.
"""


# %%
def doubled(x: Tensor) -> Tensor:
    """Twice `x`."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION


# %%
check("doubled")

# %% [markdown]
"""
## Review: the mean

A colleague's `mean_of` changes what it is given.
"""


# %%
def mean_of(x: Tensor) -> Tensor:
    """The mean of `x`, which is left as it is."""
    ### BEGIN SOLUTION
    x = x / len(x)
    return x.sum()
    ### END SOLUTION


# %%
check("mean_of")
