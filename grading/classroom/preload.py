"""What the zygote loads beyond a fresh run's own: whatever the labs import, so that no submission waits for it."""
# ruff: noqa: F401

import matplotlib.backends.backend_agg
import matplotlib.backends.backend_svg
import matplotlib_inline.backend_inline
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics
import torchvision

import grading.classroom.checking
import grading.classroom.recorder
import labkit
