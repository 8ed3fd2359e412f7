"""A comparison counts what was held at one time, and claims no speed that is noise."""

import torch

from labkit.measure import Comparison, compare, peak_bytes

MIB = 2**20


def test_peak_counts_what_is_alive_at_once() -> None:
    x = torch.zeros(MIB // 4)
    assert peak_bytes(lambda: x + 1) == MIB
    assert peak_bytes(lambda: (x + 1) * (x + 2)) == 3 * MIB
    assert peak_bytes(lambda: [(x + i).sum() for i in range(5)]) < 1.1 * MIB, "freed tensors must not count"


def test_what_a_loop_keeps_adds_up() -> None:
    x = torch.zeros(256)
    assert peak_bytes(lambda: [x + i for i in range(2000)]) == 2000 * x.nbytes


def test_views_and_inputs_are_free() -> None:
    x = torch.zeros(64, 64)
    assert peak_bytes(lambda: x.T.unsqueeze(0).expand(3, 64, 64)) == 0
    assert peak_bytes(lambda: x.add_(1)) == 0


def test_compare_gives_ratios() -> None:
    x = torch.zeros(256, 256)
    result = compare(lambda: (x[:, None] - x).sum(-1), lambda: x + 1, repeats=3)
    assert result.time_ratio > 3
    assert result.memory_ratio > 100
    assert "×" in str(result)


def test_small_ratios_are_not_claimed() -> None:
    assert "about the same" in str(Comparison(2.0, 1.0, MIB, MIB))
    assert "time 5×" in str(Comparison(5.0, 1.0, MIB, MIB))
