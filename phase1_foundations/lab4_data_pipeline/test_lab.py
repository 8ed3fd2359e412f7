"""Checkers of Lab 4: data loading pipeline."""

import itertools
import multiprocessing
import pickle
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader
from torch.utils.data._utils import worker as worker_module
from torchvision import tv_tensors

from grading.exercise import Exercise, guard, raises, slow

VOCABULARY = {"a": 2, "good": 3, "film": 4, "bad": 5}


def integers(rng: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    """Random integers from `low` to `high` - 1."""
    return torch.randint(low, high, shape, generator=rng)


def in_worker(number: int, n_workers: int) -> pytest.MonkeyPatch:
    """As if this process were worker `number` of `n_workers`, until `undo`."""
    patch = pytest.MonkeyPatch()
    info = SimpleNamespace(id=number, num_workers=n_workers, seed=0, dataset=None)
    patch.setattr(worker_module, "_worker_info", info)
    return patch


def shares(stream: object, n_workers: int) -> list[list]:
    """What each of `n_workers` workers would yield."""
    result = []
    for number in range(n_workers):
        patch = in_worker(number, n_workers)
        try:
            result.append(list(stream))
        finally:
            patch.undo()
    return result


class TestExamples(Exercise):
    """Two kinds of data set."""

    points = 3
    skills = ("datasets", "dataloaders", "streaming")
    hints = (
        "What is the dtype of `torch.tensor([])`? And how does a data set find out which worker it is in?",
        "`get_worker_info()` is None outside workers; else it has `id` and `num_workers`. Ask it in `__iter__`.",
        "`self.vocabulary.get(word, UNKNOWN)` for each word; `itertools.islice(self.source, id, None, num_workers)`.",
    )

    def test_words(self, lab, rng):
        """gives each text as the numbers of its words, in lower case, with 1 for unknown ones"""
        texts = ["A good film", "a\tBAD  film ", "good grief", "Film"]
        examples = lab.Examples(texts, torch.tensor([1.0, -1.0, 0.5, 2.0]), VOCABULARY)
        expected = [torch.tensor(ids) for ids in ([2, 3, 4], [2, 5, 4], [3, 1], [4])]
        assert_close([examples[i][0] for i in range(4)], expected)
        assert len(examples) == 4, f"expected the length 4, got {len(examples)}"

    def test_labels(self, lab, rng):
        """labels a text 1.0 if its score is above 0, else 0.0"""
        scores = torch.tensor([0.01, -3.0, 0.0, 2.5])
        examples = lab.Examples(["a"] * 4, scores, VOCABULARY)
        assert_close([examples[i][1] for i in range(4)], [1.0, 0.0, 0.0, 1.0])

    def test_shares(self, lab, rng):
        """worker k of n yields the elements k, k + n, k + 2n, …"""
        for n, n_workers in ((10, 2), (7, 3), (2, 4), (5, 1)):
            source = integers(rng, 0, 1000, n).tolist()
            expected = [source[k::n_workers] for k in range(n_workers)]
            assert_close(shares(lab.Stream(source), n_workers), expected)

    def test_no_workers(self, lab, rng):
        """outside workers it yields everything, in each pass anew"""
        source = integers(rng, 0, 1000, 9).tolist()
        stream = lab.Stream(source)
        assert_close([list(stream), list(stream)], [source, source])

    @slow
    def test_in_a_loader(self, lab, rng):
        """in a DataLoader with two workers every element arrives once"""
        if "fork" not in multiprocessing.get_all_start_methods():
            pytest.skip("this system cannot fork")
        source = integers(rng, 0, 1000, 11).tolist()
        loader = DataLoader(lab.Stream(source), batch_size=None, num_workers=2, multiprocessing_context="fork")
        assert_close(sorted(loader), sorted(source))

    @guard
    def test_empty_text(self, lab, rng):
        """gives an int64 tensor also for a text without words"""
        words, _ = lab.Examples([" "], torch.tensor([1.0]), VOCABULARY)[0]
        assert (words.dtype, tuple(words.shape)) == (torch.int64, (0,)), (
            f"expected int64 of shape (0,), got {words.dtype} of shape {tuple(words.shape)}"
        )

    @guard
    def test_end(self, lab, rng):
        """raises IndexError beyond the end"""
        with raises(IndexError):
            lab.Examples(["a", "bad"], torch.ones(2), VOCABULARY)[2]

    @guard
    def test_reads_no_further(self, lab, rng):
        """reads no further than it must, so that a source may be endless"""
        read = []

        class Endless:
            def __iter__(self):
                for i in range(100):  # an end after all, so that an eager answer fails instead of hanging
                    read.append(i)
                    yield i

        list(itertools.islice(lab.Stream(Endless()), 3))
        assert len(read) <= 4, f"expected at most 4 elements to be read for the first 3, got {len(read)}"

    def workload(self, lab, size, rng):
        words = [*VOCABULARY, "Other"]
        texts = [" ".join(words[i] for i in row) for row in integers(rng, 0, len(words), 64 * size, 20).tolist()]
        examples = lab.Examples(texts, torch.randn(len(texts), generator=rng), VOCABULARY)
        return lambda: [examples[i] for i in range(len(texts))]


class TestPadBatch(Exercise):
    """Padding and masks."""

    points = 2
    skills = ("collation", "dataloaders", "shapes")
    hints = (
        "How long is the longest example, and what does a row's mask depend on?",
        "`pad_sequence` pads. A row of positions compared with a column of lengths is the mask.",
        "`torch.arange(padded.shape[1]) < lengths[:, None]`; labels by `torch.tensor(labels, dtype=torch.float32)`.",
    )

    def batch(self, rng, lengths):
        """Examples of these lengths, with random words and labels."""
        rows = [integers(rng, 0, 50, n) for n in lengths]
        labels = integers(rng, 0, 2, len(lengths)).float().tolist()
        return list(zip(rows, labels, strict=True))

    def test_words(self, lab, rng):
        """puts each example at the left of its row, and zeros to its right, up to the longest"""
        for lengths in ((3, 1, 5), (2,), (4, 4), (1, 0, 6, 2)):
            examples = self.batch(rng, lengths)
            longest = max(lengths)
            expected = [words.tolist() + [0] * (longest - len(words)) for words, _ in examples]
            assert_close(lab.pad_batch(examples).words, torch.tensor(expected))

    def test_mask(self, lab, rng):
        """the mask is True exactly where there is data, also where a word is 0"""
        for lengths in ((3, 1, 5), (2,), (1, 0, 6, 2)):
            examples = [(words * (len(words) > 1), label) for words, label in self.batch(rng, lengths)]
            expected = [[t < n for t in range(max(lengths))] for n in lengths]
            assert_close(lab.pad_batch(examples).mask, torch.tensor(expected))

    def test_labels(self, lab, rng):
        """labels are float32, one for each example"""
        for lengths in ((3, 1, 5, 2), (2,)):
            examples = [(words, 0.5 + i) for i, (words, _) in enumerate(self.batch(rng, lengths))]
            expected = torch.arange(len(lengths), dtype=torch.float32) + 0.5
            assert_close(lab.pad_batch(examples).labels, expected)

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        examples = self.batch(rng, (3, 1, 2))
        before = [words.clone() for words, _ in examples]
        lab.pad_batch(examples)
        assert len(examples) == 3, f"expected the list to keep its 3 examples, got {len(examples)}"
        assert_close([words for words, _ in examples], before)

    def workload(self, lab, size, rng):
        lengths = integers(rng, 1, 100, 64 * size).tolist()
        examples = [(integers(rng, 2, 9, length), 1.0) for length in lengths]
        return lambda: lab.pad_batch(examples)


class TestBucketSampler(Exercise):
    """Batches of similar length."""

    points = 3
    skills = ("sampling", "dataloaders", "reproducibility")
    hints = (
        "What is sorted, the data set or a stretch of the shuffled order? And what is shuffled at the end?",
        "`torch.randperm(n, generator=…)`, then `order.split(batch_size * pool)`; `argsort` the lengths of each run.",
        "Collect `run[lengths[run].argsort()].split(batch_size)` of all runs; go through `randperm(len(batches))`.",
    )

    def sampler(self, lab, lengths, batch_size, pool=50, seed=0):
        """A sampler with a generator of its own."""
        return lab.BucketSampler(lengths, batch_size, pool, torch.Generator().manual_seed(seed))

    def test_every_index_once(self, lab, rng):
        """yields every index once in each epoch, in batches of which only one is smaller"""
        for n, batch_size, pool in ((23, 4, 2), (12, 4, 50), (7, 3, 1), (3, 8, 2), (30, 5, 3)):
            sampler = self.sampler(lab, integers(rng, 1, 30, n), batch_size, pool)
            for _ in range(2):
                batches = list(sampler)
                assert_close(sorted(i for batch in batches for i in batch), list(range(n)))
                full, left = divmod(n, batch_size)
                expected = [batch_size] * full + [left] * (left > 0)
                assert_close(sorted((len(b) for b in batches), reverse=True), expected)

    def test_sorted_within_a_run(self, lab, rng):
        """with one run for all, the batches are those of the sorted lengths"""
        lengths = torch.randperm(26, generator=rng) + 1
        for given in (lengths, lengths.tolist()):
            batches = [sorted(int(lengths[i]) for i in batch) for batch in self.sampler(lab, given, 4)]
            expected = [list(range(start, min(start + 4, 27))) for start in range(1, 27, 4)]
            assert_close(sorted(batches), expected)

    def test_runs_are_shuffled(self, lab, rng):
        """sorts within runs of batch_size · pool only: the fewer batches in a run, the wider the lengths in a batch"""
        n, size = 960, 8
        lengths = torch.randperm(n, generator=rng)
        for pool in (1, 2, 10):
            spans = [lengths[b].max() - lengths[b].min() for b in self.sampler(lab, lengths, size, pool) if len(b) > 1]
            # A batch holds `size` neighbours among the `size * pool` sorted draws of its run.
            expected = (size - 1) * (n + 1) / (size * pool + 1)
            assert_close(torch.stack(spans).double().mean(), torch.tensor(expected).double(), rtol=0.15, atol=0.0)

    def test_batches_in_random_order(self, lab, rng):
        """yields the batches in random order, not from short to long"""
        for pool, n_runs in ((40, 1), (20, 4)):
            lengths = torch.randperm(4 * pool * n_runs, generator=rng).double()
            means = [lengths[batch].mean() for batch in self.sampler(lab, lengths, 4, pool)]
            rising = sum(bool(b > a) for a, b in itertools.pairwise(means)) / (len(means) - 1)
            # In random order one half; in sorted runs all, or none.
            assert_close(rising, 0.5, rtol=0.0, atol=0.3)

    @guard
    def test_seeds(self, lab, rng):
        """another order in each epoch, the same from the same seed, and from torch's generator if none is given"""
        lengths = integers(rng, 1, 30, 40)
        sampler, other = self.sampler(lab, lengths, 4, 2), self.sampler(lab, lengths, 4, 2)
        first, second = list(sampler), list(sampler)
        assert first != second, "expected another order in the second epoch, got the same"
        assert [list(other), list(other)] == [first, second], "expected the same epochs from the same seed, got others"
        state = torch.get_rng_state()
        list(sampler)
        assert torch.equal(state, torch.get_rng_state()), "expected torch's generator to be left alone, but it moved"
        default = lab.BucketSampler(lengths, 4)
        torch.manual_seed(3)
        once = list(default)
        torch.manual_seed(3)
        assert list(default) == once, "expected the same order after the same torch.manual_seed, got another"
        assert list(default) != once, "expected another order in the next epoch, got the same"

    @guard
    def test_length(self, lab, rng):
        """len is the number of batches"""
        for n, batch_size, pool in ((23, 4, 2), (12, 4, 50), (3, 8, 1)):
            actual = len(self.sampler(lab, integers(rng, 1, 9, n), batch_size, pool))
            assert actual == -(-n // batch_size), f"expected {-(-n // batch_size)} batches, got {actual}"

    @guard
    def test_default_pool(self, lab, rng):
        """a run holds 50 batches if nothing else is said"""
        lengths = torch.randperm(400, generator=rng)
        default = lab.BucketSampler(lengths, 2, generator=torch.Generator().manual_seed(1))
        assert list(default) == list(self.sampler(lab, lengths, 2, 50, seed=1)), (
            "expected the same batches as with pool=50, got others"
        )

    @guard
    def test_lists_of_ints(self, lab, rng):
        """each batch is a list of ints"""
        batch = next(iter(self.sampler(lab, integers(rng, 1, 9, 6), 4)))
        kinds = {type(i).__name__ for i in batch}
        assert (type(batch), kinds) == (list, {"int"}), f"expected a list of ints, got {type(batch)} of {kinds}"

    def workload(self, lab, size, rng):
        sampler = lab.BucketSampler(integers(rng, 1, 100, 2048 * size), 32, 8, torch.Generator().manual_seed(1))
        return lambda: list(sampler)


class TestRunningMoments(Exercise):
    """Mean and variance of a stream."""

    points = 3
    skills = ("streaming", "numerics")
    hints = (
        "From which mean are the deviations of a batch taken before the two sets are merged?",
        "`update` is `merge` with a batch whose count, mean and S you have computed. And if n_A = 0?",
        "mean += δ · n_B / n, squares += S_B + δ² · n_A · n_B / n, all in float64, and nothing for an empty batch.",
    )

    def test_any_batches(self, lab, rng):
        """equals mean and biased variance of all rows, whatever the batches"""
        x = 3 * torch.randn(40, 3, generator=rng) + torch.tensor([0.0, -5.0, 100.0])
        for sizes in ([40], [1] * 40, [0, 1, 12, 0, 27], [39, 1]):
            moments = lab.RunningMoments(3)
            for batch in x.split(sizes):
                moments.update(batch)
            expected = [x.double().mean(0), x.double().var(0, correction=0)]
            assert_close([moments.mean, moments.var], expected, rtol=1e-9, atol=1e-9)

    def test_far_from_the_origin(self, lab, rng):
        """loses no digits when the data lie far from zero"""
        origin = torch.tensor([1e8, -1e8], dtype=torch.float64)
        x = torch.randn(60, 2, generator=rng, dtype=torch.float64) + origin
        moments = lab.RunningMoments(2)
        for batch in x.split(7):
            moments.update(batch)
        assert_close(moments.var, (x - origin).var(0, correction=0), rtol=1e-5, atol=0.0)

    def test_bytes(self, lab, rng):
        """takes bytes and float32 without overflow or rounding"""
        for x in (integers(rng, 0, 256, 90, 2).to(torch.uint8), 4096 + torch.randn(90, 2, generator=rng)):
            moments = lab.RunningMoments(2)
            for batch in x.split(16):
                moments.update(batch)
            expected = [x.double().mean(0), x.double().var(0, correction=0)]
            assert_close([moments.mean, moments.var], expected, rtol=1e-9, atol=1e-9)

    def test_merge(self, lab, rng):
        """merging gives what one that saw everything would have, also when one side is empty"""
        x = 2 * torch.randn(30, 3, generator=rng) + 7
        for cuts in ([0, 30], [30, 0], [11, 19], [1, 29]):
            first, second = lab.RunningMoments(3), lab.RunningMoments(3)
            for moments, part in zip((first, second), x.split(cuts), strict=True):
                moments.update(part)
            first.merge(second)
            assert_close(first.count, 30)
            expected = [x.double().mean(0), x.double().var(0, correction=0)]
            assert_close([first.mean, first.var], expected, rtol=1e-9, atol=1e-9)

    @guard
    def test_start(self, lab, rng):
        """is all zeros before any data, also after merging nothing"""
        moments = lab.RunningMoments(2)
        moments.merge(lab.RunningMoments(2))
        zeros = torch.zeros(2, dtype=torch.float64)
        assert_close([moments.mean, moments.squares, moments.var], [zeros, zeros, zeros])
        assert moments.count == 0, f"expected a count of 0, got {moments.count}"

    @guard
    def test_other_stays(self, lab, rng):
        """what is merged is not changed, then or later"""
        x = torch.randn(12, 2, generator=rng)
        first, second = lab.RunningMoments(2), lab.RunningMoments(2)
        second.update(x[:5])
        before = [second.mean.clone(), second.squares.clone()]
        first.merge(second)
        first.update(x[5:])
        assert_close([second.mean, second.squares], before)
        assert second.count == 5, f"expected the other's count to stay 5, got {second.count}"

    def workload(self, lab, size, rng):
        batches = [torch.randn(256 * size, 64, generator=rng) for _ in range(8)]

        def pass_by():
            first, second = lab.RunningMoments(64), lab.RunningMoments(64)
            for batch in batches:
                first.update(batch)
                second.update(batch)
            first.merge(second)
            return first.var

        return pass_by


def shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """`x` moved down by `dy` and right by `dx`, element by element."""
    result = torch.zeros_like(x)
    height, width = x.shape[-2:]
    for row, column in itertools.product(range(height), range(width)):
        if 0 <= row - dy < height and 0 <= column - dx < width:
            result[..., row, column] = x[..., row - dy, column - dx]
    return result


def sample(rng: torch.Generator, limit: int, channels: int, height: int, width: int) -> tuple:
    """A random uint8 picture, and a mask with one True that no shift by `limit` moves out."""
    picture = integers(rng, 1, 256, channels, height, width).to(torch.uint8)
    spot = torch.zeros(1, height, width, dtype=torch.bool)
    spot[0, limit, limit] = True
    return tv_tensors.Image(picture), tv_tensors.Mask(spot)


def spot_of(mask: Tensor, limit: int) -> tuple[int, int]:
    """By how much the True of `sample` has moved; fails if it is not there."""
    places = mask.nonzero()
    assert len(places) == 1, f"expected the mask to keep its one True, got {len(places)}"
    return int(places[0, -2]) - limit, int(places[0, -1]) - limit


class TestRandomShift(Exercise):
    """Augmentation, for pictures and their masks."""

    points = 2
    skills = ("augmentation",)
    hints = (
        "Which method of `v2.Transform` is called once per sample, and which once per picture?",
        "`torch.randint(-limit, limit + 1, (2,))`. Pad one side with zeros and crop the other, then restore the kind.",
        "`tv_tensors.wrap(result, like=inpt)`; `v2.Compose([RandomShift(limit), v2.ToDtype(torch.float32, scale=True), "
        "v2.Normalize(mean, std)])`.",
    )

    def test_moves_both(self, lab, rng):
        """moves picture and mask by the same amount, with zeros coming in"""
        shape, limit = (2, 7, 9), 3
        for _ in range(12):
            picture, mask = sample(rng, limit, *shape)
            moved, spot = lab.RandomShift(limit)(picture, mask)
            assert_close(torch.as_tensor(moved), shifted(picture.as_subclass(Tensor), *spot_of(spot, limit)))

    def test_uniform(self, lab, rng):
        """each shift of up to `limit` is equally likely, in both directions independently"""
        limit, n = 1, 900
        transform = lab.RandomShift(limit)
        picture, mask = sample(rng, limit, 1, 3, 4)
        seen = Counter(spot_of(transform(picture, mask)[1], limit) for _ in range(n))
        expected = list(itertools.product((-1, 0, 1), repeat=2))
        assert sorted(seen) == expected, f"expected the shifts {expected}, got {sorted(seen)}"
        # Five standard deviations of a count with expectation 100.
        counts = torch.tensor([seen[shift] for shift in expected], dtype=torch.float64)
        assert_close(counts, torch.full((9,), n / 9, dtype=torch.float64), rtol=0.0, atol=50.0)

    def test_pipeline(self, lab, rng):
        """the pipeline shifts, scales to 0 to 1 and then normalises; what comes in is black before normalising"""
        mean, std, limit = [0.3, 0.6], [0.2, 0.4], 2
        augment = lab.augmentation(limit, mean, std)
        for _ in range(8):
            picture, mask = sample(rng, limit, 2, 6, 5)
            moved, spot = augment(picture, mask)
            black = shifted(picture.as_subclass(Tensor), *spot_of(spot, limit)).float() / 255
            expected = (black - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
            assert_close(torch.as_tensor(moved), expected, rtol=1e-5, atol=1e-5)

    @guard
    def test_kinds(self, lab, rng):
        """kinds and dtypes stay, labels pass untouched, and a limit of 0 moves nothing"""
        picture, mask = sample(rng, 1, 1, 4, 5)
        moved, spot, label, number = lab.RandomShift(1)(picture, mask, "seven", torch.tensor([7]))
        kinds = [type(moved).__name__, type(spot).__name__, moved.dtype, spot.dtype]
        expected = ["Image", "Mask", torch.uint8, torch.bool]
        assert kinds == expected, f"expected {expected}, got {kinds}"
        assert (label, number.tolist()) == ("seven", [7]), f"expected seven and [7] untouched, got {label} and {number}"
        assert_close(torch.as_tensor(lab.RandomShift(0)(picture)), picture.as_subclass(Tensor))
        out = lab.augmentation(1, [0.5], [0.5])(picture, mask)[1]
        assert out.dtype == torch.bool, f"expected the pipeline to leave a mask bool, got {out.dtype}"

    @guard
    def test_seed(self, lab, rng):
        """draws from torch's generator, and leaves its input alone"""
        picture, mask = sample(rng, 3, 1, 9, 9)
        before, transform = picture.clone(), lab.RandomShift(3)
        runs = []
        for _ in range(2):
            torch.manual_seed(11)
            runs.append([spot_of(transform(picture, mask)[1], 3) for _ in range(10)])
        assert runs[0] == runs[1], "expected the same shifts after the same torch.manual_seed, got others"
        assert_close(torch.as_tensor(picture), torch.as_tensor(before))

    def workload(self, lab, size, rng):
        transform = lab.augmentation(4, [0.5] * 3, [0.5] * 3)
        image = tv_tensors.Image(integers(rng, 0, 256, 3, 64 * size, 64).to(torch.uint8))
        return lambda: [transform(image) for _ in range(8)]


class BugError(TypeError):
    """What a bug in `decode` raises."""


class BadFieldError(KeyError):
    """A subclass of what counts as corrupt."""


def decode(record: object) -> int:
    """Twice a number; raises what a record names."""
    if isinstance(record, type):
        raise record("unreadable")
    return 2 * record


class TestReadable(Exercise):
    """Corrupt records."""

    points = 2
    skills = ("streaming", "datasets", "debugging")
    hints = (
        "Which call may fail, and which exceptions mean that the record is at fault?",
        "`try` around `self.decode(record)` alone, `except (ValueError, KeyError)`, and `yield` in `else`.",
        "A new `Counter()` in each `__iter__`; after the loop compare `skipped.total()` with tolerance · total.",
    )

    def test_yields_the_others(self, lab, rng):
        """yields what can be decoded, in order, in each pass"""
        for records in ([1, ValueError, 2, KeyError, 3], [UnicodeError, 5], [4, 6], [BadFieldError, 7, ValueError]):
            readable = lab.Readable(records, decode, tolerance=1.0)
            expected = [2 * r for r in records if isinstance(r, int)]
            assert_close([list(readable), list(readable)], [expected, expected])

    def test_counts(self, lab, rng):
        """counts what it skipped by the name of the exception's class, anew in each pass"""
        records = [1, ValueError, BadFieldError, 2, ValueError, KeyError, 3, ValueError]
        readable = lab.Readable(records, decode, tolerance=1.0)
        for _ in range(2):
            list(readable)
            assert_close(dict(readable.skipped), {"ValueError": 3, "BadFieldError": 1, "KeyError": 1})

    @guard
    def test_tolerance(self, lab, rng):
        """raises RuntimeError with the number of skipped records if their share is above the tolerance, only then"""
        records = [1, 2, 3, ValueError, 4, KeyError, 5, 6]
        list(lab.Readable(records, decode, tolerance=0.25))
        list(lab.Readable([], decode, tolerance=0.0))
        list(lab.Readable([1] * 100 + [ValueError], decode))
        for given, tolerance, count in (
            (records, 0.24, "2"),
            ([ValueError] * 7, 0.5, "7"),
            ([1, ValueError], 0.4, "1"),
        ):
            with raises(RuntimeError, match=count):
                list(lab.Readable(given, decode, tolerance))
        with raises(RuntimeError, match="2"):
            list(lab.Readable([1] * 98 + [ValueError] * 2, decode))

    @guard
    def test_bugs(self, lab, rng):
        """lets every other exception through"""
        for bug in (BugError, ZeroDivisionError, IndexError):
            with raises(bug):
                list(lab.Readable([1, bug, 2], decode, tolerance=1.0))

    @guard
    def test_one_at_a_time(self, lab, rng):
        """decodes one record at a time, and starts with nothing skipped"""
        seen = []
        readable = lab.Readable([1, 2, 3, 4], lambda r: seen.append(r) or r, 1.0)
        assert dict(readable.skipped) == {}, f"expected nothing skipped at first, got {readable.skipped}"
        assert next(iter(readable)) == 1, "expected the first record, got another"
        assert len(seen) <= 1, f"expected one record to be decoded for the first, got {len(seen)}"

    def workload(self, lab, size, rng):
        records = [str(n) for n in integers(rng, 0, 100, 2048 * size).tolist()]
        return lambda: list(lab.Readable(records, int))


class Clock:
    """A clock that moves when somebody works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Batches that take `opening`, then `seconds[i]` each, then `closing` to arrive."""

    def __init__(self, clock: Clock, opening: float, seconds: list[float], closing: float) -> None:
        self.clock, self.opening, self.seconds, self.closing = clock, opening, seconds, closing

    def __iter__(self):
        self.clock.now += self.opening
        return self.batches()

    def batches(self):
        for i, duration in enumerate(self.seconds):
            self.clock.now += duration
            yield i
        self.clock.now += self.closing


class TestStopwatch(Exercise):
    """What are we waiting for?"""

    points = 2
    skills = ("throughput", "dataloaders")
    hints = (
        "Between which two moments does the loop wait? Is there waiting before the first batch, and after the last?",
        "Take the time around `step(batch)`; everything else between start and end is waiting.",
        "waiting = clock() − start − working. The pace is load + step without workers, else max(step, load / workers).",
    )

    def times(self, lab, rng, opening, closing):
        """`(waiting, working)` by the learner's stopwatch, and the truth."""
        clock = Clock()
        seconds, steps = ((integers(rng, 1, 64, 5).double() / 8).tolist() for _ in range(2))

        def step(i):
            clock.now += steps[i]

        actual = lab.stopwatch(Source(clock, opening, seconds, closing), step, clock)
        return actual, (opening + sum(seconds) + closing, sum(steps))

    def test_times(self, lab, rng):
        """tells the time for batches from the time in step"""
        actual, expected = self.times(lab, rng, 0.0, 0.0)
        assert_close(tuple(actual), expected)

    def test_start_and_end(self, lab, rng):
        """counts as waiting also the start of the iterator and the end"""
        for opening, closing in ((4.0, 0.0), (0.0, 2.5), (3.0, 1.5)):
            actual, expected = self.times(lab, rng, opening, closing)
            assert_close(tuple(actual), expected)

    def test_pace(self, lab, rng):
        """predicts the seconds of a batch: the sum without workers, else the longer of the two"""
        for load, step, workers, expected in (
            (0.5, 0.25, 0, 0.75), (0.5, 0.25, 1, 0.5), (0.5, 0.25, 4, 0.25), (3.0, 0.5, 4, 0.75), (0.25, 2.0, 0, 2.25),
            (0.25, 2.0, 2, 2.0),
        ):  # fmt: skip
            assert_close(lab.bottleneck(load, step, workers)[1], expected)

    def test_name(self, lab, rng):
        """names the larger of the two times, and the model when they are equal"""
        cases = (
            (0.5, 0.25, 0), (0.5, 0.25, 1), (0.5, 0.25, 2), (0.5, 0.25, 4), (0.25, 0.5, 0), (0.5, 0.5, 0),
            (3.0, 0.5, 4),
        )  # fmt: skip
        expected = ["loading", "loading", "model", "model", "model", "model", "loading"]
        actual = [lab.bottleneck(*case)[0] for case in cases]
        assert actual == expected, f"expected {expected} for (load, step, workers) = {cases}, got {actual}"

    @guard
    def test_one_pass(self, lab, rng):
        """goes through the batches once, and gives each to step"""
        given, passes = [], []

        class Once:
            def __iter__(self):
                passes.append(1)
                return iter("abc")

        lab.stopwatch(Once(), given.append)
        assert (given, len(passes)) == (["a", "b", "c"], 1), f"expected a, b, c in 1 pass, got {given} in {len(passes)}"


def random_mask(lengths: list[int]) -> Tensor:
    """The mask of rows of these lengths."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def filled(module: nn.Module, rng: torch.Generator) -> nn.Module:
    """`module` with random numbers in its parameters, by sorted name."""
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=rng) / 2)
    return module


def expected_logits(model: nn.Module, words: Tensor, lengths: list[int]) -> Tensor:
    """Each sentence alone, without any padding, through a GRU of the same parameters."""
    d_embed, d_hidden = model.embedding.weight.shape[1], model.head.weight.shape[1]
    gru = nn.GRU(d_embed, d_hidden, batch_first=True)
    gru.load_state_dict(model.gru.state_dict())
    logits = []
    for row, n in zip(words, lengths, strict=True):
        outputs, _ = gru(model.embedding.weight[row[:n]][None])
        logits.append(outputs[0].mean(0) @ model.head.weight[0] + model.head.bias[0])
    return torch.stack(logits)


class TestMaskedMean(Exercise):
    """Reading film reviews."""

    points = 3
    skills = ("collation", "recurrent", "numerics")
    hints = (
        "By what do you divide the sum of a row: by the time axis, or by the number of its words?",
        "`h.masked_fill(~mask[..., None], 0)` removes also NaN. How do you avoid a division by zero?",
        "Divide by `mask.sum(1, keepdim=True).clamp(min=1)`; `forward`: embedding, gru, masked_mean, head, squeeze.",
    )

    def test_values(self, lab, rng):
        """is the mean over what is data, whatever the mask"""
        for batch, time, d in ((4, 6, 3), (1, 5, 2), (5, 1, 1)):
            h = torch.randn(batch, time, d, generator=rng) + 3
            mask = torch.rand(batch, time, generator=rng) < 0.5
            mask[:, 0] = True
            expected = torch.stack([row[m].mean(0) for row, m in zip(h, mask, strict=True)])
            assert_close(lab.masked_mean(h, mask), expected)

    def test_gradients(self, lab, rng):
        """spreads the gradient over the data and gives none to padding"""
        lengths = [4, 1, 3]
        h = torch.randn(3, 4, 2, generator=rng).requires_grad_()
        mask, upstream = random_mask(lengths), torch.randn(3, 2, generator=rng)
        lab.masked_mean(h, mask).backward(upstream)
        share = mask[..., None] / torch.tensor(lengths)[:, None, None]
        assert_close(h.grad, share * upstream[:, None])

    def test_whatever_is_masked(self, lab, rng):
        """NaN and inf in masked places have no influence, and a row of padding gives zeros"""
        h = torch.randn(3, 4, 2, generator=rng)
        mask = random_mask([4, 2, 0])
        expected = torch.stack([h[0].mean(0), h[1, :2].mean(0), torch.zeros(2)])
        h = torch.where(mask[..., None], h, torch.tensor([torch.nan, torch.inf])).requires_grad_()
        actual = lab.masked_mean(h, mask)
        assert_close(actual.detach(), expected)
        actual.sum().backward()
        assert_close(h.grad, (mask / mask.sum(1, keepdim=True).clamp(min=1))[..., None].expand(3, 4, 2))

    def test_logits(self, lab, rng):
        """gives each sentence the logit that it has alone, without padding"""
        for lengths, d_embed, d_hidden in (([5, 2, 7], 4, 3), ([3], 2, 6)):
            model = filled(lab.SentenceClassifier(20, d_embed, d_hidden), rng)
            mask = random_mask(lengths)
            words = integers(rng, 1, 20, *mask.shape) * mask
            assert_close(model(words, mask), expected_logits(model, words, lengths), rtol=1e-4, atol=1e-5)

    def test_more_padding(self, lab, rng):
        """a logit does not depend on how much padding there is, nor on the words in it"""
        lengths = [5, 2, 4]
        model = filled(lab.SentenceClassifier(20, 4, 3), rng)
        mask = random_mask(lengths)
        words = integers(rng, 1, 20, *mask.shape)
        longer = torch.cat([words, integers(rng, 1, 20, 3, 6)], 1)
        wider = torch.cat([mask, torch.zeros(3, 6, dtype=torch.bool)], 1)
        assert_close(model(longer, wider), expected_logits(model, words, lengths), rtol=1e-4, atol=1e-5)

    @guard
    def test_parameters(self, lab, rng):
        """has the submodules that the text names, with their shapes"""
        shapes = {name: tuple(p.shape) for name, p in lab.SentenceClassifier(20, 4, 3).named_parameters()}
        expected = {
            "embedding.weight": (20, 4), "gru.weight_ih_l0": (9, 4), "gru.weight_hh_l0": (9, 3),
            "gru.bias_ih_l0": (9,), "gru.bias_hh_l0": (9,), "head.weight": (1, 3), "head.bias": (1,),
        }  # fmt: skip
        assert shapes == expected, f"expected {expected}, got {shapes}"

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        h, mask = torch.randn(2, 3, 2, generator=rng), random_mask([3, 1])
        before = h.clone()
        lab.masked_mean(h, mask)
        assert_close(h, before)

    def workload(self, lab, size, rng):
        h, mask = torch.randn(16, 256 * size, 64, generator=rng), torch.rand(16, 256 * size, generator=rng) < 0.5
        return lambda: lab.masked_mean(h, mask)

    def architecture(self, lab, rng):
        words, mask = integers(rng, 2, 50, 32, 20), torch.ones(32, 20, dtype=torch.bool)
        return lab.SentenceClassifier(50, 16, 32), (words, mask)


class TestWriteShards(Exercise):
    """Shards in mapped memory."""

    points = 2
    side_quest = True
    skills = ("datasets", "streaming", "memory")
    hints = (
        "Which shard holds sequence i, and where in the shard does it begin?",
        "Offsets are the cumulative sum of lengths with a 0 in front; the ends of the shards, one more cumulative sum.",
        "`np.searchsorted(ends, i, side='right')` is the shard; `np.load(path, mmap_mode='r')[start:end]` the tokens.",
    )

    def once(self, sequences):
        """The sequences, to be gone through once; a second pass would never end in some answers."""

        class Once(list):
            passes = 0

            def __iter__(self):
                self.passes += 1
                assert self.passes == 1, "expected one pass through the sequences, got a second"
                return super().__iter__()

        return Once(sequences)

    def sequences(self, rng, n):
        """Random sequences, some of them empty."""
        return [integers(rng, 0, 90_000, k).tolist() for k in integers(rng, 0, 6, n).tolist()]

    def test_files(self, lab, rng, tmp_path):
        """writes flat tokens and offsets, in shards of per_shard sequences"""
        sequences = self.sequences(rng, 7)
        (tmp_path / "from_a_list").mkdir()
        lab.write_shards(tmp_path / "from_a_list", self.once(sequences), 3)
        (tmp_path / "shards").mkdir()
        tmp_path = tmp_path / "shards"
        lab.write_shards(tmp_path, iter(sequences), 3)
        names = sorted(path.name for path in tmp_path.iterdir())
        expected = [f"{kind}-{k:05}.npy" for kind in ("offsets", "tokens") for k in range(3)]
        assert names == expected, f"expected the files {expected}, got {names}"
        for k in range(3):
            shard = sequences[3 * k : 3 * k + 3]
            tokens = np.array([t for s in shard for t in s], dtype=np.int32)
            offsets = np.array([0, *itertools.accumulate(map(len, shard))], dtype=np.int64)
            found = [np.load(tmp_path / f"{kind}-{k:05}.npy") for kind in ("tokens", "offsets")]
            assert_close([torch.from_numpy(a) for a in found], [torch.from_numpy(tokens), torch.from_numpy(offsets)])

    def write(self, folder, sequences, per_shard):
        """The files as the text describes them."""
        for k in range(-(-len(sequences) // per_shard)):
            shard = sequences[k * per_shard : (k + 1) * per_shard]
            np.save(folder / f"tokens-{k:05}.npy", np.array([t for s in shard for t in s], dtype=np.int32))
            offsets = np.array([0, *itertools.accumulate(map(len, shard))], dtype=np.int64)
            np.save(folder / f"offsets-{k:05}.npy", offsets)

    def test_reads(self, lab, rng, tmp_path):
        """gives each sequence back as int64, from whichever shard"""
        sequences = self.sequences(rng, 25)
        self.write(tmp_path, sequences, 2)
        shards = lab.Shards(tmp_path)
        assert_close([shards[i] for i in range(25)], [torch.tensor(s, dtype=torch.int64) for s in sequences])
        assert_close(len(shards), 25)

    @guard
    def test_nothing(self, lab, rng, tmp_path):
        """no sequences, no files; a folder without shards has the length 0"""
        lab.write_shards(tmp_path, [], 3)
        assert (list(tmp_path.iterdir()), len(lab.Shards(tmp_path))) == ([], 0), "expected no files and the length 0"

    @guard
    def test_outside(self, lab, rng, tmp_path):
        """raises IndexError outside 0 to len − 1"""
        self.write(tmp_path, self.sequences(rng, 5), 2)
        for i in (5, -1):
            with raises(IndexError):
                lab.Shards(tmp_path)[i]

    @guard
    def test_mapped(self, lab, rng, tmp_path):
        """maps the tokens instead of reading them, and does not carry them when it is pickled"""
        self.write(tmp_path, [integers(rng, 0, 9, 50_000).tolist()] * 2, 1)
        mapped, patch, original = [], pytest.MonkeyPatch(), np.load

        def load(file, *args, **kwargs):
            loaded = original(file, *args, **kwargs)
            mapped.append(isinstance(loaded, np.memmap) or len(loaded) < 10)
            return loaded

        patch.setattr(np, "load", load)
        try:
            shards = lab.Shards(tmp_path)
            shards[1]
        finally:
            patch.undo()
        assert all(mapped), "expected tokens to be loaded with mmap_mode='r', but they were read whole"
        size = len(pickle.dumps(shards.__getstate__()))
        assert size < 50_000, f"expected a pickle without the tokens, got {size} bytes"

    def workload(self, lab, size, rng):
        folder = Path(tempfile.mkdtemp())
        lab.write_shards(folder, integers(rng, 0, 99, 256 * size, 64).tolist(), 64)
        shards = lab.Shards(folder)
        return lambda: [shards[i] for i in range(0, len(shards), 32)]


class TestBalancedSampler(Exercise):
    """A weighted sampler."""

    points = 1
    side_quest = True
    skills = ("sampling",)
    hints = (
        "How often does an example's class occur, and what weight makes up for it?",
        "`labels.unique(return_inverse=True, return_counts=True)`; the weight of example i is 1 / count of its class.",
        "`torch.multinomial(weights, n_samples, replacement=True, generator=…)`.",
    )

    def frequencies(self, lab, labels, n=20_000):
        """How often each index is drawn."""
        drawn = torch.tensor(list(lab.BalancedSampler(labels, n, torch.Generator().manual_seed(2))))
        return torch.bincount(drawn, minlength=len(labels)).double() / n

    def test_probabilities(self, lab, rng):
        """each class is equally likely, and each example within it, whatever the class numbers"""
        for labels in ([0, 0, 0, 0, 1, 1, 2, 0], [7, 7, 3, 7, 7], [1, 1, 1]):
            y = torch.tensor(labels)[torch.randperm(len(labels), generator=rng)]
            expected = torch.tensor([1 / (len(set(labels)) * (y == c).sum()) for c in y]).double()
            # Five standard deviations of a share of 20,000 are at most 0.018.
            assert_close(self.frequencies(lab, y), expected, rtol=0.0, atol=0.018)

    def test_count(self, lab, rng):
        """yields n_samples ints, with replacement"""
        labels = torch.tensor([0, 1, 1])
        for n in (1, 2, 50):
            sampler = lab.BalancedSampler(labels, n)
            assert_close([len(list(sampler)), len(sampler)], [n, n])

    @guard
    def test_seeds(self, lab, rng):
        """draws anew in each pass, and the same from the same seed"""
        labels = integers(rng, 0, 2, 30)
        samplers = [lab.BalancedSampler(labels, 40, torch.Generator().manual_seed(5)) for _ in range(2)]
        first, second = list(samplers[0]), list(samplers[0])
        assert first != second, "expected other indices in the second pass, got the same"
        assert list(samplers[1]) == first, "expected the same indices from the same seed, got others"
        assert type(first[0]) is int, f"expected ints, got {type(first[0])}"

    def workload(self, lab, size, rng):
        sampler = lab.BalancedSampler(integers(rng, 0, 10, 16384 * size), 4096, torch.Generator().manual_seed(1))
        return lambda: list(sampler)


class TestNoisy(Exercise):
    """The same noise with any number of workers."""

    points = 1
    side_quest = True
    skills = ("reproducibility", "augmentation", "dataloaders")
    hints = (
        "What three numbers may the noise depend on, and where do you get a generator that depends on nothing else?",
        "`torch.Generator().manual_seed(…)` inside `__getitem__`. Which combination is different for every triple?",
        "`(seed * 1_000 + epoch) * 4_000 + i`.",
    )

    def test_repeats(self, lab, rng):
        """the noise of an example is the same whenever it is asked for"""
        data = torch.randn(6, 400, generator=rng)
        first, again = lab.Noisy(data, 0.5, 3), lab.Noisy(data, 0.5, 3)
        forward = [first[i] for i in range(6)]
        backward = [again[i] for i in reversed(range(6))][::-1]
        assert_close(forward, backward)
        noise = torch.stack(forward) - data
        assert_close(noise.std(), torch.tensor(0.5), rtol=0.1, atol=0.0)
        assert_close(noise.mean(), torch.tensor(0.0), rtol=0.0, atol=0.05)
        again.set_epoch(0)
        assert_close(again[5], forward[5])

    def test_independent(self, lab, rng):
        """other examples, epochs and seeds have other noise"""
        rows, zeros = [], torch.zeros(1, 300).expand(4_000, 300)
        # The last two are the same to torch, which keeps 32 bits of a seed, if examples are counted by the million.
        extremes = ((0, 999, 0), (0, 0, 3_999), (998, 999, 3_999), (999, 0, 0), (0, 0, 3_712), (657, 130, 0))
        for seed, epoch, i in (*itertools.product(range(4), range(3), range(4)), *extremes):
            noisy = lab.Noisy(zeros, 2.0, seed)
            noisy.set_epoch(epoch)
            rows.append(noisy[i])
        correlation = torch.corrcoef(torch.stack(rows))
        assert_close(correlation, torch.eye(len(rows)), rtol=0.0, atol=0.4)

    @guard
    def test_leaves_torch_alone(self, lab, rng):
        """neither reads nor moves torch's generator, and leaves the data alone"""
        data = torch.randn(3, 5, generator=rng)
        before, noisy = data.clone(), lab.Noisy(data, 1.0, 1)
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = noisy[2]
        assert torch.equal(state, torch.get_rng_state()), "expected torch's generator to stay, but it moved"
        torch.manual_seed(2)
        assert_close(noisy[2], first)
        assert_close(data, before)
        assert len(noisy) == 3, f"expected the length 3, got {len(noisy)}"

    def workload(self, lab, size, rng):
        noisy = lab.Noisy(torch.randn(64 * size, 64, generator=rng), 0.1, 1)
        return lambda: [noisy[i] for i in range(len(noisy))]
