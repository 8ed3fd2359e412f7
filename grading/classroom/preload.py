"""What the zygote loads beyond a fresh run's own, for every unit; what a unit itself imports is loaded too."""
# ruff: noqa: F401

import matplotlib.backends.backend_agg
import matplotlib.backends.backend_svg
import matplotlib_inline.backend_inline
import sklearn.datasets  # `labkit.data` reads some of them

import grading.classroom.checking
import grading.classroom.recorder
import labkit
