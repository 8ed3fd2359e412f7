# %% [markdown]
"""
# Lab 1: Self-attention mechanism

Attention is four lines of code, and nearly everybody gets one of them wrong the first time: a mask that leaks, a
scale that is missing, heads that are cut along the wrong axis. None of these raises an error. The model trains, a
little worse than it should, and nobody knows why. In this lab you write the mechanism and everything around it,
masks, heads, positions, tiles and a cache, and check each against PyTorch's own. At the end you train a small model
on real text and look at what its heads have learned to look at.

**You will be able to**

- compute attention with any mask, also where there is nothing to attend to;
- cut it into heads, and use it within one sequence and between two;
- tell a model where its words stand, by waves or by rotation;
- compute it tile by tile, without ever holding the matrix of scores;
- write with a cache, and read what a trained head does.

**Time** two hours for the eight exercises (20 points). Two side quests at the end earn XP only.

**You need to know** the theory briefs *Transformers from scratch* and *Attention at work* (15 minutes each).
"""

# %% [markdown]
"""
## Set-up

`check("scaled_scores")` tests an exercise, `hint("scaled_scores")` gives one of three hints. Masks are boolean, and
True means *may attend*. Batches come first.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase2/lab1")

# %%
import math
import time
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.data import movie_sentences
from labkit.measure import peak_bytes
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
torch.set_num_threads(1)
use_theme()

# %% [markdown]
r"""
## 1 · Scores

Everything begins with one question: how well does a key fit a query? The answer is a product. A product of two random
vectors of $d$ features has a variance of $d$, and so scores grow with the width of a head. That matters because a
softmax follows: over large scores it is all but one-hot, and its gradient is all but zero.

**Task.**

- `scaled_scores(q, k)`: for `q` of shape `(..., L, d)` and `k` `(..., S, d)` the scores $q k^\top / \sqrt d$, `(...,
  L, S)`.
- `sureness(scores)`: the softmax over the **keys** gives each query its weights; take each query's largest, and
  return their mean over all queries, a scalar.
"""


# %%
def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    """`(..., L, d)` and `(..., S, d)` → `(..., L, S)`."""
    ### BEGIN SOLUTION
    return q @ k.mT / math.sqrt(q.shape[-1])
    ### END SOLUTION


def sureness(scores: Tensor) -> Tensor:
    """The mean over all queries of the largest attention weight; `(..., L, S)` in, a scalar out."""
    ### BEGIN SOLUTION
    return scores.softmax(-1).amax(-1).mean()
    ### END SOLUTION


# %% tags=["demo"]
widths = [2**i for i in range(1, 11)]
pairs = [torch.randn(2, 200, d).unbind(0) for d in widths]
scaled = [scaled_scores(q, k) for q, k in pairs]
raw = [s * math.sqrt(d) for s, d in zip(scaled, widths, strict=True)]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
for name, scores, colour, style in (("raw", raw, COLOURS[1], "--"), ("scaled", scaled, COLOURS[0], "-")):
    left.loglog(widths, [s.std() for s in scores], color=colour, linestyle=style, label=name)
    right.semilogx(widths, [sureness(s) for s in scores], color=colour, linestyle=style)
left.set(xlabel="width of a head", ylabel="standard deviation", title="Scores")
right.set(xlabel="width of a head", ylabel="largest of 200 weights", ylim=(0, 1), title="How sure the softmax is")
left.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** Raw scores spread like the root of the width; at a width of 64 nearly three quarters of the
weight go to one key of 200, before anything was learned. Scaled, both are the same at every width.
"""

# %%
check("scaled_scores")

# %% [markdown] tags=["explanation"]
"""
`k.mT` turns the last two axes and leaves all others alone, so the same line serves a matrix, a batch, and a batch of
heads. The scale belongs to the width of *one head*, which is what the product runs over; with heads, d is not the
width of the model.
"""

# %% [markdown]
r"""
## 2 · A softmax that leaves some out

Some keys must get no weight: padding, or the future. A mask says which. It has to act **before** the softmax, so that
the weights that are left sum to one. And one case needs care: a query that may attend to *nothing*. Minus infinity
everywhere is 0/0, a row of NaN, and one such row in a batch makes every gradient of the model NaN.

**Task.** `masked_softmax(scores, mask)` returns weights of the shape of `scores`, `(..., L, S)`. `mask` is boolean,
broadcasts to that shape, and is True where a query may attend to a key.

- Over the keys it may attend to, each query's weights are the softmax of their scores; all others are exactly 0. What
  is masked plays no part, however large its score.
- A query that may attend to nothing gets zeros.
- Gradients are finite everywhere, and zero for masked scores. The input stays as it is.
"""


# %%
def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the keys that `mask` allows; zeros where it allows none. `(..., L, S)` in and out."""
    ### BEGIN SOLUTION
    any_key = mask.any(-1, keepdim=True)
    # Rows without a key would be all −inf: let them be finite, and set them to zero afterwards.
    filled = scores.masked_fill(~mask & any_key, -torch.inf)
    return filled.softmax(-1) * any_key
    ### END SOLUTION


# %% tags=["demo"]
scores = torch.zeros(3, 4, requires_grad=True)
weights = masked_softmax(scores, torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool))
print(weights.detach())
print(torch.autograd.grad(weights.square().sum(), scores)[0].isfinite().all())

# %% [markdown]
"""
**What you should see.** Rows of a quarter each, of halves and zeros, and of zeros; then `True`.
"""

# %%
check("masked_softmax")

# %% [markdown] tags=["explanation"]
"""
Avoid the NaN *before* the softmax. Replacing it afterwards, by `nan_to_num`, mends the values; whether it mends the
gradients depends on how minus infinity got there: `masked_fill` lets nothing back through where it has filled, an
addition passes the NaN on. Leaving the empty rows unmasked costs a softmax that nobody reads; the product with
`any_key` sets them to zero, and their gradients too.
"""

# %% [markdown]
r"""
## 3 · Attention

Now the whole: scores, mask, softmax, and the average of the values. Two masks are needed all the time, and often
together.

**Task.**

- `attention(q, k, v, mask=None)` returns the pair of the output `(..., L, d_v)` and the weights `(..., L, S)`;
  without a mask every query may attend to every key.
- `build_mask(lengths, longest, causal=False)`: for a batch of sequences of `lengths` `(batch,)`, padded on the right
  to `longest`, the boolean mask `(batch, 1, longest, longest)` for self-attention: position *i* may attend to
  position *j* if *j* is no padding and, with `causal`, not after *i*. The rows of padded positions are no different
  from others. It is on the device of `lengths`.
"""


# %%
def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Outputs `(..., L, d_v)` and weights `(..., L, S)`; `mask` broadcasts to the weights, True = may attend."""
    ### BEGIN SOLUTION
    scores = scaled_scores(q, k)
    weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask)
    return weights @ v, weights
    ### END SOLUTION


def build_mask(lengths: Tensor, longest: int, causal: bool = False) -> Tensor:
    """`(batch, 1, longest, longest)`, True where position i (third axis) may attend to position j (fourth)."""
    ### BEGIN SOLUTION
    places = torch.arange(longest, device=lengths.device)
    no_padding = (places < lengths[:, None])[:, None, None]
    order = places <= places[:, None] if causal else torch.ones_like(places, dtype=torch.bool)
    return no_padding & order.expand(longest, longest)
    ### END SOLUTION


# %% tags=["demo"]
print(build_mask(torch.tensor([3, 1]), 3, causal=True)[:, 0].int())
q, k, v = torch.randn(3, 2, 4, 5, 8).unbind(0)
mask = build_mask(torch.tensor([5, 2]), 5, causal=True)
theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
print("largest difference to PyTorch's:", (attention(q, k, v, mask)[0] - theirs).abs().max().item())

# %% [markdown]
"""
**What you should see.** A lower triangle, and one column of ones; a difference of some 10⁻⁷.
"""

# %%
check("attention")

# %% [markdown] tags=["explanation"]
"""
The mask is about *keys*: its last axis says which may be seen. A padded query computes something, which nobody reads;
masking it too would only make empty rows. The axis of length one is for the heads to come. Weights are returned for
looking at: fused kernels never have them, and cannot give them to you.
"""

# %% [markdown]
r"""
## 4 · Many heads, one or two sequences

One softmax makes one average. Heads make several: the features are cut into `n_heads` parts, each attends by itself,
and a last projection mixes what they have found. The queries may come from another sequence than keys and values:
then it is **cross-attention**, and nothing else changes.

**Task.** Write `MultiHeadAttention(d_model, n_heads)`.

- Four linear layers with bias, `q`, `k`, `v` and `out`, all from `d_model` to `d_model`. Raise `ValueError` if the
  heads do not divide `d_model`.
- `split(x)`: `(batch, T, d_model)` → `(batch, heads, T, d_head)`; head *h* has the features from $h \cdot d_{head}$
  on. `merge` is its inverse.
- `forward(x, memory=None, mask=None)`: queries from `x` `(batch, L, d_model)`, keys and values from `memory` `(batch,
  S, d_model)`, or from `x` without one. `mask` broadcasts to `(batch, heads, L, S)`. Returns `(batch, L, d_model)`.
"""


# %%
class MultiHeadAttention(nn.Module):
    """Attention of `x` to `memory`, or to itself, by several heads."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if d_model % n_heads:
            raise ValueError(f"{n_heads} heads do not divide a width of {d_model}")
        self.n_heads = n_heads
        self.q, self.k, self.v, self.out = (nn.Linear(d_model, d_model) for _ in range(4))
        ### END SOLUTION

    def split(self, x: Tensor) -> Tensor:
        """`(batch, T, d_model)` → `(batch, heads, T, d_head)`."""
        ### BEGIN SOLUTION
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        ### END SOLUTION

    def merge(self, x: Tensor) -> Tensor:
        """`(batch, heads, T, d_head)` → `(batch, T, d_model)`."""
        ### BEGIN SOLUTION
        return x.transpose(1, 2).flatten(-2)
        ### END SOLUTION

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        ### BEGIN SOLUTION
        memory = x if memory is None else memory
        mixed, _ = attention(self.split(self.q(x)), self.split(self.k(memory)), self.split(self.v(memory)), mask)
        return self.out(self.merge(mixed))
        ### END SOLUTION


# %% tags=["demo"]
layer = MultiHeadAttention(32, 4)
x, source = torch.randn(2, 5, 32), torch.randn(2, 7, 32)
print("self:", tuple(layer(x).shape), "cross:", tuple(layer(x, source).shape))
print(f"{sum(p.numel() for p in layer.parameters()):,} parameters, for any number of heads")

# %% [markdown]
"""
**What you should see.** Twice the shape `(2, 5, 32)`, and 4,224 parameters.
"""

# %%
check("multi_head_attention")

# %% [markdown] tags=["explanation"]
"""
`unflatten` cuts the features, `transpose` brings the heads beside the batch. A `view` to `(batch, heads, T, d_head)`
has the right shape and the wrong contents: it deals out time steps instead of features. PyTorch's own keeps q, k and
v in one matrix of 3 · d_model rows, for one large product instead of three, and its masks say where one must *not*
look.
"""

# %% [markdown]
r"""
## 5 · Where a word stands

Attention sees a set: shuffle the words, and the answers are shuffled with them. Positions have to be told. Two
schemes, one old, one in nearly every large model of today, use the same angles: position $p$ turns pair $i$ of the
$d$ features by

$$p\,\theta_i, \qquad \theta_i = 10000^{-2i/d}, \qquad i = 0, \dots, d/2 - 1$$

**Task.** `positions` is `(n,)`, any numbers, and $d$ is even.

- `sinusoidal(positions, d)`, `(n, d)`: feature $2i$ is $\sin(p\,\theta_i)$, feature $2i+1$ is $\cos(p\,\theta_i)$. It
  is to be *added* to embeddings.
- `rotate(x, positions)` for `x` `(..., n, d)`: the pair of *neighbouring* features $(a, b) = (x_{2i}, x_{2i+1})$
  becomes $(a \cos p\theta_i - b \sin p\theta_i,\ a \sin p\theta_i + b \cos p\theta_i)$. It is to be applied to
  queries and keys.
"""


# %%
def sinusoidal(positions: Tensor, d: int) -> Tensor:
    """`(n, d)`: sines and cosines of the positions `(n,)` at d / 2 wavelengths (Vaswani et al., 2017)."""
    ### BEGIN SOLUTION
    angles = positions[:, None] * 10000 ** (-torch.arange(0, d, 2, device=positions.device) / d)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)
    ### END SOLUTION


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """`x` `(..., n, d)` with each pair of neighbouring features turned by its position's angle (Su et al., 2021)."""
    ### BEGIN SOLUTION
    d = x.shape[-1]
    angles = positions[:, None] * 10000 ** (-torch.arange(0, d, 2, device=positions.device) / d)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1).flatten(-2)
    ### END SOLUTION


# %% tags=["demo"]
q, k = torch.randn(1, 64), torch.randn(1, 64)
for m, n in ((5, 2), (105, 102), (5, 4)):
    score = rotate(q, torch.tensor([m])) @ rotate(k, torch.tensor([n])).T
    print(f"query at {m:3}, key at {n:3}: {score.item():+.4f}")
waves = sinusoidal(torch.arange(100), 64)
print("products of two positions three apart:", (waves[3:] * waves[:-3]).sum(-1)[::30].tolist())

# %% [markdown]
"""
**What you should see.** The first two scores are equal up to rounding, the third is not: what counts is the distance.
So it is with the waves, whose products at a distance of three are all the same.
"""

# %%
check("sinusoidal")

# %% [markdown] tags=["explanation"]
r"""
A rotation by $m\theta$ against one by
$n\theta$ leaves a rotation by $(m-n)\theta$ in the product: relative positions for free. Which features make a pair
is a convention. Ours takes neighbours; other code takes feature $i$ and feature $i + d/2$. Both are right, and
weights trained with one are useless with the other: a classic of converted checkpoints.
"""

# %% [markdown]
r"""
## 6 · Tile by tile

The scores of 32,000 words with 32,000 words are 2 GB for each head. They need not exist. A softmax can be computed
**online**, over tiles of keys, each seen once. For every query keep the largest score so far $m$, the sum of
exponentials $\ell$ relative to it, and the weighted sum of values $o$. A new tile with scores $s_j$ changes them to

$$m' = \max(m, \max_j s_j), \qquad \ell' = e^{m-m'}\,\ell + \sum_j e^{s_j - m'}, \qquad
o' = e^{m-m'}\,o + \sum_j e^{s_j-m'} v_j$$

and at the end the output is $o/\ell$: exact, not approximate. This is FlashAttention's core.

**Task.** `tiled_attention(q, k, v, tile)` equals `attention(q, k, v)[0]`, for `q` `(..., L, d)`, `k` `(..., S, d)`
and `v` `(..., S, d_v)`, without a mask. It takes `tile` keys at a time (the last tile may be smaller) and never holds
more scores than those of one tile. Do without PyTorch's own attention.
"""


# %%
def tiled_attention(q: Tensor, k: Tensor, v: Tensor, tile: int) -> Tensor:
    """Attention without a mask, from tiles of keys; `(..., L, d_v)`."""
    ### BEGIN SOLUTION
    largest = q.new_full((*q.shape[:-1], 1), -torch.inf)
    total, output = torch.zeros_like(largest), q.new_zeros(*q.shape[:-1], v.shape[-1])
    for keys, values in zip(k.split(tile, -2), v.split(tile, -2), strict=True):
        scores = scaled_scores(q, keys)
        larger = torch.maximum(largest, scores.amax(-1, keepdim=True))
        weights, old = (scores - larger).exp(), (largest - larger).exp()
        total = old * total + weights.sum(-1, keepdim=True)
        output = old * output + weights @ values
        largest = larger
    return output / total
    ### END SOLUTION


# %% tags=["demo"]
q, k, v = torch.randn(3, 1000, 32).unbind(0)
print("largest difference:", (tiled_attention(q, k, v, 64) - attention(q, k, v)[0]).abs().max().item())

# %% [markdown]
"""
**What you should see.** A difference of some 10⁻⁷.
"""

# %%
check("tiled_attention")

# %% [markdown] tags=["explanation"]
"""
At the first tile `largest` is minus infinity, so `old` is exp(−∞) = 0, and nothing of nothing is kept. All exponents
are zero or negative: nothing overflows, whatever the scores. In a fused kernel the tile of scores lives in the chip's
own fast memory and never travels; the gain there is time, here it is memory.
"""

# %% [markdown]
r"""
## 7 · Writing with a cache

A model that writes word by word asks with one new query each time. The keys and values of all earlier words are the
same as before: keep them. What must *not* be the same as before is the position.

**Task.** `attend_cached(layer, x, cache)`: causal self-attention with **rotary positions** by `layer`, a
`MultiHeadAttention`, for the new positions `x` `(batch, n, d_model)`. `cache` is a dict, empty before the first call;
what you keep in it is up to you. The new positions follow those of all earlier calls with this cache; the first of
all is position 0. Queries and keys of each head are rotated by their positions, with `rotate`; values are not. Each
new position attends to all cached ones, to the new ones before it and to itself. Returns the rows `(batch, n,
d_model)` for the new positions. Earlier keys and values are not computed again.
"""


# %%
def attend_cached(layer: MultiHeadAttention, x: Tensor, cache: dict) -> Tensor:
    """Causal rotary self-attention for the new positions `x` `(batch, n, d_model)`; `cache` is extended."""
    ### BEGIN SOLUTION
    past, n = cache["keys"].shape[2] if cache else 0, x.shape[1]
    positions = torch.arange(past, past + n, device=x.device)
    queries = rotate(layer.split(layer.q(x)), positions)
    keys, values = rotate(layer.split(layer.k(x)), positions), layer.split(layer.v(x))
    if cache:
        keys, values = torch.cat((cache["keys"], keys), 2), torch.cat((cache["values"], values), 2)
    cache["keys"], cache["values"] = keys, values
    mask = torch.arange(past + n, device=x.device) <= positions[:, None]
    return layer.out(layer.merge(attention(queries, keys, values, mask)[0]))
    ### END SOLUTION


# %% tags=["demo"]
x = torch.randn(2, 12, 32)
whole, cache = attend_cached(layer, x, {}), {}
parts = torch.cat([attend_cached(layer, part, cache) for part in x.split([5, 1, 1, 5], 1)], 1)
print("in four pieces, largest difference:", (parts - whole).abs().max().item())

# %% [markdown]
"""
**What you should see.** A difference of some 10⁻⁷.
"""

# %%
check("attend_cached")

# %% [markdown] tags=["explanation"]
"""
Keys are cached *after* their rotation: their position never changes. `past` decides two things, positions and mask,
and both are forgotten easily: a model whose positions restart at every word writes well for one word, and a mask
without the past either raises or lets the first new word see the last.
"""

# %% [markdown]
r"""
## 8 · What heads look at

Enough of random numbers. The cell below trains a small model, two blocks with four heads each, to predict the next
character of real sentences from film reviews, and keeps the attention weights of each head. To read them one needs
two numbers for each head: how **far** it looks, and how **spread** its look is.

**Task.** `head_profile(weights, mask)` for `weights` `(batch, heads, L, L)` of self-attention and the `mask` they were
computed with, `(batch, 1, L, L)`, or `(1, 1, L, L)` if one serves all, returns two tensors `(heads,)`, averages over
**all queries of the batch that may attend to at least one key**:

- the mean distance $\sum_j w_{ij}\,|i - j|$, in positions;
- the entropy $-\sum_j w_{ij} \log_2 w_{ij}$, in bits, where a weight of zero adds nothing.
"""


# %%
def head_profile(weights: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance, in positions, and entropy, in bits, of each head; `(heads,)` each."""
    ### BEGIN SOLUTION
    places = torch.arange(weights.shape[-1], device=weights.device)
    distance = (weights * (places[:, None] - places).abs()).sum(-1)  # (batch, heads, L)
    entropy = -torch.special.xlogy(weights, weights).sum(-1) / math.log(2)
    counted = mask.any(-1).expand(weights.shape[0], 1, weights.shape[2])  # (batch, 1, L)
    n = counted.sum()
    return (distance * counted).sum((0, 2)) / n, (entropy * counted).sum((0, 2)) / n
    ### END SOLUTION


# %% tags=["demo"]
LENGTH = 48
text = "\n".join(movie_sentences().texts).lower()
symbols = sorted({c for c in text if c.isascii()})
data = torch.tensor([symbols.index(c) for c in text if c.isascii()])


class Block(nn.Module):
    """Pre-norm: causal attention and a feed-forward network."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = (
            nn.LayerNorm(d_model),
            MultiHeadAttention(d_model, n_heads),
            nn.LayerNorm(d_model),
        )
        self.feed_forward = nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.feed_forward(self.norm2(x))


class Speller(nn.Module):
    """Predicts the next character."""

    def __init__(self, d_model: int = 64, n_heads: int = 4) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(len(symbols), d_model), nn.Linear(d_model, len(symbols))
        self.blocks, self.norm = nn.ModuleList(Block(d_model, n_heads) for _ in range(2)), nn.LayerNorm(d_model)
        self.register_buffer("positions", sinusoidal(torch.arange(LENGTH), d_model))
        self.register_buffer("mask", build_mask(torch.tensor([LENGTH]), LENGTH, causal=True))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.positions
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))

    @torch.no_grad()
    def looks(self, ids: Tensor) -> list[Tensor]:
        """The weights of each block, `(batch, heads, L, L)`."""
        x, found = self.embed(ids) + self.positions, []
        for block in self.blocks:
            layer, h = block.attention, block.norm1(x)
            found.append(
                attention(layer.split(layer.q(h)), layer.split(layer.k(h)), layer.split(layer.v(h)), self.mask)[1]
            )
            x = block(x, self.mask)
        return found


torch.manual_seed(0)
speller, rng, begun = Speller(), torch.Generator().manual_seed(0), time.perf_counter()
optimizer = torch.optim.AdamW(speller.parameters(), lr=3e-3)
for _ in range(600):
    windows = data[torch.randint(len(data) - LENGTH - 1, (16, 1), generator=rng) + torch.arange(LENGTH + 1)]
    loss = F.cross_entropy(speller(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
seconds = time.perf_counter() - begun
print(
    f"{seconds:.0f} s; {loss.item() / math.log(2):.2f} bits a character, of {math.log2(len(symbols)):.1f} for guessing"
)

windows = data[torch.arange(0, 3200, 50)[:, None] + torch.arange(LENGTH)]
figure, axes = plt.subplots(2, 4, figsize=(9, 5.2))
for number, (row, weights) in enumerate(zip(axes, speller.looks(windows), strict=True), 1):
    distances, entropies = head_profile(weights, speller.mask)
    for head, panel in enumerate(row):
        panel.imshow(weights[0, head, :24, :24], cmap="viridis", vmin=0, vmax=1)
        panel.set_title(f"{distances[head]:.1f} back, {entropies[head]:.1f} bits", fontsize=9)
        panel.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"block {number}, queries")
for panel in axes[1]:
    panel.set_xlabel("keys")
figure.suptitle("Eight heads, the first 24 characters of a text")
plt.show()

# %% [markdown]
"""
**What you should see.** Ten to twenty seconds of training, to about three bits a character; guessing costs 5.8. The
heads have found work for themselves: those of the first block look one or two characters back, bright spots close to
the diagonal; those of the second look further. Nobody has told them to.
"""

# %%
check("head_profile")

# %% [markdown] tags=["explanation"]
"""
`xlogy` is x · log y with 0 · log 0 = 0, which the formula wants and plain multiplication does not give. Averages over
queries that may attend to nothing would make a head look short-sighted in a batch with much padding. A head is no
explanation of a decision: its output is mixed with the others', and goes through a network. It is a good place to
begin to look.
"""

# %% [markdown]
"""
## A measured comparison

What does tiling save? We count the bytes that tensors hold at their peak, for your two functions and for PyTorch's
fused one.
"""

# %% tags=["demo"]
lengths, peaks = [128, 256, 512, 1024, 2048], {"attention": [], "tiled, 64 keys": [], "PyTorch's": []}
for length in lengths:
    inputs = torch.randn(3, 1, 1, length, 32).unbind(0)
    peaks["attention"].append(peak_bytes(partial(attention, *inputs)))
    peaks["tiled, 64 keys"].append(peak_bytes(partial(tiled_attention, *inputs, tile=64)))
    peaks["PyTorch's"].append(peak_bytes(partial(F.scaled_dot_product_attention, *inputs)))
for (name, peak), colour, style in zip(peaks.items(), COLOURS, ("-", "--", "-."), strict=False):
    plt.loglog(lengths, [p / 2**20 for p in peak], color=colour, linestyle=style, label=name)
plt.gca().set(xlabel="length", ylabel="MiB at the peak", title="Memory of attention, one head of width 32")
plt.legend()
plt.show()
print(f"at {lengths[-1]}: {peaks['attention'][-1] / peaks['tiled, 64 keys'][-1]:.0f} times the memory without tiles")

# %% [markdown]
"""
The plain one grows with the square of the length, the other two with the length. What a single kernel uses inside is
not counted; for PyTorch's that is a tile, too.

## Common pitfalls

<!-- pitfalls -->

## At scale

- **You will call `F.scaled_dot_product_attention`**, never your own. But masks, heads, positions and caches around it
  stay yours, and that is where the mistakes are.
- **Arithmetic stays quadratic**, tiles or not. For very long texts models mix in layers that look at a window only,
  or that keep a state of fixed size.
- **Padding is waste.** Batches of unequal lengths are packed into one row, with a mask of blocks, or with kernels
  that take a list of lengths.
- **Heads can be fewer on the side of keys and values**: the first side quest. It is the cache that profits.
- **Scores are kept in check.** Large models normalise queries and keys, or clip the scores softly: one head whose
  scores run away spoils a run of weeks.
"""

# %% [markdown]
r"""
## Side quests

### Side quest A · Grouped heads

**Task.** `grouped_attention(q, k, v, mask=None)`: `q` is `(batch, heads, L, d)`, `k` and `v` are `(batch, groups, S,
d)`. The heads are divided evenly: with 8 heads and 2 groups, heads 0 to 3 use group 0. Returns `(batch, heads, L,
d)`; `mask` broadcasts to `(batch, heads, L, S)`. Raise `ValueError` if the groups do not divide the heads.
"""


# %%
def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention where several heads of queries share one of keys and values (Ainslie et al., 2023)."""
    ### BEGIN SOLUTION
    heads, groups = q.shape[1], k.shape[1]
    if heads % groups:
        raise ValueError(f"{groups} groups do not divide {heads} heads")
    k, v = (part.repeat_interleave(heads // groups, 1) for part in (k, v))
    return attention(q, k, v, mask)[0]
    ### END SOLUTION


# %% tags=["demo"]
q, k, v = torch.randn(2, 8, 5, 16), torch.randn(2, 2, 6, 16), torch.randn(2, 2, 6, 16)
theirs = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
print((grouped_attention(q, k, v) - theirs).abs().max().item())

# %% [markdown]
"""
**What you should see.** A difference of some 10⁻⁷.
"""

# %%
check("grouped_attention")

# %% [markdown] tags=["explanation"]
"""
`repeat_interleave` puts copies side by side, `repeat` would deal the groups out in turn: both have the right shape.
The copies are for clarity; a kernel reads the one head several times, which is the point of it.
"""

# %% [markdown]
r"""
### Side quest B · A slope in place of positions

**Task.** `alibi(n_heads, length)` returns what ALiBi adds to the scores of self-attention, `(n_heads, length,
length)`: $-m_h\,|i - j|$ with the slopes $m_h = 2^{-8h/H}$ for $h = 1, \dots, H$.
"""


# %%
def alibi(n_heads: int, length: int) -> Tensor:
    """`(n_heads, length, length)`: minus the distance, by each head's slope (Press, Smith, Lewis, 2022)."""
    ### BEGIN SOLUTION
    slopes = 2.0 ** (-8 * torch.arange(1, n_heads + 1) / n_heads)
    places = torch.arange(length)
    return -slopes[:, None, None] * (places[:, None] - places).abs()
    ### END SOLUTION


# %% tags=["demo"]
print(alibi(2, 3))

# %% [markdown]
"""
**What you should see.** Slopes of 1/16 and 1/256.
"""

# %%
check("alibi")

# %% [markdown] tags=["explanation"]
"""
Nothing is learned, and nothing ends: a model trained on 1,000 words can be asked about 2,000. The first heads look at
the neighbourhood, the last ones nearly everywhere.
"""

# %% [markdown]
"""
## Recap

You have written attention with everything that a real model needs around it: masks that cannot make a NaN, heads, two
ways to say where a word stands, tiles, a cache; and you have seen heads that were trained on real text take up work
of their own.

**Next** comes Lab 2: blocks, depth and norms, an encoder that reads whole sentences.
"""
