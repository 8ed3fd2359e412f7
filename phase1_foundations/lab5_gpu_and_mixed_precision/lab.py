# %% [markdown]
"""
# Lab 5: GPU acceleration & mixed precision

Making training fast is accounting. Where do the seconds go, where do the bytes go, and which of them were bought for
nothing? In this lab you write the instruments: a clock that is not fooled, a ledger of memory that agrees with its own
forecast, a profile that names the culprit. With them you use the three classic savings, 16-bit arithmetic,
recomputation and sharding, and see what each one costs.

**You will be able to**

- write code that runs on a CPU, a GPU or whatever comes next, without an `if`;
- time a device that answers before it has worked, and profile a step that is slow for a hidden reason;
- predict the memory of a training run to the byte, and measure it;
- train in mixed precision, and say what the loss scaler does at every step;
- trade arithmetic for memory with checkpointing, and split a model over two processes.

**Time** two hours for the eight exercises (20 points). Three side quests at the end earn XP only.

**You need to know** Labs 1 to 3, and the theory briefs *GPU use and mixed precision* and *A first look at FSDP* (15
minutes each). A GPU is not needed; if you have one, the demonstrations use it.
"""

# %% [markdown]
"""
## Set-up

`check("pick_device")` tests an exercise, `hint("pick_device")` gives one of three hints. Every check runs on the CPU.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab5")

# %%
import functools
import itertools
import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

# That there is no GPU is no news here: two logs stay out of the notebook.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer
from torch.utils.checkpoint import checkpoint

from labkit.data import mnist
from labkit.launch import launch
from labkit.plots import COLOURS, INK, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## 1 · One program, any device

Code is bound to a device in three places: where the device is chosen, where data comes in, and where a tensor is *made*
in the middle of a computation. The third is the one that breaks at a customer's: `torch.arange(n)` is on the CPU,
always.

**Task.** Write two functions and a module.

1. `pick_device()` returns the machine's accelerator as a `torch.device`, whoever made it, or the CPU if there is none.
   Ask `torch.accelerator`. Beware: `current_accelerator()` names what PyTorch was *built* for, which may not be
   *there*. Read its documentation.
2. `move(batch, device, non_blocking=False)` returns `batch` with every tensor on `device`. A batch is a tensor, or a
   dict, list, tuple or named tuple of batches, nested as deep as you like; each keeps its type, and what is none of
   these stays as it is. `non_blocking` is handed on to every tensor's `.to`. The batch that was given is not changed.
3. `Positions(d)`, for an even `d`, adds to `x` `(batch, time, d)` a table `(time, d)`. For $k = 0, \dots, d/2 - 1$

$$\text{table}_{t,k} = \sin(t\,\omega_k), \qquad \text{table}_{t,d/2 + k} = \cos(t\,\omega_k), \qquad
\omega_k = 10000^{-2k/d}$$

   The $\omega$ are a buffer `frequencies`, `(d/2,)` in float32, that follows the module to any device and is **not**
   saved in the `state_dict`. The table is made on the device of `x`, whatever that is, computed in float32 for an `x`
   of any type, and the result has the type of `x`.
"""


# %%
def pick_device() -> torch.device:
    """The accelerator of this machine, or the CPU."""
    ### BEGIN SOLUTION
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    ### END SOLUTION


def move(batch: Any, device: torch.device | str, non_blocking: bool = False) -> Any:
    """`batch`, with every tensor in its dicts, lists and tuples on `device`."""
    ### BEGIN SOLUTION
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=non_blocking)
    if isinstance(batch, dict):
        return type(batch)({key: move(value, device, non_blocking) for key, value in batch.items()})
    if isinstance(batch, list | tuple):
        moved = [move(value, device, non_blocking) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return batch
    ### END SOLUTION


class Positions(nn.Module):
    """Adds sines and cosines of the position; `(batch, time, d)` in and out, on any device."""

    def __init__(self, d: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        k = torch.arange(d // 2)
        self.register_buffer("frequencies", 10000 ** (-2 * k / d), persistent=False)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        t = torch.arange(x.shape[1], device=x.device)
        angles = t[:, None] * self.frequencies
        return x + torch.cat([angles.sin(), angles.cos()], dim=-1).to(x.dtype)
        ### END SOLUTION


# %% tags=["demo"]
device = pick_device()
print("this machine computes on:", device)
batch = {"pixels": torch.zeros(2, 3), "names": ["a", "b"], "boxes": (torch.ones(1, 4), torch.ones(2, 4))}
print(move(batch, "meta"))
for place in ("cpu", "meta", device):
    print(Positions(8).to(place)(torch.zeros(2, 5, 8, device=place)).device)

# %% [markdown]
"""
**What you should see.** The name of your device; a batch of tensors on `meta`, with the names as they were; and three
devices. Tensors on `meta` have a shape and no numbers, and refuse to be added to tensors elsewhere: a test for code
that forgets its `device=`, on a machine that has only one.
"""

# %%
check("pick_device")

# %% [markdown] tags=["explanation"]
"""
A build of PyTorch for CUDA says `cuda` to `current_accelerator()` on a machine without any GPU; `check_available=True`
asks the machine itself. `non_blocking` lets the copy run beside the program, if the source is in *pinned* memory; with
ordinary memory it is an ordinary copy. And a buffer that is not persistent is the right home of a constant: it moves
with the module, and is not in every checkpoint for ever.
"""

# %% [markdown]
r"""
## 2 · A clock that is not fooled

A GPU takes orders: the call returns when the order is *written*. A naive clock therefore times the writing. The first
calls are slow for other reasons, kernels are loaded and memory is fetched, and now and then something else on the
machine interferes. So:

1. run `warmup` calls, which do not count;
2. then, `repeats` times: **wait** until the device has finished, read the clock, call, **wait** again, read the clock;
3. the result is the **median** of the differences.

The wait before the first reading is there because orders may still be in the queue, from the warm-up for instance.

**Task.** Write `median_seconds(call, wait, repeats=9, warmup=3, clock=time.perf_counter)`. Both `wait()` and `clock()`
are functions that you call as said above: `wait` returns when the device is idle, `clock` returns seconds. `call()` is
called `warmup + repeats` times in all. With an even number of repeats the median is the mean of the two in the middle.
"""


# %%
def median_seconds(
    call: Callable[[], object],
    wait: Callable[[], object],
    repeats: int = 9,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The median time of `call()` in seconds, on a device that `wait()` waits for."""
    ### BEGIN SOLUTION
    for _ in range(warmup):
        call()
    times = []
    for _ in range(repeats):
        wait()
        start = clock()
        call()
        wait()
        times.append(clock() - start)
    return statistics.median(times)
    ### END SOLUTION


# %% tags=["demo"]
def wait_for_device() -> None:
    """Return when the accelerator, if there is one, has nothing left to do."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


a = torch.randn(512, 512, device=device)
mine = median_seconds(lambda: a @ a, wait_for_device)
theirs = Timer("a @ a", globals={"a": a}, num_threads=torch.get_num_threads()).blocked_autorange(min_run_time=0.5)
print(f"yours: {mine * 1e3:.2f} ms, torch.utils.benchmark: {theirs.median * 1e3:.2f} ms")
print(theirs)

# %% [markdown]
"""
**What you should see.** Two times of the same size; on a busy machine one may be twice the other. `Timer` is what you
should use from now on: it warms up, synchronises, chooses how often to repeat, gives the spread, and says so when the
spread is too large to be trusted. It runs on **one** thread unless told otherwise, as good benchmarks do.
"""

# %%
check("median_seconds")

# %% [markdown] tags=["explanation"]
"""
Why the median? Disturbances only ever make a call *longer*, and one long call moves a mean as far as it likes. The
minimum would do too, as a statement about the code; the median says what you will usually wait.
"""

# %% [markdown]
r"""
## 3 · Where the bytes are

*Out of memory* is the commonest message of the trade, and nearly always foreseeable. A training run holds four things:
parameters, their gradients, the optimizer's state, and the **activations**: what the forward pass leaves for the
backward pass. The first three follow from the number of parameters. The last follows from the batch.

For a network of linear layers of sizes $d_0, d_1, \dots, d_L$, with biases, and a ReLU between each two of them (none
after the last), autograd keeps

- for a linear layer its **input**, for the gradient of the weight (the weight is needed too, and is there anyway);
- for a ReLU its **output**, which says where it was open. It is the next layer's input: the same memory, once.

**Task.** Write two functions that return a `Memory`, in bytes.

1. `predicted_bytes(sizes, batch, optimizer, dtype=torch.float32)` for the network with `sizes` $= (d_0, \dots, d_L)$
   and everything in `dtype`. `optimizer` is `"sgd"` (no state), `"momentum"` (one number for each parameter) or
   `"adam"` (two).
2. `measured_bytes(model, optimizer, x)` for any model and `torch.optim` optimizer. It takes one step,
   `model(x).sum().backward()` and `optimizer.step()`, and counts

   - `parameters` and `gradients`: all elements, times their size. A shared parameter counts once, one without a
     gradient has none;
   - `state`: all tensors in `optimizer.state`, except those **without dimensions** (Adam's step counters);
   - `activations`: what `model(x)` saves for backward. Listen with `torch.autograd.graph.saved_tensors_hooks`. Count
     each **storage** once, whole, however many tensors share it, and leave out the storages of the parameters.
     (`tensor.untyped_storage()` has `data_ptr()` and `nbytes()`. Addresses are used again once memory is freed, so
     hold on to the tensors until you have counted.)

   Gradients that were there before are none of its business: clear them first.
"""


# %%
class Memory(NamedTuple):
    """What a training run holds, in bytes."""

    parameters: int
    gradients: int
    state: int
    activations: int


# %%
def predicted_bytes(sizes: Sequence[int], batch: int, optimizer: str, dtype: torch.dtype = torch.float32) -> Memory:
    """The memory of a stack of linear layers with ReLUs between them; `optimizer` is sgd, momentum or adam."""
    ### BEGIN SOLUTION
    numbers = sum(d_in * d_out + d_out for d_in, d_out in itertools.pairwise(sizes))
    copies = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
    size = dtype.itemsize
    return Memory(numbers * size, numbers * size, copies * numbers * size, batch * sum(sizes[:-1]) * size)
    ### END SOLUTION


def measured_bytes(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> Memory:
    """The memory of one step, `model(x).sum().backward()` and `optimizer.step()`, counted tensor by tensor."""
    ### BEGIN SOLUTION
    saved = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    optimizer.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = model(x)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    parameters = list(model.parameters())
    for parameter in parameters:
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    y.sum().backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return Memory(
        sum(p.nbytes for p in parameters),
        sum(p.grad.nbytes for p in parameters if p.grad is not None),
        sum(value.nbytes for value in states if value.dim() > 0),
        sum(storages.values()),
    )
    ### END SOLUTION


# %% tags=["demo"]
def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    layers = [nn.Linear(d_in, d_out) for d_in, d_out in itertools.pairwise(sizes)]
    return nn.Sequential(*[module for layer in layers for module in (layer, nn.ReLU())][:-1])


sizes = (784, 512, 512, 10)
model = mlp(sizes)
optimizer = torch.optim.Adam(model.parameters())
for rows in (32, 4096):
    print(f"batch {rows:4} predicted", predicted_bytes(sizes, rows, "adam"))
    print("            measured", measured_bytes(model, optimizer, torch.randn(rows, 784)))

# %% [markdown]
"""
**What you should see.** Predicted and measured agree to the byte. With 32 rows the activations are 0.2 MB beside 10.7
MB of everything else; with 4,096 they are 29.6 MB and the largest item by far.
"""

# %%
check("predicted_bytes")

# %% [markdown] tags=["explanation"]
"""
`model(x)` alone is measured, so the output of the last layer is not in the sum: no one has saved it yet. A loss would.
The storage is the unit because views are free: a ReLU's output and the next layer's input are two tensors, and one
piece of memory. What you count is what *autograd* keeps; the peak is higher, by whatever an operation needs for a
moment while it runs.
"""

# %% [markdown]
r"""
## 4 · Sixteen bits, and who may use them

A float of $e$ exponent bits and $f$ fraction bits (IEEE style, as `float16`, `bfloat16`, `float32` and `float64` are)
has the bias $b = 2^{e-1} - 1$ and

$$\text{largest} = (2 - 2^{-f})\, 2^{b}, \qquad \text{smallest normal} = 2^{1-b}, \qquad \text{eps} = 2^{-f}$$

`eps` is the step from 1 to the next number. `torch.autocast` decides for each operation who computes in sixteen bits;
there are three rules, and you can find out which one holds by trying it on inputs of both types:

| float32 inputs give | 16-bit inputs give | the rule is |
| --- | --- | --- |
| 16 bits | 16 bits | `"lower"`: the operation is cast down |
| float32 | float32 | `"float32"`: it is cast up |
| float32 | 16 bits | `"follows"`: it computes in what it gets |

**Task.** Write three functions.

1. `float_facts(exponent_bits, fraction_bits)` returns `FloatFacts(largest, smallest, eps)`, Python floats.
2. `autocast_rule(operation, *inputs, dtype=torch.bfloat16)` runs `operation(*inputs)` twice under autocast for the
   device type of the first input: with the floating-point inputs in float32, and with them in `dtype`. (The first
   input is always a tensor. Inputs of other types, such as labels, stay as they are.) It returns the rule's name, or
   `"other"` for any other pair of types. It must give the same answer when it is itself called under autocast.
3. `train_step(model, optimizer, x, labels, dtype=None)` takes one step of training on the mean cross-entropy of
   `model(x)`. With a `dtype`, the forward pass **and the loss** run under autocast with it, for the device type of
   `x`; `backward` and the optimizer's step run **outside**. Without one, autocast is off. Old gradients are cleared.
   It returns the loss, off the tape, as a tensor: nothing is read, so no device has to be waited for.
"""


# %%
class FloatFacts(NamedTuple):
    """The range and the precision of a floating-point type."""

    largest: float
    smallest: float
    eps: float


# %%
def float_facts(exponent_bits: int, fraction_bits: int) -> FloatFacts:
    """Largest number, smallest normal number and the step after 1, from the bits alone."""
    ### BEGIN SOLUTION
    bias, eps = 2 ** (exponent_bits - 1) - 1, 2.0**-fraction_bits
    return FloatFacts((2 - eps) * 2.0**bias, 2.0 ** (1 - bias), eps)
    ### END SOLUTION


def autocast_rule(operation: Callable, *inputs: Any, dtype: torch.dtype = torch.bfloat16) -> str:
    """`"lower"`, `"float32"`, `"follows"` or `"other"`: what autocast does with `operation`, by trying it."""
    ### BEGIN SOLUTION

    def result(given: torch.dtype) -> torch.dtype:
        cast = [x.to(given) if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
        with torch.autocast(inputs[0].device.type, dtype=dtype):
            return operation(*cast).dtype

    rules = {
        (dtype, dtype): "lower",
        (torch.float32, torch.float32): "float32",
        (torch.float32, dtype): "follows",
    }
    return rules.get((result(torch.float32), result(dtype)), "other")
    ### END SOLUTION


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """One step on the mean cross-entropy, in mixed precision if a `dtype` is given; the loss, off the tape."""
    ### BEGIN SOLUTION
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
        loss = F.cross_entropy(model(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
    ### END SOLUTION


# %% tags=["demo"]
for name, bits in {"float32": (8, 23), "float16": (5, 10), "bfloat16": (8, 7)}.items():
    print(f"{name:9}", float_facts(*bits))

x, image, labels = torch.rand(4, 4), torch.rand(1, 1, 5, 5), torch.arange(4)
print("lower:  ", autocast_rule(torch.matmul, x, x), autocast_rule(F.conv2d, image, image))
print("float32:", autocast_rule(F.cross_entropy, x, labels), autocast_rule(F.mse_loss, x, x))
print("follows:", *(autocast_rule(f, x) for f in (torch.relu, torch.exp, torch.sum, lambda x: x.softmax(-1))))

# %% [markdown]
"""
**What you should see.** The table of the theory brief, from the bits; then the rules, three lines with the right names.
The rules belong to the device: on a CPU `exp`, `sum` and `softmax` follow their input, on a GPU they are on the
float32 list.

And now real training: the same small CNN on MNIST, in float32 and in `bfloat16`, from the same weights and in the same
order.
"""


# %% tags=["demo"]
def small_cnn() -> nn.Sequential:
    """Two convolutions and a linear layer, always from the same start; `(batch, 1, 28, 28)` to `(batch, 10)`."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(32, 64, 5, stride=2, padding=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
    )  # fmt: skip


digits = mnist()
images = move((digits.images.float() - 33) / 79, device)
labels = move(digits.labels, device)
training = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).to(device)
training, test = training[:4000], training[4000:]

figure, axes = plt.subplots(figsize=(7, 3.6))
seconds = {}
for (name, dtype), colour, style in zip(
    {"float32": None, "bfloat16": torch.bfloat16}.items(), COLOURS, ("-", ":"), strict=False
):
    model = small_cnn().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    batches = [rows for _ in range(2) for rows in training.split(50)]
    losses = torch.stack([train_step(model, optimizer, images[rows], labels[rows], dtype) for rows in batches]).cpu()
    given = (model, optimizer, images[batches[0]], labels[batches[0]], dtype)
    seconds[name] = median_seconds(functools.partial(train_step, *given), wait_for_device)
    smooth = losses.unfold(0, 8, 1).mean(-1)
    axes.semilogy(range(8, len(losses) + 1), smooth, color=colour, linestyle=style, label=name)
    with torch.no_grad():
        right = (model(images[test]).argmax(-1) == labels[test]).float().mean()
    print(
        f"{name:8} last losses {smooth[-1]:.3f}, right on new digits {right:.1%}, {seconds[name] * 1e3:.1f} ms a step"
    )
print(f"time of a step, float32 / bfloat16: {seconds['float32'] / seconds['bfloat16']:.1f}")
axes.set(xlabel="step", ylabel="training loss, mean of 8 steps", title="A small CNN on MNIST, in two precisions")
axes.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** Two curves on top of each other, and the same share of new digits right, give or take a few in
a thousand. The ratio of times is your machine's: see *A measured comparison* below.
"""

# %%
check("float_facts")

# %% [markdown] tags=["explanation"]
"""
`enabled=dtype is not None` spares the second copy of the forward pass. The loss stands inside the block so that
autocast can lift the 16-bit logits to float32 for it; outside, `cross_entropy` would do its sums in `bfloat16`.
`backward` needs no block: each operation's backward runs in the type of its forward. The weights are float32
throughout, and so are their gradients: autocast casts a *copy* of the weight, and the way back through a cast is a
cast.
"""

# %% [markdown]
r"""
## 5 · A loss scaler

In `float16`, gradients below $6 \cdot 10^{-8}$ are zero. Multiply the loss by $S$ and every gradient is multiplied by
$S$, by the chain rule; divide before the step. How large is $S$? As large as goes well, found by trying: grow it from
time to time, and shrink it when something overflows.

**Task.** Write `LossScaler(init_scale=65536.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000)`, which
does in ordinary training what `torch.amp.GradScaler` does, but without it. A number is *bad* here if it is infinite
or NaN.

- `scale(loss)` returns the loss times the scale.
- `unscale_(optimizer)` divides the gradients of all the optimizer's parameters by the scale, and notes whether any
  element of any of them is bad. A parameter whose `.grad` is `None` is left alone. A second call for the same
  optimizer before `update()` raises `RuntimeError`, and so does one after its `step`.
- `step(optimizer)` calls `unscale_` unless that was done, and then `optimizer.step()` **unless something is bad**: then
  nothing of it changes, neither weights nor the optimizer's state. It returns what `optimizer.step()` returns, or
  `None` if it was skipped. A second `step` for the same optimizer before `update()` raises `RuntimeError`.
- `update()` ends the iteration. If *any* optimizer met something bad since the last `update()`, the scale is multiplied
  by `backoff_factor` and the count starts at 0 again. Otherwise the count grows by one; when it reaches
  `growth_interval`, the scale is multiplied by `growth_factor`, and the count starts at 0 again.

The attributes for the scale, its two factors, the interval and the count are there already, and so are `get_scale()`,
which returns the scale, and `state_dict()` and `load_state_dict(state)`, whose keys are those of PyTorch's scaler, so
that each can read the other's. What else it must remember between the calls is yours: add it where the stub is.
"""


# %%
class LossScaler:
    """Keeps the gradients of a 16-bit loss in range, with a scale that finds itself."""

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self._scale = init_scale
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval, self._growth_tracker = growth_interval, 0
        ### BEGIN SOLUTION
        self._bad: dict[int, bool] = {}  # by optimizer, once it is unscaled
        self._stepped: set[int] = set()
        ### END SOLUTION

    def scale(self, loss: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        return loss * self._scale
        ### END SOLUTION

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        ### BEGIN SOLUTION
        if id(optimizer) in self._bad:
            raise RuntimeError("the gradients of this optimizer are unscaled already: call update() first")
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for parameter in parameters:
            parameter.grad.mul_(1 / self._scale)
        self._bad[id(optimizer)] = not all(p.grad.isfinite().all() for p in parameters)
        ### END SOLUTION

    def step(self, optimizer: torch.optim.Optimizer) -> Any:
        ### BEGIN SOLUTION
        if id(optimizer) in self._stepped:
            raise RuntimeError("this optimizer has taken its step already: call update() first")
        if id(optimizer) not in self._bad:
            self.unscale_(optimizer)
        self._stepped.add(id(optimizer))
        return None if self._bad[id(optimizer)] else optimizer.step()
        ### END SOLUTION

    def update(self) -> None:
        ### BEGIN SOLUTION
        if any(self._bad.values()):
            self._scale *= self._backoff_factor
            self._growth_tracker = 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self._growth_interval:
                self._scale *= self._growth_factor
                self._growth_tracker = 0
        self._bad.clear()
        self._stepped.clear()
        ### END SOLUTION

    def get_scale(self) -> float:
        return self._scale

    def state_dict(self) -> dict[str, Any]:
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scale = state["scale"]
        self._growth_factor, self._backoff_factor = state["growth_factor"], state["backoff_factor"]
        self._growth_interval, self._growth_tracker = state["growth_interval"], state["_growth_tracker"]


# %% tags=["demo"]
weight = nn.Parameter(torch.tensor([1.0]))
optimizer = torch.optim.SGD([weight], lr=0.1)
scaler = LossScaler(init_scale=2.0**18, growth_interval=3)
for step in range(8):
    optimizer.zero_grad()
    # The gradient passes through float16 on its way: 1 · 2¹⁸ is more than 65,504.
    scaler.scale(weight.half().float().sum()).backward()
    scaler.step(optimizer)
    print(f"step {step}: scale 2^{math.log2(scaler.get_scale()):.0f}, weight {weight.item():.1f}")
    scaler.update()

# %% [markdown]
r"""
**What you should see.** The first three steps are skipped: the gradient, 1 times $2^{18}$, $2^{17}$ or $2^{16}$, is
infinite in `float16`. With $2^{15}$ three steps succeed, the scale grows to $2^{16}$, and one more step is lost. This
is what it costs for ever: one step in `growth_interval`.
"""

# %%
check("loss_scaler")

# %% [markdown] tags=["explanation"]
"""
The gradients are unscaled even if they are bad: whoever looks at them, or clips, must find them in the usual units.
Clipping belongs between `unscale_` and `step`; before, the threshold would be 65,536 times too strict. The check of a
GPU's gradients must be *read* by Python to decide on the step, and that is a synchronisation. PyTorch's fused
optimizers take the flag along and decide on the device.
"""

# %% [markdown]
"""
## 6 · A slow step

Here is a step of training that somebody has written. The examples of rare classes weigh more, and it reports its
accuracy. The results are right, and the network is small. Yet it is slow. Where does the time go? Do not guess:
count.
"""


# %%
def slow_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> tuple[float, float]:
    """One step of class-balanced training on `x` `(batch, d)`; loss and accuracy."""
    batch, classes = len(labels), 10
    x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3)
    logits = model(x)
    weights = batch / (classes * torch.bincount(labels, minlength=classes).clamp(min=1))
    loss, right = torch.zeros((), device=x.device), 0.0
    for row, label in zip(logits, labels, strict=True):
        loss = loss - weights[label] * F.log_softmax(row, -1)[label]
        right += (row.argmax() == label).item()
    loss = loss / batch
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), right / batch


# %% [markdown]
"""
**Task.** Write three functions.

1. `operator_calls(call)` runs `call()` once under `torch.profiler.profile`, for CPU activities only, and returns a
   dict: how many times each operator ran, by name. An operator is an event whose name begins with `aten::`; leave that
   prefix away. Operators that others call inside are counted too, as the profiler does.
2. `reads(call)` returns how often `call()` made Python wait for a number: each `.item()`, and each use of a tensor as
   an index or in an `if`, ends in the operator `_local_scalar_dense`.
3. `fast_step(model, optimizer, x, labels)` does what `slow_step` does, with the same updates, loss and accuracy up to
   rounding. It returns loss and accuracy as two **tensors** without dimensions, off the tape. It runs the same number
   of operators for every batch size, and, with an optimizer that reads nothing, makes no reads at all. The model may
   compute in any type of float: `F.cross_entropy` wants its `weight` in that of the logits, and the accuracy has it
   too.
"""


# %%
def operator_calls(call: Callable[[], object]) -> dict[str, int]:
    """How many times each operator runs in `call()`, by name without `aten::`."""
    ### BEGIN SOLUTION
    with profile(activities=[ProfilerActivity.CPU]) as record:
        call()
    return {e.key.removeprefix("aten::"): e.count for e in record.key_averages() if e.key.startswith("aten::")}
    ### END SOLUTION


def reads(call: Callable[[], object]) -> int:
    """How often Python waits for a number in `call()`."""
    ### BEGIN SOLUTION
    return operator_calls(call).get("_local_scalar_dense", 0)
    ### END SOLUTION


def fast_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`slow_step` without its bottleneck; loss and accuracy, off the tape."""
    ### BEGIN SOLUTION
    batch, classes = len(labels), 10
    x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3)
    logits = model(x)
    weights = batch / (classes * torch.bincount(labels, minlength=classes).clamp(min=1))
    loss = F.cross_entropy(logits, labels, weight=weights.to(logits.dtype), reduction="sum") / batch
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach(), (logits.argmax(-1) == labels).to(logits.dtype).mean()
    ### END SOLUTION


# %% tags=["demo"]
rows = training[:256]
flat = images[rows].flatten(1)
for step in (slow_step, fast_step):
    model = move(mlp((784, 64, 10)), device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def one_step(step: Callable = step, model: nn.Module = model, optimizer: Any = optimizer) -> object:
        return step(model, optimizer, flat, labels[rows])

    calls = operator_calls(one_step)
    busiest = sorted(calls.items(), key=lambda item: -item[1])[:4]
    took = median_seconds(one_step, wait_for_device, repeats=5, warmup=1)
    print(f"{step.__name__}: {sum(calls.values()):,} operators, {reads(one_step)} reads, {took * 1e3:.1f} ms")
    print("   busiest:", ", ".join(f"{name} {count}" for name, count in busiest))

# %% [markdown]
"""
**What you should see.** Over 8,000 operators for the slow step, 769 of them reads: three for each of the 256 examples,
and the loss. Some 150 for the fast one, and no read. On a CPU the fast step takes a fraction of the time; on a GPU,
where each read empties the queue, the difference would be larger.
"""

# %%
check("operator_calls")

# %% [markdown] tags=["explanation"]
"""
The decoys were the normalisation and the two matrix products, which hold nearly all of the *arithmetic*. Counts do not
lie where times do: they are the same on every run and every machine, so they are also what to put into a test. Mind the
division: with `weight=` and the default reduction, `cross_entropy` divides by the sum of the weights, which is
`batch` only if every class is present.
"""

# %% [markdown]
r"""
## 7 · Activation checkpointing

The activations of a deep network are most of its memory, and can be had a second time: run the forward pass again.
*Checkpointing* keeps only the input of a segment of the network; when `backward` gets there, the segment runs once
more, and what it saves lives only until its gradients are done. The price is one more forward pass, about a third of
the arithmetic.

With $n$ blocks in segments of $s$, the inputs of $n/s$ segments are kept, and one segment at a time is held whole: the
sum $n/s + s$ is smallest for $s = \sqrt n$.

**Task.** Write `checkpointed(blocks, x, segment=None)`, which applies the modules of the sequence `blocks` to `x` in
order.

- They are cut into segments of `segment` blocks; the last one may be shorter. `None` means $\sqrt n$, rounded **up**.
  No blocks: the result is `x`.
- Every segment but the last runs under `torch.utils.checkpoint.checkpoint` with `use_reentrant=False`; so each block
  of theirs runs twice, once forward and once during `backward`. The last segment runs as it is: its activations would
  be needed at once.
- Result and gradients are equal to those of the plain network, **also with dropout**: with the same seed the same
  elements are dropped. (See what `checkpoint` does about the random state by default.)
- A segment must see its *own* blocks when it runs again, long after your loop has ended.
"""


# %%
def checkpointed(blocks: Sequence[nn.Module], x: Tensor, segment: int | None = None) -> Tensor:
    """`blocks` applied to `x` in order, with only the inputs of the segments kept for backward."""
    ### BEGIN SOLUTION
    n = len(blocks)
    segment = segment or max(1, math.ceil(math.sqrt(n)))

    def run(start: int, x: Tensor) -> Tensor:
        for block in blocks[start : start + segment]:
            x = block(x)
        return x

    for start in range(0, n, segment):
        last = start + segment >= n
        x = run(start, x) if last else checkpoint(run, start, x, use_reentrant=False)
    return x
    ### END SOLUTION


# %% tags=["demo"]
class Deep(nn.Module):
    """Sixteen blocks with dropout, in segments of `segment` blocks."""

    def __init__(self, segment: int | None) -> None:
        super().__init__()
        self.segment = segment
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 64)) for _ in range(16)
        )

    def forward(self, x: Tensor) -> Tensor:
        return checkpointed(self.blocks, x, self.segment)


x = torch.randn(128, 64)
for segment in (16, 8, 4, 2, 1):
    torch.manual_seed(0)
    model = Deep(segment)
    memory = measured_bytes(model, torch.optim.SGD(model.parameters(), lr=0.1), x)
    gradient = model.blocks[0][0].weight.grad.norm().item()
    print(f"segments of {segment:2}: {memory.activations / 1e6:5.2f} MB kept, norm of a gradient {gradient:.4e}")

# %% [markdown]
"""
**What you should see.** 6.8 MB for one segment, which is no checkpointing at all, down to 0.9 MB for segments of one,
and the same norm in every line, dropout and all. What is *kept* falls all the way; what a segment holds while it runs
again is not in this count, and grows with the segment.
"""

# %%
check("checkpointed")

# %% [markdown] tags=["explanation"]
"""
`checkpoint` notes the state of the random generators and puts it back for the second run: dropout drops the same
elements, and its gradient is that of the forward pass that really happened. What it cannot put back is whatever else
the block remembers: a batch norm updates its running averages twice.
"""

# %% [markdown]
r"""
## 8 · Two ranks

What does not fit on one device is split over several. `fully_shard` changes a model **in place**: each parameter
becomes a `DTensor`, of which every rank holds a part, cut along the first axis. Two processes on this machine are
enough to see all of it.

**Task.** Write four functions that every rank calls, with a process group up (`torch.distributed` is `dist`).

1. `shard(model)` makes each of the model's children (`model.children()`) a unit of its own by `fully_shard`, and then
   the model itself, over a mesh of all ranks on the CPU:
   `dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))`. It returns the model.
2. `held_bytes(model)` returns the bytes of parameters that **this rank** holds: of the local parts (`to_local()`), not
   of the whole.
3. `sharded_step(model, optimizer, x, y)` is given the **whole** batch on every rank, a multiple of the number of ranks,
   and takes one step on this rank's rows: with $N$ ranks, rank $r$ takes the $r$-th of $N$ equal parts, in order. The
   loss is the mean square `(model(x) - y).square().mean()`; old gradients are cleared. It returns the loss of the
   whole batch, the **mean over all ranks**, as a float, the same on every rank.
4. `whole_state(model)` returns a dict on every rank: each parameter's name, and its whole value (`full_tensor()`), off
   the tape.
"""


# %%
from torch.distributed.fsdp import fully_shard


def shard(model: nn.Module) -> nn.Module:
    """Shard `model` over all ranks, in place, each child a unit; `model` itself."""
    ### BEGIN SOLUTION
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for child in model.children():
        fully_shard(child, mesh=mesh)
    return fully_shard(model, mesh=mesh)
    ### END SOLUTION


def held_bytes(model: nn.Module) -> int:
    """The bytes of parameters that this rank holds."""
    ### BEGIN SOLUTION
    return sum(p.to_local().nbytes for p in model.parameters())
    ### END SOLUTION


def sharded_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """One step on this rank's part of the batch; the mean square over the whole batch."""
    ### BEGIN SOLUTION
    rank, ranks = dist.get_rank(), dist.get_world_size()
    loss = (model(x.chunk(ranks)[rank]) - y.chunk(ranks)[rank]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    total = loss.detach()
    dist.all_reduce(total)
    return total.item() / ranks
    ### END SOLUTION


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """The whole parameters by name, on every rank."""
    ### BEGIN SOLUTION
    return {name: p.full_tensor().detach() for name, p in model.named_parameters()}
    ### END SOLUTION


# %% tags=["demo"]
def two_ranks(pixels: Tensor, target: Tensor) -> dict[str, Any]:
    """What each rank does: build the same model, shard it, train, and say what it holds."""
    torch.manual_seed(0)
    model = shard(mlp((784, 128, 1)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    losses = [sharded_step(model, optimizer, pixels, target) for _ in range(20)]
    parts = {name: tuple(p.to_local().shape) for name, p in model.named_parameters()}
    return {"bytes": held_bytes(model), "parts": parts, "losses": losses, "state": whole_state(model)}


rows = training[:512]
pixels, target = images[rows].flatten(1).cpu(), labels[rows].cpu().float()[:, None]
ranks = launch(two_ranks, pixels, target)
for rank, report in enumerate(ranks):
    print(f"rank {rank}: {report['bytes']:,} bytes, parts {report['parts']}")

torch.manual_seed(0)
model = mlp((784, 128, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
for _ in range(20):
    loss = (model(pixels) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"one process: {sum(p.nbytes for p in model.parameters()):,} bytes, last loss {loss.item():.4f}")
gap = max((p - ranks[0]["state"][name]).abs().max().item() for name, p in model.named_parameters())
print(f"two ranks: last loss {ranks[0]['losses'][-1]:.4f}, largest difference of the weights {gap:.0e}")

# %% [markdown]
"""
**What you should see.** Two ranks with about half of 402,436 bytes each; the last layer has one row, so its weight is
on rank 0 entirely and rank 1 has an empty part. After twenty steps the loss is the same as that of one process with the
whole batch, and the weights differ by rounding.

`launch` is a small helper of this repository: it starts the processes (which is quick here only because they are
*forked* from a process that has PyTorch loaded), lets them meet, and brings back what they return. A real run is
started by `torchrun`.
"""

# %%
check("shard")

# %% [markdown] tags=["explanation"]
"""
You wrote no communication except the one for the loss. The gathering before forward and backward, and the
reduce-scatter of the gradients, with a *mean* over the ranks, hang on hooks that `fully_shard` has put on every unit.
The mean over ranks of the mean over rows is the mean over the batch because all parts are equal. `full_tensor()` is a
collective: all ranks must call it, also those that do not want the result.
"""

# %% [markdown]
"""
## A measured comparison

The three ways to save, on one convolutional network and 256 real digits: what each costs in time, and what it keeps for
backward. Times are by `torch.utils.benchmark`, on one thread.
"""


# %% tags=["demo"]
class Deeper(nn.Module):
    """A stem, eight convolutional blocks, a head; `segment` blocks to a segment, computed in `dtype`."""

    def __init__(self, segment: int, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.segment, self.dtype = segment, dtype
        self.stem = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(8))
        self.head = nn.Linear(16 * 14 * 14, 10)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return self.head(checkpointed(self.blocks, self.stem(x), self.segment).flatten(1))


rows = training[:256]
ways = {
    "float32": (8, None),
    "bfloat16": (8, torch.bfloat16),
    "float32, checkpointed": (3, None),
    "bfloat16, checkpointed": (3, torch.bfloat16),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
for (way, (segment, dtype)), colour in zip(ways.items(), COLOURS, strict=False):
    torch.manual_seed(0)
    model = Deeper(segment, dtype).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    kept = measured_bytes(model, optimizer, images[rows]).activations / 2**20
    timer = Timer("train_step(*given)", globals={"train_step": train_step,
                  "given": (model, optimizer, images[rows], labels[rows])})  # fmt: skip
    milliseconds = timer.blocked_autorange(min_run_time=0.6).median * 1e3
    left.barh(way, kept, color=colour)
    right.barh(way, milliseconds, color=colour)
    print(f"{way:23} {kept:5.1f} MiB kept, {milliseconds:6.1f} ms a step")
left.set(xlabel="MiB kept for backward")
right.set(xlabel="ms a step")
left.invert_yaxis()
plt.show()

# %% [markdown]
"""
The memory is exact, and the same on every machine: `bfloat16` halves it, and so, nearly, does checkpointing; together
they leave less than a third. The times are your machine's. Where we measured, on a CPU that multiplies `bfloat16` in
hardware, 16 bits took 0.6 of the time in this network and made no difference for the smaller one above, and
recomputing cost a quarter more: all ratios below 3, which another machine, or the same one when it is busy, may turn
round. A CPU without such instructions is *slower* in `bfloat16`. On a GPU with 16-bit matrix units, large layers gain
most.
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

- **One number is watched above all: utilisation**, the share of the hardware's peak that the model's own arithmetic
  reaches. Recomputation by checkpointing does not count as the model's own. Large runs report 40 to 60 %.
- **Profiles are traces.** `profile(...).export_chrome_trace` writes a timeline of what each thread and each stream did;
  gaps in the device's line are where Python was late. With a thousand ranks, one slow rank delays all the others at
  every collective, and finding it is a job of its own.
- **Checkpointing is selective.** Nobody recomputes matrix products if it can be helped. What is recomputed are cheap
  operations with large outputs, such as norms, activations and dropout; the policy can be given to `checkpoint` by its
  `context_fn`.
- **`bfloat16` has made loss scaling rare**, and 8-bit training has brought it back, block by block: every tile of a
  tensor carries its own scale, chosen from what it holds.
- **Sharding is the default**, not the exception, from a few billion parameters on. Phase 2 goes on with the mesh.
"""

# %% [markdown]
r"""
## Side quests

### Side quest A · What the compiler sees

`torch.compile` reads your function's bytecode and hands *graphs* to a backend. Where it cannot go on, for instance at
an `if` on a tensor's value, the graph *breaks*: what is before and what is after are compiled apart, and Python runs in
between. And a graph holds for certain shapes: others make it compile again.

**Task.** Write two functions.

1. `count_graphs(function, calls)` returns how many graphs the compiler hands to its backend over all the `calls`, a
   sequence of tuples of arguments, `function(*arguments)` for each in turn. Start afresh (`torch.compiler.reset()`),
   and use a backend of your own for `torch.compile`: a function that gets `(graph_module, example_inputs)`, counts, and
   returns `graph_module.forward`.
2. `rescale(x, limit)` does the same as `rescale_with_if` below, in **one** graph, for any `x`; zeros stay zeros.
"""


# %%
def rescale_with_if(x: Tensor, limit: float) -> Tensor:
    """`x`, shortened to the norm `limit` if it is longer."""
    norm = x.norm()
    if norm > limit:
        return x * (limit / norm)
    return x * 1.0


# %%
def count_graphs(function: Callable, calls: Sequence[tuple]) -> int:
    """How many graphs are compiled for `function` over `calls`."""
    ### BEGIN SOLUTION
    graphs = []

    def backend(graph_module: torch.fx.GraphModule, example_inputs: list) -> Callable:
        graphs.append(graph_module)
        return graph_module.forward

    torch.compiler.reset()
    compiled = torch.compile(function, backend=backend)
    for arguments in calls:
        compiled(*arguments)
    return len(graphs)
    ### END SOLUTION


def rescale(x: Tensor, limit: float) -> Tensor:
    """`x`, shortened to the norm `limit` if it is longer, without asking."""
    ### BEGIN SOLUTION
    return x * (limit / x.norm()).clamp(max=1)
    ### END SOLUTION


# %% tags=["demo"]
long, short = 10 * torch.ones(100), torch.ones(100) / 100
for function in (rescale_with_if, rescale):
    print(f"{function.__name__}: {count_graphs(function, [(long, 1.0), (short, 1.0)])} graphs")
sizes = [(torch.ones(n), 1.0) for n in (4, 5, 6, 7)]
print("four lengths:", count_graphs(rescale, sizes), "graphs")

# %% [markdown]
"""
**What you should see.** Three graphs with the `if` (the norm, and one for each branch), one without. Four lengths take
two graphs: the first is for length 4; after the second the compiler suspects that lengths vary, and makes a graph for
any.
"""

# %%
check("count_graphs")

# %% [markdown] tags=["explanation"]
"""
Data-dependent control flow becomes data flow: both outcomes are expressed as one formula. A minimum, a `torch.where`, a
mask. The price is that both sides are computed; on a GPU that is nearly always cheaper than asking.
"""

# %% [markdown]
r"""
### Side quest B · Channels last

A batch of pictures `(n, c, h, w)` can lie in memory in another order than its axes: with `channels_last`, the channels
of a pixel are neighbours, which is what convolution kernels on GPUs with 16-bit units want. Shapes and results stay the
same; only strides differ. One module that rearranges its input undoes it for all that follow.

**Task.** Write `layouts(model, x)`. It converts `x` and, **in place**, the model to `torch.channels_last`, runs the
model once without recording gradients, and returns a dict: for each **leaf module** (one without children) that ran and
returned a tensor of four axes, its name in `named_modules()`, and whether its output
`.is_contiguous(memory_format=torch.channels_last)`. In the order in which they ran. Your hooks are removed at the end.
"""


# %%
def layouts(model: nn.Module, x: Tensor) -> dict[str, bool]:
    """Which leaf modules of `model` give outputs in channels_last, for `x` `(n, c, h, w)`."""
    ### BEGIN SOLUTION
    found = {}

    def listen(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if output.dim() == 4:
                found[name] = output.is_contiguous(memory_format=torch.channels_last)

        return module.register_forward_hook(note)

    model.to(memory_format=torch.channels_last)
    handles = [listen(name, module) for name, module in model.named_modules() if not list(module.children())]
    with torch.no_grad():
        model(x.to(memory_format=torch.channels_last))
    for handle in handles:
        handle.remove()
    return found
    ### END SOLUTION


# %% tags=["demo"]
class Shuffle(nn.Module):
    """Mixes the channels of two groups, as ShuffleNet does."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def conv_net(*between: nn.Module) -> nn.Sequential:
    """Three convolutions, and something between the first two."""
    return nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), *between, nn.Conv2d(32, 32, 3, padding=1),
                         nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))  # fmt: skip


x = torch.randn(16, 8, 32, 32)
print(layouts(conv_net(), x))
print(layouts(conv_net(Shuffle(), nn.MaxPool2d(2)), x))
for form in (torch.contiguous_format, torch.channels_last):
    model, given = conv_net().to(memory_format=form), x.to(memory_format=form)
    took = Timer("model(given)", globals={"model": model, "given": given}).blocked_autorange(min_run_time=0.4)
    print(f"{form}: {took.median * 1e3:.1f} ms")

# %% [markdown]
"""
**What you should see.** `True` everywhere in the first network. In the second the shuffle and the pooling after it are
`False`; the convolutions, whose weights are in `channels_last`, put their own outputs back, at the price of a copy. On
a CPU the two times are often about the same: its kernels rearrange small images as they like.
"""

# %%
check("layouts")

# %% [markdown] tags=["explanation"]
"""
A memory format is a statement about strides, so nothing in the results can tell you that it was lost, and no error
will. That is why one looks with hooks.
"""

# %% [markdown]
r"""
### Side quest C · The roof

An operation that does $W$ arithmetic operations and moves $Q$ bytes has the **arithmetic intensity** $I = W / Q$. A
machine with the peak $P$ operations a second and the bandwidth $B$ bytes a second cannot do it at a higher rate than

$$R(I) = \min(P,\; B \cdot I)$$

**Task.** Write three functions; each of the first two returns a tuple `(operations, bytes)` of ints. Every input is
read once and every output written once.

1. `matmul_work(m, k, n, itemsize)` for the product of `(m, k)` and `(k, n)`: a multiplication and an addition for each
   of the `m · k · n` terms.
2. `add_work(count, itemsize)` for the sum of two tensors of `count` elements.
3. `attainable(intensity, peak, bandwidth)`, the roof $R(I)$.
"""


# %%
def matmul_work(m: int, k: int, n: int, itemsize: int) -> tuple[int, int]:
    """Operations and bytes of `(m, k) @ (k, n)`."""
    ### BEGIN SOLUTION
    return 2 * m * k * n, (m * k + k * n + m * n) * itemsize
    ### END SOLUTION


def add_work(count: int, itemsize: int) -> tuple[int, int]:
    """Operations and bytes of the sum of two tensors."""
    ### BEGIN SOLUTION
    return count, 3 * count * itemsize
    ### END SOLUTION


def attainable(intensity: float, peak: float, bandwidth: float) -> float:
    """The rate, in operations a second, that the machine allows at this intensity."""
    ### BEGIN SOLUTION
    return min(peak, bandwidth * intensity)
    ### END SOLUTION


# %% tags=["demo"]
points = {}
million = torch.randn(8_000_000, device=device)
total = torch.empty_like(million)
points["sum of two"] = (add_work(len(million), 4), median_seconds(lambda: torch.add(million, million, out=total),
                        wait_for_device))  # fmt: skip
big = torch.randn(1536, 1536, device=device)
for columns in (1, 4, 16, 64, 256, 1536):
    thin = torch.randn(1536, columns, device=device)
    points[f"product with {columns}"] = (matmul_work(1536, 1536, columns, 4),
                                         median_seconds(lambda thin=thin: big @ thin, wait_for_device))  # fmt: skip

rates = {name: (work / moved, work / took) for name, ((work, moved), took) in points.items()}
peak = max(rate for _, rate in rates.values())
bandwidth = rates["sum of two"][1] / rates["sum of two"][0]
figure, axes = plt.subplots(figsize=(7, 3.8))
intensities = torch.logspace(-1.5, 3, 200).tolist()
roof = [attainable(i, peak, bandwidth) / 1e9 for i in intensities]
axes.loglog(intensities, roof, linestyle="-", color=INK)
for name, (intensity, rate) in rates.items():
    axes.loglog([intensity], [rate / 1e9], marker="o", linestyle="", markersize=8, color=COLOURS["product" in name])
    label = name.removeprefix("product with ")
    axes.annotate(label, (intensity, rate / 1e9), (0, -15), textcoords="offset points", ha="center", fontsize=9)
axes.set(
    xlabel="operations for each byte",
    ylabel="10⁹ operations a second",
    title="The roofline of this machine: products with 1 to 1,536 columns",
)
plt.show()
print(f"peak {peak / 1e9:.0f} · 10⁹ operations/s, {bandwidth / 1e9:.0f} GB/s, ridge at {peak / bandwidth:.1f} per byte")

# %% [markdown]
"""
**What you should see.** A slope and a flat roof. The sum of two tensors sits at the far left, on the slope, by
construction: it is how the bandwidth was measured. The product with one column, which is what generating one token
does, is on the slope too; with enough columns it comes to the flat part. A point far *below* the roof is a kernel
that is not good at its shape. One *above* the slope is no miracle: the matrix fits into the cache, which is faster
than the memory.
"""

# %%
check("matmul_work")

# %% [markdown] tags=["explanation"]
"""
The thin products explain serving: a language model that generates for one user reads every weight for two operations.
Sixteen users at once cost about the same time. That is why servers batch.
"""

# %% [markdown]
"""
## Recap

You own the instruments now: a clock, a ledger, a profile. You know which sixteen bits to use where, and what keeps the
small gradients alive; you have bought memory with arithmetic, and split a model over two processes that never hold it
whole.

**Next** comes Lab 6, where the network is deep enough to need them.
"""
