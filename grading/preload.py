"""What the fork server loads once, so that its children need not. It must start no thread and compute nothing."""

import matplotlib as mpl

import grading.runner  # noqa: F401

mpl.use("agg")
