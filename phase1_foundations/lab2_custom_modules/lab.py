# %% [markdown]
"""
# Lab 2: Custom neural network modules

Every layer you will ever use was written by somebody who had to decide four things: what is learned, what is
remembered, what changes between training and evaluation, and how it starts. In this lab you make these decisions for
the layers that everything else is built of, and compare each with PyTorch's own. At the end you know why a network of
thirty layers dies at birth when one number is wrong by a factor of two.

**You will be able to**

- write layers whose parameters and buffers are registered, saved, moved and trained as they should be;
- say what batch norm, layer norm and dropout do in each mode, to the last convention;
- build blocks and containers from layers, and count, freeze and observe what is in them;
- choose an initialisation and measure that it keeps the signal alive;
- write the recurrent cells, gates and all.

**Time** two hours for the eight exercises (20 points). Two side quests at the end earn XP only.

**You need to know** Lab 1 and the theory brief *nn.Module and custom layers* (15 minutes).
"""

# %% [markdown]
"""
## Set-up

`check("linear")` tests an exercise, `hint("linear")` gives one of three hints. The check sets parameters by their
**names**, so keep the names that the text fixes; what else a module holds is up to you.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab2")

# %%
import math
from collections.abc import Callable, Iterable, Iterator

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from labkit.data import digits
from labkit.measure import compare
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## 1 · A linear layer

The work-horse. It has two parameters, and its constructor has to give them a start: all zeros would make every output
the same for ever, and numbers that are too large blow the signal up.

**Task.** Write the module `Linear(d_in, d_out, bias=True)` that computes

$$y = x W^\top + b$$

- `weight` is a parameter of shape `(d_out, d_in)`, `bias` one of shape `(d_out,)`; with `bias=False` the attribute is
  there and is `None`.
- Both start uniformly distributed between $-1/\sqrt{d_{in}}$ and $1/\sqrt{d_{in}}$, as in PyTorch.
- `x` has the shape `(..., d_in)` with any number of leading axes, and the result `(..., d_out)`.
- Do without `nn.Linear` and `F.linear`.
"""


# %%
class Linear(nn.Module):
    """`x @ weight.T + bias`; `(..., d_in)` in, `(..., d_out)` out."""

    def __init__(self, d_in: int, d_out: int, bias: bool = True) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        limit = 1 / math.sqrt(d_in)
        self.weight = nn.Parameter(torch.empty(d_out, d_in).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.empty(d_out).uniform_(-limit, limit)) if bias else None
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        product = x @ self.weight.T
        return product if self.bias is None else product + self.bias
        ### END SOLUTION


# %% tags=["demo"]
layer = Linear(3, 2)
print(layer.state_dict())
print(layer(torch.ones(4, 5, 3)).shape)

# %% [markdown]
"""
**What you should see.** A `state_dict` with `weight` and `bias`, all numbers between −0.58 and 0.58, and the shape
`(4, 5, 2)`.
"""

# %%
check("linear")

# %% [markdown] tags=["explanation"]
"""
`uniform_` fills a plain tensor *before* it becomes a parameter, so no `no_grad` is needed. Assigning `None` to `bias`
keeps the attribute and registers nothing: code may test `self.bias is None`, and the `state_dict` has no entry. PyTorch
writes `register_parameter("bias", None)` for the same effect.
"""

# %% [markdown]
r"""
## 2 · Layer norm

Deep networks train when each layer can rely on the size of its input. Layer norm measures that size for every example,
and divides it out:

$$y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot w + b, \qquad
\mu = \frac1d \sum_i x_i, \qquad \sigma^2 = \frac1d \sum_i (x_i - \mu)^2$$

Note the conventions: mean and variance over the **last axis** only, the variance is **biased** (divided by $d$, not
$d - 1$), and $\epsilon$ stands **inside** the root.

**Task.** Write `LayerNorm(d, eps=1e-5)` with the parameters `weight`, ones at first, and `bias`, zeros, both `(d,)`.
`x` has any number of leading axes. Mean and variance are part of the function: gradients flow through them. Do without
PyTorch's own `layer_norm`.
"""


# %%
class LayerNorm(nn.Module):
    """Normalises each position over its features; `(..., d)` in and out."""

    def __init__(self, d: int, eps: float = 1e-5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d))
        self.eps = eps
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred / (variance + self.eps).sqrt() * self.weight + self.bias
        ### END SOLUTION


# %% tags=["demo"]
x = torch.tensor([[1.0, 2.0, 3.0], [100.0, 200.0, 300.0]])
print(LayerNorm(3)(x))

# %% [markdown]
"""
**What you should see.** Twice the same row, `[-1.2247, 0, 1.2247]`: layer norm does not care how large its input was.
"""

# %%
check("layer_norm")

# %% [markdown] tags=["explanation"]
"""
The variance is computed from the centred values, which is both shorter and safer than the difference of two large
means. `x.var(-1, correction=0)` does the same. Had we detached mean and variance, values would be right and gradients
wrong: shifting all features of an example must change nothing, and only the gradient through the mean knows it.
"""

# %% [markdown]
r"""
## 3 · Batch norm: a layer with a memory

Batch norm normalises each feature over the **batch**. In production there may be no batch, so during training it keeps
running averages of what it has seen, and uses these in evaluation. This is where most mistakes are made, because two
different variances are in play:

- **In training mode** normalise with the batch's own mean and **biased** variance (divided by $n$). Gradients flow
  through both. Then update the running averages, with momentum $m$ and off the tape:

$$\text{running} \leftarrow (1 - m) \cdot \text{running} + m \cdot \text{statistic of the batch}$$

  where the variance that goes into the average is the **unbiased** one (divided by $n - 1$).
- **In evaluation mode** normalise with the running averages, and change nothing.

**Task.** Write `BatchNorm(d, eps=1e-5, momentum=0.1)` for `x` of shape `(batch, d)`, with at least two rows in
training mode. Parameters `weight` (ones) and `bias` (zeros), buffers `running_mean` (zeros) and `running_var` (ones),
all `(d,)`, and $\epsilon$ inside the root as before. Do without PyTorch's own `batch_norm`.
"""


# %%
class BatchNorm(nn.Module):
    """Normalises each feature over the batch, or by running averages in evaluation mode; `(batch, d)` in and out."""

    def __init__(self, d: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d))
        self.register_buffer("running_mean", torch.zeros(d))
        self.register_buffer("running_var", torch.ones(d))
        self.eps, self.momentum = eps, momentum
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias
        ### END SOLUTION


# %% tags=["demo"]
norm = BatchNorm(2)
for _ in range(50):
    norm(torch.randn(64, 2) * torch.tensor([5.0, 0.1]) + torch.tensor([3.0, -1.0]))
print("running mean", norm.running_mean, " running variance", norm.running_var)
print("one row, evaluated:", norm.eval()(torch.tensor([[3.0, -1.0]])).detach())

# %% [markdown]
"""
**What you should see.** Means near 3 and −1, variances near 25 and 0.01. (The second starts at 1 and decays; after 50
steps half a per cent of the start is left, so it reads about 0.015.) The row that lies at the means comes out near 0.
"""

# %%
check("batch_norm")

# %% [markdown] tags=["explanation"]
"""
`lerp_` is the running average, in place, so that whoever holds the buffer sees it. The `no_grad` matters: without it
the buffer would join the graph, and each step would hang the whole past on the next. Why two variances? The output
should have variance 1 on *this* batch, which the biased one gives exactly; the average is an *estimate* of the data's
variance, and the unbiased one does not underestimate it.
"""

# %% [markdown]
r"""
## 4 · Dropout

Dropout sets each number to zero with probability $p$, another choice at every call. So that the next layer meets the
same sums on average, what is kept is divided by $1 - p$; then evaluation mode has nothing to do at all.

**Task.** Write `Dropout(p)`. In training mode each element of `x` is dropped independently with probability `p`, the
others are divided by `1 - p`. In evaluation mode the input is returned as it is. `p = 0` drops nothing and `p = 1`
everything (zeros, no NaN). Raise `ValueError` for a `p` outside 0 to 1. Gradients are zero where something was dropped
and `1 / (1 - p)` elsewhere. Take randomness from torch. Do without PyTorch's own `dropout` and its relatives.
"""


# %%
class Dropout(nn.Module):
    """Drops elements at random in training mode; any shape in and out. Raises `ValueError` unless `0 <= p <= 1`."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if not 0 <= p <= 1:
            raise ValueError(f"a probability lies between 0 and 1, not {p}")
        self.p = p
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        if not self.training or self.p == 0:
            return x
        if self.p == 1:
            return x * 0
        kept = torch.rand_like(x) >= self.p
        return x * kept / (1 - self.p)
        ### END SOLUTION


# %% tags=["demo"]
dropout = Dropout(0.25)
print(dropout(torch.ones(2, 8)))
print("mean over many:", dropout(torch.ones(100_000)).mean().item())
print(dropout.eval()(torch.ones(4)))

# %% [markdown]
"""
**What you should see.** Zeros and 1.3333, about one in four a zero; a mean near 1; and ones in evaluation mode.
"""

# %%
check("dropout")

# %% [markdown] tags=["explanation"]
"""
The mask is a comparison, so no gradient asks for it. Multiplying by it makes the derivative what the text says without
another line. `rand_like` draws on the device of `x`.
"""

# %% [markdown]
r"""
## 5 · A residual block

Now put layers together. A *pre-norm* residual block, as in today's Transformers, adds a small network's answer to its
input. The path of the input is untouched, so a gradient passes through a hundred blocks as easily as through one.

$$y = x + \text{dropout}\big(\text{second}(\operatorname{relu}(\text{first}(\text{norm}(x))))\big)$$

**Task.** Write `ResidualBlock(d, d_hidden, p=0.0)` with the submodules `norm` (a layer norm over `d`), `first` (linear,
`d` to `d_hidden`), `second` (linear, `d_hidden` to `d`) and `dropout`. Use your own layers or PyTorch's, as you like.
At the start the block is the **identity**: initialise the weight and the bias of `second` with zeros, so that a deep
stack begins as a shallow one. The input is not changed in place.
"""


# %%
class ResidualBlock(nn.Module):
    """`x + dropout(second(relu(first(norm(x)))))`; `(..., d)` in and out; the identity at the start."""

    def __init__(self, d: int, d_hidden: int, p: float = 0.0) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.norm = nn.LayerNorm(d)
        self.first = nn.Linear(d, d_hidden)
        self.second = nn.Linear(d_hidden, d)
        self.dropout = nn.Dropout(p)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        return x + self.dropout(self.second(torch.relu(self.first(self.norm(x)))))
        ### END SOLUTION


# %% tags=["demo"]
block = ResidualBlock(4, 16)
x = torch.randn(2, 4)
print("the identity at first:", torch.equal(block(x), x))
block(x).sum().backward()
print({name: tuple(p.grad.shape) for name, p in block.named_parameters()})
for name in ("second", "first"):
    print(name, "sum of |gradient|:", getattr(block, name).weight.grad.abs().sum().item())

# %% [markdown]
"""
**What you should see.** `True`, a gradient for every parameter, and one of exactly 0 for `first`: as long as `second`
is zero, `first` does not matter. After one step it does.
"""

# %%
check("residual_block")

# %% [markdown] tags=["explanation"]
"""
`nn.init.zeros_` knows about `no_grad`. Zeroing only *one* layer of the branch matters: were `first` zero as well, no
gradient would reach either of them, and the block would stay the identity for ever.
"""

# %% [markdown]
"""
## 6 · A container

`nn.Sequential` and `nn.ModuleList` exist because a Python list hides its modules. Write one container yourself, and it
loses its mystery.

**Task.** Write `Stack(*modules)`, without `nn.Sequential` and `nn.ModuleList`:

- it registers the modules under the names `"0"`, `"1"`, …, so that `parameters()`, `state_dict()`, `.to()` and
  `.train()` find them;
- `stack(x)` applies them in order; an empty stack returns `x`;
- `len(stack)`, `stack[i]` (negative `i` too; `IndexError` where there is none), and iteration in order;
- `append(module)` registers one more at the end, and returns the stack.
"""


# %%
class Stack(nn.Module):
    """Modules in a row."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        for module in modules:
            self.append(module)
        ### END SOLUTION

    def append(self, module: nn.Module) -> "Stack":
        ### BEGIN SOLUTION
        self.add_module(str(len(self)), module)
        return self
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return len(self._modules)
        ### END SOLUTION

    def __getitem__(self, i: int) -> nn.Module:
        ### BEGIN SOLUTION
        return list(self._modules.values())[i]
        ### END SOLUTION

    def __iter__(self) -> Iterator[nn.Module]:
        ### BEGIN SOLUTION
        return iter(self._modules.values())
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        for module in self:
            x = module(x)
        return x
        ### END SOLUTION


# %% tags=["demo"]
stack = Stack(nn.Linear(4, 8), nn.ReLU()).append(nn.Linear(8, 2))
print(stack)
print(list(stack.state_dict()), len(stack), stack[-1])

# %% [markdown]
"""
**What you should see.** The tree, printed as for any module; the names `0.weight` to `2.bias`; 3; and the last layer.
"""

# %%
check("stack")

# %% [markdown] tags=["explanation"]
"""
`add_module` is what assignment does behind the scenes, for names that are no identifiers. Everything else the container
can do, from `state_dict` to printing, it inherits: the registry is the whole trick.
"""

# %% [markdown]
r"""
## 7 · The payoff: thirty layers, alive or dead

A ReLU network of thirty layers, real digits going in. A layer with weights of variance $g^2 / \text{fan\_in}$
multiplies the mean square of the signal by about $g^2 / 2$: the sum of `fan_in` products gives $g^2$, and ReLU throws
half away. Thirty such factors are compound interest.

**Task.** Write two functions.

1. `initialise(weight, gain)` fills `weight`, `(d_out, d_in)`, **in place** with normally distributed numbers of mean 0
   and standard deviation `gain / sqrt(d_in)`, and returns nothing. `weight` may be a leaf that requires grad; it stays
   one. Do without `nn.init`.
2. `signal_sizes(x, weights)` sends `x`, `(batch, d)`, through $h \leftarrow \operatorname{relu}(h W^\top)$ for each
   `W` in turn, and returns the **root mean square** of `h` over all its elements after each layer, `(len(weights),)`,
   off the tape.
"""


# %%
def initialise(weight: Tensor, gain: float) -> None:
    """Fill `weight` `(d_out, d_in)` in place with N(0, gain² / d_in)."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        weight.normal_(0, gain / math.sqrt(weight.shape[1]))
    ### END SOLUTION


def signal_sizes(x: Tensor, weights: Iterable[Tensor]) -> Tensor:
    """The root mean square of the signal after each layer of a ReLU network without biases."""
    ### BEGIN SOLUTION
    sizes = []
    with torch.no_grad():
        for weight in weights:
            x = torch.relu(x @ weight.T)
            sizes.append(x.square().mean().sqrt())
    return torch.stack(sizes)
    ### END SOLUTION


# %% tags=["demo"]
data = digits()
pixels = data.images.flatten(1).float()
pixels = (pixels - pixels.mean()) / pixels.std()

figure, axes = plt.subplots(figsize=(7, 3.6))
for gain, colour in zip((1.0, math.sqrt(2), 2.0), COLOURS, strict=False):
    weights = [torch.empty(512, 64 if i == 0 else 512) for i in range(30)]
    for weight in weights:
        initialise(weight, gain)
    sizes = signal_sizes(pixels, weights)
    axes.semilogy(range(1, 31), sizes, linestyle="-", color=colour, label=f"gain {gain:.2f}")
    print(f"gain {gain:.2f}: root mean square {sizes[0]:.2f} after one layer, {sizes[-1]:.2g} after thirty")
axes.set(xlabel="layer", ylabel="root mean square", title="Digits through thirty ReLU layers, at the start")
axes.legend()
plt.show()

# %% [markdown]
r"""
**What you should see.** Three lines on a logarithmic axis. With gain 1 the signal falls by $\sqrt{1/2}$ a layer, to
some 10⁻⁵ at the end; with 2 it grows by $\sqrt2$, to some 10⁴; with $\sqrt2$, He's choice, it stays. Gradients on the
way back meet the same factors.
"""

# %%
check("initialise")

# %% [markdown] tags=["explanation"]
"""
`normal_` under `no_grad` writes into the leaf's own memory. `fan_in` is the *second* axis, because weights are stored
as `(out, in)`; with the first axis the result would be right for square layers only, and the first layer here, 64 to
512, would be off by a factor of almost three.
"""

# %% [markdown]
r"""
## 8 · Recurrent cells

A recurrent network is one cell, applied step by step. The plain one is a linear layer of input and state, and a tanh.
The LSTM carries a second state, the cell $c$, along a path of additions, with gates that decide what is forgotten, what
is written, and what is shown.

$$h' = \tanh(W_{ih} x + b_{ih} + W_{hh} h + b_{hh})$$

$$\begin{aligned}
(i, f, g, o) &= W_{ih} x + b_{ih} + W_{hh} h + b_{hh} \quad\text{(four blocks of size } d_{hidden}\text{, in this
order)}\\ c' &= \sigma(f) \odot c + \sigma(i) \odot \tanh(g)\\ h' &= \sigma(o) \odot \tanh(c') \end{aligned}$$

**Task.** Write `RNNCell(d_in, d_hidden)`, whose `forward(x, h)` returns `h'`, and `LSTMCell(d_in, d_hidden)`, whose
`forward(x, (h, c))` returns `(h', c')`. Parameters as in `nn.RNNCell` and `nn.LSTMCell`: `weight_ih` `(k, d_in)`,
`weight_hh` `(k, d_hidden)`, `bias_ih` and `bias_hh` `(k,)`, with `k = d_hidden`, or `4 * d_hidden` for the LSTM, all
uniform between $\pm 1/\sqrt{d_{hidden}}$. With the same parameters the results are the same. Do without PyTorch's own
cells and recurrent layers.
"""


# %%
class RNNCell(nn.Module):
    """One step of a plain recurrent network; x `(batch, d_in)`, h `(batch, d_hidden)`."""

    ### BEGIN SOLUTION
    GATES = 1

    def __init__(self, d_in: int, d_hidden: int) -> None:
        super().__init__()
        rows, limit = self.GATES * d_hidden, 1 / math.sqrt(d_hidden)
        self.weight_ih = nn.Parameter(torch.empty(rows, d_in).uniform_(-limit, limit))
        self.weight_hh = nn.Parameter(torch.empty(rows, d_hidden).uniform_(-limit, limit))
        self.bias_ih = nn.Parameter(torch.empty(rows).uniform_(-limit, limit))
        self.bias_hh = nn.Parameter(torch.empty(rows).uniform_(-limit, limit))

    def sums(self, x: Tensor, h: Tensor) -> Tensor:
        return x @ self.weight_ih.T + self.bias_ih + h @ self.weight_hh.T + self.bias_hh

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.sums(x, h))

    ### END SOLUTION


class LSTMCell(RNNCell):
    """One step of an LSTM; x `(batch, d_in)`, state `(h, c)`, each `(batch, d_hidden)`."""

    ### BEGIN SOLUTION
    GATES = 4

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, g, o = self.sums(x, h).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    ### END SOLUTION


# %% tags=["demo"]
cell, theirs = LSTMCell(3, 5), nn.LSTMCell(3, 5)
theirs.load_state_dict(cell.state_dict())
x, state = torch.randn(2, 3), (torch.zeros(2, 5), torch.zeros(2, 5))
for _ in range(4):
    state = cell(x, state)
other = None
for _ in range(4):
    other = theirs(x, other)
print("largest difference after four steps:", (state[0] - other[0]).abs().max().item())

# %% [markdown]
"""
**What you should see.** Less than a millionth.
"""

# %%
check("rnn_cell")

# %% [markdown] tags=["explanation"]
"""
All four gates come from one matrix product, which is how it is fast; `chunk` then cuts the result. Two biases where one
would do are a convention of cuDNN's. Look at `c`: it is multiplied by a number below one and added to, and never passed
through a matrix. That is the path along which gradients survive.
"""

# %% [markdown]
"""
## A measured comparison

Your layers beside PyTorch's own, forward and backward. We give a ratio of times only where it is 3 or more.
"""


# %% tags=["demo"]
def step(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """One pass there and back."""
    return lambda: module(x).sum().backward()


x = torch.randn(256, 512)
for name, yours, theirs in (
    ("linear    ", Linear(512, 512), nn.Linear(512, 512)),
    ("layer norm", LayerNorm(512), nn.LayerNorm(512)),
    ("batch norm", BatchNorm(512), nn.BatchNorm1d(512)),
    ("dropout   ", Dropout(0.5), nn.Dropout(0.5)),
):
    rows = x.clone().requires_grad_()
    print(name, compare(step(yours, rows), step(theirs, rows)))

# %% [markdown]
"""
The linear layers agree: both are one matrix product each way. The norms do not. Yours write every intermediate to
memory, the centred values, their squares, the quotient, and keep most of them for the way back; PyTorch's are one
kernel there and one back, and keep the input, two numbers for each row, and nothing else. This is *fusion*, and it is
what `torch.compile` would do to yours. Dropout is a matter of drawing random numbers, and two ways of drawing them
may differ by a lot.
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

- **RMS norm** has replaced layer norm in most large language models: no mean, no bias, one pass less over memory, and
  nothing lost that anybody could measure.
- **Batch norm couples machines.** With a batch split over 64 GPUs, each sees its own few rows. Synchronised batch norm
  averages the statistics across them at every layer, which costs a message per layer; it is one reason why large models
  prefer norms that need no batch.
- **Dropout is rare in pre-training.** A model that sees each token once cannot learn it by heart. It comes back in
  fine-tuning, on small data.
- **Zero-initialised branches** (ReZero, "identity at the start") let networks of thousands of layers train, and are how
  adapters are attached to a finished model without disturbing it.
- **Initialisation at width.** With models of growing width, also the learning rate must follow the width. *Maximal
  update parametrisation* derives how, so that settings found on a small model carry over to a large one.
"""

# %% [markdown]
"""
## Side quests

### Side quest A · Count and freeze

Fine-tuning begins with two questions: how many numbers are there, and which of them shall move?

**Task.** Write `count_parameters(module)`, which returns `(trainable, total)`: elements of parameters that require
grad, and of all. A parameter that is used in two places counts once; buffers do not count. And `freeze(module,
*prefixes)`: it makes every parameter whose name in `named_parameters()` begins with one of the prefixes **and a
dot**, or *is* the prefix, stop requiring grad (all parameters, if no prefix is given), and sets its `.grad` to
`None`. It changes no other parameter, and raises `ValueError` for a prefix that fits no name, before anything is
frozen.
"""


# %%
def count_parameters(module: nn.Module) -> tuple[int, int]:
    """`(trainable, total)` numbers in the parameters of `module`."""
    ### BEGIN SOLUTION
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
    ### END SOLUTION


def freeze(module: nn.Module, *prefixes: str) -> None:
    """Let the named parts of `module` stop learning. Raises `ValueError` for a prefix that fits no parameter."""
    ### BEGIN SOLUTION
    named = dict(module.named_parameters())

    def fitting(prefix: str) -> list[str]:
        return [name for name in named if name == prefix or name.startswith(f"{prefix}.")]

    for prefix in prefixes:
        if not fitting(prefix):
            raise ValueError(f"no parameter's name begins with {prefix!r}")
    for name in [name for prefix in prefixes for name in fitting(prefix)] if prefixes else named:
        named[name].requires_grad_(False)
        named[name].grad = None
    ### END SOLUTION


# %% tags=["demo"]
model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
freeze(model, "0")
print(count_parameters(model))

# %% [markdown]
"""
**What you should see.** `(105, 325)`.
"""

# %%
check("count_parameters")

# %% [markdown] tags=["explanation"]
"""
`parameters()` already leaves out repetitions. The dot keeps `"layer1"` from freezing `"layer10"` too. Setting `.grad`
to `None` matters: an optimizer that still holds the parameter would otherwise go on applying its last gradient, with
momentum for ever.
"""

# %% [markdown]
"""
### Side quest B · Listen with hooks

To see what happens inside a network you need not change it: a *forward hook* is called with a module's output each time
it has run.

**Task.** Write `activation_statistics(model, x)`. It runs `model(x)` once, without recording gradients, and returns a
dict: for each **leaf module** (one without children) that ran, its name as in `named_modules()`, with a tuple of
floats `(mean, standard deviation, share of zeros)` over all elements of its output, the deviation biased. In the
order in which the modules ran. Afterwards all your hooks are removed, **also if the model raises**. The model
runs in the mode that it is in, training or evaluation, and stays in it.
"""


# %%
def activation_statistics(model: nn.Module, x: Tensor) -> dict[str, tuple[float, float, float]]:
    """Mean, standard deviation and share of zeros of each leaf module's output."""
    ### BEGIN SOLUTION
    statistics = {}

    def listen(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            statistics[name] = (
                output.mean().item(),
                output.std(correction=0).item(),
                (output == 0).float().mean().item(),
            )

        return module.register_forward_hook(note)

    handles = [listen(name, module) for name, module in model.named_modules() if not list(module.children())]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return statistics
    ### END SOLUTION


# %% tags=["demo"]
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
for name, (mean, deviation, zeros) in activation_statistics(model, torch.randn(100, 64)).items():
    print(f"{name}: mean {mean:+.2f}, deviation {deviation:.2f}, {zeros:.0%} zeros")

# %% [markdown]
"""
**What you should see.** Three lines; after the ReLU about half are zeros.
"""

# %%
check("activation_statistics")

# %% [markdown] tags=["explanation"]
"""
`listen` is a function of its own so that each hook remembers its own name: a closure made in the loop would see the
last one. `finally` is not optional: a hook that stays behind keeps firing, slows the model, and holds on to whatever
it captured.
"""

# %% [markdown]
"""
## Recap

You have written the layers that networks are made of, with every convention that decides whether a checkpoint means the
same tomorrow; put them into blocks and containers; and seen that a start can be measured before a single step is taken.

**Next** comes Lab 3: the loop that moves all these parameters, and can stop and go on without forgetting.
"""
