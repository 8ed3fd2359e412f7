"""Checkers of the project of Phase 1: an image classifier."""

import contextlib
import copy
import io
import itertools
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import ExifTags, Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torchmetrics.functional.classification import multiclass_calibration_error

from grading.exercise import Exercise, StubMet, guard, raises, slow
from grading.own_tests import caught, on_reference
from labkit.measure import peak_bytes

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng, dtype=dtype)


def whole(rng: torch.Generator, high: int, *shape: int) -> Tensor:
    """Whole numbers from 0 to `high - 1`."""
    return torch.randint(high, shape, generator=rng)


def pictures(rng: torch.Generator, *shape: int) -> Tensor:
    """Raw pictures `(n, c, h, w)`, uint8, each pixel a random number."""
    return whole(rng, 256, *shape).to(torch.uint8)


def configuration(lab, **changes):
    """A small configuration; changes are given as `training__lr=1.0`."""
    sections = {
        "seed": 3,
        "data": {"name": "digits", "validation_share": 0.25},
        "training": {"epochs": 3, "batch_size": 4, "lr": 0.01, "weight_decay": 0.1, "warmup_share": 0.3,
                     "device": "cpu"},
    }  # fmt: skip
    for name, value in changes.items():
        *section, key = name.split("__")
        (sections[section[0]] if section else sections)[key] = value
    return lab.config.Config.model_validate(sections)


def small_network(seed: int, classes: int = 3) -> nn.Module:
    """A network of ours with batch norm and dropout, so that modes and random numbers matter; pictures of 5×6."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),  # batch norm would leave a bias nothing but rounding for a gradient
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(48, classes),
    )


def trainer(lab, start: int = 0, **changes):
    """A trainer of the small network on 14 of 20 random pictures: four batches an epoch, the last of two."""
    fixed = torch.Generator().manual_seed(5)
    raw = lab.data.Pictures(pictures(fixed, 20, 1, 5, 6), whole(fixed, 3, 20), ("a", "b", "c"))
    mean, std = torch.tensor([0.5]), torch.tensor([0.3])
    config = configuration(lab, **changes)
    training_set = lab.data.PictureDataset(raw, torch.arange(14), mean, std, (1, True), config.seed)
    validation_set = lab.data.PictureDataset(raw, torch.arange(14, 20), mean, std)
    return lab.training.Trainer(small_network(start), training_set, validation_set, config)


# --- data ------------------------------------------------------------------------------------------------------------


def variants(image: Tensor, shift: int) -> Tensor:
    """Every picture that `augment` may make of one, not mirrored and mirrored in turn."""
    _, h, w = image.shape
    found = []
    for down, right in itertools.product(range(-shift, shift + 1), repeat=2):
        moved = torch.zeros_like(image)
        moved[:, max(down, 0) : h + min(down, 0), max(right, 0) : w + min(right, 0)] = image[
            :, max(-down, 0) : h + min(-down, 0), max(-right, 0) : w + min(-right, 0)
        ]
        found += [moved, moved.flip(-1)]
    return torch.stack(found)


class TestData(Exercise):
    """Data that are the same on every run, and leak nothing."""

    points = 7
    modules = ("data", "augment")
    skills = ("datasets", "dataloaders", "augmentation", "reproducibility")
    hints = (
        "What would each number depend on if you ran the program again, with more workers, or from the middle?",
        "Mix the three numbers of a generator into 32 bits with a hash or `numpy.random.SeedSequence`; draw validation "
        "rows class by class; add up sums and squares in float64.",
        "`SeedSequence(seed, spawn_key=(epoch, index)).generate_state(1)[0]` seeds; `DataLoader(dataset, "
        "batch_sampler=batches, num_workers=workers, generator=torch.Generator())` loads.",
    )

    COUNTS = (400, 250, 100, 35)

    def labels(self, rng):
        """Labels of four classes of different sizes, mixed."""
        labels = torch.repeat_interleave(torch.arange(4), torch.tensor(self.COUNTS))
        return labels[torch.randperm(len(labels), generator=rng)]

    def dataset(self, lab, rng, augmentation=None, seed=1):
        """Six rows of ten colour pictures, and the data set of them."""
        raw = lab.data.Pictures(pictures(rng, 10, 3, 6, 5), whole(rng, 4, 10), tuple("abcd"))
        mean, std = torch.rand(3, generator=rng), torch.rand(3, generator=rng) + 0.5
        rows = torch.tensor([7, 2, 9, 0, 4, 5])
        return raw, rows, mean, std, lab.data.PictureDataset(raw, rows, mean, std, augmentation, seed)

    def test_split_keeps_shares(self, lab, rng):
        """split gives validation its share of every class"""
        labels = self.labels(rng)
        for share in (0.1, 0.3):
            _, validation = lab.data.split(labels, share, 0)
            counts = torch.bincount(labels[validation], minlength=4).double()
            assert_close(counts, share * torch.tensor(self.COUNTS).double(), rtol=0.0, atol=0.999)

    def test_split_is_a_partition(self, lab, rng):
        """each row is in exactly one part, and both are in ascending order"""
        train, validation = lab.data.split(self.labels(rng), 0.2, 1)
        assert_close(torch.cat([train, validation]).sort().values, torch.arange(sum(self.COUNTS)))
        assert_close(train, train.sort().values)
        assert_close(validation, validation.sort().values)

    def test_split_by_seed(self, lab, rng):
        """the same seed splits the same way, whatever was drawn before; another seed differently"""
        labels = self.labels(rng)
        torch.manual_seed(1)
        _, first = lab.data.split(labels, 0.2, 5)
        torch.manual_seed(2)
        _, again = lab.data.split(labels, 0.2, 5)
        _, other = lab.data.split(labels, 0.2, 6)
        assert_close(again, first)
        shared = len(set(first.tolist()) & set(other.tolist())) / len(first)
        assert shared < 0.5, f"expected other validation rows with another seed, and {shared:.0%} are the same"

    def test_mean_and_std(self, lab, rng):
        """mean_and_std equals the float64 values, by channel, for any number of pictures"""
        for n, c, h, w, chunk in ((5, 3, 4, 3, 2), (7, 1, 2, 5, 3), (64, 2, 8, 8, 64), (33, 1, 6, 6, 32)):
            images = pictures(rng, n, c, h, w)
            images[-1] //= 3
            images[:, 0] = 250 + images[:, 0] % 3
            values = images.double().transpose(0, 1).flatten(1) / 255
            expected = values.mean(1).float(), values.std(1, correction=0).float()
            assert_close(tuple(lab.data.mean_and_std(images, chunk)), expected, rtol=1e-4, atol=1e-6)

    def test_streams_differ(self, lab, rng):
        """generator_for gives each triple a stream of its own"""
        triples = list(itertools.product((0, 1, 2**32, 2**40 + 1), range(4), range(100)))
        drawn, twins = {}, []
        for triple in triples:
            number = torch.randint(2**62, (), generator=lab.augment.generator_for(*triple)).item()
            twins += [(drawn[number], triple)] if number in drawn else []
            drawn.setdefault(number, triple)
        # Of 1,600 numbers of 32 bits two agree once in 3,000 runs.
        assert len(twins) <= 2, (
            f"{len(triples)} triples gave {len(drawn)} streams; for example {twins[0][0]} and {twins[0][1]} agree"
        )

    def test_streams_repeat(self, lab, rng):
        """the same triple gives the same stream again, whatever was drawn before, and a uniform one"""
        numbers = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            torch.rand(3)
            places = [(4, epoch, index) for epoch in range(2) for index in range(200)]
            numbers.append(torch.stack([torch.rand(5, generator=lab.augment.generator_for(*p)) for p in places]))
        assert_close(numbers[1], numbers[0])
        assert_close(numbers[0].mean(), torch.tensor(0.5), rtol=0.0, atol=0.06)

    def drawn(self, lab, rng, shift, mirror, n):
        """What `augment` did to `n` copies of one picture, as indices into all variants; -1 for none of them."""
        image = 1 + pictures(rng, 2, 6, 5) // 2
        generators = [torch.Generator().manual_seed(int(s)) for s in whole(rng, 2**31, n)]
        made = torch.stack([lab.augment.augment(image, shift, mirror, g) for g in generators])
        assert_close(made, made.to(torch.uint8).view(n, 2, 6, 5))
        matches = (made[:, None] == variants(image, shift)).flatten(2).all(-1)
        return torch.where(matches.any(1), matches.int().argmax(1), -1)

    def test_only_shifts_and_mirrors(self, lab, rng):
        """augment moves by up to shift pixels, zeros moving in, and mirrors only if it may"""
        for shift, mirror in ((1, True), (2, False), (3, True)):
            found = self.drawn(lab, rng, shift, mirror, 80)
            assert_close((found >= 0).double().mean(), torch.tensor(1.0).double())
            assert len(found.unique()) > 8, f"expected many variants among 80, got {len(found.unique())}"
            assert mirror or (found % 2 == 0).all(), "expected no mirror image where mirror is False"

    def test_all_equally_often(self, lab, rng):
        """all shifts and mirrors come equally often"""
        counts = torch.bincount(self.drawn(lab, rng, 1, True, 1800).clamp(min=0), minlength=18).double()
        # 100 of each are expected, with a deviation of about 10.
        assert_close(counts, torch.full((18,), 100.0).double(), rtol=0.0, atol=55.0)

    def test_item_for_validation(self, lab, rng):
        """without augmentation an item is the row's picture, scaled and normalised by channel, and its label"""
        raw, rows, mean, std, dataset = self.dataset(lab, rng)
        assert len(dataset) == 6, f"expected a length of 6, got {len(dataset)}"
        got = [dataset[epoch, position] for epoch in (0, 3) for position in range(6)]
        expected = ((raw.images[rows].double() / 255 - mean[:, None, None]) / std[:, None, None]).float()
        assert_close(torch.stack([image for image, _ in got]), torch.cat([expected, expected]), **CLOSE)
        assert_close([label for _, label in got], 2 * raw.labels[rows].tolist())

    def test_item_for_training(self, lab, rng):
        """with it, the raw picture is augmented by the generator of (seed, epoch, position), then normalised"""
        raw, rows, mean, std, dataset = self.dataset(lab, rng, (2, True), seed=9)
        got, expected = [], []
        for epoch, position in itertools.product((0, 5), range(6)):
            got.append(dataset[epoch, position][0])
            generator = lab.augment.generator_for(9, epoch, position)
            moved = lab.augment.augment(raw.images[rows[position]], 2, True, generator)
            expected.append((moved.float() / 255 - mean[:, None, None]) / std[:, None, None])
        assert_close(torch.stack(got), torch.stack(expected), **CLOSE)
        assert len(torch.stack(got).unique(dim=0)) > 8, "expected many different pictures in two epochs"

    def test_batches(self, lab, rng):
        """shuffled_batches has each position of the epoch once, in full batches but for the last"""
        for n, batch_size in ((10, 4), (12, 3), (3, 5)):
            batches = lab.data.shuffled_batches(n, batch_size, 1, 2)
            sizes = [min(batch_size, n - start) for start in range(0, n, batch_size)]
            assert_close(torch.tensor([len(b) for b in batches]), torch.tensor(sizes))
            places = torch.tensor([place for batch in batches for place in batch])
            assert_close(places[places[:, 1].argsort()], torch.tensor([(2, p) for p in range(n)]))

    def test_order_by_seed_and_epoch(self, lab, rng):
        """the order depends on seed and epoch alone, and on both"""

        def order(seed, epoch):
            torch.manual_seed(int(whole(rng, 1000)))
            return tuple(p for batch in lab.data.shuffled_batches(50, 8, seed, epoch) for _, p in batch)

        kinds = [(seed, epoch) for seed in range(3) for epoch in range(3)]
        first, again = ({order(*kind): kind for kind in kinds} for _ in range(2))
        assert_close(torch.tensor(len(first)), torch.tensor(9))
        assert_close(torch.tensor([list(o) for o in again]), torch.tensor([list(o) for o in first]))

    def test_loader(self, lab, rng):
        """loader gives exactly these batches, with no worker and with two"""
        *_, dataset = self.dataset(lab, rng, (1, True))
        batches = [[(0, 3), (0, 1)], [(4, 5), (4, 3), (4, 0)], [(1, 2)]]
        expected = [torch.stack([dataset[place][0] for place in batch]) for batch in batches]
        for workers in (0, 2):
            got = [images for images, _ in lab.data.loader(dataset, batches, workers)]
            assert_close(got, expected)

    @guard
    def test_default_generator(self, lab, rng):
        """leaves torch's default generator as it is"""
        *_, dataset = self.dataset(lab, rng, (1, True))
        before = torch.get_rng_state()
        lab.data.split(self.labels(rng), 0.2, 0)
        list(lab.data.loader(dataset, lab.data.shuffled_batches(6, 4, 0, 0)))
        assert torch.equal(torch.get_rng_state(), before), "expected the default generator's state to be unchanged"

    @guard
    def test_streams_through_memory(self, lab, rng):
        """mean_and_std converts no more than chunk pictures at a time"""
        images = pictures(rng, 2000, 1, 28, 28)
        used = peak_bytes(lambda: lab.data.mean_and_std(images, 50))
        assert used < images.numel(), f"expected less new memory than the raw pictures take, got {used / 2**20:.1f} MiB"

    @guard
    def test_leaves_pictures_alone(self, lab, rng):
        """changes no picture"""
        raw, *_, dataset = self.dataset(lab, rng, (1, True))
        before = raw.images.clone()
        for place in itertools.product(range(3), range(6)):
            dataset[place][0].zero_()
        for seed in range(20):
            lab.augment.augment(raw.images[0], 0, True, torch.Generator().manual_seed(seed)).zero_()
        assert_close(raw.images, before)


# --- model -----------------------------------------------------------------------------------------------------------


def varied(logits: Tensor) -> Tensor:
    """The logits, if they are such and tell pictures apart."""
    assert logits.dim() == 2, f"expected logits (batch, classes), got a tensor of shape {tuple(logits.shape)}"
    spread = (logits.max(0).values - logits.min(0).values).max()
    assert spread > 1e-6, "expected different logits for different pictures, got the same for all"
    return logits


class TestModel(Exercise):
    """A network within a contract."""

    points = 5
    modules = ("model",)
    skills = ("cnn", "residual", "modules")
    hints = (
        "Which layers care how many pixels a picture has, and which do not?",
        "Average over height and width before the last linear layer, and let strides shrink the maps: then any size "
        "fits, and a place of the last maps sees the whole picture.",
        "A convolution with stride 2, three residual blocks of 1, 2 and 4 times `width` channels (strides 1, 2, 2), "
        "the mean over `(2, 3)`, a linear layer to `classes`: 78,042 parameters for three channels and ten classes.",
    )

    HEART = 0.5

    def made(self, lab, channels=1, classes=10, width=8, seed=0):
        """A network from a seed."""
        torch.manual_seed(seed)
        return lab.model.Classifier(channels, classes, width)

    def test_shapes(self, lab, rng):
        """gives (batch, classes) for 1 or 3 channels, 28×28 or 32×32, any number of classes, one picture or more"""
        for channels, size, classes, batch in itertools.product((1, 3), (28, 32), (2, 7), (1, 3)):
            network = self.made(lab, channels, classes).eval()
            logits = network(normal(rng, batch, channels, size, size))
            assert_close(torch.tensor(logits.shape), torch.tensor([batch, classes]))
            assert batch == 1 or varied(logits) is logits

    def test_budget(self, lab, rng):
        """tells pictures apart within the budget of parameters, and width changes their number"""
        sizes = []
        for width in (8, 16, 24):
            network = self.made(lab, 3, 10, width)
            varied(network(normal(rng, 4, 3, 28, 28)))
            sizes.append(sum(p.numel() for p in network.parameters()))
        network = lab.model.Classifier(3, 10)
        default, budget = sum(p.numel() for p in network.parameters()), lab.model.BUDGET
        assert default <= 100_000, f"expected at most {budget:,} parameters, got {default:,}"
        assert sizes[0] < sizes[1] < sizes[2], f"expected more parameters with more width, got {sizes}"

    def test_every_parameter_learns(self, lab, rng):
        """a gradient reaches every parameter, and it is more than rounding"""
        network = self.made(lab, 3, 5).double().train()
        named = dict(network.named_parameters())
        with torch.no_grad():
            for parameter in named.values():  # what begins at zero, to grow later, stands in nobody's way
                parameter.add_(0.05 * normal(rng, *parameter.shape, dtype=torch.float64))
        images = normal(rng, 8, 3, 32, 32, dtype=torch.float64)
        loss = F.cross_entropy(network(images), whole(rng, 5, 8))
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        idle = [n for n, g in zip(named, gradients, strict=True) if g is None]
        assert not idle, f"expected a gradient for every parameter, got none for {', '.join(idle)}"
        sizes = {n: g.abs().max().item() for n, g in zip(named, gradients, strict=True)}
        # In float64 rounding is 1e-16 of the largest.
        still = [n for n, size in sizes.items() if size <= 1e-10 * max(sizes.values())]
        assert not still, f"expected every parameter to change the loss, but only rounding reaches {', '.join(still)}"

    def test_sees_the_whole_picture(self, lab, rng):
        """what one corner shows changes what the opposite corner means"""
        network = self.made(lab).double().eval()
        neither = normal(rng, 8, 1, 28, 28, dtype=torch.float64)
        patches = 4 * normal(rng, 2, 8, 1, 8, 8, dtype=torch.float64)
        first, second = neither.clone(), neither.clone()
        first[:, :, :8, :8], second[:, :, -8:, -8:] = patches
        both = second.clone()
        both[:, :, :8, :8] = patches[0]
        with torch.no_grad():
            values = [varied(network(x)) for x in (both, first, second, neither)]
        # For a sum of local opinions this is 0 but for rounding, 1e-15.
        interaction = (values[0] - values[1] - values[2] + values[3]).abs().max() / values[0].abs().max()
        assert interaction > 1e-6, "expected opposite corners to interact, but the logits are a sum of local opinions"

    def test_row_by_row(self, lab, rng):
        """in evaluation mode a picture's logits do not depend on the others, nor on chance"""
        network = self.made(lab, 3, 4).train()
        network(normal(rng, 16, 3, 28, 28))
        network.eval()
        images = 1 + 2 * normal(rng, 6, 3, 28, 28)
        together = varied(network(images))
        alone = torch.cat([network(image[None]) for image in images])
        assert_close(alone, together, rtol=1e-3, atol=1e-4)

    def test_begins_unsure(self, lab, rng):
        """at first, in training mode, the mean loss is near ln K"""
        for classes in (4, 20):
            losses = []
            for seed in range(4):
                network = self.made(lab, 1, classes, 16, seed).train()
                logits = varied(network(normal(rng, 64, 1, 28, 28)))
                losses.append(F.cross_entropy(logits, whole(rng, classes, 64)).item())
            assert_close(torch.tensor(losses).mean(), torch.tensor(math.log(classes)), rtol=0.0, atol=0.5)

    def test_gives_logits(self, lab, rng):
        """gives logits: of both signs, and no probabilities or their logarithms"""
        logits = varied(self.made(lab, 1, 6).train()(normal(rng, 32, 1, 28, 28))).double()
        assert (logits.sum(1) - 1).abs().max() > 1e-3, "expected logits, got probabilities: each row sums to 1"
        assert logits.logsumexp(1).abs().max() > 1e-3, "expected logits, got logarithms of probabilities"
        assert logits.min() < 0 < logits.max(), "expected logits of both signs"

    def test_state_dict(self, lab, rng):
        """its state dict says everything: loaded into another one, it gives the same logits"""
        first, second = self.made(lab, seed=1).train(), self.made(lab, seed=2).eval()
        first(normal(rng, 8, 1, 28, 28))
        second.load_state_dict(first.state_dict())
        images = normal(rng, 4, 1, 28, 28)
        assert_close(second(images), varied(first.eval()(images)))

    @slow
    def test_learns_by_heart(self, lab, rng):
        """learns 16 random pictures by heart in 80 steps"""
        images, labels = normal(rng, 16, 1, 28, 28), torch.arange(16) % 5
        network = self.made(lab, 1, 5, 8).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
        losses = []
        for _ in range(80):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        last = sum(losses[-5:]) / 5
        assert last < self.HEART, f"expected a loss below {self.HEART}, got {last:.3f}"

    def architecture(self, lab, rng):
        return lab.model.Classifier(3, 10), (normal(rng, 64, 3, 32, 32),)


# --- training --------------------------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """A linear classifier that notes its mode, the dtype of its logits and whether they are on the tape."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.seen: list[tuple[bool, torch.dtype, bool]] = []
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(normal(rng, *parameter.shape))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.linear(x.flatten(1))
        self.seen.append((self.training, logits.dtype, logits.requires_grad))
        return logits


class TestTraining(Exercise):
    """The training loop."""

    points = 8
    modules = ("optim", "training")
    needs = ("data",)
    skills = ("training-loop", "optimizers", "schedules", "clipping", "mixed-precision")
    hints = (
        "What must be true at the beginning of every step, whatever the step before has left behind?",
        "Train mode, forward and loss under autocast, `zero_grad`, backward, clip all parameters together, step. In "
        "`run`, epoch and place follow from `self.step` alone: `divmod(self.step, self.steps_per_epoch)`.",
        '`batches = order[done : done + until - self.step]`; set `group["lr"]` in every group, `self.train_on(…)`, '
        "`self.step += 1`; after the inner loop `self.end_epoch()` if `self.step % self.steps_per_epoch == 0`.",
    )

    def test_decay(self, lab, rng):
        """of a model without gradients only what has two or more dimensions decays"""
        network = small_network(1)
        before = {n: p.detach().clone() for n, p in network.named_parameters()}
        groups = lab.optim.parameter_groups(network, 0.5)
        optimizer = torch.optim.AdamW(groups, lr=0.1)
        for p in network.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        expected = {n: p * (0.95 if p.dim() >= 2 else 1.0) for n, p in before.items()}
        assert_close({n: p.detach() for n, p in network.named_parameters()}, expected)
        assert_close(torch.tensor(sum(len(g["params"]) for g in groups)), torch.tensor(len(before)))

    def test_learning_rate(self, lab, rng):
        """learning_rate rises in a line, falls along half a cosine, and stays at 0"""
        got, expected = [], []
        for warmup, total, peak in ((5, 20, 0.1), (1, 7, 2.0), (0, 9, 0.5)):
            for step in range(total + 4):
                got.append(lab.optim.learning_rate(step, warmup, total, peak))
                progress = min((step - warmup) / (total - warmup), 1)
                cosine = peak * (1 + math.cos(math.pi * progress)) / 2
                expected.append(peak * (step + 1) / warmup if step < warmup else cosine)
        assert_close(torch.tensor(got), torch.tensor(expected), rtol=1e-4, atol=1e-6)

    def stepped(self, lab, rng, targets, loss=None, clip=1e9, **changes):
        """Weights and loss after two of the learner's steps, and after two by the book."""
        config = configuration(lab, training__clip_norm=clip, **changes).training
        ours = Recorder(rng).eval()
        theirs = copy.deepcopy(ours)
        images = normal(rng, 8, 1, 2, 3)
        for p in ours.parameters():
            p.grad = torch.full_like(p, 3.0)
        values, book = [], []
        optimizer = torch.optim.SGD(ours.parameters(), 0.3, momentum=0.5)
        for _ in range(2):
            values.append(lab.training.train_step(ours, optimizer, images, targets, config, loss))
        optimizer = torch.optim.SGD(theirs.parameters(), 0.3, momentum=0.5)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
                logits = theirs(images)
                smooth = config.label_smoothing
                value = loss(logits, targets) if loss else F.cross_entropy(logits, targets, label_smoothing=smooth)
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), clip)
            optimizer.step()
            book.append(value.item())
        return ours, theirs, values, book

    def test_step(self, lab, rng):
        """train_step leaves the weights where one step leads, whatever gradients were left over"""
        ours, theirs, *_ = self.stepped(lab, rng, whole(rng, 3, 8))
        assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), **CLOSE)
        assert ours.seen[0][0], "expected training mode"

    def test_clipping(self, lab, rng):
        """with all gradients together clipped to clip_norm, or left alone where they are shorter"""
        for clip in (0.3, 50.0):
            ours, theirs, *_ = self.stepped(lab, rng, whole(rng, 3, 8), clip=clip)
            assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), **CLOSE)

    def test_smoothing_and_soft_targets(self, lab, rng):
        """label smoothing counts, and targets may be probabilities"""
        for targets in (whole(rng, 3, 8), torch.softmax(normal(rng, 8, 3), 1)):
            ours, theirs, *_ = self.stepped(lab, rng, targets, training__label_smoothing=0.3)
            assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), **CLOSE)

    def test_loss(self, lab, rng):
        """returns the loss before the step as a float, also that of a loss of your own"""
        # Bounded: the steps are not, and a loss that grows without end differs by rounding alone.
        for loss in (None, lambda logits, targets: (logits.sigmoid().mean(1) * targets).mean()):
            _, _, values, book = self.stepped(lab, rng, whole(rng, 3, 8), loss)
            assert all(isinstance(v, float) for v in values), f"expected floats, got {type(values[0]).__name__}"
            assert_close(torch.tensor(values), torch.tensor(book), **CLOSE)

    def test_bf16(self, lab, rng):
        """with bf16 the logits are bfloat16, the weights float32, and the step is that of autocast"""
        ours, theirs, *_ = self.stepped(lab, rng, whole(rng, 3, 8), training__bf16=True)
        assert ours.seen[0][1] is torch.bfloat16, f"expected logits in bfloat16, got {ours.seen[0][1]}"
        assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=1e-3, atol=1e-3)

    def test_logits_of(self, lab, rng):
        """logits_of gives logits and labels in order, float32, in evaluation mode and off the tape"""
        network, batches = small_network(2), []
        network(normal(rng, 8, 1, 5, 6))
        for n in (4, 4, 1):
            batches.append((normal(rng, n, 1, 5, 6), whole(rng, 3, n)))
        for mode in (True, False):
            network.train(mode)
            logits, labels = lab.training.logits_of(network, batches)
            assert network.training == mode, "expected the model to be in the mode that it was in"
            expected = copy.deepcopy(network).eval()(torch.cat([x for x, _ in batches])).detach()
            assert_close(logits, expected, **CLOSE)
            assert_close(labels, torch.cat([y for _, y in batches]))
            assert not logits.requires_grad, "expected logits off the tape"

    def test_early_stopping(self, lab, rng):
        """only a lower score is better, neither an equal one nor NaN; after patience bad ones in a row it stops"""
        network, got, expected = nn.Linear(1, 1), [], []
        scores = (3.0, 2.0, 2.0, 2.5, 1.0, math.nan, 1.5, 0.5, 0.5, math.inf, 0.7)
        for patience in (1, 2, 3):
            stopping, best, bad = lab.training.EarlyStopping(patience), math.inf, 0
            for score in scores:
                stopping.update(score, network)
                best, bad = (score, 0) if score < best else (best, bad + 1)
                got.append((stopping.best_score, stopping.bad_epochs, stopping.stopped))
                expected.append((best, bad, bad >= patience))
        assert_close(torch.tensor(got).double(), torch.tensor(expected).double())

    def test_best_weights(self, lab, rng):
        """best_weights stay those of the best score, batch norm's statistics included"""
        network, stopping = small_network(3), lab.training.EarlyStopping(5)
        best = None
        for score in (2.0, 1.0, 3.0, 1.0):
            with torch.no_grad():
                for tensor in network.state_dict().values():
                    tensor.add_(1)
            if score == 1.0 and best is None:
                best = copy.deepcopy(network.state_dict())
            stopping.update(score, network)
        assert_close(dict(stopping.best_weights), dict(best))

    def by_hand(self, lab, run, steps):
        """What `run` does in its first steps: weights by `train_on` and the learning rate of each step."""
        rates, training = [], run.config.training
        while run.step < steps:
            epoch = run.step // run.steps_per_epoch
            order = lab.data.shuffled_batches(len(run.training_set), training.batch_size, run.config.seed, epoch)
            for places in order[: steps - run.step]:
                items = [run.training_set[place] for place in places]
                progress = (run.step - run.warmup_steps) / (run.total_steps - run.warmup_steps)
                rate = training.lr * (1 + math.cos(math.pi * progress)) / 2
                if run.step < run.warmup_steps:
                    rate = training.lr * (run.step + 1) / run.warmup_steps
                for group in run.optimizer.param_groups:
                    group["lr"] = rate
                rates.append(rate)
                run.train_on(torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items]))
                run.step += 1
            if run.step % run.steps_per_epoch == 0:
                run.end_epoch()
        return rates

    def test_run(self, lab, rng):
        """run makes the steps of the schedule and the order, in one go or in parts"""
        for stops in ((7,), (3, 4, 9), (12,)):
            ours, theirs = trainer(lab), trainer(lab)
            torch.manual_seed(1)
            for stop in stops:
                ours.run(stop)
            torch.manual_seed(1)
            self.by_hand(lab, theirs, stops[-1])
            assert_close(torch.tensor(ours.step), torch.tensor(stops[-1]))
            assert_close(dict(ours.model.state_dict()), dict(theirs.model.state_dict()), **CLOSE)

    def test_rates(self, lab, rng):
        """sets the learning rate of every group before each step"""
        run, rates = trainer(lab), []
        run.on_step = lambda loss: rates.append([group["lr"] for group in run.optimizer.param_groups])
        run.run()
        expected = self.by_hand(lab, trainer(lab), 12)
        assert_close(torch.tensor(rates), torch.tensor(expected)[:, None].expand(-1, len(rates[0])))

    def test_epochs_end_once(self, lab, rng):
        """each epoch ends once, also where a part ends with it, and with the mean loss of its rows"""
        run, losses = trainer(lab), []
        run.on_step = losses.append
        for stop in (2, 4, 5, 8, None, None):
            run.run(stop)
        assert_close(torch.tensor([record["epoch"] for record in run.history]), torch.tensor([1, 2, 3]))
        rows = torch.tensor([4.0, 4.0, 4.0, 2.0])
        expected = (torch.tensor(losses).view(3, 4) * rows).sum(1) / 14
        assert_close(torch.tensor([record["train_loss"] for record in run.history]), expected, **CLOSE)

    def test_stops_early(self, lab, rng):
        """stops when early stopping says so, and not before"""
        run = trainer(lab, training__epochs=10, training__patience=2)
        run.validate = lambda: (torch.zeros(3, 3), torch.tensor([0, 1, 2]))  # nothing ever gets better
        run.run()
        assert_close(torch.tensor([run.step, len(run.history)]), torch.tensor([12, 3]))
        run.run()
        assert_close(torch.tensor([run.step, len(run.history)]), torch.tensor([12, 3]))

    @guard
    def test_frozen(self, lab, rng):
        """parameter_groups leaves frozen parameters out"""
        network = small_network(1)
        network[0].requires_grad_(False)
        found = [p for group in lab.optim.parameter_groups(network, 0.1) for p in group["params"]]
        assert len(found) == 4, f"expected the 4 parameters that are not frozen, got {len(found)}"
        assert all(p.requires_grad for p in found), "expected no frozen parameter in any group"


# --- resume ----------------------------------------------------------------------------------------------------------


class TestResume(Exercise):
    """Stop, and resume bit for bit."""

    points = 6
    modules = ("checkpoint",)
    needs = ("data", "training")
    skills = ("checkpointing", "reproducibility")
    hints = (
        "What do `run`, `train_on` and `end_epoch` read or change? And what does dropout draw from?",
        "Model, optimizer, step, the running loss (`loss_sum`, `rows`), history, all of early stopping, and torch's "
        "random state; deep copies of them, or they go on training in your hands.",
        "Save: `torch.save(state, partial)`, then `os.replace(partial, path)`. Load: `weights_only=True`, and every "
        "failure becomes a `CheckpointError`. Restore: compare `identity` first, and change nothing before.",
    )

    END = 12

    def whole(self, lab):
        """A run without a stop."""
        torch.manual_seed(1)
        run = trainer(lab)
        torch.manual_seed(2)
        run.run(self.END)
        return run

    def resumed(self, lab, stop):
        """A run that was stopped, and continued in another trainer with other weights and random numbers."""
        first = trainer(lab)
        torch.manual_seed(2)
        first.run(stop)
        state = lab.checkpoint.capture(first)
        second = trainer(lab, start=9)
        torch.manual_seed(77)
        second.run(1)
        lab.checkpoint.restore(second, state)
        assert second.step == stop, f"expected step {stop} after restoring, got {second.step}"
        second.run(self.END)
        return second

    def test_weights(self, lab, rng):
        """the weights are the same to the last bit, wherever it stopped"""
        whole = self.whole(lab)
        for stop in (3, 4, 6):
            run = self.resumed(lab, stop)
            assert_close(dict(run.model.state_dict()), dict(whole.model.state_dict()), rtol=0.0, atol=0.0)

    def test_optimizer(self, lab, rng):
        """the optimizer's memory too"""
        kept = [run.optimizer.state_dict()["state"] for run in (self.resumed(lab, 6), self.whole(lab))]
        assert_close(kept[0], kept[1], rtol=0.0, atol=0.0)

    def test_random_numbers(self, lab, rng):
        """and the random numbers that come next"""
        self.resumed(lab, 6)
        got = torch.rand(4)
        self.whole(lab)
        assert_close(got, torch.rand(4), rtol=0.0, atol=0.0)

    def test_history(self, lab, rng):
        """the history tells of one run, the mean loss of the epoch it stopped in included"""
        whole, run = self.whole(lab), self.resumed(lab, 6)
        for name in ("epoch", "train_loss", "validation_loss"):
            got, expected = ([record[name] for record in r.history] for r in (run, whole))
            assert_close(torch.tensor(got).double(), torch.tensor(expected).double(), rtol=0.0, atol=0.0)

    def test_early_stopping(self, lab, rng):
        """early stopping remembers the best score, its weights and its patience"""
        first = trainer(lab)
        first.run(5)
        first.early_stopping.update(-1.0, first.model)
        first.early_stopping.update(0.0, first.model)
        best = copy.deepcopy(first.early_stopping.best_weights)
        first.run(7)
        second = trainer(lab, start=4)
        lab.checkpoint.restore(second, lab.checkpoint.capture(first))
        stopping = second.early_stopping
        assert_close(torch.tensor([stopping.best_score, stopping.bad_epochs]), torch.tensor([-1.0, 1.0]))
        assert_close(dict(stopping.best_weights), dict(best), rtol=0.0, atol=0.0)

    def test_snapshot(self, lab, rng):
        """a captured state does not change when the captured trainer goes on"""
        run = trainer(lab)
        run.run(5)
        weights = copy.deepcopy(run.model.state_dict())
        state = lab.checkpoint.capture(run)
        run.run(10)
        lab.checkpoint.restore(run, state)
        assert_close(dict(run.model.state_dict()), dict(weights), rtol=0.0, atol=0.0)
        assert_close(torch.tensor([run.step, len(run.history)]), torch.tensor([5, 1]))

    def test_restored_twice(self, lab, rng):
        """nor when a restored trainer goes on: a state can be restored twice"""
        first = trainer(lab)
        first.run(6)
        state, ends = lab.checkpoint.capture(first), []
        for seed in (1, 2):
            run = trainer(lab, seed)
            lab.checkpoint.restore(run, state)
            run.run(self.END)
            ends.append((dict(run.model.state_dict()), torch.tensor([len(run.history), run.step])))
        assert_close(ends[1], ends[0], rtol=0.0, atol=0.0)
        assert_close(ends[0][1], torch.tensor([3, 12]))

    def test_through_a_file(self, lab, rng, tmp_path):
        """a state survives the way through a file"""
        whole, first = self.whole(lab), trainer(lab)
        torch.manual_seed(2)
        first.run(6)
        lab.checkpoint.save(tmp_path / "c.pt", lab.checkpoint.capture(first))
        second = trainer(lab, start=9)
        lab.checkpoint.restore(second, lab.checkpoint.load(tmp_path / "c.pt"))
        second.run(self.END)
        assert_close(dict(second.model.state_dict()), dict(whole.model.state_dict()), rtol=0.0, atol=0.0)

    def test_atomic(self, lab, rng, tmp_path):
        """a write that fails half way leaves the old file whole"""
        path, values = tmp_path / "c.pt", normal(rng, 3)
        lab.checkpoint.save(path, {"config": {}, "values": values})

        def fail(state, file, *args, **kwargs):
            handle = file if isinstance(file, io.IOBase) else open(file, "wb")  # noqa: SIM115
            with handle:
                handle.write(b"half of it")
            raise OSError("no space left on device")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "save", fail)
            with raises(OSError):
                lab.checkpoint.save(path, {"config": {}, "values": values + 1})
        assert_close(lab.checkpoint.load(path)["values"], values)

    def test_another_configuration(self, lab, rng):
        """refuses the checkpoint of another configuration by a sentence with the key, before anything is changed"""
        first = trainer(lab)
        first.run(3)
        state = lab.checkpoint.capture(first)
        for change, key in (("training__lr", "training.lr"), ("seed", "seed"), ("data__shift", "data.shift")):
            other = trainer(lab, start=8, **{change: 5})
            before = copy.deepcopy(other.model.state_dict())
            with raises(lab.errors.CheckpointError, match=key):
                lab.checkpoint.restore(other, state)
            assert_close(dict(other.model.state_dict()), dict(before))
            assert other.step == 0, f"expected nothing to be changed, but the step is {other.step}"

    def test_other_machine(self, lab, rng):
        """accepts another number of workers"""
        first = trainer(lab)
        first.run(3)
        second = trainer(lab, start=8, data__workers=1)
        lab.checkpoint.restore(second, lab.checkpoint.capture(first))
        assert_close(dict(second.model.state_dict()), dict(first.model.state_dict()))

    def test_bad_files(self, lab, rng, tmp_path):
        """load refuses a file that is missing, broken or something else, by a sentence with its name"""
        good, path = tmp_path / "good.pt", tmp_path / "bad.pt"
        torch.save({"config": {}, "values": normal(rng, 100)}, good)
        with raises(lab.errors.CheckpointError, match="bad.pt"):
            lab.checkpoint.load(path)
        broken = (b"", b"nonsense", good.read_bytes()[:400], good.read_bytes()[:-300])
        for content in broken:
            path.write_bytes(content)
            with raises(lab.errors.CheckpointError, match="bad.pt"):
                lab.checkpoint.load(path)
        for other in ([1, 2], {"weights": 1}):
            torch.save(other, path)
            with raises(lab.errors.CheckpointError, match="bad.pt"):
                lab.checkpoint.load(path)

    @guard
    def test_runs_no_code(self, lab, rng, tmp_path):
        """runs no code that a file contains"""
        marker = tmp_path / "ran"

        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(marker),)

        torch.save({"config": Trap()}, tmp_path / "trap.pt")
        with raises(lab.errors.CheckpointError):
            lab.checkpoint.load(tmp_path / "trap.pt")
        assert not marker.exists(), "expected nothing in the file to be executed, but it was"


# --- evaluation ------------------------------------------------------------------------------------------------------


def guesses(rng: torch.Generator, n: int, classes: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than by chance, and labels."""
    labels = whole(rng, classes, n)
    return scale * (normal(rng, n, classes) + 1.2 * F.one_hot(labels, classes)), labels


def calibration(logits: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    """torchmetrics' expected calibration error, float64."""
    probabilities = logits.double().softmax(1)
    return multiclass_calibration_error(probabilities, labels, logits.shape[1], n_bins=bins, norm="l1").double()


class TestEvaluation(Exercise):
    """What comes after accuracy."""

    points = 6
    modules = ("evaluation",)
    skills = ("evaluation", "numerics", "timing")
    hints = (
        "Which sum of the matrix is the number of pictures *of* a class, and which the number *called* so?",
        "`bincount` counts the cells of a matrix and the rows in bins, and with `weights=` it adds up; the "
        "derivative of the loss by 1/T has one change of sign.",
        "`(confidence * bins).long().clamp(max=bins - 1)` numbers the bins; bisect 1/T by the sign of "
        "`((logits * beta).softmax(1) * logits).sum() - logits[rows, labels].sum()`.",
    )

    def test_confusion_matrix(self, lab, rng):
        """the confusion matrix is scikit-learn's, also for classes that never occur"""
        for n, classes in ((60, 4), (7, 6), (1, 2)):
            labels, predictions = whole(rng, classes - 1, n), whole(rng, classes, n)
            expected = confusion_matrix(labels, predictions, labels=range(classes))
            assert_close(lab.evaluation.confusion_matrix(labels, predictions, classes), torch.from_numpy(expected))

    def test_per_class(self, lab, rng):
        """precision, recall and F1 are scikit-learn's, 0 where they would be 0 / 0"""
        for n, classes in ((80, 4), (6, 5)):
            labels, predictions = whole(rng, classes - 1, n), whole(rng, classes - 1, n)
            matrix = torch.from_numpy(confusion_matrix(labels, predictions, labels=range(classes)))
            expected = precision_recall_fscore_support(labels, predictions, labels=range(classes), zero_division=0)
            got = lab.evaluation.per_class(matrix)
            assert_close(tuple(got), tuple(torch.from_numpy(e) for e in expected[:3]))

    def test_worst_mistakes(self, lab, rng):
        """worst_mistakes lists mistakes only, the least probable true class first, fewer where there are fewer"""
        logits, labels = guesses(rng, 50, 4)
        probability = logits.double().softmax(1)[torch.arange(50), labels]
        wrong = [i for i in probability.argsort().tolist() if logits[i].argmax() != labels[i]]
        for k in (1, 4, 50):
            assert_close(lab.evaluation.worst_mistakes(logits, labels, k), torch.tensor(wrong[:k]))

    def test_reliability(self, lab, rng):
        """reliability counts rows by confidence, with the mean confidence and accuracy of each bin"""
        for n, classes, bins in ((300, 3, 15), (40, 5, 7)):
            logits, labels = guesses(rng, n, classes)
            probabilities = logits.double().softmax(1)
            confidence, predicted = probabilities.max(1)
            rows = [(confidence > b / bins) & (confidence <= (b + 1) / bins) for b in range(bins)]
            right = (predicted == labels).double()
            means = [torch.stack([v[r].mean() if r.any() else torch.tensor(0.0).double() for r in rows])
                     for v in (confidence, right)]  # fmt: skip
            got = lab.evaluation.reliability(probabilities, labels, bins)
            assert_close(tuple(got), (torch.stack([r.sum() for r in rows]), *means))

    def test_certainty(self, lab, rng):
        """a confidence of exactly 1 belongs to the last bin"""
        probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7]])
        got = lab.evaluation.reliability(probabilities, torch.tensor([0, 0, 1]), 4)
        assert_close(got.count, torch.tensor([0, 0, 1, 2]))
        assert_close(got.accuracy, torch.tensor([0.0, 0.0, 1.0, 0.5]).double())

    def test_calibration_error(self, lab, rng):
        """the calibration error is torchmetrics'"""
        got, expected = [], []
        for n, classes, scale in ((400, 4, 3.0), (150, 10, 0.7), (30, 3, 2.0)):
            logits, labels = guesses(rng, n, classes, scale)
            bins = lab.evaluation.reliability(logits.double().softmax(1), labels, 15)
            got.append(lab.evaluation.calibration_error(bins))
            expected.append(calibration(logits, labels))
        assert_close(torch.tensor(got).double(), torch.stack(expected), rtol=1e-4, atol=1e-6)

    def test_temperature(self, lab, rng):
        """fit_temperature finds the lowest loss: scikit-free, to four digits, and within its limits"""
        for scale in (0.5, 1.0, 4.0):
            logits, labels = guesses(rng, 400, 5, scale)
            grid = torch.linspace(math.log(0.05), math.log(20), 3001, dtype=torch.float64).exp()
            losses = torch.stack([F.cross_entropy(logits.double() / t, labels) for t in grid])
            got = lab.evaluation.fit_temperature(logits, labels)
            assert_close(torch.tensor(float(got)).double(), grid[losses.argmin()], rtol=2e-3, atol=0.0)

    def test_temperature_scales(self, lab, rng):
        """twice the logits have twice the temperature, and what is always right or mere chance stays within limits"""
        logits, labels = guesses(rng, 300, 4, 1.0)
        got = [lab.evaluation.fit_temperature(factor * logits, labels) for factor in (1.0, 2.0)]
        assert_close(torch.tensor(got[1] / got[0]), torch.tensor(2.0), rtol=1e-3, atol=0.0)
        right = 0.5 * F.one_hot(labels, 4)
        limits = [lab.evaluation.fit_temperature(z, labels) for z in (right, -right)]
        assert_close(torch.tensor(limits), torch.tensor([0.05, 20.0]), rtol=0.01, atol=0.0)

    def test_latency(self, lab, rng):
        """latency leaves the warm-up out and gives the median and the 95th percentile in milliseconds"""
        calls, clock = [], [100.0]

        def call():
            # By a clock of our own: the first 5 calls take 900 ms, later every eighth 50 ms, all others 2 ms.
            n = len(calls)
            calls.append(n)
            clock[0] += 0.9 if n < 5 else 0.05 if n % 8 == 0 else 0.002

        fakes = {"perf_counter": lambda: clock[0], "monotonic": lambda: clock[0], "time": lambda: clock[0]}
        fakes |= {f"{name}_ns": lambda: round(clock[0] * 1e9) for name in fakes}
        with pytest.MonkeyPatch.context() as patch:
            for name, fake in fakes.items():
                patch.setattr(time, name, fake)
            got = lab.evaluation.latency(call, warmup=5, repeats=80)
        assert_close(torch.tensor(len(calls)), torch.tensor(85))
        assert_close(torch.tensor(tuple(got)).double(), torch.tensor([2.0, 50.0]).double(), rtol=1e-3, atol=0.0)

    def test_assess(self, lab, rng):
        """assess describes the test part, with a temperature from the validation part"""
        validation, test = guesses(rng, 500, 4, 4.0), guesses(rng, 300, 4, 1.5)
        found = lab.evaluation.assess(validation, test)
        temperature = lab.evaluation.fit_temperature(*validation)
        logits, labels = test
        assert_close(torch.tensor(found.temperature), torch.tensor(temperature))
        losses = [F.cross_entropy(logits.double() / t, labels).item() for t in (1, temperature)]
        assert_close(torch.tensor(found.loss).double(), torch.tensor(losses).double(), **CLOSE)
        errors = torch.stack([calibration(logits / t, labels) for t in (1, temperature)])
        assert_close(torch.tensor(found.calibration_error).double(), errors, rtol=1e-3, atol=1e-4)
        expected = (logits.double() / temperature).softmax(1)
        assert_close(found.probabilities.double(), expected, **CLOSE)

    def test_assess_counts(self, lab, rng):
        """its accuracy, matrix and worst mistakes are those of the test part"""
        validation, test = guesses(rng, 50, 4), guesses(rng, 80, 4)
        found, predicted = lab.evaluation.assess(validation, test, worst=5), test[0].argmax(1)
        assert_close(torch.tensor(found.accuracy).double(), (predicted == test[1]).double().mean())
        assert_close(found.matrix, torch.from_numpy(confusion_matrix(test[1], predicted, labels=range(4))))
        assert_close(found.worst, lab.evaluation.worst_mistakes(*test, 5))

    @guard
    def test_leaves_arguments_alone(self, lab, rng):
        """changes neither logits nor labels"""
        validation, test = guesses(rng, 50, 4), guesses(rng, 60, 4)
        before = copy.deepcopy((validation, test))
        lab.evaluation.assess(validation, test)
        assert_close((validation, test), before)


# --- command_line ----------------------------------------------------------------------------------------------------


class TestCommandLine(Exercise):
    """From a file to an answer: export, predict, and the command line."""

    points = 4
    modules = ("export", "prediction", "cli")
    needs = ("data", "model", "training", "resume", "evaluation")
    skills = ("export", "serving", "errors")
    hints = (
        "What does a server need besides the weights to turn a raw picture into a probability?",
        "Buffers for mean, std and temperature; a named dimension for the batch; PIL's `exif_transpose`, `convert`, "
        "`alpha_composite`, `resize` and `paste`; one `except Refused` around the app.",
        '`torch.export.export(served, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))`, then '
        "`torch.export.save(program, path)`; `sys.exit(2)` after printing to `sys.stderr`.",
    )

    def served(self, lab, rng, classes=4):
        """What is served, with the formula that it stands for."""
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
                                nn.Linear(4 * 36, classes))  # fmt: skip
        network(normal(rng, 32, 3, 8, 8))
        mean, std = torch.rand(3, generator=rng), torch.rand(3, generator=rng) + 0.5
        right = copy.deepcopy(network).eval()

        def formula(images):
            x = (images.float() / 255 - mean[:, None, None]) / std[:, None, None]
            return (right(x) / 1.7).softmax(1).detach()

        return network, lab.export.Served(network, mean, std, 1.7), formula

    def test_served(self, lab, rng):
        """Served turns raw pictures into calibrated probabilities"""
        _, served, formula = self.served(lab, rng)
        for n in (1, 5):
            images = pictures(rng, n, 3, 8, 8)
            assert_close(served(images).detach(), formula(images), **CLOSE)

    def test_served_is_a_copy(self, lab, rng):
        """it keeps its own weights while the network goes on training, and all it needs is in its state dict"""
        network, served, formula = self.served(lab, rng)
        images = pictures(rng, 3, 3, 8, 8)
        expected = formula(images)
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.add_(1)
        assert_close(served(images).detach(), expected, **CLOSE)
        _, other, _ = self.served(lab, rng)
        other.load_state_dict(served.state_dict())
        assert_close(other(images).detach(), expected, **CLOSE)

    def test_export(self, lab, rng, tmp_path):
        """the exported file gives the same for batches of any size"""
        _, served, formula = self.served(lab, rng)
        lab.export.export(served, pictures(rng, 3, 3, 8, 8), tmp_path / "m.pt2")
        module = torch.export.load(tmp_path / "m.pt2").module()
        for n in (1, 3, 6):
            images = pictures(rng, n, 3, 8, 8)
            assert_close(module(images).detach(), formula(images), **CLOSE)

    def test_export_compares(self, lab, rng, tmp_path):
        """export returns how far the file that it has written is from the original"""
        _, served, _ = self.served(lab, rng)
        images, path = pictures(rng, 3, 3, 8, 8), tmp_path / "m.pt2"
        gap = lab.export.export(served, images, path)
        assert_close(torch.tensor(gap), torch.tensor(0.0), rtol=0.0, atol=1e-5)

        def spoilt(program, file, *args, **kwargs):
            write(torch.export.export(_Shifted(served), (images,), dynamic_shapes=program_shapes), file)

        write, program_shapes = torch.export.save, ({0: torch.export.Dim("batch", min=1)},)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.export, "save", spoilt)
            gap = lab.export.export(served, images, path)
        assert_close(torch.tensor(gap), torch.tensor(0.25), rtol=1e-3, atol=0.0)

    def test_read_picture(self, lab, rng, tmp_path):
        """read_picture gives the pixels of a picture that fits, grey or in colour"""
        grey, colour = pictures(rng, 1, 8, 8), pictures(rng, 3, 8, 8)
        Image.fromarray(grey[0].numpy()).save(tmp_path / "grey.png")
        Image.fromarray(colour.permute(1, 2, 0).contiguous().numpy()).save(tmp_path / "colour.png")
        assert_close(lab.prediction.read_picture(tmp_path / "grey.png", 1, 8), grey)
        assert_close(lab.prediction.read_picture(tmp_path / "colour.png", 3, 8), colour)
        assert_close(lab.prediction.read_picture(tmp_path / "grey.png", 3, 8), grey.expand(3, 8, 8))
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
        expected = (colour.double() * weights[:, None, None]).sum(0, keepdim=True)
        got = lab.prediction.read_picture(tmp_path / "colour.png", 1, 8)
        assert_close(got.double(), expected, rtol=0.0, atol=1.0)

    def test_proportions(self, lab, rng, tmp_path):
        """a wide or high picture stands whole in the middle of black, and the thinnest keeps a pixel"""
        wide, bar = tmp_path / "wide.png", torch.zeros(16, 16)
        Image.new("L", (40, 20), 255).save(wide)
        bar[4:12] = 255
        # Whether one pads or scales first decides about the rows beside the edge.
        inner = torch.tensor([0, 1, 2, 5, 6, 7, 8, 9, 10, 13, 14, 15])
        assert_close(lab.prediction.read_picture(wide, 1, 16)[0].float()[inner], bar[inner])
        Image.new("1", (10, 20), 1).save(wide)
        assert_close(lab.prediction.read_picture(wide, 1, 16)[0].float()[:, inner], bar.T[:, inner])
        for size in ((40, 1), (1, 40)):
            Image.new("L", size, 255).save(wide)
            assert lab.prediction.read_picture(wide, 1, 16).any(), f"a white picture of {size} pixels has become black"

    def test_transparency(self, lab, rng, tmp_path):
        """what is transparent lies on black"""
        clear, path = Image.new("RGBA", (8, 8), (200, 100, 50, 0)), tmp_path / "clear.png"
        clear.paste((200, 100, 50, 255), (0, 0, 4, 8))
        clear.save(path)
        expected = torch.zeros(3, 8, 8)
        expected[:, :, :4] = torch.tensor([200.0, 100.0, 50.0])[:, None, None]
        assert_close(lab.prediction.read_picture(path, 3, 8).float(), expected)

    def test_cameras_and_scanners(self, lab, rng, tmp_path):
        """a picture is turned as its EXIF orientation says, and grey of 16 bits keeps its brightness"""
        pixels, turned, path = pictures(rng, 8, 8), Image.Exif(), tmp_path / "turned.png"
        turned[ExifTags.Base.Orientation] = 6  # to be turned clockwise by a quarter
        Image.fromarray(pixels.numpy()).save(path, exif=turned)
        assert_close(lab.prediction.read_picture(path, 1, 8)[0], pixels.rot90(-1))
        deep = whole(rng, 2**16, 8, 8)
        Image.fromarray(deep.numpy().astype("uint16")).save(path)
        assert_close(lab.prediction.read_picture(path, 1, 8)[0].double(), deep.double() / 257, rtol=0.0, atol=1.0)

    def test_bad_pictures(self, lab, rng, tmp_path):
        """a missing, broken or other file is refused by a sentence with its name"""
        path, good = tmp_path / "sad.png", io.BytesIO()
        Image.fromarray(pictures(rng, 40, 40).numpy()).save(good, "PNG")
        with raises(lab.errors.PictureError, match="sad.png"):
            lab.prediction.read_picture(path, 1, 8)
        for content in (b"", b"no picture", good.getvalue()[:60], good.getvalue()[:700]):
            path.write_bytes(content)
            with raises(lab.errors.PictureError, match="sad.png"):
                lab.prediction.read_picture(path, 1, 8)

    def test_predict(self, lab, rng):
        """predict lists the most probable classes of each picture with their probabilities, the first first"""
        table = torch.softmax(normal(rng, 5, 4), 1)
        for top in (1, 3, 9):
            got = lab.prediction.predict(lambda images: table, pictures(rng, 5, 1, 8, 8), ("a", "b", "c", "d"), top)
            values, columns = table.sort(1, descending=True)
            assert_close(torch.tensor([[p for _, p in row] for row in got]), values[:, :top])
            names = [["abcd".index(name) for name, _ in row] for row in got]
            assert_close(torch.tensor(names), columns[:, :top])

    def command(self, lab, *arguments):
        """Exit code and what was printed to either stream, of one command in this process."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                lab.cli.main([str(a) for a in arguments])
            except SystemExit as error:
                code = error.code or 0
        return code, out.getvalue(), err.getvalue()

    def test_errors(self, lab, rng, tmp_path):
        """what a user can mend is one line on standard error and exit code 2"""
        settings, broken = tmp_path / "typo.toml", tmp_path / "run"
        settings.write_text('[data]\nname = "digits"\nshfit = 2\n')
        broken.mkdir()
        (broken / "model.pt").write_bytes(b"nonsense")
        cases = {
            "shfit": ("train", settings, "--out", tmp_path / "a"),
            "none.toml": ("train", tmp_path / "none.toml", "--out", tmp_path / "a"),
            "no_run": ("predict", tmp_path / "no_run", "x.png"),
            "model.pt": ("export", broken),
        }
        for word, arguments in cases.items():
            code, _, err = self.command(lab, *arguments)
            assert_close(torch.tensor(code), torch.tensor(2))
            lines = [line for line in err.splitlines() if line.strip()]
            one_line = len(lines) == 1 and lines[0].startswith("image_classifier: ")
            assert one_line and word in err, (  # noqa: PT018 - one requirement
                f"expected one line `image_classifier: …` with {word!r} on standard error, got: {err.strip()[-300:]}"
            )

    TINY = """
[data]
name = "digits"
train_images = 120
test_images = 40
[model]
width = 4
[training]
epochs = 2
device = "cpu"
"""

    @slow
    def test_commands(self, lab, rng, tmp_path):
        """train, evaluate, export and predict work hand in hand, and a stopped run is resumed exactly"""
        settings, run, parts, picture = (tmp_path / name for name in ("c.toml", "run", "parts", "p.png"))
        settings.write_text(self.TINY)
        pixels = whole(rng, 256, 28, 28).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(picture)
        for arguments in (
            ("train", settings, "--out", run),
            ("train", settings, "--out", parts, "--steps", 3),
            ("train", settings, "--out", parts, "--resume"),
            ("evaluate", run),
            ("export", run),
        ):
            code, _, err = self.command(lab, *arguments)
            assert code == 0, f"expected `{arguments[0]}` to succeed, got exit code {code}: {err.strip()[-300:]}"
        whole_run, resumed = (torch.load(path / "model.pt", weights_only=True) for path in (run, parts))
        assert_close(resumed["weights"], whole_run["weights"], rtol=0.0, atol=0.0)
        _, out, _ = self.command(lab, "predict", run, picture)
        exported = torch.export.load(run / "model.pt2").module()(pixels[None, None])[0]
        best = exported.max(0)
        assert f"{whole_run['classes'][best.indices]} {best.values:.4f}" in out, (
            f"expected `predict` to say what the exported file says, {best.values:.4f}, got: {out.strip()[-200:]}"
        )
        page = (run / "report.html").read_text()
        whole_page = "<svg" in page and "data:image/png" in page
        assert whole_page, "expected a report with plots and pictures in one file"
        assert 'src="http' not in page, "expected a report that needs no other file"

    @guard
    @slow
    def test_as_a_program(self, lab, rng, tmp_path):
        """`python -m image_classifier` does the same in a process of its own"""
        (tmp_path / "c.toml").write_text(self.TINY)
        home = Path(lab.data.__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(home), *sys.path]), "OMP_NUM_THREADS": "1"}

        def program(*arguments):
            command = [sys.executable, "-m", "image_classifier", *map(str, arguments)]
            ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
            if ran.stderr.rstrip().endswith("NotImplementedError"):
                raise StubMet("cli.main")
            return ran

        done = program("train", "c.toml", "--out", "run")
        assert done.returncode == 0, f"expected `train` to succeed, got: {done.stderr.strip()[-300:]}"
        assert (tmp_path / "run" / "model.pt").exists(), "expected a model after training"
        failed = program("predict", "run", "nowhere.png")
        said = failed.stderr.strip()
        refused = failed.returncode == 2 and said.startswith("image_classifier: ")
        assert refused and "\n" not in said, (  # noqa: PT018 - one requirement
            f"expected exit code 2 and one sentence for a missing picture, got {failed.returncode}: {said[-300:]}"
        )

    @guard
    def test_faults_are_not_hidden(self, lab, rng, tmp_path):
        """an error that is no user's is not made a sentence"""

        def faulty(path):
            raise ZeroDivisionError("a fault")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lab.cli, "read_config", faulty)
            with raises(ZeroDivisionError):
                self.command(lab, "train", "c.toml", "--out", tmp_path)


class _Shifted(nn.Module):
    """A network whose first output is a quarter too high."""

    def __init__(self, served: nn.Module) -> None:
        super().__init__()
        self.served = served

    def forward(self, images: Tensor) -> Tensor:
        return self.served(images) + 0.25


# --- own_tests -------------------------------------------------------------------------------------------------------


class TestOwnTests(Exercise):
    """Tests of your own."""

    points = 4
    modules = ("test_image_classifier",)
    skills = ("testing", "debugging")
    hints = (
        "Which promise of a docstring would break in silence, with a number that still looks plausible?",
        "Call with a small input whose answer you know by another way, or twice with something changed that must not "
        "matter: the seed, the order, the size of a chunk, a stop in between.",
        "One test for each of: shares and repeats of the split, statistics with a last chunk that is smaller, "
        "equal sums in `generator_for`, logits of one picture alone, best weights after more steps, clipping of all "
        "gradients, a resumed run, recall of a class, the calibration error of bins of unequal size.",
    )

    def caught(self, lab, *mistakes):
        """Compare what the tests catch with all that they should."""
        found = caught(lab, "test_image_classifier", mistakes)
        assert_close(torch.tensor(list(found.values())), torch.tensor([True] * len(mistakes)))

    @guard
    def test_right(self, lab):
        """pass on a right package"""
        failed = on_reference(lab, "test_image_classifier").failed
        assert not failed, f"on a right package these fail: {failed}"

    def test_split(self, lab):
        """notice a split that forgets the classes, or changes from run to run"""
        self.caught(lab, "NotStratified", "SplitByDefaultGenerator")

    def test_statistics(self, lab):
        """notice wrong statistics and shared random streams"""
        self.caught(lab, "MeanOfChunkMeans", "SumOfSeeds")

    def test_network(self, lab):
        """notice a network that answers with probabilities, or looks at the rest of the batch"""
        self.caught(lab, "SoftmaxAtTheEnd", "BatchStatisticsAlways")

    def test_loop(self, lab):
        """notice a training loop that clips wrongly, or loses its best weights"""
        self.caught(lab, "ClippedOneByOne", "BestWeightsNotCopied")

    def test_resume(self, lab):
        """notice a resume that forgets"""
        self.caught(lab, "RandomStateForgotten", "MomentumForgotten")

    def test_metrics(self, lab):
        """notice wrong metrics"""
        self.caught(lab, "PrecisionAndRecallSwapped", "BinsCountAlike")


# --- mixing ----------------------------------------------------------------------------------------------------------


class TestMixing(Exercise):
    """Stretch: MixUp and CutMix."""

    points = 4
    modules = ("mixing",)
    side_quest = True
    skills = ("augmentation",)
    hints = (
        "If a picture is 70 % coat and 30 % bag, what is its label?",
        "One λ and one permutation for the batch; in CutMix the label follows the pixels that were really replaced.",
        "`mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]`; the share is the slices' area by h · w.",
    )

    N = 12

    def marked(self):
        """Pictures whose every pixel is the number of the picture, and labels by which they are known."""
        return torch.arange(self.N).float()[:, None, None, None].expand(self.N, 2, 9, 7).clone(), torch.arange(self.N)

    def made(self, lab, name, alpha, count=60):
        """Shares of the partner, and what came, of many mixtures."""
        for seed in range(count):
            images, labels = self.marked()
            yield getattr(lab.mixing, name)(images, labels, self.N, alpha, torch.Generator().manual_seed(seed))

    def test_mixup_labels(self, lab, rng):
        """MixUp mixes pictures and labels with the same share, one for the batch"""
        for mixed, targets in self.made(lab, "mixup", 1.0):
            assert_close(targets.sum(1), torch.ones(self.N))
            assert_close(mixed[:, 1, 4, 3], targets @ torch.arange(self.N).float(), rtol=1e-4, atol=1e-4)
            partners = (targets > 0).sum(1)
            assert partners.max() == 2, f"expected mixtures of two, got up to {partners.max()}"
            two = targets[partners == 2]
            low = two.masked_fill(two == 0, 2).min(1).values
            assert_close(low, low[:1].expand_as(low), rtol=1e-3, atol=1e-4)

    def test_mixup_beta(self, lab, rng):
        """the share is from Beta(α, α)"""
        for alpha, spread in ((0.4, 0.25 / 1.8), (4.0, 0.25 / 9)):
            shares = []
            for _, targets in self.made(lab, "mixup", alpha, 400):
                two = targets[(targets > 0).sum(1) == 2]
                shares.append(two[0][two[0] > 0][0] if len(two) else torch.tensor(1.0))
            variance = (torch.stack(shares) - 0.5).square().mean()
            assert_close(variance, torch.tensor(spread), rtol=0.3, atol=0.0)

    def test_cutmix_rectangle(self, lab, rng):
        """CutMix puts one rectangle of the partner into each picture, the same place in all"""
        several = 0
        for mixed, _ in self.made(lab, "cutmix", 1.0):
            own = torch.arange(self.N).float()[:, None, None, None]
            foreign = (mixed != own).any(1)
            places = foreign.any(0)
            rows, columns = places.any(1), places.any(0)
            assert_close(places, rows[:, None] & columns[None])
            if places.any():
                inside, several = mixed[:, :, places].flatten(1), several + 1
                assert_close(inside, inside[:, :1].expand_as(inside))
                assert_close(inside[:, 0].sort().values, torch.arange(self.N).float())
        assert several > 40, f"expected a rectangle in most of 60 batches, got it in {several}"

    def test_cutmix_labels(self, lab, rng):
        """its labels follow the pixels that were really replaced"""
        sizes = set()
        for mixed, targets in self.made(lab, "cutmix", 1.0):
            assert_close(targets @ torch.arange(self.N).float(), mixed.mean((1, 2, 3)), rtol=1e-4, atol=1e-3)
            sizes.add(round(targets.max(1).values.min().item(), 3))
        assert len(sizes) > 10, f"expected rectangles of many sizes in 60 batches, got {len(sizes)}"

    def test_cutmix_area(self, lab, rng):
        """before it is cut off at the border the rectangle has the share 1 − λ of the area"""
        shares = []
        for seed in range(300):
            images = torch.stack([torch.zeros(1, 60, 60), torch.ones(1, 60, 60)])
            images = images.repeat(8, 1, 1, 1)
            generator = torch.Generator().manual_seed(seed)
            mixed, _ = lab.mixing.cutmix(images, torch.arange(16) % 2, 2, 1.0, generator)
            shares.append((mixed != images).double().mean((1, 2, 3)).max())
        # In 20,000 simulated draws the mean is 0.314 with a deviation of 0.186, so 0.011 here; for sides in the share
        # 1 − λ it is 0.215.
        assert_close(torch.stack(shares).mean(), torch.tensor(0.314).double(), rtol=0.0, atol=0.05)

    @guard
    def test_generator(self, lab, rng):
        """takes all randomness from the generator, and leaves its arguments alone"""
        for name in ("mixup", "cutmix"):
            results = []
            for seed in (1, 2):
                torch.manual_seed(seed)
                images, labels = self.marked()
                before = images.clone()
                results.append(
                    getattr(lab.mixing, name)(images, labels, self.N, 0.8, torch.Generator().manual_seed(4))[0]
                )
                assert_close(images, before)
            assert_close(results[1], results[0])


# --- distillation ----------------------------------------------------------------------------------------------------


class TestDistillation(Exercise):
    """Stretch: distillation into half the parameters."""

    points = 4
    modules = ("distillation",)
    needs = ("data", "model", "training")
    side_quest = True
    skills = ("training-loop", "transfer")
    hints = (
        "Why does the gradient of softened logits shrink as 1 / T², and what makes up for it?",
        '`F.kl_div(student, teacher, reduction="batchmean", log_target=True)` wants logarithms, the student first.',
        "Soften both by `log_softmax(z / T)`, detach the teacher's, multiply by T²; look through the widths below the "
        "given one.",
    )

    def test_loss(self, lab, rng):
        """the loss is the formula"""
        for temperature, weight in ((1.0, 0.5), (4.0, 0.9), (2.0, 0.0), (3.0, 1.0)):
            student, teacher, targets = normal(rng, 6, 4), 3 * normal(rng, 6, 4), whole(rng, 4, 6)
            p, q = (torch.softmax(z.double() / temperature, 1) for z in (teacher, student))
            soft = (p * (p / q).log()).sum(1).mean() * temperature**2
            hard = F.cross_entropy(student.double(), targets)
            got = lab.distillation.distillation_loss(student, teacher, targets, temperature, weight)
            assert_close(got, (weight * soft + (1 - weight) * hard).float(), **CLOSE)

    def test_gradients(self, lab, rng):
        """its gradient reaches the student, and not the teacher"""
        student, teacher = (normal(rng, 5, 3).requires_grad_() for _ in range(2))
        targets = whole(rng, 3, 5)
        lab.distillation.distillation_loss(student, teacher, targets, 2.0, 0.6).backward()
        p, q = ((z.detach().double() / 2).softmax(1) for z in (teacher, student))
        hard = student.detach().double().softmax(1) - F.one_hot(targets, 3)
        expected = (0.6 * 2 * (q - p) + 0.4 * hard) / 5
        assert_close(student.grad.double(), expected, **CLOSE)
        assert teacher.grad is None, "expected no gradient for the teacher's logits"

    def test_half_width(self, lab, rng):
        """half_width is the largest with half the parameters"""

        def size(channels, classes, width):
            return sum(p.numel() for p in lab.model.Classifier(channels, classes, width).parameters())

        for channels, classes, width in ((1, 10, 16), (3, 5, 8)):
            limit = size(channels, classes, width) / 2
            expected = max(w for w in range(1, width) if size(channels, classes, w) <= limit)
            got = lab.distillation.half_width(channels, classes, width)
            assert_close(torch.tensor(got), torch.tensor(expected))

    def test_step(self, lab, rng):
        """a step of Distiller is a step on this loss, the teacher in evaluation mode"""
        plain = trainer(lab)
        run = lab.distillation.Distiller(small_network(1), plain.training_set, plain.validation_set, plain.config)
        run.teacher = small_network(5).train()
        teacher = copy.deepcopy(run.teacher).eval()
        images, targets = normal(rng, 6, 1, 5, 6), whole(rng, 3, 6)
        ours = SimpleNamespace(model=copy.deepcopy(run.model), optimizer=None)
        groups = lab.optim.parameter_groups(ours.model, run.config.training.weight_decay)
        ours.optimizer = torch.optim.AdamW(groups, lr=run.config.training.lr)
        torch.manual_seed(3)
        run.step_on(images, targets)
        torch.manual_seed(3)
        temperature, weight = lab.distillation.TEMPERATURE, lab.distillation.WEIGHT
        logits, opinion = ours.model.train()(images), teacher(images).detach()
        p = (opinion / temperature).softmax(1)
        soft = (p * (p.log() - (logits / temperature).log_softmax(1))).sum(1).mean() * temperature**2
        (weight * soft + (1 - weight) * F.cross_entropy(logits, targets)).backward()
        nn.utils.clip_grad_norm_(ours.model.parameters(), run.config.training.clip_norm)
        ours.optimizer.step()
        assert_close(dict(run.model.state_dict()), dict(ours.model.state_dict()), **CLOSE)

    @guard
    def test_teacher_stays(self, lab, rng):
        """the teacher stays as it is"""
        run = trainer(lab)
        run = lab.distillation.Distiller(run.model, run.training_set, run.validation_set, run.config)
        run.teacher = small_network(5)
        before = copy.deepcopy(run.teacher.state_dict())
        run.run(2)
        assert_close(dict(run.teacher.state_dict()), dict(before))
