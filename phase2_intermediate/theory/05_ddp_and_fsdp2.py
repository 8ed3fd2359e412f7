# %% [markdown]
"""
# Distributed training: DDP and FSDP2

*Theory brief, 15 minutes. Run the cells as you read; the last but one starts two processes and takes some ten seconds.*

Training on many GPUs is a problem of bookkeeping, of waiting, and of nothing else. The bookkeeping: who holds which
numbers, and what must be summed so that the result is the one a single huge GPU would have had. The waiting: how to
send while computing. This brief is about both. Phase 1's last brief has shown what sharding saves; here is how it
works, in what order, and what it costs.
"""

# %%
import torch
import torch.distributed as dist
from matplotlib import pyplot as plt
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labkit.launch import launch
from labkit.plots import COLOURS, use_theme

use_theme()

# %% [markdown]
r"""
## Five collectives

Ranks talk in *collectives*: operations that all of them call, in the same order, or all wait for ever.

| | before, on rank r | after, on rank r |
| --- | --- | --- |
| broadcast | one rank has *x* | *x* |
| all-reduce | $x_r$ | $\sum_i x_i$ |
| all-gather | $x_r$ | $x_0, x_1, \dots$ |
| reduce-scatter | a whole $x_r$ | piece *r* of $\sum_i x_i$ |
| all-to-all | a piece for each | a piece from each |

How much must travel? In an all-reduce of $n$ bytes among $N$ ranks, arranged in a **ring**, each rank sends piece after
piece to its neighbour: $N-1$ steps in which partial sums go round (that is a reduce-scatter), and $N-1$ in which the
finished pieces do (an all-gather), each step $n/N$ bytes:

$$2\,\frac{N-1}{N}\,n \approx 2n \quad\text{bytes sent by each rank, however many there are.}$$

That is why data parallelism scales: twice the ranks, the same traffic for each. What does grow with $N$ is the number
of steps, and with it the *latency*; for small messages that is all that counts.

## DDP: average while the rest computes

`DistributedDataParallel` does four things:

1. At the start, rank 0 **broadcasts** its weights and buffers: all begin equal.
2. It sorts parameters into **buckets** of 25 MB, in the reverse of the order they were registered in, which is about
   the order in which `backward` finishes them.
3. A hook on each gradient counts down its bucket; when it is complete, its **all-reduce starts at once**, while
   `backward` goes on with earlier layers.
4. The sum is divided by $N$. An equal step from an equal start: the weights stay equal, and never travel again.

The bucket is the compromise. Each gradient by itself: hundreds of small messages, latency. All in one: nothing can be
sent before everything is computed. The picture is a small simulation of a backward pass of 24 layers, drawn to scale.
"""


# %%
def schedule(buckets: int, layers: int = 24, compute: float = 1.0, send: float = 0.8, latency: float = 0.6) -> tuple:
    """When each bucket is complete, when its sending begins, and when it ends; in units of a layer's backward."""
    free, bars = 0.0, []
    for last in torch.linspace(0, layers, buckets + 1)[1:].tolist():
        ready = last * compute
        begin = max(ready, free)
        free = begin + latency + send * layers / buckets
        bars.append((begin, free))
    return layers * compute, bars


figure, axes = plt.subplots(figsize=(8.5, 3.4))
for row, buckets in enumerate((1, 24, 6)):
    computed, bars = schedule(buckets)
    axes.barh(row - 0.18, computed, height=0.3, color=COLOURS[0], label="backward" if row == 0 else None)
    for begin, end in bars:
        name = "all-reduce" if row == 0 and begin == bars[0][0] else None
        axes.barh(row + 0.18, end - begin, left=begin, height=0.3, color=COLOURS[1], edgecolor="white", label=name)
    axes.text(bars[-1][1] + 0.5, row, f"{bars[-1][1]:.0f}", va="center")
axes.set(yticks=range(3), yticklabels=["1 bucket", "24 buckets", "6 buckets"], xlabel="time, in layers of backward")
axes.set(xlim=(0, 50), title="Sending while computing: 0.8 for a layer's bytes, 0.6 for a message")
axes.legend(loc="lower right")
axes.invert_yaxis()
plt.show()

# %% [markdown]
"""
## Accumulation without chatter

Four micro-batches, one step: DDP would all-reduce four times, and three of those sums are thrown away. Inside
`with model.no_sync():` hooks keep quiet and gradients add up locally; only the last micro-batch is outside. FSDP2 has
`set_requires_gradient_sync(False)` for the same. Forget it, and the result is right and the network does four times the
work; leave the last one inside, and ranks drift apart, silently.

## The data's half

Each rank must see *its own* part. `DistributedSampler` deals the indices out, in an order that depends on a seed and on
the **epoch**, which it cannot know: without `sampler.set_epoch(epoch)` every epoch has the order of the first. To make
parts equal it repeats a few examples; when you evaluate, those count twice.
"""

# %%
from torch.utils.data import DistributedSampler

sampler = DistributedSampler(range(10), num_replicas=4, rank=1, seed=0)
for epoch in (0, 1):
    forgotten = list(sampler)
    sampler.set_epoch(epoch)
    print(f"epoch {epoch}: rank 1 of 4 takes {list(sampler)}; before `set_epoch` it would have taken {forgotten}")
print(f"10 examples among 4 ranks: {sampler.total_size} are seen")

# %% [markdown]
r"""
## FSDP2: whole for a moment

`fully_shard` turns each parameter into a `DTensor`, cut along its first dimension, and registers hooks on the module:
the unit that is gathered as one.

| when | what is communicated | what is in memory |
| --- | --- | --- |
| before a unit's forward | all-gather of its parameters; the next unit's follow | this unit whole, the next arriving |
| after it | – | shards only (`reshard_after_forward`) |
| before its backward | all-gather again | whole |
| after it | reduce-scatter of its gradients | shards of both |
| `optimizer.step()` | – | shards of weights, gradients, moments |

Three times $\frac{N-1}{N}n$ bytes a step against DDP's two. Because a parameter *is* a tensor with a placement, the
optimizer, `clip_grad_norm_` and `state_dict` work as they did; what they return knows that it is a part. Four rules:

- shard the blocks first, the whole model last;
- build the optimizer after sharding;
- call the module, not `module.forward`: the gathering is in a hook;
- what is read of a shard by hand is `p.to_local()`; the whole is `p.full_tensor()`, a collective that all must call.

## Right or wrong? One test decides

Averaged gradients of equal parts are the gradient of the whole batch. So after *k* steps, on any number of ranks, the
weights must equal those of one process that took the whole batch each time. Any mistake, a missing division, a rank
with the wrong rows, a dropout with the same seed everywhere, shows up here, in seconds, on a laptop.
"""


# %%
def train(ranks: int) -> list[float]:
    """Five steps of plain SGD on this rank's rows of a batch of 16; some of the weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    rows = slice(None)
    if ranks > 1:
        model, each = DistributedDataParallel(model), 16 // ranks
        rows = slice(each * dist.get_rank(), each * (dist.get_rank() + 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        (model(x[rows]) - x[rows].sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
    return [p.sum().item() for p in model.parameters()]


alone, (rank0, rank1) = train(1), launch(train, 2, ranks=2)
print("both ranks agree:     ", rank0 == rank1)
print("largest gap to one process:", max(abs(a - b) for a, b in zip(alone, rank0, strict=True)))

# %% [markdown]
"""
## Three traps

1. **A collective under `if rank == 0`.** Saving, logging a global norm, evaluating: if anything inside communicates,
   the others never arrive. Compute on all ranks, *write* on one.
2. **Unequal work.** One rank has a batch less at the end of the epoch, and waits in an all-reduce that nobody joins.
   Drop the remainder, or pad.
3. **Batch statistics are local.** `BatchNorm` sees its own rank's rows. With small parts use `SyncBatchNorm`, or a norm
   that does not look at the batch.

## At scale

- **The learning rate follows the global batch.** Thirty-two ranks with 32 rows are a batch of 1,024: other noise, other
  rate, and a warm-up. Linear scaling is a rule of thumb that ends at some batch size; past it more ranks buy nothing.
- **Links differ by ten.** Inside a machine hundreds of GB/s, between machines tens. Shard inside and replicate between
  (*hybrid sharding*, a mesh of two dimensions), and the slow links carry only the sum.
- **Plan before you pay.** Time for a step ≈ arithmetic ÷ (peak × utilisation), and bytes ÷ bandwidth where not hidden.
  Measure both on two ranks, and extrapolate; Lab 5 does, to 1,024.
- **The slowest rank sets the pace.** Watch the distribution of step times, not their mean: one GPU that runs hot slows
  all of them.

## References

1. Li et al., *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, VLDB, 2020.
2. Zhao et al., *PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel*, VLDB, 2023.
3. Patarasuk and Yuan, *Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations*, JPDC, 2009.
4. Goyal et al., *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour*, 2017.
5. PyTorch documentation,
   [*torch.distributed.fsdp.fully_shard*](https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html).

## Test yourself

Answer aloud before you unfold.

**1.** A model of one billion parameters in 32 bits, 16 ranks, links of 10 GB/s. How long does the all-reduce of the
gradients take, and what hides it?

<details><summary>Answer</summary>

2 · 15/16 · 4 GB = 7.5 GB sent by each rank: 0.75 s. It is hidden as far as `backward` takes longer than that, since
buckets are sent while earlier layers are computed. Reducing in 16 bits halves it; accumulating over four micro-batches
asks for it a quarter as often.

</details>

**2.** Training on 4 ranks gives weights that move four times as far as on one. Two possible causes?

<details><summary>Answer</summary>

The sum of gradients was not divided by 4. Or the loss is a *sum* over rows and not a mean: then the average of four
parts' sums is a quarter of the whole's, and it would move too little; so with a sum, dividing is the mistake. State the
reduction, then decide.

</details>

**3.** Why does FSDP2 not gather the whole model at once, and what happens if you shard only the root?

<details><summary>Answer</summary>

The memory it saves is that of everything which is not at work. A single unit is gathered whole before the first layer
runs: at the peak each rank holds all parameters, nothing can be sent ahead, and only the optimizer's state is saved.

</details>

Ready? Mark the brief as read, then open Lab 5.
"""

# %%
from grading import mark_as_read

mark_as_read("phase2/theory5")
