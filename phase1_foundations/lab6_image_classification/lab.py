# %% [markdown]
"""
# Lab 6: Image classification with CNNs

A convolution is a linear layer with two beliefs: what matters is near, and what is true here is true there. In this lab
you build one from a matrix product, stack it into a residual network, train it on real pictures, and then ask the
questions that come after accuracy: where is it wrong, what did it look at, and how much of it can be used again?

**You will be able to**

- compute output sizes and receptive fields before anything runs;
- write a convolution and its backward pass with `unfold` and `fold`;
- build a residual block as in ResNet, and train a small network with augmentation;
- read a confusion matrix, look at the worst mistakes, and see a decision with Grad-CAM;
- carry a trained network over to new classes with forty examples.

**Time** two hours for the eight exercises (20 points). One side quest at the end earns XP only.

**You need to know** Labs 1 to 3 and the theory brief *MLPs, CNNs and RNNs* (15 minutes).
"""

# %% [markdown]
"""
## Set-up

`check("output_size")` tests an exercise, `hint("output_size")` gives one of three hints. Pictures are
`(batch, channels, height, width)` throughout. The check sets parameters by their names: keep those that the text fixes.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab6")

# %%
import copy
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.data import clothing_or_digits
from labkit.measure import compare
from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
r"""
## 1 · Sizes before anything runs

Most errors in a CNN are sizes that do not fit, and most disappointments are networks that never see enough of the
picture. Both can be computed on paper. A kernel of size $k$ with dilation $d$ covers $d(k-1)+1$ pixels, and so for one
axis

$$\text{out} = \left\lfloor \frac{\text{in} + 2p - d(k-1) - 1}{s} \right\rfloor + 1$$

The **receptive field** is the stretch of input pixels along one axis, from first to last, that one output number can
see. Go through the layers from
the input: the field starts at $r = 1$ and the distance of neighbouring outputs, in input pixels, at $j = 1$. Each layer
with kernel $k$ and stride $s$ does $r \leftarrow r + (k-1)\,j$ and then $j \leftarrow j\,s$.

**Task.** Write `output_size(size, kernel, stride=1, padding=0, dilation=1)`, and `receptive_field(layers)` for a
sequence of pairs `(kernel, stride)`, dilation 1, input side first. `output_size` raises `ValueError` where the kernel
does not fit, that is, where the result would be less than 1.
"""


# %%
def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """The size of a convolution's or pool's output along one axis. Raises `ValueError` if the kernel does not fit."""
    ### BEGIN SOLUTION
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if out < 1:
        raise ValueError(f"a kernel of {kernel} with dilation {dilation} does not fit into {size} + 2 · {padding}")
    return out
    ### END SOLUTION


def receptive_field(layers: Sequence[tuple[int, int]]) -> int:
    """How many input pixels along one axis an output of these `(kernel, stride)` layers sees; 1 for no layers."""
    ### BEGIN SOLUTION
    field, jump = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * jump
        jump *= stride
    return field
    ### END SOLUTION


# %% tags=["demo"]
print("28 pixels, kernel 3, stride 2, padding 1:", output_size(28, 3, stride=2, padding=1))
print("two 3×3 layers see", receptive_field([(3, 1), (3, 1)]), "pixels; the first with stride 2:", end=" ")
print(receptive_field([(3, 2), (3, 1)]))

# %% [markdown]
"""
**What you should see.** 14, 5 and 7. A stride early in the network widens everything after it.
"""

# %%
check("output_size")

# %% [markdown] tags=["explanation"]
"""
Python's `//` rounds down for negative numbers too, which is what makes the test for "does not fit" one comparison. A
layer's own stride counts only for the layers after it: it spreads *their* taps apart.
"""

# %% [markdown]
r"""
## 2 · A convolution is a matrix product

`F.unfold(x, k, stride=s, padding=p)` lays out every patch that the kernel visits as a column: `(batch, c_in · k · k,
positions)`, channels outermost, then rows of the kernel, then columns. In this form a convolution is one matrix
product, and its backward pass is what Lab 1 derived for a linear layer. What `unfold` took apart, `F.fold` adds up
again: where patches overlap, gradients add.

What deep learning calls convolution does **not** flip the kernel (mathematicians would say cross-correlation):

$$y_{b,o,i,j} = b_o + \sum_{c,u,v} w_{o,c,u,v}\; x_{b,\,c,\,s i + u - p,\,s j + v - p}$$

**Task.** Write `conv2d(x, weight, bias, stride, padding)` by `unfold`, and `conv2d_backward(grad_output, x, weight,
stride, padding)`, which returns the gradients of `x`, `weight` and `bias` as a tuple in this order. Kernels are
square, pictures need not be. Do without PyTorch's own convolutions, and in the backward pass without autograd.
"""


# %%
def conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolution of `x` `(batch, c_in, h, w)` with `weight` `(c_out, c_in, k, k)`: `(batch, c_out, h_out, w_out)`."""
    ### BEGIN SOLUTION
    k = weight.shape[-1]
    h_out, w_out = (output_size(n, k, stride, padding) for n in x.shape[-2:])
    patches = F.unfold(x, k, stride=stride, padding=padding)
    y = weight.flatten(1) @ patches + bias[:, None]
    return y.unflatten(-1, (h_out, w_out))
    ### END SOLUTION


def conv2d_backward(
    grad_output: Tensor, x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients for `(x, weight, bias)`, given that of the output, `(batch, c_out, h_out, w_out)`."""
    ### BEGIN SOLUTION
    k = weight.shape[-1]
    grad = grad_output.flatten(2)
    patches = F.unfold(x, k, stride=stride, padding=padding)
    grad_weight = (grad @ patches.mT).sum(0).view_as(weight)
    grad_patches = weight.flatten(1).T @ grad
    grad_x = F.fold(grad_patches, x.shape[-2:], k, stride=stride, padding=padding)
    return grad_x, grad_weight, grad.sum((0, 2))
    ### END SOLUTION


# %% tags=["demo"]
edge = torch.tensor([[[[1.0, 0.0, -1.0]] * 3]])
picture = torch.zeros(1, 1, 5, 6)
picture[..., 3:] = 1
print(conv2d(picture, edge, torch.zeros(1))[0, 0])

# %% [markdown]
"""
**What you should see.** Three equal rows, `[0, -3, -3, 0]`: the kernel answers only where dark turns into light. The
sign tells that it was not flipped.
"""

# %%
check("conv2d")

# %% [markdown] tags=["explanation"]
"""
`weight.flatten(1)` is `(c_out, c_in·k·k)`, in the very order in which `unfold` lists a patch. The three gradients are
those of a linear layer, with positions in the role of rows; `fold` adds up what each patch says about the pixels it
shares. Libraries avoid the unfolded copy, `k²` times the picture, and compute the same numbers tile by tile.
"""

# %% [markdown]
r"""
## 3 · A residual block

ResNet's basic block: two 3×3 convolutions, each followed by batch norm, and a shortcut around both. Where the shape
changes, the shortcut is a 1×1 convolution with the same stride and a batch norm; else it is the identity.

$$y = \operatorname{relu}\Big(\text{bn2}\big(\text{conv2}(\operatorname{relu}(\text{bn1}(\text{conv1}(x))))\big) +
\text{shortcut}(x)\Big)$$

**Task.** Write `ResidualBlock(c_in, c_out, stride=1)`. `conv1` has the stride, `conv2` has stride 1, both padding 1
and no bias (batch norm would cancel it). `shortcut` is an `nn.Sequential` of the 1×1 convolution (stride as `conv1`,
no bias) and a batch norm if the channels or the size change, and an empty one otherwise. Submodules are called
`conv1`, `bn1`, `conv2`, `bn2` and `shortcut`; use PyTorch's layers.
"""


# %%
class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; `(batch, c_in, h, w)` in, `(batch, c_out, ⌈h / stride⌉, ⌈w / stride⌉)` out."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut.append(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(c_out))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        branch = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(branch + self.shortcut(x))
        ### END SOLUTION


# %% [markdown]
"""
From it, a network for small pictures. It is given, in two parts that later exercises use: `features` makes maps, `head`
turns their mean into logits.
"""


# %%
class SmallResNet(nn.Module):
    """Logits `(batch, classes)` for pictures `(batch, 1, h, w)`."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            ResidualBlock(width, width),
            ResidualBlock(width, 2 * width, stride=2),
            ResidualBlock(2 * width, 4 * width, stride=2),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


# %% tags=["demo"]
network = SmallResNet(10)
print("maps", tuple(network.features(torch.randn(2, 1, 28, 28)).shape), end="; ")
print(sum(p.numel() for p in network.parameters()), "parameters")

# %% [markdown]
"""
**What you should see.** Maps of `(2, 32, 4, 4)`, and 19,810 parameters.
"""

# %%
check("residual_block")

# %% [markdown] tags=["explanation"]
"""
The last relu comes after the sum, so what the next block gets as its shortcut is not negative. Pre-activation
variants move it into the branch; for the depth used here it makes no difference. A bias before batch norm would be
subtracted with the mean, so it is left out.
"""

# %% [markdown]
r"""
## 4 · Augmentation

A shifted coat is a coat, and so is its mirror image. Tell the network so, by showing each picture a little differently
every time.

**Task.** Write `augment(images, shift, generator)` for a float batch `(n, c, h, w)`. **Each picture by itself**:

- is moved by a whole number of pixels, drawn uniformly from `-shift` to `shift` (both included) for each of the two
  axes, with zeros moving in at the border;
- and with probability one half is mirrored left to right.

All randomness comes from `generator` (a `torch.Generator`). The result is a new tensor of the same shape and dtype.
"""


# %%
def augment(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Each picture of `(n, c, h, w)` shifted by up to `shift` pixels and mirrored half of the time."""
    ### BEGIN SOLUTION
    n, _, h, w = images.shape
    padded = F.pad(images, (shift,) * 4)
    corners = torch.randint(0, 2 * shift + 1, (n, 2), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    moved = torch.stack([p[:, y : y + h, x : x + w] for p, (y, x) in zip(padded, corners.tolist(), strict=True)])
    return torch.where(mirrored[:, None, None, None], moved.flip(-1), moved)
    ### END SOLUTION


# %%
everything, unseen = clothing_or_digits(train=True), clothing_or_digits(train=False)


def pictures(data: object, classes: Sequence[int], per_class: int) -> tuple[Tensor, Tensor]:
    """The first pictures of each class as floats from 0 to 1, and labels that count `classes` from 0."""
    rows = torch.cat([(data.labels == c).nonzero()[:per_class, 0] for c in classes])
    labels = torch.arange(len(classes)).repeat_interleave(per_class)[: len(rows)]
    return data.images[rows].float() / 255, labels


# %% tags=["demo"]
sample, _ = pictures(everything, range(10), 1)
figure, rows = plt.subplots(3, 10, figsize=(9, 2.8))
for row in rows:
    shown = sample if row is rows[0] else augment(sample, 3, torch.Generator().manual_seed(len(figure.texts)))
    figure.text(0, 0, "")  # another seed for each row
    for axes, image in zip(row, shown, strict=True):
        axes.imshow(image[0], cmap="gray")
        axes.axis("off")
plt.show()

# %% [markdown]
"""
**What you should see.** A picture of each class, and below it two variants: moved a little, some of them mirrored.
"""

# %%
check("augment")

# %% [markdown] tags=["explanation"]
"""
Padding once and cutting windows out is the simplest way to shift by another amount for each picture. In practice
`torchvision.transforms.v2` does this and forty other things; you have met it in Lab 4.
"""

# %% [markdown]
"""
## 5 · Train it

**Task.** Write `train_epoch(model, images, labels, optimizer, batch_size, generator)`: one pass in training mode over
all rows in the order `torch.randperm(n, generator=generator)`, `batch_size` at a time, the last batch as small as it
comes. In each step a fresh gradient, the mean cross-entropy of the logits, `backward`, and the optimizer's step.
Return the mean loss **per row** as a float.
"""


# %%
def train_epoch(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """One epoch; the mean cross-entropy per row, each before its step."""
    ### BEGIN SOLUTION
    model.train()
    total = 0.0
    for rows in torch.randperm(len(images), generator=generator).split(batch_size):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(rows)  # read at the end: no GPU waits in every step
    return float(total / len(images))
    ### END SOLUTION


# %%
@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """All logits `(n, classes)`, in evaluation mode."""
    model.eval()
    return torch.cat([model(part) for part in images.split(500)])


# %% [markdown]
"""
The payoff, in two halves of the data: a network for the first five classes now, and in exercise 8 the other five.
"""

# %% tags=["demo"]
images, labels = pictures(everything, range(5), 600)
test_images, test_labels = pictures(unseen, range(5), 200)
torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
network = SmallResNet(5)
optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
for epoch in range(4):
    loss = train_epoch(network, augment(images, 2, generator), labels, optimizer, 50, generator)
    accuracy = (logits_of(network, test_images).argmax(1) == test_labels).float().mean()
    print(f"epoch {epoch + 1}: loss {loss:.3f}, accuracy on unseen pictures {accuracy:.1%}")

# %% [markdown]
"""
**What you should see.** A loss that falls from about 1.0 to below 0.5, and an accuracy around 80 %: three thousand
pictures, seconds, a laptop. It jumps from epoch to epoch; Lab 3's schedule would calm it.
"""

# %%
check("train_epoch")

# %% [markdown] tags=["explanation"]
"""
Augmenting once per epoch, outside the function, draws new variants each time and keeps the loop simple. `zero_grad`
sets gradients to `None`; what a frozen parameter never had stays `None`, and the optimizer skips it.
"""

# %% [markdown]
"""
## 6 · Where is it wrong?

**Task.** Two functions.

1. `confusion_matrix(labels, predictions, classes)` returns an int64 tensor `(classes, classes)`: entry `[i, j]`
   counts the rows of **true** class `i` that were **predicted** as `j`. No Python loop over rows.
2. `worst_mistakes(logits, labels, k)` returns the row numbers of the misclassified rows with the lowest probability
   of their true class, the worst first, at most `k`, and fewer if there are fewer mistakes. A row whose prediction is
   right is no mistake, however unsure it was.
"""


# %%
def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Counts `(classes, classes)`: rows are true classes, columns predicted ones."""
    ### BEGIN SOLUTION
    return torch.bincount(labels * classes + predictions, minlength=classes**2).view(classes, classes)
    ### END SOLUTION


def worst_mistakes(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Row numbers of at most `k` misclassified rows, the least probable true class first."""
    ### BEGIN SOLUTION
    wrong = (logits.argmax(1) != labels).nonzero()[:, 0]
    loss = F.cross_entropy(logits[wrong], labels[wrong], reduction="none")
    return wrong[loss.argsort(descending=True)][:k]
    ### END SOLUTION


# %% tags=["demo"]
logits = logits_of(network, test_images)
matrix = confusion_matrix(test_labels, logits.argmax(1), 5)
figure, axes = plt.subplots(1, 7, figsize=(11, 3), width_ratios=(3, 1, 1, 1, 1, 1, 1))
axes[0].imshow(matrix, cmap="Blues")
names = everything.classes
for i in range(5):
    for j in range(5):
        colour = "white" if matrix[i, j] > 100 else "black"
        axes[0].text(j, i, matrix[i, j].item(), ha="center", va="center", color=colour)
axes[0].set(xticks=range(5), yticks=range(5), yticklabels=names[:5], xlabel="predicted", ylabel="true")
axes[0].set_xticklabels(names[:5], rotation=45, ha="right")
for axis, row in zip(axes[1:], worst_mistakes(logits, test_labels, 6), strict=True):
    axis.imshow(test_images[row, 0], cmap="gray")
    axis.set_title(f"{names[test_labels[row]]}\nas {names[logits[row].argmax()]}", fontsize=8)
    axis.axis("off")
plt.show()

# %% [markdown]
"""
**What you should see.** A diagonal, and the largest share of the errors between pullover and coat, which differ by a
zip: mostly coats that are taken for pullovers.
Among the worst mistakes you will find pictures that you would have got wrong, too.
"""

# %%
check("confusion_matrix")

# %% [markdown] tags=["explanation"]
"""
`labels * classes + predictions` numbers the cells of the matrix, and one `bincount` counts them. Sorting by the loss
of the true class is sorting by its probability, without the underflow of the softmax. Look at such pictures before
you change the model: label errors and preprocessing faults show here first.
"""

# %% [markdown]
r"""
## 7 · What did it look at?

Grad-CAM asks which places of the last maps raised the score of a class. With maps $A$ of shape `(c, h, w)` and the
logit $z$ of a class:

$$\alpha_c = \frac{1}{h\,w} \sum_{i,j} \frac{\partial z}{\partial A_{c,i,j}}, \qquad
\text{cam}_{i,j} = \operatorname{relu}\Big(\sum_c \alpha_c\, A_{c,i,j}\Big)$$

and divide the result by its maximum, unless that is 0 (Selvaraju et al., 2017).

**Task.** Write `grad_cam(model, image, target)` for a model with `features` and `head` as above: the maps are
`model.features(x)`, the logits `model.head` of their mean over height and width. `image` is `(c, h, w)`, a single
one. Work in evaluation mode, return a map `(h', w')` of the size of the feature maps with values from 0 to 1, off the
tape, and leave no trace: the `.grad` of the parameters, the mode of the model, and the image are as they were.
"""


# %%
def grad_cam(model: nn.Module, image: Tensor, target: int) -> Tensor:
    """Where `image` raised the logit of class `target`: `(h', w')`, from 0 to 1."""
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    maps = model.features(image[None])
    if not maps.requires_grad:  # a frozen network
        maps.requires_grad_()
    score = model.head(maps.mean((2, 3)))[0, target]
    (gradient,) = torch.autograd.grad(score, [maps])
    model.train(was_training)
    cam = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0]).detach()
    return cam / cam.max() if cam.max() > 0 else cam
    ### END SOLUTION


# %% tags=["demo"]
figure, axes = plt.subplots(2, 5, figsize=(9, 3.9))
for c, (above, below) in enumerate(axes.T):
    row = (test_labels == c).nonzero()[3, 0]
    cam = grad_cam(network, test_images[row], c)
    above.imshow(test_images[row, 0], cmap="gray")
    below.imshow(F.interpolate(cam[None, None], size=28, mode="bilinear")[0, 0], cmap="inferno")
    above.set_title(names[c], fontsize=9)
    above.axis("off")
    below.axis("off")
plt.show()

# %% [markdown]
"""
**What you should see.** Above the pictures, below their maps, with bright patches where the evidence for the class is:
often at one end of a sleeve or beside the waist, and not always where you would look. The maps are 4×4, so expect a
torch light and no outline.
"""

# %%
check("grad_cam")

# %% [markdown] tags=["explanation"]
"""
`torch.autograd.grad` asks for the gradient of the maps alone, so no parameter's `.grad` is touched. The relu keeps
what speaks *for* the class. With a mean and a linear head, the weights are simply the row of the head's matrix
divided by the number of places: Grad-CAM generalises an older method to heads of any kind.
"""

# %% [markdown]
"""
## 8 · Use it again

The network knows five kinds of clothing. Its edges, textures and outlines are good for the other five, too. With forty
labelled pictures we train a new head on frozen features, and compare.

There is a trap in batch norm: a frozen network in training mode goes on updating its running statistics, and is no
longer the network you froze.

**Task.** Two functions.

1. `adapt(model, classes)` freezes every parameter of `model` (`requires_grad` is False), replaces `model.head`, an
   `nn.Linear`, by a new one with the same number of inputs and `classes` outputs, on the same device and in the same
   dtype, and returns the list of the parameters that train now. It changes the model in place.
2. `train_mode(model)` puts the model into training mode, except for modules that have parameters **of their own**
   (not of their children), all of which are frozen: these are put into evaluation mode. A module without parameters
   of its own is in training mode.
"""


# %%
def adapt(model: nn.Module, classes: int) -> list[nn.Parameter]:
    """Freeze `model` and give it a fresh head for `classes`; returns what is left to train."""
    ### BEGIN SOLUTION
    model.requires_grad_(False)
    old = model.head.weight
    model.head = nn.Linear(old.shape[1], classes, device=old.device, dtype=old.dtype)
    return list(model.head.parameters())
    ### END SOLUTION


def train_mode(model: nn.Module) -> None:
    """Training mode for what learns; what is frozen stays as it is, running statistics included."""
    ### BEGIN SOLUTION
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        module.training = not own or any(p.requires_grad for p in own)
    ### END SOLUTION


# %% tags=["demo"]
few_images, few_labels = pictures(everything, range(5, 10), 8)
new_images, new_labels = pictures(unseen, range(5, 10), 200)


def learn(model: nn.Module, parameters: list[nn.Parameter], lr: float) -> list[float]:
    """Accuracies on unseen pictures of the new classes in 30 epochs on forty pictures."""
    optimizer, generator, curve = torch.optim.AdamW(parameters, lr=lr), torch.Generator().manual_seed(1), []
    for _ in range(30):
        for rows in torch.randperm(len(few_images), generator=generator).split(20):
            train_mode(model)
            optimizer.zero_grad()
            F.cross_entropy(model(few_images[rows]), few_labels[rows]).backward()
            optimizer.step()
        curve.append((logits_of(model, new_images).argmax(1) == new_labels).float().mean().item())
    return curve


torch.manual_seed(1)
frozen, tuned, scratch = copy.deepcopy(network), copy.deepcopy(network), SmallResNet(5)
adapt(tuned, 5)
tuned.requires_grad_(True)
curves = {
    "new head on frozen features": learn(frozen, adapt(frozen, 5), 3e-2),
    "new head, all layers fine-tuned": learn(tuned, list(tuned.parameters()), 3e-3),
    "from scratch": learn(scratch, list(scratch.parameters()), 3e-3),
}
figure, axes = plt.subplots(figsize=(7, 3.4))
for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
    axes.plot(range(1, 31), curve, linestyle="-", color=colour, label=name)
    print(f"{name}: {curve[9]:.1%} after 10 epochs, {curve[-1]:.1%} after 30")
axes.set(xlabel="epoch", ylabel="accuracy on unseen pictures", title="Five new classes from forty pictures")
axes.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** A new head on frozen features learns from the first step, and stops at what the old features
can say: it trains 165 numbers. From scratch, the network hardly learns anything for twenty epochs. Fine-tuning all
layers ends highest: it begins with features that are nearly right and may change them. With twenty pictures for each
class instead of eight, from scratch would overtake the frozen features. The fewer the pictures, the more the old ones
are worth.
"""

# %%
check("adapt")

# %% [markdown] tags=["explanation"]
"""
A new `nn.Linear` requires grad by default, so freezing first and replacing afterwards leaves exactly the head to train.
`train_mode` walks over all modules and sets each flag itself: `model.train()` would set them all alike. For a frozen
network it is not a matter of taste: the statistics of forty pictures would replace those of thousands.
"""

# %% [markdown]
"""
## A measured comparison

Your convolution beside PyTorch's, forward only. We give a ratio of times only where it is 3 or more.
"""

# %% tags=["demo"]
x, weight, bias = torch.randn(32, 16, 28, 28), torch.randn(32, 16, 3, 3), torch.randn(32)
print("3×3", compare(lambda: conv2d(x, weight, bias, 1, 1), lambda: F.conv2d(x, weight, bias, padding=1)))
weight = torch.randn(32, 16, 7, 7)
print("7×7", compare(lambda: conv2d(x, weight, bias, 1, 3), lambda: F.conv2d(x, weight, bias, padding=3)))

# %% [markdown]
"""
The arithmetic is the same; the memory is not. `unfold` writes each pixel down once for every kernel position that
sees it: 9 times for 3×3, 49 times for 7×7. Libraries go through the picture in tiles that fit into the cache, or use
transforms (Winograd's) that save multiplications.
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

- **Input, not arithmetic.** A ResNet-50 on a modern GPU classifies some thousands of pictures a second. Decoding as
  many JPEGs takes dozens of CPU cores: pictures are decoded on the GPU, or stored decoded.
- **Large batches.** ImageNet has been trained in minutes with batches of tens of thousands, by scaling the learning
  rate with the batch, warming up, and leaving norms and biases out of weight decay.
- **Batch norm across machines** uses the statistics of each device's own rows unless told otherwise
  (`nn.SyncBatchNorm`). With two pictures a device, as in segmentation, that decides between training and noise.
- **Channels last.** `x.to(memory_format=torch.channels_last)` puts the channels of a pixel side by side, which is what
  tensor cores want; the shape stays the same.
- **Transfer is the default.** Hardly anybody trains from scratch. The question is which pretrained features, how many
  layers to open, and how to notice that the new data are too far from the old.
"""

# %% [markdown]
"""
## Side quests

### Side quest A · Max pooling

**Task.** Write `max_pool2d(x, kernel, stride)` without PyTorch's own pooling: the largest value of each window of
`kernel × kernel`, windows `stride` apart, no padding, what does not fill a window is left out. Gradients go to the
largest element of each window (any of them, if there are several).
"""


# %%
def max_pool2d(x: Tensor, kernel: int, stride: int) -> Tensor:
    """The maximum of each window; `(batch, c, h, w)` in, `(batch, c, h_out, w_out)` out."""
    ### BEGIN SOLUTION
    windows = x.unfold(2, kernel, stride).unfold(3, kernel, stride)
    return windows.flatten(4).max(-1).values
    ### END SOLUTION


# %% tags=["demo"]
max_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 2, 2)

# %% [markdown]
"""
**What you should see.** `[[5, 7], [13, 15]]`.
"""

# %%
check("max_pool2d")

# %% [markdown] tags=["explanation"]
"""
`Tensor.unfold` makes windows along one axis as a view; twice, and the last two axes are the window. `max(-1)` sends its
gradient to one element, `amax` would divide it among equals.
"""

# %% [markdown]
"""
## Recap

You have written the operation at the heart of vision, forwards and backwards, trained a residual network, looked at its
errors and at what it looks at, and used it again where data are few.

**Next** come the quiz and the checkpoint project, where all of Phase 1 becomes one program.
"""
