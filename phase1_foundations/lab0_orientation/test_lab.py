"""Checkers of the orientation: two tiny exercises."""

import torch
from torch.testing import assert_close

from grading.exercise import Exercise, guard


def temperatures(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random readings around the freezing point."""
    return 20 * torch.randn(shape, generator=rng, dtype=dtype)


class TestToCelsius(Exercise):
    """From Fahrenheit to Celsius."""

    points = 1
    side_quest = True
    skills = ("tensors",)
    hints = (
        "What does the formula do first, and what does Python do first without parentheses?",
        "Arithmetic between a tensor and a number works on every element: `fahrenheit - 32` is a whole tensor.",
        "Return the difference, in parentheses, times 5, divided by 9.",
    )

    def test_known_points(self, lab, rng):
        """water freezes at 32 °F = 0 °C and boils at 212 °F = 100 °C; at −40 the scales meet"""
        got = lab.to_celsius(torch.tensor([32.0, 212.0, -40.0]))
        assert_close(got, torch.tensor([0.0, 100.0, -40.0]), rtol=1e-5, atol=1e-4)

    def test_values(self, lab, rng):
        """is right for tensors of any shape"""
        for shape in ((), (7,), (3, 5), (2, 1, 4)):
            fahrenheit = temperatures(rng, *shape)
            expected = (fahrenheit.double() * 5 - 160).div(9).float()
            assert_close(lab.to_celsius(fahrenheit), expected, rtol=1e-4, atol=1e-4)

    def test_precision(self, lab, rng):
        """keeps float64, to its last digits"""
        fahrenheit = temperatures(rng, 6, dtype=torch.float64)
        assert_close(lab.to_celsius(fahrenheit), (fahrenheit * 5 - 160) / 9, rtol=1e-12, atol=1e-12)

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        fahrenheit = temperatures(rng, 4)
        before = fahrenheit.clone()
        lab.to_celsius(fahrenheit)
        assert_close(fahrenheit, before)


class TestDailyRange(Exercise):
    """How far the temperature moved each day."""

    points = 1
    side_quest = True
    skills = ("tensors", "shapes")
    hints = (
        "The result has one number for each day. Which axis of `(days, hours)` must disappear?",
        "`amax` and `amin` take the axis to reduce as `dim`.",
        "The maximum along `dim=1` minus the minimum along `dim=1`.",
    )

    def test_values(self, lab, rng):
        """gives the highest minus the lowest reading of each day, for any number of days and hours"""
        for days, hours in ((5, 24), (24, 5), (2, 3)):
            readings = temperatures(rng, days, hours)
            ordered = readings.sort(dim=1).values
            assert_close(lab.daily_range(readings), ordered[:, -1] - ordered[:, 0])

    def test_cold_and_warm_days(self, lab, rng):
        """is right where all readings lie below zero, or all above"""
        offsets = torch.tensor([-300.0, 300.0, -300.0])[:, None]
        readings = temperatures(rng, 3, 8) + offsets
        ordered = readings.sort(dim=1).values
        assert_close(lab.daily_range(readings), ordered[:, -1] - ordered[:, 0], rtol=1e-4, atol=1e-3)

    def test_smallest_tables(self, lab, rng):
        """works for a single day, and gives 0 where there is a single hour"""
        for days, hours in ((1, 6), (4, 1)):
            readings = temperatures(rng, days, hours)
            ordered = readings.sort(dim=1).values
            assert_close(lab.daily_range(readings), ordered[:, -1] - ordered[:, 0])

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        readings = temperatures(rng, 3, 4)
        before = readings.clone()
        lab.daily_range(readings)
        assert_close(readings, before)
