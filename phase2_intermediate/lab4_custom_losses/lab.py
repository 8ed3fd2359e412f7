# %% [markdown]
"""
# Lab 4: Custom loss functions

A model learns what its loss asks for, and nothing else. In this lab you write the losses that modern training is made
of: for labels that are too sure, for classes that are too rare, for teachers, for pairs, for sequences that nobody has
aligned. Each is a few lines, and each has one convention that everybody gets wrong once. At the end you use them where
plain cross-entropy fails: on one coat in a hundred pictures.

**You will be able to**

- write a loss from its formula, with its reduction, so that it equals the library's in value and gradient;
- keep it finite where exponentials, roots and logarithms of zero wait for you;
- train embeddings by triplets and by pairs, and say what a temperature does;
- sum over all alignments by dynamic programming, and read a row of digits with it;
- judge a detector of rare things by its precision–recall curve, and choose its threshold.

**Time** two hours for the eight exercises (20 points). Five side quests at the end earn XP only.

**You need to know** Phase 1, above all Labs 1 and 3, and the theory brief *Losses and optimisation strategies* (15
minutes).
"""

# %% [markdown]
"""
## Set-up

`check("cross_entropy")` tests an exercise, `hint("cross_entropy")` gives one of three hints. Two rules hold for every
loss of this lab. Its inputs are left as they are. And for logits of any size up to ±10,000 it is **finite in value and
gradient**, in float32, unless the text says otherwise.

`reduced` is given: it puts the losses of the rows together in the three usual ways.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase2/lab4")

# %%
import copy
import itertools
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.data import clothing_or_digits, digits
from labkit.measure import compare
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """All `losses` as they are ("none"), their "sum" or their "mean"."""
    return {"none": lambda: losses, "sum": losses.sum, "mean": losses.mean}[reduction]()


# %% [markdown]
r"""
## 1 · Cross-entropy, smoothed and weighted

Cross-entropy against a one-hot target is content only when a logit is infinite. **Label smoothing** asks for a little
less: it moves a share $\varepsilon$ of the target from the true class to *all* classes alike, the true one included.
**Class weights** let the rows of a rare class count more. With $K$ classes, the true class $y$, and $p$ the softmax of
the logits:

$$q_k = (1 - \varepsilon)\,[k = y] + \frac{\varepsilon}{K}, \qquad
\text{loss} = -\sum_k w_k\, q_k \log p_k$$

The reduction is where weights surprise people: `"mean"` is a **weighted** mean. It divides the sum of the losses by the
sum of the weights of the *true* classes, $\sum_n w_{y_n}$, and not by the number of rows.

**Task.** Write `cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean")` with the reductions
`"none"`, `"sum"` and `"mean"`. Without `weight`, every class weighs 1. Do without `F.cross_entropy` and `F.nll_loss`,
and their modules.
"""


# %%
def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of `logits` `(batch, classes)` against `targets` `(batch,)`, int64; `weight` is `(classes,)`.

    `(batch,)` for the reduction "none", else a scalar; "mean" divides by the sum of the weights of the true classes.
    """
    ### BEGIN SOLUTION
    classes = logits.shape[-1]
    if weight is None:
        weight = logits.new_ones(classes)
    q = (1 - smoothing) * F.one_hot(targets, classes) + smoothing / classes
    losses = -(weight * q * logits.log_softmax(-1)).sum(-1)
    return losses.sum() / weight[targets].sum() if reduction == "mean" else reduced(losses, reduction)
    ### END SOLUTION


# %% tags=["demo"]
logits = torch.tensor([[4.0, 1.0, 0.0]], requires_grad=True)
for smoothing in (0.0, 0.3):
    loss = cross_entropy(logits, torch.tensor([0]), smoothing=smoothing)
    (push,) = torch.autograd.grad(loss, logits)
    print(f"ε = {smoothing}: loss {loss:.4f}, gradient", [round(g, 4) for g in push[0].tolist()])
print("softmax", [round(p, 4) for p in logits.softmax(-1)[0].tolist()])

# %% [markdown]
"""
**What you should see.** Losses of 0.0659 and 0.7659. The gradient is softmax minus target: without smoothing the first
logit is still pushed up (its gradient is −0.0638), with a target of 0.8 for a probability of 0.936 it is pulled
**down** (+0.1362).
"""

# %%
check("cross_entropy")

# %% [markdown] tags=["explanation"]
"""
`log_softmax` does the delicate part; the rest is the formula. The target of the true class is 1 − ε + ε/K. Whoever
spreads ε over the *other* classes only gives it 1 − ε, too little, and another loss. Dividing by the weights makes
the mean independent of their scale: weights (1, 9) and (10, 90) train alike. It also means that means of batches are
not comparable if the batches hold different classes; sum and divide yourself where that matters.
"""

# %% [markdown]
r"""
## 2 · Focal loss

A detector looks at a hundred thousand patches, of which ten show something. Each of the others is easy and costs almost
nothing, but almost nothing times a hundred thousand drowns the ten. **Focal loss** turns down what is easy already. For
two classes, with $p = \sigma(\text{logit})$ and $p_t$ the probability of what is *true* (Lin et al., 2017, equation 5):

$$\text{loss} = -\alpha_t\, (1 - p_t)^\gamma \log p_t, \qquad
p_t, \alpha_t = \begin{cases} p,\; \alpha & \text{for a positive} \\ 1 - p,\; 1 - \alpha & \text{for a negative}
\end{cases}$$

**Task.** Write `focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean")`. Logits and targets have the same
shape, any; targets are floats, 0 or 1. The mean is the plain one, over all elements. `gamma` is any number from 0 up,
**also one below 1**: its power of zero has an infinite slope, and your gradient must stay finite all the same.
"""


# %%
def focal_loss(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean"
) -> Tensor:
    """Focal loss of two classes; `logits` and float `targets` (0 or 1) of the same shape, reduced as said."""
    ### BEGIN SOLUTION
    logits_t = (2 * targets - 1) * logits
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    modulation = (gamma * F.logsigmoid(-logits_t)).exp()
    return reduced(-alpha_t * modulation * F.logsigmoid(logits_t), reduction)
    ### END SOLUTION


# %% tags=["demo"]
p = torch.tensor([0.1, 0.5, 0.9, 0.99])
for gamma in (0.0, 2.0):
    losses = focal_loss(p.logit(), torch.ones(4), alpha=0.5, gamma=gamma, reduction="none")
    print(f"γ = {gamma}:", [round(loss, 5) for loss in losses.tolist()])

# %% [markdown]
"""
**What you should see.** 1.15129, 0.34657, 0.05268, 0.00503 for γ = 0, which is cross-entropy, halved by α; and 0.93255,
0.08664, 0.00053, 0.0 for γ = 2. A positive at 0.9 counts a hundredth of what it did, one at 0.1 still four fifths.
"""

# %%
check("focal_loss")

# %% [markdown] tags=["explanation"]
"""
One sign folds the two cases into one: the probability of a negative is the sigmoid of −logit. Everything happens in
logarithms: `1 - p_t` is `sigmoid(-logits_t)`, and its power is `exp(γ · logsigmoid(-logits_t))`. Written as `(1 - p_t)
** gamma`, it is 1 − 1 = 0 for a sure logit, and with γ below 1 the derivative of the power is infinite there; times
zero that is NaN. `torchvision.ops.sigmoid_focal_loss` has exactly this flaw.
"""

# %% [markdown]
r"""
## 3 · Distillation

A label says "coat". A trained network says "coat, perhaps a pullover, never a sandal", and this is worth more. A
student is taught both, by two terms: the Kullback–Leibler divergence from the teacher's probabilities $p$ to its own
$q$, both softened by a temperature $T$, and the plain cross-entropy of the labels (Hinton, Vinyals and Dean, 2015).

$$\text{loss} = \alpha\, T^2\, \text{KL}(p^T \,\|\, q^T) + (1 - \alpha)\, \text{CE}(q^1, y), \qquad
\text{KL}(p \,\|\, q) = \sum_k p_k \log \frac{p_k}{q_k}, \quad p^T = \text{softmax}(\text{logits} / T)$$

KL is **summed over the classes**, and both terms are means over the rows. The labels see the student at temperature 1.

**Task.** Write `distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5)`. No gradient
reaches the teacher, also if its logits require one. PyTorch's own functions are allowed, and so is your
`cross_entropy`.
"""


# %%
def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0, alpha: float = 0.5
) -> Tensor:
    """A scalar, the mean over the batch; both logits are `(batch, classes)`, `labels` is `(batch,)`, int64.

    `alpha` is the share of the teacher.
    """
    ### BEGIN SOLUTION
    teacher = (teacher_logits.detach() / temperature).log_softmax(-1)
    student = (student_logits / temperature).log_softmax(-1)
    soft = (teacher.exp() * (teacher - student)).sum(-1).mean()
    return alpha * temperature**2 * soft + (1 - alpha) * cross_entropy(student_logits, labels)
    ### END SOLUTION


# %% tags=["demo"]
teacher, student = torch.tensor([[6.0, 3.0, -1.0]]), torch.zeros(1, 3, requires_grad=True)
for temperature in (1.0, 4.0, 16.0):
    loss = distillation_loss(student, teacher, torch.tensor([0]), temperature, alpha=1.0)
    (push,) = torch.autograd.grad(loss, student)
    softened = [round(p, 3) for p in (teacher / temperature).softmax(-1)[0].tolist()]
    print(f"T = {temperature:4}: teacher {softened}, push {[round(-g, 2) for g in push[0].tolist()]}")

# %% [markdown]
"""
**What you should see.** The softer the teacher, the more it tells apart what is *not* true: at 1 the second and third
class are 0.047 and 0.001, at 4 they are 0.287 and 0.106. The push on the student keeps its order of magnitude: from
(0.62, −0.29, −0.33) at 1 to (1.13, 0.03, −1.16) at 16, which is nearly the teacher's logits, centred and divided by the
number of classes. Without T² it would have shrunk to (0.0044, 0.0001, −0.0045).
"""

# %%
check("distillation_loss")

# %% [markdown] tags=["explanation"]
"""
Both logarithms come from `log_softmax`, so a probability of zero meets a finite logarithm and not `0 · −inf`.
`F.kl_div` does the same if it is called with care: the student's *log*-probabilities come first, and
`reduction="batchmean"` is the one that agrees with the formula; its default `"mean"` also divides by the number of
classes. `detach` on the teacher costs nothing where the teacher ran under `no_grad`, and saves the day where it did
not.
"""

# %% [markdown]
r"""
## 4 · InfoNCE: find your partner

No labels at all, only pairs: a picture and its caption, two views of one scene. In a batch of $n$ pairs, each left one
is asked which of the $n$ right ones is its partner, and each right one which of the left. That is a classification with
$n$ classes, whose logits are cosine similarities **divided** by a temperature:

$$s_{ij} = \frac{\cos(a_i, b_j)}{\tau}, \qquad
\text{loss} = \frac12 \big(\text{CE}(s, \text{diagonal}) + \text{CE}(s^\top, \text{diagonal})\big)$$

with both cross-entropies as means over the rows. This is how CLIP was trained.

**Task.** Write `info_nce(a, b, temperature=0.07)`; row `i` of `a` and row `i` of `b` are partners. The rows come **as
they are**, not normalised; the cosine of a row of zeros with anything is 0, and gradients are finite there, too.
`temperature` may be a tensor without axes that learns: let its gradient through.
"""


# %%
def info_nce(a: Tensor, b: Tensor, temperature: float | Tensor = 0.07) -> Tensor:
    """Symmetric InfoNCE of partners `a` and `b`, both `(n, d)`: a scalar."""
    ### BEGIN SOLUTION
    similarity = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature
    partner = torch.arange(len(a), device=a.device)
    return (cross_entropy(similarity, partner) + cross_entropy(similarity.T, partner)) / 2
    ### END SOLUTION


# %% [markdown]
"""
Try it on real pairs: the upper and the lower half of handwritten digits, 297 of them unseen. Two small networks, one
for each half, and no label anywhere.
"""

# %% tags=["demo"]
pictures = digits().images.flatten(1).float()[torch.randperm(1797)] / 16
upper, lower = pictures[:, :32], pictures[:, 32:]
for temperature in (1.0, 0.07):
    torch.manual_seed(0)
    left, right = (nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 32)) for _ in range(2))
    optimizer = torch.optim.AdamW([*left.parameters(), *right.parameters()], lr=3e-3)
    for _ in range(40):
        for rows in torch.randperm(1500).split(250):
            optimizer.zero_grad()
            info_nce(left(upper[rows]), right(lower[rows]), temperature).backward()
            optimizer.step()
    with torch.no_grad():
        found = F.normalize(left(upper[1500:]), dim=-1) @ F.normalize(right(lower[1500:]), dim=-1).T
    ranks = (found > found.diagonal()[:, None]).sum(1)
    print(f"temperature {temperature}: its own other half comes first for {(ranks == 0).float().mean():.0%}, ", end="")
    print(f"among the first ten for {(ranks < 10).float().mean():.0%}")

# %% [markdown]
"""
**What you should see.** About a fifth with temperature 1, and about a third with 0.07; guessing would give 0.3 %. A
cosine lies between −1 and 1, and with a temperature of 1 the softmax over 250 candidates can never be sure: it goes on
pulling at pairs that are long right.
"""

# %%
check("info_nce")

# %% [markdown] tags=["explanation"]
"""
The target of row `i` is class `i`, so the whole loss is two calls of cross-entropy. The transpose asks the other way
round; one direction alone lets many left rows share one favourite on the right. `F.normalize` divides by at least 10⁻¹²
and so survives a row of zeros. CLIP learns the logarithm of 1/τ and clips it at 100.
"""

# %% [markdown]
r"""
## 5 · Triplets that are worth the trouble

A triplet is an anchor, a positive of the same class, and a negative of another. The loss wants the negative to be
further away than the positive, by a margin $m$. Most triplets fulfil that after an hour of training and teach nothing,
and the very hardest negatives are often wrong labels, and pull everything into one point. FaceNet's answer
(Schroff et al., 2015) is to mine **semi-hard** negatives in each batch, those further than the positive, but not by
the margin:

$$d(a, p) < d(a, n) < d(a, p) + m, \qquad \text{loss} = \text{mean over the triplets of } d(a, p) - d(a, n) + m$$

with Euclidean distances $d$, not squared, and both inequalities strict.

**Task.** Two functions.

1. `semi_hard(distances, labels, margin)`: for **every ordered pair** of an anchor and a positive (two different rows
   with the same label) the **nearest** of its semi-hard negatives. A pair without one is left out. Returns an int64
   tensor `(triplets, 3)` with the rows of anchor, positive and negative, in any order of triplets. No Python loop over
   rows is needed.
2. `triplet_loss(embeddings, labels, margin)`: the loss over these triplets, with the distances of the embeddings as
   they are. If there is no triplet it is 0, and `backward` still works: all gradients are zero. Rows that coincide
   give finite gradients.
"""


# %%
def semi_hard(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Triplets `(triplets, 3)` of row numbers, for `distances` `(n, n)` and `labels` `(n,)`."""
    ### BEGIN SOLUTION
    same = labels[:, None] == labels
    anchors, positives = (same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)).nonzero().T
    to_positive, to_others = distances[anchors, positives][:, None], distances[anchors]
    fits = ~same[anchors] & (to_others > to_positive) & (to_others < to_positive + margin)
    negatives = to_others.masked_fill(~fits, torch.inf).argmin(1)
    return torch.stack([anchors, positives, negatives], dim=1)[fits.any(1)]
    ### END SOLUTION


def triplet_loss(embeddings: Tensor, labels: Tensor, margin: float = 0.2) -> Tensor:
    """The mean triplet loss over semi-hard triplets of `embeddings` `(n, d)`; a scalar, 0 if there are none."""
    ### BEGIN SOLUTION
    distances = (embeddings[:, None] - embeddings).norm(dim=-1)
    a, p, n = semi_hard(distances.detach(), labels, margin).T
    return (distances[a, p] - distances[a, n] + margin).sum() / max(len(a), 1)
    ### END SOLUTION


# %% tags=["demo"]
line, classes = torch.tensor([[0.0], [1.0], [1.5], [4.0]]), torch.tensor([0, 0, 1, 1])
print(semi_hard(torch.cdist(line, line), classes, margin=1.0))
print(triplet_loss(line, classes, margin=1.0))

# %% [markdown]
"""
**What you should see.** Two triplets, (0, 1, 2) and (3, 2, 1), and a loss of 0.5. From row 1, the nearest negative is
at 0.5, nearer than the positive: too hard. The other is at 3, beyond the margin: too easy. So that pair is left out.
"""

# %%
check("semi_hard")

# %% [markdown] tags=["explanation"]
"""
Everything is a mask over `(pairs, n)`: what does not fit is put at infinity, and `argmin` finds the nearest of the
rest. Mining is a choice, not a function to differentiate, so it sees detached distances. Between semi-hard triplets no
`relu` is needed, since each loss lies strictly between 0 and the margin. `norm` has the gradient 0 at 0 by convention;
`square().sum().sqrt()` would give NaN there, on the diagonal already, although the diagonal is never chosen: infinity
times zero. Dividing the empty sum by 1 keeps the graph, so a batch without triplets needs no special case.
"""

# %% [markdown]
r"""
## 6 · CTC: all alignments at once

A recording has hundreds of steps, its transcript ten letters, and nobody says which step belongs to which letter.
*Connectionist temporal classification* (Graves et al., 2006) lets the network name a class at every step, or say
*blank*, and defines how such a **path** reads: **first merge repeats, then drop the blanks**. With `–` for blank,
`aa–a` reads "aa", and `aaaa` reads "a": only a blank between two equal letters keeps them apart. The probability of a
target is the sum over *all* paths that read as the target, and the loss its negative logarithm.

There are too many paths to list, but they share beginnings. Put blanks around all labels of the target: $\ell' =
(\text{–}, \ell_1, \text{–}, \ell_2, \text{–}, …)$, and let $\alpha_t(s)$ be the probability of all beginnings of paths
that are at position $s$ of $\ell'$ after step $t$:

$$\alpha_t(s) = \big(\alpha_{t-1}(s) + \alpha_{t-1}(s-1) + [\ell'_s \ne \text{– and } \ell'_s \ne \ell'_{s-2}]\,
\alpha_{t-1}(s-2)\big)\; p_t(\ell'_s)$$

A path begins at one of the first two positions and ends at one of the last two **of its own target**. Probabilities of
hundreds of steps underflow, so compute with logarithms.

**Task.** Two functions.

1. `ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean")`:
   - `logits` `(batch, time, classes)`; the softmax is part of the loss. Steps from `input_lengths` on do not exist:
     their gradient is zero. What stands in `targets` beyond a target's length is ignored. A target may be empty.
   - An input is **too short** if it has fewer steps than its target has labels, plus one for each label that equals the
     one before. No path reads as this target, and the loss of this row is infinite; with `zero_infinity=True` loss and
     gradients of this row are 0. Other rows of the batch do not suffer.
   - `"mean"` divides **each loss by the length of its target** (by 1 if it is empty) and then takes the mean over the
     batch; `"none"` and `"sum"` divide by nothing.
2. `collapse(path, blank=0)`: how a path reads, as a list. It turns the network's most probable path into text.

Do without `F.ctc_loss`. A loop over time is right. A trap: `logsumexp` of nothing but −∞ is −∞, and its gradient
NaN, so represent the logarithm of zero by `NEVER`.
"""

# %%
NEVER = -1e30  # in place of log 0


# %%
def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """CTC loss of `logits` `(batch, time, classes)` for `targets` `(batch, most)`, int64, `most` at least 1.

    Lengths are int64, `(batch,)`; those of inputs are at least 1. `(batch,)` for "none", else a scalar.
    """
    ### BEGIN SOLUTION
    batch, time, _ = logits.shape
    labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
    labels[:, 1::2] = targets
    may_skip = F.pad(labels[:, 2:] != labels[:, :-2], (2, 0))  # two blanks are equal, too
    log_p = logits.log_softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))

    alpha = F.pad(log_p[:, 0, :2], (0, labels.shape[1] - 2), value=NEVER)
    for t in range(1, time):
        step, skip = F.pad(alpha, (1, -1), value=NEVER), F.pad(alpha, (2, -2), value=NEVER)
        arrived = torch.stack([alpha, step, skip.masked_fill(~may_skip, NEVER)]).logsumexp(0)
        alpha = torch.where((t < input_lengths)[:, None], arrived + log_p[:, t], alpha)

    last = 2 * target_lengths[:, None]
    position = torch.arange(labels.shape[1], device=logits.device)
    at_the_end = (position == last) | (position == last - 1)
    losses = -alpha.masked_fill(~at_the_end, NEVER).logsumexp(1)
    losses = losses.masked_fill(losses > -NEVER / 2, 0.0 if zero_infinity else torch.inf)
    return reduced(losses / target_lengths.clamp(min=1) if reduction == "mean" else losses, reduction)
    ### END SOLUTION


def collapse(path: Sequence[int], blank: int = 0) -> list[int]:
    """How a path of classes reads."""
    ### BEGIN SOLUTION
    return [label for label, _ in itertools.groupby(path) if label != blank]
    ### END SOLUTION


# %% [markdown]
"""
Use it: rows of two to five handwritten digits, side by side with random gaps. The targets say which digits stand there,
and in which order, but not where. The network sees stripes and names a class for every second column.
"""


# %%
def rows_of_digits(chosen: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures `(n, 8, 52)` of digits in a row, the classes `(n, 5)` of these digits from 1 up, and how many."""
    source, generator = digits(), torch.Generator().manual_seed(n)
    pictures, labels = torch.zeros(n, 8, 52), torch.zeros(n, 5, dtype=torch.int64)
    lengths = torch.randint(2, 6, (n,), generator=generator)
    for i, length in enumerate(lengths):
        column = 0
        for j, k in enumerate(chosen[torch.randint(len(chosen), (int(length),), generator=generator)]):
            column += int(torch.randint(3, (), generator=generator))
            pictures[i, :, column : column + 8] = source.images[k, 0] / 16
            labels[i, j] = source.labels[k] + 1
            column += 8
    return pictures, labels, lengths


# %% tags=["demo"]
torch.manual_seed(0)
order = torch.randperm(1797)
(rows, labels, lengths), (new_rows, new_labels, new_lengths) = (
    rows_of_digits(order[:1400], 2000), rows_of_digits(order[1400:], 300)
)  # fmt: skip
reader = nn.Sequential(
    nn.Conv1d(8, 48, 5, padding=2), nn.ReLU(), nn.Conv1d(48, 48, 5, stride=2, padding=2), nn.ReLU(),
    nn.Conv1d(48, 48, 3, padding=1), nn.ReLU(), nn.Conv1d(48, 11, 1),
)  # fmt: skip
optimizer = torch.optim.AdamW(reader.parameters(), lr=6e-3)
for step in range(1, 501):
    batch = torch.randint(2000, (32,))
    optimizer.zero_grad()
    loss = ctc_loss(reader(rows[batch]).mT, labels[batch], torch.full((32,), 26), lengths[batch])
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        paths = reader(new_rows).argmax(1).tolist()
        read = [collapse(path) for path in paths]
        right = sum(r == t[:n].tolist() for r, t, n in zip(read, new_labels, new_lengths, strict=True))
        print(f"step {step}: loss {loss:.2f}, {right / 3:.0f} % of 300 unseen rows read without a fault")

example = int((new_lengths == 5).nonzero()[0])
figure, axes = plt.subplots(figsize=(7, 1.6))
axes.imshow(new_rows[example], cmap="gray", aspect="auto")
axes.set_xticks(range(0, 52, 2), ["–" if c == 0 else str(c - 1) for c in paths[example]])
axes.set(yticks=[], title=f"read as {''.join(str(c - 1) for c in read[example])}")
plt.show()

# %% [markdown]
"""
**What you should see.** For the first hundred steps or so nothing: the network has learnt to say *blank* everywhere,
which is every CTC model's first idea. Then it breaks through, and after 500 steps it reads about nine rows of ten
without a single fault. Below the picture stands the path: each digit is a spike at a column of its own, the rest is
blank. Nobody told the network where the digits are.
"""

# %%
check("ctc_loss")

# %% [markdown] tags=["explanation"]
r"""
`F.pad(alpha, (1, -1))` shifts all positions by one: what leaves on the right is cut off, `NEVER` enters on the left.
One comparison covers both halves of the condition for a skip: from one blank to the next both labels are blank, and so
equal. `where` freezes a row's α when its input is over. A row that is too short ends with about 10³⁰, which no real
path can cost, and `masked_fill` cuts its gradient off.

About the gradient: `F.ctc_loss` takes log-probabilities, but what its backward pass returns is not their gradient. It
is $p - \text{(share of all paths that are there)}$, which is the gradient with respect to the **logits** whose
`log_softmax` they are. Behind a `log_softmax` both agree; elsewhere they do not. So compare with respect to the logits,
as the check does.
"""

# %% [markdown]
"""
## 7 · Who is decayed?

The loss is written; now who follows it, and how? Weight decay pulls every number towards zero, a little in each step.
For the entries of a matrix that is a useful opinion. For a bias, or the gain of a norm, which starts at one for a
reason, it is not. So an optimizer gets two **groups** of parameters, each with settings of its own.

**Task.** Write `parameter_groups(model, weight_decay)`. It returns a list of two dicts with the keys `"params"` (a
list) and `"weight_decay"`. The first has all parameters with **two axes or more** and the given decay, the second all
with fewer (biases, norms, scales) and a decay of 0. Parameters that do not require grad are in neither, and a parameter
that is used in two places is listed once.
"""


# %%
def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups for an optimizer: `{"params", "weight_decay"}` with decay, and the same without."""
    ### BEGIN SOLUTION
    learning = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learning if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.dim() < 2], "weight_decay": 0.0},
    ]
    ### END SOLUTION


# %% tags=["demo"]
model = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=3e-4)
for group in optimizer.param_groups:
    numbers = sum(p.numel() for p in group["params"])
    print(f"weight decay {group['weight_decay']}: {len(group['params'])} tensors, {numbers} numbers")

# %% [markdown]
"""
**What you should see.** Four tensors with 49,152 numbers are decayed, eight with 832 are not: two in a hundred numbers.
"""

# %%
check("parameter_groups")

# %% [markdown] tags=["explanation"]
"""
Counting axes is cruder than asking which module a parameter belongs to, and safer: it needs no list of all norms there
are, and holds for the scale that you invent tomorrow. Embeddings fall on the decayed side here; some leave them out.
What matters is that it is decided, and written down. `parameters()` already leaves repetitions out.
"""

# %% [markdown]
r"""
## 8 · The payoff: one coat in a hundred

Now the imbalanced problem. Among 10,000 real pictures 100 are coats; a model that never says "coat" is right for 99 %.
Accuracy is useless here. Ask two questions instead, for each threshold: of what I reported, how much was right
(**precision**)? Of what there was, how much did I report (**recall**)? A row is reported if its score is **at least**
the threshold.

**Task.** Three functions; `scores` is `(n,)`, float, `labels` is `(n,)`, 0 or 1, int64, with at least one 1.

1. `precision_recall(scores, labels)` returns `(precision, recall, thresholds)`, with one entry for **each distinct
   score**, from the highest to the lowest. Rows with equal scores are reported together, or not at all. Sorting and
   cumulative sums will do, without a loop. All three have the dtype of `scores`.
2. `average_precision(precision, recall)`: the area under the curve as a sum of steps,
   $\sum_i (R_i - R_{i-1})\, P_i$ with $R_0 = 0$; a float. (Trapezoids would flatter the model.)
3. `best_threshold(scores, labels)`: the threshold, one of the scores, with the largest $F_1 = 2PR / (P + R)$; a float.
   Where nothing reported is right, $P + R = 0$ and $F_1$ counts as 0. Of equals, the highest threshold.
"""


# %%
def precision_recall(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and thresholds for each distinct score, the highest first, in the dtype of `scores`."""
    ### BEGIN SOLUTION
    scores, order = scores.sort(descending=True)
    found = labels[order].cumsum(0).to(scores.dtype)
    reported = torch.arange(1, len(scores) + 1, device=scores.device)
    last = torch.ones_like(scores, dtype=torch.bool)
    last[:-1] = scores[:-1] != scores[1:]
    return (found / reported)[last], (found / found[-1])[last], scores[last]
    ### END SOLUTION


def average_precision(precision: Tensor, recall: Tensor) -> float:
    """The area under the steps of the curve, from the results of `precision_recall`."""
    ### BEGIN SOLUTION
    return (recall.diff(prepend=recall.new_zeros(1)) * precision).sum().item()
    ### END SOLUTION


def best_threshold(scores: Tensor, labels: Tensor) -> float:
    """The score with the largest F1 as a threshold."""
    ### BEGIN SOLUTION
    precision, recall, thresholds = precision_recall(scores, labels)
    f1 = (2 * precision * recall / (precision + recall)).nan_to_num(0.0)
    return thresholds[f1.argmax()].item()
    ### END SOLUTION


# %% [markdown]
"""
One model, a single linear layer, and three losses, all of them your focal loss: with γ = 0 and α = ½ it is (half of)
plain cross-entropy, with γ = 0 and α = 0.99 each class weighs the same in all, and γ = 2 is focal. Validation data
choose the threshold, test data judge. Each set has one coat in a hundred pictures.
"""


# %%
def split_with_rare(rare: int, share: float = 0.01) -> list[tuple[Tensor, Tensor]]:
    """Training, validation and test pictures in the proportion 1 : 1 : 3, and whether each shows the `rare` class."""
    source = clothing_or_digits()
    negatives, positives = (source.labels != rare).nonzero()[:, 0], (source.labels == rare).nonzero()[:, 0]
    unit_size = len(negatives) * 11 // 60
    few = round(unit_size * share / (1 - share))
    sets = []
    for start, parts in ((0, 1), (1, 1), (2, 3)):
        rows = torch.cat([
            negatives[start * unit_size :][: parts * unit_size], positives[start * few :][: parts * few],
        ])  # fmt: skip
        sets.append((source.images[rows].flatten(1) / 255, (source.labels[rows] == rare).long()))
    return sets


(train_x, train_y), (valid_x, valid_y), (test_x, test_y) = split_with_rare(4)


def detector(alpha: float, gamma: float, epochs: int) -> nn.Module:
    """A linear model trained by `focal_loss`."""
    torch.manual_seed(0)
    model = nn.Linear(train_x.shape[1], 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(train_x)).split(200):
            optimizer.zero_grad()
            focal_loss(model(train_x[rows])[:, 0], train_y[rows].float(), alpha, gamma).backward()
            optimizer.step()
    return model


# %% tags=["demo"]
figure, axes = plt.subplots(figsize=(7, 4))
print(f"{len(train_y)} pictures to train on, {train_y.sum()} of them rare; {len(test_y)} to test, {test_y.sum()} rare")
for (name, settings), colour, style in zip(
    {
        "cross-entropy, 10 epochs": (0.5, 0.0, 10),
        "weighted 99 : 1, 10 epochs": (0.99, 0.0, 10),
        "focal, γ = 2, α = 0.9, 10 epochs": (0.9, 2.0, 10),
        "cross-entropy, 100 epochs": (0.5, 0.0, 100),
    }.items(), COLOURS, ("-", "-", "-", "--"), strict=False
):  # fmt: skip
    model = detector(*settings)
    with torch.no_grad():
        chosen, scores = best_threshold(model(valid_x)[:, 0], valid_y), model(test_x)[:, 0]
    precision, recall, _ = precision_recall(scores, test_y)
    axes.plot(recall, precision, color=colour, linestyle=style, label=name)
    area, judged = average_precision(precision, recall), []
    for threshold in (0.0, chosen):
        reported = scores >= threshold
        hits = test_y[reported].sum().item()
        judged.append(f"{hits} right of {reported.sum()} reported")
    print(f"{name}: average precision {area:.3f}; p ≥ ½: {judged[0]}; threshold of the best F1: {judged[1]}")
axes.axhline(test_y.float().mean(), color="#797979", linewidth=1, linestyle=":", label="guessing")
axes.set(xlabel="recall", ylabel="precision", ylim=(0, 0.6), title="One coat in a hundred pictures")
axes.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** Four curves. After ten epochs plain cross-entropy has hardly noticed the coats: an average
precision of 0.02, next to 0.01 for guessing. Weighted and focal reach almost 0.2 in the same time, since they let 100
pictures push as hard as 9,900. With **ten times the epochs** cross-entropy gets there, too: it was never blind, only
slow.

The other difference does not go away with patience: what "probably" means. At p ≥ ½ the weighted model reports
thousands of pictures and finds nine coats of ten, the patient cross-entropy reports some dozens and finds fewer than
one of ten, though both rank about equally well. With the threshold from the validation data the three good models do
much the same: they find three or four coats of ten, and one report in four or five is right. So compare curves, and
choose thresholds; a loss judged at ½ is judged by accident.
"""

# %%
check("precision_recall")

# %% [markdown] tags=["explanation"]
"""
After sorting, the cumulative sum of the labels is the number of hits among the first `k`; a threshold can only lie
behind the *last* of equal scores, and one mask drops the other entries. `nan_to_num` turns 0/0 into 0: without it a
single wrong row on top gives NaN, and `argmax` takes NaN for the largest number of all.
"""

# %% [markdown]
"""
## A measured comparison

First an independent witness. `gradcheck` compares the gradient of a function with finite differences in float64: it
knows nothing of your derivation, nor of PyTorch's. Use it on every loss that you write.
"""


# %% tags=["demo"]
def witness(loss: Callable[[Tensor], Tensor], *shape: int) -> bool:
    """Whether the gradient of `loss` agrees with finite differences."""
    return torch.autograd.gradcheck(loss, torch.randn(shape, dtype=torch.float64, requires_grad=True))


y, ids = torch.tensor([0, 2, 2]), torch.tensor([0, 1, 0, 1, 1])
pair, lengths = torch.randn(3, 4, dtype=torch.float64), torch.tensor([6, 5])
print("cross-entropy", witness(lambda x: cross_entropy(x, y, smoothing=0.1), 3, 4))
print("focal", witness(lambda x: focal_loss(x, torch.eye(3, dtype=torch.float64), gamma=0.5), 3, 3))
print("distillation", witness(lambda x: distillation_loss(x, pair, y), 3, 4))
print("InfoNCE", witness(lambda x: info_nce(x, pair), 3, 4))
print("triplet", witness(lambda x: triplet_loss(x, ids, margin=5.0), 5, 3))
print("CTC", witness(lambda x: ctc_loss(x, torch.tensor([[1, 1], [2, 0]]), lengths, torch.tensor([2, 1])), 2, 6, 3))

# %% [markdown]
"""
Then your losses beside PyTorch's, forward and backward. We give a ratio of times only where it is 3 or more.
"""

# %% tags=["demo"]
logits, y = torch.randn(512, 4000, requires_grad=True), torch.randint(4000, (512,))
steps, labels = torch.randn(16, 100, 30, requires_grad=True), torch.randint(1, 30, (16, 20))
ends = torch.full((16,), 100), torch.full((16,), 20)
for name, yours, theirs in (
    (
        "cross-entropy",
        lambda: cross_entropy(logits, y, smoothing=0.1).backward(),
        lambda: F.cross_entropy(logits, y, label_smoothing=0.1).backward(),
    ),
    (
        "CTC",
        lambda: ctc_loss(steps, labels, *ends).backward(),
        lambda: F.ctc_loss(steps.log_softmax(-1).transpose(0, 1), labels, *ends).backward(),
    ),
):
    logits.grad, steps.grad = torch.zeros_like(logits), torch.zeros_like(steps)
    print(name, compare(yours, theirs))

# %% [markdown]
"""
For cross-entropy both compute a `log_softmax`, and that is most of the work; yours holds a third more, because the
target `q` is a tensor as large as the logits. Gathering the true class and adding the mean over all classes would need
no `q`. The CTC loop starts a dozen small operations for each of 100 steps, and autograd keeps what each of them needs
for the way back. PyTorch's runs the whole recursion in one kernel, and gets the gradient from a second recursion that
starts at the end: α times β is the probability of all paths through a place.
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

- **The loss is the largest tensor.** A language model with 128,000 words and 8,192 tokens in a batch has a billion
  logits; your `q` would be as large again. Fused kernels compute cross-entropy in chunks, forward and backward at once,
  and never hold all logits.
- **Contrastive batches cross machines.** More candidates make a better InfoNCE, so embeddings are gathered from all
  ranks, thirty thousand pairs and more. Each rank computes its own rows, and lets the gradient flow to its own
  embeddings only.
- **A sigmoid for every pair** (SigLIP) replaces the softmax over the batch, needs no normalisation across ranks, and is
  as good.
- **Distillation is how small models are made.** For a vocabulary of 128,000 one stores the teacher's fifty largest
  logits for each token, once, and trains many students from them.
- **CTC and its kin** (transducers) still do much of the dictation on phones: they stream, where attention over the
  whole recording waits for its end.
- **Thresholds are a product decision.** Recall at a fixed number of alerts a day is what the people who read the alerts
  feel. The curve is drawn anew every week, because the share of positives moves.
"""

# %% [markdown]
r"""
## Side quests

### Side quest A · Huber

The squared error believes every outlier, the absolute error has a kink where it matters. Huber's loss is the first
near zero, and the second far away.

$$\text{loss} = \begin{cases} \tfrac12 r^2 & \text{if } |r| \le \delta \\ \delta\,(|r| - \tfrac12 \delta) & \text{else}
\end{cases}, \qquad r = \text{prediction} - \text{target}$$

**Task.** Write `huber(prediction, target, delta=1.0, reduction="mean")` for tensors of one shape. It is finite, in
value and gradient, also where $r^2$ is not: take residuals of $10^{30}$ in float32. Do without `F.huber_loss` and
`F.smooth_l1_loss`.
"""


# %%
def huber(prediction: Tensor, target: Tensor, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Huber's loss of `prediction` and `target`, of the same shape, reduced as said."""
    ### BEGIN SOLUTION
    size = (prediction - target).abs()
    near = size.clamp(max=delta)
    return reduced(near * (size - near / 2), reduction)
    ### END SOLUTION


# %% tags=["demo"]
print(huber(torch.tensor([0.0, 0.5, 1.0, 3.0, 1e30]), torch.zeros(5), reduction="none"))

# %% [markdown]
"""
**What you should see.** 0, 0.125, 0.5, 2.5 and 10³⁰.
"""

# %%
check("huber")

# %% [markdown] tags=["explanation"]
r"""
With $m = \min(|r|, \delta)$ both cases are the one expression $m\,(|r| - m/2)$: no branch, and nothing that could
overflow. With `torch.where` both branches are computed; the square of 10³⁰ is infinite, and although it is not chosen,
an infinite branch is one careless factor away from `0 · inf` on the way back.
"""

# %% [markdown]
r"""
### Side quest B · Several losses, and who sets their weights

A depth in metres and a class in nats: how much of each? Kendall, Gal and Cipolla (2018) let the model learn it. Each
task has a variance $\sigma_i^2$, which divides its loss, and a price for claiming to be uncertain. With
$s_i = \log \sigma_i^2$, so that no variance can become negative:

$$\text{loss} = \sum_i \tfrac12 e^{-s_i} L_i + \tfrac12 s_i$$

**Task.** Write the module `UncertaintyWeighting(n)` with the one parameter `log_variance`, `(n,)`, zeros at first. Its
`forward(losses)` takes the losses of the tasks, `(n,)`, and returns the scalar. Gradients flow to both.
"""


# %%
class UncertaintyWeighting(nn.Module):
    """Weighs `n` losses `(n,)` by learned variances; a scalar."""

    def __init__(self, n: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.log_variance = nn.Parameter(torch.zeros(n))
        ### END SOLUTION

    def forward(self, losses: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        return (losses * (-self.log_variance).exp() + self.log_variance).sum() / 2
        ### END SOLUTION


# %% tags=["demo"]
weighting = UncertaintyWeighting(2)
optimizer = torch.optim.Adam(weighting.parameters(), lr=0.1)
for _ in range(500):
    optimizer.zero_grad()
    weighting(torch.tensor([50.0, 0.02])).backward()
    optimizer.step()
print("variances", [round(v, 3) for v in weighting.log_variance.exp().tolist()])

# %% [markdown]
"""
**What you should see.** Variances of 50 and 0.02: at the optimum each task is divided by its own loss, so that all
count alike.
"""

# %%
check("uncertainty_weighting")

# %% [markdown] tags=["explanation"]
"""
The logarithm is what is learned: any real number is allowed, and the exponential keeps the variance positive without a
constraint. Setting the derivative to zero gives $e^{s_i} = L_i$, which the demonstration confirms. The term $s_i / 2$
is what keeps the model from declaring everything uncertain.
"""

# %% [markdown]
r"""
### Side quest C · Rates by layer

When a trained network is tuned, its early layers know more that is general, and should move less.

**Task.** Write `layerwise_groups(layers, lr, decay)` for the layers of a network, input side first. Each layer with
parameters that require grad makes one group `{"params": [...], "lr": ...}`, in the order of the layers. The last of
these has the rate `lr`, the one before it `lr * decay`, then `lr * decay**2`, and so on. A layer without such
parameters (an activation, a frozen one) makes no group and does not count.
"""


# %%
def layerwise_groups(layers: Sequence[nn.Module], lr: float, decay: float) -> list[dict]:
    """One group `{"params", "lr"}` for each layer that learns, with rates that grow towards the output."""
    ### BEGIN SOLUTION
    learning = [[p for p in layer.parameters() if p.requires_grad] for layer in layers]
    learning = [params for params in learning if params]
    return [{"params": params, "lr": lr * decay ** (len(learning) - 1 - i)} for i, params in enumerate(learning)]
    ### END SOLUTION


# %% tags=["demo"]
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
print([round(group["lr"], 6) for group in layerwise_groups(list(model), 1e-3, 0.5)])

# %% [markdown]
"""
**What you should see.** `[0.00025, 0.0005, 0.001]`.
"""

# %%
check("layerwise_groups")

# %% [markdown] tags=["explanation"]
"""
Dropping the empty lists first makes the exponent a matter of counting from the end. A schedule multiplies the rates of
all groups alike, so the proportions stay.
"""

# %% [markdown]
r"""
### Side quest D · A slow copy

The last steps of training walk around the minimum. A copy that follows slowly, an *exponential moving average* of the
weights, stands near the middle of the walk, and is what one evaluates and ships.

**Task.** Write the class `EMA(model, decay=0.999)`. Its attribute `module` is a copy of the model as it is at the
start; the copy is in evaluation mode, requires no grad, and shares no memory with the model. `update(model)` moves
every parameter of the copy,

$$\text{average} \leftarrow \text{decay} \cdot \text{average} + (1 - \text{decay}) \cdot \text{parameter}$$

in place and off the tape, and **copies** every buffer as it is (running statistics are averages already, and counters
are not to be averaged at all). The model itself is not changed.
"""


# %%
class EMA:
    """A slowly following copy of a model, in `module`."""

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        ### BEGIN SOLUTION
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        ### END SOLUTION

    def update(self, model: nn.Module) -> None:
        """Follow `model` by one step."""
        ### BEGIN SOLUTION
        with torch.no_grad():
            for average, parameter in zip(self.module.parameters(), model.parameters(), strict=True):
                average.lerp_(parameter, 1 - self.decay)
            for ours, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
                ours.copy_(theirs)
        ### END SOLUTION


# %% tags=["demo"]
torch.manual_seed(0)
weight = nn.Linear(1, 1, bias=False)
average, distances = EMA(weight, decay=0.98), []
optimizer = torch.optim.SGD(weight.parameters(), lr=0.5)
for _ in range(500):
    optimizer.zero_grad()
    (weight.weight - 3 + torch.randn(())).square().sum().mul(0.5).backward()
    optimizer.step()
    average.update(weight)
    distances.append((abs(weight.weight.item() - 3), abs(average.module.weight.item() - 3)))
walk, slow = torch.tensor(distances)[200:].mean(0)
print(f"mean distance from the minimum: the weight {walk:.2f}, its average {slow:.2f}")

# %% [markdown]
"""
**What you should see.** Noisy gradients keep the weight at a distance of 0.40 on average, however long it walks; its
average stays within 0.08.
"""

# %%
check("ema")

# %% [markdown] tags=["explanation"]
"""
`parameters()` yields a shared parameter once, and `deepcopy` keeps the sharing, so a tied weight is averaged once; over
the two `state_dict`s it would be moved twice. The first average is the model itself, so no correction for a start at
zero is needed. A decay of 0.999 looks back about a thousand steps: in a short training choose it smaller.
"""

# %% [markdown]
r"""
### Side quest E · Sharpness-aware steps

A minimum in a wide valley is said to generalise better than one in a ravine. SAM (Foret et al., 2021) climbs, from
where it is, to the worst point within a radius $\rho$, takes the gradient **there**, and applies it **here**:

$$\epsilon = \rho\, \frac{g}{\lVert g \rVert}, \quad g = \nabla L(w), \qquad
w \leftarrow \text{the optimizer's step from } w \text{ with the gradient } \nabla L(w + \epsilon)$$

The norm is taken over **all parameters together**.

**Task.** Write `sam_step(optimizer, loss_of, rho=0.05)`. `loss_of()` computes the loss anew, as a tensor; it is called
twice, and gradients are fresh each time. The parameters are those of the optimizer's groups; one without a gradient is
not moved by the climb. Between the two, the weights return **exactly** to where they were. A gradient of zero gives no
NaN. Returns the first loss, detached.
"""


# %%
def sam_step(optimizer: torch.optim.Optimizer, loss_of: Callable[[], Tensor], rho: float = 0.05) -> Tensor:
    """One sharpness-aware step of `optimizer`; the loss before it."""
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    loss = loss_of()
    loss.backward()
    moved = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    with torch.no_grad():
        origin = [p.clone() for p in moved]
        norm = torch.stack([p.grad.norm() for p in moved]).norm()
        for p in moved:
            p.add_(rho * p.grad / (norm + 1e-12))
    optimizer.zero_grad()
    loss_of().backward()
    with torch.no_grad():
        for p, start in zip(moved, origin, strict=True):
            p.copy_(start)
    optimizer.step()
    return loss.detach()
    ### END SOLUTION


# %% tags=["demo"]
order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
x, y = digits().images[order].flatten(1) / 16, digits().labels[order]
for rho in (0.0, 0.2):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        for rows in torch.randperm(300).split(30):
            sam_step(optimizer, lambda m=model, rows=rows: F.cross_entropy(m(x[rows]), y[rows]), rho)
    accuracy = (model(x[300:]).argmax(1) == y[300:]).float().mean()
    here = F.cross_entropy(model(x[:300]), y[:300])
    gradients = torch.autograd.grad(here, list(model.parameters()))
    norm = torch.stack([g.norm() for g in gradients]).norm()
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradients, strict=True):
            p.add_(0.5 * g / norm)
        there = F.cross_entropy(model(x[:300]), y[:300])
    print(f"ρ = {rho}: loss {here:.4f}, half a unit uphill {there:.4f}; {accuracy:.1%} of unseen digits right")

# %% [markdown]
"""
**What you should see.** Both fit 300 digits to a loss of almost zero. Half a unit uphill from there, plain SGD's loss
is 0.026 and SAM's 0.012; over six splits we measured 0.12 and 0.014 on average. So the valley is wider. Is the model
better? Here it is right for 95.2 % of unseen digits instead of 94.4 %, over six splits for 94.7 % instead of 94.2 %,
which is less than the spread between the splits, and costs twice the gradients.
"""

# %%
check("sam_step")

# %% [markdown] tags=["explanation"]
"""
The norm of the norms is the norm over everything. Saving copies is what makes the return exact: adding and subtracting
the same number is not the identity in floating point, and the error would add up over a million steps. With dropout or
batch norm the two calls see different noise and update statistics twice; implementations switch that off for one of
them.
"""

# %% [markdown]
"""
## Recap

You have written the losses behind classifiers, detectors, small students, CLIP and speech recognition, each equal to
its formula in value and gradient and finite where it hurts; and you have seen what a loss changes in the end: how fast
something rare is learned, and where the threshold belongs.

**Next** comes Lab 5: the same training on several processes, which must agree to the last digit on whose gradient it
is.
"""
