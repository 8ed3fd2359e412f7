# %% [markdown]
"""
# Lab 3: Training loop from scratch

A training loop that is slightly wrong still trains. It reports a loss, the loss falls, and nobody learns that the
average was weighted wrongly, that clipping bent the direction, or that the run which was resumed on Tuesday is not
the run that stopped on Monday. In this lab you write every part of the loop yourself, and prove each one equal to
PyTorch's, or to itself before it was interrupted, bit for bit.

**You will be able to**

- write SGD with momentum, Adam and AdamW as PyTorch optimizers, and say what each line is for;
- drive them with a warm-up and cosine schedule and clip gradients without changing their direction;
- write training steps and evaluations that leave modes and gradients as they should be;
- find planted bugs in seconds by overfitting one batch;
- stop a run at any step and resume it so that nobody can tell.

**Time** two hours for the eight exercises (20 points). Five side quests at the end earn XP only.

**You need to know** Labs 1 and 2 and the theory brief *Optimizers and training loops* (15 minutes).
"""

# %% [markdown]
"""
## Set-up

`check("sgd")` tests an exercise, `hint("sgd")` gives one of three hints.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab3")

# %%
import copy
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from labkit.data import digits
from labkit.measure import compare
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## 1 · SGD with momentum, as a PyTorch optimizer

`torch.optim.Optimizer` is a base class that you may use too. You hand its constructor the parameters and a dict of
settings; it gives you `zero_grad`, `state_dict` and `load_state_dict`, and two things to work with in `step`:

- `self.param_groups`, a list of dicts. Each has its own `"params"`, a list, and its own value of every setting, so that
  `group["lr"]` may differ from group to group, and may be changed by a schedule between two steps;
- `self.state[p]`, a dict for each parameter `p`, empty at first, for what must be remembered. It is what
  `state_dict()` saves.

**Task.** Write `SGD(params, lr, momentum=0.0)` with the settings `"lr"` and `"momentum"`. `step()` does, for each
parameter with gradient $g$ and the settings of its group,

$$v \leftarrow \mu v + g \quad (\text{the first time } v = g), \qquad w \leftarrow w - \text{lr} \cdot v$$

in place and off the tape. A parameter whose `.grad` is None is skipped: neither it nor its velocity changes. Gradients
stay as they are. All that is remembered lives in `self.state`. Do without PyTorch's own optimizers here and in
exercise 2 (the base class is fine).
"""


# %%
class SGD(torch.optim.Optimizer):
    """Gradient descent with momentum."""

    def __init__(self, params: Iterable, lr: float, momentum: float = 0.0) -> None:
        ### BEGIN SOLUTION
        super().__init__(params, {"lr": lr, "momentum": momentum})
        ### END SOLUTION

    @torch.no_grad()
    def step(self) -> None:
        ### BEGIN SOLUTION
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                velocity.mul_(group["momentum"]).add_(p.grad)
                p.sub_(group["lr"] * velocity)
        ### END SOLUTION


# %% tags=["demo"]
w = torch.tensor([1.0], requires_grad=True)
optimizer = SGD([w], lr=0.1, momentum=0.5)
for _ in range(3):
    optimizer.zero_grad()
    (2 * w).sum().backward()
    optimizer.step()
    print(f"{w.item():.2f}", end=" ")
print(optimizer.state_dict()["param_groups"])

# %% [markdown]
"""
**What you should see.** 0.80, 0.50, 0.15: the gradient is always 2, and the velocity is 2, then 3, then 3.5. Then the
group with its settings, in which the parameter has become a number: a `state_dict` holds no parameters.
"""

# %%
check("sgd")

# %% [markdown] tags=["explanation"]
"""
A velocity of zeros makes $v = 0 \\cdot \\mu + g = g$ the first time, so there is no special case. `torch.no_grad` lets
you write to leaves in place; without it PyTorch refuses. Settings are read from the group in *every* step: whoever
copies them in the constructor has an optimizer that no schedule can reach.
"""

# %% [markdown]
r"""
## 2 · AdamW and Adam

With gradient $g$, at this parameter's step $t = 1, 2, \dots$, in this order:

$$\begin{aligned}
w &\leftarrow w \cdot (1 - \text{lr} \cdot \lambda) && \text{decay, of the weight itself}\\
m &\leftarrow \beta_1 m + (1 - \beta_1)\, g && s \leftarrow \beta_2 s + (1 - \beta_2)\, g^2\\
\hat m &= m / (1 - \beta_1^t) && \hat s = s / (1 - \beta_2^t)\\
w &\leftarrow w - \text{lr} \cdot \hat m / (\sqrt{\hat s} + \epsilon)
\end{aligned}$$

$m$ and $s$ start at zero. Note that $\epsilon$ stands **outside** the root, added to it after the bias correction, and
that the decay never meets $m$ or $s$. This is what "decoupled" means.

**Task.** Write `AdamW(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)`, whose groups have these
four settings under these names, and `Adam(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8)`, which is AdamW with
$\lambda = 0$. Everything else is as in exercise 1. A parameter that is skipped does not decay either, and its $t$
stands still.
"""


# %%
class AdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        ### BEGIN SOLUTION
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        ### END SOLUTION

    @torch.no_grad()
    def step(self) -> None:
        ### BEGIN SOLUTION
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), s=torch.zeros_like(p))
                state["t"] += 1
                state["m"].lerp_(p.grad, 1 - beta1)
                state["s"].lerp_(p.grad.square(), 1 - beta2)
                m_hat = state["m"] / (1 - beta1 ** state["t"])
                s_hat = state["s"] / (1 - beta2 ** state["t"])
                p.mul_(1 - lr * group["weight_decay"])
                p.sub_(lr * m_hat / (s_hat.sqrt() + group["eps"]))
        ### END SOLUTION


class Adam(AdamW):
    """Adam: `AdamW` without decay."""

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        ### BEGIN SOLUTION
        super().__init__(params, lr, betas, eps, weight_decay=0.0)
        ### END SOLUTION


# %% tags=["demo"]
start = torch.randn(5)
ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
pair = AdamW([ours], lr=0.1, weight_decay=0.1), torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.1)
for _ in range(100):
    for weight, optimizer in zip((ours, theirs), pair, strict=True):
        optimizer.zero_grad()
        (weight - 1).pow(4).sum().backward()
        optimizer.step()
print("largest difference after 100 steps:", (ours - theirs).abs().max().item())

# %% [markdown]
"""
**What you should see.** Less than a hundred-thousandth.
"""

# %%
check("adam_w")

# %% [markdown] tags=["explanation"]
"""
Each parameter counts its own steps, because one that gets its first gradient late needs the correction late. The count
lives in `self.state` with the averages: an attribute of the optimizer would not be saved, and after a resume the
correction would start again. On the very first step $\\hat m / \\sqrt{\\hat s}$ is $g / |g|$: whatever the gradient's
size, Adam's first step has the length `lr` in every coordinate. That is why it wants a warm-up.
"""

# %% [markdown]
r"""
## 3 · Warm-up and cosine

PyTorch's schedulers are objects that count for themselves, one more thing to save and to forget. A schedule can be a
**pure function** of the step instead: nothing to save, nothing to be off by one.

The convention is the whole exercise. Updates are counted from $t = 0$, and the schedule gives the rate that update $t$
*uses*. With $T$ updates in all, of which the first $W$ are warm-up:

$$\text{rate}(t) = \begin{cases}
\text{lr} \cdot (t + 1) / W & t < W\\
\text{floor} + (\text{lr} - \text{floor}) \cdot \tfrac12 \left(1 + \cos \pi \frac{t - W}{T - W}\right) & W \le t < T\\
\text{floor} & t \ge T
\end{cases}$$

So the first update already moves, updates $W - 1$ and $W$ use the full rate, and the last, $T - 1$, uses a little more
than the floor. (Others start with a rate of 0 and waste a step, or spread the warm-up over $W + 1$ values as the
scheduler in the theory brief does. Each is fine if you know which.)

**Task.** Write `warmup_cosine(step, total, warmup, lr, floor=0.0)`, which returns a float. `warmup` may be 0, and is
less than `total`.
"""


# %%
def warmup_cosine(step: int, total: int, warmup: int, lr: float, floor: float = 0.0) -> float:
    """The learning rate that update `step`, counted from 0, uses."""
    ### BEGIN SOLUTION
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min((step - warmup) / (total - warmup), 1.0)
    return floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2
    ### END SOLUTION


# %% [markdown]
"""
To use it, write the rate into every group before each step. This helper is given:
"""


# %%
def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the next step of `optimizer` use `rate` in all its groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


# %% tags=["demo"]
print([round(warmup_cosine(t, total=8, warmup=3, lr=0.3), 3) for t in range(10)])

# %% [markdown]
"""
**What you should see.** `[0.1, 0.2, 0.3, 0.3, 0.271, 0.196, 0.104, 0.029, 0.0, 0.0]`: three rising, 0.3 twice, and zero
only when all eight updates are done.
"""

# %%
check("warmup_cosine")

# %% [markdown] tags=["explanation"]
"""
Because the function is pure, a resumed run at step 4,711 asks for `warmup_cosine(4711, …)`, and that is all there is to
resuming a schedule. `min(…, 1)` holds the rate at the floor after the end; without it the cosine would come up again.
"""

# %% [markdown]
r"""
## 4 · Clip by the global norm

One strange batch can give a gradient a thousand times too long, and one step with it can undo a day. Clipping shortens
such a gradient and keeps its **direction**. This works only if all parameters are taken together, as one long vector:

$$n = \sqrt{\sum_p \lVert g_p \rVert^2}, \qquad
g_p \leftarrow g_p \cdot \min\left(1,\ \frac{\text{max\_norm}}{n + 10^{-6}}\right) \text{ for every } p$$

The $10^{-6}$ is PyTorch's convention, and so is the minimum: a short gradient is **never lengthened**.

**Task.** Write `clip_gradients(parameters, max_norm)`. It changes each `.grad` in place and returns $n$, the norm
*before* clipping, as a tensor without axes and off the tape. Parameters whose `.grad` is None are skipped; if all
are, the norm is 0. `parameters` may be any iterable, also a generator such as `model.parameters()`, which can be gone
through only once. Do without PyTorch's own clipping.
"""


# %%
@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients down together to a norm of at most `max_norm`; the norm before."""
    ### BEGIN SOLUTION
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm() if gradients else torch.tensor(0.0)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)
    return norm
    ### END SOLUTION


# %% tags=["demo"]
a, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
print("norm", clip_gradients([a, b], max_norm=1.0).item(), "gradients", a.grad, b.grad)
print("norm", clip_gradients([a, b], max_norm=1.0).item(), "gradients", a.grad, b.grad)

# %% [markdown]
"""
**What you should see.** A norm of 5 and gradients of 0.6 and 0.8; then a norm of 1, and the same gradients.
"""

# %%
check("clip_gradients")

# %% [markdown] tags=["explanation"]
"""
The norm of the norms is the norm of everything, without a copy of everything. The factor stays a tensor, so that on a
GPU nothing waits for it: no `if`, only a `clamp`. Log the norm that you get back; it is the cheapest alarm of a run
that is about to go wrong.
"""

# %% [markdown]
"""
## 5 · A step and an evaluation

The two halves of every loop. Each is a few lines, and each line is there because somebody once left it out.

**Task.** Write two functions. `loss_fn(output, y)` and `measure(output, y)` take a batch's outputs and targets and
return a **mean over its rows**, a tensor without axes.

1. `train_step(model, loss_fn, optimizer, x, y, max_norm=None)` makes one update: the model in training mode,
   gradients of this batch only (whatever was in `.grad` before), those of the model's parameters clipped to
   `max_norm` by your `clip_gradients` unless it is None, one `optimizer.step()`. It returns the loss before the
   update, as a tensor **off the tape**.
2. `evaluate(model, measure, batches)` returns, as a float, the mean of the measure **over all rows** of the pairs
   `(x, y)` in `batches`. Their sizes may differ, and a row in a small batch counts as much as any other. The model
   runs in evaluation mode and without recording a graph. Afterwards **every submodule** is in the mode in which it was
   found: a frozen batch norm in an otherwise training model stays frozen. This holds also if the model raises.
   Gradients in `.grad` are left alone.
"""


# %%
def train_step(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    max_norm: float | None = None,
) -> Tensor:
    """One update on the batch `(x, y)`; the loss before it, detached."""
    ### BEGIN SOLUTION
    model.train()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    if max_norm is not None:
        clip_gradients(model.parameters(), max_norm)
    optimizer.step()
    return loss.detach()
    ### END SOLUTION


def evaluate(
    model: nn.Module, measure: Callable[[Tensor, Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """The mean of `measure` over all rows of `batches`, in evaluation mode; the modes are put back."""
    ### BEGIN SOLUTION
    modes = {module: module.training for module in model.modules()}
    total, rows = 0.0, 0
    try:
        model.eval()
        with torch.no_grad():
            for x, y in batches:
                total += measure(model(x), y).item() * len(x)
                rows += len(x)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return total / rows
    ### END SOLUTION


# %% tags=["demo"]
def mean_error(output: Tensor, y: Tensor) -> Tensor:
    """The mean distance of output and target."""
    return (output - y).abs().mean()


target = torch.arange(10.0)[:, None]
print(evaluate(nn.Dropout(0.5), mean_error, [(torch.zeros(8, 1), target[:8]), (torch.zeros(2, 1), target[8:])]))

# %% [markdown]
"""
**What you should see.** 4.5, the mean of 0 to 9. The mean of the two batches' means is 6.0.
"""

# %%
check("train_step")

# %% [markdown] tags=["explanation"]
"""
A loss that is returned with its graph keeps all activations of its step alive for as long as somebody keeps the loss,
in a list of losses for ever. `module.training = mode` sets one module; `model.train(mode)` would set all below it. In a
loop that reads the loss only now and then, a detached tensor also spares the wait that `.item()` means on a GPU.
"""

# %% [markdown]
"""
## 6 · Overfit one batch

The best test of a training set-up costs seconds: can it learn **one** batch by heart? If not, there is a bug, and you
need not look for it in a run of a week.

**Task.** Write `overfits(model, loss_fn, x, y, steps=200, lr=0.01, threshold=0.05)`. It trains a **copy** of the model,
in training mode, on the same batch with Adam (yours, or PyTorch's) at the rate `lr`, makes at most `steps` updates,
without clipping or schedule, and looks at the loss before each and after the last. It returns `True` if a loss below
`threshold` was seen, else `False`, as a Python bool. `model` itself, its gradients and its mode are not changed.

If the loss reaches no parameter that requires grad (all frozen, or the graph is cut), nothing can be learned: the
answer is then `False`, not an exception, unless the very first loss is below the threshold.
"""


# %%
def overfits(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    steps: int = 200,
    lr: float = 0.01,
    threshold: float = 0.05,
) -> bool:
    """Whether a copy of `model` can be driven below `threshold` on one batch by at most `steps` updates."""
    ### BEGIN SOLUTION
    model = copy.deepcopy(model).train()
    optimizer = Adam(model.parameters(), lr)
    for _ in range(steps + 1):
        loss = loss_fn(model(x), y)
        if loss < threshold:
            return True
        if not loss.requires_grad:
            return False
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return False
    ### END SOLUTION


# %% tags=["demo"]
class Detached(nn.Module):
    """A network whose author wanted to save memory."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)).detach() * 0.01)


data = digits()
pixels = data.images.flatten(1).float() / 16
batch = pixels[:32], data.labels[:32]
torch.manual_seed(0)
suspects = {
    "healthy": nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
    "softmax before cross-entropy": nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(1)),
    "relu after the last layer": nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.ReLU()),
    "detached in the middle": Detached(),
    "all frozen": nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).requires_grad_(False),
}
for name, suspect in suspects.items():
    print(f"{name:30}", overfits(suspect, F.cross_entropy, *batch))

# %% [markdown]
"""
**What you should see.** True for the healthy network, and False for the four others. All of them would have trained
without an error message, the frozen one excepted, and two of them down to a loss that looks respectable.
"""

# %%
check("overfits")

# %% [markdown] tags=["explanation"]
"""
With `steps + 1` rounds, the loss is looked at once more than the weights are moved; the update after the last look is
made on a copy that nobody will see. A NaN is below no threshold, so it needs no case of its own. Dropout and
augmentation make learning by heart harder: switch them off for this test.
"""

# %% [markdown]
r"""
## 7 · Stop anywhere, resume as if nothing had happened

Machines fail, time slots end, and a run must go on from where it was: not nearly, but **bit for bit**. Then a resumed
run proves its own checkpoint, and a strange loss at step 90,000 can be replayed. Five things decide what the next
update does: the weights, the optimizer's memory, the rate, the rows, and the random numbers.

Rate and rows can be pure functions of the step, so one integer restores both. With $B = \lceil n / \text{batch\_size}
\rceil$ batches an epoch, step $t$ belongs to epoch $e = \lfloor t / B \rfloor$ and is number $t \bmod B$ in it. The
order of epoch $e$ is `torch.randperm(n, generator=g)` with a new generator `g` whose seed is `seed + e`, as in
PyTorch's `DistributedSampler`; it is cut into batches from the front, and the last one may be smaller.

**Task.** Write four functions.

1. `rows_of_step(step, n, batch_size, seed)` returns the row numbers of that batch as a list of ints. It touches no
   global random state.
2. `save_checkpoint(path, step, model, optimizer)` saves the step, the state dicts of model and optimizer, and the
   states of **two** random number generators: torch's (`torch.get_rng_state`) and that of Python's `random`
   (`random.getstate`). Fill in the dict `checkpoint`; that it is saved **atomically** is written already: a new file in
   the same folder is put in the place of the old one, so that whatever happens during saving, at `path` there is the
   old checkpoint or the new one, whole.
3. `load_checkpoint(path, model, optimizer)` puts everything back into the given objects and generators, and returns the
   step. It loads with `weights_only=True`: a checkpoint is data, and must not be able to run code.
4. `train_until(stop, path, model, optimizer, schedule, dataset, batch_size, seed, workers=0)` begins with the
   checkpoint at `path` if there is a file, else at step 0 with the objects as they are. It makes the updates up to
   `stop` (excluded), saves a checkpoint at `path` with the number of the next step, and returns the losses of the
   updates it made, a list of floats (empty if there are none to make; the checkpoint's step then stays). Update
   `step` uses the rate `schedule(step)`, `F.cross_entropy`, and the batch `rows_of_step(step, …)` of `dataset` (whose
   items are pairs, and not random), fetched by a `DataLoader` with `workers` workers.

A run that is stopped and resumed any number of times gives the same weights, losses and random states as one that was
not, whatever `workers` is each time. Two traps: workers fetch ahead, so what the loader has *asked for* says nothing
about which step you are at. And each new iterator of a `DataLoader` draws a number from torch's global generator,
unless the loader has a `generator` of its own.
"""


# %%
def rows_of_step(step: int, n: int, batch_size: int, seed: int) -> list[int]:
    """The rows that update `step` sees, of a data set of `n`."""
    ### BEGIN SOLUTION
    epoch, position = divmod(step, math.ceil(n / batch_size))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch))
    return order[position * batch_size : (position + 1) * batch_size].tolist()
    ### END SOLUTION


def save_checkpoint(path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Save all that the next update depends on, in one move."""
    ### BEGIN SOLUTION
    checkpoint = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "python_rng": random.getstate(),
    }
    ### END SOLUTION
    unfinished = path.with_name(f"{path.name}.unfinished")
    torch.save(checkpoint, unfinished)
    os.replace(unfinished, path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put back what was saved, and return the step to go on with."""
    ### BEGIN SOLUTION
    checkpoint = torch.load(path, weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    torch.set_rng_state(checkpoint["torch_rng"])
    random.setstate(checkpoint["python_rng"])
    return checkpoint["step"]
    ### END SOLUTION


def train_until(
    stop: int,
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    dataset: Dataset,
    batch_size: int,
    seed: int,
    workers: int = 0,
) -> list[float]:
    """Train from the checkpoint at `path`, if there is one, up to step `stop`, and save; the losses on the way."""
    ### BEGIN SOLUTION
    start = load_checkpoint(path, model, optimizer) if path.exists() else 0
    batches = [rows_of_step(step, len(dataset), batch_size, seed) for step in range(start, stop)]
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
    losses = []
    for step, (x, y) in enumerate(loader, start):
        set_rate(optimizer, schedule(step))
        losses.append(train_step(model, F.cross_entropy, optimizer, x, y).item())
    save_checkpoint(path, start + len(losses), model, optimizer)
    return losses
    ### END SOLUTION


# %% tags=["demo"]
def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
    """New objects, as after a restart."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))
    return model, AdamW(model.parameters())


def schedule(step: int) -> float:
    """The rate of each of 80 updates."""
    return warmup_cosine(step, total=80, warmup=8, lr=0.01)


rows = TensorDataset(pixels, data.labels)
with TemporaryDirectory() as folder:
    torch.manual_seed(0)
    whole, optimizer = fresh()
    losses = train_until(80, Path(folder, "whole.pt"), whole, optimizer, schedule, rows, 64, seed=0)

    torch.manual_seed(0)
    path, pieces = Path(folder, "pieces.pt"), []
    for stop in (13, 50, 80):
        model, optimizer = fresh()
        pieces += train_until(stop, path, model, optimizer, schedule, rows, 64, seed=0)
        torch.manual_seed(stop)  # what happens between two runs should not matter
same = all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))
print("same losses:", losses == pieces, " same weights:", same, f" loss {losses[0]:.2f} -> {losses[-1]:.2f}")

# %% [markdown]
"""
**What you should see.** Twice True, and a loss that falls from 2.3 to about 0.6: one run of 80 updates, and three that
were cut in mid-epoch, with dropout, cannot be told apart.
"""

# %%
check("rows_of_step")

# %% [markdown] tags=["explanation"]
"""
`train_until` computes the batches it will need and hands them to the loader as its `batch_sampler`; how far the
workers have fetched is then nobody's business. Real runs save every so often, not only at the end, and shuffle once
per epoch instead of once per step. If items themselves are random (augmentation in the workers), they too must become
functions of their row and epoch. And a checkpoint on several GPUs also holds each device's generator,
`torch.cuda.get_rng_state_all`.
"""

# %% [markdown]
"""
## 8 · The payoff: your loop against scikit-learn's

All parts are there. Put them together.

**Task.** Complete `fit(model, train, valid, epochs, batch_size, lr, warmup, max_norm, seed)`. `train` and `valid` are
pairs `(x, y)` of tensors. It trains `model` with your `AdamW`, all its other settings at their defaults: in each
epoch the batches `rows_of_step(step, …)`, `step` counted through over all epochs; the rate `warmup_cosine` over all
the updates of the run, with `warmup` of them and floor 0; cross-entropy, and clipping to `max_norm`. It returns a
dict of three lists with a float for each epoch:

- `"loss"`: the mean over all training rows of the losses that the training steps gave;
- `"valid_loss"` and `"accuracy"`: mean cross-entropy, and the mean of the measure below, on `valid`, evaluated after
  the epoch.
"""


# %%
def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """The share of rows whose largest logit is that of their class."""
    return (logits.argmax(1) == y).float().mean()


# %%
def fit(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    epochs: int,
    batch_size: int,
    lr: float,
    warmup: int,
    max_norm: float,
    seed: int,
) -> dict[str, list[float]]:
    """Train a classifier; `"loss"`, `"valid_loss"` and `"accuracy"` of each epoch."""
    x, y = train
    per_epoch = math.ceil(len(x) / batch_size)
    optimizer = AdamW(model.parameters())
    history = {"loss": [], "valid_loss": [], "accuracy": []}
    for epoch in range(epochs):
        total = 0.0
        ### BEGIN SOLUTION
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            rows = rows_of_step(step, len(x), batch_size, seed)
            set_rate(optimizer, warmup_cosine(step, epochs * per_epoch, warmup, lr))
            total += train_step(model, F.cross_entropy, optimizer, x[rows], y[rows], max_norm).item() * len(rows)
        history["loss"].append(total / len(x))
        history["valid_loss"].append(evaluate(model, F.cross_entropy, [valid]))
        history["accuracy"].append(evaluate(model, accuracy, [valid]))
        ### END SOLUTION
    return history


# %% [markdown]
"""
The opponent is scikit-learn's `MLPClassifier`, a classic with Adam inside. Same network (64 hidden units), same 1,400
training digits, same 30 epochs of batches of 32, each with five seeds, and the same two learning rates for both: for
yours the height of the schedule, for scikit-learn's the rate throughout. (This takes about half a minute.)
"""


# %% tags=["demo"]
def sklearn_history(train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor], lr: float, seed: int) -> dict:
    """What `fit` returns, by scikit-learn."""
    network = MLPClassifier((64,), batch_size=32, learning_rate_init=lr, random_state=seed)
    history = {"loss": [], "accuracy": []}
    for _ in range(30):
        network.partial_fit(*(t.numpy() for t in train), classes=np.arange(10))
        history["loss"].append(network.loss_)
        history["accuracy"].append(network.score(*(t.numpy() for t in valid)))
    return history


order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
train, valid = ((pixels[rows], data.labels[rows]) for rows in (order[:1400], order[1400:]))
runs = {}
for lr in (0.003, 0.01):
    yours, theirs = runs.setdefault(f"yours, {lr}", []), runs.setdefault(f"scikit-learn, {lr}", [])
    for seed in range(5):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        yours.append(fit(model, train, valid, 30, 32, lr=lr, warmup=40, max_norm=1.0, seed=1000 * seed))
        theirs.append(sklearn_history(train, valid, lr, seed))

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
for (name, histories), colour in zip(runs.items(), COLOURS, strict=False):
    for ax, key in zip(axes, ("loss", "accuracy"), strict=True):
        curves = np.array([h[key] for h in histories])
        ax.plot(range(1, 31), curves.mean(0), linestyle="-", color=colour, label=name)
        ax.fill_between(range(1, 31), curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0)
    last = np.array([h["accuracy"][-1] for h in histories])
    loss = np.mean([h["loss"][-1] for h in histories])
    print(f"{name:20} accuracy {last.mean():.1%} ± {last.std(ddof=1):.1%}, training loss {loss:.4f}")
axes[0].set(yscale="log", xlabel="epoch", title="Training loss")
axes[1].set(ylim=(0.9, 1), xlabel="epoch", title="Accuracy on 397 unseen digits")
axes[0].legend()
plt.show()

# %% [markdown]
"""
**What you should see.** At 0.003 scikit-learn wins, with about 97.6 % to your 96.5 %: your cosine spends half of the
run at less than half of that rate, and the training loss tells that it has not finished. At 0.01 there is nothing
between them, 97.1 % to 97.2 %, but look at how they arrive: with a constant rate the accuracy jumps to the end, and the
seeds differ by up to six digits; yours settles, as a schedule should make it. Best against best, scikit-learn is ahead
by half a per cent, two digits of 397. So your loop is level with a library that is used everywhere, and not better.
(Having chosen the better rate on these same digits flatters both.)
"""

# %%
check("fit")

# %% [markdown] tags=["explanation"]
"""
`step` runs through all epochs, because schedule and data order both ask for the number of the update, not for that of
the batch in its epoch. The training loss of an epoch is an average over weights that moved meanwhile; it lags behind
what `evaluate` would give on the same rows, which is why it can lie *above* the validation loss early in a run.
"""

# %% [markdown]
"""
## A measured comparison

One step of your optimizers beside PyTorch's, for a network of 40 small layers and for one large matrix. We give a ratio
of times only where it is 3 or more.
"""


# %% tags=["demo"]
def stepper(kind: Callable, sizes: Sequence[int]) -> Callable[[], None]:
    """A step of an optimizer over square matrices of these sizes, gradients given."""
    parameters = [nn.Parameter(torch.randn(n, n)) for n in sizes]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return kind(parameters).step


for name, sizes in (("40 of 16 × 16", [16] * 40), ("1 of 1024 × 1024", [1024])):
    yours, theirs = stepper(AdamW, sizes), stepper(torch.optim.AdamW, sizes)
    fused = stepper(lambda p: torch.optim.AdamW(p, fused=True), sizes)
    for step in (yours, theirs, fused):
        step()  # the first makes the averages
    result = compare(yours, fused)
    print(f"{name:17} AdamW: {compare(yours, theirs)}")
    print(f"{name:17} fused AdamW: time {result.time_ratio:.1f}×, new memory there: {result.reference_bytes} bytes")

# %% [markdown]
"""
Against PyTorch's AdamW of the same kind, a loop over parameters, yours takes one to three times as long. At its peak
it holds five new tensors of the weight's size (squares, corrected averages, the root, the quotient) where PyTorch's
holds two: it folds the corrections into numbers and divides in place. The fused one is several times faster and makes
nothing new: one kernel reads weight, gradient and both averages once and writes them back. An optimizer does hardly
any arithmetic for each number it touches; its time *is* its traffic to memory.
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

- **Checkpoints are folders.** With ZeRO or FSDP each machine holds a shard of weights and optimizer state, and saves
  it. The folder of shards must be loadable on another number of machines, which `torch.distributed.checkpoint` does.
- **Saving must not stop the run.** A terabyte takes minutes to write. Big runs copy the state to main memory, go on,
  and write in the background; a manifest that is written last makes the set of files atomic, as `os.replace` does for
  one.
- **The global norm costs a message.** Each machine holds a part of the gradients, so the sum of squares is added up
  across all of them before anybody may scale.
- **Bitwise resume has a price.** Atomic additions on GPUs and another number of machines change the order of sums.
  `torch.use_deterministic_algorithms(True)` gives it back where a deterministic kernel exists, sometimes at a large
  cost in time. Teams keep it for debugging, and elsewhere ask that a resumed curve lie on the old one.
- **Not everything decays.** Biases and the gains of norms are usually put into a group with `weight_decay=0`: it is
  what parameter groups are used for most.
"""

# %% [markdown]
r"""
## Side quests

### Side quest A · Gradient accumulation

A batch that does not fit into memory can be had in pieces: gradients add up in `.grad` until you step. But a loss is a
*mean* over rows. The mean over the large batch is the mean of the pieces' means only if every piece counts by its rows.

**Task.** Write `accumulated_step(model, loss_fn, optimizer, pieces)`. `pieces` is a list of pairs `(x, y)`, and
`loss_fn` is a mean over rows. Make **one** update in training mode, with the gradient of the mean over all rows of
all pieces, whatever was in `.grad` before. Only one piece's graph is alive at a time: call `backward` for each.
Return the mean loss over all rows, detached.
"""


# %%
def accumulated_step(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    pieces: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """One update on several pieces, as if they were one batch; the mean loss before it, detached."""
    ### BEGIN SOLUTION
    model.train()
    optimizer.zero_grad()
    rows, total = sum(len(x) for x, _ in pieces), torch.zeros(())
    for x, y in pieces:
        loss = loss_fn(model(x), y) * (len(x) / rows)
        loss.backward()
        total = total + loss.detach()
    optimizer.step()
    return total
    ### END SOLUTION


# %% tags=["demo"]
once, twice = nn.Linear(64, 10), nn.Linear(64, 10)
twice.load_state_dict(once.state_dict())
x, y = pixels[:50], data.labels[:50]
train_step(once, F.cross_entropy, SGD(once.parameters(), lr=1.0), x, y)
accumulated_step(twice, F.cross_entropy, SGD(twice.parameters(), lr=1.0), [(x[:40], y[:40]), (x[40:], y[40:])])
print("largest difference:", (once.weight - twice.weight).abs().max().item())

# %% [markdown]
"""
**What you should see.** Less than a millionth, although the pieces have 40 and 10 rows.
"""

# %%
check("accumulated_step")

# %% [markdown] tags=["explanation"]
"""
Dividing by the number of pieces is the usual recipe and right for equal pieces only. In language models "rows" are
tokens, pieces are padded to different lengths, and this very mistake has been found in widely used trainers. Batch norm
remains different: it sees each piece by itself.
"""

# %% [markdown]
r"""
### Side quest B · A learning-rate range test

Which rate is too high? Ask: raise it from step to step until the loss explodes, and stay well below that.

**Task.** Write `lr_range_test(model, loss_fn, batches, low, high)`, which returns two lists of floats, `(rates,
losses)`. It trains a **copy** of the model, in training mode, by plain SGD without momentum. With $n \ge 2$ pairs
`(x, y)` in `batches`, update $i = 0, \dots, n - 1$ uses batch $i$ and the rate $\text{low} \cdot (\text{high} /
\text{low})^{i / (n - 1)}$. Record the rate and the loss *before* the update. End early, without recording it, at the
first loss that is not finite or exceeds four times the lowest recorded so far.
"""


# %%
def lr_range_test(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    low: float,
    high: float,
) -> tuple[list[float], list[float]]:
    """Rates that grow geometrically from `low` to `high`, and the loss that each update began with."""
    ### BEGIN SOLUTION
    model = copy.deepcopy(model)
    optimizer = SGD(model.parameters(), low)
    rates, losses = [], []
    for i, (x, y) in enumerate(batches):
        rate = low * (high / low) ** (i / (len(batches) - 1))
        set_rate(optimizer, rate)
        loss = train_step(model, loss_fn, optimizer, x, y).item()
        if not loss <= 4 * min(losses, default=math.inf) or math.isinf(loss):
            break
        rates.append(rate)
        losses.append(loss)
    return rates, losses
    ### END SOLUTION


# %% tags=["demo"]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
drawn = [torch.randint(len(pixels), (64,)) for _ in range(100)]
rates, losses = lr_range_test(model, F.cross_entropy, [(pixels[i], data.labels[i]) for i in drawn], 1e-3, 100.0)
figure, ax = plt.subplots(figsize=(7, 3.2))
ax.semilogx(rates, losses, color=COLOURS[0])
ax.set(xlabel="learning rate", ylabel="loss", title="A learning-rate range test")
plt.show()
print(f"lowest loss {min(losses):.2f} at a rate of {rates[losses.index(min(losses))]:.2g}; ended at {rates[-1]:.2g}")

# %% [markdown]
"""
**What you should see.** A loss near 2.3 for all small rates. From a rate of about 0.1 on it falls, to 1.5 near a rate
of 1; then it leaps about, and near 4 the run ends. For plain SGD on this network, 0.1 to 0.3 is a good choice.
"""

# %%
check("lr_range_test")

# %% [markdown] tags=["explanation"]
"""
`not loss <= …` is also true for NaN, which compares with nothing. The lowest point is *not* the rate to take: by then
the loss has profited from all smaller rates before. A third to a tenth of it is the rule of thumb.
"""

# %% [markdown]
"""
### Side quest C · Early stopping

**Task.** Write the class `EarlyStopping(patience, min_delta=0.0)`.

- `update(loss, model)` is called after each evaluation. The loss is an **improvement** if it is less than the best so
  far minus `min_delta`; a NaN is none. On an improvement, remember the loss as `best` (infinity
  at first), and a **copy** of the model's state. Return `True`, stop, if the last `patience` updates brought no
  improvement.
- `restore(model)` loads the state of the best update into `model`.
"""


# %%
class EarlyStopping:
    """Says when to stop, and remembers the best weights."""

    ### BEGIN SOLUTION
    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best, self.waited, self.state = math.inf, 0, None

    def update(self, loss: float, model: nn.Module) -> bool:
        if loss < self.best - self.min_delta:
            self.best, self.waited, self.state = loss, 0, copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, model: nn.Module) -> None:
        model.load_state_dict(self.state)

    ### END SOLUTION


# %% tags=["demo"]
stopping, model = EarlyStopping(patience=2), nn.Linear(1, 1)
for loss in (1.0, 0.5, 0.6, 0.4, 0.45, math.nan):
    print(loss, stopping.update(loss, model), end="; ")

# %% [markdown]
"""
**What you should see.** False for all but the last: 0.6 was forgiven because 0.4 came after it.
"""

# %%
check("early_stopping")

# %% [markdown] tags=["explanation"]
"""
`state_dict()` returns the parameters' own memory. Without the copy, "the best weights" would be the current ones,
always, and no error would tell. The best of many evaluations on one validation set is also a choice fitted to it:
report its score on data that had no say.
"""

# %% [markdown]
"""
### Side quest D · Borrowed randomness

A function that seeds the global generators makes itself reproducible, and everybody after it predictable.

**Task.** Write `seeded(seed)`, a context manager. Inside the `with` block the global generators of torch (CPU), NumPy
and Python's `random` have just been seeded with `seed`. After it, all three are in the state in which they were before,
also if the block raises.
"""


# %%
@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Global random numbers from `seed` inside; the states before are put back."""
    ### BEGIN SOLUTION
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
    ### END SOLUTION


# %% tags=["demo"]
for _ in range(2):
    with seeded(7):
        print(torch.rand(1).item(), np.random.rand(), random.random())

# %% [markdown]
"""
**What you should see.** The same three numbers twice.
"""

# %%
check("seeded")

# %% [markdown] tags=["explanation"]
"""
Better still is a generator that is passed on, as `rows_of_step` makes it: no global state, no order of calls that
matters. This helper is for code that gives you no choice, such as the initialisation of PyTorch's own layers.
"""

# %% [markdown]
"""
### Side quest E · TensorBoard, written and read back

Curves that are on disk while the run goes on can be watched, compared and, what is often forgotten, *read by a
program*.

**Task.** Write two functions. A `history` is a dict from names to lists of floats, one for each step, counted from 0.

1. `log_history(folder, history)` writes every number as a scalar under its name with a `SummaryWriter` of its own, and
   closes it, so that everything is on disk when it returns.
2. `read_history(folder)` reads the event files in `folder` back with an `EventAccumulator`: a dict from each name to
   its list of floats, in the order of the steps, **complete** however long it is. (By default the accumulator keeps a
   random sample of 10,000 scalars for each name; see its `size_guidance`, where 0 means all.)
"""

# %%
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from torch.utils.tensorboard import SummaryWriter


# %%
def log_history(folder: Path, history: dict[str, list[float]]) -> None:
    """Write `history` as TensorBoard scalars into `folder`."""
    ### BEGIN SOLUTION
    with SummaryWriter(str(folder)) as writer:
        for name, numbers in history.items():
            for step, number in enumerate(numbers):
                writer.add_scalar(name, number, step)
    ### END SOLUTION


def read_history(folder: Path) -> dict[str, list[float]]:
    """All scalars in the event files of `folder`."""
    ### BEGIN SOLUTION
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    ### END SOLUTION


# %% tags=["demo"]
with TemporaryDirectory() as folder:
    log_history(Path(folder), {"loss/train": [2.0, 1.0, 0.5], "accuracy": [0.25, 0.75]})
    print(read_history(Path(folder)))

# %% [markdown]
"""
**What you should see.** The same dict. To watch a run, point `tensorboard --logdir` at a folder with one subfolder for
each run.
"""

# %%
check("log_history")

# %% [markdown] tags=["explanation"]
"""
Numbers are stored as float32: what you read back is what you wrote to about seven digits. Leaving the `with` block
flushes and closes; without it the last numbers may be missing for as long as the process lives.
"""

# %% [markdown]
"""
## Recap

You have written the optimizers and the schedule, clipped without bending, evaluated without leaving traces, found bugs
with a single batch, and cut a run into pieces that nobody can tell from the whole. Each part is proven equal to
PyTorch's or to itself; that is what makes the next surprising curve a finding rather than a doubt.

**Next** comes Lab 4: the data on their way to this loop, from files to batches, without repeats, losses or waiting.
"""
