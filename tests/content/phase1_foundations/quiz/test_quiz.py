"""Checkers of the tiny quiz."""

import torch
from torch.testing import assert_close

from grading.exercise import Exercise, guard


class TestDoubled(Exercise):
    """Doubling."""

    points = 5

    def test_twice(self, lab, rng):
        """gives twice the input"""
        x = torch.randn(4, generator=rng)
        assert_close(lab.doubled(x), x + x)


class TestMeanOf(Exercise):
    """The mean, without side effects."""

    points = 3

    def test_mean(self, lab, rng):
        """gives the mean and leaves its input as it was"""
        x = torch.randn(5, generator=rng)
        before = x.clone()
        assert_close(lab.mean_of(x), before.mean())
        assert_close(x, before)

    @guard
    def test_shape(self, lab, rng):
        """gives a single number"""
        assert lab.mean_of(torch.randn(3, generator=rng)).shape == (), "expected a tensor without axes"
