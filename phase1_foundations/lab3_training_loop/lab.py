# %% [markdown]
"""
# Lab 3: Training loop from scratch

Five lines train a network, and nearly everything that can go wrong in them goes wrong in silence. In this lab you write
each part yourself, from the optimizer to the checkpoint, and hold it to the strictest standard there is: equal to
PyTorch's own step by step, and after a stop equal to itself **bit for bit**. At the end your loop trains a network on
handwritten digits, against scikit-learn's.

**You will be able to**

- write SGD with momentum, Adam and AdamW from their equations, and say where the conventions hide;
- write a schedule and gradient clipping, and know the order of everything in a step;
- keep modes, gradients and averages right in training and evaluation;
- find bugs by overfitting one batch before you spend a night on all of them;
- stop a run anywhere and resume it as if nothing had happened.

**Time** two hours for the eight exercises (20 points). Five side quests at the end earn XP only.

**You need to know** Labs 1 and 2 and the theory brief *Optimizers and training loops* (15 minutes).
"""

# %% [markdown]
"""
## Set-up

`check("momentum")` tests an exercise, `hint("momentum")` gives one of three hints. All optimizers here share a small
base class: it goes through the parameters, and `update` is yours. Read it; you will use its `lr` and `state`.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab3")

# %%
import copy
import itertools
import math
import os
import random
import warnings
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


class Optimizer:
    """Calls `update` for each parameter that has a gradient; `state` holds a dict for each parameter."""

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        self.state: list[dict] = [{} for _ in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One step. Parameters without a gradient stay as they are, and so does their state."""
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if parameter.grad is not None:
                self.update(parameter, parameter.grad, state)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def update(self, w: Tensor, g: Tensor, state: dict) -> None:
        """Change the parameter `w` in place by its gradient `g`; what is to be remembered goes into `state`."""
        raise NotImplementedError

    def state_dict(self) -> dict:
        """All that it remembers."""
        return {"lr": self.lr, "state": copy.deepcopy(self.state)}

    def load_state_dict(self, saved: dict) -> None:
        """Remember what `saved` says."""
        self.lr, self.state = saved["lr"], copy.deepcopy(saved["state"])


# %% [markdown]
r"""
## 1 · Momentum

A gradient knows which way is down here and now. The sum of past gradients, slowly forgotten, knows where the valley
leads.

**Task.** Write `update` of `Momentum(parameters, lr, momentum=0.9)`. With gradient $g$, velocity $v$ and momentum
$\mu$:

$$v \leftarrow \mu v + g \quad (\text{at the first step } v = g), \qquad w \leftarrow w - \text{lr} \cdot v$$

The learning rate is **not** part of the velocity, so that a schedule may change `self.lr` at any step. `w` is changed
in place; `g` is not changed, and the velocity is a tensor of its own: somebody may write the next gradient into `g`.
"""


# %%
class Momentum(Optimizer):
    """SGD with momentum, as `torch.optim.SGD`."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.9) -> None:
        super().__init__(parameters, lr)
        self.momentum = momentum

    def update(self, w: Tensor, g: Tensor, state: dict) -> None:
        ### BEGIN SOLUTION
        state["velocity"] = self.momentum * state.get("velocity", 0) + g
        w -= self.lr * state["velocity"]
        ### END SOLUTION


# %% tags=["demo"]
w = torch.tensor([1.0], requires_grad=True)
optimizer = Momentum([w], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    (w**2 / 2).sum().backward()
    optimizer.step()
    print(f"w = {w.item():.4f}")

# %% [markdown]
"""
**What you should see.** 0.9000, 0.7200, 0.4860: each step is longer than the last, although the gradient shrinks.
"""

# %%
check("momentum")

# %% [markdown] tags=["explanation"]
"""
`state.get("velocity", 0)` makes the first step no special case: $\\mu \\cdot 0 + g = g$, as a new tensor. `w -= …`
changes the tensor in place because `w` is a name for the parameter itself; `w = w - …` would only rebind the name. In
another convention, found in older papers, the learning rate is inside the velocity. The two agree until it changes.
"""

# %% [markdown]
r"""
## 2 · Adam and AdamW

Adam divides each coordinate's step by a running estimate of its gradient's size. Four conventions decide whether it is
Adam: the correction of the start, $\epsilon$ **outside** the root, one step count **for each parameter**, and for AdamW
that decay is no part of the gradient.

**Task.** Write `update` of two classes. With $t = 1, 2, \dots$ the number of updates of this parameter, and $m$ and $s$
zero at first:

$$m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad s \leftarrow \beta_2 s + (1 - \beta_2)\, g^2, \qquad
w \leftarrow w - \text{lr}\, \frac{m / (1 - \beta_1^t)}{\sqrt{s / (1 - \beta_2^t)} + \epsilon}$$

`AdamW` first shrinks the weights, $w \leftarrow w\,(1 - \text{lr} \cdot \lambda)$ with $\lambda$ = `weight_decay`, and
then does the same as `Adam`. `g` is not changed.
"""


# %%
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015), as `torch.optim.Adam`."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.eps = betas, eps

    def update(self, w: Tensor, g: Tensor, state: dict) -> None:
        ### BEGIN SOLUTION
        beta1, beta2 = self.betas
        t = state["t"] = state.get("t", 0) + 1
        m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
        s = state["s"] = beta2 * state.get("s", 0) + (1 - beta2) * g**2
        w -= self.lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)).sqrt() + self.eps)
        ### END SOLUTION


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as `torch.optim.AdamW`."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, betas, eps)
        self.weight_decay = weight_decay

    def update(self, w: Tensor, g: Tensor, state: dict) -> None:
        ### BEGIN SOLUTION
        w *= 1 - self.lr * self.weight_decay
        super().update(w, g, state)
        ### END SOLUTION


# %% tags=["demo"]
w = torch.tensor([1.0, 1.0], requires_grad=True)
optimizer = Adam([w], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    (w**2 * torch.tensor([1.0, 1000.0])).sum().backward()
    optimizer.step()
    print([f"{value:.3f}" for value in w.tolist()])

# %% [markdown]
"""
**What you should see.** About 0.900, 0.800 and 0.702, twice: a gradient a thousand times larger makes no difference.
"""

# %%
check("adam")

# %% [markdown] tags=["explanation"]
"""
The step count lives in the state of *each* parameter: one that had no gradient for a while (an expert that nobody
asked, a row frozen at first) must not find its correction spent. `AdamW` inherits the rest: decay is one line, because
it is decoupled. Added to the gradient instead, it would be divided by √s, and weights with large gradients would hardly
decay.
"""

# %% [markdown]
r"""
## 3 · Warm-up and cosine

The learning rate rises while the optimizer's averages fill, and then falls along half a cosine. A schedule that is a
*function of the step* has no state of its own: nothing can be stepped twice, or be forgotten in a checkpoint.

**Task.** Write `warmup_cosine(step, warmup, total, peak, floor=0.0)`, the learning rate of step number `step`, counted
from **0**:

- for $\text{step} < \text{warmup}$ it is $\text{peak} \cdot (\text{step} + 1) / \text{warmup}$: the first step already
  moves, and the last one of the warm-up has the peak;
- then $\text{floor} + \tfrac12 (\text{peak} - \text{floor}) (1 + \cos \pi p)$ with
  $p = (\text{step} - \text{warmup}) / (\text{total} - \text{warmup})$;
- from `total` on it is `floor`. `warmup` may be 0, and is less than `total`.
"""


# %%
def warmup_cosine(step: int, warmup: int, total: int, peak: float, floor: float = 0.0) -> float:
    """The learning rate of a step: up in a line, down along half a cosine."""
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min((step - warmup) / (total - warmup), 1.0)
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2
    ### END SOLUTION


# %% tags=["demo"]
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot([warmup_cosine(step, 10, 100, 1.0, 0.1) for step in range(110)], ".", color=COLOURS[0])
axes.set(xlabel="step", ylabel="learning rate / peak", title="Ten steps up, ninety down")
plt.show()

# %% [markdown]
"""
**What you should see.** A line from 0.1 to 1, half a wave from 1 down to 0.1, and ten points that stay there.
"""

# %%
check("warmup_cosine")

# %% [markdown] tags=["explanation"]
"""
`min(…, 1.0)` keeps the cosine from rising again after the end, which is what PyTorch's `CosineAnnealingLR` does if you
go on stepping it. The steps `warmup - 1` and `warmup` both have the peak. Warm-ups that start at 0 waste their first
step; those that divide by `warmup + 1` never reach the peak in the line. Neither is wrong, but *one* must be written
down.
"""

# %% [markdown]
r"""
## 4 · Clipping by the global norm

One bad batch may have a gradient a hundred times longer than usual. Clipping shortens it and keeps its direction, which
takes **one** factor for all parameters.

**Task.** Write `clip_gradients(parameters, max_norm)`. With $n$ the Euclidean norm of all gradients taken together as
one vector, each gradient is multiplied by

$$\min\!\left(1,\; \frac{\text{max\_norm}}{n + 10^{-6}}\right)$$

Returned is $n$ **before** clipping, a tensor without axes; 0 if there is no gradient at all. `parameters` may be an
iterator, and some may have no gradient. Do without `torch.nn.utils`.
"""


# %%
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Shorten all gradients together to the norm `max_norm` at most; returns their norm before."""
    ### BEGIN SOLUTION
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients] or [torch.tensor(0.0)]).norm()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient *= factor
    return norm
    ### END SOLUTION


# %% tags=["demo"]
layer = nn.Linear(3, 2)
layer(100 * torch.ones(1, 3)).sum().backward()
for _ in range(2):
    print(f"norm {clip_gradients(layer.parameters(), 1.0):.4f}")

# %% [markdown]
"""
**What you should see.** 244.9531, and then 1.0000: the second call found nothing to shorten.
"""

# %%
check("clip_gradients")

# %% [markdown] tags=["explanation"]
"""
The norm of all is the norm of the norms, so nothing is ever concatenated. The factor stays a tensor: on a GPU, an `if
norm > max_norm` would make the host wait for the device at every step, and multiplying by 1 costs less. The 10⁻⁶ only
guards a division by zero.
"""

# %% [markdown]
"""
## 5 · One step, and an honest evaluation

Here the parts meet, in the one order that is right: forget, look, limit, move. And evaluation has three duties: it
changes nothing, it runs in `eval` mode, and it counts rows, not batches.

**Task.** Write two functions for a classifier; the loss is the cross-entropy, **mean** over rows.

1. `train_step(model, optimizer, x, y, max_norm=math.inf)` puts the model into training mode, computes the loss of the
   batch and its gradients alone (whatever gradients there were), clips them with your `clip_gradients`, and makes one
   step. It returns the loss **before** the step, a Python float.
2. `evaluate(model, batches)` returns `(loss, accuracy)` as floats over **all rows** of all pairs `(x, y)`: each row
   counts the same, however large its batch. The model runs in `eval` mode and without a graph; afterwards it is in the
   mode in which it was before, and parameters, buffers and gradients are untouched.
"""


# %%
def train_step(model: nn.Module, optimizer: Optimizer, x: Tensor, y: Tensor, max_norm: float = math.inf) -> float:
    """One step on the batch `x` `(batch, …)`, `y` `(batch,)`; the loss before it."""
    ### BEGIN SOLUTION
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    clip_gradients(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()
    ### END SOLUTION


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean loss and accuracy over all rows."""
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    loss, right, n_rows = 0.0, 0, 0
    with torch.no_grad():
        for x, y in batches:
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
            n_rows += len(y)
    model.train(was_training)
    return loss / n_rows, right / n_rows
    ### END SOLUTION


# %% tags=["demo"]
data = digits()
images = data.images.flatten(1).float() / 16
shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, test = (TensorDataset(images[rows], data.labels[rows]) for rows in (shuffled[:1400], shuffled[1400:]))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
optimizer = Adam(model.parameters(), lr=0.01)
print("before: loss {:.2f}, accuracy {:.1%}".format(*evaluate(model, DataLoader(test, batch_size=128))))
for x, y in DataLoader(train, batch_size=64):
    train_step(model, optimizer, x, y, max_norm=1.0)
print("after:  loss {:.2f}, accuracy {:.1%}".format(*evaluate(model, DataLoader(test, batch_size=128))))

# %% [markdown]
"""
**What you should see.** A loss of 2.32 and 5 % before, no better than guessing; after 22 steps a loss of 1.13 and an
accuracy of 83 %.
"""

# %%
check("train_step")

# %% [markdown] tags=["explanation"]
"""
`reduction="sum"` and one division at the end weigh every row alike. `model.train(was_training)` restores what was
found, so that somebody may evaluate in the middle of anything. `zero_grad` before `backward` and not after `step` is a
habit worth having: whatever others have left in `.grad` is gone when it matters.
"""

# %% [markdown]
"""
## 6 · One batch first

Before the first long run, train on one batch. Any network with enough parameters learns 32 rows by heart in a few
hundred steps. If it cannot, the fault is in the code, and you have found it in a second instead of a night.

**Task.** Write `overfits(make_model, x, y, lr=0.01, steps=200, threshold=0.05)`. It makes **one** model with
`make_model()` and one `Adam` with `lr` for its parameters, and calls your `train_step` on the same batch up to `steps`
times. It returns `True` as soon as a loss that `train_step` returns is **below** `threshold`, without a further step,
and `False` if none of the `steps` is.
"""


# %%
def overfits(
    make_model: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    lr: float = 0.01,
    steps: int = 200,
    threshold: float = 0.05,
) -> bool:
    """Whether a new model learns one batch by heart."""
    ### BEGIN SOLUTION
    model = make_model()
    optimizer = Adam(model.parameters(), lr)
    return any(train_step(model, optimizer, x, y) < threshold for _ in range(steps))
    ### END SOLUTION


# %% tags=["demo"]
class Detached(nn.Sequential):
    """A network in which somebody has cut the graph."""

    def forward(self, x: Tensor) -> Tensor:
        return self[2](self[1](self[0](x)).detach())


x, y = train[:32]
suspects = {
    "sound": lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
    "softmax at the end": lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(1)),
    "dead from the start": lambda: nn.Sequential(nn.Linear(64, 32), nn.Threshold(99, 0), nn.Linear(32, 10)),
    "detached": lambda: Detached(nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10)),
}
for name, make_model in suspects.items():
    torch.manual_seed(1)
    print(f"{name:20} learns 32 digits by heart: {overfits(make_model, x, y)}")

# %% [markdown]
"""
**What you should see.** `True` for the sound network only. Note the second: with a softmax too many, training *works*,
just never well. The test sees it, because it asks for nearly zero.
"""

# %%
check("overfits")

# %% [markdown] tags=["explanation"]
"""
`any` over a generator stops at the first `True`. A loss of NaN is below nothing, so a network that explodes fails too.
The last suspect still has a trained last layer: had its hidden layer been wider, random features would have been enough
to learn 32 rows by heart. The test finds what is broken, not what is wasteful.
"""

# %% [markdown]
"""
## 7 · Stop, and resume bit for bit

Machines fail, and jobs are preempted. A resume is right if nobody can tell that there was one: the same weights, to the
last bit. Then it can be *tested*, and every forgotten piece shows. Four things must survive: the model, the optimizer's
memory, the random number generator (dropout draws from it), and the place in the data, also in the middle of an epoch.

The last is where a trap waits. Workers of a `DataLoader` fetch ahead, so a sampler that counts what it has given out
knows nothing of what has been *trained on*. The number of steps made does: epoch and place follow from it.

**Task.** Write `train`, `save` and `load` of `Run`. `order(epoch)`, given, are the batches of an epoch as lists of
indices.

- `train(until)` makes steps until `self.step` (the number of steps made so far, 0 at first) is `until`, and returns
  the losses of the steps that *this call* made. Step number $k$, counted from 0, trains on batch $k \\bmod n$ of epoch
  $\\lfloor k / n \\rfloor$, with $n$ batches an epoch; before it, `optimizer.lr` is set to `schedule(k)`. Batches are
  loaded by a `DataLoader` with `workers` workers, and trained on by `train_step` with `max_norm=1.0`.
- `save(path)` writes **one** file with everything that `load(path)` needs to continue, in this or a fresh `Run` of the
  same kind, exactly as if there had been no stop: model, optimizer, `step`, and the state of torch's default generator.
  It must be readable with `weights_only=True`, and writing must be **atomic**: write another file in the same folder,
  then `os.replace` it. If writing fails, the old file is still whole.
- Loading data must not draw from torch's default generator. (A `DataLoader` draws one number each time it is iterated,
  as a base for the seeds of its workers; it takes it from `generator=` if it has one.)
"""


# %%
class Run:
    """A training that may stop at any step."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        schedule: Callable[[int], float],
        workers: int = 0,
    ) -> None:
        self.model, self.optimizer, self.dataset, self.schedule = model, optimizer, dataset, schedule
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self.step = 0

    def order(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch: a shuffle that depends on seed and epoch alone."""
        generator = torch.Generator().manual_seed(1_000 * self.seed + epoch)
        rows = torch.randperm(len(self.dataset), generator=generator)
        return [batch.tolist() for batch in rows.split(self.batch_size)]

    def train(self, until: int) -> list[float]:
        ### BEGIN SOLUTION
        losses = []
        while self.step < until:
            for x, y in self._rest_of_epoch(until):
                self.optimizer.lr = self.schedule(self.step)
                losses.append(train_step(self.model, self.optimizer, x, y, max_norm=1.0))
                self.step += 1
        return losses

    def _rest_of_epoch(self, until: int) -> DataLoader:
        """What is left of the current epoch, or of the steps to make."""
        epoch, done = divmod(self.step, math.ceil(len(self.dataset) / self.batch_size))
        batches = self.order(epoch)[done : done + until - self.step]
        generator = torch.Generator()  # or the seeds of workers would be drawn from the one that dropout draws from
        return DataLoader(self.dataset, batch_sampler=batches, num_workers=self.workers, generator=generator)
        ### END SOLUTION

    def save(self, path: Path) -> None:
        ### BEGIN SOLUTION
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "rng": torch.get_rng_state(),
        }
        partial = path.with_name(path.name + ".partial")
        torch.save(state, partial)
        os.replace(partial, path)
        ### END SOLUTION

    def load(self, path: Path) -> None:
        ### BEGIN SOLUTION
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        torch.set_rng_state(state["rng"])
        ### END SOLUTION


# %% tags=["demo"]
def new_run(seed: int) -> Run:
    """A run with dropout, so that random numbers matter."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
    schedule = lambda step: warmup_cosine(step, 5, 60, 0.01)  # noqa: E731
    return Run(model, AdamW(model.parameters()), train, batch_size=64, seed=3, schedule=schedule)


with TemporaryDirectory() as folder:
    whole = new_run(0)
    losses = whole.train(60)
    first = new_run(0)
    before = first.train(37)
    first.save(Path(folder) / "checkpoint.pt")
    second = new_run(99)  # other weights, another seed: all of it must be overwritten
    second.load(Path(folder) / "checkpoint.pt")
    after = second.train(60)
same = all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True))
print("the same losses:", before + after == losses, "· the same weights:", same)

# %% [markdown]
"""
**What you should see.** Twice `True`. Step 37 is in the middle of the second epoch. Leave out any line of `load`, and
see what happens.
"""

# %%
check("run")

# %% [markdown] tags=["explanation"]
"""
`divmod(step, n)` is the whole bookkeeping of the data. The schedule needs none: it is a function. The optimizer's
counts and averages are in its `state_dict`. `os.replace` is atomic on one file system, which is why the partial file
lies in the same folder. In a bigger world add the generators of Python, NumPy and each GPU, the loss scaler, and the
sampler of every rank. `torchdata`'s `StatefulDataLoader` is the library for data sets that cannot be indexed.
"""

# %% [markdown]
r"""
## 8 · The payoff: your loop against scikit-learn's

Everything together, on real digits: AdamW, schedule, clipping, a `Run`. scikit-learn's `MLPClassifier` has the same
network, the same number of epochs, and Adam with a constant rate.

**Task.** Write `fit_mlp(x, y, hidden=64, epochs=20, batch_size=64, peak=1e-2, seed=0)` for `x` `(n, d)` and classes `y`
`(n,)`, numbered from 0, all of which occur. In this order:

1. `torch.manual_seed(seed)`, then the model `nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, k))` with
   $k$ classes;
2. `AdamW` with its defaults; `total` = epochs × batches per epoch; the schedule `warmup_cosine` to `peak` with
   `warmup` = `total // 10` and floor 0;
3. a `Run` over the rows with that `batch_size` and `seed`, trained for `total` steps.

Return the model, in `eval` mode, and the **mean training loss of each epoch**, weighted by rows as in exercise 5: a
list of floats.
"""


# %%
def fit_mlp(
    x: Tensor, y: Tensor, hidden: int = 64, epochs: int = 20, batch_size: int = 64, peak: float = 1e-2, seed: int = 0
) -> tuple[nn.Module, list[float]]:
    """A trained classifier with one hidden layer, and its mean training loss in each epoch."""
    ### BEGIN SOLUTION
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, int(y.max()) + 1))
    sizes = torch.tensor([len(part) for part in y.split(batch_size)])
    total = epochs * len(sizes)
    run = Run(
        model,
        AdamW(model.parameters()),
        TensorDataset(x, y),
        batch_size,
        seed,
        schedule=lambda step: warmup_cosine(step, total // 10, total, peak),
    )
    losses = torch.tensor(run.train(total), dtype=torch.float64).view(epochs, len(sizes))
    return model.eval(), ((losses * sizes).sum(1) / len(x)).tolist()
    ### END SOLUTION


# %% tags=["demo"]
x_train, y_train = train.tensors
x_test, y_test = test.tensors
results = {"yours": [], "scikit-learn": []}
for seed in range(3):
    model, curve = fit_mlp(x_train, y_train, epochs=20, seed=seed)
    results["yours"].append(evaluate(model, [(x_test, y_test)])[1])
    peer = MLPClassifier(64, batch_size=64, learning_rate_init=1e-2, max_iter=20, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it would have liked more epochs
        peer.fit(x_train.numpy(), y_train.numpy())
    results["scikit-learn"].append(peer.score(x_test.numpy(), y_test.numpy()))
for name, scores in results.items():
    print(f"{name:12} accuracy " + ", ".join(f"{score:.1%}" for score in scores))

figure, axes = plt.subplots(figsize=(7, 3.4))
axes.semilogy(range(1, 21), curve, "o-", markersize=3, color=COLOURS[0], label="yours")
axes.semilogy(range(1, 21), peer.loss_curve_, "s--", markersize=3, color=COLOURS[1], label="scikit-learn")
axes.set(xlabel="epoch", ylabel="training loss", title="The same network, two training loops")
axes.set_xticks(range(0, 21, 5))
axes.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** Yours at 96 or 97 %, scikit-learn's at about 97 %, on 397 digits, of which one point is four.
If there is a winner it is scikit-learn: in so short a training, 440 steps, the time spent at the full rate is worth
more than a gentle landing. Schedules pay in long ones.
"""

# %%
check("fit_mlp")

# %% [markdown] tags=["explanation"]
"""
Nothing here is new, which is the point: a training is a handful of parts with clear edges. The curve of scikit-learn
includes a small L2 term and averages as yours does. The last batch of each epoch is shorter (1,400 = 21 · 64 + 56),
hence the weights.
"""

# %% [markdown]
"""
## A measured comparison

Your AdamW beside PyTorch's, twenty steps on a small network.
"""


# %% tags=["demo"]
def twenty_steps(make: Callable[[list[Tensor]], object]) -> Callable[[], None]:
    """Twenty optimizer steps on fresh parameters with constant gradients."""
    parameters = [torch.ones(size, requires_grad=True) for size in 50 * [(20, 20)]]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = make(parameters)

    def steps() -> None:
        for _ in range(20):
            optimizer.step()

    return steps


print("one by one:", compare(twenty_steps(AdamW), twenty_steps(lambda p: torch.optim.AdamW(p, foreach=False))))
print("fused:     ", compare(twenty_steps(AdamW), twenty_steps(lambda p: torch.optim.AdamW(p, fused=True))))

# %% [markdown]
"""
Against PyTorch's plain loop over parameters you are about as fast. The fused version does all parameters and the whole
formula in one kernel, and is several times faster: with small tensors, what costs is the *number of operations*, not
their size.
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

- **Which weights decay.** Biases and the scales of norms are usually left out of weight decay: two groups of
  parameters, the same rate, and a decay of zero for one of them.
- **Clipping when gradients are sharded.** The norm is a sum over all shards, so every rank takes part in one more
  all-reduce before anybody may step. `clip_grad_norm_` does that for DTensors.
- **Checkpoints cost time.** A model of 70 billion parameters with Adam's moments is about a terabyte. Each rank writes
  its shards, asynchronously, from a copy in host memory (`torch.distributed.checkpoint.async_save`).
- **How often?** With a checkpoint that takes *c* seconds and a failure every *f* seconds on average, about every
  √(2·c·f) seconds wastes least (Young, 1974). With one minute and one failure a day that is every 69 minutes.
- **Bitwise equality is per machine.** Another GPU, another number of ranks or another kernel sums in another order.
  There, test that the *loss curves* agree, and keep the bitwise test for one machine.
"""

# %% [markdown]
"""
## Side quests

### Side quest A · A large batch in small pieces

When a batch does not fit into memory, its gradient is computed piece by piece: `backward` adds up.

**Task.** Write `accumulated_step(model, optimizer, pieces)` for a list of pairs `(x, y)` of **unequal** sizes. It makes
**one** step, equal to `train_step` (without clipping) on all rows together, and returns the mean cross-entropy over all
rows before the step, a float. Each piece goes through the model by itself, in training mode; whatever gradients there
were are forgotten.
"""


# %%
def accumulated_step(model: nn.Module, optimizer: Optimizer, pieces: Sequence[tuple[Tensor, Tensor]]) -> float:
    """One step on all pieces together; the mean loss over their rows."""
    ### BEGIN SOLUTION
    model.train()
    optimizer.zero_grad()
    n_rows = sum(len(y) for _, y in pieces)
    total = 0.0
    for x, y in pieces:
        loss = F.cross_entropy(model(x), y, reduction="sum") / n_rows
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total
    ### END SOLUTION


# %% tags=["demo"]
model = nn.Linear(64, 10)
twin = copy.deepcopy(model)
x, y = train[:100]
accumulated_step(model, Momentum(model.parameters(), 0.1), list(zip(x.split(30), y.split(30), strict=True)))
train_step(twin, Momentum(twin.parameters(), 0.1), x, y)
print("largest difference:", (model.weight - twin.weight).abs().max().item())

# %% [markdown]
"""
**What you should see.** A difference of about 10⁻⁹: rounding.
"""

# %%
check("accumulated_step")

# %% [markdown] tags=["explanation"]
"""
Divide by the rows of *all* pieces, and before `backward`. Dividing the mean of each piece by the number of pieces is
right only for pieces of one size. For language models "rows" are tokens, and this very mistake sat unnoticed in popular
libraries for years. Batch norm spoils the equality: its statistics are those of a piece.
"""

# %% [markdown]
"""
### Side quest B · A range test for the learning rate

Raise the rate at every step until the loss explodes, and look at the curve: a good peak is somewhat below the rate at
which it turns up (Smith, 2017).

**Task.** Write `range_test(model, optimizer, batches, lrs)`. For each rate in `lrs`, with one batch `(x, y)` of
`batches` each, it sets `optimizer.lr` and calls `train_step`. It returns the losses, as a list of floats, and stops
early after a loss (which is the last in the list) that is not finite or is more than **four times** the smallest so
far. Afterwards model and optimizer are **as they were before**: parameters, buffers, mode, `lr` and state.
"""


# %%
def range_test(
    model: nn.Module, optimizer: Optimizer, batches: Iterable[tuple[Tensor, Tensor]], lrs: Sequence[float]
) -> list[float]:
    """The loss at each learning rate, until it explodes."""
    ### BEGIN SOLUTION
    before = copy.deepcopy(model.state_dict()), optimizer.state_dict(), model.training
    losses: list[float] = []
    for lr, (x, y) in zip(lrs, batches, strict=False):
        optimizer.lr = lr
        losses.append(train_step(model, optimizer, x, y))
        if not losses[-1] <= 4 * min(losses):  # also for NaN
            break
    model.load_state_dict(before[0])
    optimizer.load_state_dict(before[1])
    model.train(before[2])
    return losses
    ### END SOLUTION


# %% tags=["demo"]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
lrs = torch.logspace(-4, 1, 80).tolist()
batches = itertools.chain.from_iterable(itertools.repeat(DataLoader(train, batch_size=64)))
losses = range_test(model, Adam(model.parameters()), batches, lrs)
figure, axes = plt.subplots(figsize=(7, 3))
axes.semilogx(lrs[: len(losses)], losses, color=COLOURS[0])
axes.set(xlabel="learning rate", ylabel="loss", title="Where does it explode?")
plt.show()

# %% [markdown]
"""
**What you should see.** A plateau up to about 0.003, a descent down to 0.06, and the end near 0.1, where the loss is
more than four times its smallest. A peak of 0.01 to 0.03 would be a good choice.
"""

# %%
check("range_test")

# %% [markdown] tags=["explanation"]
"""
`not losses[-1] <= 4 * min(losses)` is true for NaN as well, since every comparison with NaN is false. The first loss is
never more than four times itself, so at least two are always recorded. The optimizer's `state_dict` is a copy already;
the model's is not, hence `deepcopy`.
"""

# %% [markdown]
"""
### Side quest C · Early stopping

**Task.** Write `EarlyStopping(patience, min_delta=0.0)`. `update(loss, model)` is called after each validation and says
whether to stop, as a bool. A loss is an improvement if it is **less than the best so far minus `min_delta`**; the first
always is, unless it is NaN, which never is. On an improvement the model's state is **copied**. It says `True` when
`patience` calls in a row were no improvement, and goes on saying so until the next. `best` is the best loss,
`float("inf")` at first. `restore(model)` puts the best state back; before any improvement it raises `RuntimeError`.
"""


# %%
class EarlyStopping:
    """Says when validation has stopped getting better, and keeps the best weights."""

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        ### BEGIN SOLUTION
        self.patience, self.min_delta = patience, min_delta
        self.best, self.state, self.waited = math.inf, None, 0
        ### END SOLUTION

    def update(self, loss: float, model: nn.Module) -> bool:
        ### BEGIN SOLUTION
        if loss < self.best - self.min_delta:
            self.best, self.state, self.waited = loss, copy.deepcopy(model.state_dict()), 0
        else:
            self.waited += 1
        return self.waited >= self.patience
        ### END SOLUTION

    def restore(self, model: nn.Module) -> None:
        ### BEGIN SOLUTION
        if self.state is None:
            raise RuntimeError("there is no best state yet: no loss has improved on infinity")
        model.load_state_dict(self.state)
        ### END SOLUTION


# %% tags=["demo"]
stopping = EarlyStopping(patience=2)
for loss in (0.9, 0.7, 0.8, 0.65, 0.7, 0.66):
    print(loss, stopping.update(loss, nn.Linear(1, 1)))

# %% [markdown]
"""
**What you should see.** `True` at the last one only.
"""

# %%
check("early_stopping")

# %% [markdown] tags=["explanation"]
"""
`state_dict()` returns references to the live tensors: without `deepcopy`, the "best" weights go on training. The best
of many validations is an optimistic number; report the test set's.
"""

# %% [markdown]
"""
### Side quest D · A seed that stays where it is

**Task.** Write `seeded(seed)`, a context manager. Inside it, Python's `random`, NumPy's global generator and torch's
default generator start from `seed`; afterwards, also after an exception, all three go on as if nothing had happened.
"""


# %%
@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from `seed` inside, and as before afterwards."""
    ### BEGIN SOLUTION
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
    ### END SOLUTION


# %% tags=["demo"]
for _ in range(2):
    with seeded(7):
        print(random.random(), np.random.rand(), torch.rand(()).item())

# %% [markdown]
"""
**What you should see.** The same three numbers twice.
"""

# %%
check("seeded")

# %% [markdown] tags=["explanation"]
"""
`finally` runs however the block is left. Library code that calls `torch.manual_seed` without this moves everybody
else's random numbers. `torch.random.fork_rng()` is PyTorch's own, for torch alone.
"""

# %% [markdown]
"""
### Side quest E · A log that can be read back

TensorBoard shows curves in a browser: `tensorboard --logdir FOLDER`. Its event files can also be read by a program,
which is how a test or a report gets at them.

**Task.** Write two functions. `write_log(folder, curves)` writes, with `torch.utils.tensorboard.SummaryWriter`, for
each name in the dict `curves` its values as scalars at the steps 0, 1, 2, …; when it returns, all is on disk.
`read_log(folder)` returns such a dict again, name → list of floats in the order of the steps.
"""


# %%
def write_log(folder: Path, curves: dict[str, Sequence[float]]) -> None:
    """Write curves as TensorBoard scalars."""
    ### BEGIN SOLUTION
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for name, values in curves.items():
            for step, value in enumerate(values):
                writer.add_scalar(name, value, step)
    ### END SOLUTION


def read_log(folder: Path) -> dict[str, list[float]]:
    """The scalars in a folder of TensorBoard's event files."""
    ### BEGIN SOLUTION
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    ### END SOLUTION


# %% tags=["demo"]
with TemporaryDirectory() as folder:
    write_log(Path(folder), {"loss/train": [2.3, 1.1, 0.4], "lr": [0.001, 0.002, 0.003]})
    print(read_log(Path(folder)))

# %% [markdown]
"""
**What you should see.** Both curves, rounded to float32.
"""

# %%
check("write_log")

# %% [markdown] tags=["explanation"]
"""
Leaving the `with` closes the writer, and only that is sure to write what is buffered. `size_guidance={SCALARS: 0}` says
"keep all": by default the reader keeps a *sample* of 10,000 points, and a long curve comes back thinned.
"""

# %% [markdown]
"""
## Recap

You have written optimizers that equal PyTorch's, a schedule without state, clipping with one factor, a step and an
evaluation that leave everything as it should be, a test that finds bugs in a second, and a run that can be stopped
anywhere. From now on you may use PyTorch's own, and you know what they do.

**Next** comes Lab 4: what happens before a batch arrives.
"""
