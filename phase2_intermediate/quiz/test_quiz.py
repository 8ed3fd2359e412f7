"""Checkers of the Phase 2 quiz: three challenges and three reviews."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from grading.exercise import Exercise, guard


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=rng, dtype=dtype)


def windowed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    """Attention of one query after the other over the keys that it sees, in float64."""
    q, k, v = q.double(), k.double(), v.double()
    rows = []
    for i in range(q.shape[-2]):
        seen = slice(max(0, i - window + 1), i + 1)
        weights = (q[..., i : i + 1, :] @ k[..., seen, :].mT / q.shape[-1] ** 0.5).softmax(-1)
        rows.append(weights @ v[..., seen, :])
    return torch.cat(rows, -2)


class TestWindowAttention(Exercise):
    """A window to the past."""

    points = 5
    skills = ("attention", "masks")

    def test_values(self, lab, rng):
        """equals attention to the last positions, query by query"""
        for shape, d_v, window in (((5, 4), 4, 2), ((2, 7, 3), 5, 3), ((1, 2, 6, 8), 8, 4)):
            q, k, v = normal(rng, *shape), normal(rng, *shape), normal(rng, *shape[:-1], d_v)
            assert_close(lab.window_attention(q, k, v, window), windowed(q, k, v, window).float())

    def test_extreme_windows(self, lab, rng):
        """returns the values for a window of 1, and is plain causal attention for one that is longer than all"""
        q, k, v = normal(rng, 2, 4, 3), normal(rng, 2, 4, 3), normal(rng, 2, 4, 3)
        assert_close(lab.window_attention(q, k, v, 1), v)
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        assert_close(lab.window_attention(q, k, v, 9), expected)

    def test_nothing_else_is_seen(self, lab, rng):
        """does not depend on what lies outside the window, and on all that lies in it"""
        q, k, v = normal(rng, 6, 4), normal(rng, 6, 4), normal(rng, 6, 4).requires_grad_()
        (gradient,) = torch.autograd.grad(lab.window_attention(q, k, v, 3)[4].sum(), v)
        reached = gradient.abs().sum(-1) > 0
        assert_close(reached, torch.tensor([False, False, True, True, True, False]))

    @guard
    def test_inputs(self, lab, rng):
        """leaves its inputs as they are"""
        given = [normal(rng, 5, 4) for _ in range(3)]
        before = copy.deepcopy(given)
        lab.window_attention(*given, 2)
        assert_close(given, before)


def make_model(rng: torch.Generator) -> nn.Module:
    """A small network whose weights are drawn from `rng`."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.copy_(normal(rng, *parameter.shape))
    return model


class TestAccumulatedStep(Exercise):
    """One step in parts."""

    points = 5
    skills = ("training-loop", "gradients")

    def both(self, lab, rng, sizes, **settings):
        """The learner's model after the step, what it returned, and the same of one step over the whole batch."""
        parts = [(normal(rng, n, 3), normal(rng, n, 2)) for n in sizes]
        ours = make_model(rng)
        theirs = copy.deepcopy(ours)
        for parameter in ours.parameters():
            parameter.grad = torch.full_like(parameter, 3.0)
        got = lab.accumulated_step(ours, parts, torch.optim.SGD(ours.parameters(), 0.1, **settings))
        whole = F.mse_loss(theirs(torch.cat([x for x, _ in parts])), torch.cat([y for _, y in parts]))
        whole.backward()
        torch.optim.SGD(theirs.parameters(), 0.1, **settings).step()
        return ours, got, theirs, whole.item()

    def test_equal_parts(self, lab, rng):
        """takes the step of the whole batch where all parts are of one size"""
        ours, _, theirs, _ = self.both(lab, rng, (4, 4, 4))
        assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()), rtol=1e-4, atol=1e-5)

    def test_uneven_parts(self, lab, rng):
        """takes the step of the whole batch where parts are of different sizes, with weight decay too"""
        ours, _, theirs, _ = self.both(lab, rng, (5, 1, 2), weight_decay=0.1)
        assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()), rtol=1e-4, atol=1e-5)

    def test_loss(self, lab, rng):
        """returns the loss of all rows together as a float"""
        _, got, _, expected = self.both(lab, rng, (6, 1, 3))
        assert isinstance(got, float), f"expected a float, got {type(got).__name__}"
        assert_close(torch.tensor(got), torch.tensor(expected), rtol=1e-4, atol=1e-5)


class TestQuantizeRows(Exercise):
    """Rows in eight bits."""

    points = 5
    skills = ("quantization", "numerics")

    def weight(self, rng, rows, columns):
        """Rows of very different sizes."""
        return normal(rng, rows, columns) * 10.0 ** torch.randint(-3, 3, (rows, 1), generator=rng)

    def test_integers(self, lab, rng):
        """gives the nearest integers of each row"""
        for shape in ((3, 7), (5, 2), (1, 9)):
            weight = self.weight(rng, *shape)
            integers, _ = lab.quantize_rows(weight)
            assert_close(integers, (weight / (weight.abs().amax(1) / 127)[:, None]).round().to(torch.int8))

    def test_scales(self, lab, rng):
        """gives each row the scale of its largest magnitude"""
        weight = self.weight(rng, 6, 5)
        _, scale = lab.quantize_rows(weight)
        assert_close(scale, weight.abs().amax(1) / 127)

    def test_zero_rows(self, lab, rng):
        """gives a row of zeros the scale 1 and zeros, beside rows that are not"""
        weight = self.weight(rng, 3, 4)
        weight[1] = 0
        integers, scale = lab.quantize_rows(weight)
        assert_close(scale[1], torch.tensor(1.0))
        assert_close(integers[1], torch.zeros(4, dtype=torch.int8))
        largest = integers[[0, 2]].int().abs().amax(1)
        assert_close(largest, torch.tensor([127, 127], dtype=torch.int32))

    @guard
    def test_input(self, lab, rng):
        """leaves the weight as it is"""
        weight = self.weight(rng, 3, 4)
        before = weight.clone()
        lab.quantize_rows(weight)
        assert_close(weight, before)


def nuclear(logits: torch.Tensor, p: float) -> torch.Tensor:
    """Row by row: tokens are taken, the likeliest first, until their probabilities reach p."""
    result = torch.full_like(logits, -torch.inf)
    for row, given in zip(result, logits, strict=True):
        mass = 0.0
        for token in given.argsort(descending=True).tolist():
            row[token] = given[token]
            mass += given.double().softmax(-1)[token].item()
            if mass >= p:
                break
    return result


class TestNucleus(Exercise):
    """Review: nucleus sampling."""

    points = 3
    skills = ("decoding",)

    def test_kept(self, lab, rng):
        """keeps the smallest set of the likeliest tokens that reaches p, in place"""
        for shape, p in (((3, 6), 0.5), ((1, 9), 0.8), ((4, 5), 0.3)):
            logits = 2 * normal(rng, *shape)
            assert_close(lab.nucleus(logits, p), nuclear(logits, p))

    def test_sure(self, lab, rng):
        """keeps one token where that alone has more than p"""
        logits = normal(rng, 2, 5)
        logits[0, 3] = logits[1, 0] = 30.0
        assert_close(lab.nucleus(logits, 0.9), nuclear(logits, 0.9))

    @guard
    def test_input(self, lab, rng):
        """leaves the logits as they are"""
        logits = normal(rng, 2, 5)
        before = logits.clone()
        lab.nucleus(logits, 0.5)
        assert_close(logits, before)


class TestMatchedPairs(Exercise):
    """Review: pictures and captions."""

    points = 3
    skills = ("losses", "contrastive")

    def expected(self, images, texts, temperature):
        similar = F.cosine_similarity(images.double()[:, None], texts.double(), dim=-1) / temperature
        both = -(similar.log_softmax(1).diagonal() + similar.log_softmax(0).diagonal())
        return both.mean() / 2

    def test_value(self, lab, rng):
        """is the mean of both directions, for embeddings of any length"""
        for n, d, temperature in ((5, 4, 0.07), (3, 8, 1.0), (7, 2, 0.3)):
            images, texts = 3 * normal(rng, n, d), normal(rng, n, d)
            got = lab.matched_pairs(images, texts, temperature)
            assert_close(got, self.expected(images, texts, temperature).float(), rtol=1e-4, atol=1e-5)

    def test_gradient(self, lab, rng):
        """has the gradient of both directions"""
        images, texts = normal(rng, 4, 5), normal(rng, 4, 5)
        mine, ours = texts.clone().requires_grad_(), texts.clone().requires_grad_()
        lab.matched_pairs(images, mine, 0.2).backward()
        self.expected(images, ours, 0.2).backward()
        assert_close(mine.grad, ours.grad, rtol=1e-4, atol=1e-5)


class Nested(nn.Module):
    """A model with a part called `submodule`."""

    def __init__(self) -> None:
        super().__init__()
        self.submodule, self.head = nn.Linear(3, 4), nn.Linear(4, 2)


class TestLoadPortable(Exercise):
    """Review: a checkpoint from a wrapper."""

    points = 3
    skills = ("serialisation", "modules")

    def loaded(self, lab, rng, before):
        """The weights of a model after loading, and those that were saved with `before` in front of their names."""
        saved = {name: normal(rng, *value.shape) for name, value in Nested().state_dict().items()}
        model = Nested()
        result = lab.load_portable(model, {before + name: value for name, value in saved.items()})
        assert result is model, "expected the model that was passed in"
        return dict(model.state_dict()), saved

    def test_wrapped(self, lab, rng):
        """loads what a wrapper has saved"""
        assert_close(*self.loaded(lab, rng, "module."))

    def test_bare(self, lab, rng):
        """loads what was saved without a wrapper"""
        assert_close(*self.loaded(lab, rng, ""))

    @guard
    def test_strict(self, lab, rng):
        """refuses a state in which something is missing"""
        state = {f"module.{name}": value for name, value in Nested().state_dict().items()}
        del state["module.head.bias"]
        refused = False
        try:
            lab.load_portable(Nested(), state)
        except (RuntimeError, KeyError):
            refused = True
        assert refused, "expected an error, since head.bias is missing, got none"
