# %% [markdown]
"""
# Transformers from scratch

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two, on any machine.*

A recurrent network reads a sentence as you would read it through a keyhole: one word at a time, with whatever it has
kept in mind of the rest. A Transformer lays the whole sentence on the table. Every word asks all others one question at
once, *who of you matters to me?*, and takes an average of the answers. There is no order of time in that, so all words
can be computed in parallel; and nothing that was said a thousand words ago is further away than the word before.

Both gifts have a price. Asking everybody costs the square of the length. And with time gone, order is gone too: it has
to be put back in by hand.
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
## A dictionary that answers approximately

In a Python dictionary a query finds the one key that equals it, and returns its value. Attention is the soft version:
the query is compared with *every* key, and what comes back is a mixture of all values, weighted by how well their keys
fit. With queries $Q$ of shape $(L, d)$, keys $K$ $(S, d)$ and values $V$ $(S, d_v)$:

$$\text{attention}(Q, K, V) = \text{softmax}\!\left(\frac{QK^\top}{\sqrt d}\right) V$$

The softmax runs over the keys, so each query's weights are positive and sum to one. In **self-attention** all three
come from the same sequence, by three learned matrices: $Q = XW_Q$, $K = XW_K$, $V = XW_V$. *What do I look for, what do
I offer to be found by, what do I say when found*: three roles, three projections.
"""


# %%
def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`q` is `(…, L, d)`, `k` and `v` `(…, S, d)`; `mask` broadcasts to `(…, L, S)`, True where one may attend."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


q, k, v = torch.randn(3, 2, 6, 16).unbind(0)
causal = torch.ones(6, 6, dtype=torch.bool).tril()
ours, theirs = attention(q, k, v, causal), F.scaled_dot_product_attention(q, k, v, attn_mask=causal)
print("largest difference to PyTorch's own:", (ours - theirs).abs().max().item())

# %% [markdown]
r"""
**Why divide by $\sqrt d$?** A score is a sum of $d$ products. If the entries of $q$ and $k$ have variance one, so has
each product, and their sum has variance $d$. Without the division the scores of a head of width 64 have a standard
deviation of 8, and a softmax over such numbers is all but one-hot: its gradient is all but zero, before training has
begun.
"""

# %%
for d in (4, 64, 1024):
    q, k = torch.randn(2, 500, d).unbind(0)
    raw = q @ k.mT
    for name, scores in (("raw", raw), ("scaled", raw / d**0.5)):
        largest = scores.softmax(-1).amax(-1).mean()
        print(f"d = {d:4}, {name:6}: std {scores.std():5.1f}, largest of 500 weights {largest:.2f}")

# %% [markdown]
"""
## Masks

Two kinds of keys must get no weight. *Padding*: a batch holds sentences of unequal length, and the filling is not text.
*The future*: a model that predicts the next word must not see it. Both are one boolean mask, and both are applied
**before** the softmax, by a score of minus infinity: afterwards, the weights that are left would no longer sum to one.

## What attention cannot see

Shuffle the words, and attention returns the same answers, shuffled. It sees a *set*. "The dog bites the man" and "The
man bites the dog" are one and the same to it.
"""

# %%
x, order = torch.randn(6, 16), torch.randperm(6)
shuffled_first, shuffled_last = attention(x[order], x[order], x[order]), attention(x, x, x)[order]
print("shuffling first or last is the same:", torch.allclose(shuffled_first, shuffled_last, atol=1e-6))

# %% [markdown]
r"""
So a position must be told. There are four ways that matter:

- **Sinusoidal** (2017): add to each word a vector of sines and cosines of its position, at wavelengths from a few words
  to ten thousands. Nothing is learned. The product of two such vectors depends on their *distance* alone.
- **Learned**: add a row of a table with one row for each position. Simple, good, and ends where the table ends:
  position 513 of a table of 512 is an error.
- **Rotary, RoPE** (2021): add nothing. Instead *turn* queries and keys: pair up their features, and rotate pair $i$ at
  position $m$ by the angle $m\,\theta_i$, with $\theta_i = 10000^{-2i/d}$. A product of two vectors that were turned by
  $m\theta$ and $n\theta$ depends on $(m - n)\theta$: the score sees the distance, the values stay what they were.
- **ALiBi** (2022): leave the vectors alone, and subtract from each score the distance times a slope, another slope for
  each head. Far is worth less; how much less is a property of the head.
"""


# %%
def angles(positions: Tensor, d: int) -> Tensor:
    """`(n, d / 2)`: what each pair of features is turned by at each of `n` positions."""
    return positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)


def sinusoidal(positions: Tensor, d: int) -> Tensor:
    """`(n, d)`: a sine and a cosine at each wavelength (Vaswani et al., 2017)."""
    return torch.stack((angles(positions, d).sin(), angles(positions, d).cos()), -1).flatten(-2)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """`x` `(n, d)` with each pair of neighbouring features turned by its angle (Su et al., 2021)."""
    (a, b), turn = x.unflatten(-1, (-1, 2)).unbind(-1), angles(positions, x.shape[-1])
    return torch.stack((a * turn.cos() - b * turn.sin(), a * turn.sin() + b * turn.cos()), -1).flatten(-2)


q, k = torch.randn(2, 1, 64).unbind(0)
for m, n in ((3, 1), (103, 101), (3, 2)):
    score = rotate(q, torch.tensor([m])) @ rotate(k, torch.tensor([n])).mT
    print(f"rotary score of a query at {m:3} and a key at {n:3}: {score.item():+.4f}")

# %% [markdown]
"""
Equal distance, equal score, wherever the two stand. The picture shows what each scheme says about distance before
anything is trained: on the left the similarity of two positions, or of one and the same query and key at two positions;
on the right what ALiBi subtracts.
"""

# %%
distance, d = torch.arange(128), 64
waves, same = sinusoidal(distance, d), torch.randn(200, d)
turned = torch.stack([(rotate(same, torch.full((200,), n)) * same).sum(-1) for n in distance.tolist()])
table = torch.randn(128, d)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
left.plot(distance, (waves @ waves[0]) / (waves[0] @ waves[0]), label="sinusoidal", color=COLOURS[0], linestyle="-")
left.plot(distance, turned.mean(1) / turned[0].mean(), label="rotary", color=COLOURS[1], linestyle="--")
left.plot(distance, (table @ table[0]) / (table[0] @ table[0]), ".", label="learned, untrained", color=COLOURS[3])
left.set(xlabel="distance in words", ylabel="similarity, 1 at distance 0", title="Two positions")
left.legend()
for head, colour in zip((1, 2, 4, 8), COLOURS, strict=False):
    right.plot(distance, -distance * 2.0**-head, color=colour, label=f"slope 1/{2**head}", linestyle="-")
right.set(xlabel="distance in words", ylabel="added to the score", title="ALiBi, four heads", ylim=(-40, 1))
right.legend()
plt.show()

# %% [markdown]
r"""
The sinusoidal and the rotary curve are the same: both are an average of cosines of the distance. The difference is
where they act. Added vectors mix with the word's meaning, and pass through $W_Q$ and $W_K$; turned queries and keys
keep position out of the values altogether.

## The block

Attention moves information *between* positions and computes little. A **feed-forward** network of two linear layers,
four times as wide inside, computes at *each* position and moves nothing. A Transformer block is one after the other,
each with a residual connection around it and a normalisation:

```
x = x + attention(norm(x))
x = x + feed_forward(norm(x))
```

This is *pre-norm*. In the first paper the norm came after the sum, *post-norm*; then every residual passes through
every norm, gradients shrink with depth, and training needs a careful warm-up. Pre-norm leaves a straight road from
the last layer to the first, and needs one more norm at its end.

Count: with width $d$, the four projections of attention have $4d^2$ weights and the feed-forward network $8d^2$. Twelve
$d^2$ a block, whatever the length of the text.
"""

# %%
width, layers, vocabulary = 768, 12, 50257
print(
    f"12 · d² · layers = {12 * width**2 * layers / 1e6:.0f} million, embeddings {vocabulary * width / 1e6:.0f} million"
)
for length in (512, 4096, 32768):
    weights, pairs = 2 * 12 * width**2, 4 * length * width
    print(f"at {length:6} words, attention's products are {pairs / (weights + pairs):4.0%} of a block's arithmetic")

# %% [markdown]
"""
## Three traps

1. **Two polarities of masks.** In `F.scaled_dot_product_attention`, True means *may attend*; in
   `nn.MultiheadAttention` and `nn.TransformerEncoder`, True means *must not*. Turn a mask round by accident, and the
   model trains on the padding. In this course, True always means *may attend*.
2. **A row with everything masked** is a softmax over nothing, 0/0: NaN, in the output and in every gradient. It
   happens: an empty sentence, a window that starts too late. Give such rows zeros.
3. **Positions that do not know where they are.** With padding on the left, or when words come one at a time, the first
   *row* is not position 0. Pass positions; do not count rows.

## At scale

- The quadratic cost is in memory first: 32,768² scores are 2 GB in 16 bits, for each head. *FlashAttention* never
  writes them down; the next brief says how. Its arithmetic stays quadratic.
- Nearly all large models today are pre-norm with RMS norm, rotary positions, a gated feed-forward network and grouped
  heads. The block above is still recognisable in each of them.
- **Longer contexts than trained for** are had by stretching the angles: dividing positions, or enlarging the base
  10,000 to a million and training on a little. Learned tables cannot be stretched.
- Training costs about 6 operations for each weight and token: 2 forward, 4 backward. With the count above, that is
  how runs are planned.

## References

1. Vaswani et al., *Attention Is All You Need*, NeurIPS, 2017.
2. Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding*, 2021.
3. Press, Smith and Lewis, *Train Short, Test Long: Attention with Linear Biases*, ICLR, 2022.
4. Xiong et al., *On Layer Normalization in the Transformer Architecture*, ICML, 2020.
5. PyTorch documentation,
   [*torch.nn.functional.scaled_dot_product_attention*](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html).

## Test yourself

Answer aloud before you unfold.

**1.** A colleague masks after the softmax, by setting weights to zero. What goes wrong, and why does the loss still
fall?

<details><summary>Answer</summary>

The weights that are left no longer sum to one, and by how much depends on scores that should not matter: the masked
keys still take part in the denominator. A causal model that does so leaks the future, a little, through that
denominator. It trains all the same, since the leak is small and a later norm rescales; it is just worse, and different
when words come one at a time.

</details>

**2.** Why are rotary positions applied to queries and keys and not to values?

<details><summary>Answer</summary>

The position is there to decide *who is looked at*; that is what scores are for, and in the score two rotations combine
to the distance. A turned value would arrive turned by its absolute position, and the layers behind would have to undo
it.

</details>

**3.** Twice the length: what happens to the parameters, to the feed-forward network's work, and to attention's?

<details><summary>Answer</summary>

Parameters stay. The feed-forward network works on each position, so twice. Attention's projections too; its scores and
its averages compare all pairs, so four times.

</details>

Ready? Mark the brief as read, then open Lab 1.
"""

# %%
from grading import mark_as_read

mark_as_read("phase2/theory1")
