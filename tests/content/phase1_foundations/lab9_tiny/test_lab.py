"""Checkers of the tiny lab."""

import torch
from torch.testing import assert_close

from grading.exercise import Exercise, forbid, guard


class TestSoftmax(Exercise):
    """Numerically stable softmax."""

    points = 2
    skills = ("numerics",)
    hints = ("What is exp(1000.)?", "softmax(x) == softmax(x - c) for any c.", "Take c = x.amax(dim, keepdim=True).")

    def test_matches_float64(self, lab, rng):
        """equals the float64 value on any shape and dim"""
        for shape, dim in (((3, 5), 1), ((2, 1, 4), 0), ((7,), 0)):
            logits = torch.randn(shape, generator=rng)
            assert_close(lab.softmax(logits, dim), torch.softmax(logits.double(), dim).float())

    def test_large_logits(self, lab, rng):
        """stays finite for logits of a thousand"""
        logits = 1000 + torch.randn(4, 6, generator=rng)
        assert_close(lab.softmax(logits, 1), torch.softmax(logits.double(), 1).float(), atol=1e-4, rtol=1e-4)

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        logits = torch.randn(3, 4, generator=rng)
        before = logits.clone()
        lab.softmax(logits, 1)
        assert_close(logits, before)

    @guard
    def test_no_builtin(self, lab, rng):
        """does not call torch's own softmax"""
        logits = torch.randn(3, 4, generator=rng)
        with forbid("softmax"):
            lab.softmax(logits, 1)

    def workload(self, lab, size, rng):
        logits = torch.randn(64 * size, 256, generator=rng)
        return lambda: lab.softmax(logits, 1)


class TestAttention(Exercise):
    """Attention weights."""

    points = 2
    needs = ("softmax",)
    hints = ("Which axis sums to one?", "Divide before the softmax.", "By the root of the last dimension.")

    def test_values(self, lab, rng):
        """equals softmax(QKᵀ/√d) for any number of queries and keys"""
        queries, keys = torch.randn(3, 8, generator=rng), torch.randn(5, 8, generator=rng)
        assert_close(lab.attention(queries, keys), torch.softmax(queries @ keys.T / 8**0.5, -1))

    def test_one_key(self, lab, rng):
        """gives a single key all the weight, for every query"""
        queries, keys = torch.randn(3, 4, generator=rng), torch.randn(1, 4, generator=rng)
        assert_close(lab.attention(queries, keys), torch.ones(3, 1))

    def workload(self, lab, size, rng):
        queries, keys = torch.randn(64 * size, 32, generator=rng), torch.randn(256, 32, generator=rng)
        return lambda: lab.attention(queries, keys)


class TestScale(Exercise):
    """A module with one parameter."""

    points = 1
    side_quest = True
    hints = ("What must be a parameter?", "nn.Parameter registers.", "torch.ones(size).")

    def test_learns(self, lab, rng):
        """has one parameter whose gradient is the sum of its inputs"""
        layer = lab.Scale(3)
        x = torch.randn(4, 3, generator=rng)
        layer(x).sum().backward()
        (weight,) = layer.parameters()
        assert_close(weight.grad, x.sum(0))

    def architecture(self, lab, rng):
        return lab.Scale(6), (torch.randn(32, 6, generator=rng),)
