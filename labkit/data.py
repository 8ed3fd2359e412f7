"""Real data sets, as tensors, without a network."""

from typing import NamedTuple

import torch
from torch import Tensor


class Table(NamedTuple):
    """A regression problem in rows: `features` is `(n, d)`, `target` is `(n,)`, `names` labels the `d` columns."""

    features: Tensor
    target: Tensor
    names: tuple[str, ...]


def diabetes() -> Table:
    """442 patients, ten measurements each in their own units, and how far their diabetes progressed in a year.

    Efron, Hastie, Johnstone, Tibshirani: "Least Angle Regression" (2004); the file ships with scikit-learn.
    """
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    features = torch.tensor(data.data, dtype=torch.float32)
    target = torch.tensor(data.target, dtype=torch.float32)
    return Table(features, target, tuple(data.feature_names))
