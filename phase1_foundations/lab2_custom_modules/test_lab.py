"""Checkers of Lab 2: custom neural network modules."""

import copy
import itertools
import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from grading.exercise import Exercise, forbid, guard, raises

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng, dtype=dtype)


def filled(module: nn.Module, rng: torch.Generator) -> nn.Module:
    """`module` with random numbers in its parameters, by sorted name."""
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(normal(rng, *parameter.shape, dtype=parameter.dtype))
    return module


def twin(theirs: nn.Module, module: nn.Module) -> nn.Module:
    """PyTorch's module with the parameters and buffers of `module`, by name."""
    theirs.load_state_dict(module.state_dict(), strict=False)
    return theirs


def gradients(module: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """The gradient that reaches `x`, and then those of the parameters by sorted name."""
    x = x.clone().requires_grad_()
    parameters = [p for _, p in sorted(module.named_parameters())]
    return list(torch.autograd.grad(module(x), [x, *parameters], upstream))


def assert_uniform(parameter: Tensor, limit: float) -> None:
    """`parameter` looks as if it were drawn uniformly between ±`limit`."""
    start = parameter.detach() / limit
    assert_close(start.abs().max().clamp(min=1), torch.tensor(1.0))
    # A uniform distribution's standard deviation is 1/√3 of its limit.
    noise = 3.5 / math.sqrt(start.numel())
    assert_close(start.std(), torch.tensor(1 / math.sqrt(3)), rtol=0.0, atol=noise)
    assert_close(start.mean(), torch.tensor(0.0), rtol=0.0, atol=noise)


def names(module: nn.Module) -> tuple[list[str], list[str]]:
    """Sorted names of parameters and buffers."""
    return sorted(n for n, _ in module.named_parameters()), sorted(n for n, _ in module.named_buffers())


class TestLinear(Exercise):
    """A linear layer."""

    points = 2
    skills = ("modules", "parameters", "initialisation")
    hints = (
        "What must `self.weight` be so that `parameters()` finds it?",
        "`nn.Parameter(torch.empty(d_out, d_in).uniform_(-limit, limit))`. Which axis is the fan-in?",
        "`x @ self.weight.T` works for any leading axes; add the bias unless it is None.",
    )

    def test_values_and_gradients(self, lab, rng):
        """computes x @ weight.T + bias for any leading axes, and so do its gradients"""
        for *shape, d_in, d_out in ((4, 3, 2), (2, 5, 4, 6), (1, 1, 3), (7, 5)):
            layer = filled(lab.Linear(d_in, d_out), rng)
            theirs = twin(nn.Linear(d_in, d_out), layer)
            x, upstream = normal(rng, *shape, d_in), normal(rng, *shape, d_out)
            assert_close(layer(x), theirs(x), **CLOSE)
            assert_close(gradients(layer, x, upstream), gradients(theirs, x, upstream), **CLOSE)

    def test_without_bias(self, lab, rng):
        """has no bias if none is wanted"""
        layer = filled(lab.Linear(3, 4, bias=False), rng)
        x = normal(rng, 5, 3)
        assert_close(layer(x), x @ layer.weight.T, **CLOSE)
        assert layer.bias is None, f"expected bias to be None, got {layer.bias!r}"
        assert list(layer.state_dict()) == ["weight"], (
            f"expected weight alone to be saved, got {list(layer.state_dict())}"
        )

    @guard
    def test_start(self, lab, rng):
        """starts uniformly between ±1/√d_in, weight and bias alike"""
        for d_in, d_out in ((100, 60), (9, 700)):
            layer, limit = lab.Linear(d_in, d_out), 1 / math.sqrt(d_in)
            for name in ("weight", "bias"):
                assert_uniform(getattr(layer, name), limit)

    @guard
    def test_registered(self, lab, rng):
        """weight and bias are parameters of shapes (d_out, d_in) and (d_out,)"""
        shapes = {name: tuple(p.shape) for name, p in lab.Linear(3, 5).named_parameters()}
        assert shapes == {"weight": (5, 3), "bias": (5,)}, f"expected weight (5, 3) and bias (5,), got {shapes}"

    @guard
    def test_no_builtin(self, lab, rng):
        """does without nn.Linear and F.linear"""
        x = normal(rng, 2, 3)
        with forbid("linear"):
            lab.Linear(3, 2)(x)

    def workload(self, lab, size, rng):
        layer, x = lab.Linear(128, 128), normal(rng, 16, 32 * size, 128)
        return lambda: layer(x).sum().backward()


class TestLayerNorm(Exercise):
    """Layer norm."""

    points = 2
    skills = ("normalisation", "modules")
    hints = (
        "Over which axis are mean and variance taken, and what shape must they have to line up with `x`?",
        "`keepdim=True`; the biased variance is `x.var(-1, keepdim=True, correction=0)`.",
        "(x − mean) / sqrt(variance + eps) · weight + bias, with nothing detached.",
    )

    def test_values(self, lab, rng):
        """equals nn.LayerNorm for any leading axes, with any weight, bias and eps"""
        for *shape, d, eps in ((4, 6, 1e-5), (2, 3, 5, 1e-2), (8, 1e-5), (1, 2, 1.0)):
            layer = filled(lab.LayerNorm(d, eps), rng)
            x = 3 * normal(rng, *shape, d) + 2
            assert_close(layer(x), twin(nn.LayerNorm(d, eps), layer)(x), **CLOSE)

    def test_gradients(self, lab, rng):
        """gradients flow through mean and variance, to the input and to weight and bias"""
        layer = filled(lab.LayerNorm(5), rng)
        x, upstream = normal(rng, 3, 4, 5), normal(rng, 3, 4, 5)
        theirs = twin(nn.LayerNorm(5), layer)
        assert_close(gradients(layer, x, upstream), gradients(theirs, x, upstream), rtol=1e-3, atol=1e-4)

    @guard
    def test_start(self, lab, rng):
        """starts with weight one and bias zero, and nothing else that is saved"""
        layer = lab.LayerNorm(4)
        assert_close(layer.weight.detach(), torch.ones(4))
        assert_close(layer.bias.detach(), torch.zeros(4))
        assert names(layer) == (["bias", "weight"], []), f"expected weight and bias as parameters, got {names(layer)}"

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own"""
        x = normal(rng, 2, 4)
        with forbid("layer_norm", "native_layer_norm"):
            lab.LayerNorm(4)(x)

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        x = normal(rng, 2, 4)
        before = x.clone()
        lab.LayerNorm(4)(x)
        assert_close(x, before)

    def workload(self, lab, size, rng):
        layer, x = lab.LayerNorm(128), normal(rng, 16, 64 * size, 128)
        return lambda: layer(x).sum().backward()


class TestBatchNorm(Exercise):
    """Batch norm: a layer with a memory."""

    points = 3
    skills = ("normalisation", "buffers", "modules")
    hints = (
        "Which of the four tensors does the optimizer change, and which does the layer change itself?",
        "Two variances: `correction=0` to normalise, the default to remember. Which statistics does evaluation use?",
        "Under `no_grad`: `self.running_mean.lerp_(x.mean(0), self.momentum)`, the same for `x.var(0)`; only if "
        "`self.training`.",
    )

    def pair(self, lab, rng, d, eps=1e-5, momentum=0.1):
        """Ours and PyTorch's, with the same parameters."""
        ours = filled(lab.BatchNorm(d, eps, momentum), rng)
        return ours, twin(nn.BatchNorm1d(d, eps, momentum, track_running_stats=True), ours)

    def test_training(self, lab, rng):
        """in training mode it normalises by the batch, with the biased variance"""
        for batch, d, eps in ((6, 4, 1e-5), (2, 3, 1e-5), (5, 1, 0.5)):
            ours, theirs = self.pair(lab, rng, d, eps)
            x = 3 * normal(rng, batch, d) + 2
            assert_close(ours(x), theirs(x), **CLOSE)

    def test_running_averages(self, lab, rng):
        """remembers mean and unbiased variance, with the momentum asked for"""
        for momentum in (0.1, 0.4):
            ours, theirs = self.pair(lab, rng, 3, momentum=momentum)
            for batch in (4, 2, 7):
                x = 2 * normal(rng, batch, 3) - 1
                ours(x)
                theirs(x)
            assert_close(ours.running_mean, theirs.running_mean, **CLOSE)
            assert_close(ours.running_var, theirs.running_var, **CLOSE)

    def test_evaluation(self, lab, rng):
        """in evaluation mode it uses the running averages, and leaves them as they are"""
        ours, _ = self.pair(lab, rng, 4)
        ours(2 * normal(rng, 9, 4) + 1)
        theirs = twin(nn.BatchNorm1d(4), ours).eval()
        before = copy.deepcopy(ours.state_dict())
        ours.eval()
        for batch in (1, 5):
            x = normal(rng, batch, 4)
            assert_close(ours(x), theirs(x), **CLOSE)
        assert_close(dict(ours.state_dict()), dict(before))

    def test_gradients(self, lab, rng):
        """gradients flow through the batch's mean and variance"""
        ours, theirs = self.pair(lab, rng, 3)
        x, upstream = normal(rng, 6, 3), normal(rng, 6, 3)
        assert_close(gradients(ours, x, upstream), gradients(theirs, x, upstream), rtol=1e-3, atol=1e-4)

    @guard
    def test_registered(self, lab, rng):
        """weight and bias are parameters, the running averages are buffers, with the right start"""
        layer = lab.BatchNorm(2)
        expected = (["bias", "weight"], ["running_mean", "running_var"])
        buffers = [n for n in names(layer)[1] if n != "num_batches_tracked"]
        assert (names(layer)[0], buffers) == expected, f"expected parameters and buffers {expected}, got {names(layer)}"
        start = [layer.weight, layer.bias, layer.running_mean, layer.running_var]
        assert_close([t.detach() for t in start], [torch.ones(2), torch.zeros(2), torch.zeros(2), torch.ones(2)])

    @guard
    def test_memory_is_off_the_tape(self, lab, rng):
        """the running averages do not hold on to the graph"""
        layer = lab.BatchNorm(3)
        layer(normal(rng, 4, 3).requires_grad_())
        held = [n for n in ("running_mean", "running_var") if getattr(layer, n).requires_grad]
        assert not held, f"expected running averages off the tape, got {' and '.join(held)} that require grad"

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own"""
        x = normal(rng, 4, 3)
        with forbid("batch_norm", "native_batch_norm", "instance_norm"):
            lab.BatchNorm(3)(x)

    def workload(self, lab, size, rng):
        layer, x = lab.BatchNorm(128), normal(rng, 512 * size, 128)
        return lambda: layer(x).sum().backward()


class TestDropout(Exercise):
    """Dropout."""

    points = 2
    skills = ("dropout", "modules")
    hints = (
        "How do you make a tensor of True and False in which True has the probability 1 − p?",
        "`torch.rand_like(x) >= self.p`. What is the expectation of what is kept, and what must it be?",
        "Training: `x * kept / (1 - self.p)`, with p = 1 apart. Evaluation: `x`.",
    )

    def test_rescales(self, lab, rng):
        """in training mode each element is 0 or divided by 1 − p, and so is its gradient"""
        for p in (0.2, 0.5, 0.9):
            x = (normal(rng, 6, 50).abs() + 0.1).requires_grad_()
            y = lab.Dropout(p)(x)
            kept = y != 0
            assert_close(y.detach(), torch.where(kept, x / (1 - p), 0.0).detach(), **CLOSE)
            y.sum().backward()
            assert_close(x.grad, torch.where(kept, 1 / (1 - p), 0.0), **CLOSE)
            assert not kept.all(), f"expected some of 300 elements to be dropped with p = {p}, got none"

    def test_probability(self, lab, rng):
        """drops independently, with probability p"""
        for p in (0.1, 0.5, 0.8):
            dropped = (lab.Dropout(p)(torch.ones(100, 200)) == 0).double()
            noise = math.sqrt(p * (1 - p))
            assert_close(dropped.mean(), torch.tensor(p).double(), rtol=0.0, atol=5 * noise / math.sqrt(20_000))
            # Along an axis that shared its choice, shares would be 0 or 1 instead of near p.
            for dim, count in ((0, 100), (1, 200)):
                spread = dropped.mean(dim).std()
                assert_close(spread, torch.tensor(noise / math.sqrt(count)).double(), rtol=0.5, atol=0.0)

    def test_another_choice_each_time(self, lab, rng):
        """makes another choice at every call, and the same after the same seed"""
        layer, x = lab.Dropout(0.5), torch.ones(200)
        first, second = layer(x), layer(x)
        assert not torch.equal(first, second), "expected another choice at the second call, got the same"
        torch.manual_seed(5)
        once = layer(x)
        torch.manual_seed(5)
        assert_close(layer(x), once)

    def test_limits(self, lab, rng):
        """p = 0 drops nothing and p = 1 everything"""
        x = normal(rng, 4, 5)
        assert_close([lab.Dropout(0.0)(x), lab.Dropout(1.0)(x)], [x, torch.zeros(4, 5)])

    @guard
    def test_evaluation(self, lab, rng):
        """in evaluation mode the input comes out as it is"""
        x = normal(rng, 4, 5)
        for p in (0.5, 1.0):
            assert_close(lab.Dropout(p).eval()(x), x)

    @guard
    def test_refuses(self, lab, rng):
        """raises ValueError for a p that is no probability"""
        for p in (-0.1, 1.5):
            with raises(ValueError):
                lab.Dropout(p)

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own"""
        x = normal(rng, 4, 5)
        with forbid("dropout", "native_dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"):
            lab.Dropout(0.5)(x)

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        x = normal(rng, 4, 5)
        before = x.clone()
        lab.Dropout(0.5)(x)
        assert_close(x, before)

    def workload(self, lab, size, rng):
        layer, x = lab.Dropout(0.5), normal(rng, 512 * size, 128)
        return lambda: layer(x)


def branch(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """What a residual block adds to its input, in evaluation mode."""
    d = x.shape[-1]
    h = F.layer_norm(x, (d,), weights["norm.weight"], weights["norm.bias"])
    h = torch.relu(F.linear(h, weights["first.weight"], weights["first.bias"]))
    return F.linear(h, weights["second.weight"], weights["second.bias"])


class TestResidualBlock(Exercise):
    """A residual block."""

    points = 2
    skills = ("residual", "modules", "initialisation")
    hints = (
        "Which four submodules are there, and what does each take and give?",
        "The norm comes first inside the branch; the input itself is not normalised.",
        "`x + self.dropout(self.second(torch.relu(self.first(self.norm(x)))))`; `nn.init.zeros_` for `second`.",
    )

    def test_values(self, lab, rng):
        """adds the branch to its input"""
        for *shape, d, d_hidden in ((3, 4, 9), (2, 5, 3, 7), (1, 6, 2)):
            block = filled(lab.ResidualBlock(d, d_hidden), rng).eval()
            x = 2 * normal(rng, *shape, d) + 1
            assert_close(block(x), x + branch(dict(block.named_parameters()), x), **CLOSE)

    def test_identity_at_the_start(self, lab, rng):
        """is the identity at the start, and learns"""
        block = lab.ResidualBlock(4, 8)
        x = normal(rng, 5, 4)
        assert_close(block(x), x)
        second = dict(block.named_parameters())["second.weight"]
        (gradient,) = torch.autograd.grad(block(x).square().sum(), [second])
        assert gradient.abs().sum() > 0, "expected a gradient for second.weight at the start, got zeros"

    def test_gradients(self, lab, rng):
        """gradients pass along the input and through every parameter"""
        block = filled(lab.ResidualBlock(3, 6), rng)
        x, upstream = normal(rng, 4, 3), normal(rng, 4, 3)
        weights = {n: p.detach().clone().requires_grad_() for n, p in block.named_parameters()}
        leaf = x.clone().requires_grad_()
        expected = torch.autograd.grad(
            leaf + branch(weights, leaf), [leaf, *(weights[n] for n in sorted(weights))], upstream
        )
        assert_close(gradients(block, x, upstream), list(expected), rtol=1e-3, atol=1e-4)

    def test_dropout_in_the_branch(self, lab, rng):
        """drops in the branch only, and only in training mode"""
        block = filled(lab.ResidualBlock(40, 8, 0.5), rng)
        x = normal(rng, 10, 40)
        added = block(x) - x
        full = branch(dict(block.named_parameters()), x)
        kept = added.abs() > 1e-4
        assert_close(added.detach(), torch.where(kept, 2 * full, 0.0).detach(), rtol=1e-3, atol=1e-3)
        assert 100 < kept.sum() < 300, f"expected about 200 of 400 elements kept with p = 0.5, got {kept.sum()}"
        assert_close(block.eval()(x), x + full, **CLOSE)

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        block, x = filled(lab.ResidualBlock(4, 8), rng), normal(rng, 5, 4)
        before = x.clone()
        block(x)
        assert_close(x, before)

    def workload(self, lab, size, rng):
        block, x = lab.ResidualBlock(64, 256, 0.1), normal(rng, 128 * size, 64)
        return lambda: block(x).sum().backward()

    def architecture(self, lab, rng):
        return lab.ResidualBlock(64, 256), (normal(rng, 128, 64),)


class TestStack(Exercise):
    """A container."""

    points = 2
    skills = ("modules",)
    hints = (
        '`self.something = module` registers under the name `something`. How do you register under the name "0"?',
        "`add_module(name, module)`; and what is registered stands in order in `self._modules`, or in `children()`.",
        "`append`: `self.add_module(str(len(self)), module)`, and return `self`; `list(self.children())[i]`.",
    )

    def modules(self, rng):
        return [filled(nn.Linear(3, 5), rng), nn.Tanh(), filled(nn.Linear(5, 2), rng)]

    def test_applies_in_order(self, lab, rng):
        """applies its modules in order, also those appended, and an empty one returns its input"""
        modules, x = self.modules(rng), normal(rng, 4, 3)
        expected = modules[2](torch.tanh(modules[0](x)))
        stack = lab.Stack(*modules[:2])
        returned = stack.append(modules[2])
        assert_close(stack(x), expected)
        assert returned is stack, f"expected append to return the stack, got {type(returned).__name__}"
        assert_close(lab.Stack()(x), x)

    def test_registered(self, lab, rng):
        """registers them as "0", "1", …, appended ones too"""
        modules = self.modules(rng)
        stack = lab.Stack(*modules[:1]).append(modules[1]).append(modules[2])
        expected = nn.Sequential(*modules).state_dict()
        assert list(stack.state_dict()) == list(expected), f"expected {list(expected)}, got {list(stack.state_dict())}"
        assert_close(dict(stack.state_dict()), dict(expected))
        stack.eval()
        assert not any(m.training for m in modules), "expected eval() to reach every module"

    def test_access(self, lab, rng):
        """has a length, indices from both ends, and an order"""
        modules = self.modules(rng)
        stack = lab.Stack(*modules)
        assert (len(stack), len(lab.Stack())) == (3, 0), (
            f"expected lengths 3 and 0, got {len(stack)}, {len(lab.Stack())}"
        )
        for i in (0, 1, 2, -1, -3):
            assert stack[i] is modules[i], f"expected stack[{i}] to be module {i % 3}, got {stack[i]!r}"
        assert [id(m) for m in stack] == [id(m) for m in modules], "expected iteration in order"

    @guard
    def test_no_such_module(self, lab, rng):
        """raises IndexError where there is none"""
        stack = lab.Stack(nn.Tanh(), nn.ReLU())
        for i in (2, -3):
            with raises(IndexError):
                stack[i]

    @guard
    def test_no_builtin(self, lab, rng):
        """does without nn.Sequential and nn.ModuleList"""
        stack = lab.Stack(nn.Tanh())
        inside = [type(m).__name__ for m in (stack, *stack.modules()) if isinstance(m, nn.Sequential | nn.ModuleList)]
        assert not inside, f"expected a container of your own, got {', '.join(inside)}"


class TestInitialise(Exercise):
    """The payoff: thirty layers, alive or dead."""

    points = 3
    skills = ("initialisation", "numerics")
    hints = (
        "Which axis of `(d_out, d_in)` is the fan-in? And how may a leaf that requires grad be written to?",
        "Under `no_grad`, `weight.normal_(0, std)` writes in place.",
        "`h = torch.relu(h @ weight.T)`, then `h.square().mean().sqrt()`, collected and stacked, all under `no_grad`.",
    )

    def test_start(self, lab, rng):
        """draws from a normal distribution with mean 0 and deviation gain / √d_in"""
        for d_out, d_in, gain in ((300, 50, 1.0), (40, 400, 1.5), (200, 200, 0.3)):
            weight = torch.full((d_out, d_in), 7.0)
            lab.initialise(weight, gain)
            z = weight * math.sqrt(d_in) / gain
            noise = 5 / math.sqrt(z.numel())
            assert_close(z.mean(), torch.tensor(0.0), rtol=0.0, atol=noise)
            assert_close(z.std(), torch.tensor(1.0), rtol=0.0, atol=noise)
            # The fourth moment tells a normal distribution, 3, from a uniform one, 1.8.
            assert_close(z.pow(4).mean(), torch.tensor(3.0), rtol=0.0, atol=10 * noise)

    def test_in_place(self, lab, rng):
        """writes in place into a leaf that requires grad, another draw each time"""
        weight = torch.zeros(6, 4, requires_grad=True)
        pointer = weight.data_ptr()
        lab.initialise(weight, 1.0)
        first = weight.detach().clone()
        assert weight.is_leaf, "expected a leaf"
        assert weight.requires_grad, "expected it still to require grad"
        assert weight.data_ptr() == pointer, "expected the same memory"
        assert first.abs().sum() > 0, "expected numbers other than zero"
        lab.initialise(weight, 1.0)
        assert not torch.equal(weight.detach(), first), "expected another draw the second time, got the same"

    def test_sizes(self, lab, rng):
        """signal_sizes gives the root mean square after each relu layer"""
        for batch, widths in ((5, (3, 8, 4, 6)), (1, (4, 4)), (7, (6, 2, 5))):
            x = normal(rng, batch, widths[0])
            weights = [normal(rng, d_out, d_in) for d_in, d_out in itertools.pairwise(widths)]
            expected, h = [], x.double()
            for weight in weights:
                h = (h @ weight.double().T).clamp(min=0)
                expected.append(h.square().mean().sqrt())
            assert_close(lab.signal_sizes(x, weights), torch.stack(expected).float(), **CLOSE)

    @guard
    def test_off_the_tape(self, lab, rng):
        """signal_sizes returns sizes off the tape, and changes neither x nor weights"""
        x, weights = normal(rng, 4, 3), [normal(rng, 5, 3).requires_grad_(), normal(rng, 2, 5).requires_grad_()]
        before = [t.detach().clone() for t in (x, *weights)]
        sizes = lab.signal_sizes(x, weights)
        assert not sizes.requires_grad, "expected sizes off the tape, got ones that require grad"
        assert_close([t.detach() for t in (x, *weights)], before)

    @guard
    def test_no_builtin(self, lab, rng):
        """initialise does without nn.init"""
        called = []
        names_of = [n for n in dir(nn.init) if n.endswith("_") and not n.startswith("_")]
        originals = {n: getattr(nn.init, n) for n in names_of}
        try:
            for n, original in originals.items():
                setattr(nn.init, n, lambda *a, _n=n, _o=original, **k: (called.append(_n), _o(*a, **k))[1])
            lab.initialise(torch.empty(3, 3), 1.0)
        finally:
            for n, original in originals.items():
                setattr(nn.init, n, original)
        assert not called, f"expected no call of nn.init, got {', '.join(called)}"

    def workload(self, lab, size, rng):
        x, weights = normal(rng, 64 * size, 128), [torch.empty(128, 128) for _ in range(8)]

        def signal():
            for weight in weights:
                lab.initialise(weight, 2**0.5)
            lab.signal_sizes(x, weights)

        return signal


class TestRNNCell(Exercise):
    """Recurrent cells."""

    name = "rnn_cell"
    points = 4
    skills = ("recurrent", "modules", "initialisation")
    hints = (
        "Both cells need the same sum of two matrix products and two biases. How many rows has it in each?",
        "`sums.chunk(4, dim=-1)` gives i, f, g, o in this order; three of them go through a sigmoid, one through tanh.",
        "c' = sigmoid(f) · c + sigmoid(i) · tanh(g); h' = sigmoid(o) · tanh(c'); return (h', c').",
    )

    def test_rnn(self, lab, rng):
        """RNNCell equals nn.RNNCell on the same parameters, gradients too"""
        for batch, d_in, d_hidden in ((4, 3, 5), (1, 6, 2), (3, 1, 1)):
            cell = filled(lab.RNNCell(d_in, d_hidden), rng)
            theirs = twin(nn.RNNCell(d_in, d_hidden), cell)
            x, h, upstream = normal(rng, batch, d_in), normal(rng, batch, d_hidden), normal(rng, batch, d_hidden)
            assert_close(cell(x, h), theirs(x, h), **CLOSE)
            parameters = [[p for _, p in sorted(c.named_parameters())] for c in (cell, theirs)]
            got, expected = (
                torch.autograd.grad(c(x, h), p, upstream) for c, p in zip((cell, theirs), parameters, strict=True)
            )
            assert_close(got, expected, **CLOSE)

    def test_lstm(self, lab, rng):
        """LSTMCell equals nn.LSTMCell on the same parameters, both states"""
        for batch, d_in, d_hidden in ((4, 3, 5), (1, 6, 2), (3, 1, 1)):
            cell = filled(lab.LSTMCell(d_in, d_hidden), rng)
            theirs = twin(nn.LSTMCell(d_in, d_hidden), cell)
            x, state = normal(rng, batch, d_in), (normal(rng, batch, d_hidden), normal(rng, batch, d_hidden))
            assert_close(tuple(cell(x, state)), theirs(x, state), **CLOSE)

    def test_through_time(self, lab, rng):
        """over several steps of an LSTM the states and the gradients agree"""
        cell = filled(lab.LSTMCell(3, 4), rng)
        theirs = twin(nn.LSTMCell(3, 4), cell)
        xs, results = normal(rng, 6, 2, 3), []
        for c in (cell, theirs):
            state = (torch.zeros(2, 4), torch.zeros(2, 4))
            for x in xs:
                state = c(x, state)
            parameters = [p for _, p in sorted(c.named_parameters())]
            total = state[0].sum() + state[1].square().sum()
            results.append([*(s.detach() for s in state), *torch.autograd.grad(total, parameters)])
        assert_close(*results, rtol=1e-3, atol=1e-4)

    @guard
    def test_start(self, lab, rng):
        """has PyTorch's parameters, starting uniformly between ±1/√d_hidden"""
        for cell, theirs in ((lab.RNNCell(30, 64), nn.RNNCell(30, 64)), (lab.LSTMCell(30, 64), nn.LSTMCell(30, 64))):
            shapes = {n: tuple(p.shape) for n, p in theirs.named_parameters()}
            got = {n: tuple(p.shape) for n, p in cell.named_parameters()}
            assert got == shapes, f"expected parameters {shapes}, got {got}"
            for parameter in cell.parameters():
                assert_uniform(parameter, 1 / math.sqrt(64))

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own cells and recurrent layers"""
        x, h = normal(rng, 2, 3), normal(rng, 2, 4)
        with forbid(
            "rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "rnn_tanh", "rnn_relu", "lstm", "thnn_fused_lstm_cell"
        ):
            lab.RNNCell(3, 4)(x, h)
            lab.LSTMCell(3, 4)(x, (h, h))

    def workload(self, lab, size, rng):
        x, cell, memory = normal(rng, 4 * size, 32, 32), lab.RNNCell(32, 64), lab.LSTMCell(32, 64)

        def unroll():
            h, state = torch.zeros(32, 64), (torch.zeros(32, 64), torch.zeros(32, 64))
            for step in x:
                h, state = cell(step, h), memory(step, state)
            (h.sum() + state[0].sum()).backward()

        return unroll

    def architecture(self, lab, rng):
        state = normal(rng, 64, 64), normal(rng, 64, 64)
        return lab.LSTMCell(32, 64), (normal(rng, 64, 32), state)


class Shared(nn.Module):
    """Two layers that share a weight, a buffer, and a layer whose name begins like another's."""

    def __init__(self) -> None:
        super().__init__()
        self.part1 = nn.Linear(3, 3)
        self.part10 = nn.Linear(3, 3, bias=False)
        self.tied = nn.Linear(3, 3, bias=False)
        self.tied.weight = self.part10.weight
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.ones(2))


class TestCountParameters(Exercise):
    """Count and freeze."""

    points = 2
    side_quest = True
    skills = ("parameters", "modules")
    hints = (
        "What does `parameters()` do with a parameter that two layers share?",
        "A name fits if it is the prefix, or begins with the prefix and a dot.",
        "First check that every prefix fits something; then `requires_grad_(False)` and `grad = None` for each.",
    )

    def test_counts(self, lab, rng):
        """counts trainable and all numbers, shared ones once"""
        model = Shared()
        assert_close(torch.tensor(lab.count_parameters(model)), torch.tensor([29, 29]))
        model.part1.weight.requires_grad_(False)
        bigger = nn.Sequential(model, nn.Linear(2, 1))
        assert_close(torch.tensor(lab.count_parameters(bigger)), torch.tensor([23, 32]))

    def test_freezes(self, lab, rng):
        """freezes what the prefixes name, and nothing else"""
        for prefixes, frozen in (
            (("part1",), {"part1.weight", "part1.bias"}),
            (("norm", "scale"), {"norm.weight", "norm.bias", "scale"}),
            (("part1.bias",), {"part1.bias"}),
            ((), {"part1.weight", "part1.bias", "part10.weight", "norm.weight", "norm.bias", "scale"}),
        ):
            model = Shared()
            lab.freeze(model, *prefixes)
            got = {n for n, p in model.named_parameters() if not p.requires_grad}
            assert got == frozen, f"expected freeze{prefixes} to freeze {sorted(frozen)}, got {sorted(got)}"

    def test_leaves_what_was_frozen(self, lab, rng):
        """keeps frozen what was frozen before, and clears gradients of what it freezes alone"""
        model = Shared()
        model.scale.requires_grad_(False)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        lab.freeze(model, "part1")
        kept = sorted(n for n, p in model.named_parameters() if p.grad is not None)
        expected = ["norm.bias", "norm.weight", "part10.weight", "scale"]
        assert kept == expected, f"expected gradients left at {expected}, got {kept}"
        assert not model.scale.requires_grad, "expected scale still to be frozen"

    @guard
    def test_refuses(self, lab, rng):
        """raises ValueError for a prefix that fits nothing, and freezes nothing then"""
        model = Shared()
        for prefix in ("part", "norm.running_mean", "part1.weigh"):
            with raises(ValueError):
                lab.freeze(model, "part1", prefix)
            assert model.part1.weight.requires_grad, "expected nothing to be frozen before the error"


class Branching(nn.Module):
    """Runs its leaves in another order than it registers them; one never runs; it may raise."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.idle = nn.Linear(1, 1)
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        if self.fails:
            raise RuntimeError("on purpose")
        return self.last(h)


class TestActivationStatistics(Exercise):
    """Listen with hooks."""

    points = 3
    side_quest = True
    skills = ("hooks", "modules")
    hints = (
        "Which modules have no children, and when is a forward hook called?",
        "A hook made in a loop must remember its own name: make it in a function that takes the name.",
        "`handle = module.register_forward_hook(...)`; run the model in `try`, and `handle.remove()` in `finally`.",
    )

    def test_statistics(self, lab, rng):
        """gives mean, biased deviation and share of zeros of each leaf's output"""
        model, x = filled(Branching(), rng), normal(rng, 6, 3)
        first = model.inner[0](x)
        outputs = {"inner.0": first, "inner.1": first.relu(), "last": model.last(first.relu())}
        got = lab.activation_statistics(model, x)
        assert set(got) == set(outputs), f"expected the leaves {sorted(outputs)}, got {sorted(got)}"
        for name, output in outputs.items():
            expected = [output.mean(), output.std(correction=0), (output == 0).float().mean()]
            assert_close(torch.tensor(got[name]), torch.stack(expected).detach(), **CLOSE)

    def test_order_and_types(self, lab, rng):
        """lists the leaves in the order in which they ran, with plain floats"""
        got = lab.activation_statistics(filled(Branching(), rng), normal(rng, 2, 3))
        assert list(got) == ["inner.0", "inner.1", "last"], f"expected the order of running, got {list(got)}"
        kinds = {type(number).__name__ for row in got.values() for number in row}
        assert kinds == {"float"}, f"expected plain floats, got {', '.join(sorted(kinds))}"

    def test_one_leaf(self, lab, rng):
        """works for a model that is itself a leaf, under the name of the root"""
        layer, x = filled(nn.Linear(3, 2), rng), normal(rng, 4, 3)
        got = lab.activation_statistics(layer, x)
        assert list(got) == [""], f"expected one entry, named '', got {list(got)}"
        assert_close(torch.tensor(got[""][0]), layer(x).mean().detach(), **CLOSE)

    @guard
    def test_cleans_up(self, lab, rng):
        """removes its hooks, also if the model raises, and keeps its mode"""
        for fails in (False, True):
            model = Branching(fails).train(not fails)
            with raises(RuntimeError, match="on purpose") if fails else nullcontext():
                lab.activation_statistics(model, normal(rng, 2, 3))
            left = [n for n, m in model.named_modules() if m._forward_hooks]
            assert not left, f"expected no hooks left behind, got some at {left}"
            modes = {m.training for m in model.modules()}
            assert modes == {not fails}, "expected the model in the mode it was in"

    @guard
    def test_runs_once_without_gradients(self, lab, rng):
        """runs the model once, without recording gradients"""
        model, recorded = Branching(), []
        model.last.register_forward_hook(lambda module, inputs, output: recorded.append(output.requires_grad))
        lab.activation_statistics(model, normal(rng, 2, 3))
        assert recorded == [False], f"expected one run off the tape, got requires_grad = {recorded}"

    def workload(self, lab, size, rng):
        model = nn.Sequential(*[module for _ in range(8) for module in (nn.Linear(64, 64), nn.ReLU())])
        x = normal(rng, 128 * size, 64)
        return lambda: lab.activation_statistics(model, x)
