"""Checkers of the tiny project."""

import torch
from torch.testing import assert_close

from grading.exercise import Exercise, guard
from grading.own_tests import caught, on_reference


def numbers(rng, n):
    return torch.randn(n, generator=rng, dtype=torch.float64).add(3).tolist()


class TestData(Exercise):
    """Centred data."""

    points = 4
    modules = ("data",)
    skills = ("statistics",)
    hints = ("What is the middle?", "The mean.", "Subtract the mean.")

    def test_mean(self, lab, rng):
        """the mean is right"""
        values = numbers(rng, 5)
        assert_close(lab.data.mean(values), sum(values) / 5)

    def test_centred(self, lab, rng):
        """centred values are right"""
        values = numbers(rng, 4)
        assert_close(lab.data.centred(values), [v - sum(values) / 4 for v in values])


class TestModel(Exercise):
    """The spread."""

    points = 2
    modules = ("model",)
    needs = ("data",)
    skills = ("statistics",)
    hints = ("What is a variance?", "The mean of squares.", "Divide by n.")

    def test_spread(self, lab, rng):
        """is the biased variance"""
        values = numbers(rng, 6)
        assert_close(lab.model.spread(values), torch.tensor(values, dtype=torch.float64).var(correction=0).item())


class TestOwnTests(Exercise):
    """Tests of your own."""

    points = 2
    modules = ("test_tiny",)
    skills = ("testing",)
    hints = ("What should be true?", "What do centred values sum to?", "To zero.")

    @guard
    def test_right(self, lab):
        """pass on a right package"""
        failed = on_reference(lab, "test_tiny").failed
        assert not failed, f"on a right package these fail: {failed}"

    def test_wrong(self, lab):
        """fail on wrong ones"""
        found = caught(lab, "test_tiny", ("NotCentred", "SumOfSquares"))
        assert_close(torch.tensor(list(found.values())), torch.tensor([True, True]))
