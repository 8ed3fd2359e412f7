# %% [markdown]
"""
# Attention at work: heads, caches and tiles

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two, on any machine.*

The formula of attention fits on one line. What is run in a large model today is that line, cut into heads, some of
them shared, fed from a cache, and computed in an order in which the formula's big matrix never exists. Each change
answers a bill that came due: for expressiveness, for memory while generating, for memory while training. None of them
changes what is computed by more than rounding, except the one that says so.
"""

# %%
import torch
from matplotlib import pyplot as plt
from torch import Tensor
from torch.nn import functional as F

from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## Many heads

One softmax gives one average. A verb may want its subject *and* its object *and* the word before; one average of the
three is a blur. So the width $d$ is cut into $h$ **heads** of $d/h$ features, each with its own queries, keys and
values, its own softmax, its own average. The averages are laid side by side again and mixed by one last projection.

It costs nothing: $h$ products of width $d/h$ are as much work as one of width $d$. In code, heads are an axis that
moves beside the batch: `(batch, time, d)` becomes `(batch, heads, time, d / heads)`, and every line of attention
stays as it was.

Where the queries come from one sequence, and keys and values from another, it is **cross-attention**: a decoder asks
the sentence it translates, a picture's patches ask a caption. The only difference is in the shapes, $L$ queries
against $S$ keys, and that a causal mask has no business there.
"""


# %%
def split(x: Tensor, heads: int) -> Tensor:
    """`(batch, time, d)` → `(batch, heads, time, d / heads)`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """`(batch, heads, time, d / heads)` → `(batch, time, d)`."""
    return x.transpose(1, 2).flatten(-2)


x = torch.randn(2, 5, 32)
print("split:", tuple(split(x, 4).shape), "| merged again, equal:", torch.equal(merge(split(x, 4)), x))
wrong = x.view(2, 4, 5, 8)
print("a view alone gives the right shape and the wrong heads:", not torch.equal(wrong, split(x, 4)))

# %% [markdown]
r"""
## Generating: the cache

A decoder writes one token at a time. To choose the next, its last position attends to all before it, whose keys and
values *do not change*: they depend on nothing that comes later. So they are kept. With this **KV cache** a new token
costs one row of projections and one row of scores; without it, all rows again, every time.
"""

# %%
wq, wk, wv = torch.randn(3, 16, 16).mul(0.25).unbind(0)
text = torch.randn(1, 8, 16)
whole = F.scaled_dot_product_attention(text @ wq, text @ wk, text @ wv, is_causal=True)

keys, values, rows = torch.empty(1, 0, 16), torch.empty(1, 0, 16), []
for t in range(8):
    new = text[:, t : t + 1]
    keys, values = torch.cat((keys, new @ wk), 1), torch.cat((values, new @ wv), 1)
    rows.append(F.scaled_dot_product_attention(new @ wq, keys, values))  # one query: all keys are its past
print("row by row with a cache, largest difference:", (torch.cat(rows, 1) - whole).abs().max().item())

# %% [markdown]
r"""
The cache moves the bill from arithmetic to memory. For each token it holds, in every layer, a key and a value:

$$\text{bytes} = 2 \cdot \text{layers} \cdot \text{heads}_{kv} \cdot \frac{d}{h} \cdot \text{bytes per number}
\quad\text{for each token of each sequence}$$

And it must be *read*, whole, for every token that is written, with two operations for each number: a reading test for
the memory, not a reckoning test for the chip. Long contexts and large batches are limited by it.

**Grouped-query attention** cuts it: many query heads share one head of keys and values. With 32 query heads in 8 groups
the cache is a quarter; with one group for all (*multi-query*), a thirty-second. This one does change what is computed,
and models are trained with it from the start. Eight groups lose next to nothing.
"""

# %%
tokens = torch.logspace(3, 5.3, 40)
figure, axes = plt.subplots(figsize=(8, 3.6))
for kv_heads, colour, style in ((32, COLOURS[0], "-"), (8, COLOURS[1], "--"), (1, COLOURS[2], "-")):
    gigabytes = 2 * 32 * kv_heads * 128 * 2 * tokens / 1e9
    axes.loglog(tokens, gigabytes, color=colour, linestyle=style, label=f"{kv_heads} heads of keys and values")
axes.axhline(14, color="#797979", linestyle=":")
axes.text(1100, 16, "all weights of the model", fontsize=9)
axes.set(xlabel="tokens in the cache, over all sequences", ylabel="GB")
axes.set_title("The cache of a model of 7 billion weights, 32 layers, 16 bits")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
"""
With full heads, 27,000 tokens of cache weigh as much as the model: ten conversations of ordinary length. In PyTorch,
grouped heads are `F.scaled_dot_product_attention(q, k, v, enable_gqa=True)`, with fewer heads in `k` and `v`.
"""

# %%
q, k, v = torch.randn(1, 8, 5, 16), torch.randn(1, 2, 5, 16), torch.randn(1, 2, 5, 16)
grouped = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
repeated = F.scaled_dot_product_attention(q, k.repeat_interleave(4, 1), v.repeat_interleave(4, 1))
print("8 heads of queries, 2 of keys; as if each key head stood there four times:", torch.allclose(grouped, repeated))

# %% [markdown]
r"""
## Training: the matrix that need not be

While training there is no cache, but a matrix of scores: $L \times L$ for each head, written to memory, read by the
softmax, written again, read by the next product. For long texts that traffic is the time, and the matrix is the memory.

It can be avoided, because a softmax can be computed **online**: over a stream of numbers, seen once. Keep three things:
the largest score so far $m$, the sum of exponentials $\ell$, and the weighted sum of values $o$, both relative to $m$.
When a larger score comes, what was summed relative to the old maximum is too large by a known factor:

$$m' = \max(m, s), \qquad \ell' = e^{m - m'}\,\ell + e^{s - m'}, \qquad o' = e^{m - m'}\,o + e^{s - m'}\,v$$

At the end the answer is $o / \ell$. It is exact, not an approximation. Take the keys tile by tile instead of one by
one, and each tile of scores is made, used and forgotten inside the chip's fast memory. That is **FlashAttention**.
"""


# %%
def tiled(q: Tensor, k: Tensor, v: Tensor, tile: int) -> Tensor:
    """Attention without a mask of `(L, d)`, `(S, d)`, `(S, d)`; never more than `(L, tile)` scores at a time."""
    m = q.new_full((q.shape[0], 1), -torch.inf)
    total, out = torch.zeros_like(m), torch.zeros(q.shape[0], v.shape[1])
    for keys, values in zip(k.split(tile), v.split(tile), strict=True):
        scores = q @ keys.mT / q.shape[1] ** 0.5
        larger = torch.maximum(m, scores.amax(-1, keepdim=True))
        weights, old = (scores - larger).exp(), (m - larger).exp()
        total, out = old * total + weights.sum(-1, keepdim=True), old * out + weights @ values
        m = larger
    return out / total


q, k, v = torch.randn(300, 64), torch.randn(1000, 64), torch.randn(1000, 64)
gap = (tiled(q, k, v, 128) - F.scaled_dot_product_attention(q[None], k[None], v[None])[0]).abs().max()
print(f"tiles of 128 keys: largest difference {gap:.0e}; scores held at once 300 × 128 instead of 300 × 1,000")

# %% [markdown]
"""
The backward pass needs the weights again, and computes them again, tile by tile, from `q`, `k` and one number per row:
the logarithm of its sum. More arithmetic, less traffic, faster; the same bargain as activation checkpointing.

You never write this yourself. `F.scaled_dot_product_attention` chooses a fused kernel where the device, the types and
the mask allow it. `torch.nn.attention.flex_attention` compiles one for a mask or a bias of your own.

## Three traps

1. **A view in place of a transpose** (above). The shapes agree, the loss falls, the model is worse. Nothing raises.
2. **Positions that start anew with each cached step.** The one new token is row 0 of its tensor, and position 1,000
   of its text. Rotary angles come from the second.
3. **`is_causal=True` with unequal lengths.** For one query and many keys PyTorch lines the mask up at the *top left*:
   the newest token then sees only the oldest. When you decode with a cache, one query needs no causal mask at all.
"""

# %%
q, k, v = torch.randn(1, 1, 16), torch.randn(1, 6, 16), torch.randn(1, 6, 16)
top_left = F.scaled_dot_product_attention(q, k, v, is_causal=True)
print("the last query, told to be causal, sees the first key alone:", torch.allclose(top_left[:, 0], v[:, 0]))

# %% [markdown]
"""
## At scale

- **Paged caches.** Sequences grow at different speeds; one tensor per sequence wastes half of the memory. Servers cut
  the cache into pages of some sixteen tokens and keep a table, as an operating system does.
- **Shared beginnings.** A thousand requests with one and the same instruction in front compute its keys and values
  once.
- **Two regimes in one service.** Reading a prompt is bound by arithmetic, writing an answer by memory. Large services
  run them on different machines, and send the cache across.
- **Context across machines.** When one sequence's keys do not fit, *ring attention* passes tiles round the ranks. The
  online softmax above is what makes that possible: tiles may come in any order.

## References

1. Shazeer, *Fast Transformer Decoding: One Write-Head is All You Need*, 2019.
2. Ainslie et al., *GQA: Training Generalized Multi-Query Transformer Models*, EMNLP, 2023.
3. Milakov and Gimelshein, *Online Normalizer Calculation for Softmax*, 2018.
4. Dao, Fu, Ermon, Rudra and Ré, *FlashAttention: Fast and Memory-Efficient Exact Attention*, NeurIPS, 2022.
5. Kwon et al., *Efficient Memory Management for Large Language Model Serving with PagedAttention*, SOSP, 2023.

## Test yourself

Answer aloud before you unfold.

**1.** A model has 40 layers, 8 heads of keys and values of width 128, in 16 bits. How much cache does a conversation of
10,000 tokens need?

<details><summary>Answer</summary>

2 · 40 · 8 · 128 · 2 bytes = 164 kB for each token, 1.6 GB for ten thousand. Forty such conversations fill the 66 GB
that a GPU of 80 GB has left beside a model of 14 GB.

</details>

**2.** In the online softmax, why must the old sum be multiplied by $e^{m - m'}$, and what happens at the first tile,
where $m$ is minus infinity?

<details><summary>Answer</summary>

The old sum counts in units of $e^m$, the new terms in units of $e^{m'}$; the factor converts. At the first tile it is
$e^{-\\infty} = 0$: nothing was there, and nothing is kept. Only if a whole tile is masked is $m'$ itself minus
infinity, and the difference NaN: that case needs care.

</details>

**3.** Why does a larger batch make generation more efficient, up to a point, and what is the point?

<details><summary>Answer</summary>

The weights are read once for all sequences of a batch, so their cost is shared. The cache is each sequence's own, and
is not. When reading the caches takes as long as reading the weights, more sequences only add up.

</details>

Ready? Mark the brief as read; Lab 1 builds all of it.
"""

# %%
from grading import mark_as_read

mark_as_read("phase2/theory2")
