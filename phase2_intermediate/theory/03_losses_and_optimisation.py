# %% [markdown]
"""
# Losses and optimisation strategies

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two, on any machine.*

The loss is where you tell the model what you want. Everything else, architecture, data, optimizer, decides how well it
gets there. So a loss deserves the care of a contract: what exactly is rewarded, what does it cost to be wrong and sure,
who counts how much? Most "the model does not learn the rare class" is a model that does exactly what its loss asks.
"""

# %%
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.nn import functional as F

from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## Read a loss by its gradient

Cross-entropy, for a class with probability $p$ after a softmax, is $-\log p$. Its value is rarely what matters; what
trains the model is the gradient, and that is strikingly simple:

$$\frac{\partial\,\text{loss}}{\partial\,\text{logits}} = p - \text{target}$$

*Softmax minus one-hot.* A prediction that is off by 0.9 pushes with 0.9, however sure it was; a right and sure one
pushes with nothing. Compare the squared error of a probability, whose gradient has a further factor $p(1-p)$: it goes
to zero for a prediction that is wrong *and sure*, just where help is needed most.
"""

# %%
logits = torch.tensor([[8.0, 0.0, 0.0]], requires_grad=True)  # sure of class 0
target = torch.tensor([1])  # and wrong
F.cross_entropy(logits, target).backward()
print("cross-entropy pushes with", [round(g, 4) for g in logits.grad[0].tolist()])
logits.grad = None
(logits.softmax(-1) - F.one_hot(target, 3)).square().sum().backward()
print("squared error pushes with", [round(g, 4) for g in logits.grad[0].tolist()])

# %% [markdown]
r"""
Three changes to cross-entropy cover most needs. Each is best understood by what it does to that push.

- **Class weights** multiply it: an example of a rare class counts ten times. Mind the mean: PyTorch divides by the
  sum of the *weights* in the batch, not by the number of examples.
- **Label smoothing** moves the target: from one-hot to $(1-\varepsilon)\,\text{onehot} + \varepsilon/K$. The push ends,
  and turns round, when the model is surer than $1-\varepsilon+\varepsilon/K$. It keeps logits finite, and probabilities
  honest.
- **Focal loss** weighs each example by how wrong it is: $-\alpha_t\,(1-p_t)^\gamma \log p_t$. With $\gamma = 2$, an
  example at $p_t = 0.9$ counts a hundredth. Made for detectors, where for each object there are a thousand patches of
  easy background.
"""

# %%
p = torch.linspace(0.001, 0.999, 400).logit().requires_grad_()
probability = p.sigmoid()
losses = {
    "cross-entropy": -F.logsigmoid(p),
    "label smoothing, ε = 0.1": -0.95 * F.logsigmoid(p) - 0.05 * F.logsigmoid(-p),
    "focal, γ = 2": -((1 - probability) ** 2) * F.logsigmoid(p),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
for (name, loss), colour, style in zip(losses.items(), COLOURS, ("-", "--", "-."), strict=False):
    (gradient,) = torch.autograd.grad(loss.sum(), p, retain_graph=True)
    left.plot(probability.detach(), loss.detach(), color=colour, linestyle=style, label=name)
    right.plot(probability.detach(), -gradient, color=colour, linestyle=style)
left.set(xlabel="probability of the true class", ylabel="loss", ylim=(0, 4), title="What it says")
right.axhline(0, color="#797979", linewidth=0.8)
right.set(xlabel="probability of the true class", ylabel="push on its logit", title="What it does")
left.legend()
plt.show()

# %% [markdown]
r"""
The right half is the one to remember. Focal loss lets go early; smoothing pulls back at the end.

## Losses that compare

Where there are no classes, or too many, one learns *distances*: faces, products, a picture and its caption. The
**triplet loss** wants an anchor nearer to its positive than to a negative, by a margin. Most triplets are too easy to
teach anything, and the very hardest are often wrong labels; *semi-hard* ones, further than the positive but within
the margin, are mined in each batch.

**InfoNCE** needs no mining: every other example of the batch is a negative, and the loss is the cross-entropy of
finding the right partner among all. Logits are cosine similarities, *divided by a temperature* of about 0.07. The
smaller it is, the more the nearest negatives count. With pairs, both directions are asked: each picture its caption,
each caption its picture.
"""

# %%
images, captions = F.normalize(torch.randn(2, 256, 32), dim=-1).unbind(0)
captions = F.normalize(images + 0.6 * captions, dim=-1)  # partners are similar, not equal
similarity, partner = images @ captions.T, torch.arange(256)
print(f"the right partner is the nearest for {(similarity.argmax(1) == partner).float().mean():.0%}")
for temperature in (1.0, 0.3, 0.07):
    logits = similarity / temperature
    loss = (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2
    print(f"temperature {temperature:4}: loss {loss:.2f}; chance would be {torch.tensor(256.0).log():.2f}")

# %% [markdown]
"""
At temperature 1 the loss is not far from that of guessing, although every partner is found: cosines between −1 and 1
cannot make a sure softmax over 256. The temperature is not decoration.

**Distillation** replaces the labels by a teacher's probabilities, softened by a temperature on both sides: what the
teacher thinks of the *wrong* classes is the lesson. Multiply by the temperature squared, or its gradients shrink beside
the other term's. **CTC** aligns a long input with a short label without being told where: it sums over all alignments,
by dynamic programming. Lab 4 builds both.

## From loss to training: who is decayed, how fast who moves

An optimizer's settings need not be the same for all parameters. Four strategies earn their keep:

1. **Parameter groups.** Weight decay pulls towards zero. For matrices that is regularisation; for biases and the
   gains of norms it is a mistake of dimension: they are few, and zero is not where they should be.
2. **Layer-wise rates.** When a trained network is tuned, early layers know more and should move less: multiply the rate
   by, say, 0.8 for each layer further from the output.
3. **An average of weights (EMA).** Keep a slowly following copy and evaluate that. It is where the noise of the last
   steps averages out; nearly free, and often worth as much as halving the rate.
4. **Sharpness-aware steps (SAM).** Climb to the worst point nearby, take the gradient *there*, step from here. Twice
   the cost; finds flatter minima.
"""

# %%
model = nn.Sequential(nn.Embedding(1000, 64), nn.LayerNorm(64), nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))
decayed = [p for p in model.parameters() if p.dim() >= 2]
free = [p for p in model.parameters() if p.dim() < 2]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=3e-4)
for group in optimizer.param_groups:
    numbers = sum(p.numel() for p in group["params"])
    print(f"decay {group['weight_decay']}: {len(group['params'])} tensors, {numbers:,} numbers")

# %% [markdown]
"""
"Two dimensions or more" is the usual test: it takes biases and norms at one stroke, and leaves open what to do with
embeddings (opinions differ; say which you follow).

## Three traps

1. **Softmax twice.** `F.cross_entropy` wants *logits*. Given probabilities it does not complain; it trains, slowly,
   to a worse model.
2. **A mean over what?** Tokens, sentences, batches: with padding, or with batches of unequal size, these differ. Name
   the reduction, and where it matters sum and divide yourself.
3. **A threshold left at one half.** A loss with class weights, or focal loss, changes what the probabilities *mean*.
   Look at the precision–recall curve and choose the threshold on validation data; do not compare accuracies at 0.5.
"""

# %%
logits, labels = 3 * torch.randn(1000, 10), torch.randint(10, (1000,))
logits[torch.arange(1000), labels] += 6
once, twice = F.cross_entropy(logits, labels), F.cross_entropy(logits.softmax(-1), labels)
print(f"the same predictions, {(logits.argmax(1) == labels).float().mean():.0%} right: "
      f"cross-entropy of logits {once:.2f}, of probabilities {twice:.2f}")  # fmt: skip

# %% [markdown]
r"""
With probabilities for logits, the loss of ten classes cannot fall below $\log(1 + 9/e) = 1.46$.

## At scale

- **The loss is the largest tensor.** With a vocabulary of 128,000 and 8,192 tokens, logits in 32 bits are 4 GB, and
  their gradient 4 more. Fused kernels compute the cross-entropy in chunks and never hold all of them.
- **Contrastive batches want to be huge**: more negatives. Embeddings are gathered from all ranks, and each rank
  computes its own rows.
- **Spikes.** In long runs the loss jumps now and then. Clipping by norm, a small penalty on the logits' log-sum
  (*z-loss*), and skipping batches whose gradient is out of line keep a run alive.
- **Precision.** Log-softmax and the sum over tokens stay in 32 bits, whatever the rest is in.

## References

1. Szegedy et al., *Rethinking the Inception Architecture for Computer Vision*, CVPR, 2016 (label smoothing).
2. Lin, Goyal, Girshick, He and Dollár, *Focal Loss for Dense Object Detection*, ICCV, 2017.
3. van den Oord, Li and Vinyals, *Representation Learning with Contrastive Predictive Coding*, 2018 (InfoNCE).
4. Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network*, 2015.
5. Foret, Kleiner, Mobahi and Neyshabur, *Sharpness-Aware Minimization*, ICLR, 2021.

## Test yourself

Answer aloud before you unfold.

**1.** One example in a hundred is positive. You weigh positives by 99. What does the model's 0.5 now mean?

<details><summary>Answer</summary>

It is trained as if both classes were equally frequent: odds of one to one under weights of 99 to 1 are true odds of 1
to
99. Its 0.5 is a true probability of about 0.01. Ranking, and so the precision–recall curve, may be unchanged;
    thresholds and calibration are not.

</details>

**2.** With label smoothing of 0.1 over 10 classes, the training loss does not fall below 0.5. Is something wrong?

<details><summary>Answer</summary>

No. The best prediction is the smoothed target itself, 0.91 and nine times 0.01, and its loss is the target's entropy:
−0.91 · log 0.91 − 9 · 0.01 · log 0.01 = 0.50. Compare accuracies, or the loss without smoothing.

</details>

**3.** Why is the distillation term multiplied by the temperature squared?

<details><summary>Answer</summary>

The logits are divided by T, which divides the gradient by T; and the softened probabilities of student and teacher
differ by about 1/T less, which divides it again. Without the factor, a higher temperature would quietly turn the term
off.

</details>

Ready? Mark the brief as read, then open Lab 4.
"""

# %%
from grading import mark_as_read

mark_as_read("phase2/theory3")
