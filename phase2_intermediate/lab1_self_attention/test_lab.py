"""Checkers of Lab 1 of Phase 2: self-attention mechanism."""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from grading.exercise import Exercise, forbid, guard, raises
from labkit.measure import peak_bytes

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
LOOSE = {"rtol": 1e-3, "atol": 1e-4}
SHAPES = ((4, 5, 8), (1, 3, 2), (2, 3, 6, 1, 4), (3, 1, 7, 16))
"""Of queries and keys: leading axes, L, S and d."""


def normal(rng: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng)


def random_mask(rng: torch.Generator, *shape: int) -> Tensor:
    """A boolean mask with at least one key in each row."""
    mask = torch.rand(shape, generator=rng) < 0.6
    mask[..., 0] |= ~mask.any(-1)
    return mask


def weights_of(scores: Tensor, mask: Tensor | None) -> Tensor:
    """A softmax in double precision over what the mask allows; zeros where it allows nothing."""
    powers = (scores.double() - scores.double().amax(-1, keepdim=True)).exp()
    if mask is not None:
        top = scores.double().masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
        powers = (scores.double() - top.clamp(min=-1e300)).exp().masked_fill(~mask, 0.0)
    return (powers / powers.sum(-1, keepdim=True).clamp(min=1e-300)).float()


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention, written out."""
    return weights_of(q @ k.mT / math.sqrt(q.shape[-1]), mask) @ v


class TestScaledScores(Exercise):
    """Scores."""

    points = 1
    skills = ("attention", "einsum", "numerics")
    hints = (
        "Which axes of `k` must change places so that each query meets each key?",
        "`k.mT` turns the last two. By what must a sum of d products be divided to have a variance of one?",
        "`q @ k.mT / math.sqrt(q.shape[-1])`; sureness is a softmax over the last axis, its maximum, and the mean.",
    )

    def test_scores(self, lab, rng):
        """equals q kᵀ / √d for any leading axes, and any numbers of queries and keys"""
        for *lead, length, size, d in SHAPES:
            q, k = normal(rng, *lead, length, d), normal(rng, *lead, size, d)
            expected = torch.einsum("...ld,...sd->...ls", q.double(), k.double()) / d**0.5
            assert_close(lab.scaled_scores(q, k), expected.float(), **CLOSE)

    def test_spread(self, lab, rng):
        """the spread of scores of random vectors is the product of theirs, at every width"""
        for d in (16, 256):
            scores = lab.scaled_scores(2 * normal(rng, 300, d), 3 * normal(rng, 300, d))
            assert_close(scores.std() / 6, torch.tensor(1.0), rtol=0.0, atol=0.06)

    def test_sureness(self, lab, rng):
        """is the mean of the largest weight of each query, over the keys"""
        for shape in ((4, 7), (2, 3, 5, 2), (1, 1)):
            scores = 3 * normal(rng, *shape)
            expected = weights_of(scores, None).amax(-1).mean()
            assert_close(lab.sureness(scores), expected, **CLOSE)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        q, k = normal(rng, 3, 4), normal(rng, 5, 4)
        before = q.clone(), k.clone()
        lab.scaled_scores(q, k)
        assert_close((q, k), before)


class TestMaskedSoftmax(Exercise):
    """A softmax that leaves some out."""

    points = 3
    skills = ("masks", "numerics", "gradients")
    hints = (
        "What must a score be so that its exponential is zero? What is a softmax of nothing but such scores?",
        "`masked_fill(~mask, -torch.inf)` before the softmax, but not in rows where nothing is allowed.",
        "`any_key = mask.any(-1, keepdim=True)`; fill where `~mask & any_key`; multiply the softmax by `any_key`.",
    )

    def test_values(self, lab, rng):
        """is the softmax over the keys that the mask allows, and 0 elsewhere"""
        for shape in ((4, 6), (2, 3, 5, 4), (1, 1), (3, 1, 7)):
            scores, mask = 2 * normal(rng, *shape), random_mask(rng, *shape)
            assert_close(lab.masked_softmax(scores, mask), weights_of(scores, mask), **CLOSE)
            assert_close(lab.masked_softmax(scores, torch.ones_like(mask)), weights_of(scores, None), **CLOSE)

    def test_masks_broadcast(self, lab, rng):
        """a mask of keys for all queries, of queries for all keys, or for all heads, broadcasts"""
        scores = normal(rng, 2, 3, 4, 5)
        for shape in ((2, 1, 1, 5), (4, 5), (1, 1, 4, 5), (5,), (2, 1, 4, 1)):
            mask = random_mask(rng, *shape)
            expected = weights_of(scores, mask.expand(scores.shape))
            assert_close(lab.masked_softmax(scores, mask), expected, **CLOSE)

    def test_nothing_to_attend_to(self, lab, rng):
        """a query that may attend to nothing gets zeros, and the others what they should"""
        scores, mask = normal(rng, 2, 4, 3), random_mask(rng, 2, 4, 3)
        mask[0, 1], mask[1, 3] = False, False
        found = lab.masked_softmax(scores, mask)
        assert_close(found[0, 1], torch.zeros(3))
        assert_close(found, weights_of(scores, mask), **CLOSE)

    def test_large_scores(self, lab, rng):
        """what is masked plays no part, however large its score; large scores do not overflow"""
        scores, mask = normal(rng, 3, 6), random_mask(rng, 3, 6)
        hostile = scores.masked_fill(~mask, 500.0)
        assert_close(lab.masked_softmax(hostile, mask), weights_of(scores, mask), **CLOSE)
        far = scores.masked_fill(~mask, 5.0) - 1e6 * mask
        assert_close(lab.masked_softmax(far, mask), weights_of(far, mask), **CLOSE)

    def test_gradients(self, lab, rng):
        """gradients are right, finite in empty rows too, and zero for what is masked"""
        scores, mask = normal(rng, 3, 5).requires_grad_(), random_mask(rng, 3, 5)
        mask[1] = False
        upstream = normal(rng, 3, 5)
        (gradient,) = torch.autograd.grad(lab.masked_softmax(scores, mask), scores, upstream)
        w = weights_of(scores.detach(), mask)
        expected = w * (upstream - (w * upstream).sum(-1, keepdim=True))
        assert_close(gradient, expected, **CLOSE)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """changes neither the scores nor the mask"""
        scores, mask = normal(rng, 3, 4), random_mask(rng, 3, 4)
        before = scores.clone(), mask.clone()
        lab.masked_softmax(scores, mask)
        assert_close((scores, mask), before)

    def workload(self, lab, size, rng):
        scores, mask = normal(rng, 4 * size, 128, 128), random_mask(rng, 128, 128)
        return lambda: lab.masked_softmax(scores, mask)


class TestAttention(Exercise):
    """Attention."""

    points = 3
    needs = ("scaled_scores", "masked_softmax")
    skills = ("attention", "masks", "broadcasting")
    hints = (
        "Which of the two axes of the scores does the padding belong to: who asks, or who is asked?",
        "Compare `torch.arange(longest)` with `lengths[:, None]`, and with itself as a column.",
        "`(places < lengths[:, None])[:, None, None] & (places <= places[:, None])`; without `causal` the second "
        "is all True.",
    )

    def test_without_a_mask(self, lab, rng):
        """averages the values by the softmax of the scaled scores, for any shapes, and returns the weights"""
        for *lead, length, size, d in SHAPES:
            q, k = 2 * normal(rng, *lead, length, d), 2 * normal(rng, *lead, size, d)
            v = normal(rng, *lead, size, 3)
            output, weights = lab.attention(q, k, v)
            assert_close(output, attended(q, k, v), **CLOSE)
            assert_close(weights, weights_of(q @ k.mT / math.sqrt(d), None), **CLOSE)

    def test_with_a_mask(self, lab, rng):
        """attends to what the mask allows, and to nothing where it allows nothing"""
        q, k, v = normal(rng, 2, 3, 4, 8), normal(rng, 2, 3, 5, 8), normal(rng, 2, 3, 5, 8)
        for shape in ((2, 1, 4, 5), (4, 5), (2, 1, 1, 5)):
            mask = random_mask(rng, *shape)
            mask[0] = mask[0] & (torch.rand(mask[0].shape, generator=rng) < 0.5)
            output, weights = lab.attention(q, k, v, mask)
            assert_close(output, attended(q, k, v, mask.expand(2, 3, 4, 5)), **CLOSE)
            assert_close(weights, weights_of(q @ k.mT / 8**0.5, mask.expand(2, 3, 4, 5)), **CLOSE)

    def test_gradients(self, lab, rng):
        """gradients reach queries, keys and values with the right values"""
        q, k, v = (normal(rng, 2, 4, 6).requires_grad_() for _ in range(3))
        mask, upstream = torch.ones(4, 4, dtype=torch.bool).tril(), normal(rng, 2, 4, 6)
        expected = torch.autograd.grad(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), (q, k, v), upstream)
        found = torch.autograd.grad(lab.attention(q, k, v, mask)[0], (q, k, v), upstream)
        assert_close(found, expected, **LOOSE)

    def test_padding(self, lab, rng):
        """the mask lets every position see all tokens and no padding"""
        for lengths, longest in (([3, 1, 5], 5), ([2], 4), ([1, 1], 1), ([0, 2], 3)):
            mask = lab.build_mask(torch.tensor(lengths), longest)
            expected = torch.tensor([[[[j < n for j in range(longest)] for _ in range(longest)]] for n in lengths])
            assert_close(mask, expected)

    def test_causal(self, lab, rng):
        """with `causal` a position sees tokens up to itself and no padding"""
        for lengths, longest in (([3, 1, 5], 5), ([2], 4), ([1, 1], 1)):
            mask = lab.build_mask(torch.tensor(lengths), longest, causal=True)
            expected = torch.tensor(
                [[[[j < n and j <= i for j in range(longest)] for i in range(longest)]] for n in lengths]
            )
            assert_close(mask, expected)

    @guard
    def test_device(self, lab, rng):
        """makes the mask on the device of the lengths"""
        mask = lab.build_mask(torch.ones(2, dtype=torch.long, device="meta"), 3, causal=True)
        assert mask.device.type == "meta", f"expected a mask on the device of the lengths, got {mask.device}"


def copied(layer: nn.Module, theirs: nn.MultiheadAttention) -> None:
    """Give the learner's layer the weights of PyTorch's."""
    parts = zip(theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True)
    with torch.no_grad():
        for part, (weight, bias) in zip((layer.q, layer.k, layer.v), parts, strict=True):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
        layer.out.weight.copy_(theirs.out_proj.weight)
        layer.out.bias.copy_(theirs.out_proj.bias)


class TestMultiHeadAttention(Exercise):
    """Many heads, one or two sequences."""

    points = 4
    needs = ("attention",)
    skills = ("attention", "modules", "shapes", "views")
    hints = (
        "Which features belong to head h, and where must the axis of the heads stand to be treated as a batch?",
        "split: `unflatten(-1, (n_heads, -1))`, then `transpose(1, 2)`. merge undoes both in reverse order.",
        "Queries from x, keys and values from the memory; `self.out(self.merge(attention(…)[0]))`.",
    )

    def pair(self, lab, rng, d_model, n_heads):
        theirs = nn.MultiheadAttention(d_model, n_heads, batch_first=True)
        with torch.no_grad():
            for _, parameter in sorted(theirs.named_parameters()):
                parameter.copy_(normal(rng, *parameter.shape) * 0.4)
        layer = lab.MultiHeadAttention(d_model, n_heads)
        copied(layer, theirs)
        return layer, theirs

    def test_self_attention(self, lab, rng):
        """equals nn.MultiheadAttention on copied weights, within one sequence"""
        for batch, length, d_model, heads in ((2, 5, 12, 3), (1, 1, 4, 4), (3, 4, 6, 1), (2, 6, 8, 4)):
            layer, theirs = self.pair(lab, rng, d_model, heads)
            x = normal(rng, batch, length, d_model)
            assert_close(layer(x), theirs(x, x, x, need_weights=False)[0], **CLOSE)

    def test_cross_attention(self, lab, rng):
        """equals it between two sequences of other lengths"""
        for batch, length, size in ((2, 3, 7), (1, 5, 1), (3, 1, 4)):
            layer, theirs = self.pair(lab, rng, 8, 2)
            x, memory = normal(rng, batch, length, 8), normal(rng, batch, size, 8)
            assert_close(layer(x, memory), theirs(x, memory, memory, need_weights=False)[0], **CLOSE)

    def test_masks(self, lab, rng):
        """a mask is True where one may attend; PyTorch's own is True where one must not"""
        layer, theirs = self.pair(lab, rng, 8, 2)
        x, memory = normal(rng, 3, 4, 8), normal(rng, 3, 5, 8)
        causal = torch.ones(4, 4, dtype=torch.bool).tril()
        assert_close(layer(x, mask=causal), theirs(x, x, x, attn_mask=~causal, need_weights=False)[0], **CLOSE)
        there = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
        expected = theirs(x, memory, memory, key_padding_mask=~there, need_weights=False)[0]
        assert_close(layer(x, memory, there[:, None, None]), expected, **CLOSE)

    def test_split_and_merge(self, lab, rng):
        """split gives head h its own neighbouring features, merge puts them back"""
        for batch, length, heads, d_head in ((2, 5, 3, 4), (1, 1, 2, 1), (3, 4, 4, 2)):
            layer, x = lab.MultiHeadAttention(heads * d_head, heads), normal(rng, batch, length, heads * d_head)
            expected = torch.stack(x.chunk(heads, -1), 1)
            assert_close(layer.split(x), expected)
            assert_close(layer.merge(expected), x)

    def test_gradients(self, lab, rng):
        """gradients reach both sequences and all weights, with the right values"""
        layer, theirs = self.pair(lab, rng, 6, 3)
        x, memory = normal(rng, 2, 3, 6).requires_grad_(), normal(rng, 2, 4, 6).requires_grad_()
        upstream = normal(rng, 2, 3, 6)
        weights = x, memory, theirs.in_proj_weight, theirs.out_proj.weight
        expected = torch.autograd.grad(theirs(x, memory, memory, need_weights=False)[0], weights, upstream)
        wanted = (x, memory, layer.q.weight, layer.k.weight, layer.v.weight, layer.out.weight)
        a, b, *parts, out = torch.autograd.grad(layer(x, memory), wanted, upstream)
        assert_close([a, b, torch.cat(parts), out], list(expected), **LOOSE)

    @guard
    def test_constructor(self, lab, rng):
        """has four square linear layers with bias, and refuses heads that do not divide the width"""
        shapes = {name: tuple(p.shape) for name, p in lab.MultiHeadAttention(6, 2).named_parameters()}
        expected = {f"{part}.{kind}": (6, 6) if kind == "weight" else (6,)
                    for part, kind in itertools.product(("q", "k", "v", "out"), ("weight", "bias"))}  # fmt: skip
        assert shapes == expected, f"expected the parameters {expected}, got {shapes}"
        with raises(ValueError):
            lab.MultiHeadAttention(8, 3)

    def architecture(self, lab, rng):
        return lab.MultiHeadAttention(64, 4), (normal(rng, 32, 16, 64),)


def turned(x: Tensor, positions: Tensor) -> Tensor:
    """Neighbouring features as complex numbers, turned."""
    d = x.shape[-1]
    angles = positions.double()[:, None] * 10000.0 ** (-torch.arange(0, d, 2).double() / d)
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).float()


class TestSinusoidal(Exercise):
    """Where a word stands."""

    points = 3
    skills = ("positions", "numerics", "broadcasting")
    hints = (
        "Both functions need the same table of angles, (n, d / 2). What is its entry for position p and pair i?",
        "`positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)`; `x[..., 0::2]`, `x[..., 1::2]` are the pairs.",
        "Stack the two new halves along a new last axis, `torch.stack((…, …), -1)`, then `flatten(-2)`.",
    )

    def test_sinusoidal(self, lab, rng):
        """has the sine of each angle at even features and the cosine at odd ones"""
        for positions, d in ((torch.arange(7), 6), (torch.tensor([0]), 2), (torch.tensor([5, 3, 900]), 10)):
            waves = (math.sin, math.cos)
            expected = torch.tensor(
                [[waves[j % 2](p * 10000 ** (-2 * (j // 2) / d)) for j in range(d)] for p in positions.tolist()]
            )
            assert_close(lab.sinusoidal(positions, d), expected, rtol=1e-4, atol=1e-4)

    def test_rotate(self, lab, rng):
        """turns neighbouring features by their position's angle, for any leading axes"""
        for lead, n, d in (((), 5, 4), ((2, 3), 4, 8), ((1,), 1, 2)):
            x, positions = normal(rng, *lead, n, d), torch.arange(n)
            assert_close(lab.rotate(x, positions), turned(x, positions), rtol=1e-4, atol=1e-4)

    def test_any_positions(self, lab, rng):
        """uses the positions that it is given, whatever row they stand in"""
        x, positions = normal(rng, 2, 4, 6), torch.tensor([17, 3, 3, 250])
        assert_close(lab.rotate(x, positions), turned(x, positions), rtol=1e-4, atol=1e-4)

    def test_relative(self, lab, rng):
        """a product of two rotated vectors depends on their distance alone, and keeps their lengths"""
        q, k = normal(rng, 1, 16), normal(rng, 1, 16)
        near, far = (
            lab.rotate(q, torch.tensor([m])) @ lab.rotate(k, torch.tensor([n])).T for m, n in ((7, 3), (207, 203))
        )
        expected = turned(q, torch.tensor([4])) @ k.T
        assert_close(near, expected, rtol=1e-3, atol=1e-3)
        assert_close(far, expected, rtol=1e-3, atol=1e-3)
        assert_close(lab.rotate(q, torch.tensor([41])).norm(), q.norm(), **LOOSE)

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """changes neither its input nor the positions"""
        x, positions = normal(rng, 3, 4), torch.arange(3)
        before = x.clone(), positions.clone()
        lab.rotate(x, positions)
        lab.sinusoidal(positions, 4)
        assert_close((x, positions), before)


class TestTiledAttention(Exercise):
    """Tile by tile."""

    points = 3
    needs = ("scaled_scores",)
    skills = ("attention", "memory", "numerics")
    hints = (
        "When a tile brings a larger score, in which unit was everything summed so far, and how do you convert it?",
        "Multiply the old sum and the old output by exp(old maximum − new maximum), for each query.",
        "Begin with maxima of −inf, sums and outputs of zero; loop over `zip(k.split(tile, -2), v.split(tile, -2))`; "
        "divide at the end.",
    )

    def test_values(self, lab, rng):
        """equals attention for any shapes and tiles, a last tile that is smaller included"""
        for *lead, length, size, d in (*SHAPES, (2, 3, 10, 4)):
            q, k, v = normal(rng, *lead, length, d), normal(rng, *lead, size, d), normal(rng, *lead, size, 5)
            for tile in (1, 2, 3, size, size + 4):
                assert_close(lab.tiled_attention(2 * q, k, v, tile), attended(2 * q, k, v), **CLOSE)

    def test_order_of_scores(self, lab, rng):
        """is right whether the large scores come first or last, and whatever their size"""
        q, k, v = normal(rng, 3, 4), normal(rng, 12, 4), normal(rng, 12, 2)
        rising = k * torch.linspace(0.1, 30, 12)[:, None]
        for keys in (rising, rising.flip(0), 200 * k):
            assert_close(lab.tiled_attention(q, keys, v, 3), attended(q, keys, v), **LOOSE)

    def test_memory(self, lab, rng):
        """never holds more than a tile of scores, and is right at that size too"""
        # Values are narrow, so that whoever keeps each tile's output, and not its scores, stays below the bound too.
        q, k, v = normal(rng, 128, 8), normal(rng, 4096, 8), normal(rng, 4096, 2)
        assert_close(lab.tiled_attention(q, k, v, 64), attended(q, k, v), **CLOSE)
        held, whole = peak_bytes(lambda: lab.tiled_attention(q, k, v, 64)), 128 * 4096 * 4
        assert held < whole / 4, f"expected far less than the {whole:,} bytes of all scores, got {held:,} at the peak"

    def test_gradients(self, lab, rng):
        """gradients are those of attention"""
        q, k, v = (normal(rng, 7, 4).requires_grad_() for _ in range(3))
        upstream = normal(rng, 7, 4)
        expected = torch.autograd.grad((q @ k.mT / 2).softmax(-1) @ v, (q, k, v), upstream)
        found = torch.autograd.grad(lab.tiled_attention(q, k, v, 3), (q, k, v), upstream)
        assert_close(found, expected, **LOOSE)

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own attention"""
        q, k, v = (normal(rng, 1, 6, 4) for _ in range(3))
        with forbid("attention"):
            lab.tiled_attention(q, k, v, 2)

    def workload(self, lab, size, rng):
        q, k, v = normal(rng, 128, 32), normal(rng, 512 * size, 32), normal(rng, 512 * size, 32)
        return lambda: lab.tiled_attention(q, k, v, 64)


class TestAttendCached(Exercise):
    """Writing with a cache."""

    points = 2
    needs = ("scaled_scores", "masked_softmax", "attention", "multi_head_attention", "sinusoidal")
    skills = ("kv-cache", "positions", "masks")
    hints = (
        "At which positions do the new rows stand, and how do you know?",
        "`past` is the length of what is cached. Positions are `torch.arange(past, past + n)`, for rotation and mask.",
        "Rotate queries and new keys, append keys and values along axis 2, keep both; the mask is "
        "`torch.arange(past + n) <= positions[:, None]`.",
    )

    def setting(self, lab, rng, batch=2, length=9, d_model=8):
        layer = lab.MultiHeadAttention(d_model, 2)
        with torch.no_grad():
            for _, parameter in sorted(layer.named_parameters()):
                parameter.copy_(normal(rng, *parameter.shape) * 0.6)
        return layer, normal(rng, batch, length, d_model)

    def whole(self, layer: nn.Module, x: Tensor) -> Tensor:
        """All rows at once, from the layer's weights alone."""
        places = torch.arange(x.shape[1])
        q, k, v = (torch.stack(part(x).chunk(2, -1), 1) for part in (layer.q, layer.k, layer.v))
        causal = (places <= places[:, None]).expand(*q.shape[:3], len(places))
        return layer.out(torch.cat(attended(turned(q, places), turned(k, places), v, causal).unbind(1), -1))

    def test_one_by_one(self, lab, rng):
        """rows one by one equal those of the whole"""
        for batch, length, d_model in ((2, 6, 8), (1, 3, 4), (3, 5, 12)):
            layer, x = self.setting(lab, rng, batch, length, d_model)
            cache = {}
            rows = [lab.attend_cached(layer, x[:, t : t + 1], cache) for t in range(length)]
            assert_close(torch.cat(rows, 1), self.whole(layer, x), **LOOSE)

    def test_in_pieces(self, lab, rng):
        """pieces of any lengths equal the rows of the whole"""
        for pieces in ([4, 1, 4], [1, 5, 3], [9], [2, 2, 2, 2, 1]):
            layer, x = self.setting(lab, rng)
            cache = {}
            rows = [lab.attend_cached(layer, part, cache) for part in x.split(pieces, 1)]
            assert_close([row.shape[1] for row in rows], pieces)
            assert_close(torch.cat(rows, 1), self.whole(layer, x), **LOOSE)

    def test_two_texts(self, lab, rng):
        """two caches of one layer do not mix"""
        layer, x = self.setting(lab, rng)
        others, caches, rows = normal(rng, 2, 9, 8), ({}, {}), ([], [])
        for t in range(4):
            for text, cache, found in zip((x, others), caches, rows, strict=True):
                found.append(lab.attend_cached(layer, text[:, t : t + 1], cache))
        for text, found in zip((x, others), rows, strict=True):
            assert_close(torch.cat(found, 1), self.whole(layer, text[:, :4]), **LOOSE)

    def test_work(self, lab, rng):
        """twenty more positions before it cost a new one twenty more scores, and nothing else"""

        def cost(past: int) -> int:
            layer, x = self.setting(lab, rng, 1, past + 1, 16)
            cache = {}
            assert_close(lab.attend_cached(layer, x[:, :past], cache), self.whole(layer, x[:, :past]), **LOOSE)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                lab.attend_cached(layer, x[:, past:], cache)
            return counter.get_total_flops()

        more, scores = cost(25) - cost(5), 20 * 2 * 2 * 16
        assert more <= 1.1 * scores, (
            f"expected {scores:,} more operations after 25 positions than after 5, counted {more:,}"
        )

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        layer, x = self.setting(lab, rng)
        before = x.clone()
        lab.attend_cached(layer, x, {})
        assert_close(x, before)


class TestHeadProfile(Exercise):
    """What heads look at."""

    points = 1
    skills = ("attention", "interpretability", "masks")
    hints = (
        "Which queries count, and over which axes is the mean for a head?",
        "`places[:, None] - places` has the distances. For the entropy, what is 0 · log 0 to be?",
        "`torch.special.xlogy(w, w)` sums to minus the entropy in nats; divide by log 2; weigh by `mask.any(-1)` and "
        "divide by how many there are.",
    )

    def case(self, rng, batch, heads, length, empty):
        mask = random_mask(rng, batch, 1, length, length)
        for b, i in empty:
            mask[b, 0, i] = False
        weights = weights_of(2 * normal(rng, batch, heads, length, length), mask.expand(batch, heads, length, length))
        return weights, mask

    def expected(self, weights, mask):
        batch, heads, length, _ = weights.shape
        rows = [(b, i) for b in range(batch) for i in range(length) if mask[b, 0, i].any()]
        distance, entropy = torch.zeros(2, heads, dtype=torch.float64)
        for h, (b, i) in itertools.product(range(heads), rows):
            w = weights[b, h, i].double()
            distance[h] += sum(w[j].item() * abs(i - j) for j in range(length)) / len(rows)
            entropy[h] -= sum(p * math.log2(p) for p in w.tolist() if p > 0) / len(rows)
        return distance.float(), entropy.float()

    def test_values(self, lab, rng):
        """are the means of distance and entropy of each head, over the queries that have a key"""
        for batch, heads, length, empty in ((2, 3, 5, ()), (1, 2, 1, ()), (3, 1, 4, ((0, 3), (2, 1), (2, 2)))):
            weights, mask = self.case(rng, batch, heads, length, empty)
            distance, entropy = lab.head_profile(weights, mask)
            expected = self.expected(weights, mask)
            assert_close(distance, expected[0], **CLOSE)
            assert_close(entropy, expected[1], **CLOSE)

    def test_extremes(self, lab, rng):
        """looking at one's neighbour has distance 1 and entropy 0; looking everywhere has log₂ of the length"""
        weights = torch.stack((torch.eye(8).roll(1, 0), torch.full((8, 8), 1 / 8)))[None, :, 1:]
        weights = torch.cat((torch.zeros(1, 2, 1, 8), weights), 2)
        mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        mask[0, 0, 0] = False
        distance, entropy = lab.head_profile(weights, mask)
        assert_close(distance[0], torch.tensor(1.0))
        assert_close(entropy, torch.tensor([0.0, 3.0]))

    def test_padding(self, lab, rng):
        """queries without a key do not count, however many there are, also if one mask serves the whole batch"""
        weights, mask = self.case(rng, 2, 2, 6, [(1, i) for i in range(6)])
        expected = self.expected(weights[:1], mask[:1])
        assert_close(lab.head_profile(weights, mask), expected, **CLOSE)
        weights, mask = self.case(rng, 1, 2, 5, ((0, 2),))
        several = torch.cat((weights, weights.flip(1), weights))
        expected = self.expected(several, mask.expand(3, 1, 5, 5))
        assert_close(lab.head_profile(several, mask), expected, **CLOSE)

    @guard
    def test_shapes(self, lab, rng):
        """returns one number a head, twice"""
        found = lab.head_profile(*self.case(rng, 2, 3, 4, ()))
        shapes = [tuple(part.shape) for part in found]
        assert shapes == [(3,), (3,)], f"expected two tensors of shape (3,), got {shapes}"


class TestGroupedAttention(Exercise):
    """Grouped heads."""

    points = 2
    side_quest = True
    needs = ("scaled_scores", "masked_softmax", "attention")
    skills = ("attention", "kv-cache")
    hints = (
        "With 8 heads and 2 groups, which group does head 5 use?",
        "Each head of keys and values must stand several times, copies side by side.",
        "`k.repeat_interleave(heads // groups, 1)`, the same for v, then attention.",
    )

    def test_values(self, lab, rng):
        """equals PyTorch's with enable_gqa"""
        for heads, groups, length, size in ((8, 2, 3, 5), (4, 4, 2, 2), (6, 1, 4, 3), (6, 3, 1, 4)):
            q, k, v = (normal(rng, 2, h, n, 4) for h, n in ((heads, length), (groups, size), (groups, size)))
            expected = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            assert_close(lab.grouped_attention(q, k, v), expected, **CLOSE)

    def test_masks(self, lab, rng):
        """masks mean what they mean for each head"""
        q, k, v = normal(rng, 2, 6, 4, 4), normal(rng, 2, 2, 5, 4), normal(rng, 2, 2, 5, 4)
        for shape in ((4, 5), (2, 1, 1, 5), (2, 6, 4, 5)):
            mask = random_mask(rng, *shape)
            whole = [attended(q[:, h], k[:, h // 3], v[:, h // 3], mask.expand(2, 6, 4, 5)[:, h]) for h in range(6)]
            assert_close(lab.grouped_attention(q, k, v, mask), torch.stack(whole, 1), **CLOSE)

    @guard
    def test_refuses(self, lab, rng):
        """raises ValueError if the groups do not divide the heads"""
        with raises(ValueError):
            lab.grouped_attention(normal(rng, 1, 5, 2, 4), normal(rng, 1, 2, 2, 4), normal(rng, 1, 2, 2, 4))


class TestAlibi(Exercise):
    """A slope in place of positions."""

    points = 1
    side_quest = True
    skills = ("positions",)
    hints = (
        "What is the slope of the last head, whatever their number?",
        "Slopes are `2.0 ** (-8 * h / n_heads)` for h from 1 on; distances are `places[:, None] - places`, absolute.",
        "`-slopes[:, None, None] * (places[:, None] - places).abs()`.",
    )

    def test_values(self, lab, rng):
        """is minus the distance times the slope of each head"""
        for heads, length in ((8, 5), (1, 3), (4, 1), (6, 4)):
            slopes = [2.0 ** (-8 * h / heads) for h in range(1, heads + 1)]
            expected = torch.tensor([[[-abs(i - j) * m for j in range(length)] for i in range(length)] for m in slopes])
            assert_close(lab.alibi(heads, length), expected, **CLOSE)

    def test_neighbours(self, lab, rng):
        """takes from a neighbour the slope itself, on both sides"""
        bias = lab.alibi(2, 3)
        assert_close(bias[:, 1, 0], torch.tensor([-1 / 16, -1 / 256]))
        assert_close(bias[:, 1, 2], torch.tensor([-1 / 16, -1 / 256]))

    def test_diagonal(self, lab, rng):
        """takes nothing from a position for itself, and from the last head's farthest what the formula says"""
        bias = lab.alibi(8, 9)
        assert_close(bias[:, range(9), range(9)].abs().sum(), torch.tensor(0.0))
        assert_close(bias[-1, 0, 8], torch.tensor(-8 / 256))
