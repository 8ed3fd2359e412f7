"""Real data sets, as tensors. What does not ship with a package is fetched once, into the cache of `labkit.store`."""

import gzip
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from labkit import catalog
from labkit.store import DataError, fetch

FASHION_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


class Table(NamedTuple):
    """A regression problem in rows: `features` is `(n, d)`, `target` is `(n,)`, `names` labels the `d` columns."""

    features: Tensor
    target: Tensor
    names: tuple[str, ...]


class Images(NamedTuple):
    """Grey pictures: `images` is `(n, 1, height, width)`, uint8; `labels` is `(n,)`, int64, an index into `classes`."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


class Sentences(NamedTuple):
    """Rated sentences: `scores` is `(n,)`, float32, from −4 (very negative) to 4 (very positive)."""

    texts: tuple[str, ...]
    scores: Tensor


def diabetes() -> Table:
    """442 patients, ten measurements each in their own units, and how far their diabetes progressed in a year.

    Efron, Hastie, Johnstone, Tibshirani: "Least Angle Regression" (2004); the file ships with scikit-learn.
    """
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    features = torch.tensor(data.data, dtype=torch.float32)
    target = torch.tensor(data.target, dtype=torch.float32)
    return Table(features, target, tuple(data.feature_names))


def digits() -> Images:
    """1,797 handwritten digits, 8×8, values from 0 to 16.

    Alpaydin, Kaynak: "Optical Recognition of Handwritten Digits" (1998); the file ships with scikit-learn.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.uint8)[:, None]
    return Images(images, torch.tensor(data.target, dtype=torch.int64), tuple("0123456789"))


def mnist() -> Images:
    """5,000 handwritten digits, 28×28, 500 of each in order of the class. Raises `DataError` if they cannot be had.

    LeCun, Bottou, Bengio, Haffner: "Gradient-Based Learning Applied to Document Recognition" (1998).
    """
    packed = (fetch(catalog.MNIST) / "mnist_5k.csv.gz").read_bytes()
    rows = np.loadtxt(io.BytesIO(gzip.decompress(packed)), dtype=np.uint8, delimiter=",")
    images = torch.from_numpy(rows[:, :-1].copy()).view(-1, 1, 28, 28)
    return Images(images, torch.from_numpy(rows[:, -1].astype(np.int64)), tuple("0123456789"))


def fashion_mnist(train: bool = True) -> Images:
    """60,000 pictures of clothing, 28×28, or with `train=False` the 10,000 for testing. Raises `DataError`.

    Xiao, Rasul, Vollgraf: "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms" (2017).
    """
    folder, part = fetch(catalog.FASHION_MNIST), "train" if train else "t10k"
    images = _idx(folder / f"{part}-images-idx3-ubyte.gz", header=16).view(-1, 1, 28, 28)
    labels = _idx(folder / f"{part}-labels-idx1-ubyte.gz", header=8).long()
    return Images(images, labels, FASHION_CLASSES)


def clothing_or_digits(train: bool = True) -> Images:
    """Fashion-MNIST, or where it cannot be had the digits of `mnist`, and says so: every fifth is then for testing."""
    try:
        return fashion_mnist(train)
    except DataError as error:
        print(f"{error} So these are MNIST's 5,000 digits.")
    everything = mnist()
    chosen = (torch.arange(len(everything.labels)) % 5 == 0) != train
    return Images(everything.images[chosen], everything.labels[chosen], everything.classes)


def movie_sentences() -> Sentences:
    """10,605 sentences from film reviews with the mean rating of twenty people. Raises `DataError`.

    Hutto, Gilbert: "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text" (2014).
    """
    lines = (fetch(catalog.MOVIE_SENTENCES) / "sentences.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t", 2) for line in lines]
    scores = torch.tensor([float(score) for _, score, _ in rows])
    return Sentences(tuple(text.strip() for _, _, text in rows), scores)


def _idx(path: Path, header: int) -> Tensor:
    """The bytes of a file in MNIST's own format, after its header."""
    return torch.frombuffer(bytearray(gzip.decompress(path.read_bytes())[header:]), dtype=torch.uint8)
