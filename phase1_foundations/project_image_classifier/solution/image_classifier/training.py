"""The training loop: one step, one look at the validation part, and the run that joins them."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from image_classifier import mixing
from image_classifier.augment import generator_for
from image_classifier.config import Config, TrainingConfig
from image_classifier.data import (
    PictureDataset,
    Pictures,
    loader,
    mean_and_std,
    ordered_batches,
    shuffled_batches,
    split,
)
from image_classifier.model import Classifier
from image_classifier.optim import learning_rate, parameter_groups

EVALUATION_BATCH = 250
MIXING = 2**31 - 1
"""In the place of a position, where random numbers belong to a whole batch."""

Loss = Callable[[Tensor, Tensor], Tensor]


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    config: TrainingConfig,
    loss: Loss | None = None,
) -> float:
    """One step in training mode on one batch; the loss before it, as a float.

    The loss is `loss(logits, targets)`, and without one the cross-entropy with `config.label_smoothing` (targets are
    classes `(n,)` or probabilities `(n, classes)`). With `config.bf16`, model and loss run under `torch.autocast` to
    bfloat16, and the backward pass outside of it. Gradients left over from before do not count. Those of all
    `model.parameters()` together are clipped to a norm of `config.clip_norm`.
    """
    ### BEGIN SOLUTION
    model.train()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
        logits = model(images)
        if loss is None:
            value = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
        else:
            value = loss(logits, targets)
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return value.item()
    ### END SOLUTION


def logits_of(model: nn.Module, batches: DataLoader, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Logits `(n, classes)`, float32, and labels `(n,)` of all that `batches` loads, in its order, on the CPU.

    In evaluation mode and off the tape; afterwards the model is in the mode that it was in.
    """
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    with torch.no_grad():
        parts = [(model(images.to(device)).float().cpu(), labels) for images, labels in batches]
    model.train(was_training)
    logits, labels = zip(*parts, strict=True)
    return torch.cat(logits), torch.cat(labels)
    ### END SOLUTION


class EarlyStopping:
    """Keeps the best weights, and says when to stop.

    `best_score` is the lowest score so far (infinity at first), `best_weights` the state dict that had it (None at
    first), and `bad_epochs` how many updates in a row did not improve on it.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_score = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.bad_epochs = 0

    @property
    def stopped(self) -> bool:
        """Whether `patience` updates in a row have brought nothing."""
        return self.bad_epochs >= self.patience

    def update(self, score: float, model: nn.Module) -> None:
        """Take notice of a new score. Only a lower one is better: an equal one is not, and neither is NaN.

        `best_weights` must stay what they are while the model goes on training.
        """
        ### BEGIN SOLUTION
        if score < self.best_score:
            self.best_score, self.bad_epochs = score, 0
            self.best_weights = copy.deepcopy(model.state_dict())
        else:
            self.bad_epochs += 1
        ### END SOLUTION


class Trainer:
    """A run that may stop at any step. What changes while it runs:

    `model`, `optimizer`, `early_stopping`; `step`, the number of steps made; `history`, one dict for each finished
    epoch; `loss_sum` and `rows`, from which the mean training loss of the epoch will come; and torch's default
    generator, from which dropout draws. Where `before_step` is called, all of these are those of whole steps: it may
    raise to stop the run there.
    """

    def __init__(
        self, model: nn.Module, training_set: PictureDataset, validation_set: PictureDataset, config: Config
    ) -> None:
        self.config, self.device = config, _device(config.training.device)
        self.model = model.to(self.device)
        self.training_set, self.validation_set = training_set, validation_set
        groups = parameter_groups(self.model, config.training.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.training.lr)
        self.early_stopping = EarlyStopping(config.training.patience)
        self.step, self.loss_sum, self.rows = 0, 0.0, 0
        self.history: list[dict[str, float]] = []
        self.before_step: Callable[[], Any] = lambda: None
        self.on_step: Callable[[float], Any] = lambda loss: None
        self.on_epoch: Callable[[dict[str, float]], Any] = lambda record: None

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch, the last and smaller one included."""
        return math.ceil(len(self.training_set) / self.config.training.batch_size)

    @property
    def total_steps(self) -> int:
        """How many steps there will be unless it stops early."""
        return self.config.training.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """For how many of them the learning rate rises."""
        return int(self.config.training.warmup_share * self.total_steps)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.step >= self.total_steps or self.early_stopping.stopped

    def run(self, until: int | None = None) -> None:
        """Make steps until `self.step` is `until`, or until it is finished.

        Step number k, counted from 0, trains on batch k mod n of epoch ⌊k / n⌋, with n = `steps_per_epoch`, the batches
        of an epoch being `shuffled_batches` of the training set with the seed of the configuration, and `loader` with
        `config.data.workers` workers loading them. Before it, the learning rate of **every** group of the optimizer is
        set to `learning_rate(k, …)`; the step itself is `self.train_on(images, labels)`. After the last batch of an
        epoch comes `self.end_epoch()`, once.
        """
        ### BEGIN SOLUTION
        config, until = self.config, self.total_steps if until is None else until
        while not self.finished and self.step < until:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            order = shuffled_batches(len(self.training_set), config.training.batch_size, config.seed, epoch)
            batches = order[done : done + until - self.step]
            for images, labels in loader(self.training_set, batches, config.data.workers):
                rate = learning_rate(self.step, self.warmup_steps, self.total_steps, config.training.lr)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self.train_on(images, labels)
                self.step += 1
            if self.step % self.steps_per_epoch == 0:
                self.end_epoch()
        ### END SOLUTION

    def train_on(self, images: Tensor, labels: Tensor) -> None:
        """One step on one batch, mixed if the configuration says so; its loss is added to the epoch's."""
        self.before_step()
        images, targets = self.mixed(images.to(self.device), labels.to(self.device))
        loss = self.step_on(images, targets)
        self.loss_sum += loss * len(labels)
        self.rows += len(labels)
        self.on_step(loss)

    def step_on(self, images: Tensor, targets: Tensor) -> float:
        """The step itself: another way of training replaces this method."""
        return train_step(self.model, self.optimizer, images, targets, self.config.training)

    def mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch after MixUp or CutMix with random numbers that belong to this step, or the batch as it is."""
        training = self.config.training
        if training.mixing == "none":
            return images, labels
        mix = {"mixup": mixing.mixup, "cutmix": mixing.cutmix}[training.mixing]
        generator = generator_for(self.config.seed, self.step, MIXING)
        return mix(images, labels, len(self.training_set.pictures.classes), training.mixing_alpha, generator)

    def end_epoch(self) -> None:
        """Look at the validation part, write the record, and let early stopping take notice."""
        logits, labels = self.validate()
        record = {
            "epoch": self.step // self.steps_per_epoch,
            "train_loss": self.loss_sum / self.rows,
            "validation_loss": F.cross_entropy(logits, labels).item(),
            "validation_accuracy": (logits.argmax(1) == labels).double().mean().item(),
        }
        self.history.append(record)
        self.loss_sum, self.rows = 0.0, 0
        self.early_stopping.update(record["validation_loss"], self.model)
        self.on_epoch(record)

    def validate(self) -> tuple[Tensor, Tensor]:
        """Logits and labels of the validation part."""
        order = ordered_batches(len(self.validation_set), EVALUATION_BATCH)
        return logits_of(self.model, loader(self.validation_set, order), self.device)

    def best_model(self) -> nn.Module:
        """A copy of the model with the best weights so far, in evaluation mode."""
        model = copy.deepcopy(self.model)
        if self.early_stopping.best_weights is not None:
            model.load_state_dict(self.early_stopping.best_weights)
        return model.eval()


def build(config: Config, pictures: Pictures, model: nn.Module | None = None) -> Trainer:
    """A trainer at its start: the split, the statistics of the training part alone, and a fresh network."""
    rows, held_out = split(pictures.labels, config.data.validation_share, config.seed)
    mean, std = mean_and_std(pictures.images[rows])
    augmentation = (config.data.shift, config.data.mirror)
    training_set = PictureDataset(pictures, rows, mean, std, augmentation, config.seed)
    validation_set = PictureDataset(pictures, held_out, mean, std)
    torch.manual_seed(config.seed)
    model = model or Classifier(pictures.images.shape[1], len(pictures.classes), config.model.width)
    return Trainer(model, training_set, validation_set, config)


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
