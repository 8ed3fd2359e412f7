# %% [markdown]
"""
# Project: tiny

A mean and a distance, as a package.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/project")

# %% tags=["demo"]
from tiny.data import centred

print(centred([1.0, 2.0, 3.0]))

# %%
check("data")

# %%
check("model")

# %%
check("own_tests")
