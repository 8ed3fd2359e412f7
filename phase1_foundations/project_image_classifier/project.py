# %% [markdown]
"""
# Project: an image classifier

A shop photographs every garment that comes back. Today a person sorts the pictures; you are asked for a program that
does it, that a colleague can train again on next season's pictures, and that says how sure it is. Not a notebook: a
package with a command line, configuration files, checkpoints and tests.

You write the package `image_classifier`, beside this notebook, in your editor. The notebook leads through it: it runs
what you have written, draws it, and checks each milestone. `README.md` has the scenario, the points and the results
that others have got.

**You will be able to**

- build a training pipeline whose every batch follows from the configuration, with any number of workers;
- stop it at any step and resume it to the last bit;
- say of a network which classes it confuses, how sure it is, and whether it should be;
- ship it as one file, and test a machine-learning package so that its faults show.

**Time** six to nine hours for the seven milestones (40 points). Two stretch goals earn XP.

**You need to know** Labs 1 to 6.
"""

# %% [markdown]
"""
## How to work

Functions to write raise `NotImplementedError`; their docstrings say exactly what they must do, and that is what the
checks test. All else is given, and worth reading: `config.py` first. `check("data")` starts a fresh process and judges
the files as they are saved, so what passes counts at once. `hint("data")` gives one of three hints. A milestone's
points are shared among its requirements: half of it right is half of the points.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/project")

# %%
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch
from IPython import get_ipython

from labkit.plots import COLOURS, INK, use_theme

use_theme()
# What you change in your editor is seen by the cells below.
get_ipython().run_line_magic("load_ext", "autoreload")
get_ipython().run_line_magic("autoreload", "2")
sys.path.insert(0, str(Path.cwd()))
from image_classifier.config import read_config

small = read_config(Path("configs/fashion_mnist_small.toml"))
print(small.model_dump_json(indent=2))

# %% [markdown]
"""
## 1 · Data

**`augment.py`, `data.py`.** A split that keeps the shares of the classes and leaks nothing; statistics of the training
part alone, in one pass; augmentation whose random numbers belong to (seed, epoch, position in the data set), so that
neither workers nor the order of loading can change them; batches that are a function of (seed, epoch).

Why so strict? Because resuming to the last bit, debugging one strange batch, and comparing two runs all rest on it.
"""

# %% tags=["demo"]
from image_classifier import data
from image_classifier.augment import augment, generator_for

pictures, test = data.load(small.data)
rows, held_out = data.split(pictures.labels, 0.1, seed=0)
mean, std = data.mean_and_std(pictures.images[rows])
print(f"{len(rows)} pictures to train on, {len(held_out)} held out; mean {mean.tolist()}, std {std.tolist()}")
figure, axes = plt.subplots(3, 8, figsize=(9, 3.6))
for row, ax in zip(range(3), axes, strict=True):
    for epoch, cell in enumerate(ax):
        image = pictures.images[row]
        shown = image if epoch == 0 else augment(image, 2, True, generator_for(0, epoch, row))
        cell.imshow(shown[0], cmap="gray")
        cell.set(xticks=[], yticks=[], title=("raw" if epoch == 0 else f"epoch {epoch}") if row == 0 else "")
    ax[0].set_ylabel(pictures.classes[int(pictures.labels[row])], fontsize=8)
plt.show()

# %% [markdown]
"""
**What you should see.** Three garments, each moved by up to two pixels and now and then mirrored, otherwise in every
epoch; run the cell again, and nothing changes.
"""

# %%
check("data")

# %% [markdown]
"""
## 2 · Model

**`model.py`.** The architecture is yours. The contract is not: logits for one or three channels, 28 or 32 pixels and
any number of classes; at most 100,000 parameters; every parameter learns (a bias before batch norm does not); the whole
picture is seen; in evaluation mode no picture knows of the others; and a fresh network is unsure, with a loss near the
logarithm of the number of classes.
"""

# %% tags=["demo"]
from image_classifier.model import BUDGET, Classifier

network = Classifier(1, 10)
n_parameters = sum(p.numel() for p in network.parameters())
print(f"{n_parameters:,} parameters, {BUDGET:,} allowed; logits {tuple(network(torch.randn(4, 1, 28, 28)).shape)}")

# %%
check("model")

# %% [markdown]
r"""
## 3 · Training

**`optim.py`, `training.py`.** AdamW with no decay for norms and biases, warm-up and cosine, clipping, label smoothing,
bfloat16 if the configuration asks for it; early stopping that keeps the best weights. `Trainer.run` counts steps, not
epochs: it may be asked to stop anywhere.
"""

# %% tags=["demo"]
from image_classifier import training

trainer = training.build(small, pictures)
losses = []
trainer.on_step = losses.append
trainer.run()
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(range(1, len(losses) + 1), losses, linestyle="-", color=COLOURS[0], label="each step")
epochs = [record["epoch"] * trainer.steps_per_epoch for record in trainer.history]
axes.plot(epochs, [record["validation_loss"] for record in trainer.history], "o", color=COLOURS[1], label="validation")
axes.axhline(torch.tensor(10.0).log(), color=INK, linestyle=":", label="ln 10")
axes.set(xlabel="step", ylabel="loss")
axes.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** A loss that begins near ln 10 and falls, though 1,350 pictures and four epochs are little. The
validation loss is measured in evaluation mode, on pictures that are not augmented, so it may lie below the training
loss. The spikes are the last batch of each epoch: six pictures.
"""

# %%
check("training")

# %% [markdown]
"""
## 4 · Resume

**`checkpoint.py`.** A run that is stopped anywhere, in the middle of an epoch, and resumed in another process must be
the run that was not stopped: the same weights, history and best weights, bit for bit. A write that is cut off leaves
the old checkpoint; a file from elsewhere can run no code; a checkpoint of another configuration is refused in a
sentence that names the difference.
"""

# %% tags=["demo"]
from image_classifier import checkpoint

whole = training.build(small, pictures)
whole.run(30)
stopped = training.build(small, pictures)
stopped.run(13)
state = checkpoint.capture(stopped)
resumed = training.build(small, pictures)
checkpoint.restore(resumed, state)
resumed.run(30)
weights = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
print("the same to the last bit:", all(torch.equal(a, b) for a, b in weights))

# %%
check("resume")

# %% [markdown]
r"""
## 5 · Evaluation and report

**`evaluation.py`.** Accuracy is where questions begin. Which classes are confused? Of the answers that are 90 % sure,
are 90 % right? That is calibration, and the expected calibration error is the mean over all rows of
$|\text{accuracy} - \text{confidence}|$ of their bin. One number, the temperature, repairs most of it: it is fitted on
the validation part, never on the test part, and changes no answer. The report's page itself is given.
"""

# %% tags=["demo"]
from image_classifier import evaluation
from image_classifier.training import logits_of

judged = training.build(small, pictures)
judged.run()
mean, std = judged.training_set.mean, judged.training_set.std
examples = data.PictureDataset(test, torch.arange(len(test.labels)), mean, std)
on_test = logits_of(judged.best_model(), data.loader(examples, data.ordered_batches(len(examples), 100)))
assessment = evaluation.assess(judged.validate(), on_test)
print(f"accuracy {assessment.accuracy:.1%}, temperature {assessment.temperature:.2f}")
worst_class = int(assessment.per_class.f1.argmin())
print(f"hardest class: {test.classes[worst_class]}, F1 {assessment.per_class.f1[worst_class]:.2f}")
figure, axes = plt.subplots(figsize=(4.5, 4))
axes.plot([0, 1], [0, 1], linestyle=":", color=INK, label="calibrated")
for bins, colour, label in zip(assessment.reliability, COLOURS, ("as trained", "with temperature"), strict=False):
    filled = bins.count > 0
    axes.plot(bins.confidence[filled], bins.accuracy[filled], "o-", color=colour, label=label)
axes.set(xlabel="confidence", ylabel="accuracy", title="Reliability on the test part")
axes.legend()
plt.show()

# %% [markdown]
"""
**What you should see.** A network trained for seconds. The reference's is right for 70 to 72 % of the pictures (five
seeds); another architecture may need longer, and begin with little more than half. It is *less* sure than it might be:
its points lie above the diagonal, as after little training they often do, and a temperature below 1 brings them down.
Networks trained for long lie below it. With 500 pictures the points scatter: a bin of ten rows says little.
"""

# %%
check("evaluation")

# %% [markdown]
"""
## 6 · The command line

**`export.py`, `prediction.py`, `main` in `cli.py`.** `Served` is what leaves the house: raw pictures in, calibrated
probabilities out, one file by `torch.export`, compared with the original. Pictures come from people, so they have any
size and mode, are transparent, cut off, or no pictures at all. Whatever a user can mend is one sentence and exit code
2; a fault of ours is not hidden.

The cell below is what a colleague will type. In a terminal, try the real thing too: `python -m image_classifier train
configs/fashion_mnist.toml --out runs/first` takes some minutes, and `tensorboard --logdir runs` draws while it trains.
"""

# %% tags=["demo"]
run = mkdtemp(prefix="run-")
for command in (
    ["train", "configs/fashion_mnist_small.toml", "--out", run],
    ["evaluate", run],
    ["export", run],
    ["predict", run, "no_such.png"],
):
    done = subprocess.run([sys.executable, "-m", "image_classifier", *command], capture_output=True, text=True)
    if "NotImplementedError" in done.stderr:
        print(f"{command[0]} needs what is not written yet.")
        break
    last = (done.stdout or done.stderr).strip().splitlines()[-1:]
    print(f"{command[0]}: exit code {done.returncode}, {' '.join(last)}")

# %%
check("command_line")

# %% [markdown]
"""
## 7 · Tests of your own

**`tests/test_image_classifier.py`.** A pipeline that is wrong still trains. Write tests that would notice: they are run
on a right package, where they must pass, and on packages with one mistake each, mistakes that people really make: a
split by position, statistics in the wrong chunk, a softmax too many, clipping left out, a resume that forgets the
random numbers. Each should make a test fail. Your own package is not involved, so a test may be judged before its
function is written.
"""

# %%
check("own_tests")

# %% [markdown]
r"""
## Stretch goals

**MixUp and CutMix** (`mixing.py`): batches of mixtures, with mixed labels. Their docstrings give the distributions;
mind that CutMix counts the pixels that were *really* replaced.
"""

# %%
check("mixing")

# %% [markdown]
"""
**Distillation** (`distillation.py`): half the parameters, taught by the large network's opinion of each picture.
"""

# %%
check("distillation")

# %% [markdown]
"""
# Meta-scale considerations

What changes when this program meets a billion pictures and a million users? Each heading works out its numbers from
what you can measure here. They are estimates, and estimates are what a design begins with.
"""

# %%
import time

PICTURES = 1_000_000_000
probe = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 3, stride=2, padding=1), torch.nn.ReLU(),
    torch.nn.Conv2d(16, 32, 3, stride=2, padding=1), torch.nn.ReLU(),
    torch.nn.Flatten(), torch.nn.Linear(32 * 49, 10),
)  # fmt: skip
batch = torch.randn(256, 1, 28, 28)
probe(batch).sum().backward()
start = time.perf_counter()
for _ in range(5):
    probe(batch).sum().backward()
rate = 5 * len(batch) / (time.perf_counter() - start)
print(f"this machine: {rate:,.0f} pictures/s through a small network, forward and backward")

# %% [markdown]
"""
### Scaling to billions of examples

Reading comes before computing. As single files a billion pictures are a billion seeks; as shards of some 100 MB they
are a stream. One epoch is then a matter of bandwidth, and more than one epoch is rare: data are filtered and
deduplicated instead of repeated.
"""

# %%
raw = PICTURES * 28 * 28
print(f"raw bytes: {raw / 1e12:.2f} TB, {raw / 100e6:,.0f} shards of 100 MB")
days, minutes = PICTURES / rate / 86400, raw / 2e9 / 60
print(f"one epoch here: {days:,.1f} days; reading alone, at 2 GB/s: {minutes:.0f} min")
print(f"as files with 5 ms each, one after the other: {PICTURES * 0.005 / 86400:,.0f} days")

# %% [markdown]
"""
### Distributed training

Data parallelism: every worker has the whole network and its share of the batch, and gradients are averaged. It pays as
long as averaging takes less time than computing, so small networks are the *hard* case: little to compute, and still a
message per step. The learning rate follows the batch only up to a point; past it, more workers buy nothing.
"""

# %%
parameters, bandwidth, latency = 80_000, 10e9, 50e-6
for workers in (1, 8, 64, 512):
    compute = 256 / rate
    ring = 2 * (workers - 1) / workers * parameters * 4 / bandwidth + 2 * (workers - 1) * latency
    efficiency = compute / (compute + ring)
    print(
        f"{workers:4} workers: {compute * 1e3:.1f} ms of work, {ring * 1e3:5.2f} ms of ring all-reduce, "
        f"{efficiency:.0%} useful"
    )

# %% [markdown]
"""
### Memory

For a network of this size activations are everything; for one of a billion parameters it is the optimizer. Sixteen
bytes a parameter (weights, gradients and two moments in float32) is the number to remember, and the reason for
sharding.
"""

# %%
for name, n in (("this project", 80_000), ("ResNet-18", 11_200_000), ("a billion", 1_000_000_000)):
    print(f"{name:13} {16 * n / 2**20:10,.1f} MiB of training state, {2 * n / 2**20:9,.1f} MiB to serve in bfloat16")
print(f"activations of the probe with 256 pictures: {256 * (16 * 14 * 14 + 32 * 7 * 7) * 4 / 2**20:.1f} MiB")

# %% [markdown]
"""
### Inference latency

Users feel the 95th percentile, not the mean. A batch of one wastes the machine, and a large batch makes people wait:
dynamic batching collects requests for a few milliseconds and pays the fixed cost of a call once.
"""

# %%
probe.eval()
with torch.no_grad():
    for size in (1, 8, 64):
        rows = torch.randn(size, 1, 28, 28)
        times = []
        for _ in range(60):
            start = time.perf_counter()
            probe(rows)
            times.append(time.perf_counter() - start)
        p50, p95 = (1e3 * torch.tensor(times[10:]).quantile(q).item() for q in (0.5, 0.95))
        print(f"batch {size:3}: p50 {p50:.2f} ms, p95 {p95:.2f} ms, {1e3 * size / p50:,.0f} pictures/s")

# %% [markdown]
"""
### Serving architecture

Stateless replicas behind a balancer; a model registry from which they load a *version*; a queue for what may wait. How
many replicas? Little's law: requests in flight are the rate times the time each takes. Plan for the peak hour and for
one zone missing, and fall back to the smaller, distilled network before you fall over.
"""

# %%
daily, peak_factor, service_s, utilisation = 50_000_000, 4, 0.004, 0.6
peak = daily / 86400 * peak_factor
in_flight = peak * service_s
replicas = in_flight / utilisation
print(
    f"peak {peak:,.0f} requests/s, {in_flight:.1f} in flight, {replicas:.0f} single-threaded replicas at "
    f"{utilisation:.0%} load"
)
print(f"with one of three zones gone: {replicas * 1.5:.0f}")

# %% [markdown]
"""
### A/B testing and online metrics

A better test accuracy is a promise; sorted garments are the result. The online metric is how often a person corrects
the program, and an experiment needs enough people to see the difference. The test set ages, too: watch the share of
each predicted class and the mean confidence, which move before any label arrives.
"""

# %%
base, lift, z = 0.10, 0.005, 1.96 + 0.84
needed = 2 * z**2 * base * (1 - base) / lift**2
print(
    f"to see corrections fall from {base:.1%} to {base - lift:.1%} (5 % level, 80 % power): {needed:,.0f} "
    f"garments a side"
)
expected = torch.full((10,), 0.1)
seen = torch.tensor([0.14, 0.1, 0.1, 0.1, 0.09, 0.1, 0.1, 0.1, 0.09, 0.08])
print(f"drift of the predicted classes: KL {(seen * (seen / expected).log()).sum():.4f} nats; alert above, say, 0.01")

# %% [markdown]
"""
## Recap

You have a package that another person can train, stop, resume, judge, ship and trust, and tests that say so. Compare
your numbers with the table in `README.md`, and try the stretch goals against it.

**Next** is Phase 2: Transformers, and training on several processes.
"""
