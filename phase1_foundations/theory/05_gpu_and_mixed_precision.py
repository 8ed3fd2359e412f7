# %% [markdown]
"""
# GPU use and mixed precision

*Theory brief, 15 minutes. Run the cells as you read; each takes a second or two, on any machine.*

A modern GPU does some 10¹⁵ multiplications a second in 16 bits and reads some 3 · 10¹² bytes a second from its memory.
Divide the two: unless it does about three hundred operations with every byte it fetches, it waits. Most of what makes
training fast follows from that one ratio: large matrix products, few small kernels, numbers of half the size, and a
Python program that stays out of the way.

None of it needs a GPU to be understood, and nothing below needs one to run.
"""

# %%
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
use_theme()
device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
print("this machine computes on:", device)

# %% [markdown]
"""
## A program on two machines

CPU and GPU are two computers. Your Python program runs on the first and writes *orders* for the second: "multiply
these, add that". Each order goes into a queue (a *stream*), and the call returns at once. Three consequences:

- **The queue hides the CPU, as long as it stays full.** An order takes some microseconds to write. If the work it asks
  for is shorter than that, the GPU waits for Python: many small kernels, small batches, loops over elements.
- **Looking empties it.** `.item()`, `print(loss)`, `.cpu()`, an `if` on a tensor: all wait until the queue has been
  worked off. Once in a hundred steps that is harmless; three times in each step it is not.
- **A clock on the CPU times the writing of orders.** Synchronise first, or let `torch.utils.benchmark` do it.

Code that runs on either machine names the device once, and creates what it needs *there*: `torch.zeros(n,
device=x.device)`, not `torch.zeros(n).to(device)`, which makes a detour through the CPU's memory.
"""


# %%
def causal_mask(x: Tensor) -> Tensor:
    """`(time, time)`, True where a position may look; on the device of `x`, whatever that is."""
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()


for place in ("cpu", "meta", device):
    print(causal_mask(torch.empty(2, 5, 8, device=place)).device)

# %% [markdown]
"""
The device `meta` is worth knowing: its tensors have shapes and no numbers. Code that runs on it forgets no `device=`.

## What sixteen bits can say

A floating-point number is a sign, an exponent (the range) and a fraction (the digits). Sixteen bits can be spent in two
ways:

| | exponent | fraction | largest | smallest normal | next after 1 |
| --- | --- | --- | --- | --- | --- |
| `float32` | 8 bits | 23 bits | 3.4 · 10³⁸ | 1.2 · 10⁻³⁸ | 1.0000001 |
| `float16` | 5 bits | 10 bits | 65,504 | 6.1 · 10⁻⁵ | 1.001 |
| `bfloat16` | 8 bits | 7 bits | 3.4 · 10³⁸ | 1.2 · 10⁻³⁸ | 1.008 |

Half the bytes means half the traffic, and special units that multiply 16-bit matrices at eight times the rate and more.
`float16` pays with its range, `bfloat16` with its digits. The picture shows both prices: the relative error of rounding
a number, by its size.
"""

# %%
sizes = torch.logspace(-12, 8, 4000, dtype=torch.float64)
figure, axes = plt.subplots(figsize=(8, 3.6))
for dtype, colour in zip((torch.float32, torch.float16, torch.bfloat16), COLOURS, strict=False):
    error = (sizes.to(dtype).double() - sizes).abs() / sizes
    worst = error.clamp(max=1).unfold(0, 20, 20).amax(1)
    name = str(dtype).removeprefix("torch.")
    axes.loglog(sizes[::20], worst, linestyle="-", color=colour, label=name)
axes.axvspan(1e-9, 1e-4, color="#797979", alpha=0.15)
axes.text(3e-7, 3e-7, "many gradients\nlive here", ha="center", fontsize=9)
axes.set(xlabel="size of the number", ylabel="relative error of rounding", title="Range and digits, the two prices")
axes.legend(loc="center right")
plt.show()

# %% [markdown]
"""
`bfloat16` is coarse everywhere and fails nowhere. `float16` is eight times finer in the middle, loses digits below
10⁻⁴, turns everything below 3 · 10⁻⁸ into zero, and everything above 65,504 into infinity. Activations are at home in
the middle. Gradients are not.

## Mixed precision: who gets how many bits

Nobody trains *in* 16 bits; training *mixes*. Three rules make it work.

1. **Matrix products in 16 bits, sums in 32.** Inside a product, the hardware multiplies in 16 bits and accumulates in
   32. Softmax, norms, losses and long sums stay in `float32`. `torch.autocast` does this sorting for you, operation
   by operation.
2. **Weights stay in `float32`.** An update is often a thousand times smaller than the weight, and `bfloat16` has no
   digits for that.
3. **With `float16`, scale the loss.** Multiply it by, say, 65,536, and every gradient moves up with it into the
   range; divide before the step. If one overflows, skip the step and halve the scale: a `GradScaler`. With
   `bfloat16`, there is no need.

Here are the three rules at work.
"""

# %%
model = nn.Sequential(nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 10))
x, labels = torch.randn(64, 256), torch.randint(10, (64,))
with torch.autocast("cpu", dtype=torch.bfloat16):
    logits = model(x)
    loss = F.cross_entropy(logits, labels)
loss.backward()
print("1. under autocast: logits", logits.dtype, "| loss", loss.dtype)
print("2. the weights and their gradients:", model[0].weight.dtype, model[0].weight.grad.dtype)

weight = torch.tensor(1.0)
for dtype in (torch.float32, torch.bfloat16):
    w = weight.to(dtype, copy=True)
    for _ in range(1000):
        w += 0.001
    print(f"   1 + a thousand times 0.001 in {dtype!s:15} {w.item():.3f}")

gradient = torch.tensor([1e-3, 1e-6, 1e-8])
print("3. gradients in float16:         ", gradient.half().tolist())
print("   scaled by 65,536, and back:   ", ((gradient * 65536).half().float() / 65536).tolist())

# %% [markdown]
"""
The second line is the trap that costs weeks: a model whose *weights* are in `bfloat16`, trained with a plain optimizer,
stops learning when its updates become small, and nothing raises. It stands still because 1 + 0.001 is 1.

`autocast` belongs around the forward pass and the loss, not around `backward`: each operation's backward runs in the
type that its forward chose.

## Where the memory goes

Four things live on the device during training. For *N* parameters and Adam, in `float32`:

- **parameters** 4N bytes, **gradients** 4N, **optimizer state** 8N. This part does not depend on the batch.
- **activations**: whatever `backward` will need. This part grows with batch × length × depth, and mixed precision
  halves most of it.

Mixed precision therefore does *not* halve everything: the master weights and the moments stay. If the fixed part is too
large, shard it (next brief but one); if the activations are, recompute some of them: *activation checkpointing* keeps
only the input of a block and runs its forward again when `backward` gets there. It costs about a third more arithmetic.
"""


# %%
def megabytes(parameters: int, batch: int, width: int, depth: int, activation_bytes: int) -> tuple[float, float]:
    """The fixed and the batch-dependent part, in MB, for a stack of linear layers with a GELU each."""
    return parameters * 16 / 1e6, batch * width * depth * 2 * activation_bytes / 1e6


width, depth = 2048, 24
parameters = depth * (width * width + width)
print(f"{parameters / 1e6:.0f} million parameters")
for batch in (64, 4096, 65536):
    fixed, full = megabytes(parameters, batch, width, depth, 4)
    half = megabytes(parameters, batch, width, depth, 2)[1]
    print(f"batch {batch:6}: fixed {fixed:6,.0f} MB, activations {full:7,.0f} MB, in 16 bits {half:7,.0f} MB")

# %% [markdown]
r"""
## What bounds you

Divide the operations of a kernel by the bytes it moves: its **arithmetic intensity**. A product of two n × n matrices
does 2n³ operations on 3n² numbers, so its intensity grows with n: large products are bound by arithmetic. Adding two
tensors does one operation for three numbers: bound by memory, on every machine, and no faster unit will help. The
only cure is *fusion*: do several such steps while the numbers are at hand. That is most of what `torch.compile` does,
and all of what fused attention does.

So, when a step is slow, find out *which* bound it is: the queue (Python), the memory, or the arithmetic. A profiler
tells; guessing does not.

## Three traps

1. **Timing without synchronising**, or timing the first call, which includes loading kernels, choosing algorithms and,
   with `torch.compile`, compiling for half a minute.
2. **A hidden synchronisation in each step**: `loss.item()` for a progress bar, `if grad_norm > limit`,
   `tensor.nonzero()`. Keep statistics as tensors on the device, and read them every hundred steps.
3. **Precision where it is not wanted.** A variance computed in 16 bits, a mean over a hundred thousand tokens, a loss
   summed by hand: leave them in `float32`.
"""

# %%
values = torch.full((4096,), 1.0, dtype=torch.bfloat16)
running = torch.tensor(0.0, dtype=torch.bfloat16)
for value in values:
    running += value
print(f"4,096 ones added one by one in bfloat16: {running.item():.0f}; summed in float32: {values.float().sum():.0f}")

# %% [markdown]
"""
## At scale

- **Utilisation** is counted as a share of the peak: 40 to 60 % of it is very good for training a large model. The rest
  goes into memory-bound kernels, communication and waiting.
- **Eight bits.** Recent hardware multiplies in 8-bit floats, at twice the rate again, with a scale for each block of
  numbers. The recipe is the same: products low, sums high, master weights untouched.
- **Inference is another regime.** Generating one token reads every weight once for a few operations each: bound by
  memory. That is why weights are quantized to 8 or 4 bits for serving, although nothing is computed in 4.
- **Reproducibility has a price.** The order in which partial sums are added may differ from run to run on a GPU.
  `torch.use_deterministic_algorithms(True)` fixes it where it can, raises where it cannot, and is slower.

## References

1. Micikevicius et al., *Mixed Precision Training*, ICLR, 2018.
2. Williams, Waterman and Patterson, *Roofline: An Insightful Visual Performance Model*, CACM, 2009.
3. Chen, Xu, Zhang and Guestrin, *Training Deep Nets with Sublinear Memory Cost*, 2016.
4. PyTorch documentation, [*Automatic Mixed Precision package*](https://docs.pytorch.org/docs/stable/amp.html).
5. PyTorch documentation, [*CUDA semantics*](https://docs.pytorch.org/docs/stable/notes/cuda.html).

## Test yourself

Answer aloud before you unfold.

**1.** A training step takes 40 ms on a fast GPU, and exactly as long with a batch of half the size. What bounds it?

<details><summary>Answer</summary>

Not the GPU's arithmetic, nor its memory: both would follow the batch. The queue runs empty: Python, or the data
loader, is too slow. Larger batches are free up to the point where the time begins to grow; `torch.compile` or CUDA
graphs write fewer orders.

</details>

**2.** Why does `bfloat16` training need no loss scaling, and why do its weights still need `float32`?

<details><summary>Answer</summary>

Scaling cures a lack of *range*, and `bfloat16` has the range of `float32`. What it lacks is *digits*: an update smaller
than 1/256 of the weight is rounded away. So gradients may be 16 bits wide, and the sum of updates may not.

</details>

**3.** Layer norm over 4,096 features reads its input, computes mean and variance, and writes. Is it bound by
arithmetic or by memory, and what would make it faster?

<details><summary>Answer</summary>

By memory: some ten operations for each number read and written. Written as four separate operations it makes four trips
through memory; fused into one kernel, one. 16-bit inputs halve the trip, with the statistics kept in `float32` inside.

</details>

Ready? Mark the brief as read, then open Lab 5.
"""

# %%
from grading import mark_as_read

mark_as_read("phase1/theory5")
