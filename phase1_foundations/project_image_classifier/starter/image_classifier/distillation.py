"""Stretch: a network of half the size learns from what the large one says about each picture."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from image_classifier.model import Classifier
from image_classifier.training import Trainer, train_step

TEMPERATURE = 3.0
WEIGHT = 0.7


def distillation_loss(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, weight: float) -> Tensor:
    """Hinton et al. (2015): `w · T² · KL(teacher ‖ student) + (1 − w) · cross-entropy with the targets`, a scalar.

    Both distributions of the divergence are softened, softmax(logits / T), and it is the mean over the batch of sums
    over classes. No gradient reaches the teacher's logits.
    """
    # Your code here
    raise NotImplementedError


def half_width(channels: int, classes: int, width: int) -> int:
    """The largest width whose `Classifier` has at most half as many parameters as that of `width`; at least 1."""

    # Your code here
    raise NotImplementedError


class Distiller(Trainer):
    """A trainer whose model learns from `teacher`, which stays as it is, in evaluation mode."""

    teacher: nn.Module

    def step_on(self, images: Tensor, targets: Tensor) -> float:
        """`train_step` on the `distillation_loss` with `TEMPERATURE` and `WEIGHT`, the teacher looking at the same
        pictures off the tape."""
        # Your code here
        raise NotImplementedError
