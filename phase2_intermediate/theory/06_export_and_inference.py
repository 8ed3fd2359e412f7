# %% [markdown]
"""
# Inference: from TorchScript to `torch.export` and ONNX

*Theory brief, 15 minutes. Run the cells as you read; each takes a few seconds, on any machine.*

Training wants a program that is easy to change. Serving wants one that never changes: no Python, no surprises, the
same answer on another machine in three years, in five milliseconds. Between the two stands **export**: somebody looks
at your Python once, writes down what it computes as a *graph*, and from then on only the graph counts.

Which raises the one question of this brief: what does that somebody see?
"""

# %%
import logging
import tempfile
import time
import warnings
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn

from labkit.plots import COLOURS, use_theme

torch.manual_seed(0)
torch.set_num_threads(1)
use_theme()
warnings.filterwarnings("ignore", category=FutureWarning)  # TorchScript's, see below
warnings.filterwarnings("ignore", category=DeprecationWarning)

# %% [markdown]
"""
## Three ways to look at a program

- **Tracing** runs it once with an example, and notes each operation. It sees *one path*: an `if` is taken or not, a
  loop runs as often as it did, a number computed from a shape becomes a constant. Nothing is said about the rest.
- **Scripting** reads the source, as a compiler does, and keeps `if` and `for`. It understands a *part* of Python, and
  refuses what lies beyond.
- **`torch.export`** runs it with *symbols*: tensors that have shapes but no values. It sees every operation; where
  the path would depend on a value, it stops and says so. What may vary in size is declared; what was assumed about it
  is kept as a *guard* and checked when the graph is used.

The first two are TorchScript, the way of 2018. In PyTorch 2.14 they still work, with a warning; `torch.export` has
taken their place. You will meet TorchScript files for years, so know what can be wrong with one.
"""


# %%
class Clip(nn.Module):
    """Scales rows down if they are too long: a decision that depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        if x.norm() > 10:
            x = 10 * x / x.norm()
        return x


small, large = torch.ones(2, 3), 100 * torch.ones(2, 3)
with warnings.catch_warnings(action="ignore"):  # it does warn that the trace may be wrong
    traced = torch.jit.trace(Clip(), small)
scripted = torch.jit.script(Clip())
print(f"norm of the answer to a large input: {Clip()(large).norm():.0f} as written, "
      f"{traced(large).norm():.0f} traced with a small one, {scripted(large).norm():.0f} scripted")  # fmt: skip
logging.getLogger("torch").setLevel(logging.ERROR)
try:
    with redirect_stderr(StringIO()):  # the whole graph, up to there
        torch.export.export(Clip(), (small,))
except RuntimeError as error:
    print("torch.export:", type(error).__name__, "·", str(error).splitlines()[0])

# %% [markdown]
"""
The trace is *wrong*, and nothing tells the user of the file. The export refuses, and you decide: rewrite the decision
as arithmetic, which is also faster on a GPU, or keep both branches with `torch.cond`.
"""


# %%
class ClipByArithmetic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (10 / x.norm()).clamp(max=1)


exported = torch.export.export(ClipByArithmetic(), (small,))
print("exported now:", f"{exported.module()(large).norm():.0f}")

# %% [markdown]
"""
## What may vary

An exported graph is for *these* shapes, unless you name the dimensions that may change, and between what bounds. The
export then proves that the program works for all of them, or names the line that assumes otherwise.
"""


# %%
class Classifier(nn.Module):
    """Words in, class logits out: an embedding, one Transformer layer, a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 64)
        self.layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.head = nn.Linear(64, 2)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(words)).mean(1))


model = Classifier().eval()
words = torch.randint(1000, (3, 12))
batch, length = torch.export.Dim("batch", max=256), torch.export.Dim("length", max=512)
program = torch.export.export(model, (words,), dynamic_shapes={"words": {0: batch, 1: length}})
other = torch.randint(1000, (7, 40))
with torch.no_grad():
    print("another size, difference:", (program.module()(other) - model(other)).abs().max().item())
operations = [node.target for node in program.graph.nodes if node.op == "call_function"]
print(f"{len(operations)} operations, such as {', '.join(str(o) for o in operations[:3])}")

# %% [markdown]
"""
The graph is flat: no modules, no methods, some two thousand possible operations, or a *core* of under two hundred after
`run_decompositions()`. That is what makes it a meeting point. From here the ways part:

| to … | for … |
| --- | --- |
| `torch.export.save` | another Python process, years later |
| AOTInductor | C++ without Python, compiled for one machine |
| **ONNX** | other runtimes: servers, browsers, phones, other vendors' chips |
| ExecuTorch | phones and smaller |

## ONNX

A file format for graphs, with a fixed and versioned set of operators (the *opset*), and runtimes by many. Exporting is
half of the work; the other half is **parity**: the same inputs through both, several shapes, also the odd ones, and the
difference compared with what rounding explains.
"""

# %%
import onnxruntime

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "classifier.onnx")
    torch.onnx.export(model, (words,), path, dynamic_shapes={"words": {0: batch, 1: length}}, verbose=False)
    runtime = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
for shape in ((1, 1), (3, 12), (7, 40)):
    words = torch.randint(1000, shape)
    (theirs,) = runtime.run(None, {"words": words.numpy()})
    with torch.no_grad():
        gap = (torch.from_numpy(theirs) - model(words)).abs().max().item()
    print(f"batch {shape[0]}, length {shape[1]:2}: largest difference to PyTorch {gap:.0e}")

# %% [markdown]
r"""
Compare logits, not classes: two classes agree half of the time by chance.

## Fast: what to measure

*Latency* is what one request waits, *throughput* how many are answered in a second. They are traded against each
other by **batching**: a batch of 16 takes less time than 16 batches of one, and each of its members waits for all.
Report latency by its quantiles: p50 for the usual case, p95 and p99 for the users who complain. A mean hides them.
"""

# %%
sizes, latencies = [1, 2, 4, 8, 16, 32, 64], []
with torch.inference_mode():
    for size in sizes:
        words = torch.randint(1000, (size, 24))
        times = []
        for _ in range(30):
            start = time.perf_counter()
            model(words)
            times.append(1000 * (time.perf_counter() - start))
        latencies.append(sorted(times))
p50, p95 = ([t[int(q * len(t))] for t in latencies] for q in (0.5, 0.95))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
left.loglog(sizes, p50, "o-", color=COLOURS[0], label="p50")
left.loglog(sizes, p95, "s--", color=COLOURS[1], label="p95")
left.set(xlabel="batch", ylabel="milliseconds", title="What a request waits")
left.legend()
right.semilogx(sizes, [1000 * n / t for n, t in zip(sizes, p50, strict=True)], "o-", color=COLOURS[0])
for axes in (left, right):
    axes.set_xticks(sizes, sizes, minor=False)
    axes.minorticks_off()
right.set(xlabel="batch", ylabel="answers a second", title="What the machine does", ylim=(0, None))
plt.show()

# %% [markdown]
"""
The left curve is flat at first: there is a fixed price for each call, shared by the batch. Where it turns to rise in
proportion, the machine is full, and a larger batch only waits longer.

A server collects requests for a few milliseconds, or until a batch is full, whichever comes first: *dynamic
batching*. Two numbers, the largest batch and the longest wait, are all of its tuning, and you choose them from this
picture and from the latency you have promised.

## Three traps

1. **`eval` forgotten before the export.** Dropout and batch statistics are then *in the graph*. Parity tests find it,
   if they run with more than one input.
2. **An example that is special.** A batch of one, a length that equals the width: sizes 0 and 1 are specialised, and
   equal sizes may be taken for the same. Export with odd, distinct sizes.
3. **The pre-processing stays behind.** The graph begins at token numbers; the tokeniser is Python. Ship its file and
   version with the graph, and test from text to answer.

## At scale

- **`torch.compile` or export?** Compiling keeps Python, falls back where it must, and compiles again for new shapes:
  right for training and research. Export gives one artefact with no fallback: right for a release.
- **Warm up before you take traffic.** The first call loads, compiles, allocates: seconds, where the thousandth takes
  milliseconds. Servers send themselves a few requests of each size first.
- **A model is a release.** File, opset, library versions, tokeniser and a set of inputs with their expected outputs go
  together; the receiving side runs the set before it serves.
- **Shadow first.** The new graph answers a copy of the traffic and nobody sees it, until the differences are
  understood.

## References

1. Reed, DeVito, He, Ussery and Ansel, *torch.fx: Practical Program Capture and Transformation*, MLSys, 2022.
2. Ansel et al., *PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode Transformation and Graph
   Compilation*, ASPLOS, 2024.
3. PyTorch documentation, [*torch.export*](https://docs.pytorch.org/docs/stable/export.html).
4. PyTorch documentation, [*torch.onnx*](https://docs.pytorch.org/docs/stable/onnx.html).
5. Crankshaw et al., *Clipper: A Low-Latency Online Prediction Serving System*, NSDI, 2017.

## Test yourself

Answer aloud before you unfold.

**1.** A traced text model is right on every test sentence of 12 words and wrong on longer ones. What happened?

<details><summary>Answer</summary>

The example had 12 words, and a number that was computed from the shape, a position table's slice, a mask, a division by
the length, became a constant. Export with the length declared as dynamic, and test at least three lengths.

</details>

**2.** p50 is 8 ms and p99 is 300 ms. The mean is 15 ms. Name two causes that fit.

<details><summary>Answer</summary>

Something rare and slow: compilation or allocation for a shape not seen before; garbage collection; a queue behind one
very long input. All are invisible in the median. Look at which requests are slow before you look at the model.

</details>

**3.** Why may an export specialise a batch of one?

<details><summary>Answer</summary>

A dimension of size 1 broadcasts against any other, so a graph for size 1 may be another graph than for size *n*. The
export cannot tell whether you meant it, and takes 0 and 1 as given. Use an example with at least two.

</details>

Ready? Mark the brief as read, then open Lab 6.
"""

# %%
from grading import mark_as_read

mark_as_read("phase2/theory6")
