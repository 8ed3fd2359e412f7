# %% [markdown]
"""
# A first look at FSDP

*Theory brief, 15 minutes. Run the cells as you read; one of them starts two processes and takes some ten seconds.*

One GPU has 80 GB. A model of seven billion parameters, trained with Adam in the ordinary way, needs 112 GB before the
first activation. Buying more GPUs does not help by itself: the classic way to use many of them, data parallelism, puts
a *whole copy* of those 112 GB on each. Fully sharded data parallelism keeps the one idea that makes data parallelism
simple, and drops the copies.

This brief is about what exactly is copied, what is sharded, and what it costs to have it back for a moment.
"""

# %%
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt

from labkit.plots import COLOURS, use_theme

use_theme()

# %% [markdown]
"""
## Data parallelism: everything twice

*N* processes, called *ranks*, each with a GPU. Every rank holds the same model and takes another part of the batch.
After `backward` each has the gradient of its own part; they are averaged, by an **all-reduce**, and then every rank
takes the same step. That is `DistributedDataParallel` (DDP). The weights never travel: they stay equal because equal
steps were taken from an equal start.

Count what each rank holds, in bytes for each parameter, for Adam in `float32`: the parameter 4, its gradient 4, the two
moments 8. Sixteen bytes, and *N* ranks hold them *N* times. Nothing about the arithmetic requires that. A rank needs a
layer's weights only while it computes that layer. It needs the optimizer's moments only for the step.

## Sharding: everything once

Cut each tensor into *N* pieces and let rank *r* keep piece *r*. Two collective operations do the rest:

- **all-gather**: every rank contributes its piece, and every rank gets the whole;
- **reduce-scatter**: every rank contributes a whole tensor, they are summed, and rank *r* gets piece *r* of the sum.

(An all-reduce is one after the other. That is why sharding costs less than it seems.)

A step of FSDP, for each *unit*, usually one Transformer block:

1. **forward**: all-gather the unit's parameters, compute, let go of them;
2. **backward**: all-gather them again, compute the gradients, reduce-scatter these, let go of both;
3. **step**: each rank updates its own piece, with its own piece of the moments. No communication at all.

While one unit computes, the next one is being gathered. At any moment a rank holds its shards of everything, and one or
two units whole.
"""

# %%
WAYS = {
    "DDP": {"parameters": 1, "gradients": 1, "moments": 1},
    "moments sharded": {"parameters": 1, "gradients": 1, "moments": 0},
    "+ gradients": {"parameters": 1, "gradients": 0, "moments": 0},
    "FSDP": {"parameters": 0, "gradients": 0, "moments": 0},
}
BYTES = {"parameters": 4, "gradients": 4, "moments": 8}


def gigabytes(way: str, billions: float, ranks: int) -> dict[str, float]:
    """What one rank holds all the time, by kind; 1 in `WAYS` is a whole copy, 0 a shard."""
    return {kind: size * billions * (1 if WAYS[way][kind] else 1 / ranks) for kind, size in BYTES.items()}


figure, axes = plt.subplots(figsize=(8, 3.2))
for row, way in enumerate(WAYS):
    left = 0.0
    for (kind, size), colour in zip(gigabytes(way, 7, 8).items(), COLOURS[::2], strict=True):
        axes.barh(row, size, left=left, color=colour, label=kind if row == 0 else None)
        left += size
    axes.text(left + 1, row, f"{left:.1f} GB", va="center")
axes.axvline(80, linestyle="--", color="#797979")
axes.text(81, 3.35, "one GPU", fontsize=9)
axes.set(yticks=range(len(WAYS)), yticklabels=WAYS, xlim=(0, 130), xlabel="GB on each of 8 ranks, before activations")
axes.set_title("Seven billion parameters, Adam, float32")
axes.invert_yaxis()
axes.legend(loc="lower right")
plt.show()
for ranks in (8, 64, 512):
    print(f"{ranks:3} ranks: DDP {sum(gigabytes('DDP', 7, ranks).values()):5.1f} GB on each, FSDP "
          f"{sum(gigabytes('FSDP', 7, ranks).values()):5.2f} GB and the unit at work")  # fmt: skip

# %% [markdown]
r"""
With *N* ranks, FSDP's fixed part is $16P/N$ bytes against $16P$. What it does *not* shard are the activations: each
rank computes on whole layers, for its part of the batch. For those there is checkpointing.

## What it costs

Per step and rank, in units of the parameters' size: DDP's all-reduce moves about 2. FSDP gathers twice (forward and
backward) and reduce-scatters once, each about 1: **3 instead of 2**. Half as much again, for a memory that falls with
the number of ranks. If the network is fast enough to hide it behind the arithmetic, it costs nothing.

Two knobs follow. `reshard_after_forward=False` keeps a unit whole between forward and backward: communication falls
back to 2, memory rises. And inside one machine, where links are fast, one may shard, while across machines one
copies: *hybrid* sharding.

## Two ranks on this machine

FSDP2 is a function, `fully_shard`, that is applied to a module in place. Parameters become `DTensor`s: tensors that
know they are a piece of something. Real processes need a real program, so the cell writes one and starts it with
`torchrun`'s module.
"""

# %%
PROGRAM = """
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()


def build():
    torch.manual_seed(0)  # the same start everywhere
    return nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(4)), nn.Linear(64, 1))


x, y = torch.randn(16, 64, generator=torch.Generator().manual_seed(1)), torch.ones(16, 1)
whole = build()
sharded = build()
mesh = dist.device_mesh.init_device_mesh("cpu", (ranks,))
for block in sharded[:4]:
    fully_shard(block, mesh=mesh)  # each block a unit
fully_shard(sharded, mesh=mesh)  # and what is left, the last layer
full = sum(p.numel() for p in whole.parameters())
local = sum(p.to_local().numel() for p in sharded.parameters())
print(f"rank {rank}: holds {local:,} of {full:,} numbers", flush=True)

for model, rows in ((whole, slice(None)), (sharded, slice(8 * rank, 8 * rank + 8))):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        (model(x[rows]) - y[rows]).square().mean().backward()
        optimizer.step()
gap = max((p.full_tensor() - q).abs().max().item() for p, q in zip(sharded.parameters(), whole.parameters()))
if rank == 0:
    print(f"after 5 steps, largest difference to one process with the whole batch: {gap:.1e}")
dist.destroy_process_group()
"""
with tempfile.TemporaryDirectory() as folder:
    script = Path(folder, "two_ranks.py")
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
print(run.stdout or run.stderr[-2000:])

# %% [markdown]
"""
Each rank holds half, and five steps of Adam on two half batches end where one process with the whole batch ends, to the
last digits of `float32`. Not quite bit for bit: the order of summation differs.

The mean matters. Each rank takes the mean over *its* rows, and ranks are averaged. With equal parts that is the mean
over the batch; with unequal parts it is the mean of means again, now across machines.

## Three traps

1. **The order of construction.** Apply `fully_shard` to the blocks *first* and to the whole model last: the last call
   takes what the others have left. And build the optimizer *after* sharding, or it holds parameters that nobody uses
   any more.
2. **One rank goes another way.** Collectives must be called by all ranks in the same order. A rank that skips a
   batch, or saves a checkpoint under `if rank == 0:` with a gather inside, leaves the others waiting, silently, until
   a timeout of many minutes. Gather on all ranks, write on one.
3. **Units too large or too small.** The whole model as one unit is gathered whole: nothing is saved at the peak. Every
   little layer its own unit: thousands of small messages, and latency eats the gain. A Transformer block is right.

## At scale

- Models up to some tens of billions of parameters are trained with FSDP alone. Beyond that, sharding is combined with
  *tensor parallelism* (one layer's product split inside a machine) and *pipeline parallelism* (layers on different
  machines), as several axes of one device mesh.
- Construction uses the `meta` device: the model is built without memory, sharded, and only then filled, each rank with
  its own piece.
- Checkpoints are written in shards, in parallel, and can be read by another number of ranks
  (`torch.distributed.checkpoint`). A run that begins on 512 GPUs may be finished on 256.
- Mixed precision has a place of its own: shards in `float32`, gathered and reduced in `bfloat16`, which also halves the
  traffic.

Phase 2 builds all of this. In Lab 5 you start your first two ranks.

## References

1. Rajbhandari, Rasley, Ruwase and He, *ZeRO: Memory Optimizations Toward Training Trillion Parameter Models*, SC, 2020.
2. Zhao et al., *PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel*, VLDB, 2023.
3. Li et al., *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, VLDB, 2020.
4. PyTorch documentation,
   [*torch.distributed.fsdp.fully_shard*](https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html).

## Test yourself

Answer aloud before you unfold.

**1.** How many GB does each of 16 ranks hold for a model of 13 billion parameters with Adam in `float32`, under DDP and
under FSDP?

<details><summary>Answer</summary>

16 bytes · 13 · 10⁹ = 208 GB under DDP, more than any GPU has. Under FSDP 208 / 16 = 13 GB, and the unit at work on
top: a block of, say, 300 million parameters takes another 1.2 GB, twice while the next one is fetched.

</details>

**2.** Why does the optimizer's step need no communication, although Adam reads the parameter, its gradient and its
moments?

<details><summary>Answer</summary>

Adam works element by element. For its own piece a rank has all four: the reduce-scatter has left it the summed
gradient of exactly that piece. An optimizer that needs the whole tensor, or a clipping by global norm, does
communicate: one number for the norm.

</details>

**3.** You double the number of ranks and keep the batch per rank. What happens to memory, communication per rank and
time for a step?

<details><summary>Answer</summary>

The fixed memory halves; activations stay. Each rank still receives nearly all parameters at each gather, so the traffic
per rank stays about the same. The step takes as long as before, if the network keeps up, and processes twice the data.

</details>

Ready? Mark the brief as read. The project and the quiz are waiting.
"""

# %%
from grading import mark_as_read

mark_as_read("phase1/theory7")
