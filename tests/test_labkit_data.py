"""The data sets are what the labs say they are."""

import torch

from labkit.data import diabetes


def test_diabetes_is_raw_and_complete() -> None:
    table = diabetes()
    assert table.features.shape == (442, 10)
    assert table.target.shape == (442,)
    assert table.features.dtype == table.target.dtype == torch.float32
    assert len(table.names) == 10
    assert table.features[:, table.names.index("age")].mean() > 40, "the columns must be in their own units"
