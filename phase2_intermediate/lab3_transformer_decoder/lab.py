# %% [markdown]
"""
# Lab 3: Transformer decoder and full model

An encoder reads. A decoder writes, one token after the other, and everything about it follows from that one sentence:
it must never see what it has not written yet; while training it is shown the right beginning anyway; afterwards it has
to live with its own; and what it has worked out once, it should not work out again. In this lab you build the decoder,
join it to an encoder, and train the two to do something that has to be right to the last letter. Then you make it
search, gamble and remember.

**You will be able to**

- prove that a model is causal, by gradients, and not by looking at its mask;
- build an encoder–decoder whose input and output share one table of embeddings;
- train it by teacher forcing, and say what differs when it writes on its own;
- decode greedily, by beam search, and from a nucleus;
- generate with a cache that changes the cost and not the result.

**Time** two hours for the eight exercises (20 points). A side quest at the end earns XP only.

**You need to know** the theory briefs *Transformers from scratch* and *Attention at work* (15 minutes each). Labs 1 and
2 help; what this lab needs of them is given.
"""

# %% [markdown]
"""
## Set-up

`check("causal_mask")` tests an exercise, `hint("causal_mask")` gives one of three hints. Masks are boolean, and True
means *may attend*.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase2/lab3")

# %%
import math
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
torch.set_num_threads(1)
use_theme()

# %% [markdown]
"""
Given: multi-head attention and an encoder block, as you know them. Attention is cut in two methods, so that keys and
values can be kept between calls.
"""


# %%
class Attention(nn.Module):
    """Multi-head attention of one sequence to another, or to itself."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q, self.k, self.v, self.out = (nn.Linear(d_model, d_model) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        """`(batch, time, d_model)` → `(batch, heads, time, d_model / heads)`."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of `memory`, each `(batch, heads, S, d_model / heads)`."""
        return self.split(self.k(memory)), self.split(self.v(memory))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """`x` `(batch, L, d_model)` asks; `mask` broadcasts to `(batch, heads, L, S)`, True = may attend."""
        mixed = F.scaled_dot_product_attention(self.split(self.q(x)), keys, values, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(-2))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attend(x, *self.keys_values(memory), mask)


def feed_forward(d_model: int) -> nn.Sequential:
    """Computes at each position, four times as wide inside."""
    return nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.ReLU(), nn.Linear(4 * d_model, d_model))


class EncoderBlock(nn.Module):
    """Pre-norm: self-attention, then the feed-forward network."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(d_model), Attention(d_model, n_heads)
        self.norm2, self.feed_forward = nn.LayerNorm(d_model), feed_forward(d_model)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, mask)
        return x + self.feed_forward(self.norm2(x))


# %% [markdown]
r"""
## 1 · Causality, and how to prove it

A decoder that sees one token of its future trains beautifully: the loss falls to nearly nothing, since the answer is in
the question. It is worthless the moment it has to write by itself. A mask that *looks* right is no proof; a norm, a
pooling, a shift in the wrong place leaks as well. But there is a proof, for any model: **output $i$ depends on input
$j$ if and only if the gradient of one by the other is not zero.**

**Task.**

- `causal_mask(length, past=0)`: boolean, of shape `(length, past + length)`. There are `past` tokens already, and
  `length` new ones that ask. New token $i$ (from 0) stands at position $past + i$ and may attend to every position up
  to and including its own.
- `dependence(f, x)`: `f` maps `x` of shape `(1, T, d)` to `(1, U, e)`. Returns a boolean `(U, T)` on the device of `x`,
  True where output position $i$ depends on input position $j$, that is, where *some* output feature of $i$ has a
  non-zero gradient by *some* input feature of $j$. Gradients of several outputs can cancel: the outputs of a layer norm
  always have the same sum. So weigh the features of an output with random numbers before you add them up.
- `dependence` changes nothing: neither `x`, nor the `.grad` of `x` or of any parameter that `f` uses.
"""


# %%
def causal_mask(length: int, past: int = 0) -> Tensor:
    """`(length, past + length)`, True where a new token may attend."""
    ### BEGIN SOLUTION
    return torch.ones(length, past + length, dtype=torch.bool).tril(past)
    ### END SOLUTION


def dependence(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`(U, T)`, True where an output position of `f` depends on an input position; `x` is `(1, T, d)`."""
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    outputs = f(x)[0]
    weighted = (outputs * torch.randn_like(outputs)).sum(-1)
    gradients = [torch.autograd.grad(output, x, retain_graph=True)[0][0] for output in weighted]
    return (torch.stack(gradients) != 0).any(-1)
    ### END SOLUTION


# %% tags=["demo"]
print(causal_mask(2, past=3).int())
block = EncoderBlock(16, 2)
for name, mask in (("without a mask", None), ("causal", causal_mask(4))):
    print(name, dependence(lambda x, mask=mask: block(x, mask), torch.randn(1, 4, 16)).int().tolist())

# %% [markdown]
"""
**What you should see.** Two rows, `[1, 1, 1, 1, 0]` and `[1, 1, 1, 1, 1]`; then ones everywhere, and a lower triangle.
"""

# %%
check("causal_mask")

# %% [markdown] tags=["explanation"]
"""
`tril(past)` moves the diagonal to the right by the number of tokens that everybody may see. `torch.autograd.grad`
returns gradients instead of adding them to `.grad`, so nothing is left behind; `retain_graph` keeps the tape for the
next row. Random weights make an accidental zero impossible, but for a set of measure zero. Comparing outputs after
changing one input is the same proof by other means; gradients do all inputs at once.
"""

# %% [markdown]
r"""
## 2 · A decoder block

A decoder block has three parts where an encoder's has two. First the sentence so far attends to itself, causally. Then
each position attends to the *source*: queries from the decoder, keys and values from the encoder's output, the
**memory**. Then the feed-forward network. Before each part a norm, around each part a residual:

$$x \leftarrow x + \text{attention}(h, h),\ h = \text{norm1}(x) \qquad
x \leftarrow x + \text{cross}(\text{norm2}(x), \text{memory}) \qquad
x \leftarrow x + \text{ff}(\text{norm3}(x))$$

**Task.** Write the module `DecoderBlock(d_model, n_heads)` with the attributes `norm1`, `attention`, `norm2`,
`cross`, `norm3` and `feed_forward`, made of `nn.LayerNorm`, `Attention` and `feed_forward` from the set-up. Its
`forward(x, memory, mask=None, memory_mask=None)` takes `x` `(batch, T, d_model)`, `memory` `(batch, S, d_model)`,
`mask` for the self-attention and `memory_mask` for the other; both broadcast to `(batch, heads, T, ...)`. The memory
is *not* normalised here: the encoder has done it.
"""


# %%
class DecoderBlock(nn.Module):
    """Pre-norm: causal self-attention, attention to the memory, feed-forward network; `(batch, T, d_model)`."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.norm1, self.attention = nn.LayerNorm(d_model), Attention(d_model, n_heads)
        self.norm2, self.cross = nn.LayerNorm(d_model), Attention(d_model, n_heads)
        self.norm3, self.feed_forward = nn.LayerNorm(d_model), feed_forward(d_model)
        ### END SOLUTION

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        ### BEGIN SOLUTION
        h = self.norm1(x)
        x = x + self.attention(h, h, mask)
        x = x + self.cross(self.norm2(x), memory, memory_mask)
        return x + self.feed_forward(self.norm3(x))
        ### END SOLUTION


# %% tags=["demo"]
block, memory = DecoderBlock(16, 2), torch.randn(1, 6, 16)
print(dependence(lambda x: block(x, memory, causal_mask(4)), torch.randn(1, 4, 16)).int())
print(dependence(lambda m: block(torch.ones(1, 4, 16), m, causal_mask(4)), memory).int())

# %% [markdown]
"""
**What you should see.** A lower triangle, and a rectangle of ones: every position reads the whole source.
"""

# %%
check("decoder_block")

# %% [markdown] tags=["explanation"]
"""
In self-attention queries, keys and values all come from the *normalised* stream; `h` is computed once. The residual
stream itself is never normalised on its way: that is what makes it pre-norm. No mask belongs to the memory but that
of its padding. The source lies there whole; there is no future in it.
"""

# %% [markdown]
r"""
## 3 · The whole model, with tied weights

Source and target share one vocabulary here, and so one table of embeddings. The same table serves at the end: the
logit of a token is the product of the decoder's output with the token's embedding. *Weight tying* saves a matrix that
is often the largest of a model, and ties reading a word to writing it.

**Task.** Complete `Translator`; its constructor is given.

- `embedded(tokens, past=0)`: `(batch, T)` → `(batch, T, d_model)`: the embedding times $\sqrt{d_{model}}$, plus that of
  the position; the first of these tokens stands at position `past`.
- `encode(source, source_mask)`: through all blocks of `encoder`, then `encoder_norm`. `source_mask` is `(batch, S)`,
  True for tokens and False for padding.
- `decode(target, memory, source_mask)`: through all blocks of `decoder`, causally and never looking at the source's
  padding, then `decoder_norm`; then the logits $h E^\top$ with the table $E$ of `embed`, `(batch, T, vocabulary)`.
- `forward` does one after the other. All of it works on the device of the tokens.
"""


# %%
class Translator(nn.Module):
    """A Transformer from token ids to logits of token ids, with one vocabulary for both sides."""

    def __init__(self, vocabulary: int, d_model: int, n_heads: int, n_layers: int, longest: int) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(vocabulary, d_model), nn.Embedding(longest, d_model)
        self.encoder = nn.ModuleList(EncoderBlock(d_model, n_heads) for _ in range(n_layers))
        self.decoder = nn.ModuleList(DecoderBlock(d_model, n_heads) for _ in range(n_layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        for table in (self.embed, self.positions):
            nn.init.normal_(table.weight, std=d_model**-0.5)  # logits of about one at the start

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor) -> Tensor:
        return self.decode(target, self.encode(source, source_mask), source_mask)

    def embedded(self, tokens: Tensor, past: int = 0) -> Tensor:
        """`(batch, T)` → `(batch, T, d_model)`; the first token stands at position `past`."""
        ### BEGIN SOLUTION
        places = torch.arange(past, past + tokens.shape[1], device=tokens.device)
        return self.embed(tokens) * math.sqrt(self.embed.embedding_dim) + self.positions(places)
        ### END SOLUTION

    def encode(self, source: Tensor, source_mask: Tensor) -> Tensor:
        """The memory, `(batch, S, d_model)`."""
        ### BEGIN SOLUTION
        x = self.embedded(source)
        for block in self.encoder:
            x = block(x, source_mask[:, None, None])
        return self.encoder_norm(x)
        ### END SOLUTION

    def decode(self, target: Tensor, memory: Tensor, source_mask: Tensor) -> Tensor:
        """Logits `(batch, T, vocabulary)` of the token that follows each of `target`."""
        ### BEGIN SOLUTION
        x, mask = self.embedded(target), causal_mask(target.shape[1]).to(target.device)
        for block in self.decoder:
            x = block(x, memory, mask, source_mask[:, None, None])
        return self.decoder_norm(x) @ self.embed.weight.T
        ### END SOLUTION


# %% tags=["demo"]
model = Translator(vocabulary=20, d_model=32, n_heads=4, n_layers=2, longest=30)
source, target = torch.randint(20, (3, 7)), torch.randint(20, (3, 5))
print("logits:", tuple(model(source, target, torch.ones(3, 7, dtype=torch.bool)).shape))
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

# %% [markdown]
"""
**What you should see.** Logits of shape `(3, 5, 20)`, and 61,120 parameters. An untied head would have 640 more.
"""

# %%
check("translator")

# %% [markdown] tags=["explanation"]
"""
`source_mask[:, None, None]` turns `(batch, S)` into `(batch, 1, 1, S)`: the same for all heads and all queries, and
it says which *keys* may be seen. The scale brings embeddings, drawn with a deviation of 1/√d for the sake of the
logits, back to one before positions are added. Tied weights get two gradients, one as input and one as output, and
autograd adds them up without being told.
"""

# %% [markdown]
r"""
## 4 · Teacher forcing

To train the decoder token by token, each on its own output, would take as many forward passes as there are tokens,
and the first mistakes would spoil all that follow. Instead the decoder is *forced*: at each position it is given the
**right** beginning and asked for the next token. Thanks to the mask, all positions of all sentences are one forward
pass.

**Task.**

- `teacher_inputs(target, begin)`: what the decoder is given, `(batch, T)`, to predict `target` `(batch, T)`: the token
  `begin`, then all of the target but the last. `target` stays as it is.
- `sequence_loss(logits, target, pad, smoothing=0.0)`: the cross-entropy with label smoothing, averaged over **all
  tokens of the batch that are not `pad`**. The target distribution over $K$ tokens is $(1-\varepsilon)\,\text{onehot}
  + \varepsilon / K$ with $\varepsilon$ = `smoothing`. At least one token is no padding.
"""


# %%
def teacher_inputs(target: Tensor, begin: int) -> Tensor:
    """What the decoder is given to predict `target`, `(batch, T)` both."""
    ### BEGIN SOLUTION
    return torch.cat((torch.full_like(target[:, :1], begin), target[:, :-1]), 1)
    ### END SOLUTION


def sequence_loss(logits: Tensor, target: Tensor, pad: int, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the tokens that are not `pad`; `(batch, T, K)` and `(batch, T)` in, a scalar out."""
    ### BEGIN SOLUTION
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad, label_smoothing=smoothing)
    ### END SOLUTION


# %% tags=["demo"]
print(teacher_inputs(torch.tensor([[5, 6, 2], [7, 2, 0]]), begin=1))
print(sequence_loss(torch.zeros(2, 3, 8), torch.tensor([[5, 6, 2], [7, 2, 0]]), pad=0), math.log(8))

# %% [markdown]
"""
**What you should see.** `[[1, 5, 6], [1, 7, 2]]`, and twice 2.0794: whoever knows nothing of eight tokens pays log 8,
with and without padding.
"""

# %%
check("teacher_inputs")

# %% [markdown] tags=["explanation"]
"""
The shift is the whole trick: at position *t* the decoder holds tokens up to *t − 1* and is asked for *t*. Without it,
the token to be predicted is its own input, and the loss goes to zero for the wrong reason; the mask does not help,
since a position may see itself. The mean is over tokens, so a long sentence counts more than a short one; a mean of
sentences' means would weigh them equally. Both are in use: say which.
"""

# %% [markdown]
r"""
## 5 · Greedy and beam search

Now the model writes. All it offers is the distribution of the next token; a *search* decides what to make of it.
**Greedy** takes the most likely token each time. It is fast, and it can be trapped: a likely first word may have only
unlikely continuations. **Beam search** keeps the `width` best beginnings instead of one.

Both work on any model: `next_logits` maps beginnings `(n, t)` of token ids to logits `(n, vocabulary)` of what comes
next.

**Task.**

- `greedy(next_logits, start, end, most)`: continues each row of `start` `(batch, t)` by at most `most` tokens. A row
  that has written `end` is filled with `end` from then on; when all rows have, it stops. Returns `start` with what
  was written.
- `beam_search(next_logits, start, end, width, most, alpha=0.0)`: for one `start` of shape `(t,)`. In each step, of
  **all** continuations of all live beginnings, the `width` with the greatest log-probability survive. (The
  log-probability is the sum over the tokens written.) Survivors that end with `end` are put aside as *finished*, the
  others live on. It stops when none is alive, or after `most` tokens; those still alive then count as finished.
  Returns the finished sequence, `(t + n,)`, with the greatest $\text{log-probability} / n^{\alpha}$, and that score
  as a float, where $n$ counts the tokens written, `end` included.
"""


# %%
def greedy(next_logits: Callable[[Tensor], Tensor], start: Tensor, end: int, most: int) -> Tensor:
    """`start` `(batch, t)` continued by the most likely token each time, for at most `most` tokens."""
    ### BEGIN SOLUTION
    tokens, ended = start, torch.zeros(len(start), dtype=torch.bool, device=start.device)
    for _ in range(most):
        best = next_logits(tokens).argmax(-1).masked_fill(ended, end)
        tokens, ended = torch.cat((tokens, best[:, None]), 1), ended | (best == end)
        if ended.all():
            break
    return tokens
    ### END SOLUTION


def beam_search(
    next_logits: Callable[[Tensor], Tensor], start: Tensor, end: int, width: int, most: int, alpha: float = 0.0
) -> tuple[Tensor, float]:
    """The best finished continuation of `start` `(t,)` that a beam of `width` finds, and its score."""
    ### BEGIN SOLUTION
    live, scores, finished = start[None], torch.zeros(1), []
    for n in range(1, most + 1):
        candidates = scores[:, None] + next_logits(live).log_softmax(-1)
        scores, chosen = candidates.flatten().topk(min(width, candidates.numel()))
        origin, token = chosen // candidates.shape[1], chosen % candidates.shape[1]
        live = torch.cat((live[origin], token[:, None]), 1)
        done = (token == end) | (n == most)
        finished += [(tokens, score.item() / n**alpha) for tokens, score in zip(live[done], scores[done], strict=True)]
        live, scores = live[~done], scores[~done]
        if not len(live):
            break
    return max(finished, key=lambda found: found[1])
    ### END SOLUTION


# %% tags=["demo"]
table = torch.tensor([[0.0, 0.6, 0.4, 0.0], [0.3, 0.25, 0.25, 0.2], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])


def garden_path(tokens: Tensor) -> Tensor:
    """After 0 comes 1 or, less likely, 2; after 1 anything; after 2 the end, token 3."""
    return table[tokens[:, -1]].log()


print("greedy:", greedy(garden_path, torch.tensor([[0]]), end=3, most=2).tolist())
for width in (1, 2):
    tokens, score = beam_search(garden_path, torch.tensor([0]), end=3, width=width, most=2)
    print(f"beam of {width}: {tokens.tolist()} with probability {math.exp(score):.2f}")

# %% [markdown]
"""
**What you should see.** Greedy goes to 1, and so does a beam of one, with probability 0.18 in the end. A beam of two
finds `[0, 2, 3]`, with 0.40.
"""

# %%
check("greedy")

# %% [markdown] tags=["explanation"]
"""
`topk` over the flattened table ranks *all* continuations of *all* beginnings at once; quotient and remainder say
which beginning and which token. Log-probabilities add, and never underflow. A longer sequence has a smaller
probability, always: with `alpha=0` beam search prefers short answers, and dividing by the length is the usual cure.
On tasks with one right answer, like ours below, greedy is nearly as good; a beam helps where a mistake shows only
later.
"""

# %% [markdown]
r"""
## 6 · A task that must be right to the last letter

*1987* is *MCMLXXXVII*. Roman numerals are a small language: each digit is spelt by up to four letters, which letters
depends on its **place**, and a zero is silent. We have 3,999 numbers; the model sees 3,000 of them and must spell the
others. It has never been told what a digit, a place or a letter is.

The data, and the loop, are given.
"""

# %%
PAD, BEGIN, END = 0, 1, 2
SYMBOLS = ["", "", "", *"0123456789", *"IVXLCDM"]
LETTERS = {1000: "M", 900: "CM", 500: "D", 400: "CD", 100: "C", 90: "XC", 50: "L", 40: "XL", 10: "X", 9: "IX", 5: "V",
           4: "IV", 1: "I"}  # fmt: skip


def roman(number: int) -> str:
    """`number`, from 1 to 3999, in Roman numerals."""
    letters = ""
    for value, letter in LETTERS.items():
        letters, number = letters + letter * (number // value), number % value
    return letters


def to_ids(texts: list[str]) -> Tensor:
    """`(n, longest + 1)`: the ids of each text's symbols, `END`, and `PAD` for the rest."""
    rows = [torch.tensor([SYMBOLS.index(symbol) for symbol in text] + [END]) for text in texts]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def to_text(ids: Tensor) -> str:
    """What stands before the first `END`."""
    ids = ids.tolist()
    return "".join(SYMBOLS[i] for i in ids[: ids.index(END)] if i > END) if END in ids else "…"


numbers = torch.randperm(3999, generator=torch.Generator().manual_seed(0)) + 1
arabic, latin = to_ids([str(n) for n in numbers.tolist()]), to_ids([roman(n) for n in numbers.tolist()])
print(arabic.shape, latin.shape, "·", to_text(arabic[0]), "is", to_text(latin[0]))


def fit(
    model: nn.Module, source: Tensor, target: Tensor, steps: int, seed: int = 0, lr: float = 3e-3, every: int = 50
) -> list[float]:
    """Take `steps` training steps on random batches of 64, warming up and then cooling down; the loss now and then."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.2)
    rng, losses = torch.Generator().manual_seed(seed), []
    for step in range(steps):
        rows = torch.randint(len(source), (64,), generator=rng)
        loss = train_step(model, optimizer, source[rows], target[rows])
        schedule.step()
        losses += [loss] if step % every == 0 else []
    return losses


def spelt(model: nn.Module, source: Tensor) -> Tensor:
    """What the model writes for each row of `source`, greedily, without `BEGIN`; `(n, up to 17)`."""
    with torch.no_grad():
        mask = source != PAD
        memory = model.encode(source, mask)
        start = torch.full((len(source), 1), BEGIN)
        return greedy(lambda tokens: model.decode(tokens, memory, mask)[:, -1], start, END, most=17)[:, 1:]


# %% [markdown]
r"""
**Task.**

- `train_step(model, optimizer, source, target)`: one step of teacher forcing; returns the loss as a float, as it was
  before the step. `source` and `target` are padded with `PAD`; the loss has a smoothing of 0.1, the gradient is
  clipped to a norm of 1.0 over all parameters, and gradients of an earlier step play no part.
- `exact_match(predicted, target)`: the share of rows, a float, where `predicted` `(n, T)` equals `target` `(n, U)`
  **up to and including** the target's `END`. What follows does not count. A row of `predicted` that is too short does
  not match. Every row of `target` has an `END`.
"""


# %%
def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, source: Tensor, target: Tensor) -> float:
    """One step of teacher forcing on `(batch, S)` and `(batch, T)`; the loss before it."""
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    logits = model(source, teacher_inputs(target, BEGIN), source != PAD)
    loss = sequence_loss(logits, target, PAD, smoothing=0.1)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()
    ### END SOLUTION


def exact_match(predicted: Tensor, target: Tensor) -> float:
    """The share of rows that are right up to and including the target's `END`."""
    ### BEGIN SOLUTION
    missing = max(target.shape[1] - predicted.shape[1], 0)
    predicted = F.pad(predicted, (0, missing), value=-1)[:, : target.shape[1]]
    ended = (target == END).cumsum(1)
    after = (ended - (target == END).long()) > 0
    return ((predicted == target) | after).all(1).double().mean().item()
    ### END SOLUTION


# %% tags=["demo"]
torch.manual_seed(0)
model = Translator(len(SYMBOLS), d_model=64, n_heads=4, n_layers=2, longest=20)
begun = time.perf_counter()
curve = fit(model, arabic[:3000], latin[:3000], steps=350)
seconds = time.perf_counter() - begun
right = exact_match(spelt(model, arabic[3000:]), latin[3000:])
print(f"{seconds:.0f} s of training; {right:.1%} of 999 numbers that it has never seen are spelt without a fault")
for row in spelt(model, arabic[3000:3005]), latin[3000:3005]:
    print([to_text(ids) for ids in row])

figure, (left, right_axes) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1, 1.3))
left.plot(range(0, 350, 50), curve, color=COLOURS[0])
left.set(xlabel="step", ylabel="loss, smoothed by 0.1", title="Teacher forcing")
one, spelling = arabic[numbers == 1987], teacher_inputs(latin[numbers == 1987], BEGIN)[:, :11]
with torch.no_grad():
    memory, x = model.encode(one, one != PAD), model.embedded(spelling)
    for block in model.decoder:
        cross, query = block.cross, x
        h = block.norm1(x)
        x = x + block.attention(h, h, causal_mask(11))
        query = cross.split(cross.q(block.norm2(x)))
        weights = (query @ cross.keys_values(memory)[0].mT / query.shape[-1] ** 0.5)[..., :5].softmax(-1)
        x = x + cross(block.norm2(x), memory, (one != PAD)[:, None, None])
        x = x + block.feed_forward(block.norm3(x))
image = right_axes.imshow(weights[0].mean(0).T, cmap="viridis", vmin=0, aspect="auto")
right_axes.set(xticks=range(11), xticklabels=[*"MCMLXXXVII", "end"], yticks=range(5), yticklabels=[*"1987", "end"])
right_axes.set(xlabel="the letter being written", ylabel="looked at in the source", title="Attention of the last block")
figure.colorbar(image)
plt.show()

# %% [markdown]
"""
**What you should see.** Ten to twenty seconds of training, and some 99 % of the unseen numbers right. On the picture a
staircase: while it writes LXXX the model looks at the 8, while it writes VII at the 7. Nobody has aligned the two.
"""

# %%
check("train_step")

# %% [markdown] tags=["explanation"]
"""
Exact match is merciless: seventeen letters with 99 % each are right together in 84 % of the cases. It is also what
counts, for code, for formulas, for numbers. The loss does not go to zero: with smoothing it cannot. And it is
computed under teacher forcing, on right beginnings, which the model has no claim to when it writes; only decoding
shows what it can do.
"""

# %% [markdown]
r"""
## 7 · Nucleus sampling

Where many answers are right, a story, a reply, the most likely one is dull, and greedy text runs in circles. So one
*samples*. But a vocabulary has a long tail: fifty thousand tokens that are each absurd, and together not unlikely.
**Nucleus sampling** cuts it off where the model itself says so: narrow where it is sure, wide where it is not.

**Task.** `nucleus(logits, p, temperature=1.0)`: divide the logits by the temperature; then keep the **smallest**
number of most likely tokens whose probabilities, together, reach at least `p`, and set all others to minus infinity.
The token with which the sum crosses `p` is kept, so there is always one. `logits` has the vocabulary last and any
leading axes. Raise `ValueError` unless $0 < p < 1$ and the temperature is positive. The input stays as it is.
"""


# %%
def nucleus(logits: Tensor, p: float, temperature: float = 1.0) -> Tensor:
    """`logits / temperature` with all tokens outside the nucleus at −inf; `(..., vocabulary)` in and out."""
    ### BEGIN SOLUTION
    if not (0 < p < 1 and temperature > 0):
        raise ValueError(f"p must lie between 0 and 1 and the temperature above 0, not {p} and {temperature}")
    logits = logits / temperature
    ordered, order = logits.sort(-1, descending=True)
    probabilities = ordered.softmax(-1)
    reached_before = probabilities.cumsum(-1) - probabilities >= p
    return logits.masked_fill(reached_before.scatter(-1, order, reached_before), -torch.inf)
    ### END SOLUTION


# %% tags=["demo"]
probabilities = torch.tensor([0.5, 0.25, 0.15, 0.06, 0.04])
for p in (0.3, 0.6, 0.9):
    print(p, [round(x, 2) for x in nucleus(probabilities.log(), p).softmax(-1).tolist()])

# %% [markdown]
"""
**What you should see.** One token, two, three; the sums before the cut are 0.5, 0.75 and 0.9.
"""

# %%
check("nucleus")

# %% [markdown] tags=["explanation"]
"""
A token is dropped if `p` was reached *before* it: the sum without it is what decides, so the one that crosses stays.
`scatter` carries the decision back from sorted order to the vocabulary's. The temperature comes first, since it
changes the probabilities that the nucleus is measured by: two libraries that apply the two in another order give
other texts.
"""

# %% [markdown]
r"""
## 8 · A cache that changes nothing but the cost

Each token that `spelt` writes runs the whole beginning through the decoder again, although nothing of it has changed.
Keys and values of a token depend on what came before it, never on what follows; those of the memory depend on
nothing. So keep them.

**Task.** `decode_cached(model, tokens, memory, source_mask, cache)` returns the logits `(batch, n, vocabulary)` for
the **new** `tokens` `(batch, n)`, equal to the last *n* rows of `model.decode` on everything so far. `cache` is a
list with one dict for each block of `model.decoder`, empty before the first call; what you keep in it is up to you.
Each call extends it. Nothing that was computed is computed again: not the keys and values of earlier tokens, and not
those of the memory.

It works on the device of the tokens. You have `Attention.keys_values` and `Attention.attend`, `causal_mask` with its
`past`, and `embedded` with its `past`.
"""


# %%
def decode_cached(model: Translator, tokens: Tensor, memory: Tensor, source_mask: Tensor, cache: list[dict]) -> Tensor:
    """Logits `(batch, n, vocabulary)` for `n` new tokens; `cache`, a dict for each block, is extended."""
    ### BEGIN SOLUTION
    past = cache[0]["keys"].shape[2] if cache[0] else 0
    x, mask = model.embedded(tokens, past), causal_mask(tokens.shape[1], past).to(tokens.device)
    for block, kept in zip(model.decoder, cache, strict=True):
        h = block.norm1(x)
        keys, values = block.attention.keys_values(h)
        if kept:
            keys, values = torch.cat((kept["keys"], keys), 2), torch.cat((kept["values"], values), 2)
        else:
            kept["memory"] = block.cross.keys_values(memory)
        kept["keys"], kept["values"] = keys, values
        x = x + block.attention.attend(h, keys, values, mask)
        x = x + block.cross.attend(block.norm2(x), *kept["memory"], source_mask[:, None, None])
        x = x + block.feed_forward(block.norm3(x))
    return model.decoder_norm(x) @ model.embed.weight.T
    ### END SOLUTION


# %% tags=["demo"]
source, written = arabic[:2], latin[:2, :10]
mask = source != PAD
with torch.no_grad():
    memory, cache = model.encode(source, mask), [{} for _ in model.decoder]
    parts = [decode_cached(model, part, memory, mask, cache) for part in written.split([4, 1, 1, 4], 1)]
    print("largest difference:", (torch.cat(parts, 1) - model.decode(written, memory, mask)).abs().max().item())

# %% [markdown]
"""
**What you should see.** A difference of some 10⁻⁶: rounding.
"""

# %%
check("decode_cached")

# %% [markdown] tags=["explanation"]
"""
The cached keys are those *after* the projection and the split, ready to be multiplied. `past` is read off the cache
and decides two things that are easily forgotten: the position of the new tokens, and how far the mask's diagonal
moves. A prompt of many tokens and a single new one are the same code.
"""

# %% [markdown]
"""
## A measured comparison

How much does the cache save? Milliseconds of a model as small as ours say more about Python than about arithmetic, so
we count multiplications, with PyTorch's own counter, while a text of 64 tokens is written one by one.
"""

# %% tags=["demo"]
torch.manual_seed(1)
larger = Translator(vocabulary=1000, d_model=128, n_heads=4, n_layers=2, longest=128).eval()
source, text = torch.randint(1000, (1, 32)), torch.randint(1000, (1, 64))
mask = torch.ones(1, 32, dtype=torch.bool)
with torch.no_grad():
    memory, cache, costs = larger.encode(source, mask), [{} for _ in larger.decoder], {"whole": [], "cached": []}
    for t in range(1, 65):
        with FlopCounterMode(display=False) as counter:
            larger.decode(text[:, :t], memory, mask)
        costs["whole"].append(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter:
            decode_cached(larger, text[:, t - 1 : t], memory, mask, cache)
        costs["cached"].append(counter.get_total_flops())
for (name, cost), colour in zip(costs.items(), COLOURS, strict=False):
    plt.plot(range(1, 65), [c / 1e6 for c in cost], color=colour, label=name)
plt.gca().set(xlabel="tokens written", ylabel="million operations for the next one", title="What the cache saves")
plt.legend()
plt.show()
print(f"64 tokens: {sum(costs['whole']) / sum(costs['cached']):.1f} times the operations without a cache")

# %% [markdown]
"""
The one line grows, the other hardly: what grows with it are the scores alone. The first cached step is dear, for it
reads the source.

## Common pitfalls

<!-- pitfalls -->

## At scale

- **Decoder only.** Large language models have dropped the encoder: source and target are one sequence, and the prompt
  is its beginning. Cross-attention lives on where the two are of different kinds: speech and text, pictures and text.
- **Teacher forcing is why they can be trained at all**: a sequence of 100,000 tokens is one forward pass. Writing one
  takes 100,000.
- **The cache is the bottleneck of serving.** It is cut into pages, quantized, shared between requests with the same
  beginning, and fewer heads of keys and values make it smaller.
- **Speculative decoding**: a small model writes a few tokens ahead, the large one checks them all in one pass. The
  distribution stays exactly the large one's.
- **Beam search has gone from chat and stayed in translation and speech**, where there is one right answer and
  likelihood is a good measure of it.
"""

# %% [markdown]
r"""
## Side quest

### Side quest A · Two other ways to cut the tail

**Task.** Two functions of `logits` with the vocabulary last and any leading axes; what is cut is minus infinity, the
rest and the input stay as they are.

- `top_k(logits, k)` keeps the `k` largest logits of each row (there are no ties), all if the vocabulary is smaller.
  Raise `ValueError` for `k` below 1.
- `min_p(logits, share)` keeps the tokens whose probability is at least `share` times that of the likeliest. Raise
  `ValueError` unless $0 \le share \le 1$.
"""


# %%
def top_k(logits: Tensor, k: int) -> Tensor:
    """`logits` with all but the `k` largest of each row at −inf."""
    ### BEGIN SOLUTION
    if k < 1:
        raise ValueError(f"at least one token must be kept, not {k}")
    smallest = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < smallest, -torch.inf)
    ### END SOLUTION


def min_p(logits: Tensor, share: float) -> Tensor:
    """`logits` with all tokens at −inf that are less than `share` times as likely as the likeliest."""
    ### BEGIN SOLUTION
    if not 0 <= share <= 1:
        raise ValueError(f"the share must lie between 0 and 1, not {share}")
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < share * probabilities.amax(-1, keepdim=True), -torch.inf)
    ### END SOLUTION


# %% tags=["demo"]
for cut in (top_k(probabilities.log(), 2), min_p(probabilities.log(), 0.2)):
    print([round(x, 2) for x in cut.softmax(-1).tolist()])

# %% [markdown]
"""
**What you should see.** Two tokens with 0.67 and 0.33; three with 0.56, 0.28 and 0.17.
"""

# %%
check("top_k")

# %% [markdown] tags=["explanation"]
"""
Top-k keeps as many tokens where the model is sure as where it is not. Min-p follows the likeliest token: at high
temperatures, where a nucleus swallows half of the tail, it still cuts. Neither needs a sort.
"""

# %% [markdown]
"""
## Recap

You have built a decoder and proven that it is causal, joined it to an encoder, trained the two with one pass for all
positions, and watched it align two alphabets on its own. Searching, sampling and caching work on any model that
predicts the next token, the largest included.

**Next** comes Lab 4: losses, the contract that decides what all this training is for.
"""
