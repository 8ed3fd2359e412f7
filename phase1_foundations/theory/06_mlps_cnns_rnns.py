# %% [markdown]
"""
# MLPs, CNNs and RNNs: which bias fits what

*Theory brief, 15 minutes. Run the cells as you read; the longest takes some ten seconds.*

A network with one wide hidden layer can approximate any continuous function, and that theorem has never helped anyone
choose an architecture. With unlimited data everything works. With the data you have, what matters is what a network
finds *easy*: which functions it prefers before it has seen a single example. That preference is its **inductive
bias**, and choosing an architecture means choosing a bias that is true of your data.
"""

# %%
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.data import mnist
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## Three answers to one question

The question is: *what may be shared?*

**An MLP shares nothing.** Every output of a layer has its own weight for every input. It assumes nothing about how
inputs are arranged: permute the pixels of all pictures in the same way, train again, and it learns exactly as well.
That is right for a table of unrelated measurements, and a waste where neighbours belong together.

**A CNN shares across space.** Each output looks at a small neighbourhood, and every neighbourhood is looked at with the
same weights. Two assumptions: *locality* (what matters is near) and *translation equivariance* (shift the input, and
the output shifts with it; an edge is an edge wherever it is). A layer's parameters no longer depend on the size of the
picture.

**An RNN shares across time.** It reads one step after another and keeps a state, $h_t = f(h_{t-1}, x_t)$, with the same
$f$ at every step. It assumes that the past can be summed up in a state of fixed size, and that the rules do not change
with time. Any length fits; the memory of inference is constant.

Attention, in Phase 2, shares something else again: the *rule by which positions look at each other*. It assumes little
about distance, and pays with data and with a cost that grows as the square of the length.

| n positions, c channels | parameters of a layer | arithmetic | steps in a row | reach of one layer |
| --- | --- | --- | --- | --- |
| fully connected | n² c² | n² c² | 1 | everything |
| convolution, kernel k | k c² | n k c² | 1 | k |
| recurrence | 2 c² | n c² | n | the whole past, fading |
| self-attention | 4 c² | n² c + n c² | 1 | everything |

Read the fourth column again: an RNN must compute its steps one after the other, and no amount of hardware changes
that. It is the reason why it lost, and its constant memory is the reason why its relatives keep coming back.

## Watching a bias at work

Handwritten digits, and a test that is a little unfair: the networks learn from digits in the middle of the picture, and
are tested on the same kind of digits **shifted** by some pixels. A shift does not change which digit it is. Which
network knows that without being told?
"""

# %%
data = mnist()
pictures = F.pad(data.images.float() / 255, (6, 6, 6, 6))[:, :, 3:37, 3:37]  # a margin of 3 more pixels
order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
train, test = order[:2000], order[2000:3000]


class Recurrent(nn.Module):
    """Reads a picture row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(34, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x.squeeze(1))
        return self.head(state[-1])


def networks() -> dict[str, nn.Module]:
    """One of each kind, of roughly like size."""
    return {
        "MLP": nn.Sequential(nn.Flatten(), nn.Linear(34 * 34, 24), nn.ReLU(), nn.Linear(24, 10)),
        "CNN": nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 48, 5, stride=2), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(48, 10),
        ),
        "RNN": Recurrent(),
    }  # fmt: skip


def fit(model: nn.Module) -> nn.Module:
    """Six epochs of Adam on the pictures as they are."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(6):
        for rows in train[torch.randperm(len(train))].split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(pictures[rows]), data.labels[rows]).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, shift: int) -> float:
    """On test pictures that are shifted to the right by `shift` pixels."""
    shifted = pictures[test].roll(shift, dims=-1)
    return (model(shifted).argmax(1) == data.labels[test]).float().mean().item()


shifts = range(6)
curves = {}
for name, model in networks().items():
    curves[name] = [accuracy(fit(model), 0)] + [accuracy(model, s) for s in shifts[1:]]
    size = sum(p.numel() for p in model.parameters())
    print(f"{name}: {size:6,} parameters, accuracy {curves[name][0]:.1%}, shifted by 4 pixels {curves[name][4]:.1%}")

figure, axes = plt.subplots(figsize=(7, 3.4))
for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
    axes.plot(shifts, curve, marker="o", linestyle="-", color=colour, label=name)
axes.axhline(0.1, linestyle=":", color="#797979", label="guessing")
axes.set(xlabel="shift to the right in pixels, never seen in training", ylabel="accuracy", ylim=(0, 1))
axes.set_title("A bias that is true of the data is worth many examples")
axes.legend()
plt.show()

# %% [markdown]
"""
All three learn the digits where they are. The CNN with a global pool hardly notices the shift: the same filters find
the same strokes elsewhere, and the pool forgets where. To the MLP a shifted digit is a new picture, since every pixel
has its own weights. The RNN shares across *rows*, so a shift to the right hits it in full; a shift down would be only a
delay. Each network is robust exactly where it shares.

The CNN's advantage is no magic: an MLP trained on shifted copies learns the same, with more data and more time. Bias
and data are two currencies for the same thing. Little data: buy bias. Much data: let the network find out, since an
assumption that is *almost* true becomes the ceiling. Vision Transformers lose to CNNs on a million pictures and win on
hundreds of millions.

## Memory that fades

A gradient through an RNN is a product of as many factors as there are steps. If they are a little below one, the past
vanishes; a little above, and it explodes. The LSTM's remedy is a path on which the state is carried by *addition*, with
gates that decide how much to keep: the idea that residual connections brought to depth. We measure how much of the
gradient reaches the first of 60 steps.
"""

# %%
for kind in (nn.RNN, nn.LSTM):
    torch.manual_seed(0)
    cell = kind(8, 32, batch_first=True)
    if kind is nn.LSTM:
        with torch.no_grad():
            cell.bias_ih_l0[32:64] = 3.0  # the forget gates begin open
    x = torch.randn(16, 60, 8, requires_grad=True)
    cell(x)[0][:, -1].sum().backward()
    size = x.grad.norm(dim=(0, 2))
    print(f"{kind.__name__:4} gradient at step 1 relative to step 60: {size[0] / size[-1]:.1e}")

# %% [markdown]
"""
## Three traps

**1. Flattening too early.** `nn.Flatten()` followed by a large linear layer ties the network to one input size, and
puts most of the parameters where no sharing happens. Pool globally first.

**2. Equivariance that is lost on the way.** Strides and pooling make a CNN equivariant only to shifts by whole strides;
zero padding tells it where the border is. Mostly harmless, sometimes the cause of a detector that flickers.

**3. The last state of a padded batch.** With sequences of different lengths, the output at the last position of a
short one is computed from padding. Pack the batch, or pick each sequence's own last step.
"""

# %%
cell = nn.GRU(4, 6, batch_first=True)
batch, lengths = torch.randn(2, 5, 4), torch.tensor([5, 2])
alone = cell(batch[1:, :2])[1][0]
packed = nn.utils.rnn.pack_padded_sequence(batch, lengths, batch_first=True, enforce_sorted=False)
print("padded, last position: equal to alone?", torch.allclose(cell(batch)[0][1, -1], alone[0]))
print("packed, last state:    equal to alone?", torch.allclose(cell(packed)[1][0, 1], alone[0], atol=1e-6))

# %% [markdown]
"""
## At scale

- **Hybrids win.** Early convolutions in front of attention, windows of local attention, convolution inside state-space
  models: where data allow, large systems spend a little bias early and let attention do the rest.
- **Tables** remain the home of gradient-boosted trees. A column has no neighbours to share with, and an MLP's
  preference for smooth functions is not true of tables. Try the trees first.
- **Hardware decides, too.** What runs as one large matrix product gets trained on more data, and data beat elegance.
  The recurrence came back only when it could be computed as a parallel scan.
- **Symmetries are biases.** Molecules are rotated, sets are permuted, graphs are relabelled. Networks that respect such
  a symmetry exactly need far fewer examples, in fields where an example costs a day in the laboratory.

## References

1. LeCun, Bottou, Bengio and Haffner, *Gradient-Based Learning Applied to Document Recognition*, Proc. IEEE, 1998.
2. Hochreiter and Schmidhuber, *Long Short-Term Memory*, Neural Computation, 1997.
3. Dosovitskiy et al., *An Image is Worth 16×16 Words*, ICLR, 2021.
4. Grinsztajn, Oyallon and Varoquaux, *Why do tree-based models still outperform deep learning on tabular data?*, 2022.
5. PyTorch documentation, [*torch.nn*](https://docs.pytorch.org/docs/stable/nn.html).

## Test yourself

Answer aloud before you unfold.

**1.** You shuffle the pixels of every picture by one fixed permutation, in training and test alike. What happens to the
accuracy of an MLP and of a CNN?

<details><summary>Answer</summary>

The MLP's stays as it was: its weights can be permuted along. The CNN's falls, often to below the MLP's, since its
neighbourhoods now hold unrelated pixels. Its bias has become false.

</details>

**2.** A convolution has 64 channels in and out and a 3×3 kernel. How many weights has it on pictures of 32×32, and how
many on 256×256? How does the arithmetic compare?

<details><summary>Answer</summary>

64 · 64 · 9 = 36,864 in both cases. The arithmetic grows with the number of positions: 64 times as much.

</details>

**3.** Why does a bias of 3 in the forget gates keep the gradient alive over 60 steps, and what would a bias of −3 do?

<details><summary>Answer</summary>

sigmoid(3) ≈ 0.95, so the cell keeps 95 % of its content at each step. That path alone brings 0.95⁶⁰ ≈ 5 % through
sixty steps, and those through the gates add to it; a plain RNN has lost all but a trace. With −3 it would keep 5 % at
each step and remember nothing. A start with open gates says: remember until there is a reason to forget.

</details>

Ready? Mark the brief as read, then open Lab 6.
"""

# %%
from grading import mark_as_read

mark_as_read("phase1/theory6")
