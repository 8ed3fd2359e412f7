# %% [markdown]
"""
# Lab 4: Data loading pipeline

A model believes whatever arrives. If a worker sends every sentence twice, if padding is averaged with the words, if a
broken record ends the epoch at three in the morning, the loss curve will look almost right. In this lab you write each
part of a pipeline yourself, from files to padded batches, find out by measurement what it waits for, and train a
recurrent network on film reviews with it.

**You will be able to**

- write map-style and iterable data sets, and share a stream among workers without repeats or losses;
- pad and mask batches of unequal sequences, and group them so that little is padded;
- compute statistics of data that do not fit into memory, and augment pictures and their masks together;
- survive corrupt records without hiding them;
- say from two measured times what a training run waits for, and how many workers would help.

**Time** two hours for the eight exercises (20 points). Three side quests at the end earn XP only.

**You need to know** Labs 1 to 3 and the theory brief *Datasets, DataLoaders and pipelines* (15 minutes).
"""

# %% [markdown]
"""
## Set-up

`check("examples")` tests an exercise, `hint("examples")` gives one of three hints. Two conventions hold throughout:
a mask is boolean and **True where there is data**, and word 0 is padding, word 1 stands for every unknown word.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab4")

# %%
import itertools
import json
import math
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info
from torchvision import tv_tensors
from torchvision.transforms import v2

from labkit.data import digits, movie_sentences
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

PADDING, UNKNOWN = 0, 1
# A forked worker knows what this notebook defines. Windows cannot fork: there the cells below run without workers.
WORKERS, FORK = (2, "fork") if "fork" in multiprocessing.get_all_start_methods() else (0, None)


class Batch(NamedTuple):
    """`words` and `mask` are `(batch, time)`, int64 and bool (True = data); `labels` is `(batch,)`, float32."""

    words: Tensor
    mask: Tensor
    labels: Tensor


# %% [markdown]
r"""
## 1 · Two kinds of data set

A map-style data set answers "give me number 17"; an iterable one only "give me the next". The second kind is what you
have when data arrive over a network or lie in files too large to index. It has a trap: with several workers, each gets
a copy of the data set and iterates *all* of it. Nothing raises; the epoch just holds everything twice.

**Task.** Write two classes.

1. `Examples(texts, scores, vocabulary)`, map-style. `len(examples)` is the number of texts. `examples[i]` is a pair
   `(words, label)`: the text in lower case, split at white space, each word replaced by `vocabulary[word]`, or by
   `UNKNOWN` if it is not in there, as an **int64** tensor `(n_words,)`, also for a text without words; and the label as
   a float, 1.0 if the score is **above** 0, else 0.0. An `i` beyond the end raises `IndexError`. The three arguments
   are kept as attributes of their names: `texts`, `scores`, `vocabulary`.
2. `Stream(source)`, iterable. `source` is anything that can be iterated anew each time, maybe without end. In worker
   $k$ of $n$ the stream yields the elements $k, k + n, k + 2n, \dots$ (counted from 0) in their order; outside workers
   it yields all of them. It reads no further than it must, and each `iter(stream)` starts from the beginning.
"""


# %%
class Examples(Dataset):
    """Sentences as `(words, label)`: an int64 tensor `(n_words,)` and 1.0 for a positive score, else 0.0."""

    def __init__(self, texts: Sequence[str], scores: Tensor, vocabulary: dict[str, int]) -> None:
        ### BEGIN SOLUTION
        self.texts, self.scores, self.vocabulary = texts, scores, vocabulary
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return len(self.texts)
        ### END SOLUTION

    def __getitem__(self, i: int) -> tuple[Tensor, float]:
        ### BEGIN SOLUTION
        words = [self.vocabulary.get(word, UNKNOWN) for word in self.texts[i].lower().split()]
        return torch.tensor(words, dtype=torch.int64), float(self.scores[i] > 0)
        ### END SOLUTION


class Stream(IterableDataset):
    """The elements of `source`, shared among the workers in turn: every one in exactly one of them."""

    def __init__(self, source: Iterable) -> None:
        ### BEGIN SOLUTION
        self.source = source
        ### END SOLUTION

    def __iter__(self) -> Iterator:
        ### BEGIN SOLUTION
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        return itertools.islice(self.source, first, None, step)
        ### END SOLUTION


# %% tags=["demo"]
sentences = movie_sentences()
order = torch.randperm(len(sentences.texts), generator=torch.Generator().manual_seed(4)).tolist()
parts = {"train": order[:8500], "test": order[8500:]}
counts = Counter(word for i in parts["train"] for word in sentences.texts[i].lower().split())
vocabulary = {word: i for i, word in enumerate((w for w, n in counts.most_common() if n > 1), start=2)}
train, test = (
    Examples([sentences.texts[i] for i in part], sentences.scores[part], vocabulary) for part in parts.values()
)
print(f"{len(train)} sentences to train on, {len(test)} to test, {len(vocabulary)} words")
print(train.texts[0], train[0])

loader = DataLoader(Stream(range(10)), batch_size=None, num_workers=WORKERS, multiprocessing_context=FORK)
print("from two workers:", sorted(loader))

# %% [markdown]
"""
**What you should see.** 8500, 2105 and 10425; a sentence with its numbers; and each number from 0 to 9 once.
"""

# %%
check("examples")

# %% [markdown] tags=["explanation"]
"""
`torch.tensor([])` is float32: without the `dtype`, the one empty text among millions stops the run when it is
concatenated with int64. `get_worker_info()` is None outside workers, and must be asked in `__iter__`, because
`__init__` runs before there are any. `islice` is lazy. The price of dealing records out in turn is that every worker
*reads* all of them and throws most away: where reading is dear, deal out whole files instead.
"""

# %% [markdown]
"""
## 2 · Padding and masks

A batch is one tensor, and sentences differ in length. So they are padded to the longest of the batch, and a mask says
what is real. The mask cannot be guessed from the words afterwards: a zero may be data, too.

**Task.** Write `pad_batch(examples)`, for a list of pairs `(words, label)` as `Examples` gives them. It returns a
`Batch`: `words` `(batch, time)`, int64, where `time` is the length of the **longest** example, each example at the
left and `PADDING` to its right; `mask` of the same shape, True where there is data, **by length**, whatever the words
are; and `labels` `(batch,)`, float32. An example may be empty. The input is not changed.
"""


# %%
def pad_batch(examples: Sequence[tuple[Tensor, float]]) -> Batch:
    """Examples of unequal length as one padded batch, with its mask."""
    ### BEGIN SOLUTION
    words, labels = zip(*examples, strict=True)
    lengths = torch.tensor([len(w) for w in words])
    padded = pad_sequence(words, batch_first=True, padding_value=PADDING)
    mask = torch.arange(padded.shape[1]) < lengths[:, None]
    return Batch(padded, mask, torch.tensor(labels, dtype=torch.float32))
    ### END SOLUTION


# %% tags=["demo"]
print(pad_batch([(torch.tensor([5, 3, 8]), 1.0), (torch.tensor([7]), 0.0)]))

# %% [markdown]
"""
**What you should see.** The rows `[5, 3, 8]` and `[7, 0, 0]`; three times True, and once True and twice False.
"""

# %%
check("pad_batch")

# %% [markdown] tags=["explanation"]
"""
`arange(time) < lengths[:, None]` is the idiom: a row of positions against a column of lengths. Note where this runs: in
the worker. Whatever collation can do is off the path of the model.
"""

# %% [markdown]
r"""
## 3 · Batches of similar length

One long sentence makes a whole batch long. Sorting everything would end the waste, and the randomness with it. The way
between is a **bucket**: shuffle, and sort only within short stretches of the shuffled order.

**Task.** Write the batch sampler `BucketSampler(lengths, batch_size, pool=50, generator=None)`. Each `iter(sampler)`

1. shuffles all indices;
2. cuts this order into runs of `batch_size * pool` indices (the last may be shorter);
3. sorts each run by length, and cuts it into batches of `batch_size`; what is left over at the end of the last run is
   one smaller batch;
4. yields **all** batches, each a list of ints, in **random order**.

Every epoch draws anew, from `generator`, or from torch's default generator if it is `None`: the same seed gives the
same epochs. `len(sampler)` is the number of batches. `lengths` is a tensor or a sequence of ints, with at least one.
"""


# %%
class BucketSampler(Sampler[list[int]]):
    """Random batches of examples of similar length."""

    def __init__(
        self, lengths: Sequence[int] | Tensor, batch_size: int, pool: int = 50, generator: torch.Generator | None = None
    ) -> None:
        ### BEGIN SOLUTION
        self.lengths = torch.as_tensor(lengths)
        self.batch_size, self.pool, self.generator = batch_size, pool, generator
        ### END SOLUTION

    def __iter__(self) -> Iterator[list[int]]:
        ### BEGIN SOLUTION
        order = torch.randperm(len(self.lengths), generator=self.generator)
        batches = []
        for run in order.split(self.batch_size * self.pool):
            batches += run[self.lengths[run].argsort()].split(self.batch_size)
        for i in torch.randperm(len(batches), generator=self.generator):
            yield batches[i].tolist()
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return math.ceil(len(self.lengths) / self.batch_size)
        ### END SOLUTION


# %% tags=["demo"]
lengths = torch.tensor([len(text.split()) for text in train.texts])
for pool in (1, 5, 50):
    cells = sum(len(batch) * lengths[batch].max() for batch in BucketSampler(lengths, 32, pool))
    print(f"runs of {pool:2} batches: {1 - lengths.sum() / cells:.0%} of the cells are padding")

# %% [markdown]
"""
**What you should see.** Runs of one batch change nothing: half of the cells are padding. With runs of five it is
a fifth, and with runs of fifty 3 %.
"""

# %%
check("bucket_sampler")

# %% [markdown] tags=["explanation"]
"""
Because a run is a whole number of batches, only the last one of all can be short, and `len` is a plain division. Step 4
is the one that gets forgotten. Without it every fifty batches go from short to long, and the model takes its last
steps of each run on long sentences.
"""

# %% [markdown]
r"""
## 4 · Mean and variance of a stream

Inputs are normalised by the mean and variance of the training data, which may be a terabyte and pass by once. The
textbook's $E[x^2] - E[x]^2$ subtracts two large numbers and can lose every digit. Chan's formula does not: it merges
two sets, each known by count $n$, mean $\mu$ and the sum of squared deviations from its **own** mean, $S$:

$$\delta = \mu_B - \mu_A, \qquad n = n_A + n_B, \qquad \mu = \mu_A + \delta\,\frac{n_B}{n}, \qquad
S = S_A + S_B + \delta^2\,\frac{n_A n_B}{n}$$

**Task.** Write `RunningMoments(d)` with the attributes `count` (int), `mean` and `squares` (the $S$ above), both
**float64** `(d,)`, all zero at first.

- `update(batch)` adds the rows of `batch`, `(n, d)`, of any dtype (uint8 too) and any `n`, also 0 or 1.
- `merge(other)` adds what another `RunningMoments` has seen, as from another worker; either may be empty. `other` is
  not changed, then or by later updates.
- `var` is the **biased** variance `(d,)`, $S / n$; zeros as long as there are no data.
"""


# %%
class RunningMoments:
    """Count, mean and variance of rows that pass by in batches."""

    def __init__(self, d: int) -> None:
        ### BEGIN SOLUTION
        self.count = 0
        self.mean = torch.zeros(d, dtype=torch.float64)
        self.squares = torch.zeros(d, dtype=torch.float64)
        ### END SOLUTION

    def update(self, batch: Tensor) -> None:
        ### BEGIN SOLUTION
        if len(batch):
            batch = batch.double()
            mean = batch.mean(0)
            self._combine(len(batch), mean, (batch - mean).square().sum(0))
        ### END SOLUTION

    def merge(self, other: "RunningMoments") -> None:
        ### BEGIN SOLUTION
        if other.count:
            self._combine(other.count, other.mean, other.squares)

    def _combine(self, count: int, mean: Tensor, squares: Tensor) -> None:
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.squares = self.squares + squares + delta.square() * (self.count * count / total)
        self.count = total
        ### END SOLUTION

    @property
    def var(self) -> Tensor:
        ### BEGIN SOLUTION
        return self.squares / max(self.count, 1)
        ### END SOLUTION


# %% tags=["demo"]
images = digits().images.float() / 16
pixels = RunningMoments(1)
for batch in images.split(100):
    pixels.update(batch.reshape(-1, 1))
print(f"digits: mean {pixels.mean.item():.4f}, standard deviation {pixels.var.sqrt().item():.4f}")

for origin in (1e2, 1e4, 1e6):
    x = origin + torch.randn(10_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    far = RunningMoments(1)
    far.update(x)
    textbook = x.float().square().mean() - x.float().mean().square()
    print(f"around {origin:9,.0f}: yours {far.var.item():.4f}, textbook in float32 {textbook.item():.4f}")

# %% [markdown]
"""
**What you should see.** A mean of 0.3053 and a deviation of 0.3760. Yours stays at 1.0145 wherever the data lie; the
textbook's is right around 100, and nonsense from 10,000 on. It may even be negative.
"""

# %%
check("running_moments")

# %% [markdown] tags=["explanation"]
"""
`update` is `merge` with a batch that has been summed up first, so one formula serves both. An empty `self` needs no
special case: with `n_A = 0` the mean moves all the way, and the last term vanishes. Nothing is written in place, so
nothing of `other` is shared. Merging in any order and grouping gives the same, which is what lets 512 workers do it.
"""

# %% [markdown]
r"""
## 5 · Augmentation, for pictures and their masks

Augmentation tells the model what does not matter: a digit is the same digit one pixel further. If a picture comes with
a mask of its pixels, the mask must move *along*. This is what `torchvision.transforms.v2` is for. A
transform draws its random numbers once, in `make_params`, and then `transform` is called for each image and mask of
the sample. Labels and anything else pass untouched.

**Task.** Write two things.

1. `RandomShift(limit)`, a `v2.Transform`. At each call it draws `dy` and `dx` from the integers $-\text{limit}$ to
   $\text{limit}$, independently, all equally likely, **once per sample**, from torch's generator. Then
   $\text{out}[\dots, y, x] = \text{in}[\dots, y - dy, x - dx]$, and **0** where that lies outside: a positive `dy`
   moves the picture down. Shape, dtype and kind (`tv_tensors.Image`, `Mask`) stay. `limit` is smaller than the picture.
2. `augmentation(limit, mean, std)` returns a transform that does three things in this order: shift by
   `RandomShift(limit)`; make uint8 images float32 between 0 and 1; normalise images, $(x - \text{mean}) / \text{std}$,
   with `mean` and `std` one number for each channel. So what is shifted in is *black before* normalising. A mask is
   only shifted.
"""


# %%
class RandomShift(v2.Transform):
    """Moves images and masks `(..., height, width)` by up to `limit` pixels, together; zeros come in."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.limit = limit
        ### END SOLUTION

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        ### BEGIN SOLUTION
        dy, dx = torch.randint(-self.limit, self.limit + 1, (2,)).tolist()
        return {"dy": dy, "dx": dx}
        ### END SOLUTION

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        ### BEGIN SOLUTION
        dy, dx = params["dy"], params["dx"]
        height, width = inpt.shape[-2:]
        padded = F.pad(inpt, (max(dx, 0), max(-dx, 0), max(dy, 0), max(-dy, 0)))
        top, left = max(-dy, 0), max(-dx, 0)
        return tv_tensors.wrap(padded[..., top : top + height, left : left + width], like=inpt)
        ### END SOLUTION


def augmentation(limit: int, mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """Shift, scale to 0 to 1, normalise."""
    ### BEGIN SOLUTION
    return v2.Compose([RandomShift(limit), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    ### END SOLUTION


# %% tags=["demo"]
picture = tv_tensors.Image((images[10] * 255).to(torch.uint8))
outline = tv_tensors.Mask(picture > 0)
augment = augmentation(2, [pixels.mean.item()], [pixels.var.sqrt().item()])
figure, axes = plt.subplots(2, 6, figsize=(8, 3))
for column in axes.T:
    shifted, moved, label = augment(picture, outline, "0")
    column[0].imshow(shifted[0], cmap="gray")
    column[1].imshow(moved[0], cmap="gray")
for panel in axes.flat:
    panel.set_axis_off()
figure.suptitle("Six augmentations of one digit, and of its mask")
plt.show()
print(shifted.dtype, moved.dtype, label)

# %% [markdown]
"""
**What you should see.** Six positions of the same digit, with the mask below in the same place. `torch.float32
torch.bool 0`.
"""

# %%
check("random_shift")

# %% [markdown] tags=["explanation"]
"""
Padding on one side and cropping on the other is the shift; `torch.roll` would bring back on the left what left on the
right. `tv_tensors.wrap` gives the result its kind back, since plain operations return plain tensors, and
`ToDtype(scale=True)` and `Normalize` look at the kind to know that a mask is not theirs to touch. Draw in `transform`
instead of `make_params`, and picture and mask part company.
"""

# %% [markdown]
"""
## 6 · Corrupt records

In a million records some are broken: a truncated line, a missing field, half a JPEG. Raising ends the run; a bare
`except: pass` hides the day on which *all* of them are broken, or a bug of your own. The answer is to skip, to count by
cause, and to fail when the share is no accident any more.

**Task.** Write `Readable(records, decode, tolerance=0.01)`, an iterable data set. Iterating yields `decode(record)` for
each record in order, one at a time.

- A record for which `decode` raises `ValueError` or `KeyError` (or a subclass of either) is **skipped** and counted in
  `skipped`, a `Counter` by the **name of the exception's class**. Any other exception is a bug and passes through.
- `skipped` is empty after construction, and counted **anew in each pass**; each pass goes through all records.
- After the last record a `RuntimeError` is raised if the share of records that were skipped is **above** `tolerance`;
  the message contains their number. A share equal to it is fine, and so is a pass without any records.
"""


# %%
class Readable(IterableDataset):
    """What `decode` makes of the records that it can read; the others are counted in `skipped`, by cause."""

    def __init__(self, records: Iterable, decode: Callable[[Any], Any], tolerance: float = 0.01) -> None:
        ### BEGIN SOLUTION
        self.records, self.decode, self.tolerance = records, decode, tolerance
        self.skipped = Counter()
        ### END SOLUTION

    def __iter__(self) -> Iterator:
        ### BEGIN SOLUTION
        self.skipped = Counter()
        total = 0
        for record in self.records:
            total += 1
            try:
                example = self.decode(record)
            except (ValueError, KeyError) as error:
                self.skipped[type(error).__name__] += 1
            else:
                yield example
        if self.skipped.total() > self.tolerance * total:
            raise RuntimeError(f"{self.skipped.total()} of {total} records could not be read: {dict(self.skipped)}")
        ### END SOLUTION


# %% tags=["demo"]
def decode(line: str) -> tuple[str, float]:
    """The text and the score of one line of JSON."""
    record = json.loads(line)
    return record["text"], float(record["score"])


lines = [json.dumps({"text": t, "score": s}) for t, s in zip(train.texts[:1000], train.scores.tolist(), strict=False)]
lines[17] = lines[17][:20]
lines[404] = json.dumps({"text": "no score"})
lines[405] = json.dumps({"text": "not a number", "score": "n/a"})
readable = Readable(lines, decode)
print(sum(1 for _ in readable), "read; skipped:", dict(readable.skipped))
try:
    list(Readable(lines[400:450], decode))
except RuntimeError as error:
    print("refused:", error)

# %% [markdown]
"""
**What you should see.** 997 read, one skipped for each of three causes. In fifty lines, two bad ones are too many.
"""

# %%
check("readable")

# %% [markdown] tags=["explanation"]
"""
The `try` holds the one call that may fail, and `yield` stands in `else`. `JSONDecodeError` and `UnicodeDecodeError` are
both `ValueError`s, which is why so short a list of exceptions goes far. Beware of workers: each counts in its own copy
of the data set, and yours stays at zero. There the count must travel with the data, or in a tensor with
`share_memory_()`.
"""

# %% [markdown]
r"""
## 7 · What are we waiting for?

Before you make anything faster, find out what is slow. Two times decide: the seconds it takes to *load* a batch in one
process, and those of a *step* of the model. Without workers they add up. With $n$ workers both go on at once, and the
slower one sets the pace.

**Task.** Write two functions.

1. `stopwatch(batches, step, clock=time.perf_counter)` goes once through `batches`, any iterable, calls `step(batch)`
   for each, and returns `(waiting, working)` in seconds: `working` is the time inside `step`, and `waiting` **all the
   rest** from start to end: starting the iterator, each next batch, and finding out that there are no more. `clock()`
   gives the time.
2. `bottleneck(load, step, workers)` returns `(name, seconds)`: the seconds that a batch takes, `load + step` without
   workers, $\max(\text{step}, \text{load} / n)$ with $n \ge 1$ of them; and the name of the larger of the two times,
   `"loading"` or `"model"`, where loading counts as `load` without workers and as `load / n` with them. When they are
   equal it is `"model"`.
"""


# %%
def stopwatch(
    batches: Iterable, step: Callable[[Any], object], clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """Seconds spent `(waiting, working)`: for batches, and in `step`."""
    ### BEGIN SOLUTION
    start, working = clock(), 0.0
    for batch in batches:
        arrived = clock()
        step(batch)
        working += clock() - arrived
    return clock() - start - working, working
    ### END SOLUTION


def bottleneck(load: float, step: float, workers: int) -> tuple[str, float]:
    """What limits the speed, `"loading"` or `"model"`, and the seconds per batch that follow."""
    ### BEGIN SOLUTION
    loading = load / max(workers, 1)
    seconds = max(loading, step) if workers else loading + step
    return ("loading" if loading > step else "model"), seconds
    ### END SOLUTION


# %% [markdown]
"""
To see it, we pretend: an example takes 1 ms to load, and a step of the model 5 ms and a quarter more for each example.
The lines are your predictions from two measured times; the points are measured.
"""


# %% tags=["demo"]
class Slow(Dataset):
    """Examples which take a millisecond each to load, as from a disk far away."""

    def __len__(self) -> int:
        return 480

    def __getitem__(self, i: int) -> int:
        time.sleep(0.001)
        return i


def step(batch: Tensor) -> None:
    """A model that takes its time."""
    time.sleep(0.005 + 0.00025 * len(batch))


figure, axes = plt.subplots(figsize=(7, 3.6))
choices = range(WORKERS + 1)
for size, colour in zip((8, 32), COLOURS, strict=False):
    n_batches = len(Slow()) // size
    waiting, working = stopwatch(DataLoader(Slow(), batch_size=size), step)
    load, work = waiting / n_batches, working / n_batches
    speeds = []
    for workers in choices:
        loader = DataLoader(
            Slow(), batch_size=size, num_workers=workers, multiprocessing_context=FORK if workers else None
        )
        batches = iter(loader)
        next(batches), next(batches)  # the workers have started
        rest = n_batches - 2  # and not the end, where the workers are stopped
        seconds = sum(stopwatch(itertools.islice(batches, rest), step)) / rest
        speeds.append(size / seconds)
        name, predicted = bottleneck(load, work, workers)
        print(
            f"batch {size:2}, {workers} workers: {1000 * seconds:3.0f} ms, predicted {1000 * predicted:3.0f} ({name})"
        )
    axes.plot(choices, speeds, "o", color=colour)
    fine = range(5)
    axes.plot(fine, [size / bottleneck(load, work, n)[1] for n in fine], "-", color=colour, label=f"batches of {size}")
axes.set(xlabel="workers", ylabel="examples per second", title="More workers help until the model is the bottleneck")
axes.set_xticks(range(5))
axes.set_ylim(0)
axes.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** Points near the lines, or a little below if your machine is busy. With batches of 8 a second
worker ends the wait, and further ones would bring nothing; with batches of 32, whose steps cost less per example, it
takes a third. (Sleeping workers need no core. Real decoding does, and then more workers than cores bring nothing.)
"""

# %%
check("stopwatch")

# %% [markdown] tags=["explanation"]
"""
Waiting is what is left when the work is subtracted, so no gap between two readings is lost. On a GPU `step` must end
with a synchronisation, or the work of one step shows up as waiting in the next. To raise `prefetch_factor` does not
change the pace: a longer queue evens out batches that are slow *now and then*, and helps nothing against loading that
is slow on average.
"""

# %% [markdown]
r"""
## 8 · The payoff: reading film reviews

Now all parts together: sentences, bucketed, padded, masked, into a recurrent network. The one place where padding can
still leak is where a sentence becomes one vector. The mean over time must be a mean over the *words*:

$$\operatorname{mean}(h, m)_b = \frac{\sum_t m_{bt}\, h_{bt}}{\sum_t m_{bt}}$$

**Task.** Write two things.

1. `masked_mean(h, mask)` for `h` `(batch, time, d)` and `mask` `(batch, time)`, True = data, gives `(batch, d)`. What
   stands in masked places has no influence, **even inf or NaN**, and gets a gradient of zero. A row that is all
   masked gives zeros, and finite gradients.
2. `SentenceClassifier(n_words, d_embed, d_hidden)` with the submodules `embedding` (`nn.Embedding`, `n_words` by
   `d_embed`), `gru` (`nn.GRU`, `d_embed` to `d_hidden`, one layer, one direction, batch first) and `head` (`nn.Linear`,
   `d_hidden` to 1). `forward(words, mask)` embeds, runs the GRU over the whole padded batch from a state of zeros,
   takes the masked mean of its outputs, and returns the head's logits, `(batch,)`. A logit must not depend on how much
   padding there is to its right.
"""


# %%
def masked_mean(h: Tensor, mask: Tensor) -> Tensor:
    """The mean over time of what is data; `(batch, time, d)` and `(batch, time)` in, `(batch, d)` out."""
    ### BEGIN SOLUTION
    mask = mask[..., None]
    return h.masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp(min=1)
    ### END SOLUTION


class SentenceClassifier(nn.Module):
    """Embedding, GRU, masked mean, head; `(batch, time)` in, logits `(batch,)` out."""

    def __init__(self, n_words: int, d_embed: int, d_hidden: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.embedding = nn.Embedding(n_words, d_embed)
        self.gru = nn.GRU(d_embed, d_hidden, batch_first=True)
        self.head = nn.Linear(d_hidden, 1)
        ### END SOLUTION

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        outputs, _ = self.gru(self.embedding(words))
        return self.head(masked_mean(outputs, mask)).squeeze(-1)
        ### END SOLUTION


# %% tags=["demo"]
def accuracy(model: SentenceClassifier, loader: DataLoader) -> float:
    """The share of sentences whose sign is right."""
    model.eval()
    with torch.no_grad():
        right = [(model(b.words, b.mask) > 0) == (b.labels > 0.5) for b in loader]
    return torch.cat(right).float().mean().item()


def train_classifier(epochs: int, seed: int) -> list[float]:
    """The accuracy on the test sentences after each epoch."""
    torch.manual_seed(seed)
    model = SentenceClassifier(len(vocabulary) + 2, 48, 48)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    sampler = BucketSampler(lengths, 64, pool=20, generator=torch.Generator().manual_seed(seed))
    batches = DataLoader(train, batch_sampler=sampler, collate_fn=pad_batch)
    held_out = DataLoader(test, batch_size=256, collate_fn=pad_batch)
    curve = []
    for _ in range(epochs):
        model.train()
        for words, mask, labels in batches:
            hidden = torch.rand(words.shape) < 0.3  # forget some words, so that none is learned by heart
            loss = F.binary_cross_entropy_with_logits(model(words.masked_fill(hidden, UNKNOWN), mask), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        curve.append(accuracy(model, held_out))
    return curve


from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

curve = train_classifier(epochs=5, seed=0)
bags = TfidfVectorizer()
linear = LogisticRegression(max_iter=1000).fit(bags.fit_transform(train.texts), train.scores > 0)
baseline = linear.score(bags.transform(test.texts), test.scores > 0)
majority = max((test.scores > 0).float().mean().item(), (test.scores <= 0).float().mean().item())
print(f"GRU {curve[-1]:.1%}, TF-IDF and logistic regression {baseline:.1%}, majority {majority:.1%}")

figure, axes = plt.subplots(figsize=(7, 3.6))
axes.plot(range(1, len(curve) + 1), curve, "o-", color=COLOURS[0], label="GRU")
axes.axhline(baseline, color=COLOURS[1], linestyle="--", label="TF-IDF and logistic regression")
axes.axhline(majority, color=COLOURS[2], linestyle=":", label="majority class")
axes.set(xlabel="epoch", ylabel="accuracy on 2,105 sentences", title="Is this sentence positive?")
axes.set_xticks(range(1, len(curve) + 1))
axes.legend(loc="center right")
plt.show()

# %% [markdown]
"""
**What you should see.** Both read far better than the majority class, 50.3 %. The GRU ends at about 72 to 74 %, and
bags of words, with a linear model that takes a second, have 75.9 %. On 8,500 sentences word order is hardly worth its
parameters; an honest baseline is how you find out.
"""

# %%
check("masked_mean")

# %% [markdown] tags=["explanation"]
"""
`masked_fill` *replaces* what is masked; multiplying by the mask does not, since NaN · 0 is NaN. `clamp` turns the
division of nothing by nothing into zero. The GRU reads from left to right and the padding is at the right, so outputs
on words never depend on it. A bidirectional one would begin with the padding: for that, and to save the arithmetic,
there is `pack_padded_sequence`.
"""

# %% [markdown]
"""
## A measured comparison

What are buckets worth to the model? 2,000 sentences forward and backward, in batches at random and in buckets.
"""

# %% tags=["demo"]
model = SentenceClassifier(len(vocabulary) + 2, 64, 64)


def learn(batch: Batch) -> None:
    """There and back, without a step."""
    model(batch.words, batch.mask).sum().backward()


for name, pool in (("at random", 1), ("in buckets", 50)):
    sampler = BucketSampler(lengths[:2000], 32, pool, generator=torch.Generator().manual_seed(0))
    waiting, working = stopwatch(DataLoader(train, batch_sampler=sampler, collate_fn=pad_batch), learn)
    limit, _ = bottleneck(waiting, working, workers=0)
    print(f"{name:10}: model {working:.1f} s, loading {waiting:.1f} s: the bottleneck is the {limit}")

# %% [markdown]
"""
The loading is the same, and the model needs about half the time: half of the cells were padding, and a recurrent
network cannot skip them. The bottleneck is the model, so workers would bring next to nothing here. Buckets did.
"""

# %% [markdown]
"""
## Common pitfalls

The commonest wrong turns in the exercises above, with their cures: best read after your own attempt.

<!-- pitfalls -->
"""

# %% [markdown]
"""
## At scale

- **Packing instead of padding.** Language models are trained on sequences that are concatenated and cut to one length,
  with a mask that keeps documents apart. Then nothing is padded at all.
- **Batches by tokens.** With a fixed number of sentences, a batch of long ones needs many times the memory of a batch
  of short ones. Production samplers fix the number of *tokens* instead, and the loss is averaged over tokens, too.
- **Two levels of sharing.** In a job of many machines a record belongs to one worker of one rank: shard by
  `rank * num_workers + worker.id` of `world_size * num_workers`, and see to it that all ranks get the same number of
  batches, since they wait for each other at every step.
- **Shuffle what you cannot index.** A stream is shuffled with the order of its shards and a buffer: fill it, then give
  out a random element for each new one.
- **Quarantine.** A skipped record is written aside with its cause and its source. Someone will want to know.
"""

# %% [markdown]
"""
## Side quests

### Side quest A · Shards in mapped memory

Sentences of unequal length can lie end to end in one flat file, with a second file that says where each begins. Mapped
into memory, such a file costs nothing to open, the system keeps what is used, and all workers share it.

**Task.** Write `write_shards(folder, sequences, per_shard)`: it writes sequences of ints into shards of `per_shard`
sequences each (the last may hold fewer), numbered from 0. Shard 3 is two files of `np.save` in `folder`:
`tokens-00003.npy`, int32, all its tokens end to end, and `offsets-00003.npy`, int64, one entry more than it has
sequences: where each begins, and at last the number of all tokens. `sequences` may be an iterator: go through it
once. Without sequences there are no files, and a folder without shards has the length 0. And the map-style data set
`Shards(folder)` over such files, in the order of their numbers: `len` and `shards[i]`, an int64 tensor; `IndexError`
outside 0 to `len - 1`. The tokens are **mapped** (`mmap_mode="r"`), not read: pickling a `Shards`, as spawned workers
do, must not carry them.
"""


# %%
def write_shards(folder: Path, sequences: Iterable[Sequence[int]], per_shard: int) -> None:
    """Write sequences of ints as flat shards with offsets."""
    ### BEGIN SOLUTION
    remaining = iter(sequences)
    for number in itertools.count():
        shard = list(itertools.islice(remaining, per_shard))
        if not shard:
            return
        tokens = np.fromiter(itertools.chain.from_iterable(shard), dtype=np.int32)
        np.save(folder / f"tokens-{number:05}.npy", tokens)
        np.save(folder / f"offsets-{number:05}.npy", np.cumsum([0, *map(len, shard)], dtype=np.int64))
    ### END SOLUTION


class Shards(Dataset):
    """Sequences of ints from the shards in `folder`; one int64 tensor each."""

    def __init__(self, folder: Path) -> None:
        ### BEGIN SOLUTION
        self.folder = folder
        self.offsets = [np.load(path) for path in sorted(self.folder.glob("offsets-*.npy"))]
        self.ends = np.cumsum([len(offsets) - 1 for offsets in self.offsets])
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return int(self.ends[-1]) if len(self.ends) else 0
        ### END SOLUTION

    def __getitem__(self, i: int) -> Tensor:
        ### BEGIN SOLUTION
        if not 0 <= i < len(self):
            raise IndexError(f"there are {len(self)} sequences, and none has the number {i}")
        shard = int(np.searchsorted(self.ends, i, side="right"))
        row = i - (int(self.ends[shard - 1]) if shard else 0)
        start, end = self.offsets[shard][row : row + 2]
        tokens = np.load(self.folder / f"tokens-{shard:05}.npy", mmap_mode="r")
        return torch.from_numpy(tokens[start:end].astype(np.int64))
        ### END SOLUTION


# %% tags=["demo"]
with TemporaryDirectory() as folder:
    write_shards(Path(folder), (train[i][0].tolist() for i in range(1000)), per_shard=300)
    shards = Shards(Path(folder))
    print(sorted(path.name for path in Path(folder).iterdir()))
    print(len(shards), torch.equal(shards[999], train[999][0]))

# %% [markdown]
"""
**What you should see.** Eight files, four of each kind; `1000 True`.
"""

# %%
check("write_shards")

# %% [markdown] tags=["explanation"]
"""
The offsets are few and are read; the tokens are mapped anew for each access, so nothing large is ever part of the
object. Opening costs some microseconds; a cache of open maps, left out of the pickle by `__getstate__`, saves them.
`astype` copies the slice out of the read-only map.
"""

# %% [markdown]
r"""
### Side quest B · A weighted sampler

When one class in fifty is what you look for, most batches hold none of it.

**Task.** Write `BalancedSampler(labels, n_samples, generator=None)`. Each pass yields `n_samples` indices (ints), drawn
independently **with replacement**: first every class that occurs is equally likely, and within it every example, so
example $i$ has the probability $1 / (n_{classes} \cdot n_{y_i})$. `labels` is an int64 tensor `(n,)`; class numbers may
have gaps. `len(sampler)` is `n_samples`. Draws come from `generator`, or torch's default one; another pass draws anew.
"""


# %%
class BalancedSampler(Sampler[int]):
    """Indices drawn so that all classes are equally likely."""

    def __init__(self, labels: Tensor, n_samples: int, generator: torch.Generator | None = None) -> None:
        ### BEGIN SOLUTION
        _, which, counts = labels.unique(return_inverse=True, return_counts=True)
        self.weights = 1 / counts[which].double()
        self.n_samples, self.generator = n_samples, generator
        ### END SOLUTION

    def __iter__(self) -> Iterator[int]:
        ### BEGIN SOLUTION
        drawn = torch.multinomial(self.weights, self.n_samples, replacement=True, generator=self.generator)
        return iter(drawn.tolist())
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return self.n_samples
        ### END SOLUTION


# %% tags=["demo"]
rare = (torch.arange(1000) % 50 == 0).long()
print("share of the rare class:", rare[list(BalancedSampler(rare, 5000))].double().mean().item())

# %% [markdown]
"""
**What you should see.** About a half, up from 2 %.
"""

# %%
check("balanced_sampler")

# %% [markdown] tags=["explanation"]
"""
`multinomial` normalises the weights itself. PyTorch's `WeightedRandomSampler` is this, for weights that you compute.
Remember at the end that the model has been shown another world: its probabilities for the rare class are too high by
the factor that you gave it.
"""

# %% [markdown]
"""
### Side quest C · The same noise with any number of workers

With `num_workers=0` and `num_workers=2` the same seed gives *different* augmentations: each worker has a generator of
its own, and who draws how often depends on who gets which batch. Where exact repetition counts, the noise must be a
function of the example, not of the worker.

**Task.** Write `Noisy(data, std, seed)`, map-style over a float tensor `data` `(n, d)`: `noisy[i]` is `data[i]` plus
normally distributed noise with deviation `std`, which depends on **seed, epoch and i alone**: the same whenever and
wherever it is asked for, independent for different examples, epochs and seeds. `noisy.set_epoch(epoch)` sets the epoch,
0 at first. Torch's default generator is neither read nor moved. Seeds and epochs are below 1,000, and `n` is at most
4,000. (On the CPU torch takes 32 bits of a seed and forgets the rest: so many triples, and hardly more, it can tell
apart.)
"""


# %%
class Noisy(Dataset):
    """Rows with noise that depends on seed, epoch and index alone."""

    def __init__(self, data: Tensor, std: float, seed: int) -> None:
        ### BEGIN SOLUTION
        self.data, self.std, self.seed, self.epoch = data, std, seed, 0
        ### END SOLUTION

    def set_epoch(self, epoch: int) -> None:
        ### BEGIN SOLUTION
        self.epoch = epoch
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return len(self.data)
        ### END SOLUTION

    def __getitem__(self, i: int) -> Tensor:
        ### BEGIN SOLUTION
        generator = torch.Generator().manual_seed((self.seed * 1_000 + self.epoch) * 4_000 + i)
        return self.data[i] + self.std * torch.randn(self.data.shape[1:], generator=generator)
        ### END SOLUTION


# %% tags=["demo"]
noisy = Noisy(torch.zeros(8, 3), 1.0, seed=5)
runs = []
for workers in dict.fromkeys((0, WORKERS)):
    loader = DataLoader(noisy, batch_size=2, num_workers=workers, multiprocessing_context=FORK if workers else None)
    runs.append(torch.cat(list(loader)))
print("the same with and without workers:", torch.equal(runs[0], runs[-1]))

# %% [markdown]
"""
**What you should see.** `True`.
"""

# %%
check("noisy")

# %% [markdown] tags=["explanation"]
"""
A small generator for each example costs some microseconds. The seed is a number in mixed radix, so no two triples
share one; `seed + epoch + i` would give example 3 of epoch 1 the noise of example 4 of epoch 0. This is also what makes
a run resume exactly: the noise of step 10,000 can be had without the steps before it.
"""

# %% [markdown]
"""
## Recap

You have built every part between a file and a model: data sets that share their work, batches that know what is
padding, samplers that keep it small, statistics of a stream, transforms that keep pictures and masks together, a reader
that survives and reports, and a stopwatch that says what is worth improving.

**Next** comes Lab 5: the same question of where time goes, asked of the model itself.
"""
