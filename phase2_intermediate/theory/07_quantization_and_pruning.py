# %% [markdown]
"""
# Quantization and pruning

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two, on any machine.*

A trained network says the same thing with far fewer bits than it was trained with. Its weights lie close together,
its activations are noisy anyway, and many of its connections do next to nothing. **Quantization** stores numbers in 8
bits or 4 instead of 32; **pruning** leaves connections out. Both make files smaller at once. Whether they make
anything *faster* is another question, and most disappointments come from taking the one for the other.
"""

# %%
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.nn import functional as F

from labkit import data
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## A ruler with 256 marks

Affine quantization maps real numbers to integers by a **scale** $s$ and a **zero point** $z$:

$$q = \text{clamp}\big(\text{round}(x / s) + z,\ -128,\ 127\big), \qquad \hat x = s\,(q - z)$$

The scale is the distance between two marks, the zero point the mark that stands for zero. Zero must have a mark of its
own: paddings, ReLUs and masks are full of exact zeros. Two choices are usual:

- **symmetric**, for weights: $z = 0$ and $s = \max|x| / 127$. Products need no correction terms.
- **asymmetric**, for activations, which after a ReLU have one sign only: $s = (\max - \min) / 255$, and $z$ such that
  $\min$ lands on −128. With a symmetric ruler half of the marks would never be used.

Within the range the error is at most $s/2$, outside it is whatever was cut off. Everything else in quantization is
about choosing the range.
"""


# %%
def quantize(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`x` rounded to 256 marks between `low` and `high`, as float again; all broadcast."""
    low, high = low.clamp(max=0), high.clamp(min=0)  # zero has a mark
    scale = (high - low) / 255
    zero = -128 - (low / scale).round()
    return scale * ((x / scale).round().add(zero).clamp(-128, 127) - zero)


activations = torch.randn(10_000).relu()
one_sided = quantize(activations, activations.min(), activations.max())
symmetric = quantize(activations, -activations.max(), activations.max())
for name, rounded in (("asymmetric", one_sided), ("symmetric", symmetric)):
    root = (rounded - activations).square().mean().sqrt()
    print(f"{name:10}: error {root:.5f}, zeros stay zeros: {(rounded[activations == 0] == 0).all()}")

# %% [markdown]
"""
## One scale for how many numbers?

One outlier stretches the ruler for all. A weight matrix whose rows have different sizes is badly served by one scale
for all of them (*per tensor*); a scale for each output row (*per channel*) costs four bytes a row and cures it. For 4
bits even a row is too long: there, each group of 32 or 128 numbers has its own.
"""

# %%
sizes = torch.logspace(-1.5, 0.5, 64)
weight = torch.randn(64, 256) * sizes[:, None]


def error(rounded: Tensor) -> Tensor:
    """Of each row, relative to its size."""
    return (rounded - weight).square().mean(1).sqrt() / sizes


per_tensor = quantize(weight, -weight.abs().amax(), weight.abs().amax())
largest = weight.abs().amax(1, keepdim=True)
per_channel = quantize(weight, -largest, largest)
figure, axes = plt.subplots(figsize=(7.5, 3.4))
axes.loglog(sizes, error(per_tensor), "o", color=COLOURS[1], label="one scale for the matrix")
axes.loglog(sizes, error(per_channel), "s", color=COLOURS[0], label="one scale for each row")
axes.set(xlabel="size of a row's weights", ylabel="relative error of the row", title="int8, rows of different sizes")
axes.legend()
plt.show()

# %% [markdown]
r"""
## What is quantized, and when

| | weights | activations | ranges come from | good for |
| --- | --- | --- | --- | --- |
| **weight-only** | 8 or 4 bits | stay | the weights | generating text: bound by reading weights |
| **dynamic** | 8 bits | 8 bits | each batch, as it comes | Transformers and LSTMs on a CPU |
| **static** | 8 bits | 8 bits | *calibration* with a few hundred real examples | CNNs, chips without floats |
| **aware training** | trained with the rounding in | same | training | when the others lose too much |

An integer layer multiplies int8 by int8 and adds up in **int32**: 64 products of −128 · −128 would overflow 16 bits,
and thousands are usual. One multiplication by $s_x s_w$ at the end brings the sum back.

Static calibration sees a *sample*. Taking its smallest and largest value is simple, and lets one freak example set
the range for ever; quantiles, or the range with the least squared error, are the remedy. What is calibrated on noise
is right for noise.

## Pruning

Take the smallest weights away, and the network hardly notices; up to a half, often more, and after some further
training more still. **Unstructured** pruning puts zeros anywhere. The matrix keeps its shape, and a dense product
takes as long with zeros as without: *smaller only when stored sparsely, faster only with kernels made for it*.
**Structured** pruning removes whole rows, heads or channels, with what hangs on them in the next layer. The matrices
are really smaller, and every machine is faster; the accuracy suffers earlier.
"""

# %%
digits = data.digits()
x, y = digits.images.flatten(1).float() / 16, digits.labels


def network(hidden: int = 256) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def train(net: nn.Sequential, steps: int, masks: list[Tensor] | None = None) -> nn.Sequential:
    """Adam on the first 1,200 digits; weights outside the masks stay zero."""
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x[:1200]), y[:1200]).backward()
        optimizer.step()
        for layer, mask in zip((net[0], net[2]), masks or (), strict=False):
            layer.weight.data.mul_(mask)
    return net


@torch.no_grad()
def accuracy(net: nn.Sequential) -> float:
    """On the 597 digits that it has not seen."""
    return (net(x[1200:]).argmax(1) == y[1200:]).double().mean().item()


@torch.no_grad()
def with_weights(net: nn.Sequential, first: Tensor, second: Tensor, bias: Tensor) -> nn.Sequential:
    """A copy of `net` with other weights, smaller ones perhaps."""
    other = network(len(bias))
    for parameter, value in zip(other.parameters(), (first, bias, second, net[2].bias), strict=True):
        parameter.copy_(value)
    return other


net = train(network(), 150)
first, second, bias = net[0].weight.detach(), net[2].weight.detach(), net[0].bias.detach()
print(f"as trained: {accuracy(net):.1%}, {first.numel() + second.numel():,} weights")
eight = [quantize(w, -w.abs().amax(1, keepdim=True), w.abs().amax(1, keepdim=True)) for w in (first, second)]
print(f"int8 weights, a quarter of the bytes: {accuracy(with_weights(net, *eight, bias)):.1%}")
for share in (0.5, 0.8, 0.95):
    masks = [w.abs() > w.abs().flatten().quantile(share) for w in (first, second)]
    single = with_weights(net, first * masks[0], second * masks[1], bias)
    keep = (first.norm(dim=1) * second.norm(dim=0)).topk(round(256 * (1 - share))).indices
    units = with_weights(net, first[keep], second[:, keep], bias[keep])
    cut = f"single weights {accuracy(single):.1%}, whole hidden units {accuracy(units):.1%}"
    train(single, 50, masks), train(units, 50)
    print(f"without {share:.0%}: {cut}; after 50 more steps {accuracy(single):.1%} and {accuracy(units):.1%}")

# %% [markdown]
"""
Right after the cut both are damaged, at 95 % ruined. As far as 80 % fifty steps of training bring it all back: what
was cut was not *knowledge*, it was one way of writing it down. At 95 % the thirteen units that are left, each with
all of its weights, learn again far better than 256 units with two or three weights each. And a dense network of
thirteen hidden units is fast on every machine.

## Three traps

1. **"Four times smaller" read as "four times faster".** It is so only if the time went into reading weights, or if
   there is an int8 kernel for this machine, and no conversion before and after each layer. Measure latency.
2. **Masks that are not made permanent.** `torch.nn.utils.prune` keeps the old weights *and* a mask: the file grows.
   `prune.remove` makes it final. And an optimizer with momentum moves what was cut: mask again after each step.
3. **Accuracy as the only test.** The mean hides what is lost: rare classes, long inputs, other languages. Compare
   predictions, class by class, and the logits.

## At scale

- **Serving large models** is weight-only 8 or 4 bits nearly everywhere; `torchao` quantizes a model in place by one
  call. Outliers in the activations are the hard part, and methods differ by where they put them.
- **The KV cache is quantized too**: for long contexts it is larger than the weights.
- **Eight-bit floats** have replaced int8 on recent GPUs: a float's marks lie closer near zero, as the weights do.
- **2:4 sparsity**, two of each four weights zero, is the one unstructured pattern that GPUs run at double speed.
- **Distil first.** A smaller network taught by the large one usually beats the large one cut down to the same size.

## References

1. Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*, CVPR,
   2018.
2. Dettmers, Lewis, Belkada and Zettlemoyer, *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale*,
   NeurIPS, 2022.
3. Han, Pool, Tran and Dally, *Learning both Weights and Connections for Efficient Neural Networks*, NeurIPS, 2015.
4. Frankle and Carbin, *The Lottery Ticket Hypothesis*, ICLR, 2019.
5. [*torchao*](https://docs.pytorch.org/ao/stable/), documentation.

## Test yourself

Answer aloud before you unfold.

**1.** Activations lie between 0 and 6. What are scale and zero point of an asymmetric int8 ruler, and what is the
number 3.0 stored as?

<details><summary>Answer</summary>

s = 6/255 = 0.0235, z = −128: zero is the lowest mark. 3.0/s = 127.5, rounded to 128 (to even), minus 128: stored as
0. Read back: 128 · 0.0235 = 3.012.

</details>

**2.** Weight-only int4 makes a chatbot twice as fast at a batch of 1 and no faster at a batch of 256. Why?

<details><summary>Answer</summary>

At a batch of 1 the time goes into reading weights, and there are a quarter as many bytes. At 256 each weight that is
read is used 256 times, arithmetic is the bound, and it is done in 16 bits as before, after unpacking.

</details>

**3.** After pruning 90 % of the weights a checkpoint is larger than before. How?

<details><summary>Answer</summary>

The mask is stored beside the original weights, and zeros take as many bytes as other numbers. Make it permanent and
store it sparsely, or cut whole units out.

</details>

Ready? Mark the brief as read. Lab 6 builds the ruler, calibrates it, prunes, and weighs everything in one table.
"""

# %%
from grading import mark_as_read

mark_as_read("phase2/theory7")
