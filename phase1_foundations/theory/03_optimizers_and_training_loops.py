# %% [markdown]
"""
# Optimizers and training loops

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two.*

A training loop is five lines: clear the gradients, compute the loss, go back, clip, step. Almost everything that goes
wrong in a training run goes wrong in those five lines or in what surrounds them, and almost nothing of it raises an
error. A learning rate that is three times too high, a scheduler stepped at the wrong moment, a resume that has
forgotten its momentum: each gives a loss curve that looks *almost* right.

This brief is about what the step does and why it is not simply the gradient.
"""

# %%
from collections.abc import Callable

import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn

from labkit.data import digits
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## Why the gradient is not enough

The gradient says which way is down *here*. How far to go is a question about curvature, which it does not know. Around
a minimum a loss looks like a bowl, $\tfrac12 \sum_i \lambda_i w_i^2$, with a curvature $\lambda_i$ in each direction.
A step of gradient descent multiplies the error in direction $i$ by $1 - \text{lr} \cdot \lambda_i$. The steepest
direction therefore sets a limit, $\text{lr} < 2 / \lambda_{max}$, beyond which it grows; and at that rate the flattest
direction shrinks by $1 - 2\lambda_{min} / \lambda_{max}$ a step. With a ratio of a thousand, which is mild for a
network, that takes thousands of steps.

Three ideas answer that, and every optimizer you will meet is made of them.

- **Momentum** steps along a decaying sum of past gradients. Along the valley they agree and add up; across it they
  alternate and cancel.
- **A scale for each parameter.** Divide each coordinate by a running estimate of its gradient's size, and all
  coordinates move at about the same speed. This is Adam's half, and RMSprop's before it.
- **Decay of the weights themselves**, a pull towards zero that is no part of the loss. AdamW keeps it apart from the
  scaling; Adam with `weight_decay` sends it through the scaling, where parameters with large gradients hardly feel it.

Here are the equations as PyTorch states them, with gradient $g$, at step $t = 1, 2, \dots$ In Lab 3 you will write
them and compare bit for bit.

- **SGD with momentum** $\mu$: $\;v \leftarrow \mu v + g$ (at first $v = g$), then $w \leftarrow w - \text{lr} \cdot v$.
- **Adam**: $\;m \leftarrow \beta_1 m + (1 - \beta_1) g$ and $s \leftarrow \beta_2 s + (1 - \beta_2) g^2$, then
  $w \leftarrow w - \text{lr} \cdot \hat m / (\sqrt{\hat s} + \epsilon)$.
- **AdamW**: first $w \leftarrow w \cdot (1 - \text{lr} \cdot \lambda)$, then as Adam.

The hats are a correction for the start: both averages begin at zero and would be too small, so
$\hat m = m / (1 - \beta_1^t)$ and $\hat s = s / (1 - \beta_2^t)$. Without them the first step of Adam would be about
three times too long.

## One valley, three walkers

A bowl with curvatures 1 and 50. Each walker has a good learning rate for its kind.
"""


# %%
def bowl(w: Tensor) -> Tensor:
    """A valley: fifty times steeper in the second direction than in the first."""
    return 0.5 * (w[0] ** 2 + 50 * w[1] ** 2)


def walk(make: Callable[[list[Tensor]], torch.optim.Optimizer], steps: int = 60) -> Tensor:
    """The places `(steps + 1, 2)` that an optimizer visits from the same start."""
    w = torch.tensor([-9.0, 1.5], requires_grad=True)
    optimizer = make([w])
    places = [w.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        bowl(w).backward()
        optimizer.step()
        places.append(w.detach().clone())
    return torch.stack(places)


walkers = {
    "gradient descent, lr 0.035": lambda p: torch.optim.SGD(p, lr=0.035),
    "with momentum 0.6, lr 0.05": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.6),
    "Adam, lr 0.5": lambda p: torch.optim.Adam(p, lr=0.5),
}
paths = {name: walk(make) for name, make in walkers.items()}
figure, (map_, curve) = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(3, 2))
grid = torch.meshgrid(torch.linspace(-10, 3, 200), torch.linspace(-2, 2, 100), indexing="xy")
map_.contour(*grid, bowl(torch.stack(grid)).log1p(), levels=9, colors="#797979", linewidths=0.6)
for (name, path), colour in zip(paths.items(), COLOURS, strict=False):
    map_.plot(*path.T, marker=".", markersize=4, linewidth=1, linestyle="-", color=colour, label=name)
    curve.semilogy([bowl(w).item() for w in path], linestyle="-", color=colour)
map_.set(xlabel="first weight (flat)", ylabel="second weight (steep)", title="Sixty steps in a valley")
map_.legend(fontsize=9, loc="lower right")
curve.set(xlabel="step", ylabel="loss", title="What the loss tells of it")
plt.show()
for name, path in paths.items():
    print(f"{name:28} loss after 60 steps {bowl(path[-1]).item():.2g}")

# %% [markdown]
"""
Gradient descent bounces across the valley and creeps along it: its learning rate is near the limit that the steep
direction sets, and far too small for the flat one. Momentum cancels the bouncing and gathers speed along the floor; it
even bears a rate beyond that limit. Adam moves in both directions at about the same pace, since it has divided the
steepness out, overshoots, and comes back. None of them wins in every valley; what they have in common is that the
*shape* of the path has changed, not only its speed.

## The loop around the step

A real loop adds a schedule, clipping, and two modes. The order is not a matter of taste.
"""

# %%
data = digits()
x = data.images.flatten(1).float() / 16
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, valid = order[:1400], order[1400:]
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
steps = 200
warm, cool = 20, steps - 20
schedule = torch.optim.lr_scheduler.SequentialLR(
    optimizer,
    [
        torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / warm, total_iters=warm),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cool),
    ],
    milestones=[warm],
)

rates, losses = [], []
model.train()
for _ in range(steps):
    batch = train[torch.randint(len(train), (64,))]
    optimizer.zero_grad()  # 1. forget
    loss = nn.functional.cross_entropy(model(x[batch]), data.labels[batch])
    loss.backward()  # 2. look
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)  # 3. limit what one bad batch can do
    rates.append(optimizer.param_groups[0]["lr"])
    optimizer.step()  # 4. move
    schedule.step()  # 5. only now the rate of the next step
    losses.append(loss.item())

model.eval()
with torch.no_grad():
    right = (model(x[valid]).argmax(1) == data.labels[valid]).float().mean()
print(f"first rate {rates[0]:.5f}, highest {max(rates):.5f} at step {rates.index(max(rates))}, last {rates[-1]:.6f}")
print(f"loss {losses[0]:.2f} -> {sum(losses[-20:]) / 20:.2f}, accuracy on unseen digits {right:.1%}")

# %% [markdown]
"""
- **Clip between `backward` and `step`**, on the norm of *all* gradients together. That shortens the step and keeps its
  direction. Clipping each tensor by itself would bend it.
- **The schedule counts what you count.** A `T_max` in steps needs a `schedule.step()` in every step, after
  `optimizer.step()`. Stepped once per epoch it would hardly move; stepped before, it skips its first value.
- **Warm-up** is for the optimizer's sake: Adam's running averages rest on a handful of noisy gradients at first, and
  its earliest steps have full length whatever they know.
- **Validation needs both** `model.eval()`, for dropout and batch norm, and `torch.no_grad()`, for memory; and then
  `model.train()` again.

## Three traps

**1. A mean of means.** The loss of a batch is a mean over its rows. Average those means over an epoch whose last batch
is small, or add up gradients of unequal micro-batches, and rows in small batches weigh more. Weight by the number of
rows.
"""

# %%
error = torch.arange(10.0)
batches = error[:8], error[8:]
print("mean over rows    ", error.mean().item())
print("mean of the means ", sum(b.mean().item() for b in batches) / 2)
print("weighted by rows  ", sum(b.mean().item() * len(b) for b in batches) / 10)

# %% [markdown]
"""
**2. A checkpoint that holds the weights only.** An optimizer is a machine with a memory. Restart Adam with empty
averages in the middle of training, at the learning rate of the middle, and its next steps are as rash as its first
were. A resume that is worth the name restores model, optimizer, schedule, the state of every random number generator,
and the place in the data. You can test it: train six steps; train three, save, load into fresh objects, train three.
The weights must be equal **bit for bit**, and if they are not, something was forgotten.
"""


# %%
def train_on(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[Tensor]) -> None:
    """A step for each batch of rows."""
    for rows in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), data.labels[rows]).backward()
        optimizer.step()


def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
    """The same start each time."""
    torch.manual_seed(1)
    model = nn.Linear(64, 10)
    return model, torch.optim.Adam(model.parameters(), lr=0.01)


batches = list(train[:384].split(64))
whole, optimizer = fresh()
train_on(whole, optimizer, batches)
for what in ("weights only", "weights and optimizer"):
    first, its_optimizer = fresh()
    train_on(first, its_optimizer, batches[:3])
    second, optimizer = fresh()
    second.load_state_dict(first.state_dict())
    if what != "weights only":
        optimizer.load_state_dict(its_optimizer.state_dict())
    train_on(second, optimizer, batches[3:])
    gap = (second.weight - whole.weight).abs().max().item()
    print(f"{what:22} largest difference to the run without a stop: {gap:.2g}")

# %% [markdown]
"""
**3. Debugging on the whole data set.** Before the first long run, take **one** batch and train on it until the loss is
nearly zero. Any model with enough parameters can learn 32 rows by heart. If it cannot, the fault is yours, and you have
found it in seconds: a frozen layer, a detached graph, labels out of order, a softmax before the cross-entropy.

## At scale

- **The optimizer is the memory.** Adam keeps two numbers for each parameter. In `float32`, with the gradient, that is
  16 bytes a parameter: 112 GB for seven billion, before a single activation. Sharding it (ZeRO, FSDP), or keeping the
  moments in 8 bits, is where most of the saving comes from.
- **Batch and rate go together.** With a batch k times larger the gradient is less noisy, and a rate up to about k times
  higher is tried, with a warm-up. It holds up to a critical batch size that depends on the task, and then no longer.
- **Loss spikes** are part of runs on thousands of machines. Clipping limits them; teams also keep recent checkpoints,
  go back, and skip the batches concerned, which needs trap 2 done right.
- **Schedules encode a budget.** A cosine must know its end when it begins. Runs whose length is open hold the rate and
  decay it at the end ("warm-up, stable, decay"), so that any checkpoint of the plateau can be finished.

## References

1. Kingma and Ba, *Adam: A Method for Stochastic Optimization*, ICLR, 2015.
2. Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, ICLR, 2019.
3. Goh, *Why Momentum Really Works*, Distill, 2017.
4. McCandlish, Kaplan, Amodei et al., *An Empirical Model of Large-Batch Training*, 2018.
5. PyTorch documentation, [*torch.optim*](https://docs.pytorch.org/docs/stable/optim.html).

## Test yourself

Answer aloud before you unfold.

**1.** You multiply the loss by 100. What changes for SGD, and what for Adam?

<details><summary>Answer</summary>

SGD takes steps a hundred times as long and will probably diverge. Adam hardly notices: numerator and denominator both
grow by a hundred, and only ε has become relatively smaller. Clipping by norm, on the other hand, now strikes at every
step, and for Adam that changes nothing much either.

</details>

**2.** The bowl has curvatures 1 and 50. What is the largest learning rate at which gradient descent does not diverge,
and how much of the error in the flat direction is left after one step at that rate?

<details><summary>Answer</summary>

2 / 50 = 0.04. In the flat direction the factor is 1 − 0.04 · 1 = 0.96: 4 % are gone. Halving the error takes 17 steps,
while the steep direction bounces without shrinking at all.

</details>

**3.** A run resumes from a checkpoint with model, optimizer and schedule restored. The loss continues smoothly, yet the
weights differ from those of a run that was never stopped. Name two suspects.

<details><summary>Answer</summary>

The random number generators (dropout and shuffling draw other numbers now), and the position in the data: after a stop
in mid-epoch the new run begins the epoch again, so some rows are seen twice and others not at all. In distributed
runs, add the order of summation.

</details>

Ready? Mark the brief as read, then open Lab 3.
"""

# %%
from grading import mark_as_read

mark_as_read("phase1/theory3")
