# %% [markdown]
"""
# nn.Module and custom layers

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two.*

A network is a function with a memory. The function is ordinary Python; the memory is a few thousand to a few trillion
numbers that must be found by the optimizer, moved to the GPU, saved, loaded, frozen and counted, and none may be
forgotten on the way. `nn.Module` is the answer to that second half. It knows nothing of layers or gradients. It is a
**registry**, arranged as a tree.

Once you see the registry, most of what puzzles people about modules stops being a puzzle: why a list of layers does
not train, why a running mean is saved and a constant is not, why `model.eval()` is no promise about gradients.
"""

# %%
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torchvision.models import resnet18

from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
"""
## Assignment is registration

Here is a small custom layer. It normalises its input by a running estimate of the input's size, and lets a learned
gain put some of that size back. Look at the three assignments in `__init__`: they look alike and mean three different
things.
"""


# %%
class RunningScale(nn.Module):
    """Divides by a running root mean square of what it has seen, times a learned gain; `(..., width)` in and out."""

    def __init__(self, width: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum  # a constant of the design
        self.gain = nn.Parameter(torch.ones(width))  # learned
        self.register_buffer("square", torch.ones(width))  # remembered

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                seen = x.square().flatten(0, -2).mean(0)
                self.square.lerp_(seen, self.momentum)
        return self.gain * x / self.square.sqrt()


layer = RunningScale(3)
print("parameters", {name: tuple(p.shape) for name, p in layer.named_parameters()})
print("buffers   ", {name: tuple(b.shape) for name, b in layer.named_buffers()})
print("state_dict", list(layer.state_dict()))

# %% [markdown]
"""
`nn.Module` overrides `__setattr__`. An `nn.Parameter` goes into one dictionary, a module into another, a registered
buffer into a third; anything else stays a plain attribute. That is all the magic there is, and it decides everything:

| kept as | optimizer sees it | moved by `.to()` | in `state_dict` | gets a gradient |
| --- | --- | --- | --- | --- |
| parameter | yes | yes | yes | yes |
| buffer | no | yes | yes | no |
| buffer, `persistent=False` | no | yes | no | no |
| plain attribute | no | no | no | as you made it |

Ask of each tensor in a layer: does the *optimizer* change it? A parameter. Does the *layer* change it, or must it
travel to the GPU? A buffer. Can it be computed again from the constructor's arguments, like a causal mask? A buffer
that is not persistent, so that old checkpoints do not break when its size changes.

Note the `no_grad` and the in-place `lerp_` in `forward`. Without the first, the running estimate would drag the graph
of every batch it has ever seen behind it. Without the second, `self.square = …` would work too (assigning a tensor to
a buffer's name keeps it a buffer), but whoever shares the buffer would be left with the old one.

## The tree

Modules in modules make a tree, and every bulk operation is a walk over it: `parameters()`, `to()`, `train()`,
`state_dict()`, `apply(initialise)`. A name in the `state_dict` is the path to its leaf. Nothing else is saved: not the
class, not the constructor's arguments, not `forward`. So a checkpoint fits any code that builds the same tree of names
and shapes, and only that.
"""

# %%
block = nn.Sequential(nn.Linear(4, 3), RunningScale(3), nn.Sequential(nn.Linear(3, 1)))
for name, tensor in block.state_dict().items():
    print(f"{name:12} {tuple(tensor.shape)}")

# %% [markdown]
"""
A tree has proportions. Before you tune a network, look where its parameters sit; it is seldom where the code is
longest. The picture shows ResNet-18, each row one level of the tree, each width a share of the parameters.
"""

# %%
network = resnet18()


def size(module: nn.Module) -> int:
    """The number of parameters in `module` and below."""
    return sum(p.numel() for p in module.parameters())


def draw(module: nn.Module, left: float, depth: int) -> None:
    """The children of `module` side by side in row `depth`, and below each its own; widths in millions."""
    for i, (name, child) in enumerate(module.named_children()):
        width = size(child) / 1e6
        axes.barh(-depth, width, left=left, height=0.9, color=COLOURS[::2][(i + depth) % 3], edgecolor="white")
        if width > 0.5:
            label = f"{name}\n{width:.1f}"
            axes.text(left + width / 2, -depth, label, ha="center", va="center", color="white", fontsize=9)
        if depth < 2:
            draw(child, left, depth + 1)
        left += width


figure, axes = plt.subplots(figsize=(10, 3))
draw(network, 0, 0)
axes.set(
    yticks=[0, -1, -2],
    yticklabels=["stages", "blocks", "layers"],
    xlabel="million parameters, in the order of the forward pass",
    title=f"ResNet-18: {size(network) / 1e6:.1f} million parameters",
)
plt.show()
operations = {"layer1": 56 * 56, "layer4": 7 * 7}
for name, positions in operations.items():
    print(f"{name}: {size(getattr(network, name)) / 1e6:4.1f} M parameters, each used at {positions:5} positions")

# %% [markdown]
"""
The last stage holds nearly three quarters of the weights, since channels double from stage to stage and weights grow
with their square. The arithmetic is spread evenly: the first stage has sixty times fewer weights and applies each of
them at sixty times more positions. Parameters cost memory, positions cost time; a count of one says nothing about the
other.

## Initialisation is part of the layer

A layer's constructor also decides how the signal starts out. A linear layer adds up `fan_in` products; with weights of
variance $\\sigma^2$ the second moment of the signal is multiplied by $\\text{fan\\_in} \\cdot \\sigma^2$, and by half
of that where a ReLU follows. Glorot's choice keeps it constant for symmetric activations, He's $2 / \\text{fan\\_in}$
for ReLU. A factor that is off by two compounds: after thirty layers it is $2^{30}$. In Lab 2 you will watch it happen.

Normalisation layers are the other remedy: they measure the size of the signal and divide it out, at every step, so
that a bad start is repaired as it passes. They differ in *what they average over*. Batch norm takes each channel over
the batch, so an example depends on its neighbours, and needs running statistics for the day it stands alone. Layer
norm takes each example over its features and needs none. That is why sequence models, whose batches are ragged and
whose inference is one token at a time, use the latter.

## Three traps

**1. What is not registered does not exist.** A Python list hides its layers. `forward` works, the loss even falls a
little, since other layers learn; the hidden ones stay as they were born.
"""


# %%
class Hidden(nn.Module):
    """Four layers in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(8, 8) for _ in range(4)]
        self.head = nn.Linear(8, 1)


print("found with a list:      ", size(Hidden()), "parameters")
hidden = Hidden()
hidden.layers = nn.ModuleList(hidden.layers)
print("found with a ModuleList:", size(hidden), "parameters")

# %% [markdown]
"""
The habit that catches it: print the number of parameters, and compare it with the number you worked out.

**2. A mode is a flag, not a mood.** `train()` and `eval()` set `self.training` on every module of the tree, and do
nothing else. Dropout and batch norm read the flag; your own layer must, too. Gradients are recorded in both modes, and
`torch.no_grad()` changes no layer's behaviour: an evaluation needs both. And a flag stays where it was left. A
function that evaluates in the middle of training should put it back.
"""

# %%
x = 5 * torch.randn(64, 3)
with torch.no_grad():
    for _ in range(100):
        layer.train()(x)
print("evaluation:", layer.eval()(x).detach().std(dim=0), " still records:", layer(x).requires_grad)
before = layer.square.clone()
layer(1000 * x)
print("statistics moved in eval mode:", not torch.equal(before, layer.square))

# %% [markdown]
"""
**3. Call the module, not its `forward`.** `model(x)` runs the hooks that others have hung on it: mixed precision, the
gathering of shards, the activation statistics that you wanted to log. `model.forward(x)` skips them, silently. For the
same reason shared weights are shared *objects*: assign the same parameter twice and it appears once in
`parameters()`, under its first name; copy its values and you have two that drift apart.
"""

# %%
tied = nn.ModuleDict({"embed": nn.Embedding(1000, 64), "unembed": nn.Linear(64, 1000, bias=False)})
apart = size(tied)
tied["unembed"].weight = tied["embed"].weight
print(f"apart {apart:,} parameters, tied {size(tied):,}; the state_dict still names both: {list(tied.state_dict())}")

# %% [markdown]
"""
## At scale

- **Construction without memory.** A 70-billion-parameter model takes 280 GB in `float32`, before it has learnt
  anything. Under `with torch.device("meta"):` its tree is built with shapes and no numbers; a checkpoint, or a shard of
  one, is loaded into it afterwards with `assign=True`.
- **Sharding follows the tree.** FSDP is told which modules to treat as a unit; it gathers a unit's parameters just
  before its `forward`, through the very hooks of trap 3, and lets go of them after. A good tree makes good shards.
- **Checkpoints outlive code.** Names in the `state_dict` are an interface. Rename an attribute and old files no longer
  load; large projects keep tables of old names, or load hooks that translate.
- **Functions when you need them.** `torch.func.functional_call(model, parameters, x)` runs a module with other
  parameters than its own. Per-sample gradients, ensembles and meta-learning are built on it.

## References

1. He, Zhang, Ren and Sun, *Delving Deep into Rectifiers*, ICCV, 2015.
2. Ioffe and Szegedy, *Batch Normalization*, ICML, 2015.
3. Ba, Kiros and Hinton, *Layer Normalization*, 2016.
4. PyTorch documentation, [*Modules*](https://docs.pytorch.org/docs/stable/notes/modules.html).
5. PyTorch documentation, [*torch.nn.Module*](https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html).

## Test yourself

Answer aloud before you unfold.

**1.** A colleague writes `self.scale = torch.ones(8, requires_grad=True)` in a constructor. Training runs on the CPU,
and the scale never changes. On a GPU, `forward` raises. Explain both.

<details><summary>Answer</summary>

It is a plain attribute. `parameters()` does not list it, so no optimizer ever steps it, although autograd fills its
`.grad` faithfully. And `.to("cuda")` moves what is registered only, so `forward` multiplies a CUDA tensor by one on
the CPU. `nn.Parameter(torch.ones(8))` mends both.

</details>

**2.** Why is a batch norm's running variance a buffer, while its weight is a parameter? What would go wrong the other
way round?

<details><summary>Answer</summary>

The variance is an average of what was seen; the weight is what lowers the loss. As a parameter, the variance would be
moved by the optimizer, or decayed towards zero by weight decay, and would no longer be the variance of anything. As a
buffer, the weight would never learn.

</details>

**3.** You call `model.eval()`, evaluate, and go on training without `model.train()`. The training loss looks better
than ever. What has happened?

<details><summary>Answer</summary>

Dropout is off, and batch norm uses its running averages and no longer updates them. The loss drops because nothing is
dropped, not because more is learnt; overfitting comes sooner, and the averages go stale while the weights move on.

</details>

Ready? Mark the brief as read, then open Lab 2.
"""

# %%
from grading import mark_as_read

mark_as_read("phase1/theory2")
