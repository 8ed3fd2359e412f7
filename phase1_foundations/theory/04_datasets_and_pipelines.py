# %% [markdown]
"""
# Datasets, DataLoaders and pipelines

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two.*

A GPU that waits for data costs as much as one that computes. And a pipeline that repeats some rows and loses others
trains a model on data that do not exist. Feeding a model is therefore two problems at once: **speed**, which you
notice, and **honesty**, which you do not.

PyTorch splits the work among five small parts. Know what each one promises, and both problems become local.
"""

# %%
import itertools
import multiprocessing
import statistics
import time

import torch
from matplotlib import pyplot as plt
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    default_collate,
    get_worker_info,
)

from labkit.data import movie_sentences
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()
# A forked worker knows what this notebook defines. Windows cannot fork: there the cells below run without workers.
WORKERS, FORK = (2, "fork") if "fork" in multiprocessing.get_all_start_methods() else (0, None)

# %% [markdown]
"""
## Five parts

- A **data set** knows the examples. *Map-style*: `data[i]` and `len(data)`, any example at any time. *Iterable-style*:
  only `iter(data)`, for streams that have no length or no random access.
- A **sampler** decides the order: it yields indices, and nothing else. Shuffling, weighting rare classes, sharding
  among machines are all samplers.
- A **batch sampler** groups indices. Batches of similar length are its job.
- **Collation** turns a list of examples into one batch: stack, or pad and mask.
- **Workers** run the last part in other processes, a few batches ahead of the model.

The default for each is what you would guess, and each can be replaced without touching the others. Watch the indices
pass through, on a data set whose examples are their own names.
"""


# %%
class Names(Dataset):
    """Ten examples, each of which says its own index."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int) -> str:
        return f"example {i}"


order = list(RandomSampler(Names(), generator=torch.Generator().manual_seed(3)))
groups = list(BatchSampler(order, batch_size=4, drop_last=False))
print("sampler      :", order)
print("batch sampler:", groups)
print("data set     :", [Names()[i] for i in groups[0]])
print("collation    :", default_collate([(torch.zeros(2), 0), (torch.ones(2), 1)]))

# %% [markdown]
"""
Collation is where the shape of a batch is decided. `default_collate` stacks; it needs examples of one shape. Sentences
have many, so *you* decide: pad to the longest of the batch, and return a mask that says what is real, True where there
is data. Everything downstream (means, attention, losses) must use that mask, or the padding becomes data.

## What padding costs

Padding is arithmetic on nothing. How much of it there is depends on who shares a batch. Here are 10,605 sentences from
film reviews, in batches of 32, grouped in three ways: at random; sorted by length; and in *buckets*, shuffled first and
then sorted within runs of fifty batches.
"""

# %%
lengths = torch.tensor([len(text.split()) for text in movie_sentences().texts])
generator = torch.Generator().manual_seed(0)
shuffled = torch.randperm(len(lengths), generator=generator)
bucket = 50 * 32
groupings = {
    "at random": shuffled,
    "in buckets": torch.cat([run[lengths[run].argsort()] for run in shuffled.split(bucket)]),
    "sorted": lengths.argsort(),
}


def waste(order: Tensor) -> Tensor:
    """For each batch of 32 in this order, the share of its padded cells that hold nothing."""
    return torch.tensor([1 - lengths[b].sum() / (lengths[b].max() * len(b)) for b in order.split(32)])


figure, axes = plt.subplots(figsize=(8, 3.2))
for (name, order), colour in zip(groupings.items(), COLOURS, strict=False):
    shares = waste(order)
    axes.hist(shares, bins=40, range=(0, 0.8), histtype="step", linewidth=2, color=colour, label=name)
    print(f"{name:11} {shares.mean():.0%} of the cells are padding")
axes.set(xlabel="share of a batch that is padding", ylabel="batches", title="Who shares a batch decides what it costs")
axes.legend()
plt.show()

# %% [markdown]
"""
Sorting wastes almost nothing and is a bad idea: every epoch would go from short to long in the same order, and a batch
would hold sentences of one kind. Buckets keep nearly all of the gain, and nearly all of the randomness; shuffle the
*batches* as well.

## Workers, and where time goes

With `num_workers=0` the training process loads each batch itself, while the model waits. With workers, other processes
load, `prefetch_factor` batches ahead each, and hand batches over through shared memory. A step then takes the longer of
the two times instead of their sum: `max(model, loading / workers)`. More workers help until the model is the
bottleneck, or until the processes fight over cores and disk.

We pretend that an example takes 2 ms to load, and a step of the model 20 ms.
"""


# %%
class Slow(Dataset):
    """160 examples which take 2 ms each to load, as from a disk far away."""

    def __len__(self) -> int:
        return 160

    def __getitem__(self, i: int) -> Tensor:
        time.sleep(0.002)
        return torch.full((4,), float(i))


for workers in dict.fromkeys((0, WORKERS)):
    loader = DataLoader(Slow(), batch_size=8, num_workers=workers, multiprocessing_context=FORK if workers else None)
    ends = []
    for _ in loader:
        time.sleep(0.02)  # the model
        ends.append(time.perf_counter())
    steps = [later - earlier for earlier, later in itertools.pairwise(ends)]
    print(f"{workers} workers: {1000 * statistics.median(steps):.0f} ms a step")

# %% [markdown]
"""
Loading took 16 ms and the model 20. One after the other that is 36 ms; side by side, 20. To know which of the two you
are waiting for, time the loop with the model taken out, and then with one batch used again and again. The longer one is
your bottleneck, and only that one is worth improving.

## Three traps

**1. An iterable data set in several workers.** Each worker gets its own copy and iterates it from the start. With two
workers everything arrives twice, and nothing raises. The data set itself must ask which worker it is in, and take its
share: every record in exactly one.
"""


# %%
class Stream(IterableDataset):
    """The numbers 0 to 9; with `share`, each worker yields only those that are its own."""

    def __init__(self, share: bool) -> None:
        self.share = share

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if self.share and worker else (0, 1)
        yield from range(first, 10, step)


for share in (False, True):
    loader = DataLoader(Stream(share), batch_size=None, num_workers=WORKERS, multiprocessing_context=FORK)
    print(f"share={share}:", sorted(loader))

# %% [markdown]
"""
**2. Randomness in workers.** Torch gives each worker another seed, derived from the loader's generator: pass
`generator=` and runs repeat. Python's `random` is seeded along with it, and NumPy's global generator too, in recent
versions. But a generator that you made in `__init__` is *copied*: each worker draws the same "random" augmentations,
and after a restart draws them again. Draw from torch inside `__getitem__`, or derive a generator there from
`torch.initial_seed()`.

**3. Objects that must not be copied.** A worker is a copy of your process (fork) or a new one that unpickles your data
set (spawn: macOS, Windows). An open file shared by fork has *one* position for all readers; a database connection or a
lock does not survive either way. Open such things lazily, in the first `__getitem__` of each worker. And a large Python
list, under fork, is slowly copied after all, since counting references writes to its pages. A tensor or an array is one
object and stays shared.

One more habit: a record that cannot be read must not end an epoch, nor vanish unseen. Skip it, **count** it, and fail
when the count is no longer an accident.
"""

# %%
batch = pad_sequence([torch.tensor([5, 3, 8]), torch.tensor([7])], batch_first=True)
real = torch.arange(batch.shape[1]) < torch.tensor([[3], [1]])
print("mean with padding:", batch.float().mean(1).tolist())
print("mean of the data: ", ((batch * real).sum(1) / real.sum(1)).tolist())

# %% [markdown]
"""
## At scale

- **Shards, not files.** Ten million small files are ten million round trips. Examples are packed into shards of some
  hundred megabytes, read from front to back; shuffling becomes *order of shards* plus a *buffer* of a few thousand
  examples.
- **Every rank its share.** With 64 GPUs and 8 workers each, a record must belong to one of 512 readers. The same
  arithmetic as in trap 1, one level up; `DistributedSampler` does it for map-style data, and pads the last round so
  that no rank waits for ever.
- **Resume in mid-epoch.** A run that is restarted daily must know where in the data it stands. `StatefulDataLoader`, in
  torchdata, has a `state_dict` for that; the honest alternative is to make the order a function of seed and step.
- **Pinned memory.** `pin_memory=True` lets the copy to the GPU run beside the computation, with
  `.to(device, non_blocking=True)`.
- **Decode late, or once.** Pictures are decoded on the GPU, text is tokenised once and stored. The best way to load
  faster is to have less to do.

## References

1. Mohan, Phanishayee, Raniwala and Chidambaram, *Analyzing and Mitigating Data Stalls in DNN Training*, VLDB, 2021.
2. Aizman, Maltby and Breuel, *High Performance I/O For Large Scale Deep Learning* (WebDataset), IEEE Big Data, 2019.
3. Hutto and Gilbert, *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text*, ICWSM, 2014.
4. PyTorch documentation, [*torch.utils.data*](https://docs.pytorch.org/docs/stable/data.html).

## Test yourself

Answer aloud before you unfold.

**1.** A step takes 30 ms on the GPU; loading a batch takes 90 ms in one worker. How many workers do you need, and what
will sixteen bring?

<details><summary>Answer</summary>

Three workers deliver a batch every 30 ms, so three, and a fourth for safety. Sixteen bring nothing but memory: the GPU
is then the bottleneck, and each worker keeps its prefetched batches.

</details>

**2.** Validation accuracy changes a little from run to run although model and data are fixed. Which parts of the
pipeline do you look at?

<details><summary>Answer</summary>

A random augmentation that is active in validation; `model.eval()` forgotten; a last batch that is dropped
(`drop_last=True`) while the order is shuffled; a mean of batch means with a small last batch. Validation should have no
randomness at all.

</details>

**3.** A weighted sampler draws rare classes as often as common ones. The model's probabilities for the rare class are
now far too high in production. Why, and is the sampler wrong?

<details><summary>Answer</summary>

The model has learnt the frequencies of what it was shown, where the rare class was common. The sampler did what it
should: the model now sees enough of the rare class to tell it apart. The probabilities must be corrected for the true
frequencies, or the threshold set on data as they come.

</details>

Ready? Mark the brief as read, then open Lab 4.
"""

# %%
from grading import mark_as_read

mark_as_read("phase1/theory4")
