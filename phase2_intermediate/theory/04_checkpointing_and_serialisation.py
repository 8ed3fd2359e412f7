# %% [markdown]
"""
# Checkpointing and serialisation

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two, on any machine.*

A training run is worth what you can get back of it. The power fails, a machine is taken away, the disk fills up, a
colleague wants the model in two years: each asks something of the files you write. *Can this run go on as if nothing
had happened? Can these weights be loaded without running a stranger's program? Will the next version of the code
still read them?*

Three questions, three different kinds of file.
"""

# %%
import io
import pickle
import tempfile
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from safetensors.torch import load_file, save_file
from torch import nn

from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
"""
## State, not objects

`model.state_dict()` is a dictionary from names to tensors: the parameters, and the buffers that are persistent. It
says nothing of the class, the code, the order of computation. That is its strength: whoever builds the same *names
and shapes* can load it. `torch.save(model)` stores the object instead, by reference to the class and the module it
stood in. Rename a file, and it is gone.
"""


# %%
def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


model = build()
for name, tensor in model.state_dict().items():
    print(f"{name:22} {tuple(tensor.shape)!s:8} {tensor.dtype}")

# %% [markdown]
"""
Three facts about it that people learn the hard way. It holds *references*: a dictionary kept as "the best so far"
changes with every step, unless you clone it. Two names may share one tensor (*tied* weights); the file then has it
once, and loading must tie again. And `load_state_dict` copies *into* the parameters that are there: with a wrong
shape it raises, with a missing name it raises, with `strict=False` it says nothing and returns what did not fit. Look
at what it returns.

## What an exact resume needs

Weights are a part of it. To go on as if nothing had happened you need everything that changes during training:

| part | forgotten, it … |
| --- | --- |
| optimizer's state | begins Adam's averages anew: the loss jumps, and recovers |
| learning rate's schedule | warms up a second time |
| gradient scaler | loses its scale, skips some steps |
| random states, of Python, numpy, torch, each device | draws other dropout, other augmentation |
| the position in the data | sees some examples twice this epoch, and others never |
| step, best result so far, configuration | logs at the wrong place, overwrites the wrong file |

The test is strict and simple: stop at step 50, resume, go to 100. The weights must equal, **bit for bit**, those of a
run that was never stopped.
"""


# %%
def run(steps: int, start: dict | None = None) -> dict:
    """Train for some steps, from nothing or from what another call returned; everything that changed."""
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    if start:
        model.load_state_dict(start["model"])
        if "optimizer" in start:
            optimizer.load_state_dict(start["optimizer"])
        torch.set_rng_state(start["random"])
    for _ in range(steps):
        x = torch.randn(16, 4)
        optimizer.zero_grad()
        (model(x).sum(1) - x.sum(1)).square().mean().backward()
        optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
    file = io.BytesIO()  # a file would do the same: what is written is a copy
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


def gap(a: dict, b: dict) -> float:
    return max((a["model"][n].double() - b["model"][n].double()).abs().max().item() for n in a["model"])


straight, half = run(100), run(50)
print("stopped and resumed, difference:", gap(straight, run(50, half)))
print("without the optimizer's state:  ", gap(straight, run(50, {k: v for k, v in half.items() if k != "optimizer"})))

# %% [markdown]
"""
## How often?

A checkpoint costs time *c*; a failure costs what was done since the last. With a mean time *M* between failures and a
checkpoint each *t*, the loss is about *c/t + t/(2M)* of the run. Too often and too rarely are both expensive, and the
best interval is √(2cM).
"""

# %%
interval = torch.logspace(0, 3, 200)  # minutes
figure, axes = plt.subplots(figsize=(7, 3.4))
for (cost, failures, name), colour, style in zip(
    ((0.5, 7 * 1440, "one machine, fails once a week"), (0.5, 180, "1,000 machines, every 3 hours")),
    COLOURS,
    ("-", "--"),
    strict=False,
):
    lost, best = cost / interval + interval / (2 * failures), (2 * cost * failures) ** 0.5
    axes.loglog(interval, 100 * lost, color=colour, linestyle=style, label=name)
    axes.plot(best, 100 * (cost / best + best / (2 * failures)), "o", color=colour)
    print(f"{name}: best every {best:.0f} minutes")
axes.set(xlabel="minutes between checkpoints", ylabel="% of the time lost", title="A checkpoint that takes 30 seconds")
axes.legend()
plt.show()

# %% [markdown]
"""
## Writing so that it can be read

A file that is half written when the power fails is worse than none: it has the right name. Write to another name *in
the same folder*, flush it to disk, then `os.replace`, which swaps names in one step. Keep the last few, and the best;
delete only after the new one is complete.

## Reading what a stranger wrote

`torch.save` writes a zip with the tensors' bytes and a **pickle** that says how they fit together. And a pickle is not
data: it is a program. Loading it runs whatever it says.
"""


# %%
class Harmless:
    def __reduce__(self):
        return print, ("   … a pickle has just called print; it might have been os.system",)


file = io.BytesIO()
torch.save({"weights": torch.ones(2), "note": Harmless()}, file)
file.seek(0)
print("weights_only=False:")
torch.load(file, weights_only=False)
file.seek(0)
try:
    torch.load(file)  # weights_only=True is the default
except pickle.UnpicklingError as error:
    print("weights_only=True refuses:", next(line for line in str(error).splitlines() if "Unsupported" in line).strip())

# %% [markdown]
"""
`weights_only=True` reads the pickle with an interpreter of its own that knows tensors, numbers, containers and little
else. It has been the default since PyTorch 2.6. Keep it; what it refuses, allow by name with
`torch.serialization.safe_globals`, after you have looked at it.

**safetensors** goes further: there is no program in it at all. A header in JSON names each tensor's type, shape and
place, then come the bytes. It can be mapped into memory and read in part, by any language. It holds *tensors only*,
each once: no optimizer settings, no tied weights. For weights that travel, it is the format; for a checkpoint to
resume from, `torch.save` is.
"""

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "model.safetensors")
    save_file(model.state_dict(), path, metadata={"format_version": "2", "trained_on": "random numbers"})
    header = path.read_bytes()[8:][:130]
    twin = build()
    twin.load_state_dict(load_file(path))
print(header.decode(), "…")
print("equal:", all(torch.equal(tensor, twin.state_dict()[name]) for name, tensor in model.state_dict().items()))

# %% [markdown]
"""
## Files outlive code

You will rename a layer, split a matrix, add a head. Put a **version** into each file from the first day, and keep a
function from each version to the next that renames and reshapes the dictionary. `load_state_dict` has a hook for it;
a plain function over the dictionary is easier to test. And store the *configuration* beside the weights: shapes alone
do not say how many heads there are.

## Three traps

1. **`best = model.state_dict()`** and training on: at the end "the best" is the last. `copy.deepcopy`, or write a file.
2. **A wrapper's prefix.** DDP saves `module.0.weight`, a compiled model `_orig_mod.0.weight`. Save the state of the
   module inside.
3. **The device is in the file.** Tensors come back to where they were; on a machine without that device, loading fails.
   `map_location="cpu"`, then move. With `mmap=True` nothing is read before it is used, and a model built on the device
   `meta` takes the tensors over by `load_state_dict(…, assign=True)`, without a second copy.
"""

# %%
with torch.device("meta"):
    empty = build()
print("built without memory:", empty[0].weight.device)
empty.load_state_dict(model.state_dict(), assign=True)
print("filled without a copy:", empty[0].weight.data_ptr() == model[0].weight.data_ptr())

# %% [markdown]
"""
## At scale

- **Sharded checkpoints.** With hundreds of ranks nobody gathers the model. Each rank writes its own shards
  (`torch.distributed.checkpoint`), a small metadata file says what is where, and another number of ranks can read them:
  *resharding on load*.
- **Asynchronous writing.** Copy the state to the host's memory, which takes a second, and go on training while a thread
  writes. `async_save` does it; the price is memory for a second copy.
- **Failures are the normal case.** On ten thousand GPUs something fails every few hours. Checkpoints go to local
  disks or a neighbour's memory every few minutes, and to shared storage now and then.
- **Reproducing a result** needs the code's revision, the data's, the versions of libraries, the seed. Write them into
  the checkpoint; they cost a hundred bytes.

## References

1. Young, *A First Order Approximation to the Optimum Checkpoint Interval*, CACM, 1974.
2. Eisenman et al., *Check-N-Run: a Checkpointing System for Training Deep Learning Recommendation Models*, NSDI, 2022.
3. PyTorch documentation, [*Serialization semantics*](https://docs.pytorch.org/docs/stable/notes/serialization.html).
4. PyTorch documentation,
   [*torch.distributed.checkpoint*](https://docs.pytorch.org/docs/stable/distributed.checkpoint.html).
5. Hugging Face documentation, [*Safetensors*](https://huggingface.co/docs/safetensors/index).

## Test yourself

Answer aloud before you unfold.

**1.** A resumed run's loss jumps up by a little at the moment of the resume and is back on its curve 200 steps later.
What was forgotten?

<details><summary>Answer</summary>

Most likely the optimizer's state: Adam begins with empty averages, and its first steps are as large as the very first
ones. A schedule that warms up again looks alike but lasts as long as the warm-up. The weights themselves were right, or
the loss would be that of a new model.

</details>

**2.** Why is "it is only a model from a well-known site" no reason to load a pickle?

<details><summary>Answer</summary>

Loading runs the file's program with your rights: your keys, your data, your cluster. A site's name says who hosts it,
not who uploaded it. With `weights_only=True`, or safetensors, the question does not arise.

</details>

**3.** Checkpoints take 2 minutes and the cluster fails every 4 hours. How often do you write, and how much is lost?

<details><summary>Answer</summary>

√(2 · 2 · 240) = 31 minutes. Lost: 2/31 + 31/480 = 13 % of the time. Writing asynchronously, so that training stands for
10 seconds, brings it to every 9 minutes and under 4 %.

</details>

Ready? Mark the brief as read; Lab 5 resumes on another number of ranks, Lab 6 refuses a malicious file.
"""

# %%
from grading import mark_as_read

mark_as_read("phase2/theory4")
