"""What the fork server loads once, so that its children need not. It must start no thread and compute nothing."""
# ruff: noqa: F401

import IPython.core.interactiveshell
import jupytext
import matplotlib.pyplot as plt
import torch._dynamo  # what the first `forbid` of a process would load

import grading.runner

plt.switch_backend("agg")
