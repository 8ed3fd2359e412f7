# %% [markdown]
"""
# Tensors, autograd and computational graphs

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two.*

Every model in this course, from a straight line to a Transformer, learns in the same way: compute a loss, ask how it
would change if each parameter moved a little, and move the parameters against it. A language model asks that question
of billions of parameters at every step, and the answer costs about twice as much as computing the loss. This brief is
about how that is possible, and where the bill arrives.

Two ideas carry it. A **tensor** is a way of looking at a block of memory. **Autograd** is a tape recorder: while your
code runs forward, it writes down what would have to be done to go back.
"""

# %%
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from labkit.measure import peak_bytes
from labkit.plots import COLOURS, INK, use_theme

torch.manual_seed(0)
use_theme()

# %% [markdown]
"""
## A tensor is a label on a block of memory

The numbers live in a *storage*: one flat run of bytes on one device. The tensor is the small label stuck on it: a
`dtype` (how to read the bytes), a `shape`, an *offset* (where to begin) and one *stride* per dimension (how many
elements to skip for the next index). Slicing or transposing writes a new label and leaves the bytes alone. Such a
tensor is a **view**, and whoever writes through it writes for everyone.
"""

# %%
pixels = torch.arange(6.0).view(2, 3)
column = pixels[:, 1]
print("column: shape", tuple(column.shape), "stride", column.stride(), "offset", column.storage_offset())
column.zero_()
print(pixels)

# %% [markdown]
"""
This is why transposing a gigabyte takes microseconds, and why an innocent in-place edit can change a tensor in another
file. Keep both halves in mind: the second returns as a trap below.

## Autograd records while you compute

Mark a tensor with `requires_grad=True`, and each operation that touches it does two things: it computes its result,
and it adds a **node** to a graph. The node knows how to turn the gradient of its result into the gradients of its
inputs, and it keeps whatever numbers it will need for that. The result points to its node as `grad_fn`; the node
points to the nodes of its inputs as `next_functions`.

Here is a model with one weight. It predicts `w * x + b`, pays for the squared error, and pays a penalty for a large
weight. Note that `w` is used twice.
"""

# %%
x, target = torch.tensor(3.0), torch.tensor(4.0)
w = torch.tensor(2.0, requires_grad=True)
b = torch.tensor(-1.0, requires_grad=True)

product = x * w
prediction = product + b
error = prediction - target
penalty = w**2
squared = error**2
loss = penalty + squared


def print_graph(node, indent: str = "") -> None:
    """The graph below `node`, one node per line."""
    print(indent + (node.name() if node else "None"))
    for input_node, _ in node.next_functions if node else ():
        print_graph(input_node, indent + "    ")


print_graph(loss.grad_fn)

# %% [markdown]
"""
Read it from the top: `loss` came from an addition, whose inputs came from two squarings, and so on down. Three things
are worth knowing.

- **`AccumulateGrad`** is where the tape ends. It belongs to a **leaf**: a tensor that you made, not one that an
  operation made. `w` has one such node, printed twice because two paths lead to it.
- **`None`** stands for `x` and `target`. They need no gradient, so the graph has no node for them and backward never
  goes there. Freezing a layer works like this.
- **The graph is of what ran.** A Python `if` or `for` leaves no trace but the operations that it let through. The next
  forward pass records a new graph, which may look different.

## Backward walks the graph once

`loss.backward()` starts at the top with the gradient of the loss with respect to itself, 1. Each node multiplies what
it receives by its own local derivative and passes the products on. Where paths meet, contributions are **added**; a
node runs once all of them have arrived. That is the whole chain rule.

We let every node report what it sends along each of its edges, and then draw the graph that we just printed.
"""

# %%
sent = {}  # node -> the gradients it passes on, one per input


def listen(node) -> None:
    """Note what `node`, and every node below it, sends during backward."""
    if node is None or node in sent:
        return
    sent[node] = ()
    node.register_hook(lambda grad_inputs, _: sent.update({node: grad_inputs}))
    for input_node, _ in node.next_functions:
        listen(input_node)


listen(loss.grad_fn)
loss.backward()
print("w.grad =", w.grad.item(), "  b.grad =", b.grad.item(), "  x.grad =", x.grad)

# %%
# Only drawing from here to the end of the cell: no harm in skipping it.
values = {"loss": loss, "penalty": penalty, "squared": squared, "error": error, "prediction": prediction}
names = {t.grad_fn: f"{name} = {t:g}" for name, t in (values | {"product": product}).items()}


def text_of(node) -> str:
    """What stands in the box of `node`: its name, its forward value and, for a leaf, the gradient that arrived."""
    if node in names:
        return f"{node.name()}\n{names[node]}"
    name = "w" if node.variable is w else "b"
    return f"{node.name().rpartition('::')[2]}\n{name} = {node.variable:g}\n{name}.grad = {node.variable.grad:g}"


def place(node, column: int, lane: int) -> None:
    """Put `node` left of every node that uses it; its second input goes one lane down."""
    if node in spots:
        column, lane = max(column, spots[node][0]), spots[node][1]
    spots[node] = column, lane
    for i, (input_node, _) in enumerate(node.next_functions):
        if input_node is not None:
            place(input_node, column + 1, lane + i)


spots = {}
place(loss.grad_fn, 0, 0)
figure, axes = plt.subplots(figsize=(11, 4.2))
style = {"ha": "center", "va": "center", "fontsize": 9}
for node, (column, lane) in spots.items():
    box = {"boxstyle": "round,pad=0.45", "facecolor": COLOURS[0] if node in names else COLOURS[4], "edgecolor": "none"}
    axes.text(-column, -lane, text_of(node), color="white", bbox=box, zorder=3, **style)
    for i, (input_node, _) in enumerate(node.next_functions):
        to_column, to_lane = spots.get(input_node, (column + 0.6, lane + 0.75))
        down = (to_lane > lane) - (to_lane < lane)
        start = (-column - (0.1 if down else 0.3), -lane - 0.17 * down)
        end = (-to_column + (0.1 if down else 0.35), -to_lane + (0.24 if input_node else 0.12) * down)
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0})
        if input_node is None:
            axes.text(-to_column, -to_lane, "None", **style)
        else:
            badge = {"boxstyle": "round,pad=0.2", "facecolor": COLOURS[2], "edgecolor": "none"}
            middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
            axes.text(*middle, f"{sent[node][i]:g}", color="white", bbox=badge, zorder=4, **style)
axes.set(xlim=(-5.5, 0.5), ylim=(-2.4, 0.4))
axes.set_title(
    "Forward computed the values, left to right. Backward follows the arrows; violet is the gradient it sends."
)
axes.axis("off")
plt.show()

# %% [markdown]
r"""
Check it by hand. With $e = wx + b - \text{target} = 1$, the loss is $w^2 + e^2$, so

$$\frac{\partial\,\text{loss}}{\partial w} = 2w + 2e\,x = 4 + 6 = 10, \qquad \frac{\partial\,\text{loss}}{\partial b} =
2e = 2.$$

The two terms are the two arrows into `w`. Nobody wrote this formula; six small rules and a walk produced it.

With tensors in place of single numbers nothing changes but the local rule. A node never builds the matrix of all its
derivatives, the **Jacobian**. For a ReLU on a million activations that matrix would hold 10¹² numbers, 4 TB in
`float32`, nearly all of them zero. The node multiplies by a mask of zeros and ones instead. Given the gradient of its
output, it computes gradient *times* Jacobian directly: a **vector–Jacobian product**. That is also why `backward()`
wants to start from a scalar: there the first vector is simply 1. From any other tensor you must hand it one.

Direction matters. Going back from one loss reaches *every* parameter in one walk. Going forward, asking how each
parameter moves the output, takes one walk per parameter. Many inputs, one output: that is the shape of training, and
why **reverse mode** won.

## What it costs

Arithmetic first. We count the operations of eight linear layers, then the memory that one forward pass holds on to,
with and without the tape.
"""


# %%
def network(depth: int) -> nn.Module:
    """`depth` linear layers of width 256, each with a ReLU."""
    return nn.Sequential(*(part for _ in range(depth) for part in (nn.Linear(256, 256), nn.ReLU())))


batch = torch.randn(512, 256)
with FlopCounterMode(display=False) as forward:
    output = network(8)(batch).square().mean()
with FlopCounterMode(display=False) as backward:
    output.backward()
print(f"backward / forward, operations: {backward.get_total_flops() / forward.get_total_flops():.3f}\n")


def activations(model: nn.Module) -> float:
    """The most MiB that one forward pass holds at a time."""
    return peak_bytes(lambda: model(batch)) / 2**20


for depth in (8, 16, 32):
    model = network(depth)
    taped = activations(model)
    with torch.no_grad():
        bare = activations(model)
    print(f"{depth:2} layers: {taped:4.1f} MiB with the tape, {bare:.1f} MiB under no_grad")

# %% [markdown]
"""
**Time.** Going forward, a linear layer is one matrix product. Going back it is two: one for the gradient of its
weight, one for the gradient of its input. The first layer is let off the second, since the data need no gradient:
(2 · 8 − 1) / 8 = 1.875. One step of training is therefore about three forward passes.

**Memory.** Without the tape each activation dies as soon as the next layer has read it, so depth costs nothing. With
it, every layer's activation waits for the way back: memory grows with depth × batch. When training runs out of memory
and inference does not, this is where to look first.

`backward()` frees what the nodes had saved, layer by layer; a second call on the same graph usually raises an error
for that reason.

## Three traps

**1. Gradients add up.** `backward` *adds* to `.grad`, on leaves, and nothing clears it for you. That is deliberate: it
is the same addition as in the picture, carried on across calls, and large batches are built from small ones with it.
Forget to clear between steps and you train on the sum of all gradients so far. It raises nothing; the loss only
behaves oddly. Optimizers have `zero_grad()`, which by default sets `.grad` to `None` rather than to zeros.
"""

# %%
w.grad = None
for call in (1, 2, 3):
    ((x * w + b - target) ** 2 + w**2).backward()
    print(f"backward number {call}: w.grad = {w.grad:g}")

# %% [markdown]
"""
**2. A tensor keeps its whole past alive.** The loss holds its node, the node holds the nodes below it and all that
they saved. Add up the *tensors* of an evaluation loop and no graph can be freed until the sum goes. `model.eval()`
does not help: it changes what dropout and batch norm do, not what is recorded. Run evaluation under
`torch.no_grad()`, or under the stricter `torch.inference_mode()`, which has a little less overhead still. For your
statistics, keep numbers (`.item()`) or detached tensors.
"""

# %%
model = network(8).eval()


def evaluate(keep) -> torch.Tensor | float:
    """The sum of ten losses; `keep` says what of each loss goes into the sum."""
    total = 0.0
    for _ in range(10):
        total = total + keep(model(batch).square().mean())
    return total


print(f"adding tensors: {peak_bytes(lambda: evaluate(lambda loss: loss)) / 2**20:5.1f} MiB")
print(f"adding numbers: {peak_bytes(lambda: evaluate(torch.Tensor.item)) / 2**20:5.1f} MiB")
with torch.inference_mode():
    print(f"without a tape: {peak_bytes(lambda: evaluate(torch.Tensor.item)) / 2**20:5.1f} MiB")

# %% [markdown]
r"""
**3. In-place edits meet saved values.** The memory that you overwrite may be memory that a node has saved, perhaps
under another label. So every storage's edits are counted, in a counter that a tensor shares with its views. Backward
compares the count with what it was at saving time, and refuses if it has moved. The error is a favour. Writing through
`.data` slips past the counter, and you get a wrong gradient with a straight face.

Below, $\frac{d}{da} e^a = e^a$, so `exp` saves its *result*; then somebody reuses that buffer. The right gradient
would be $(1, e)$.
"""

# %%
for way in ("in place", "through .data"):
    a = torch.tensor([0.0, 1.0], requires_grad=True)
    result = a.exp()
    total = result.sum()
    buffer = result if way == "in place" else result.data
    buffer.zero_()
    print(f"{way}: the version of the result is {result._version}")
    try:
        total.backward()
        print("   no error, gradient", a.grad.tolist())
    except RuntimeError as refusal:
        print("  ", str(refusal).split(", which")[0])

# %% [markdown]
"""
## At scale

- **Budgets.** For a dense Transformer the counts above become a rule of thumb: with *N* parameters, about 2*N*
  operations per token forward and 4*N* backward, 6*N* in all. Seven billion parameters and a trillion tokens make
  4 · 10²² operations, and a procurement plan.
- **Data parallelism.** `DistributedDataParallel` hangs a hook on every parameter's accumulation, just as we hung hooks
  on nodes. Gradients are packed into buckets, and a full bucket travels to the other machines while backward is still
  busy with earlier layers, so that much of the communication hides behind computation.
- **Checkpointing.** `torch.utils.checkpoint` does not save what lies inside a block; backward runs the block's forward
  again when it gets there. It buys memory with arithmetic, and is how long sequences fit.
- **Compilation.** Under `torch.compile`, AOTAutograd traces forward and backward together, ahead of time, and decides
  for the pair what to save and what to compute again.
- **Serving.** A server runs under `inference_mode` and keeps no tape at all.

That is all you need at E-rank, and less changes on the way to S than you might think.

## References

1. Baydin, Pearlmutter, Radul and Siskind, *Automatic Differentiation in Machine Learning: a Survey*, JMLR, 2018.
2. Paszke et al., *PyTorch: An Imperative Style, High-Performance Deep Learning Library*, NeurIPS, 2019.
3. Li et al., *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, VLDB, 2020.
4. PyTorch documentation, [*Autograd mechanics*](https://docs.pytorch.org/docs/stable/notes/autograd.html).
5. PyTorch documentation, [*Tensor Views*](https://docs.pytorch.org/docs/stable/tensor_view.html).

## Test yourself

Answer aloud before you unfold.

**1.** After the picture above, `w.grad` was 10 but `prediction.grad` is `None`, although 2 flowed through it. Why, and
how would you get it?

<details><summary>Answer</summary>

`prediction` is not a leaf: an operation made it. Its gradient is passed on and forgotten, or each step would hold a
gradient for every activation. Call `prediction.retain_grad()` before `backward()`, or ask for it by name with
`torch.autograd.grad(loss, prediction)`.

</details>

**2.** A network has 32 layers and you train only two of them. Does it matter, for time and memory, whether these are
the first two or the last two?

<details><summary>Answer</summary>

Very much. If the first 30 are frozen, nothing that reaches them needs a gradient: no nodes, nothing saved, and
backward ends at layer 31. If the last 30 are frozen, the way from the loss to the two live layers still leads through
all of them, and each must pass on the gradient of its input. On the network above, with 32 layers, we counted 3 matrix
products going back against 33, and 2.0 MiB held against 16.5. Fine-tuning the top is cheap, fine-tuning the bottom is
not.

</details>

**3.** `forward` contains `if x.mean() > 0: return self.a(x)` and otherwise returns `self.b(x)`. What do the parameters
of `a` and `b` have in `.grad` after one step that took the first branch? Does the comparison contribute anything?

<details><summary>Answer</summary>

Those of `a` have a gradient; those of `b` keep what they had, `None` after `zero_grad()`, and an optimizer of
`torch.optim` skips a parameter whose gradient is `None`. The tape holds only what ran. The comparison gives a Boolean,
which has no gradient: nothing teaches the model which branch to take.

</details>

Ready? Mark the brief as read, then open Lab 1.
"""

# %%
from grading import mark_as_read

mark_as_read("phase1/theory1")
