"""Checkers of the Phase 1 quiz: three challenges and three reviews."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from grading.exercise import Exercise, guard


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=rng, dtype=dtype)


class TestMaskedMean(Exercise):
    """A mean that knows what to leave out."""

    points = 5
    skills = ("numerics", "collation")

    def test_values(self, lab, rng):
        """is the mean of what the mask keeps, along any dim"""
        for shape, dim in (((3, 5), 1), ((4, 2, 3), 0), ((2, 3, 4), -2)):
            x, mask = normal(rng, *shape), torch.rand(shape, generator=rng) < 0.6
            count = mask.sum(dim)
            expected = (x.double() * mask).sum(dim) / count.clamp(min=1)
            assert_close(lab.masked_mean(x, mask, dim), expected.float())

    def test_nothing_kept(self, lab, rng):
        """is 0 where nothing is kept"""
        mask = torch.tensor([[True, False, True], [False, False, False]])
        x = normal(rng, 2, 3)
        assert_close(lab.masked_mean(x, mask, 1), torch.stack([x[0, [0, 2]].mean(), torch.tensor(0.0)]))

    def test_bad_numbers_left_out(self, lab, rng):
        """is right where inf and NaN stand under the mask, and so is the gradient"""
        x = normal(rng, 3, 4)
        mask = torch.tensor([[True, True, False, False], [True, False, True, True], [False, False, False, False]])
        x[0, 2], x[1, 1], x[2, 0] = torch.inf, torch.nan, torch.nan
        x.requires_grad_()
        result = lab.masked_mean(x, mask, 1)
        result.sum().backward()
        assert_close(
            result.detach(), torch.stack([x[0, :2].mean(), x[1, [0, 2, 3]].mean(), torch.tensor(0.0)]).detach()
        )
        assert_close(x.grad, mask / mask.sum(1, keepdim=True).clamp(min=1))


class TestStandardise(Exercise):
    """A layer that standardises."""

    points = 5
    skills = ("modules", "buffers")

    def test_standardises(self, lab, rng):
        """after fit, the fitted rows have mean 0 and variance 1 in each column, and other rows are moved alike"""
        rows = 3 * normal(rng, 20, 4) + 7
        other = normal(rng, 2, 5, 4)
        layer = lab.Standardise(4)
        fitted = layer.fit(rows)
        assert fitted is layer, "expected fit to return the module itself"
        mean, std = rows.double().mean(0), rows.double().std(0, correction=0)
        assert_close(layer(rows), ((rows - mean) / std).float(), rtol=1e-4, atol=1e-4)
        assert_close(layer(other), ((other - mean) / std).float(), rtol=1e-4, atol=1e-4)

    def test_before_fit_and_constant_columns(self, lab, rng):
        """leaves its input as it is before fit, and a column that never changes becomes 0"""
        x = normal(rng, 5, 3)
        assert_close(lab.Standardise(3)(x), x)
        x[:, 1] = 2.5
        result = lab.Standardise(3).fit(x)(x)
        assert_close(result[:, 1], torch.zeros(5))
        assert_close(result[:, 0], (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(correction=0), rtol=1e-4, atol=1e-4)

    def test_buffers(self, lab, rng):
        """keeps mean and std as buffers: saved, loaded, moved, and no parameters"""
        rows = normal(rng, 9, 2) + 4
        fitted, fresh = lab.Standardise(2).fit(rows), lab.Standardise(2)
        saved = fitted.state_dict()
        assert set(saved) == {"mean", "std"}, f"expected mean and std in the state_dict, got {sorted(saved)}"
        assert not list(fitted.parameters()), "expected no parameters"
        fresh.load_state_dict(copy.deepcopy(saved))
        assert_close(fresh(rows), fitted(rows))
        assert fitted.double().std.dtype == torch.float64, "expected the buffers to move with the module"


def make_model(rng: torch.Generator) -> nn.Module:
    """A small network with dropout whose weights are drawn from `rng`."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.0), nn.Linear(4, 2))
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.copy_(normal(rng, *parameter.shape))
    return model


def epoch(model: nn.Module, batches: list, optimizer: torch.optim.Optimizer, max_norm: float) -> float:
    """One epoch by the book."""
    total = 0.0
    for x, target in batches:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        total += loss.item() * len(x)
    return total / sum(len(x) for x, _ in batches)


class TestTrainEpoch(Exercise):
    """One epoch."""

    points = 5
    skills = ("training-loop", "clipping", "optimizers")

    def batches(self, rng, scale=1.0):
        return [(normal(rng, n, 3), scale * normal(rng, n, 2)) for n in (4, 4, 1)]

    def test_weights(self, lab, rng):
        """leaves the weights where the steps lead, with momentum and without, clipped or not"""
        for momentum, max_norm in ((0.0, 1e6), (0.9, 1e6), (0.0, 0.5)):
            ours, batches = make_model(rng), self.batches(rng)
            theirs = copy.deepcopy(ours)
            lab.train_epoch(ours, batches, torch.optim.SGD(ours.parameters(), 0.1, momentum), max_norm)
            epoch(theirs, batches, torch.optim.SGD(theirs.parameters(), 0.1, momentum), max_norm)
            assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()), rtol=1e-4, atol=1e-5)

    def test_loss_per_row(self, lab, rng):
        """returns the mean loss per row as a float"""
        ours, batches = make_model(rng), self.batches(rng, scale=3.0)
        theirs = copy.deepcopy(ours)
        got = lab.train_epoch(ours, iter(batches), torch.optim.SGD(ours.parameters(), 0.05), 1e6)
        expected = epoch(theirs, batches, torch.optim.SGD(theirs.parameters(), 0.05), 1e6)
        assert isinstance(got, float), f"expected a float, got {type(got).__name__}"
        assert_close(torch.tensor(got), torch.tensor(expected), rtol=1e-4, atol=1e-5)

    def test_leftover_gradients(self, lab, rng):
        """begins each step with a fresh gradient, and trains in training mode"""
        ours, batches = make_model(rng), self.batches(rng)
        theirs = copy.deepcopy(ours)
        for parameter in ours.parameters():
            parameter.grad = torch.full_like(parameter, 5.0)
        modes = []
        ours.register_forward_hook(lambda module, args, result: modes.append(module.training))
        ours.eval()
        lab.train_epoch(ours, batches, torch.optim.SGD(ours.parameters(), 0.1), 1e6)
        epoch(theirs, batches, torch.optim.SGD(theirs.parameters(), 0.1), 1e6)
        assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()), rtol=1e-4, atol=1e-5)
        assert all(modes), "expected the model in training mode during the epoch"


class Noisy(nn.Module):
    """Logits that are the input, and in training mode their opposite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x if self.training else x


class TestAccuracy(Exercise):
    """Review: an accuracy."""

    points = 3
    skills = ("evaluation", "training-loop")

    def batches(self, rng, sizes):
        """Logits with labels of which about half are right, and the share that is."""
        batches = []
        for n in sizes:
            logits = normal(rng, n, 4)
            guessed = torch.randint(4, (n,), generator=rng)
            batches.append((logits, torch.where(torch.rand(n, generator=rng) < 0.4, logits.argmax(1), guessed)))
        batches[0][1][0] = batches[0][0][0].argmax()
        hits = torch.cat([x.argmax(1) == y for x, y in batches])
        return batches, hits.double().mean()

    def test_uneven_batches(self, lab, rng):
        """is the share of all rows, also where the last batch is small"""
        for sizes in ((8, 8, 3), (1, 6), (5,)):
            batches, expected = self.batches(rng, sizes)
            got = lab.accuracy(nn.Identity(), batches)
            assert_close(torch.tensor(got, dtype=torch.float64), expected, rtol=1e-6, atol=1e-6)

    def test_mode(self, lab, rng):
        """evaluates in evaluation mode, and gives the model back in the mode it came in"""
        batches, expected = self.batches(rng, (7, 2))
        for training in (True, False):
            model = Noisy().train(training)
            got = lab.accuracy(model, batches)
            assert_close(torch.tensor(got, dtype=torch.float64), expected, rtol=1e-6, atol=1e-6)
            assert model.training is training, f"expected training={training} afterwards, got {model.training}"


class TestHead(Exercise):
    """Review: a classifier's head."""

    points = 3
    skills = ("modules", "dropout")

    def head(self, lab, rng, p):
        head = lab.Head(6, 40, 3, p)
        with torch.no_grad():
            for _, parameter in sorted(head.named_parameters()):
                parameter.copy_(normal(rng, *parameter.shape))
        return head

    def test_evaluation(self, lab, rng):
        """in evaluation mode it is the plain network, the same each time"""
        head, x = self.head(lab, rng, 0.5).eval(), normal(rng, 4, 6)
        weights = dict(head.named_parameters())
        hidden = F.relu(F.linear(x, weights["first.weight"], weights["first.bias"]))
        assert_close(head(x), F.linear(hidden, weights["second.weight"], weights["second.bias"]))

    def test_training(self, lab, rng):
        """in training mode it drops hidden units with probability p, and rescales the others by 1 / (1 − p)"""
        head, x = self.head(lab, rng, 0.5).train(), normal(rng, 1, 6)
        with torch.no_grad():
            head.second.weight.fill_(1.0)
            head.second.bias.zero_()
        hidden = torch.relu(head.first(x))
        sums = torch.cat([head(x)[:, :1] for _ in range(400)]).detach()
        assert sums.std() > 0.05 * hidden.sum(), "expected different units to be dropped each time in training mode"
        spread = 4 * (hidden.square().sum() / 400).sqrt().item()
        assert_close(sums.mean(), hidden.sum().detach(), rtol=0.0, atol=spread)


class TestPad(Exercise):
    """Review: a batch of sequences."""

    points = 3
    skills = ("collation",)

    def test_batch_and_mask(self, lab, rng):
        """fills up with zeros, and the mask is True exactly where there is data"""
        for lengths in ((3, 5, 1), (4,), (2, 2), (1, 6, 0)):
            sequences = [normal(rng, n) for n in lengths]
            batch, mask = lab.pad(sequences)
            longest = max(lengths)
            expected = torch.stack([torch.cat([s, torch.zeros(longest - len(s))]) for s in sequences])
            assert_close(batch, expected)
            assert_close(mask, torch.tensor([[i < n for i in range(longest)] for n in lengths]))

    @guard
    def test_dtype(self, lab, rng):
        """keeps the dtype of the sequences"""
        batch, _ = lab.pad([torch.tensor([3, 1]), torch.tensor([2])])
        assert batch.dtype == torch.int64, f"expected torch.int64, got {batch.dtype}"
