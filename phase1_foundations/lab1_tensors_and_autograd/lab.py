# %% [markdown]
"""
# Lab 1: Tensor operations and autograd

Everything you will ever train is two things: arithmetic on blocks of memory, and a tape that remembers the arithmetic
so that it can be run backwards. In this lab you take both apart. By the end you have fitted a model to real data, and
nothing in its training loop is a black box to you.

**You will be able to**

- say what dtype and device a tensor has, which memory it shares, and prove it;
- replace Python loops by broadcasting and einsum, and say what each costs in memory;
- write log-sum-exp and softmax that survive logits of a thousand;
- derive a backward pass on paper and see autograd agree with it;
- use `no_grad`, `detach` and gradient accumulation on purpose, and read the errors autograd gives you.

**Time** two hours for the eight exercises (20 points). Three side quests at the end earn XP only.

**You need to know** Python with NumPy's indexing, matrix multiplication, and the chain rule. The theory brief *Tensors
and autograd* (15 minutes) prepares you for exercises 2, 6 and 7; what is new besides is introduced where it is needed.
"""

# %% [markdown]
"""
## Set-up

Each exercise ends in a cell such as `check("as_floats")`. It runs our tests on your code with fresh random inputs and
says what is missing; run it as often as you like. It also says what the exercise is worth: the points are shared
among its requirements, so half an answer earns its half. A check is named after the first thing its cell defines.
Stuck? `hint("as_floats")` gives one of three hints, and hints are free. `reveal("as_floats")` shows our answer after
the third hint: you may go on, but the exercise earns nothing.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab1")

# %%
import math
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from labkit.data import diabetes
from labkit.measure import compare
from labkit.plots import use_theme

use_theme()

# %% [markdown]
"""
## 1 · Numbers in: dtype, device, memory

A tensor takes its dtype from what you hand it: integers become `int64`, a NumPy array keeps its `float64`. Either one
meets your `float32` weights later, far from where it came in. Memory is quieter still. `torch.from_numpy` and
`torch.as_tensor` may *share* the source's memory, so that a later edit of the array edits your training data too. A
careful entry point settles all three questions once.

**Task.** Write `as_floats(values, device)`. Whatever comes in, the result is `float32`, is on `device`, and is a
copy: writing into the source or into the result leaves the other as it was.

The check also asks for the device `meta`. Every machine has it: its tensors have a shape and a dtype but no numbers,
so it shows whether your code respects `device` even where there is no GPU.
"""


# %%
def as_floats(values: Sequence | np.ndarray | Tensor, device: str | torch.device = "cpu") -> Tensor:
    """The numbers of `values` as a new float32 tensor on `device`, of the same shape.

    `values`: a list or tuple (nested or empty), a NumPy array or a tensor, of integers, floats or booleans.
    """
    ### BEGIN SOLUTION
    return torch.as_tensor(values, dtype=torch.float32, device=device).clone()
    ### END SOLUTION


# %% tags=["demo"]
readings = np.array([[20, 21], [19, 23]])
batch = as_floats(readings)
readings[0, 0] = -999
print(batch, batch.dtype)

# %% [markdown]
"""
**What you should see.** Four floats, 20 first: the broken sensor came after you copied. The dtype printed is
`torch.float32`, although NumPy held 64-bit integers.
"""

# %%
check("as_floats")

# %% [markdown] tags=["explanation"]
"""
`as_tensor` converts and moves only where it has to; `clone` then makes the copy certain. Where a conversion already
copied, the second copy is the price of a line that is right for every input. `torch.tensor(values, dtype=…)` copies
too, but warns when it is handed a tensor; `torch.asarray(values, …, copy=True)` is the other way to say it.
"""

# %% [markdown]
"""
## 2 · Views: one memory, many shapes

A tensor is a flat block of memory and a rule for walking it: element `[i, j]` lies at
`offset + i * stride[0] + j * stride[1]`. Slicing, `transpose`, `view` and `expand` change the rule and copy nothing.
`reshape` copies only when no rule would do; indexing with a list always copies. The cell below shows which is which.
"""

# %%
x = torch.arange(12).view(3, 4)
made_from_x = {
    "x.T": x.T,
    "x[:, 1:3]": x[:, 1:3],
    "x[0].expand(3, 4)": x[0].expand(3, 4),
    "x.reshape(2, 6)": x.reshape(2, 6),
    "x.T.reshape(2, 6)": x.T.reshape(2, 6),
    "x[[0, 1]]": x[[0, 1]],
}
for expression, y in made_from_x.items():
    shared = y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    print(f"{expression:18} shape {tuple(y.shape)}  strides {y.stride()}  {'view' if shared else 'copy'}")

# %% [markdown]
r"""
Attention splits each feature vector of length `d_model` into `n_heads` pieces of length `d_head = d_model / n_heads`
and moves the heads in front of time. Head `h` owns the features `h * d_head` up to `(h + 1) * d_head`:

$$\text{heads}[b, h, t, i] = x[b,\; t,\; h \cdot d_{head} + i]$$

The shapes also come out right if you ask for `(batch, n_heads, time, d_head)` in one `reshape`, but then steps in
time and features change places. It is the best-known silent bug in home-made Transformers.

**Task.** Write `split_heads` so that it **copies nothing**: whatever layout `x` has, the result looks into the memory
of `x`. (To split one axis into two there always is a rule; it is joining axes that may need a copy.) Raise
`ValueError` if `n_heads`, a positive number, does not divide `d_model`. Then write its inverse, `merge_heads`, which
may copy.
"""


# %%
def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """A view of `x`, `(batch, time, d_model)`, as `(batch, n_heads, time, d_head)`.

    Raises `ValueError` if `n_heads` does not divide `d_model`.
    """
    ### BEGIN SOLUTION
    if x.shape[-1] % n_heads:
        raise ValueError(f"d_model = {x.shape[-1]} cannot be split into {n_heads} heads")
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)
    ### END SOLUTION


def merge_heads(heads: Tensor) -> Tensor:
    """The inverse: `(batch, n_heads, time, d_head)` as `(batch, time, n_heads * d_head)`."""
    ### BEGIN SOLUTION
    return heads.transpose(1, 2).flatten(2)
    ### END SOLUTION


# %% tags=["demo"]
x = torch.arange(12.0).view(1, 2, 6)
heads = split_heads(x, 3)
print(heads.shape, heads.stride())
print(heads[0, 1])

# %% [markdown]
"""
**What you should see.** Strides `(12, 2, 6, 1)`: one step in time jumps a whole row of 6, one step to the next head
only 2. Head 1 holds features 2 and 3 of both time steps: `[[2, 3], [8, 9]]`.
"""

# %%
check("split_heads")

# %% [markdown] tags=["explanation"]
"""
Splitting one axis into two never needs a copy: the outer part has stride `d_head · s`, the inner one keeps `s`. That
is `unflatten`, and it works on any layout. `transpose` then swaps two entries of the strides. Merging is different:
after the transpose back, head and feature lie next to each other in the shape but not always in memory, so `flatten`
copies when it must, while `view` would raise.
"""

# %% [markdown]
r"""
## 3 · Broadcasting: all pairs at once

Nearest neighbours, clustering, contrastive losses: they all begin with the distance of every point to every other.
Two loops over a thousand points are a million trips through Python; broadcasting makes it one trip. Shapes are
aligned **from the right**, and an axis of size 1 is repeated without being copied.

**Task.** For `x` of shape `(n, d)` and `y` of shape `(m, d)` return all squared Euclidean distances

$$D_{ij} = \sum_k (x_{ik} - y_{jk})^2$$

- No Python loop over points: the number of PyTorch calls must not grow with `n` or `m` (with the few coordinates `d`
  it may). Do without `torch.cdist`.
- Subtract **before** you square. The points may lie 1,000 away from the origin, where the textbook expansion
  `|x|² + |y|² − 2x·y` is the small difference of huge numbers, and `float32` has no digits left for it.
- Gradients must reach `x` and `y`.
"""


# %%
def pairwise_squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances, `(n, m)`, between the rows of `x`, `(n, d)`, and those of `y`, `(m, d)`.

    `n` may be 0.
    """
    ### BEGIN SOLUTION
    return (x[:, None] - y).square().sum(-1)
    ### END SOLUTION


# %% tags=["demo"]
corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
pairwise_squared_distances(corners, corners[:2])

# %% [markdown]
"""
**What you should see.** `[[0, 9], [9, 0], [16, 25]]`: the 3-4-5 triangle, squared. Each row is a point of the first
argument, each column one of the second.
"""

# %%
check("pairwise_squared_distances")

# %% [markdown] tags=["explanation"]
"""
`x[:, None]` is `(n, 1, d)`; `y` is read as `(1, m, d)`; their difference is `(n, m, d)`, and the sum over the last
axis leaves `(n, m)`. Repeating `x` along the new axis copies nothing: broadcasting gives that axis a stride of 0. The
*difference* is real memory though, `n · m · d` numbers of it. Hold on to that thought for the measured comparison.
"""

# %% [markdown]
r"""
## 4 · Einsum: name the axes

With three tensors and four axes, `transpose` and `unsqueeze` become a puzzle for the reader. `torch.einsum` lets you
write the index formula itself: an index missing on the right is summed over, one that stays is kept, in the order you
name. So `torch.einsum("ik,kj->ij", a, b)` is a matrix product, and `torch.einsum("ij->ji", a)` a transpose.

**Task.** A bilinear form scores how well each query fits each key through a learned matrix `W`. For every batch
element `b`

$$S_{bnm} = \sum_{d} \sum_{e} q_{bnd} \, W_{de} \, k_{bme}$$

Queries and keys may have different lengths and different widths. The batch elements do not mix. There is no scaling.
"""


# %%
def bilinear_scores(queries: Tensor, weight: Tensor, keys: Tensor) -> Tensor:
    """Scores `(batch, n, m)` of `queries` `(batch, n, d)` against `keys` `(batch, m, e)` through `weight` `(d, e)`.

    The result has the dtype of the inputs, and is differentiable in all three.
    """
    ### BEGIN SOLUTION
    return torch.einsum("bnd,de,bme->bnm", queries, weight, keys)
    ### END SOLUTION


# %% tags=["demo"]
one_hot_queries, one_hot_keys = torch.eye(2)[None], torch.eye(3)[None]
bilinear_scores(one_hot_queries, torch.arange(6.0).view(2, 3), one_hot_keys)

# %% [markdown]
"""
**What you should see.** The weight matrix itself, `[[0, 1, 2], [3, 4, 5]]`, with a batch axis in front: one-hot query
`n` and one-hot key `m` pick out `W[n, m]`.
"""

# %%
check("bilinear_scores")

# %% [markdown] tags=["explanation"]
"""
The formula is the code. `queries @ weight @ keys.mT` does the same multiplications (`mT` transposes the last two axes
only; `.T` is for matrices). Einsum wins when a reader must see *which* axes meet, and it cannot be got wrong by a
square shape: swap two letters of different sizes and it raises.
"""

# %% [markdown]
r"""
## 5 · Stay finite: log-sum-exp and softmax

In `float32`, `exp(89)` is already infinite, and `inf / inf` is NaN. Logits of that size are ordinary: one confident
network is enough. The remedy is an identity that holds for any $m$, and the safe choice is the maximum along `dim`:

$$\operatorname{lse}(x) = m + \log \sum_i e^{x_i - m}, \qquad m = \max_i x_i,
\qquad\qquad \operatorname{softmax}(x)_i = e^{\,x_i - \operatorname{lse}(x)}$$

The largest exponent is then `exp(0) = 1`, and the sum lies between 1 and the number of terms.

**Task.** Write both for any shape with an axis, and any `dim`, in the dtype of `x`, without PyTorch's own
`logsumexp`, `logaddexp`, `logcumsumexp`, `softmax`, `log_softmax` and `softmin`. Each slice along `dim` has its own
maximum: one may lie near 1,000 and the next near −1,000. Single entries may be `-inf` (they weigh 0), but never a
whole slice. Gradients must be right: the gradient of `log_sum_exp` **is** the softmax, a fact worth knowing.
"""


# %%
def log_sum_exp(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """log Σ exp(x) along `dim`, finite whenever the answer is. `dim` goes, or stays with size 1 if `keepdim`."""
    ### BEGIN SOLUTION
    top = x.amax(dim, keepdim=True)
    result = top + (x - top).exp().sum(dim, keepdim=True).log()
    return result if keepdim else result.squeeze(dim)
    ### END SOLUTION


def softmax(x: Tensor, dim: int) -> Tensor:
    """Weights of the shape of `x`, positive or zero, that sum to 1 along `dim`."""
    ### BEGIN SOLUTION
    return (x - log_sum_exp(x, dim, keepdim=True)).exp()
    ### END SOLUTION


# %% tags=["demo"]
logits = torch.tensor([[1000.0, 1001.0, 1002.0], [-3.0, 0.0, -math.inf]])
print("naive ", (logits.exp() / logits.exp().sum(1, keepdim=True)))
print("stable", softmax(logits, 1))

# %% [markdown]
"""
**What you should see.** The naive row of large logits is all NaN. Yours is `[0.0900, 0.2447, 0.6652]`, the same as
for logits 0, 1, 2: softmax only knows differences. In the second row the `-inf` entry weighs exactly 0.
"""

# %%
check("log_sum_exp")

# %% [markdown] tags=["explanation"]
"""
`keepdim=True` inside is what lets `top` line up with `x` whatever `dim` is. The maximum needs no `detach`: in exact
arithmetic its gradient cancels, because the identity holds for *any* $m$. In `softmax`, on the other hand, the
log-sum-exp must stay on the tape: it carries the influence of every logit on every other weight.
"""

# %% [markdown]
"""
## 6 · The backward pass by hand

`loss.backward()` is the chain rule and bookkeeping, nothing more. Derive it once for a small network and you will
never again wonder where a transpose comes from, or why activations must be kept. This is the network, with weights
stored as `(out, in)` as in `nn.Linear`:
"""


# %%
def mlp_loss(x: Tensor, target: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Mean squared error of a two-layer network, averaged over all `batch * d_out` outputs."""
    hidden = torch.relu(x @ w1.T + b1)
    output = hidden @ w2.T + b2
    return (output - target).square().mean()


# %% [markdown]
r"""
**Task.** Return the gradients of `mlp_loss` with respect to `w1`, `b1`, `w2` and `b2`, each in the shape of its
parameter and in the dtype of the inputs; on the tape or off it, as you like. No autograd: no `backward`, no
`torch.autograd.grad`, no `torch.func`.

Work from the loss back. Write $\bar{a}$ for the gradient of the loss with respect to $a$; then three rules are
enough:

- mean squared error over $N = \text{batch} \cdot d_{out}$ numbers: $\;\bar{o} = \frac{2}{N}(o - \text{target})$
- a linear layer $o = h W^\top + b$:
  $\;\bar{W} = \bar{o}^\top h$, $\;\bar{b} = \sum_{batch} \bar{o}$, $\;\bar{h} = \bar{o}\, W$
- $h = \operatorname{relu}(a)$: $\;\bar{a} = \bar{h}$ where $a > 0$, and 0 elsewhere. At $a = 0$ the derivative is 0,
  as in PyTorch.
"""


# %%
def mlp_gradients(
    x: Tensor, target: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `mlp_loss` for `(w1, b1, w2, b2)`, in this order, in their shapes and dtype.

    x `(batch, d_in)`, target `(batch, d_out)`,
    w1 `(d_hidden, d_in)`, b1 `(d_hidden,)`, w2 `(d_out, d_hidden)`, b2 `(d_out,)`.
    """
    ### BEGIN SOLUTION
    hidden = torch.relu(x @ w1.T + b1)
    output = hidden @ w2.T + b2
    d_output = 2 * (output - target) / output.numel()
    d_hidden = (d_output @ w2) * (hidden > 0)
    return d_hidden.T @ x, d_hidden.sum(0), d_output.T @ hidden, d_output.sum(0)
    ### END SOLUTION


# %% tags=["demo"]
sizes = {"w1": (4, 3), "b1": (4,), "w2": (2, 4), "b2": (2,)}
params = {name: torch.randn(size, requires_grad=True) for name, size in sizes.items()}
x, target = torch.randn(5, 3), torch.randn(5, 2)
with torch.no_grad():
    yours = mlp_gradients(x, target, **params)
mlp_loss(x, target, **params).backward()
for (name, param), gradient in zip(params.items(), yours, strict=True):
    print(f"{name}: largest difference to autograd {(gradient - param.grad).abs().max():.1e}")

# %% [markdown]
"""
**What you should see.** Four differences below `1e-6`, perhaps some exactly 0: rounding, not calculus.
"""

# %%
check("mlp_gradients")

# %% [markdown] tags=["explanation"]
"""
Shapes lead the way: the gradient of `w2` must be `(d_out, d_hidden)`, and only `d_output.T @ hidden` fits. A bias is
broadcast over the batch going forward, so its gradient is *summed* over the batch going back; every broadcast has a
sum as its mirror image. `hidden > 0` is the same mask as for the pre-activation, so `hidden` is the one activation we
keep. Autograd keeps the same ones, and this is why training takes more memory than inference.
"""

# %% [markdown]
"""
## 7 · Leaves, `no_grad` and accumulation

A tensor that you create with `requires_grad=True` is a **leaf**: `backward` *adds* to its `.grad`, and never clears
it. Everything computed from it is on the tape, unless it is computed under `torch.no_grad()` or taken off by
`detach()`. Autograd also counts every in-place edit: if a value that the backward pass needs has been overwritten, it
refuses. The cell below provokes the two errors that you will meet most.
"""

# %%
w = torch.tensor([1.0, 2.0], requires_grad=True)
y = (w * w).sum()
print("leaf:", w.is_leaf, y.is_leaf, "  after detach, requires_grad:", y.detach().requires_grad)
try:
    w -= 0.1
except RuntimeError as error:
    print("\n1.", error)
with torch.no_grad():
    w -= 0.1
try:
    y.backward()
except RuntimeError as error:
    print("\n2.", str(error).split(". Hint")[0])

# %% [markdown]
r"""
The first says that an update is not part of the model: say so with `no_grad`. The second is a rescue: `y` was
computed with the old `w`, so its gradient would have been wrong. Writing through `w.data` hides the edit from
autograd: no error, wrong numbers. Never do it. (`w.detach()` shares the memory *and* the counter of edits, so a write
through it is noticed.)

**Task.** Write the two halves of a training step.

1. `sgd_step(params, lr)` updates each parameter **in place**, `p ← p − lr · p.grad`, then forgets the gradient
   (`p.grad = None`). The parameters stay the same leaf tensors. One without a gradient is left alone.
   Autograd must notice the edit, as above.
2. `accumulate_gradients(loss_of, batches)` is for a data set whose graph does not fit in memory at once.
   `loss_of(features, target)` gives the *mean* loss of one batch. After the call, every `.grad` has gained the
   gradient of the mean over **all examples**: a batch counts by its number of rows, so weight it by rows / all rows.
   Call `backward` on each batch before you compute the next, so that only one graph is alive at a time. Return that
   overall mean loss as a 0-dimensional tensor in the dtype of the losses, off the tape (`requires_grad` is False).
"""


# %%
def sgd_step(params: Sequence[Tensor], lr: float) -> None:
    """One step of gradient descent in place: `p -= lr * p.grad`, then `p.grad = None`. `params` are leaves."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        for p in params:
            if p.grad is not None:
                p -= lr * p.grad
                p.grad = None
    ### END SOLUTION


def accumulate_gradients(
    loss_of: Callable[[Tensor, Tensor], Tensor], batches: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """Add the gradient of the mean loss over all rows of `batches` to the leaves, batch by batch; return that loss.

    `batches`: one or more pairs of features `(rows, d)` and target `(rows,)`; `rows` may differ.
    """
    ### BEGIN SOLUTION
    n_rows = sum(len(features) for features, _ in batches)
    losses = []
    for features, target in batches:
        loss = loss_of(features, target) * len(features) / n_rows
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses).sum()
    ### END SOLUTION


# %% tags=["demo"]
w = torch.zeros(2, requires_grad=True)
inputs, outputs = torch.randn(10, 2), torch.randn(10)


def squared_error(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the linear model `w`."""
    return (features @ w - target).square().mean()


loss = accumulate_gradients(squared_error, [(inputs[:7], outputs[:7]), (inputs[7:], outputs[7:])])
(whole,) = torch.autograd.grad(squared_error(inputs, outputs), [w])
print("in two parts:", w.grad, "  at once:", whole)
sgd_step([w], lr=0.1)
print(f"loss before {loss:.4f}, after one step {squared_error(inputs, outputs):.4f}; grad is now {w.grad}")

# %% [markdown]
"""
**What you should see.** The same gradient twice, from parts of 7 and 3 and from all 10 rows; a loss that falls; and
`None`.
"""

# %%
check("sgd_step")

# %% [markdown] tags=["explanation"]
"""
Under `no_grad`, `p -= …` writes into the leaf's own memory and raises its version counter, which is how autograd
knows. `p = p - …` would only give the name `p` to a new tensor and train nothing. In `accumulate_gradients`,
`backward` frees each graph at once and the leaves do the adding. `detach` matters for the return value alone: a sum
of attached losses would keep every graph's nodes alive, the reason behind many a training loop whose memory grows by
the hour.
"""

# %% [markdown]
"""
## 8 · The payoff: fit real data

442 patients, ten measurements each (age, sex, body mass index, blood pressure, six blood values), and a number for
how far their diabetes progressed within a year. A linear model on this data has a closed form, so you can tell
exactly how good your gradient descent is. The measurements come in their own units, with spreads from 0.5 to 35; one
learning rate cannot suit all of them, so we standardise: mean 0 and standard deviation 1, **both taken from the
training rows**. Statistics of the test rows would leak what you are not supposed to know.
"""

# %%
table = diabetes()
order = torch.randperm(len(table.target), generator=torch.Generator().manual_seed(1))
train, test = order[:342], order[342:]
mean = table.features[train].mean(0)
std = table.features[train].std(0)
features = (table.features - mean) / std
print(f"{len(train)} patients to train on, {len(test)} to test")
print(f"progression of the disease: {table.target.mean():.0f} ± {table.target.std():.0f}")

# %% [markdown]
r"""
**Task.** Write `fit_linear`: plain gradient descent on the whole of `features` at every step.

- The model is `features @ weight + bias`; `weight` of shape `(d,)` and the scalar `bias` start at **zero**.
- The loss is the **mean** squared error over the rows. Record it **before** each update, so `losses[0]` is the loss
  at zero.
- Take exactly `steps` steps, at least one, of `p ← p − lr · ∂loss/∂p`. Your `sgd_step` is made for this; while it
  does not pass, the check puts ours in its place.
- `features` and `target` share a dtype: use it. Return `weight`, `bias` and `losses` off the tape, and leave the
  inputs as they were.
"""


# %%
def fit_linear(features: Tensor, target: Tensor, lr: float, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient descent for linear regression of `target` `(n,)` on `features` `(n, d)`.

    Returns `weight` `(d,)`, `bias` `()` and `losses` `(steps,)`; none of them requires grad.
    """
    ### BEGIN SOLUTION
    weight = features.new_zeros(features.shape[1], requires_grad=True)
    bias = features.new_zeros((), requires_grad=True)
    losses = features.new_empty(steps)
    for step in range(steps):
        loss = (features @ weight + bias - target).square().mean()
        loss.backward()
        sgd_step([weight, bias], lr)
        losses[step] = loss.detach()
    return weight.detach(), bias.detach(), losses
    ### END SOLUTION


# %% [markdown]
"""
The closed form to compare with is least squares, by `torch.linalg.lstsq` on the features and a column of ones.
"""

# %% tags=["demo"]
weight, bias, losses = fit_linear(features[train], table.target[train], lr=0.1, steps=1000)

design = torch.cat([features, torch.ones(len(features), 1)], dim=1)
best = torch.linalg.lstsq(design[train], table.target[train, None]).solution.squeeze(1)
best_loss = (design[train] @ best - table.target[train]).square().mean()


def rmse(weight: Tensor, bias: Tensor, rows: Tensor) -> float:
    """Root mean squared error on `rows`, in units of the target."""
    return (features[rows] @ weight + bias - table.target[rows]).square().mean().sqrt().item()


guess = (table.target[test] - table.target[train].mean()).square().mean().sqrt()
print(f"test RMSE    always the mean {guess:.2f}")
print(f"             yours           {rmse(weight, bias, test):.2f}")
print(f"             closed form     {rmse(best[:-1], best[-1], test):.2f}")
print(f"your last training loss is {100 * (losses[-1] / best_loss - 1):.3f} % above the closed form's")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
left.loglog(range(1, len(losses) + 1), losses, label="gradient descent")
left.axhline(best_loss.item(), linestyle="--", color="C1", label="closed form")
left.set(xlabel="step", ylabel="training loss (MSE)", title="Loss")
left.legend()
places = np.arange(len(table.names))
right.bar(places - 0.2, weight, width=0.4, label="gradient descent")
right.bar(places + 0.2, best[:-1], width=0.4, label="closed form")
right.set(xticks=places, xticklabels=table.names, ylabel="weight", title="What the model uses")
right.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** A loss that falls to a tenth within some ten steps and then creeps along the dashed line; at
the end it lies less than a tenth of a per cent above. The test error is within one unit of the closed form's, and
about a quarter below that of always guessing the mean. The weights of `s1` and `s2` lag behind: total and LDL
cholesterol are almost the same measurement, so the loss barely feels how they share the weight. Gradient descent is
fast where the loss is steep and slow where it is flat.
"""

# %%
check("fit_linear")

# %% [markdown] tags=["explanation"]
"""
`new_zeros` takes dtype and device from `features`. The shapes are the trap: were `weight` of shape `(d, 1)`, the
prediction would be `(n, 1)`, and minus a target of shape `(n,)` that broadcasts to `(n, n)`: no error, and a model
that predicts the mean. Each `loss.backward()` builds on an empty `.grad`, because `sgd_step` cleared it.
"""

# %% [markdown]
"""
## A measured comparison

Your code beside PyTorch's own on the same work. We give a ratio of times only where it is 3 or more; below that, two
runs on one machine differ as much.
"""

# %% tags=["demo"]
points, others = torch.randn(500, 64), torch.randn(500, 64)
logits = torch.randn(500, 1000)

distances = compare(lambda: pairwise_squared_distances(points, others), lambda: torch.cdist(points, others).square())
print("pairwise distances ", distances)
print("softmax            ", compare(lambda: softmax(logits, 1), lambda: torch.softmax(logits, 1)))

far, far_others = points + 1000, others + 1000
exact = pairwise_squared_distances(far.double(), far_others.double())
print(f"\nat 1,000 from the origin, where distances² are about {exact.mean():.0f}, the largest error is")
print(f"  yours {(pairwise_squared_distances(far, far_others) - exact).abs().max():.4f}")
print(f"  cdist {(torch.cdist(far, far_others).square() - exact).abs().max():.4f}")

# %% [markdown]
"""
Broadcasting writes all `n · m · d` differences to memory before it adds them up; `cdist` expands the square into one
matrix product and never holds more than a few times `n · m` numbers. Look at the price in the last two lines: far
from the origin the expansion cancels, as exercise 3 warned, and the fast answer can be off by half. (With
`compute_mode="donot_use_mm_for_euclid_dist"`, `cdist` subtracts first as you do.) Your softmax passes over memory
once for each of `amax`, `-`, `exp`, `sum`, …; the built-in kernel does it all in one visit to each row.
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

- **Views are free, copies are not.** A batch of activations of shape `(32, 4096, 8192)` in `bfloat16` is 2 GiB. One
  stray copy costs as much memory again, and the time to move it.
- **Pairs grow with the square.** All distances between a million points are 10¹² numbers, 4 TB in `float32`. Real
  systems go block by block, or ask an approximate index for the few nearest; you will build both.
- **Stable sums are everywhere.** Fused attention is the log-sum-exp of exercise 5, computed piece by piece with a
  running maximum, so that the scores never exist in memory as a whole.
- **Accumulation sets the batch.** A global batch of 4 million tokens is reached by micro-batches, weighted as in
  exercise 7, on many machines whose gradients are then averaged.
- **Activations dominate.** What `backward` needs was kept by `forward`. Checkpointing throws some of it away and
  computes it again: a third more arithmetic for a fraction of the memory.
"""

# %% [markdown]
r"""
## Side quests

Harder, optional, XP only. They can be done in any order.

### Side quest A · Sliding windows without a copy

Convolutions, moving averages and tokenised audio all look at overlapping windows. Since a view may visit the same
memory twice, windows need no memory at all: it is only a matter of strides.

**Task.** Write `sliding_windows(x, size, step)` with `torch.as_strided(x, shape, strides)`, and without `unfold`.
Along the last axis of `x`, window `w` starts at `w * step`:

$$\text{windows}[\ldots, w, i] = x[\ldots,\; w \cdot step + i], \qquad
n_{windows} = \lfloor (time - size) / step \rfloor + 1$$

`x` may have any number of leading axes and **any layout**: it may be transposed, every second element of something,
or start in the middle of its memory. The result shares its memory. Raise `ValueError` unless `1 <= size <= time` and
`step >= 1`.
"""


# %%
def sliding_windows(x: Tensor, size: int, step: int = 1) -> Tensor:
    """All windows of length `size` along the last axis of `x`, `(..., time)`, as a view `(..., n_windows, size)`.

    Raises `ValueError` unless `1 <= size <= time` and `step >= 1`.
    """
    ### BEGIN SOLUTION
    time = x.shape[-1]
    if not 1 <= size <= time or step < 1:
        raise ValueError(f"no windows of size {size} and step {step} in {time} elements")
    *outer, stride = x.stride()
    n_windows = (time - size) // step + 1
    return torch.as_strided(x, (*x.shape[:-1], n_windows, size), (*outer, step * stride, stride))
    ### END SOLUTION


# %% tags=["demo"]
sliding_windows(torch.arange(8), size=4, step=2)

# %% [markdown]
"""
**What you should see.** Three windows, starting at 0, 2 and 4, each overlapping the next by two.
"""

# %%
check("sliding_windows")

# %% [markdown] tags=["explanation"]
"""
Strides count elements of memory, not of `x`: a step within a window is the last stride of `x`, a step to the next
window is `step` times that. If `storage_offset` is not given, `as_strided` starts where `x` starts; pass 0 and you
read from the beginning of somebody else's tensor. PyTorch checks only that you stay inside the memory block, not
inside `x`, so prefer `unfold` in real code. Now you know what it does.
"""

# %% [markdown]
r"""
### Side quest B · Teach autograd a new function

Sometimes you know a better derivative than the tape does: cheaper, more stable, or for an operation PyTorch has never
heard of. `torch.autograd.Function` is the door. Softplus is a smooth relu:

$$\operatorname{softplus}_\beta(x) = \frac{1}{\beta} \log(1 + e^{\beta x}), \qquad
\frac{d}{dx} \operatorname{softplus}_\beta(x) = \sigma(\beta x)$$

Taken literally, the formula overflows for large $\beta x$, and its taped derivative becomes NaN.

This is the form, for a cube with a factor. `ctx` carries what `backward` will need: tensors by `save_for_backward`,
anything else as an attribute. `backward` returns a gradient for each argument of `forward` after `ctx`.

```python
class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return factor * x**3

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * ctx.factor * 3 * x**2, None
```

**Task.** Write the class `Softplus` with static methods `forward(ctx, x, beta)` and `backward(ctx, grad_output)`, to
be called as `Softplus.apply(x, beta)`. `beta` is a positive number, not a tensor: its gradient is `None`. The result
has the shape and dtype of `x`.

- It is right to `float32`'s precision, and so is its gradient, for `x` of ±1,000 too.
- It passes `gradcheck` **and** `gradgradcheck`: the backward pass is itself differentiated, so it must be made of
  differentiable operations on tensors that autograd knows: your inputs, saved with `ctx.save_for_backward`. What you
  compute inside `forward` is off the tape.
- Do without `torch.nn.functional.softplus`.
"""


# %%
class Softplus(torch.autograd.Function):
    """Softplus with its own derivative; `Softplus.apply(x, beta)`."""

    ### BEGIN SOLUTION
    @staticmethod
    def forward(ctx, x: Tensor, beta: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.beta = beta
        # log(1 + e^z) = max(z, 0) + log(1 + e^-|z|), which never overflows
        z = beta * x
        return (z.clamp(min=0) + (-z.abs()).exp().log1p()) / beta

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad_output * torch.sigmoid(ctx.beta * x), None

    ### END SOLUTION


# %% tags=["demo"]
x = torch.tensor([-1000.0, 0.0, 1000.0], requires_grad=True)
y = Softplus.apply(x, 1.0)
y.sum().backward()
print(y, x.grad)

# %% [markdown]
"""
**What you should see.** Values 0, 0.6931 and 1000; slopes 0, 0.5 and 1.
"""

# %%
check("softplus")

# %% [markdown] tags=["explanation"]
"""
`forward` runs without a tape, so it may use any trick, in place or not. `backward` returns one gradient for each
argument of `forward`. Had we saved `sigmoid(beta * x)` from the forward pass, the first derivative would be right and
a little cheaper, but the second would be silently zero: the saved tensor has no history. If you never need second
derivatives, say so with `once_differentiable`, and autograd raises instead.
"""

# %% [markdown]
"""
### Side quest C · An autograd of your own

The engine under everything you have used today fits on a page. A value remembers which values it was made from, and
the derivative with respect to each of them; `backward` walks the graph from the result to the leaves and multiplies
and adds.

**Task.** Write the class `Value` for single numbers.

- `Value(number)` has the attributes `data` (a float) and `grad` (a float, 0.0 at first).
- `+`, `-`, `*`, `/` work between two values and between a value and a plain number **on either side**. There are also
  `-value`, `value ** number`, `value.exp()` and `value.tanh()`. All return a new `Value`.
- `result.backward()` **adds** to `v.grad` the derivative of `result` with respect to `v`, for every `v` that `result`
  was made from, however many times and ways it was used, and for `result` itself (1). As in PyTorch, a second
  `backward`, from the same result or another, adds again.

A value may be reached on several paths. Pass its gradient on only when **all** of its parts have arrived: go through
the graph in topological order, from the result backwards. (A walk along every single path is hopeless: after forty
times `v = v + v` there are a million million.) Graphs in the check are at most 300 operations deep, so a recursion
that visits each value once is fine. Numbers stay so small that nothing overflows.
"""


# %%
class Value:
    """A number that remembers how it was made."""

    ### BEGIN SOLUTION
    def __init__(self, data: float, made_from: tuple[tuple["Value", float], ...] = ()) -> None:
        self.data = float(data)
        self.grad = 0.0
        # Pairs of a value that this one was made from and the derivative with respect to it.
        self._made_from = made_from

    @staticmethod
    def _of(number: "Value | float") -> "Value":
        return number if isinstance(number, Value) else Value(number)

    def __add__(self, other: "Value | float") -> "Value":
        other = Value._of(other)
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: "Value | float") -> "Value":
        other = Value._of(other)
        return Value(self.data * other.data, ((self, other.data), (other, self.data)))

    def __pow__(self, power: float) -> "Value":
        return Value(self.data**power, ((self, power * self.data ** (power - 1)),))

    def exp(self) -> "Value":
        result = math.exp(self.data)
        return Value(result, ((self, result),))

    def tanh(self) -> "Value":
        result = math.tanh(self.data)
        return Value(result, ((self, 1 - result**2),))

    def __neg__(self) -> "Value":
        return self * -1.0

    def __sub__(self, other: "Value | float") -> "Value":
        return self + -Value._of(other)

    def __truediv__(self, other: "Value | float") -> "Value":
        return self * Value._of(other) ** -1.0

    def __rsub__(self, other: float) -> "Value":
        return -self + other

    def __rtruediv__(self, other: float) -> "Value":
        return other * self**-1.0

    __radd__ = __add__
    __rmul__ = __mul__

    def backward(self) -> None:
        order: dict[Value, None] = {}

        def visit(value: Value) -> None:
            if value not in order:
                for parent, _ in value._made_from:
                    visit(parent)
                order[value] = None

        visit(self)
        # This pass has its own sums: `.grad` may hold what an earlier pass left there.
        arrived = dict.fromkeys(order, 0.0)
        arrived[self] = 1.0
        for value in reversed(order):
            value.grad += arrived[value]
            for parent, derivative in value._made_from:
                arrived[parent] += derivative * arrived[value]

    ### END SOLUTION


# %% tags=["demo"]
a, b = Value(2.0), Value(-3.0)
c = (a * b + 1).tanh() / a + a**2
c.backward()
print(f"c = {c.data:.4f}   dc/da = {a.grad:.4f}   dc/db = {b.grad:.4f}")

# %% [markdown]
"""
**What you should see.** `c = 3.5000`, `dc/da = 4.2497` and `dc/db = 0.0002`. You can ask PyTorch to confirm it with
three lines.
"""

# %%
check("value")

# %% [markdown] tags=["explanation"]
"""
Every operation states its local derivatives where it computes its result, so `backward` need not know a single
formula. The depth-first visit lists each value after everything it was made from; read in reverse, a value comes up
only after all of its users have paid in. Subtraction and division are made of the others and inherit their
derivatives. PyTorch's engine is this, with tensors for floats, one node class per operation, and a ready queue in
place of recursion.
"""

# %% [markdown]
"""
## Recap

You have put numbers in without surprises, reshaped memory without moving it, replaced loops by broadcasting and
einsum, kept exponentials finite, run the chain rule by hand, and trained a model whose every step you can account
for.

**Next** comes Lab 2, where the parameters move into modules, and the update into an optimizer that is more than one
line.
"""
