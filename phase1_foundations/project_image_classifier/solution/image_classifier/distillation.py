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
    ### BEGIN SOLUTION
    soft = F.log_softmax(student / temperature, dim=1)
    goal = F.log_softmax(teacher.detach() / temperature, dim=1)
    divergence = F.kl_div(soft, goal, reduction="batchmean", log_target=True)
    return weight * temperature**2 * divergence + (1 - weight) * F.cross_entropy(student, targets)
    ### END SOLUTION


def half_width(channels: int, classes: int, width: int) -> int:
    """The largest width whose `Classifier` has at most half as many parameters as that of `width`; at least 1."""

    ### BEGIN SOLUTION
    def size(w: int) -> int:
        return sum(p.numel() for p in Classifier(channels, classes, w).parameters())

    limit = size(width) / 2
    return max((w for w in range(1, width) if size(w) <= limit), default=1)
    ### END SOLUTION


class Distiller(Trainer):
    """A trainer whose model learns from `teacher`, which stays as it is, in evaluation mode."""

    teacher: nn.Module

    def step_on(self, images: Tensor, targets: Tensor) -> float:
        """`train_step` on the `distillation_loss` with `TEMPERATURE` and `WEIGHT`, the teacher looking at the same
        pictures off the tape."""
        ### BEGIN SOLUTION
        self.teacher.eval()
        with torch.no_grad():
            opinion = self.teacher(images)

        def loss(logits: Tensor, targets: Tensor) -> Tensor:
            return distillation_loss(logits, opinion, targets, TEMPERATURE, WEIGHT)

        return train_step(self.model, self.optimizer, images, targets, self.config.training, loss)
        ### END SOLUTION
