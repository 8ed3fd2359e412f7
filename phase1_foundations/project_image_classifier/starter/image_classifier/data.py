"""Pictures: loading, splitting, measuring, and batches whose content depends on nothing but the configuration."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from image_classifier.augment import augment, generator_for
from image_classifier.config import DataConfig
from image_classifier.errors import ConfigError

Place = tuple[int, int]
"""An epoch and a position in the data set: what a data set here is indexed by."""


class Pictures(NamedTuple):
    """`images` is `(n, c, h, w)`, uint8; `labels` is `(n,)`, int64, an index into `classes`."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


def load(config: DataConfig) -> tuple[Pictures, Pictures]:
    """The pictures for training (and validation) and those for testing. Raises `ConfigError` if they cannot be had."""
    source = {"fashion_mnist": _clothing, "cifar10": _cifar10, "digits": _digits}[config.name]
    train, test = source(config, True), source(config, False)
    return _first(train, config.train_images), _first(test, config.test_images)


def split(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers for training and for validation, both int64 and ascending.

    Of each class with `n` rows, `share · n` go to validation, rounded to a neighbouring whole number; which ones, is
    drawn at random, by a generator of its own, seeded with `seed`. Each row is in exactly one part. The result depends
    on the arguments alone, and torch's default generator is left as it is.
    """
    # Your code here
    raise NotImplementedError


def mean_and_std(images: Tensor, chunk: int = 1000) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, float32 `(c,)`, of uint8 pictures `(n, c, h, w)` scaled to 0 … 1.

    Over all pixels of all pictures, biased (divided by their number). No more than `chunk` pictures are converted at a
    time, so that the memory used does not grow with `n`.
    """
    # Your code here
    raise NotImplementedError


class PictureDataset(Dataset):
    """The pictures of some rows, normalised, indexed by `(epoch, position)`: a float32 picture and its label, an int.

    The epoch comes with the index because each worker has a copy of the data set, made when it started: an attribute
    that is set later does not reach it. With `augmentation=(shift, mirror)` the raw picture goes through `augment`,
    with `generator_for(seed, epoch, position)`; with None it is left as it is. Then it is scaled to 0 … 1 and
    normalised: `(picture / 255 - mean) / std`, by channel.
    """

    def __init__(
        self,
        pictures: Pictures,
        rows: Tensor,
        mean: Tensor,
        std: Tensor,
        augmentation: tuple[int, bool] | None = None,
        seed: int = 0,
    ) -> None:
        self.pictures, self.rows, self.augmentation, self.seed = pictures, rows, augmentation, seed
        self.mean, self.std = mean.view(-1, 1, 1), std.view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Place) -> tuple[Tensor, int]:
        # Your code here
        raise NotImplementedError


def shuffled_batches(n: int, batch_size: int, seed: int, epoch: int) -> list[list[Place]]:
    """The batches of one epoch: each of the `n` positions once, in an order that depends on `seed` and `epoch` alone.

    The order is drawn by a generator of its own: `generator_for` makes one, with a number that is no position (`n`) in
    the place of a position.
    Every batch has `batch_size` places `(epoch, position)`, the last one what is left.
    """
    # Your code here
    raise NotImplementedError


def ordered_batches(n: int, batch_size: int) -> list[list[Place]]:
    """Every position once, in order: for evaluation."""
    return [[(0, p) for p in range(start, min(start + batch_size, n))] for start in range(0, n, batch_size)]


def loader(dataset: Dataset, batches: Sequence[Sequence[Place]], workers: int = 0) -> DataLoader:
    """Loads exactly these batches, in this order, with any number of workers.

    Iterating must not draw from torch's default generator: a `DataLoader` takes the base of its workers' seeds from
    `generator=` if it has one.
    """
    # Your code here
    raise NotImplementedError


def _first(pictures: Pictures, limit: int | None) -> Pictures:
    return Pictures(pictures.images[:limit], pictures.labels[:limit], pictures.classes)


def _clothing(config: DataConfig, train: bool) -> Pictures:
    from labkit.data import clothing_or_digits

    return Pictures(*clothing_or_digits(train))


def _digits(config: DataConfig, train: bool) -> Pictures:
    """scikit-learn's 8×8 digits, enlarged to 28×28; every fifth is for testing."""
    from labkit.data import digits

    data = digits()
    images = F.pad((data.images.float() * 255 / 16).byte().repeat_interleave(3, 2).repeat_interleave(3, 3), (2,) * 4)
    chosen = (torch.arange(len(images)) % 5 == 0) != train
    return Pictures(images[chosen], data.labels[chosen], data.classes)


def _cifar10(config: DataConfig, train: bool) -> Pictures:
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(config.folder, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f'CIFAR-10 cannot be had ({error}): use data.name = "fashion_mnist".') from None
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return Pictures(images, torch.tensor(data.targets), tuple(data.classes))
