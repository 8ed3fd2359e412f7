"""Checkers of Lab 3: training loop from scratch."""

import copy
import io
import itertools
import math
import multiprocessing
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from grading.exercise import Exercise, ForbiddenCall, forbid, guard, raises, slow
from labkit.data import digits

EXACT = {"rtol": 1e-9, "atol": 1e-12}


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng, dtype=dtype)


def classes(rng: torch.Generator, n: int, n_classes: int) -> Tensor:
    """Random classes."""
    return torch.randint(n_classes, (n,), generator=rng)


def filled(module: nn.Module, rng: torch.Generator) -> nn.Module:
    """`module` with random numbers in its parameters, by sorted name."""
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(normal(rng, *parameter.shape) / 2)
    return module


def same_steps(ours: object, reference: torch.optim.Optimizer, rng: torch.Generator, rates: list[float]) -> None:
    """Feed both the same gradients, some of them missing, one rate after the other; compare the parameters."""
    parameters = [p for group in reference.param_groups for p in group["params"]]
    for step, lr in enumerate(rates):
        ours.lr = lr
        for group in reference.param_groups:
            group["lr"] = lr
        for i, (mine, theirs) in enumerate(zip(ours.parameters, parameters, strict=True)):
            gradient = normal(rng, *theirs.shape, dtype=theirs.dtype)
            missing = i == 1 and step in (0, 2)
            mine.grad = None if missing else gradient.clone()
            theirs.grad = None if missing else gradient
        ours.step()
        reference.step()
        assert_close([p.detach() for p in ours.parameters], [p.detach() for p in parameters], **EXACT)


def twins(rng: torch.Generator, shapes: tuple = ((3, 4), (5,), ())) -> tuple[list[Tensor], list[Tensor]]:
    """Two equal lists of float64 parameters."""
    values = [normal(rng, *shape, dtype=torch.float64) for shape in shapes]
    return tuple([value.clone().requires_grad_() for value in values] for _ in range(2))


class TestMomentum(Exercise):
    """Momentum."""

    points = 2
    skills = ("optimizers",)
    hints = (
        "What must be remembered from one step to the next, and where is the learning rate in the two equations?",
        'Keep the velocity in `state["velocity"]`; `state.get("velocity", 0)` makes the first step no special case.',
        "velocity = momentum · old + g as a new tensor, then `w -= self.lr * velocity`.",
    )

    def test_steps(self, lab, rng):
        """equals torch.optim.SGD step by step, also for parameters that sometimes have no gradient"""
        mine, theirs = twins(rng)
        same_steps(lab.Momentum(mine, 0.1), torch.optim.SGD(theirs, 0.1, momentum=0.9), rng, [0.1] * 5)

    def test_other_momentum(self, lab, rng):
        """takes any momentum, also none"""
        for momentum in (0.0, 0.5):
            mine, theirs = twins(rng)
            reference = torch.optim.SGD(theirs, 0.2, momentum=momentum)
            same_steps(lab.Momentum(mine, 0.2, momentum), reference, rng, [0.2] * 4)

    def test_rate_changes(self, lab, rng):
        """a new learning rate takes effect at once and on the whole velocity"""
        mine, theirs = twins(rng)
        reference = torch.optim.SGD(theirs, 0.1, momentum=0.8)
        same_steps(lab.Momentum(mine, 0.1, 0.8), reference, rng, [0.1, 0.5, 0.01, 0.3])

    def test_gradient_reused(self, lab, rng):
        """keeps a velocity of its own, although the next gradient is written into the same tensor"""
        w = normal(rng, 4, dtype=torch.float64).requires_grad_()
        start, gradients = w.detach().clone(), normal(rng, 3, 4, dtype=torch.float64)
        optimizer, w.grad = lab.Momentum([w], 0.1, 0.9), torch.zeros(4, dtype=torch.float64)
        for gradient in gradients:
            w.grad.copy_(gradient)
            optimizer.step()
        velocities = [gradients[0], 0.9 * gradients[0] + gradients[1]]
        velocities.append(0.9 * velocities[1] + gradients[2])
        assert_close(w.detach(), start - 0.1 * sum(velocities), **EXACT)

    @guard
    def test_leaves_gradient_alone(self, lab, rng):
        """does not change the gradient"""
        w = normal(rng, 3).requires_grad_()
        gradient = normal(rng, 3)
        w.grad, optimizer = gradient.clone(), lab.Momentum([w], 0.1)
        for _ in range(2):
            optimizer.step()
        assert_close(w.grad, gradient)

    @guard
    def test_resumes(self, lab, rng):
        """remembers nothing outside `state`"""
        resumes(lab.Momentum, rng)


def resumes(make: type, rng: torch.Generator) -> None:
    """An optimizer that is given the state of another goes on as that one would."""
    (first, second), gradients = twins(rng), normal(rng, 4, 3, 4, dtype=torch.float64)
    old, new = make(first[:1], 0.1), make(second[:1], 0.1)
    for step, gradient in enumerate(gradients):
        if step == 2:
            new.load_state_dict(old.state_dict())
            with torch.no_grad():
                second[0].copy_(first[0])
        for parameter, optimizer in ((first[0], old), (second[0], new)):
            if optimizer is old or step >= 2:
                parameter.grad = gradient.clone()
                optimizer.step()
    assert_close(second[0].detach(), first[0].detach(), **EXACT)


class TestAdam(Exercise):
    """Adam and AdamW."""

    points = 3
    skills = ("optimizers", "numerics")
    hints = (
        "What is m after one step, compared with the gradient? What undoes that? And where does ε stand?",
        "Keep t, m and s in `state`, from 0. The root is of s / (1 − β₂ᵗ); ε is added after it.",
        "`w -= lr * m_hat / (s_hat.sqrt() + eps)`; AdamW does `w *= 1 - lr * weight_decay` first, then `super()`.",
    )

    def test_adam(self, lab, rng):
        """Adam equals torch.optim.Adam step by step, each parameter counting its own steps"""
        mine, theirs = twins(rng)
        same_steps(lab.Adam(mine, 0.1), torch.optim.Adam(theirs, 0.1), rng, [0.1] * 5)

    def test_settings(self, lab, rng):
        """takes betas and eps, and a rate that changes"""
        for betas, eps in (((0.5, 0.8), 0.1), ((0.0, 0.99), 1e-3)):
            mine, theirs = twins(rng)
            reference = torch.optim.Adam(theirs, 0.1, betas, eps)
            same_steps(lab.Adam(mine, 0.1, betas, eps), reference, rng, [0.1, 0.3, 0.02, 0.1])

    def test_adamw(self, lab, rng):
        """AdamW equals torch.optim.AdamW step by step"""
        for decay in (0.0, 0.5):
            mine, theirs = twins(rng)
            reference = torch.optim.AdamW(theirs, 0.1, (0.8, 0.9), 0.01, weight_decay=decay)
            same_steps(lab.AdamW(mine, 0.1, (0.8, 0.9), 0.01, decay), reference, rng, [0.1, 0.4, 0.2])

    def test_adamw_settings(self, lab, rng):
        """AdamW has the defaults of the signature"""
        mine, theirs = twins(rng)
        same_steps(lab.AdamW(mine), torch.optim.AdamW(theirs, weight_decay=0.01), rng, [1e-3, 0.5, 0.5])

    @guard
    def test_leaves_gradient_alone(self, lab, rng):
        """does not change the gradient"""
        for make in (lab.Adam, lab.AdamW):
            w, gradient = normal(rng, 3).requires_grad_(), normal(rng, 3)
            w.grad, optimizer = gradient.clone(), make([w], 0.1)
            for _ in range(2):
                optimizer.step()
            assert_close(w.grad, gradient)

    @guard
    def test_resumes(self, lab, rng):
        """remembers nothing outside `state`"""
        resumes(lab.Adam, rng)
        resumes(lab.AdamW, rng)


class TestWarmupCosine(Exercise):
    """Warm-up and cosine."""

    points = 2
    skills = ("schedules",)
    hints = (
        "What is the rate of step 0, and of the last step of the warm-up?",
        "Three stretches: before `warmup`, between, and from `total` on. In the middle p goes from 0 to 1.",
        "`floor + (peak - floor) * (1 + cos(pi * p)) / 2` with p no more than 1.",
    )

    def test_warm_up(self, lab, rng):
        """rises in a line from peak / warmup at step 0 to the peak at step warmup − 1"""
        for warmup, peak in ((4, 0.1), (1, 2.0), (7, 1e-3)):
            rates = [lab.warmup_cosine(step, warmup, 20, peak, peak / 9) for step in range(warmup)]
            assert_close(rates, [peak * k / warmup for k in range(1, warmup + 1)], rtol=1e-9, atol=0.0)

    def test_cosine(self, lab, rng):
        """falls along half a cosine from the peak at step warmup to the floor"""
        for warmup, total, peak, floor in ((3, 11, 0.1, 0.0), (0, 6, 2.0, 0.5), (5, 6, 1.0, 0.1)):
            p = (torch.arange(warmup, total, dtype=torch.float64) - warmup) / (total - warmup)
            expected = floor + (peak - floor) * torch.cos(math.pi * p / 2) ** 2
            rates = [lab.warmup_cosine(step, warmup, total, peak, floor) for step in range(warmup, total)]
            assert_close(torch.tensor(rates, dtype=torch.float64), expected, rtol=1e-9, atol=1e-12)

    def test_end(self, lab, rng):
        """is the floor from step total on"""
        rates = [lab.warmup_cosine(step, 2, 10, 1.0, 0.25) for step in (6, 10, 11, 13, 18, 1000)]
        assert_close(rates, [0.625] + [0.25] * 5, rtol=1e-9, atol=0.0)

    def test_default_floor(self, lab, rng):
        """the floor is 0 if nothing else is said"""
        rates = [lab.warmup_cosine(step, 2, 8, 3.0) for step in (1, 2, 5, 8, 9)]
        assert_close(rates, [3.0, 3.0, 1.5, 0.0, 0.0], rtol=1e-9, atol=1e-12)


class TestClipGradients(Exercise):
    """Clipping by the global norm."""

    points = 2
    skills = ("clipping", "gradients")
    hints = (
        "How many factors are there: one for each tensor, or one for all? What if the norm is already small?",
        "The norm of all is the norm of the norms. Make a list first: an iterator can be gone through only once.",
        "`factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)`, then `gradient *= factor` for each; return `norm`.",
    )

    def gradients(self, rng, scale):
        """Parameters with random gradients, one of them without."""
        parameters = [normal(rng, *shape).requires_grad_() for shape in ((3, 2), (4,), (2,), ())]
        for i, parameter in enumerate(parameters):
            parameter.grad = None if i == 2 else scale * (i + 1) * normal(rng, *parameter.shape)
        return parameters

    def norm(self, parameters):
        """The norm of all gradients as one float64 vector."""
        return torch.cat([p.grad.double().flatten() for p in parameters if p.grad is not None]).norm()

    def test_shortens(self, lab, rng):
        """multiplies all gradients by one factor, so that their common norm is max_norm"""
        for scale, max_norm in ((10.0, 1.0), (3.0, 0.01), (1e-4, 1e-6)):
            parameters = self.gradients(rng, scale)
            factor = (max_norm / (self.norm(parameters) + 1e-6)).float()
            expected = [p.grad * factor for p in parameters if p.grad is not None]
            lab.clip_gradients(iter(parameters), max_norm)
            assert_close([p.grad for p in parameters if p.grad is not None], expected)

    def test_leaves_short_ones(self, lab, rng):
        """leaves gradients alone whose common norm is below max_norm"""
        parameters = self.gradients(rng, 0.01)
        before = [p.grad.clone() for p in parameters if p.grad is not None]
        for max_norm in (5.0, math.inf):
            norm = lab.clip_gradients(parameters, max_norm)
            assert_close([p.grad for p in parameters if p.grad is not None], before)
            assert_close(norm, self.norm(parameters).float())

    def test_returns_the_norm(self, lab, rng):
        """returns the norm before clipping, a tensor without axes; 0 without gradients"""
        parameters = self.gradients(rng, 2.0)
        expected = self.norm(parameters).float()
        assert_close(lab.clip_gradients(iter(parameters), 0.5), expected)
        assert_close(lab.clip_gradients([normal(rng, 3).requires_grad_()], 1.0), torch.tensor(0.0))

    @guard
    def test_no_gradient(self, lab, rng):
        """leaves a parameter without a gradient without one, and the parameters as they are"""
        parameters = self.gradients(rng, 10.0)
        before = [p.detach().clone() for p in parameters]
        lab.clip_gradients(parameters, 1.0)
        assert parameters[2].grad is None, "expected a missing gradient to stay missing, but there is one now"
        assert_close([p.detach() for p in parameters], before)

    @guard
    def test_by_yourself(self, lab, rng):
        """does without torch.nn.utils"""

        def refuse(*args, **kwargs):
            raise ForbiddenCall("`torch.nn.utils` was used; this exercise is to be solved without it")

        names = ("clip_grad_norm_", "clip_grads_with_norm_", "get_total_norm", "clip_grad_norm")
        with pytest.MonkeyPatch.context() as patch:
            for name, module in itertools.product(names, (nn.utils, nn.utils.clip_grad)):
                patch.setattr(module, name, refuse, raising=False)
            with forbid("clip_grad_norm_"):
                lab.clip_gradients(self.gradients(rng, 10.0), 1.0)


class Witness(nn.Module):
    """A linear classifier that notes in which mode, and with which rows, it was called."""

    def __init__(self, d: int, n_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d, n_classes)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.modes, self.taped, self.rows = [], [], []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        self.taped.append(torch.is_grad_enabled())
        self.rows.append(x.detach().clone())
        self.calls += self.training
        return self.linear(x)


class TestTrainStep(Exercise):
    """One step, and an honest evaluation."""

    points = 3
    needs = ("momentum", "clip_gradients")
    skills = ("training-loop", "evaluation")
    hints = (
        "Which four things happen in a step, in which order? What is the mean of means of unequal batches worth?",
        "Sum the loss over rows (`reduction='sum'`) and divide once at the end. Note `model.training` first.",
        "train(), zero_grad(), cross_entropy, backward(), clip_gradients, step(), `loss.item()`.",
    )

    def batch(self, rng, n=6):
        """A model and a batch."""
        return filled(Witness(4, 3), rng), 3 * normal(rng, n, 4), classes(rng, n, 3)

    def expected_step(self, model, x, y, lr, max_norm=math.inf):
        """Loss before, weight and bias after one step of gradient descent."""
        weight, bias = (p.detach().clone().requires_grad_() for p in (model.linear.weight, model.linear.bias))
        loss = F.cross_entropy(x @ weight.T + bias, y)
        gradients = torch.autograd.grad(loss, [weight, bias])
        factor = min(1.0, max_norm / (torch.cat([g.flatten() for g in gradients]).norm().item() + 1e-6))
        return loss.item(), [(p - lr * factor * g).detach() for p, g in zip((weight, bias), gradients, strict=True)]

    def test_step(self, lab, rng):
        """makes a step along the gradient of this batch alone, whatever gradients there were"""
        model, x, y = self.batch(rng)
        for parameter in model.parameters():
            parameter.grad = normal(rng, *parameter.shape)
        _, expected = self.expected_step(model, x, y, 0.5)
        lab.train_step(model, lab.Momentum(model.parameters(), 0.5, 0.0), x, y)
        assert_close([model.linear.weight.detach(), model.linear.bias.detach()], expected)

    def test_clips(self, lab, rng):
        """clips the gradients before the step"""
        for max_norm in (0.1, 1e-3, 50.0):
            model, x, y = self.batch(rng)
            _, expected = self.expected_step(model, x, y, 1.0, max_norm)
            lab.train_step(model, lab.Momentum(model.parameters(), 1.0, 0.0), x, y, max_norm)
            assert_close([model.linear.weight.detach(), model.linear.bias.detach()], expected)

    def test_loss(self, lab, rng):
        """returns the mean loss before the step, a float"""
        model, x, y = self.batch(rng, 5)
        expected, _ = self.expected_step(model, x, y, 1.0)
        assert_close(lab.train_step(model, lab.Momentum(model.parameters(), 1.0), x, y), expected, rtol=1e-5, atol=1e-6)

    def test_evaluate(self, lab, rng):
        """weighs every row alike, in batches of any size"""
        for sizes in ([7, 7, 1], [4], [1, 9]):
            model, x, y = self.batch(rng, sum(sizes))
            logits = model.linear(x).detach()
            expected = [F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()]
            batches = zip(x.split(sizes), y.split(sizes), strict=True)
            assert_close(list(lab.evaluate(model, batches)), expected, rtol=1e-5, atol=1e-6)

    @guard
    def test_modes(self, lab, rng):
        """trains in training mode, evaluates in eval mode without a graph, and restores the mode"""
        model, x, y = self.batch(rng)
        model.eval()
        lab.train_step(model, lab.Momentum(model.parameters(), 0.1), x, y)
        assert model.modes == [True], f"expected training mode in a step, got {model.modes}"
        for mode in (True, False):
            model.train(mode)
            model.modes.clear(), model.taped.clear()
            lab.evaluate(model, [(x, y)])
            assert model.modes == [False], f"expected eval mode in evaluate, got training = {model.modes}"
            assert model.taped == [False], "expected no graph in evaluate, but gradients were enabled"
            assert model.training is mode, f"expected training to be {mode} again, got {model.training}"
        assert torch.is_grad_enabled(), "expected gradients to be enabled again after evaluate, but they are not"

    @guard
    def test_evaluate_changes_nothing(self, lab, rng):
        """evaluation leaves parameters, buffers and gradients untouched"""
        model, x, y = self.batch(rng)
        for parameter in model.parameters():
            parameter.grad = normal(rng, *parameter.shape)
        before = [*copy.deepcopy(model.state_dict()).values(), *(p.grad.clone() for p in model.parameters())]
        lab.evaluate(model, [(x, y)])
        assert all(p.grad is not None for p in model.parameters()), "expected the gradients to stay, but they are gone"
        assert_close([*model.state_dict().values(), *(p.grad for p in model.parameters())], before)

    @guard
    def test_floats(self, lab, rng):
        """returns Python floats"""
        model, x, y = self.batch(rng)
        given = [lab.train_step(model, lab.Momentum(model.parameters(), 0.1), x, y), *lab.evaluate(model, [(x, y)])]
        kinds = [type(number).__name__ for number in given]
        assert kinds == ["float"] * 3, f"expected three floats, got {kinds}"


class TestOverfits(Exercise):
    """One batch first."""

    points = 2
    needs = ("adam", "clip_gradients", "train_step")
    skills = ("debugging", "training-loop")
    hints = (
        "How many models and optimizers are made? When is the answer known?",
        "Up to `steps` calls of `train_step`; the first loss below the threshold ends it.",
        "`any(train_step(model, optimizer, x, y) < threshold for _ in range(steps))`.",
    )

    def losses(self, lab, model, x, y, lr, steps):
        """The loss before each of `steps` steps of torch's own Adam."""
        model, losses = copy.deepcopy(model), []
        optimizer = torch.optim.Adam(model.parameters(), lr)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def test_first_loss_below(self, lab, rng):
        """True as soon as a loss is below the threshold, False if none of `steps` is"""
        for lr in (0.05, 0.2):
            model, x, y = filled(nn.Linear(6, 3), rng), normal(rng, 5, 6), classes(rng, 5, 3)
            losses = self.losses(lab, model, x, y, lr, 12)
            threshold = (losses[8] + losses[9]) / 2
            needed = next(i for i, loss in enumerate(losses) if loss < threshold) + 1
            answers = [
                lab.overfits(lambda m=model: copy.deepcopy(m), x, y, lr, steps, threshold)
                for steps in (needed - 1, needed, needed + 5)
            ]
            assert answers == [False, True, True], (
                f"expected False, True, True for {needed - 1}, {needed} and {needed + 5} steps, got {answers}"
            )

    def test_sound_and_broken(self, lab, rng):
        """tells sound networks from broken ones"""
        x, y = normal(rng, 16, 8), classes(rng, 16, 4)

        def make(*tail):
            return lambda: filled(nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4), *tail), rng)

        answers = [lab.overfits(make(), x, y), lab.overfits(make(nn.Softmax(1)), x, y)]
        answers += [lab.overfits(lambda: nn.Sequential(nn.Linear(8, 4), nn.Threshold(99, 0), Offset(4)), x, y)]
        answers += [lab.overfits(make(), x, y, steps=1), lab.overfits(make(), x, y, threshold=1e9)]
        assert answers == [True, False, False, False, True], (
            "expected True for a sound network, False with a softmax too many, False for a dead one, False after one "
            f"step, True below a billion; got {answers}"
        )

    def test_no_further_step(self, lab, rng):
        """makes one model, and no step more than needed"""
        made = []

        def make():
            made.append(filled(Witness(4, 3), rng))
            return made[-1]

        x, y = normal(rng, 5, 4), classes(rng, 5, 3)
        outcomes = []
        for steps, threshold in ((7, -1.0), (7, 1e9), (3, -1.0)):
            made.clear()
            lab.overfits(make, x, y, 0.01, steps, threshold)
            outcomes.append((len(made), sum(len(model.modes) for model in made)))
        assert outcomes == [(1, 7), (1, 1), (1, 3)], (
            f"expected one model each and 7, 1 and 3 steps, got (models, steps) = {outcomes}"
        )

    @guard
    def test_nan(self, lab, rng):
        """a loss of NaN is below nothing; the answer is a bool"""
        x = torch.full((2, 3), torch.nan)
        answer = lab.overfits(lambda: nn.Linear(3, 2), x, torch.tensor([0, 1]), steps=3)
        assert answer is False, f"expected False, got {answer!r}"


class Offset(nn.Module):
    """Adds a learned offset to every row."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset


class TestRun(Exercise):
    """Stop, and resume bit for bit."""

    points = 4
    needs = ("momentum", "adam", "clip_gradients", "train_step")
    skills = ("checkpointing", "reproducibility", "dataloaders")
    hints = (
        "What draws random numbers in a training, and what remembers something? How does the place follow from `step`?",
        "`epoch, done = divmod(step, batches per epoch)`; the DataLoader gets `order(epoch)[done:]` as `batch_sampler` "
        "and a generator of its own.",
        "Save model, optimizer, step and `torch.get_rng_state()` into another file, then `os.replace(partial, path)`.",
    )
    N = 22
    SIZE = 5

    def data(self, rng):
        """22 rows, hence five batches an epoch, the last of two."""
        return TensorDataset(normal(rng, self.N, 4), classes(rng, self.N, 3))

    def make(self, lab, data, seed, optimizer="AdamW", workers=0):
        """A run with dropout and batch norm, from a seed."""
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        schedule = lambda step: 0.1 / (step + 1)  # noqa: E731
        return lab.Run(model, getattr(lab, optimizer)(model.parameters(), 0.1), data, self.SIZE, 7, schedule, workers)

    def resumed(self, lab, data, path, stop, end, optimizer="AdamW", workers=0):
        """Losses and state of a whole run and of one that was stopped, saved and resumed in fresh objects."""
        whole = self.make(lab, data, 1, optimizer, workers)
        losses = list(whole.train(end))
        first = self.make(lab, data, 1, optimizer, workers)
        parts = list(first.train(stop))
        first.save(path)
        first.train(stop + 1)  # what happens after saving is nobody's business
        second = self.make(lab, data, 2, optimizer, workers)
        second.load(path)
        parts += second.train(end)
        return [parts, list(second.model.state_dict().values())], [losses, list(whole.model.state_dict().values())]

    def test_mid_epoch(self, lab, rng, tmp_path):
        """a run that was stopped in the middle of an epoch ends with the same weights, bit for bit"""
        for stop in (1, 3, 7):
            actual, expected = self.resumed(lab, self.data(rng), tmp_path / "c.pt", stop, 11)
            assert_close(actual, expected, rtol=0.0, atol=0.0)

    def test_between_epochs(self, lab, rng, tmp_path):
        """so does one that was stopped between two epochs, or before the first step"""
        for stop in (0, 5, 10):
            actual, expected = self.resumed(lab, self.data(rng), tmp_path / "c.pt", stop, 11)
            assert_close(actual, expected, rtol=0.0, atol=0.0)

    def test_momentum(self, lab, rng, tmp_path):
        """with momentum, too"""
        actual, expected = self.resumed(lab, self.data(rng), tmp_path / "c.pt", 4, 9, "Momentum")
        assert_close(actual, expected, rtol=0.0, atol=0.0)

    def test_order(self, lab, rng):
        """trains on the batches of `order`, epoch after epoch, however often it is interrupted"""
        for stops in ((12,), (2, 3, 9, 12)):
            data = self.data(rng)
            model = Witness(4, 3)
            run = lab.Run(model, lab.Momentum(model.parameters(), 0.1), data, self.SIZE, 3, lambda step: 0.01)
            for stop in stops:
                run.train(stop)
            expected = [data.tensors[0][b] for epoch in range(3) for b in run.order(epoch)][:12]
            assert_close(model.rows, expected)

    def test_schedule(self, lab, rng):
        """sets the learning rate of each step before it, and counts steps"""
        seen, asked = [], []
        data = self.data(rng)
        model = nn.Linear(4, 3)

        class Noting(lab.Momentum):
            def step(self):
                seen.append(self.lr)
                super().step()

        run = lab.Run(
            model, Noting(model.parameters(), 9.0), data, self.SIZE, 3, lambda k: asked.append(k) or 0.5 / (k + 1)
        )
        lengths = [len(run.train(until)) for until in (3, 8, 8)]
        assert_close(seen, [0.5 / (k + 1) for k in range(8)])
        assert_close([*lengths, run.step], [3, 5, 0, 8])

    def test_clips(self, lab, rng):
        """clips to the norm 1"""
        data = TensorDataset(100 * normal(rng, 10, 4), classes(rng, 10, 3))
        model = filled(nn.Linear(4, 3), rng)
        before = [p.detach().clone() for p in model.parameters()]
        lab.Run(model, lab.Momentum(model.parameters(), 1.0, 0.0), data, 10, 0, lambda step: 1.0).train(1)
        moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before, strict=True)]).norm()
        assert_close(moved.detach(), torch.tensor(1.0), rtol=1e-3, atol=0.0)

    @slow
    def test_workers(self, lab, rng, tmp_path):
        """two workers change nothing, also not in a resume"""
        if "fork" not in multiprocessing.get_all_start_methods():
            pytest.skip("this system cannot fork")
        data = self.data(rng)
        plain = self.make(lab, data, 1)
        losses = list(plain.train(9))
        actual, expected = self.resumed(lab, data, tmp_path / "c.pt", 3, 9, workers=2)
        assert_close([actual[0], expected[0]], [losses, losses], rtol=0.0, atol=0.0)
        assert_close(actual[1], list(plain.model.state_dict().values()), rtol=0.0, atol=0.0)

    @guard
    def test_atomic(self, lab, rng, tmp_path):
        """if writing fails, the old file is still whole"""
        path, run = tmp_path / "c.pt", self.make(lab, self.data(rng), 1)
        run.save(path)
        before = path.read_bytes()
        run.train(2)

        def fail(state, file, *args, **kwargs):
            handle = file if isinstance(file, io.IOBase) else open(file, "wb")  # noqa: SIM115
            with handle:
                handle.write(b"half of it")
            raise OSError("no space left on device")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "save", fail)
            with raises(OSError):
                run.save(path)
        assert path.read_bytes() == before, (
            "expected the old checkpoint to be whole after a failed save, but it changed"
        )

    @guard
    def test_one_plain_file(self, lab, rng, tmp_path):
        """writes one file, which holds nothing but tensors, numbers and names"""
        run = self.make(lab, self.data(rng), 1)
        run.train(2)
        run.save(tmp_path / "c.pt")
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["c.pt"], f"expected c.pt alone, got {names}"
        torch.load(tmp_path / "c.pt", weights_only=True)

    @guard
    def test_generator_untouched(self, lab, rng):
        """loading data draws nothing from torch's default generator"""
        model = nn.Linear(4, 3)
        run = lab.Run(model, lab.Momentum(model.parameters(), 0.1), self.data(rng), self.SIZE, 3, lambda step: 0.1)
        before = torch.get_rng_state()
        run.train(7)
        assert torch.equal(torch.get_rng_state(), before), "expected torch's generator to stay, but it moved"


# Over 12 seeds the reference reaches 0.964 ± 0.006, a schedule that counts epochs 0.75 ± 0.06.
LEARNS = 0.93


class TestFitMlp(Exercise):
    """Your loop against scikit-learn's."""

    points = 2
    needs = ("adam", "warmup_cosine", "clip_gradients", "train_step", "run")
    skills = ("training-loop", "optimizers", "schedules")
    hints = (
        "How many steps are there in all, and how many rows does the last batch of an epoch have?",
        "`total = epochs * ceil(n / batch_size)`. Seed before the model is made, not after.",
        "`torch.tensor(losses).view(epochs, -1)`, times the sizes of the batches, summed and divided by n.",
    )

    def reference(self, lab, x, y, hidden, epochs, batch_size, peak, seed):
        """The same training with torch's own optimizer and clipping."""
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, int(y.max()) + 1))
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
        per_epoch = -(-len(x) // batch_size)
        total, curve = epochs * per_epoch, []
        warmup = total // 10
        for epoch in range(epochs):
            rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(1_000 * seed + epoch))
            summed = 0.0
            for i, batch in enumerate(rows.split(batch_size)):
                step = epoch * per_epoch + i
                p = (step - warmup) / (total - warmup)
                rate = peak * (step + 1) / warmup if step < warmup else peak * (1 + math.cos(math.pi * p)) / 2
                optimizer.param_groups[0]["lr"] = rate
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x[batch]), y[batch])
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                summed += loss.item() * len(batch)
            curve.append(summed / len(x))
        return model, curve

    CASES = ((23, 5, 6, 5, 4, 8, 0.05, 3), (12, 3, 4, 3, 12, 4, 0.1, 0))
    """`n`, `d`, classes, hidden, epochs, batch size, peak, seed."""

    def cases(self, lab, rng):
        """For each case the learner's model and curve, the reference's, and the rows."""
        for n, d, k, hidden, epochs, size, peak, seed in self.CASES:
            x, y = normal(rng, n, d), torch.cat([torch.arange(k), classes(rng, n - k, k)])
            arguments = (x, y, hidden, epochs, size, peak, seed)
            yield lab.fit_mlp(*arguments), self.reference(lab, *arguments), x

    def test_model(self, lab, rng):
        """gives the model that this seed and schedule lead to"""
        for (model, _), (expected, _), x in self.cases(lab, rng):
            assert_close(model(x).detach(), expected(x).detach(), rtol=1e-3, atol=1e-3)

    def test_curve(self, lab, rng):
        """gives the mean training loss of each epoch, each row counting the same"""
        for (_, curve), (_, expected), _ in self.cases(lab, rng):
            assert_close(list(curve), expected, rtol=1e-4, atol=1e-4)

    @slow
    def test_digits(self, lab, rng):
        """learns to read digits"""
        data = digits()
        x, y = data.images.flatten(1).float() / 16, data.labels
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        train, test = rows[:1400], rows[1400:]
        seed = int(torch.randint(100, (), generator=rng))
        model, _ = lab.fit_mlp(x[train], y[train], epochs=15, seed=seed)
        accuracy = (model(x[test]).argmax(1) == y[test]).double().mean().item()
        assert accuracy >= LEARNS, f"expected at least {LEARNS:.0%} of the digits to be read right, got {accuracy:.1%}"

    @guard
    def test_eval_mode(self, lab, rng):
        """returns the model in eval mode"""
        model, _ = lab.fit_mlp(normal(rng, 6, 2), torch.tensor([0, 1, 0, 1, 0, 1]), 3, 1, 4)
        assert not model.training, "expected the model in eval mode, got training mode"


class TestAccumulatedStep(Exercise):
    """A large batch in small pieces."""

    points = 1
    side_quest = True
    needs = ("momentum",)
    skills = ("training-loop", "memory")
    hints = (
        "By how many rows is the gradient of the large batch divided?",
        "Sum the losses of a piece, divide by the rows of all pieces, `backward`; one `step` at the end.",
        "`(F.cross_entropy(model(x), y, reduction='sum') / n_rows).backward()` for each piece.",
    )

    def accumulated(self, lab, rng, sizes):
        """Parameters and loss by the learner, and by one large batch."""
        model, x, y = filled(Witness(4, 3), rng), normal(rng, sum(sizes), 4), classes(rng, sum(sizes), 3)
        twin = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.grad = normal(rng, *parameter.shape)
        loss = F.cross_entropy(twin.linear(x), y)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        after = [(p - 0.5 * g).detach() for p, g in zip(twin.parameters(), gradients, strict=True)]
        pieces = list(zip(x.split(sizes), y.split(sizes), strict=True))
        model.eval()
        returned = lab.accumulated_step(model, lab.Momentum(model.parameters(), 0.5, 0.0), pieces)
        return model, returned, after, loss.item()

    def test_unequal_pieces(self, lab, rng):
        """equals one step on all rows together, for pieces of any size"""
        for sizes in ([5, 2, 1], [3, 3], [4]):
            model, _, after, _ = self.accumulated(lab, rng, sizes)
            assert_close([p.detach() for p in model.parameters()], after, rtol=1e-5, atol=1e-6)

    def test_loss(self, lab, rng):
        """returns the mean loss over all rows"""
        for sizes in ([5, 2, 1], [3, 3]):
            _, returned, _, loss = self.accumulated(lab, rng, sizes)
            assert_close(returned, loss, rtol=1e-5, atol=1e-6)

    @guard
    def test_piece_by_piece(self, lab, rng):
        """sends each piece through the model by itself, in training mode"""
        model, *_ = self.accumulated(lab, rng, [3, 1, 2])
        sizes = [len(rows) for rows in model.rows]
        assert (sizes, model.modes) == ([3, 1, 2], [True] * 3), (
            f"expected pieces of 3, 1 and 2 in training mode, got {sizes} with training = {model.modes}"
        )


class TestRangeTest(Exercise):
    """A range test for the learning rate."""

    points = 1
    side_quest = True
    needs = ("momentum", "adam", "clip_gradients", "train_step")
    skills = ("schedules", "optimizers")
    hints = (
        "What has to be noted before the first step, so that it can be put back?",
        "`copy.deepcopy(model.state_dict())`, `optimizer.state_dict()` and `model.training`.",
        "Stop after `not losses[-1] <= 4 * min(losses)`: it is true for NaN, too.",
    )

    def setting(self, lab, rng, n=8):
        """A model, its optimizer, and batches."""
        model = filled(Witness(4, 3), rng)
        batches = [(normal(rng, 6, 4), classes(rng, 6, 3)) for _ in range(n)]
        return model, lab.Momentum(model.parameters(), 0.3), batches

    def test_losses(self, lab, rng):
        """gives the loss at each rate, on one batch after the other"""
        model, optimizer, batches = self.setting(lab, rng)
        twin = copy.deepcopy(model)
        reference, expected = torch.optim.SGD(twin.parameters(), 1.0, momentum=0.9), []
        lrs = [0.001 * 1.3**k for k in range(6)]
        for lr, (x, y) in zip(lrs, batches, strict=False):
            reference.param_groups[0]["lr"] = lr
            reference.zero_grad()
            loss = F.cross_entropy(twin(x), y)
            loss.backward()
            reference.step()
            expected.append(loss.item())
        assert_close(lab.range_test(model, optimizer, iter(batches), lrs), expected, rtol=1e-4, atol=1e-5)

    def scripted(self, lab, rng, losses):
        """What is returned if training steps gave these losses."""
        model, optimizer, _ = self.setting(lab, rng, 0)
        model.forward = lambda x: x + 0 * model.linear.bias.sum()
        # The loss of the logits (0, log(exp(loss) - 1)) for class 0 is `loss`; that of the last pair overflows.
        logits = [(-3e38, 3e38) if loss == math.inf else (0.0, math.log(math.expm1(loss))) for loss in losses]
        batches = [(torch.tensor([row]), torch.tensor([0])) for row in logits]
        return lab.range_test(model, optimizer, batches, [0.0] * len(losses))

    def test_stops(self, lab, rng):
        """stops after a loss of more than four times the smallest, or one that is not finite"""
        for losses, n in (
            ([2.0, 1.0, 3.9, 0.5, 1.9, 2.1, 0.1], 6),
            ([1.0, 3.0, 3.9, 2.0], 4),
            ([2.0, math.nan, 1.0], 2),
            ([1.0, math.inf, 1.0], 2),
        ):
            returned = self.scripted(lab, rng, losses)
            assert_close(list(returned), losses[:n], rtol=1e-4, atol=1e-5, equal_nan=True)

    @guard
    def test_as_before(self, lab, rng):
        """leaves model and optimizer as they were"""
        for mode in (True, False):
            model, optimizer, batches = self.setting(lab, rng)
            optimizer.state = [{"velocity": normal(rng, *p.shape)} for p in model.parameters()]
            model.train(mode)
            before, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state)
            lab.range_test(model, optimizer, batches, [0.1] * 5)
            assert_close(list(model.state_dict().values()), list(before.values()))
            assert model.training is mode, f"expected training to be {mode} again, got {model.training}"
            assert optimizer.lr == 0.3, f"expected the rate to be 0.3 again, got {optimizer.lr}"
            assert_close(optimizer.state, state)


class TestEarlyStopping(Exercise):
    """Early stopping."""

    points = 1
    side_quest = True
    skills = ("training-loop", "checkpointing")
    hints = (
        "What is an improvement, and how many calls in a row were none?",
        "Set the count to 0 at an improvement, else add 1; stop when it reaches `patience`.",
        "`copy.deepcopy(model.state_dict())`: a `state_dict` refers to the live tensors.",
    )

    def answers(self, lab, losses, patience, min_delta=0.0):
        """What `update` says after each loss."""
        stopping = lab.EarlyStopping(patience, min_delta)
        return [stopping.update(loss, nn.Linear(1, 1)) for loss in losses]

    def test_patience(self, lab, rng):
        """stops when `patience` losses in a row were no improvement"""
        got = [
            self.answers(lab, [3, 2, 2.5, 1, 1.5, 1.2, 1.1, 0.9], 3),
            self.answers(lab, [1, 1, 1], 1),
            self.answers(lab, [math.nan, math.nan, 5, math.nan, 4], 2),
        ]
        expected = [[False] * 6 + [True, False], [False, True, True], [False, True, False, False, False]]
        assert got == expected, f"expected {expected}, got {got}"

    def test_min_delta(self, lab, rng):
        """asks for an improvement on the best by more than min_delta"""
        got = [
            self.answers(lab, [1.0, 0.95, 0.92, 0.85, 0.8], 2, 0.1),
            self.answers(lab, [1.0, 0.5, 0.25], 1, 0.5),
        ]
        expected = [[False, False, True, False, False], [False, True, False]]
        assert got == expected, f"expected {expected}, got {got}"

    def test_restore(self, lab, rng):
        """restores the weights of the best loss, although the model went on"""
        stopping, model = lab.EarlyStopping(5), nn.Linear(3, 2)
        weights = normal(rng, 4, 2, 3)
        for loss, weight in zip((2.0, 1.0, 1.5, 1.0), weights, strict=True):
            with torch.no_grad():
                model.weight.copy_(weight)
            stopping.update(loss, model)
        with torch.no_grad():
            model.weight.zero_()
        stopping.restore(model)
        assert_close(model.weight.detach(), weights[1])
        assert_close(stopping.best, 1.0)

    @guard
    def test_nothing_to_restore(self, lab, rng):
        """before any improvement, `best` is infinite and `restore` raises RuntimeError"""
        stopping = lab.EarlyStopping(2)
        assert stopping.best == math.inf, f"expected best to be infinite at first, got {stopping.best}"
        with raises(RuntimeError):
            stopping.restore(nn.Linear(1, 1))
        stopping.update(math.nan, nn.Linear(1, 1))
        with raises(RuntimeError):
            stopping.restore(nn.Linear(1, 1))


def draws() -> list[float]:
    """A number from each of the three global generators."""
    return [random.random(), float(np.random.rand()), torch.rand((), dtype=torch.float64).item()]


def states() -> list:
    """The states of the three global generators, comparable."""
    return [
        random.getstate(),
        np.random.get_state()[1].tolist(),
        np.random.get_state()[2],
        torch.get_rng_state().tolist(),
    ]


class TestSeeded(Exercise):
    """A seed that stays where it is."""

    points = 1
    side_quest = True
    skills = ("reproducibility",)
    hints = (
        "Three generators have a state. What must happen to it before, and what after?",
        "`random.getstate`, `np.random.get_state`, `torch.get_rng_state`, and their setters in a `finally`.",
        "Note the states, seed all three, `try: yield`, `finally:` put them back.",
    )

    def test_draws(self, lab, rng):
        """inside, all three generators start from the seed"""
        for seed in (0, 7):
            random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
            expected = draws()
            for _ in range(2):
                with lab.seeded(seed):
                    assert_close(draws(), expected)

    def test_afterwards(self, lab, rng):
        """afterwards they go on as if nothing had happened"""
        draws()
        random_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
        expected = draws()
        random.setstate(random_state), np.random.set_state(numpy_state), torch.set_rng_state(torch_state)
        with lab.seeded(3):
            draws()
        assert_close(draws(), expected)

    @guard
    def test_after_an_exception(self, lab, rng):
        """so they do after an exception, which passes through"""
        before = states()
        with raises(ZeroDivisionError), lab.seeded(3):
            draws()
            raise ZeroDivisionError
        assert states() == before, "expected all generators to be as before, got others"


class TestWriteLog(Exercise):
    """A log that can be read back."""

    points = 1
    side_quest = True
    skills = ("debugging",)
    hints = (
        "When is what a writer was given on disk?",
        "`with SummaryWriter(folder) as writer:` closes it; `writer.add_scalar(name, value, step)`.",
        "`EventAccumulator(str(folder), size_guidance={SCALARS: 0})`, `Reload()`, then `Scalars(name)`.",
    )

    def curves(self, rng):
        """Two curves of different lengths."""
        return {"loss/train": normal(rng, 7).tolist(), "lr": normal(rng, 3).abs().tolist()}

    def test_write(self, lab, rng, tmp_path):
        """writes each value as a scalar at its step, so that TensorBoard's own reader finds it"""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        curves = self.curves(rng)
        lab.write_log(tmp_path, curves)
        events = EventAccumulator(str(tmp_path))
        events.Reload()
        found = {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
        assert_close(found, {name: list(enumerate(values)) for name, values in curves.items()})
        assert_close(lab.read_log(tmp_path), curves)

    def test_read(self, lab, rng, tmp_path):
        """reads every value back, also of long curves"""
        from torch.utils.tensorboard import SummaryWriter

        curves = {**self.curves(rng), "long": list(map(float, range(10_500)))}
        with SummaryWriter(tmp_path) as writer:
            for name, values in curves.items():
                for step, value in enumerate(values):
                    writer.add_scalar(name, value, step)
        assert_close(lab.read_log(tmp_path), curves)

    @guard
    def test_nothing(self, lab, rng, tmp_path):
        """without curves there is nothing to read back"""
        lab.write_log(tmp_path / "new", {})
        found = lab.read_log(tmp_path / "new")
        assert found == {}, f"expected an empty dict, got {found}"
