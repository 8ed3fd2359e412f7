"""Every rule of ours: importing a module here enters its rules."""

from grading.coach.code.rule import RULES
from grading.coach.code.rules import (
    devices,
    evaluation,
    float64,
    gradients,
    kept,
    loops,
    losses,
    modules,
    python,
    seeds,
    tensors,
)

__all__ = [
    "RULES", "devices", "evaluation", "float64", "gradients", "kept", "loops", "losses", "modules", "python", "seeds",
    "tensors",
]  # fmt: skip
