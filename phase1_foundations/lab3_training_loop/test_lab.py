"""Checkers of Lab 3: training loop from scratch."""

import copy
import math
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from grading.exercise import Exercise, ForbiddenCall, forbid, guard, raises, slow

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
EXACT = {"rtol": 0.0, "atol": 0.0}
SHAPES = ((3, 2), (1,), (2, 1, 4))


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng, dtype=dtype)


def filled(module: nn.Module, rng: torch.Generator) -> nn.Module:
    """`module` with random numbers in its parameters, by sorted name."""
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(normal(rng, *parameter.shape) * 0.5)
    return module


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


# --- optimizers


def leaves(rng: torch.Generator, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Parameters of several shapes."""
    return [normal(rng, *shape, dtype=dtype).requires_grad_() for shape in SHAPES]


def gradients(rng: torch.Generator, steps: int, dtype: torch.dtype = torch.float64) -> list[list[Tensor | None]]:
    """A gradient for each parameter and step; sizes differ from parameter to parameter and step to step."""
    return [[normal(rng, *shape, dtype=dtype) * 10 ** (i % 3 - 1) for i, shape in enumerate(SHAPES, step)]
            for step in range(steps)]  # fmt: skip


def give(parameter: Tensor, gradient: Tensor | None) -> None:
    """Let `parameter` have this gradient, in the memory of the last one, as backward after zeroing would."""
    if gradient is None or parameter.grad is None:
        parameter.grad = None if gradient is None else gradient.clone()
    else:
        parameter.grad.copy_(gradient)


def walk(optimizer: torch.optim.Optimizer, parameters: list[Tensor], steps: list, rates: tuple = ()) -> list[Tensor]:
    """The parameters after each step with the given gradients; with `rates`, set before the steps."""
    visited = []
    for i, step in enumerate(steps):
        for parameter, gradient in zip(parameters, step, strict=True):
            give(parameter, gradient)
        if rates:
            for group in optimizer.param_groups:
                group["lr"] = rates[i]
        optimizer.step()
        visited += [p.detach().clone() for p in parameters]
    return visited


def twins(rng: torch.Generator, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], list[Tensor]]:
    """The same parameters twice."""
    first = leaves(rng, dtype)
    return first, [p.detach().clone().requires_grad_() for p in first]


def assert_same_walk(ours, theirs, pair, steps, rates=()) -> None:
    """Both optimizers visit the same places."""
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if pair[0][0].dtype == torch.float64 else CLOSE
    assert_close(walk(ours, pair[0], steps, rates), walk(theirs, pair[1], steps, rates), **tolerance)


def with_gradients(rng: torch.Generator, n: int) -> list[nn.Parameter]:
    """Sixteen parameters of `(n, 64)`, with gradients."""
    parameters = [nn.Parameter(normal(rng, n, 64)) for _ in range(16)]
    for parameter in parameters:
        parameter.grad = normal(rng, n, 64)
    return parameters


def late(rng: torch.Generator, steps: int) -> list[list[Tensor | None]]:
    """Gradients that are None here and there: the first parameter's at first, the last one's in between."""
    found = gradients(rng, steps)
    found[0][0] = found[1][0] = found[2][2] = found[4][2] = None
    return found


def assert_own(optimizer: torch.optim.Optimizer, parameters: list[Tensor], steps: list) -> None:
    """Raise `ForbiddenCall` if `optimizer` is one of PyTorch's, or lets one work."""
    kinds = {kind for kind in vars(torch.optim).values() if isinstance(kind, type)} - {torch.optim.Optimizer}
    for kind in type(optimizer).__mro__:
        if kind in kinds:
            raise ForbiddenCall(f"`torch.optim.{kind.__name__}` is used; this exercise is to be solved without it")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("sgd", "adam", "adamw"):
            patch.setattr(import_module(f"torch.optim.{name}"), name, _refusal(f"torch.optim.{name}.{name}"))
        for kind in kinds:
            if hasattr(kind, "step"):
                patch.setattr(kind, "step", _refusal(f"torch.optim.{kind.__name__}"))
        walk(optimizer, parameters, steps)


def _refusal(name: str):
    def refuse(*args: object, **kwargs: object) -> None:
        raise ForbiddenCall(f"`{name}` was called; this exercise is to be solved without it")

    return refuse


def assert_leaves_gradients_alone(optimizer: torch.optim.Optimizer, parameters: list[Tensor], steps: list) -> None:
    """The steps write into the leaves' own memory, and into no gradient."""
    pointers = [p.data_ptr() for p in parameters]
    for step in steps:
        for parameter, gradient in zip(parameters, step, strict=True):
            give(parameter, gradient)
        optimizer.step()
        assert_close([p.grad for p in parameters], step)
    assert [p.data_ptr() for p in parameters] == pointers, "expected the parameters to be changed in place"
    assert all(p.is_leaf and p.requires_grad for p in parameters), "expected leaves that still require grad"


class TestSGD(Exercise):
    """SGD with momentum, as a PyTorch optimizer."""

    name = "sgd"
    points = 2
    skills = ("optimizers",)
    hints = (
        "What does the base class's constructor want besides the parameters?",
        "In `step`, two loops: over `self.param_groups`, and over `group['params']`. Where does the velocity live?",
        "`velocity = self.state[p].setdefault('velocity', torch.zeros_like(p))`, then "
        "`velocity.mul_(momentum).add_(p.grad)` and `p.sub_(lr * velocity)`.",
    )

    def test_without_momentum(self, lab, rng):
        """without momentum it is gradient descent"""
        pair, steps = twins(rng), gradients(rng, 3)
        assert_same_walk(lab.SGD(pair[0], 0.1), torch.optim.SGD(pair[1], 0.1), pair, steps)

    def test_momentum(self, lab, rng):
        """with momentum it equals torch.optim.SGD, step by step"""
        for momentum, dtype in ((0.9, torch.float64), (0.5, torch.float32)):
            pair, steps = twins(rng, dtype), gradients(rng, 6, dtype)
            ours, theirs = lab.SGD(pair[0], 0.05, momentum), torch.optim.SGD(pair[1], 0.05, momentum)
            assert_same_walk(ours, theirs, pair, steps)

    def test_groups_and_rates(self, lab, rng):
        """each group has its own settings, and a rate changed between two steps is used"""
        pair, steps = twins(rng), gradients(rng, 5)
        optimizers = [
            kind([{"params": p[:1], "momentum": 0.8, "lr": 0.3}, {"params": p[1:]}], lr=0.1, momentum=0.4)
            for kind, p in zip((lab.SGD, torch.optim.SGD), pair, strict=True)
        ]
        assert_same_walk(*optimizers, pair, steps)
        assert_same_walk(*optimizers, pair, steps, rates=(0.1, 0.5, 0.01, 0.2, 0.3))

    def test_without_gradient(self, lab, rng):
        """skips a parameter whose gradient is None, and its velocity"""
        pair, steps = twins(rng), late(rng, 6)
        ours, theirs = lab.SGD(pair[0], 0.1, momentum=0.7), torch.optim.SGD(pair[1], 0.1, momentum=0.7)
        assert_same_walk(ours, theirs, pair, steps)

    def test_state(self, lab, rng):
        """a fresh optimizer that loads the state_dict goes on in the same way"""
        pair, steps = twins(rng), gradients(rng, 6)
        ours, theirs = lab.SGD(pair[0], 0.1, momentum=0.9), torch.optim.SGD(pair[1], 0.1, momentum=0.9)
        assert_same_walk(ours, theirs, pair, steps[:3])
        fresh = lab.SGD(pair[0], 1.0)
        fresh.load_state_dict(copy.deepcopy(ours.state_dict()))
        assert_same_walk(fresh, theirs, pair, steps[3:])

    @guard
    def test_in_place(self, lab, rng):
        """changes parameters in place, off the tape, and leaves gradients as they are"""
        parameters = leaves(rng)
        assert_leaves_gradients_alone(lab.SGD(parameters, 0.1, momentum=0.9), parameters, gradients(rng, 3))

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own optimizers"""
        parameters = leaves(rng)
        with forbid("fused_sgd"):
            assert_own(lab.SGD(parameters, 0.1, momentum=0.9), parameters, gradients(rng, 2))

    def workload(self, lab, size, rng):
        parameters = with_gradients(rng, 256 * size)
        return lab.SGD(parameters, lr=1e-3, momentum=0.9).step


class TestAdamW(Exercise):
    """AdamW and Adam."""

    name = "adam_w"
    points = 3
    skills = ("optimizers", "numerics")
    hints = (
        "Which three things must be remembered for each parameter, and where?",
        "Count `t` for each parameter in `self.state[p]`; divide both averages by 1 − βᵗ. Where exactly does ε stand?",
        "`p.mul_(1 - lr * weight_decay)`, then `p.sub_(lr * m_hat / (s_hat.sqrt() + eps))`. Adam calls "
        "`super().__init__` with `weight_decay=0.0`.",
    )

    def test_adam(self, lab, rng):
        """Adam equals torch.optim.Adam, step by step, with any betas and rate"""
        for settings, dtype in (
            ({}, torch.float64),
            ({"lr": 0.1, "betas": (0.8, 0.95)}, torch.float64),
            ({"lr": 0.02, "betas": (0.5, 0.9)}, torch.float32),
        ):
            pair, steps = twins(rng, dtype), gradients(rng, 6, dtype)
            assert_same_walk(lab.Adam(pair[0], **settings), torch.optim.Adam(pair[1], **settings), pair, steps)

    def test_eps(self, lab, rng):
        """ε is added to the root, after the bias correction"""
        for eps in (0.3, 1e-3):
            pair, steps = twins(rng), gradients(rng, 4)
            ours, theirs = lab.Adam(pair[0], 0.1, eps=eps), torch.optim.Adam(pair[1], 0.1, eps=eps)
            assert_same_walk(ours, theirs, pair, steps)

    def test_adamw(self, lab, rng):
        """AdamW equals torch.optim.AdamW, with any decay"""
        for settings in ({}, {"lr": 0.1, "weight_decay": 0.5}, {"lr": 0.05, "betas": (0.7, 0.9), "weight_decay": 0.1}):
            pair, steps = twins(rng), gradients(rng, 6)
            assert_same_walk(lab.AdamW(pair[0], **settings), torch.optim.AdamW(pair[1], **settings), pair, steps)

    def test_groups_and_rates(self, lab, rng):
        """each group has its own settings, and a rate changed between two steps is used"""
        pair, steps = twins(rng), gradients(rng, 5)
        own = {"lr": 0.2, "betas": (0.6, 0.7), "eps": 0.1, "weight_decay": 0.0}
        optimizers = [
            kind([{"params": p[:1], **own}, {"params": p[1:]}], lr=0.1, weight_decay=0.3)
            for kind, p in zip((lab.AdamW, torch.optim.AdamW), pair, strict=True)
        ]
        assert_same_walk(*optimizers, pair, steps)
        assert_same_walk(*optimizers, pair, steps, rates=(0.1, 0.5, 0.01, 0.2, 0.3))

    def test_without_gradient(self, lab, rng):
        """skips a parameter whose gradient is None: no decay, and its t stands still"""
        pair, steps = twins(rng), late(rng, 6)
        ours, theirs = lab.AdamW(pair[0], 0.1, weight_decay=0.2), torch.optim.AdamW(pair[1], 0.1, weight_decay=0.2)
        assert_same_walk(ours, theirs, pair, steps)

    def test_state(self, lab, rng):
        """a fresh optimizer that loads the state_dict goes on in the same way"""
        pair, steps = twins(rng), gradients(rng, 6)
        ours, theirs = lab.AdamW(pair[0], 0.1), torch.optim.AdamW(pair[1], 0.1)
        assert_same_walk(ours, theirs, pair, steps[:3])
        fresh = lab.AdamW(pair[0])
        fresh.load_state_dict(copy.deepcopy(ours.state_dict()))
        assert_same_walk(fresh, theirs, pair, steps[3:])

    @guard
    def test_in_place(self, lab, rng):
        """changes parameters in place, off the tape, and leaves gradients as they are"""
        parameters = leaves(rng)
        assert_leaves_gradients_alone(lab.AdamW(parameters, 0.1), parameters, gradients(rng, 3))

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own optimizers"""
        for kind in (lab.AdamW, lab.Adam):
            parameters = leaves(rng)
            with forbid("fused_adam", "fused_adamw"):
                assert_own(kind(parameters, 0.1), parameters, gradients(rng, 2))

    def workload(self, lab, size, rng):
        parameters = with_gradients(rng, 128 * size)
        return lab.AdamW(parameters, lr=1e-3).step


# --- schedule and clipping


class TestWarmupCosine(Exercise):
    """Warm-up and cosine."""

    points = 2
    skills = ("schedules",)
    hints = (
        "Which three stretches has the formula, and which rate has the very first update?",
        "How far is the cosine, as a number between 0 and 1, at step W, and at step T?",
        "`progress = min((step - warmup) / (total - warmup), 1.0)`; "
        "`floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2`.",
    )

    RUNS = ((10, 3, 0.1, 0.0), (25, 1, 2.0, 0.5), (7, 6, 0.03, 0.01), (4, 2, 1.0, 0.25))

    def rates(self, lab, run, steps):
        """The rates at the given steps."""
        total, warmup, lr, floor = run
        found = [lab.warmup_cosine(t, total=total, warmup=warmup, lr=lr, floor=floor) for t in steps]
        return torch.tensor(found, dtype=torch.float64)

    def test_rises(self, lab, rng):
        """rises in equal steps, from lr / W in the first update to lr in the last of the warm-up"""
        for run in self.RUNS:
            expected = torch.arange(1, run[1] + 1, dtype=torch.float64) * run[2] / run[1]
            assert_close(self.rates(lab, run, range(run[1])), expected)

    def test_falls(self, lab, rng):
        """then follows a half cosine, from lr towards the floor"""
        for run in (*self.RUNS, (9, 0, 0.2, 0.0), (12, 0, 0.5, 0.1)):
            total, warmup, lr, floor = run
            progress = torch.arange(total - warmup, dtype=torch.float64) / (total - warmup)
            expected = floor + (lr - floor) * torch.cos(math.pi / 2 * progress).square()
            assert_close(self.rates(lab, run, range(warmup, total)), expected)

    def test_rests(self, lab, rng):
        """and stays at the floor from step T on"""
        for run in self.RUNS:
            steps = [run[0], run[0] + 1, 2 * run[0], 5 * run[0]]
            assert_close(self.rates(lab, run, steps), torch.full((4,), run[3], dtype=torch.float64))

    @guard
    def test_floor_is_zero_by_default(self, lab, rng):
        """returns a plain float; the floor is 0 unless it is given"""
        rate = lab.warmup_cosine(11, 11, 2, 0.5)
        assert isinstance(rate, float), f"expected a float, got {type(rate).__name__}"
        assert abs(rate) < 1e-12, f"expected a rate of 0 after the end, got {rate}"


OWN_CLIPPING = ("clip_grad_norm_", "clip_grads_with_norm_", "get_total_norm", "clip_grad_norm", "clip_grad_value_")


@contextmanager
def no_clipping() -> Iterator[None]:
    """Refuse PyTorch's own clipping."""
    with pytest.MonkeyPatch.context() as patch:
        for home in (nn.utils, nn.utils.clip_grad):
            for name in OWN_CLIPPING:
                if hasattr(home, name):
                    patch.setattr(home, name, _refusal(name))
        yield


class TestClipGradients(Exercise):
    """Clip by the global norm."""

    points = 2
    skills = ("clipping", "gradients")
    hints = (
        "How long is a vector that consists of several vectors, given the length of each?",
        "Collect the gradients in a list first: `parameters` may be a generator. And if the norm is small already?",
        "`norm = torch.stack([g.norm() for g in gradients]).norm()`; the factor is "
        "`(max_norm / (norm + 1e-6)).clamp(max=1)`; `g.mul_(factor)`.",
    )

    def cases(self, rng):
        """Parameters with gradients, and limits below, at and above their norm."""
        for share in (0.01, 0.5, 1.0, 1.5, 100.0):
            parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
            for i, p in enumerate(parameters):
                p.grad = normal(rng, *p.shape) * 3**i
            yield parameters, share * math.sqrt(sum(p.grad.square().sum().item() for p in parameters))

    def test_gradients(self, lab, rng):
        """scales all gradients by one factor, and never lengthens them"""
        for parameters, limit in self.cases(rng):
            theirs = [copy.deepcopy(p) for p in parameters]
            for p, twin in zip(parameters, theirs, strict=True):
                twin.grad = p.grad.clone()
            nn.utils.clip_grad_norm_(theirs, limit)
            lab.clip_gradients(parameters, limit)
            assert_close([p.grad for p in parameters], [p.grad for p in theirs])

    def test_norm(self, lab, rng):
        """returns the norm of all gradients together, before clipping"""
        for parameters, limit in self.cases(rng):
            expected = torch.cat([p.grad.flatten() for p in parameters]).norm()
            assert_close(lab.clip_gradients(parameters, limit), expected)

    def test_tiny(self, lab, rng):
        """adds 10⁻⁶ to the norm, and leaves gradients of zero at zero"""
        for size in (1e-6, 3e-6, 0.0):
            p = nn.Parameter(torch.zeros(4))
            p.grad = torch.full((4,), size)
            lab.clip_gradients([p], 1e-6)
            scale = min(1.0, 1e-6 / (2 * size + 1e-6))
            assert_close(p.grad * 1e6, torch.full((4,), size * scale * 1e6))

    def test_some_without_gradient(self, lab, rng):
        """takes any iterable, also a generator, and skips parameters without a gradient"""
        parameters = [nn.Parameter(torch.zeros(n)) for n in (3, 2, 2)]
        for p in parameters[:2]:
            p.grad = normal(rng, *p.shape)
        g = torch.cat([p.grad for p in parameters[:2]])
        norm = lab.clip_gradients((p for p in parameters), 0.1)
        clipped = g * 0.1 / (g.norm() + 1e-6)
        assert_close([norm, *(p.grad for p in parameters[:2])], [g.norm(), clipped[:3], clipped[3:]])
        assert parameters[2].grad is None, "expected a missing gradient to stay None"
        assert_close(lab.clip_gradients([nn.Parameter(torch.zeros(2))], 1.0), torch.tensor(0.0))

    @guard
    def test_in_place(self, lab, rng):
        """changes the gradients in place, and returns a tensor without axes, off the tape"""
        p = normal(rng, 4).requires_grad_()
        (p.square().sum()).backward(create_graph=True)
        pointer = p.grad.data_ptr()
        norm = lab.clip_gradients([p], 0.1)
        assert isinstance(norm, Tensor), f"expected a tensor, got {type(norm).__name__}"
        assert norm.shape == (), f"expected a tensor without axes, got the shape {tuple(norm.shape)}"
        assert not norm.requires_grad, "expected a norm off the tape"
        assert p.grad.data_ptr() == pointer, "expected the gradient to be changed in place"

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own clipping"""
        p = nn.Parameter(torch.zeros(3))
        p.grad = normal(rng, 3)
        with no_clipping(), forbid("clip_grad_norm"):  # `forbid` cannot see a plain function, but tells the engine
            lab.clip_gradients([p], 0.1)

    def workload(self, lab, size, rng):
        parameters = with_gradients(rng, 512 * size)
        return lambda: lab.clip_gradients(parameters, 1.0)


# --- steps and evaluations


class Normed(nn.Module):
    """A classifier whose output depends on the mode, without drawing random numbers.

    A bias before the batch norm would have a gradient of nothing but rounding, which Adam would enlarge.
    """

    def __init__(self, d: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(d, 5, bias=False), nn.BatchNorm1d(5), nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(x))))


def labelled(rng: torch.Generator, n: int, d: int = 4, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Random rows with random classes."""
    return normal(rng, n, d), torch.randint(classes, (n,), generator=rng)


def reference_step(model, loss_fn, optimizer, x, y, max_norm=None) -> Tensor:
    """One update, as the text describes it."""
    model.train()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    if max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.detach()


class TestTrainStep(Exercise):
    """A step and an evaluation."""

    points = 3
    needs = ("clip_gradients",)
    skills = ("training-loop", "evaluation")
    hints = (
        "In which mode, and with which gradients, does the step begin? What may still hang on to the loss you return?",
        "A batch's mean times its rows is its sum. How do you remember the mode of each submodule?",
        "`modes = {m: m.training for m in model.modules()}`; `try:` evaluate under `no_grad`, `finally:` "
        "`m.training = mode` for each.",
    )

    def pair(self, rng):
        """The same model twice, in evaluation mode and with old gradients."""
        ours = filled(Normed(), rng).eval()
        for p in ours.parameters():
            p.grad = normal(rng, *p.shape)
        return ours, copy.deepcopy(ours)

    def test_step(self, lab, rng):
        """train_step makes one update in training mode, with the gradients of this batch only, and returns its loss"""
        ours, theirs = self.pair(rng)
        optimizers = [torch.optim.SGD(m.parameters(), 0.5, momentum=0.9) for m in (ours, theirs)]
        got, expected = [], []
        for n in (6, 3):
            x, y = labelled(rng, n)
            got.append(lab.train_step(ours.eval(), F.cross_entropy, optimizers[0], x, y))
            expected.append(reference_step(theirs, F.cross_entropy, optimizers[1], x, y))
            assert_close(weights(ours), weights(theirs), **CLOSE)
        assert_close(got, expected, **CLOSE)

    def test_clips(self, lab, rng):
        """and clips to max_norm, if it is given, between the backward pass and the step"""
        for max_norm in (0.01, 0.2):
            ours, theirs = self.pair(rng)
            x, y = labelled(rng, 6)
            for model, step in ((ours, lab.train_step), (theirs, reference_step)):
                step(model, F.cross_entropy, torch.optim.SGD(model.parameters(), 1.0), x, y, max_norm)
            assert_close(weights(ours), weights(theirs), **CLOSE)

    def test_weighted_mean(self, lab, rng):
        """evaluate weights batches by their rows, whatever the measure"""
        model = filled(Normed(), rng).eval()
        x, y = labelled(rng, 11)
        for sizes in ((4, 4, 3), (1, 10), (11,)):
            batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
            for measure in (F.cross_entropy, lambda output, y: (output.argmax(1) == y).double().mean()):
                expected = measure(model(x), y).item()
                assert_close(torch.tensor(lab.evaluate(model, measure, iter(batches))), torch.tensor(expected))

    def test_evaluation_mode(self, lab, rng):
        """evaluate runs the model in evaluation mode, and changes no weight, buffer or gradient"""
        model, _ = self.pair(rng)
        x, y = labelled(rng, 5)
        expected = F.cross_entropy(model(x), y).item()
        before, old = weights(model), [p.grad.clone() for p in model.parameters()]
        got = lab.evaluate(model.train(), F.cross_entropy, [(x[:2], y[:2]), (x[2:], y[2:])])
        assert_close(torch.tensor(got), torch.tensor(expected), **CLOSE)
        assert_close(weights(model), before)
        assert_close([p.grad for p in model.parameters()], old)

    @guard
    def test_detached(self, lab, rng):
        """train_step returns a tensor off the tape"""
        model = filled(Normed(), rng)
        loss = lab.train_step(model, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.1), *labelled(rng, 4))
        assert isinstance(loss, Tensor), f"expected a tensor, got {type(loss).__name__}"
        assert not loss.requires_grad, "expected a loss off the tape, got one that requires grad"

    @guard
    def test_modes_come_back(self, lab, rng):
        """evaluate leaves every submodule in the mode in which it found it"""
        for frozen in (False, True):
            model = Normed()
            model.norm.train(not frozen)
            lab.evaluate(model, F.cross_entropy, [labelled(rng, 3)])
            found = {name: module.training for name, module in model.named_modules()}
            expected = {"": True, "first": True, "norm": not frozen, "second": True}
            assert found == expected, f"expected the modes (True = training) {expected}, got {found}"
        model.eval()
        lab.evaluate(model, F.cross_entropy, [labelled(rng, 3)])
        assert not any(m.training for m in model.modules()), "expected a model in evaluation mode to stay there"

    @guard
    def test_modes_come_back_after_an_error(self, lab, rng):
        """also if the model raises"""
        model = Normed()
        with raises(RuntimeError):
            lab.evaluate(model, F.cross_entropy, [(torch.zeros(2, 7), torch.zeros(2, dtype=torch.int64))])
        assert all(m.training for m in model.modules()), "expected a training model after the error"

    @guard
    def test_no_graph(self, lab, rng):
        """evaluate records no graph, and returns a float"""
        recorded = []

        def measure(output: Tensor, y: Tensor) -> Tensor:
            recorded.append(output.requires_grad)
            return F.cross_entropy(output, y)

        got = lab.evaluate(Normed(), measure, [labelled(rng, 3)])
        assert recorded == [False], f"expected one output off the tape, got requires_grad = {recorded}"
        assert isinstance(got, float), f"expected a float, got {type(got).__name__}"

    def workload(self, lab, size, rng):
        model, (x, y) = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)), labelled(rng, 128 * size, 64)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

        def epoch():
            for _ in range(4):
                lab.train_step(model, F.cross_entropy, optimizer, x, y, 1.0)
            lab.evaluate(model, F.cross_entropy, [(x, y)] * 4)

        return epoch


class Cut(nn.Module):
    """A network whose graph is cut, before its head or after it."""

    def __init__(self, after: bool) -> None:
        super().__init__()
        self.body, self.head, self.after = nn.Linear(4, 8), nn.Linear(8, 3), after

    def forward(self, x: Tensor) -> Tensor:
        if self.after:
            return self.head(torch.relu(self.body(x))).detach()
        return self.head(torch.relu(self.body(x)).detach() * 1e-3)


class Moody(nn.Linear):
    """A classifier that can learn in one of the two modes only."""

    def __init__(self, mode: bool) -> None:
        super().__init__(4, 3)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (self.training == self.mode)


class TestOverfits(Exercise):
    """Overfit one batch."""

    points = 2
    needs = ("adam_w",)
    skills = ("debugging", "training-loop")
    hints = (
        "How often is the loss looked at if there are k updates, one look before each and one after the last?",
        "`copy.deepcopy(model).train()`. What does `loss.requires_grad` say about a graph that was cut?",
        "`for _ in range(steps + 1)`: loss; below the threshold → True; not `requires_grad` → False; one update.",
    )

    def test_counts_updates(self, lab, rng):
        """says True if and only if the loss falls below the threshold within the given number of updates"""
        got, expected = [], []
        for lr in (0.01, 0.03):
            model, (x, y) = filled(Normed(), rng), labelled(rng, 8)
            twin = copy.deepcopy(model)
            optimizer, losses = torch.optim.Adam(twin.parameters(), lr), []
            for _ in range(13):
                losses.append(reference_step(twin, F.cross_entropy, optimizer, x, y).item())
            for k in (1, 5, 12):
                threshold = (losses[k] + losses[k - 1]) / 2
                for steps in (k - 1, k, k + 1):
                    got.append(lab.overfits(model, F.cross_entropy, x, y, steps=steps, lr=lr, threshold=threshold))
                    expected.append(min(losses[: steps + 1]) < threshold)
        assert_close(torch.tensor(got), torch.tensor(expected))

    def test_verdicts(self, lab, rng):
        """passes a healthy model, and catches one whose bug keeps it from learning"""
        # Lowest loss over 30 seeds, threshold 0.05: healthy 0.004 ± 0.003, softmax 0.57 ± 0.07, cut 1.095 ± 0.002.
        x, y = normal(rng, 6, 4), torch.arange(6) % 3

        def network(*last: nn.Module) -> nn.Module:
            return filled(nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 3), *last), rng)

        got = [
            lab.overfits(network(), F.cross_entropy, x, y),
            lab.overfits(network(nn.Softmax(1)), F.cross_entropy, x, y),
            lab.overfits(filled(Cut(after=False), rng), F.cross_entropy, x, y),
            lab.overfits(network(), lambda output, y: -F.cross_entropy(output, y), x, y, threshold=-50.0, steps=3),
        ]
        assert_close(torch.tensor(got), torch.tensor([True, False, False, False]))

    def test_mode(self, lab, rng):
        """trains in training mode, whatever mode the model is in"""
        # Lowest loss over 30 seeds: 0.0014 ± 0.0013, and log 3 in the wrong mode. The threshold is 0.05.
        x, y = labelled(rng, 3)
        models = [filled(Moody(mode), rng).train(not mode) for mode in (True, False)]
        got = [lab.overfits(model, F.cross_entropy, x, y, steps=300, lr=0.1) for model in models]
        assert_close(torch.tensor(got), torch.tensor([True, False]))

    def test_nothing_to_learn(self, lab, rng):
        """says False where the loss reaches no parameter, unless it is low from the start"""
        x, y = labelled(rng, 6)
        frozen, cut = filled(Normed(), rng).requires_grad_(False), filled(Cut(after=True), rng)
        got = [lab.overfits(model, F.cross_entropy, x, y) for model in (frozen, cut)]
        got += [lab.overfits(model, F.cross_entropy, x, y, threshold=100.0) for model in (frozen, cut)]
        assert_close(torch.tensor(got), torch.tensor([False, False, True, True]))

    @guard
    def test_limits(self, lab, rng):
        """makes at most 200 updates unless told otherwise; a loss that equals the threshold is not below it"""
        looks = []

        def constant(output: Tensor, y: Tensor) -> Tensor:
            looks.append(output)
            return output.sum() * 0 + 0.5

        verdict = lab.overfits(filled(Normed(), rng), constant, *labelled(rng, 3), threshold=0.5)
        assert not verdict, "expected False for a loss of 0.5 and a threshold of 0.5, got True"
        assert len(looks) == 201, f"expected 201 looks at the loss for 200 updates, got {len(looks)}"

    @guard
    def test_leaves_model_alone(self, lab, rng):
        """trains a copy: weights, gradients and mode of the model stay as they are; returns a bool"""
        model = filled(Normed(), rng).eval()
        before = weights(model)
        verdict = lab.overfits(model, F.cross_entropy, *labelled(rng, 6), steps=3)
        assert isinstance(verdict, bool), f"expected a bool, got {type(verdict).__name__}"
        assert_close(weights(model), before)
        assert all(p.grad is None for p in model.parameters()), "expected no gradients in the model itself"
        assert not any(m.training for m in model.modules()), "expected the model to stay in evaluation mode"

    def workload(self, lab, size, rng):
        model, (x, y) = nn.Linear(32, 3), labelled(rng, 64 * size, 32)
        return lambda: lab.overfits(model, F.cross_entropy, x, y, steps=10, threshold=0.0)


# --- checkpoints


class Fickle(nn.Module):
    """Uses everything that a resume must restore: buffers, torch's random numbers and Python's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(3, 6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(self.norm(self.first(x)), 0.3, self.training)
        return self.second(h * 2 if self.training and random.random() < 0.5 else h)


KINDS = (
    lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    lambda p: torch.optim.AdamW(p, 0.1),
)


def falling(step: int) -> float:
    """A rate that differs from step to step."""
    return 0.1 / (step + 1)


def expected_rows(step: int, n: int, batch_size: int, seed: int) -> list[int]:
    """The convention of the text."""
    batches = -(-n // batch_size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + step // batches)).tolist()
    first = step % batches * batch_size
    return order[first : first + batch_size]


def journey(lab, folder: Path, kind, dataset, stops: tuple[int, ...], workers: tuple[int, ...]) -> dict:
    """A run in pieces, each with new objects and after other random numbers were drawn: all that it ends with."""
    torch.manual_seed(3)
    random.seed(3)
    path, losses = folder / f"{len(list(folder.iterdir()))}.pt", []
    for stop, n in zip(stops, workers, strict=True):
        model = Fickle()
        optimizer = kind(model.parameters())
        losses += lab.train_until(stop, path, model, optimizer, falling, dataset, 4, 11, workers=n)
        end = {
            "losses": torch.tensor(losses, dtype=torch.float64),
            "weights": weights(model),
            "torch": torch.rand(3),
            "python": torch.tensor([random.random() for _ in range(3)], dtype=torch.float64),
        }
        torch.manual_seed(stop)
        random.seed(stop)
    return end


class Spoilt(nn.Linear):
    """A layer that cannot be saved."""

    def get_extra_state(self) -> object:
        return lambda: None


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


class TestRowsOfStep(Exercise):
    """Stop anywhere, resume as if nothing had happened."""

    points = 4
    needs = ("train_step",)
    skills = ("checkpointing", "reproducibility")
    hints = (
        "Which five things decide what the next update does, and which of them follow from the step's number?",
        "`epoch, position = divmod(step, batches)`. And in `train_until`: how does the loader get exactly the batches "
        "from `start` to `stop`, and a generator of its own?",
        "`DataLoader(dataset, batch_sampler=[rows_of_step(s, …) for s in range(start, stop)], num_workers=workers, "
        "generator=torch.Generator())`; save to another name in the folder, then `os.replace`.",
    )

    @pytest.fixture
    def dataset(self, rng):
        """Ten rows: batches of four, four and two."""
        return TensorDataset(*labelled(rng, 10, 3, 2))

    def test_rows(self, lab, rng):
        """rows_of_step cuts each epoch's own order into batches, the last one smaller"""
        for n, batch_size, seed in ((10, 4, 0), (8, 4, 7), (5, 1, 3), (3, 8, 123)):
            for step in (*range(12), 1000):
                got = lab.rows_of_step(step, n, batch_size, seed)
                assert_close(torch.tensor(got), torch.tensor(expected_rows(step, n, batch_size, seed)))

    def test_round_trip(self, lab, rng, tmp_path):
        """load_checkpoint puts back what save_checkpoint saved, and returns the step"""
        for i, kind in enumerate(KINDS):
            first, second = filled(Fickle(), rng), Fickle()
            ours, theirs = kind(first.parameters()), kind(second.parameters())
            reference_step(first, F.cross_entropy, ours, *labelled(rng, 4, 3, 2))
            lab.save_checkpoint(tmp_path / f"{i}.pt", 17 + i, first, ours)
            drawn = [torch.rand(2), torch.tensor(random.random())]
            step = lab.load_checkpoint(tmp_path / f"{i}.pt", second, theirs)
            assert_close(torch.tensor(step), torch.tensor(17 + i))
            assert_close(weights(second), weights(first), **EXACT)
            assert_close([torch.rand(2), torch.tensor(random.random())], drawn, **EXACT)
            batch, state = labelled(rng, 5, 3, 2), (torch.get_rng_state(), random.getstate())
            for model, optimizer in ((first, ours), (second, theirs)):
                torch.set_rng_state(state[0])
                random.setstate(state[1])
                reference_step(model, F.cross_entropy, optimizer, *batch)
            assert_close(weights(second), weights(first), **EXACT)

    def test_whole_run(self, lab, dataset, tmp_path):
        """train_until makes the updates that the text describes, and returns their losses"""
        for kind in KINDS:
            torch.manual_seed(3)
            random.seed(3)
            model = Fickle()
            optimizer, losses = kind(model.parameters()), []
            for step in range(8):
                optimizer.param_groups[0]["lr"] = falling(step)
                rows = expected_rows(step, 10, 4, 11)
                losses.append(reference_step(model, F.cross_entropy, optimizer, *dataset[rows]).item())
            got = journey(lab, tmp_path, kind, dataset, (8,), (0,))
            assert_close(got["losses"], torch.tensor(losses, dtype=torch.float64), **CLOSE)
            assert_close(got["weights"], weights(model), **CLOSE)

    def test_resume(self, lab, dataset, tmp_path):
        """a run that is stopped at any step and resumed is the run that was not, bit for bit"""
        for kind in KINDS:
            whole = journey(lab, tmp_path, kind, dataset, (8,), (0,))
            for stops in ((4, 8), (3, 8), (1, 2, 7, 8)):
                pieces = journey(lab, tmp_path, kind, dataset, stops, (0,) * len(stops))
                assert_close(pieces, whole, **EXACT)

    @slow
    def test_resume_with_workers(self, lab, dataset, tmp_path):
        """and so it is with two workers, in any piece"""
        whole = journey(lab, tmp_path, KINDS[0], dataset, (8,), (0,))
        for stops, workers in (((8,), (2,)), ((4, 8), (2, 2)), ((5, 8), (0, 2))):
            assert_close(journey(lab, tmp_path, KINDS[0], dataset, stops, workers), whole, **EXACT)

    @guard
    def test_nothing_to_do(self, lab, dataset, tmp_path):
        """with nothing left to train it returns an empty list, and the checkpoint's step stays"""
        model = Fickle()
        optimizer = KINDS[0](model.parameters())
        path = tmp_path / "run.pt"
        losses = lab.train_until(5, path, model, optimizer, falling, dataset, 4, 11)
        kinds = [type(loss).__name__ for loss in losses]
        assert kinds == ["float"] * 5, f"expected five plain floats, got {kinds}"
        for stop in (5, 2):
            losses = lab.train_until(stop, path, model, optimizer, falling, dataset, 4, 11)
            assert losses == [], f"expected no losses, got {losses}"
        step = lab.load_checkpoint(path, model, optimizer)
        assert step == 5, f"expected the checkpoint to say step 5, got {step}"

    @guard
    def test_workers(self, lab, dataset, tmp_path, monkeypatch):
        """fetches by a DataLoader with as many workers as asked for, none by default"""
        found = []

        def begin(loader: DataLoader) -> None:
            found.append(loader.num_workers)
            raise InterruptedError

        monkeypatch.setattr(DataLoader, "__iter__", begin)
        for settings in ({}, {"workers": 2}):
            model = Fickle()
            with suppress(InterruptedError):
                optimizer = KINDS[0](model.parameters())
                lab.train_until(2, tmp_path / "run.pt", model, optimizer, falling, dataset, 4, 11, **settings)
        assert found == [0, 2], f"expected loaders with 0 and 2 workers, got {found}"

    @guard
    def test_atomic(self, lab, rng, tmp_path):
        """never writes into the old checkpoint, and leaves no other file behind"""
        model = filled(nn.Linear(2, 2), rng)
        optimizer = KINDS[0](model.parameters())
        path = tmp_path / "folder" / "run.pt"
        path.parent.mkdir()
        lab.save_checkpoint(path, 1, model, optimizer)
        os.link(path, tmp_path / "old")  # a second name for the old file's content
        before = path.read_bytes()
        lab.save_checkpoint(path, 2, filled(model, rng), optimizer)
        assert (tmp_path / "old").read_bytes() == before, "expected a new file in the old one's place, not new content"
        names = sorted(p.name for p in path.parent.iterdir())
        assert names == ["run.pt"], f"expected run.pt alone in its folder, got {names}"

    @guard
    def test_failure_keeps_the_old(self, lab, rng, tmp_path):
        """if saving fails, the old checkpoint is still there, whole"""
        model = filled(nn.Linear(2, 2), rng)
        optimizer, path = KINDS[0](model.parameters()), tmp_path / "run.pt"
        lab.save_checkpoint(path, 41, model, optimizer)
        before = path.read_bytes()
        with suppress(Exception):
            lab.save_checkpoint(path, 42, Spoilt(2, 2), optimizer)
        assert path.exists(), "expected the old checkpoint after a failure, found none"
        assert path.read_bytes() == before, "expected the old checkpoint to be whole after a failure"

    @guard
    def test_safe(self, lab, rng, tmp_path):
        """loads with weights_only=True: no code in a checkpoint is run"""
        model = nn.Linear(2, 2)
        torch.save({"step": 1, "trap": Trap(tmp_path / "sprung")}, tmp_path / "evil.pt")
        with suppress(Exception):
            lab.load_checkpoint(tmp_path / "evil.pt", model, KINDS[0](model.parameters()))
        assert not (tmp_path / "sprung").exists(), "expected no code to be run, but the checkpoint made a folder"

    @guard
    def test_leaves_random_state_alone(self, lab, rng):
        """rows_of_step touches no global random state, and returns a list of ints"""
        before = torch.get_rng_state(), random.getstate()
        rows = lab.rows_of_step(3, 10, 4, 0)
        assert isinstance(rows, list), f"expected a list, got {type(rows).__name__}"
        assert {type(row) for row in rows} == {int}, f"expected plain ints, got {rows}"
        assert torch.equal(torch.get_rng_state(), before[0]), "expected torch's global state to stay as it is"
        assert random.getstate() == before[1], "expected the state of `random` to stay as it is"

    def workload(self, lab, size, rng):
        return lambda: [lab.rows_of_step(step, 8192 * size, 32, seed=1) for step in range(8)]


class TestFit(Exercise):
    """The payoff: your loop against scikit-learn's."""

    points = 2
    needs = ("adam_w", "warmup_cosine", "train_step", "rows_of_step")
    skills = ("training-loop", "schedules", "evaluation")
    hints = (
        "Which number do the schedule and the order of the data ask for: that in the epoch or that in the run?",
        "Two loops: epochs, and in each the steps from `epoch * per_epoch` to `(epoch + 1) * per_epoch`.",
        "`rows_of_step`, `set_rate`, `train_step`; sum `loss * len(rows)`, divide by `len(x)`; then `evaluate` twice.",
    )

    RUNS = (
        {"epochs": 4, "batch_size": 4, "lr": 0.1, "warmup": 3, "max_norm": 100.0, "seed": 5},
        {"epochs": 2, "batch_size": 5, "lr": 0.03, "warmup": 0, "max_norm": 0.001, "seed": 0},
        {"epochs": 1, "batch_size": 20, "lr": 0.05, "warmup": 0, "max_norm": 1.0, "seed": 2},
    )

    def reference(self, model, train, valid, run):
        """The run that the text describes."""
        x, y = train
        batches = -(-len(x) // run["batch_size"])
        total, optimizer = run["epochs"] * batches, torch.optim.AdamW(model.parameters())
        history = {"loss": [], "valid_loss": [], "accuracy": []}
        for epoch in range(run["epochs"]):
            losses = torch.zeros(len(x))
            for step in range(epoch * batches, (epoch + 1) * batches):
                if step < run["warmup"]:
                    rate = run["lr"] * (step + 1) / run["warmup"]
                else:
                    angle = math.pi / 2 * (step - run["warmup"]) / (total - run["warmup"])
                    rate = run["lr"] * math.cos(angle) ** 2
                optimizer.param_groups[0]["lr"] = rate
                rows = expected_rows(step, len(x), run["batch_size"], run["seed"])
                losses[rows] = reference_step(model, F.cross_entropy, optimizer, x[rows], y[rows], run["max_norm"])
            with torch.no_grad():
                logits = model.eval()(valid[0])
            history["loss"].append(losses.mean().item())
            history["valid_loss"].append(F.cross_entropy(logits, valid[1]).item())
            history["accuracy"].append((logits.argmax(1) == valid[1]).float().mean().item())
        return history

    def results(self, lab, rng):
        """Model and history of each run, ours and the reference's."""
        for run in self.RUNS:
            ours, train, valid = filled(Normed(), rng), labelled(rng, 14), labelled(rng, 9)
            theirs = copy.deepcopy(ours)
            yield ours, lab.fit(ours, train, valid, **run), theirs, self.reference(theirs, train, valid, run)

    def test_weights(self, lab, rng):
        """ends with the weights that the described run ends with"""
        for ours, _, theirs, _ in self.results(lab, rng):
            assert_close(weights(ours), weights(theirs), rtol=1e-3, atol=1e-4)

    def test_training_loss(self, lab, rng):
        """records the mean training loss per row of each epoch"""
        for _, got, _, expected in self.results(lab, rng):
            assert_close(torch.tensor(got["loss"]), torch.tensor(expected["loss"]), rtol=1e-3, atol=1e-4)

    def test_validation(self, lab, rng):
        """records loss and accuracy on the validation rows after each epoch"""
        for _, got, _, expected in self.results(lab, rng):
            for key in ("valid_loss", "accuracy"):
                assert_close(torch.tensor(got[key]), torch.tensor(expected[key]), rtol=1e-3, atol=1e-4)

    @guard
    def test_history(self, lab, rng):
        """returns three lists of plain floats, and nothing else"""
        history = lab.fit(filled(Normed(), rng), labelled(rng, 6), labelled(rng, 4), 2, 3, 0.1, 1, 1.0, 0)
        expected = {"loss": 2, "valid_loss": 2, "accuracy": 2}
        lengths = {key: len(numbers) for key, numbers in history.items()}
        assert lengths == expected, f"expected lists of these lengths: {expected}, got {lengths}"
        kinds = {type(number).__name__ for numbers in history.values() for number in numbers}
        assert kinds == {"float"}, f"expected plain floats, got {', '.join(sorted(kinds))}"

    def workload(self, lab, size, rng):
        model, train, valid = nn.Linear(16, 3), labelled(rng, 64 * size, 16), labelled(rng, 64, 16)
        settings = {"epochs": 2, "batch_size": 32, "lr": 1e-3, "warmup": 2, "max_norm": 1.0, "seed": 1}
        return lambda: lab.fit(model, train, valid, **settings)


# --- side quests


class TestAccumulatedStep(Exercise):
    """Gradient accumulation."""

    points = 2
    side_quest = True
    skills = ("training-loop", "gradients")
    hints = (
        "By which factor must a piece's mean be multiplied so that all pieces together are the mean over all rows?",
        "`len(x) / rows`, with `rows` counted over all pieces beforehand. When are gradients cleared?",
        "Clear once; for each piece `(loss * len(x) / rows).backward()`; step once; return the sum, detached.",
    )

    def test_equals_the_large_batch(self, lab, rng):
        """makes the update of the large batch, also for unequal pieces"""
        for sizes in ((6, 1, 3), (4, 4), (5,)):
            ours = filled(nn.Linear(4, 3), rng)
            for p in ours.parameters():
                p.grad = normal(rng, *p.shape)
            theirs, (x, y) = copy.deepcopy(ours), labelled(rng, sum(sizes))
            pieces = list(zip(x.split(sizes), y.split(sizes), strict=True))
            optimizers = [torch.optim.SGD(m.parameters(), 0.5, momentum=0.9) for m in (ours, theirs)]
            for _ in range(2):
                lab.accumulated_step(ours, F.cross_entropy, optimizers[0], pieces)
                reference_step(theirs, F.cross_entropy, optimizers[1], x, y)
            assert_close(weights(ours), weights(theirs), **CLOSE)

    def test_loss(self, lab, rng):
        """returns the mean loss over all rows before the update, detached"""
        model, (x, y) = filled(nn.Linear(4, 3), rng), labelled(rng, 9)
        expected = F.cross_entropy(model(x), y).detach()
        pieces = [(x[:7], y[:7]), (x[7:], y[7:])]
        loss = lab.accumulated_step(model, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.1), pieces)
        assert_close(loss, expected, **CLOSE)
        assert not loss.requires_grad, "expected a loss off the tape"

    @guard
    def test_training_mode(self, lab, rng):
        """runs each piece by itself, in training mode"""
        seen = []
        model = filled(nn.Linear(4, 3), rng).eval()
        model.register_forward_hook(lambda module, inputs, output: seen.append((module.training, len(output))))
        pieces = [labelled(rng, 2), labelled(rng, 3)]
        lab.accumulated_step(model, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.1), pieces)
        assert seen == [(True, 2), (True, 3)], f"expected two pieces of 2 and 3 rows in training mode, got {seen}"

    @guard
    def test_one_graph_at_a_time(self, lab, rng):
        """calls backward for a piece before the next one runs"""
        events = []
        model = filled(nn.Linear(4, 3), rng)

        def listen(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            events.append("forward")
            output.register_hook(lambda gradient: events.append("backward"))

        model.register_forward_hook(listen)
        pieces = [labelled(rng, 2), labelled(rng, 3)]
        lab.accumulated_step(model, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.1), pieces)
        assert events == ["forward", "backward"] * 2, f"expected forward and backward in turn, got {events}"

    def workload(self, lab, size, rng):
        model, pieces = nn.Linear(64, 3), [labelled(rng, 64 * size, 64) for _ in range(8)]
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        return lambda: lab.accumulated_step(model, F.cross_entropy, optimizer, pieces)


class TestLrRangeTest(Exercise):
    """A learning-rate range test."""

    points = 2
    side_quest = True
    needs = ("sgd", "train_step")
    skills = ("schedules", "debugging")
    hints = (
        "What is the ratio of neighbouring rates, and what are the first and the last?",
        "The comparison that ends the run must also be true for NaN. How is NaN compared with a number?",
        "`if not loss <= 4 * min(losses, default=math.inf): break`, and infinity apart.",
    )

    def runs(self, rng):
        """A model, batches and limits: a run that goes well, one that explodes, and one that meets no number."""
        for low, high, n, spoilt in ((1e-3, 0.1, 5, None), (0.1, 1e4, 12, None), (0.01, 0.1, 6, 3), (0.01, 0.1, 4, 0)):
            model = filled(Normed(), rng).eval()
            batches = [labelled(rng, 5) for _ in range(n)]
            if spoilt is not None:
                batches[spoilt][0][1, 2] = math.nan
            yield model, batches, low, high

    def reference(self, model, batches, low, high):
        """What the text describes."""
        twin = copy.deepcopy(model)
        rates, losses = [], []
        for rate, batch in zip(np.geomspace(low, high, len(batches)).tolist(), batches, strict=True):
            loss = reference_step(twin, F.cross_entropy, torch.optim.SGD(twin.parameters(), rate), *batch).item()
            if not math.isfinite(loss) or (losses and loss > 4 * min(losses)):
                break
            rates.append(rate)
            losses.append(loss)
        return rates, losses

    def test_rates(self, lab, rng):
        """goes geometrically from low to high, and ends early where the loss explodes or is no number"""
        for model, batches, low, high in self.runs(rng):
            expected = self.reference(model, batches, low, high)[0]
            got = lab.lr_range_test(model, F.cross_entropy, batches, low, high)[0]
            assert_close(torch.tensor(got), torch.tensor(expected))

    def test_losses(self, lab, rng):
        """records the loss before each update by plain SGD, in training mode"""
        for model, batches, low, high in self.runs(rng):
            expected = self.reference(model, batches, low, high)[1]
            got = lab.lr_range_test(model, F.cross_entropy, batches, low, high)[1]
            assert_close(torch.tensor(got), torch.tensor(expected), rtol=1e-3, atol=1e-4)

    def test_end(self, lab, rng):
        """ends at an infinite loss, also if it is the first, or at one of more than four times the lowest"""
        for losses, at in (
            ([math.inf, 0.9, 0.8, 0.7], 0),
            ([1.0, 0.9, math.inf, 0.7], 2),
            ([1.0, 3.875, 0.5, 2.0, 2.125, 0.125], 4),
        ):
            model = filled(nn.Linear(2, 1), rng)
            batches = [(normal(rng, 3, 2), torch.tensor(loss)) for loss in losses]
            got = lab.lr_range_test(model, lambda output, y: output.sum() * 0 + y, batches, 0.1, 1.0)
            assert_close(torch.tensor(got[1]), torch.tensor(losses[:at]))

    @guard
    def test_leaves_model_alone(self, lab, rng):
        """trains a copy, and returns plain floats"""
        model = filled(Normed(), rng).eval()
        before = weights(model)
        result = lab.lr_range_test(model, F.cross_entropy, [labelled(rng, 4) for _ in range(3)], 0.01, 0.1)
        kinds = {type(number).__name__ for numbers in result for number in numbers}
        assert kinds == {"float"}, f"expected plain floats, got {', '.join(sorted(kinds))}"
        assert_close(weights(model), before)
        assert not model.training, "expected the model to stay in evaluation mode"

    def workload(self, lab, size, rng):
        model, batches = nn.Linear(64, 3), [labelled(rng, 64 * size, 64) for _ in range(8)]
        return lambda: lab.lr_range_test(model, F.cross_entropy, batches, 1e-5, 1e-4)


# Patience, min_delta, the losses, and after which of them it is time to stop.
SERIES = (
    (2, 0.0, [1.0, 0.5, 0.6, 0.4, 0.45, 0.41, 0.39], [0, 0, 0, 0, 0, 1, 0]),
    (1, 0.0, [1.0, 0.9, 0.9, 0.8], [0, 0, 1, 0]),
    (3, 0.1, [1.0, 0.95, 0.85, 0.8, 0.76, 0.74, 0.7], [0, 0, 0, 0, 0, 0, 0]),
    (3, 0.1, [1.0, 0.95, 0.92, 0.91, 0.8], [0, 0, 0, 1, 0]),
    (2, 0.0, [math.nan, 1.0, math.nan, math.nan, 0.5], [0, 0, 0, 1, 0]),
    (2, 0.0, [math.nan, math.nan, 1.0], [0, 1, 0]),
)


class TestEarlyStopping(Exercise):
    """Early stopping."""

    points = 2
    side_quest = True
    skills = ("training-loop",)
    hints = (
        "What are `best` and the number of updates without improvement at first?",
        "What does `state_dict()` hold: copies of the weights, or the weights themselves?",
        "Improvement: `loss < self.best - self.min_delta`. Remember `copy.deepcopy(model.state_dict())`, and start to "
        "count again.",
    )

    def test_when(self, lab, rng):
        """stops after `patience` updates in a row that did not improve on the best by more than min_delta"""
        for patience, min_delta, losses, expected in SERIES:
            stopping, model = lab.EarlyStopping(patience, min_delta), nn.Linear(1, 1)
            got = [stopping.update(loss, model) for loss in losses]
            assert_close(torch.tensor(got), torch.tensor(expected, dtype=torch.bool))

    def test_best(self, lab, rng):
        """remembers the best loss"""
        got = []
        for patience, min_delta, losses, _ in SERIES:
            stopping, model = lab.EarlyStopping(patience, min_delta), nn.Linear(1, 1)
            got.append(stopping.best)
            for loss in losses[:4]:
                stopping.update(loss, model)
            got.append(stopping.best)
        best = [0.4, 0.8, 0.85, 1.0, 1.0, 1.0]
        assert_close(torch.tensor(got), torch.tensor([number for last in best for number in (math.inf, last)]))

    def test_restore(self, lab, rng):
        """restores the weights and buffers of the best update, whatever happened to the model since"""
        stopping, model = lab.EarlyStopping(5), Normed()
        for i, loss in enumerate((1.0, 0.5, 0.8, 0.7)):
            filled(model, rng)
            model.norm.running_mean.fill_(i)
            if loss == 0.5:
                best = weights(model)
            stopping.update(loss, model)
        stopping.restore(model)
        assert_close(weights(model), best)

    def workload(self, lab, size, rng):
        model, losses = nn.Linear(256, 256 * size), normal(rng, 32).tolist()

        def watch():
            stopper = lab.EarlyStopping(100)
            for loss in losses:
                stopper.update(loss, model)
            stopper.restore(model)

        return watch


def three_numbers() -> Tensor:
    """One draw from each global generator."""
    return torch.tensor([torch.rand(1, dtype=torch.float64).item(), np.random.rand(), random.random()])


class TestSeeded(Exercise):
    """Borrowed randomness."""

    points = 2
    side_quest = True
    skills = ("reproducibility",)
    hints = (
        "Which three states are there to be put back, and with which functions are they read?",
        "The states are read before the seeds are set.",
        "`try: yield` and `finally:` `torch.set_rng_state`, `np.random.set_state`, `random.setstate`.",
    )

    def test_inside(self, lab, rng):
        """inside, all three generators have just been seeded"""
        for seed in (0, 7):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            expected = three_numbers()
            three_numbers()
            with lab.seeded(seed):
                got = three_numbers()
            assert_close(got, expected)

    def test_after(self, lab, rng):
        """after it, all three go on as if nothing had been drawn"""
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        expected = three_numbers()
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        with lab.seeded(5):
            three_numbers()
        assert_close(three_numbers(), expected)

    @guard
    def test_after_an_error(self, lab, rng):
        """also if the block raises, and the error is passed on"""
        state = torch.get_rng_state()
        with raises(KeyError), lab.seeded(5):
            raise KeyError("on purpose")
        assert torch.equal(torch.get_rng_state(), state), "expected torch's state to be put back after an error"


class TestLogHistory(Exercise):
    """TensorBoard, written and read back."""

    points = 2
    side_quest = True
    skills = ("debugging", "training-loop")
    hints = (
        "Which three things does `add_scalar` want, and when is everything on disk?",
        "`EventAccumulator(folder, size_guidance={SCALARS: 0})`: what must be called before it knows anything?",
        "`.Reload()`, then for each name in `.Tags()['scalars']` the values of `.Scalars(name)`.",
    )

    def test_round_trip(self, lab, rng, tmp_path):
        """what is written is read back, name by name and in order"""
        history = {"loss/train": normal(rng, 7).tolist(), "accuracy": normal(rng, 3).tolist()}
        lab.log_history(tmp_path / "run", history)
        got = lab.read_history(tmp_path / "run")
        assert set(got) == set(history), f"expected the names {sorted(history)}, got {sorted(got)}"
        for name, numbers in history.items():
            assert_close(torch.tensor(got[name]), torch.tensor(numbers))

    @guard
    def test_writes(self, lab, rng, tmp_path):
        """log_history writes scalars with steps from 0 that any reader finds, at once"""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        numbers = normal(rng, 5)
        lab.log_history(tmp_path, {"a": numbers.tolist()})
        events = EventAccumulator(str(tmp_path)).Reload().Scalars("a")
        assert_close(torch.tensor([e.value for e in events]), numbers)
        assert_close(torch.tensor([e.step for e in events]), torch.arange(5))

    def test_reads_everything(self, lab, rng, tmp_path):
        """read_history reads what any writer wrote, however much"""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(tmp_path), max_queue=20_000) as writer:
            for step in range(10_050):
                writer.add_scalar("x", step % 7, step)
        got = lab.read_history(tmp_path)
        assert set(got) == {"x"}, f"expected the name x, got {sorted(got)}"
        assert_close(torch.tensor(got["x"]), torch.arange(10_050.0) % 7)
