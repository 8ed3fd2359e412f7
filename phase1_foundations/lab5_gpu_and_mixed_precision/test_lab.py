"""Checkers of Lab 5: GPU acceleration and mixed precision."""

import contextlib
import functools
import itertools
import math
import multiprocessing
import statistics
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from grading.exercise import Exercise, count_calls, forbid, guard, raises
from labkit.launch import LaunchError, StubMet, launch

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
Pair = namedtuple("Pair", "first second")


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng, dtype=dtype)


def filled(module: nn.Module, rng: torch.Generator, size: float = 0.5) -> nn.Module:
    """`module` with random numbers in its parameters, by sorted name."""
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(size * normal(rng, *parameter.shape))
    return module


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    layers = [nn.Linear(d_in, d_out) for d_in, d_out in itertools.pairwise(sizes)]
    return nn.Sequential(*[module for layer in layers for module in (layer, nn.ReLU())][:-1])


def twins(rng: torch.Generator, *sizes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Two equal networks."""
    first, second = filled(mlp(*sizes), rng), mlp(*sizes)
    second.load_state_dict(first.state_dict())
    return first, second


def weights(module: nn.Module) -> dict[str, Tensor]:
    """The parameters as plain tensors."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def machine(built_for: str, there: bool) -> contextlib.AbstractContextManager:
    """PyTorch as it answers where it is built for an accelerator that is there, or not."""
    device = torch.device(built_for)

    def current_accelerator(check_available: bool = False) -> torch.device | None:
        return device if there or not check_available else None

    answers = {
        "current_accelerator": current_accelerator,
        "is_available": lambda: there,
        "device_count": lambda: int(there),
    }
    return mock.patch.multiple(torch.accelerator, **answers)


class TestPickDevice(Exercise):
    """One program, any device."""

    points = 2
    skills = ("device", "buffers")
    hints = (
        "Which argument of `current_accelerator` asks the machine itself? On which device does `torch.arange` put its "
        "numbers?",
        "`move` calls itself: on a dict's values, on the members of a list or tuple. A named tuple has `_fields`, and "
        "is made by `type(batch)(*members)`.",
        "`register_buffer(..., persistent=False)`; `torch.arange(x.shape[1], device=x.device)`; cast the table with "
        "`.to(x.dtype)` at the end.",
    )

    def test_pick_device(self, lab, rng):
        """pick_device gives the accelerator that is there, whoever made it, and else the CPU"""
        for built_for, there in (("xpu", True), ("cuda", False), ("mps", True), ("cuda", True)):
            with machine(built_for, there):
                got = lab.pick_device()
            expected = torch.device(built_for if there else "cpu")
            state = "with" if there else "without"
            assert isinstance(got, torch.device), f"expected a torch.device, got {got!r}"
            assert got.type == expected.type, f"expected {expected} on a machine {state} {built_for}, got {got}"

    def test_move(self, lab, rng):
        """move puts every tensor on the device, however deep, and keeps the types of what holds them"""
        x, y = normal(rng, 2, 3), torch.arange(4)
        batch = {"x": x, "more": [y, (x, "text", None)], "pair": Pair(y, OrderedDict(z=[x])), 3: 1.5}
        got = lab.move(batch, "meta")
        for place, tensor in (
            ("batch['x']", got["x"]),
            ("batch['more'][0]", got["more"][0]),
            ("batch['more'][1][0]", got["more"][1][0]),
            ("batch['pair'].first", got["pair"].first),
            ("batch['pair'].second['z'][0]", got["pair"].second["z"][0]),
            ("a tensor alone", lab.move(x, torch.device("meta"))),
        ):
            assert tensor.device.type == "meta", f"expected {place} on meta, got {tensor.device}"
        kinds = [type(got), type(got["more"]), type(got["more"][1]), type(got["pair"]), type(got["pair"].second)]
        expected = [dict, list, tuple, Pair, OrderedDict]
        assert kinds == expected, f"expected {[kind.__name__ for kind in expected]} as given, got {kinds}"
        rest = [got["more"][1][1], got["more"][1][2], got[3]]
        assert rest == ["text", None, 1.5], f"expected what is no tensor to stay as it is, got {rest}"
        assert got["x"].shape == x.shape, f"expected the shape {tuple(x.shape)}, got {tuple(got['x'].shape)}"
        assert_close(lab.move([x, (y,)], "cpu"), [x, (y,)])

    def test_positions(self, lab, rng):
        """Positions adds the table of sines and cosines, which it makes on the device of x"""
        for batch, time, d in ((2, 5, 8), (1, 1, 2), (3, 40, 6), (1, 2000, 8)):
            x = normal(rng, batch, time, d)
            angles = torch.arange(time)[:, None].double() * 10000.0 ** (-2 * torch.arange(d // 2).double() / d)
            expected = x.double() + torch.cat([angles.sin(), angles.cos()], -1)
            assert_close(lab.Positions(d)(x), expected.float(), rtol=1e-4, atol=1e-3)
        module = lab.Positions(8).to("meta")
        assert module.frequencies.device.type == "meta", (
            f"expected the frequencies to follow the module to meta, got {module.frequencies.device}"
        )
        got = module(torch.empty(2, 5, 8, device="meta"))
        assert got.device.type == "meta", f"expected the result on meta, got {got.device}"
        assert got.shape == (2, 5, 8), f"expected the shape (2, 5, 8), got {tuple(got.shape)}"

    @guard
    def test_positions_in_sixteen_bits(self, lab, rng):
        """for an x in 16 bits, the table is computed in float32 and the result has 16"""
        x = torch.zeros(1, 300, 4, dtype=torch.bfloat16)
        module = lab.Positions(4)
        assert_close(module(x), module(x.float()).bfloat16())

    @guard
    def test_frequencies_are_not_saved(self, lab, rng):
        """the frequencies are a float32 buffer of shape (d/2,) that the state_dict leaves out"""
        module = lab.Positions(6)
        buffers = {name: (tuple(b.shape), b.dtype) for name, b in module.named_buffers()}
        assert buffers == {"frequencies": ((3,), torch.float32)}, (
            f"expected one buffer, frequencies, (3,) in float32, got {buffers}"
        )
        assert not module.state_dict(), f"expected nothing in the state_dict, got {list(module.state_dict())}"
        assert not list(module.parameters()), "expected no parameters: the frequencies are not learned"

    @guard
    def test_batch_is_left_alone(self, lab, rng):
        """move does not change the batch that it was given"""
        x = normal(rng, 2)
        batch = {"x": x, "list": [x]}
        lab.move(batch, "meta")
        assert [t is x for t in (batch["x"], *batch["list"])] == [True, True], (
            "expected the batch to stay as it was, got another"
        )

    @guard
    def test_non_blocking(self, lab, rng):
        """non_blocking is handed on to every tensor's .to, and is off unless asked for"""
        x = normal(rng, 2)
        to = Tensor.to
        for asked in (False, True):
            heard = []

            def record(tensor: Tensor, *arguments: object, heard: list = heard, **named: object) -> Tensor:
                heard.append(any(value is True for value in (*arguments, named.get("non_blocking"))))
                return to(tensor, *arguments, **named)

            with mock.patch.object(Tensor, "to", record):
                lab.move({"a": x, "b": [x, Pair(x, 1)]}, "cpu", **({"non_blocking": True} if asked else {}))
            assert heard == [asked] * 3, f"expected non_blocking={asked} for each of three tensors, got {heard}"

    def workload(self, lab, size, rng):
        positions, x = lab.Positions(64), normal(rng, 32, 256 * size, 64)
        return lambda: positions(x)


class Device:
    """A device that takes orders: a call returns at once, the work is done when somebody waits."""

    def __init__(self, durations: list[float]) -> None:
        self.now, self.queue = 100.0, 0.0
        self.durations, self.calls = durations, 0
        self.log: list[str] = []

    def call(self) -> None:
        self.queue += self.durations[self.calls]
        self.now += 0.001
        self.calls += 1
        self.log.append("call")

    def wait(self) -> None:
        self.now += self.queue
        self.queue = 0.0
        self.log.append("wait")

    def clock(self) -> float:
        self.log.append("clock")
        return self.now


class TestMedianSeconds(Exercise):
    """A clock that is not fooled."""

    points = 2
    skills = ("timing",)
    hints = (
        "When `call()` returns, has the device done the work? And what may still be in its queue before it?",
        "Two waits for each measurement: one before the first reading of the clock, one before the second.",
        "In the loop: `wait()`, `start = clock()`, `call()`, `wait()`, `times.append(clock() - start)`; then "
        "`statistics.median(times)`.",
    )

    def measure(self, lab, durations, repeats, warmup):
        """What the learner's clock says of a device whose calls take `durations`."""
        device = Device(durations)
        got = lab.median_seconds(device.call, device.wait, repeats=repeats, warmup=warmup, clock=device.clock)
        return got, device

    def test_times_the_work(self, lab, rng):
        """times the device's work, not the writing of the order"""
        for work in (2.0, 0.25):
            got, _ = self.measure(lab, [work] * 8, repeats=5, warmup=3)
            assert_close(torch.tensor(got), torch.tensor(work + 0.001), rtol=1e-3, atol=0.0)

    def test_empties_the_queue_first(self, lab, rng):
        """what is still in the queue from the warm-up is not counted"""
        got, _ = self.measure(lab, [50.0, 50.0, 1.0], repeats=1, warmup=2)
        assert_close(torch.tensor(got), torch.tensor(1.001), rtol=1e-3, atol=0.0)

    def test_median_after_warm_up(self, lab, rng):
        """takes the median of the repeats, and leaves the warm-up out"""
        for repeats, warmup in ((5, 4), (4, 2), (6, 0), (1, 1)):
            times = (1 + torch.rand(repeats, generator=rng)).tolist()
            times[repeats // 2] = 40.0 if repeats > 2 else times[0]
            got, _ = self.measure(lab, [500.0] * warmup + times, repeats, warmup)
            assert_close(torch.tensor(got), torch.tensor(statistics.median(times) + 0.001), rtol=1e-3, atol=0.0)

    def test_defaults(self, lab, rng):
        """warms up three times and repeats nine times if nothing else is asked for"""
        device = Device([100.0] * 3 + [1.0] * 4 + [3.0] * 5 + [0.0] * 50)
        got = lab.median_seconds(device.call, device.wait, clock=device.clock)
        assert device.calls == 12, f"expected 3 + 9 calls, got {device.calls}"
        assert_close(torch.tensor(got), torch.tensor(3.001), rtol=1e-3, atol=0.0)

    @guard
    def test_number_of_calls(self, lab, rng):
        """calls warmup + repeats times in all"""
        for repeats, warmup in ((5, 2), (3, 0)):
            _, device = self.measure(lab, [1.0] * 50, repeats, warmup)
            assert device.calls == repeats + warmup, f"expected {repeats} + {warmup} calls, got {device.calls}"


class Scaled(nn.Module):
    """Saves a view of its input and an output that nobody else needs, and shares one weight between two places."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.first = nn.Linear(d, d)
        self.second = nn.Linear(d, d, bias=False)
        self.second.weight = self.first.weight
        self.frozen = nn.Parameter(torch.ones(2 * d)[d:], requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.first(x)) * self.frozen
        return (self.second(h) * h[:, 1:2]).exp()


class TestPredictedBytes(Exercise):
    """Where the bytes are."""

    points = 3
    skills = ("memory", "autograd")
    hints = (
        "How many numbers are in a linear layer, its bias included? Which tensors does its backward need?",
        "Activations: the input of each linear layer once, `batch * sum(sizes[:-1])` numbers. When measuring, several "
        "saved tensors may be views of one storage.",
        "Keep every tensor that the pack hook is given in a list; then a dict from `untyped_storage().data_ptr()` to "
        "`nbytes()`, without the parameters' addresses; sum its values.",
    )

    CASES = (((3, 5, 2), 4), ((7, 1), 1), ((10, 20, 30, 5), 6), ((2, 2, 2, 2, 2), 33))

    def test_predicts_the_fixed_part(self, lab, rng):
        """predicts parameters, gradients and optimizer state"""
        got, expected = [], []
        for (sizes, batch), (optimizer, copies), dtype in itertools.product(
            self.CASES, (("sgd", 0), ("momentum", 1), ("adam", 2)), (torch.float32, torch.bfloat16, torch.float64)
        ):
            memory = lab.predicted_bytes(sizes, batch, optimizer, dtype)
            got.append([memory.parameters, memory.gradients, memory.state])
            size = sum(p.numel() for p in mlp(*sizes).parameters()) * dtype.itemsize
            expected.append([size, size, copies * size])
        assert_close(torch.tensor(got), torch.tensor(expected))

    def test_predicts_activations(self, lab, rng):
        """predicts the activations of any batch in any type"""
        got, expected = [], []
        for (sizes, batch), dtype in itertools.product(self.CASES, (torch.float32, torch.bfloat16)):
            got.append(lab.predicted_bytes(list(sizes), batch, "sgd", dtype).activations)
            expected.append(batch * sum(sizes[:-1]) * dtype.itemsize)
        got.append(lab.predicted_bytes((6, 5), 7, "adam").activations)
        expected.append(7 * 6 * 4)
        assert_close(torch.tensor(got), torch.tensor(expected))

    def test_measures_the_fixed_part(self, lab, rng):
        """measures parameters, gradients and state, without Adam's step counters"""
        got, expected = [], []
        for kind, copies in (
            (lambda p: torch.optim.SGD(p, lr=0.1), 0),
            (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 1),
            (lambda p: torch.optim.Adam(p, lr=0.1), 2),
            (lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True), 3),
        ):
            for model, size, learned, d in (
                (mlp(4, 6, 3).double(), 8 * 51, 8 * 51, 4),
                (Scaled(5), 4 * 35, 4 * 30, 5),
            ):
                x = normal(rng, 3, d).to(next(model.parameters()).dtype)
                memory = lab.measured_bytes(model, kind(model.parameters()), x)
                got.append([memory.parameters, memory.gradients, memory.state])
                expected.append([size, learned, copies * learned])
        assert_close(torch.tensor(got), torch.tensor(expected))

    def test_measures_activations(self, lab, rng):
        """measures what is saved for backward, each storage once and whole, parameters left out"""
        got, expected = [], []
        for sizes, batch in self.CASES:
            model = mlp(*sizes)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            got.append(lab.measured_bytes(model, optimizer, normal(rng, batch, sizes[0])).activations)
            expected.append(4 * batch * sum(sizes[:-1]))
        # x, sigmoid's output, h (and a view of it), the second product and exp's output; the frozen factor is a
        # parameter. And an input that is a view: its storage counts whole.
        scaled = Scaled(5)
        optimizer = torch.optim.SGD(scaled.parameters(), lr=0.1)
        got.append(lab.measured_bytes(scaled, optimizer, normal(rng, 6, 5)).activations)
        expected.append(4 * 6 * (5 + 5 + 5 + 5 + 5))
        model = mlp(4, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        got.append(lab.measured_bytes(model, optimizer, normal(rng, 10, 8)[::2, :4]).activations)
        expected.append(4 * 10 * 8)
        assert_close(torch.tensor(got), torch.tensor(expected))

    @guard
    def test_one_step(self, lab, rng):
        """takes one step on the sum of the outputs, with old gradients cleared"""
        model, reference = twins(rng, 3, 4, 2)
        x = normal(rng, 5, 3)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        other = torch.optim.SGD(reference.parameters(), lr=0.1)
        for _ in range(2):
            lab.measured_bytes(model, optimizer, x)
            other.zero_grad()
            reference(x).sum().backward()
            other.step()
        assert_close(weights(model), weights(reference), **CLOSE)

    @guard
    def test_the_record_ends(self, lab, rng):
        """listens to model(x) only, and counts only the tensors of the optimizer's state"""
        model = mlp(3, 4)
        heard = []

        class Noting(torch.optim.SGD):
            """Saves a tensor for backward in its step, with grad enabled."""

            def step(self, closure=None):
                with torch.enable_grad():
                    torch.ones(1000, requires_grad=True).exp()
                self.state[model[0].weight] = {"steps": 1, "average": torch.zeros(7)}
                heard.append(True)

        memory = lab.measured_bytes(model, Noting(model.parameters(), lr=0.1), normal(rng, 2, 3))
        assert heard, "expected the optimizer's step to be taken, but it was not"
        assert_close(torch.tensor([memory.activations, memory.state]), torch.tensor([4 * 2 * 3, 4 * 7]))


class Watch(torch.autograd.Function):
    """Notes whether autocast is on, forward and backward."""

    log: list[tuple[str, bool]]

    @staticmethod
    def forward(ctx, x):
        Watch.log.append(("forward", torch.is_autocast_enabled("cpu")))
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Watch.log.append(("backward", torch.is_autocast_enabled("cpu")))
        return gradient


class Watched(nn.Module):
    """A network that notes whether autocast is on."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return Watch.apply(self.net(x))


class TestFloatFacts(Exercise):
    """Sixteen bits, and who may use them."""

    points = 3
    skills = ("mixed-precision", "dtypes", "numerics")
    hints = (
        "What is the bias of 8 exponent bits? What is the type of a product under autocast, if the inputs are float32?",
        "Run the operation inside `torch.autocast(device_type, dtype=dtype)` once for each type of input, and look the "
        "pair of result types up in a dict.",
        "`with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None): loss = "
        "F.cross_entropy(model(x), labels)`; everything else after the block.",
    )

    def test_facts(self, lab, rng):
        """gives the range and precision that torch.finfo knows"""
        got, expected = [], []
        for dtype, bits in {
            torch.float16: (5, 10),
            torch.bfloat16: (8, 7),
            torch.float32: (8, 23),
            torch.float64: (11, 52),
            torch.float8_e5m2: (5, 2),
        }.items():
            facts, truth = lab.float_facts(*bits), torch.finfo(dtype)
            got.append([facts.largest, facts.smallest, facts.eps])
            expected.append([truth.max, truth.smallest_normal, truth.eps])
        assert_close(torch.tensor(got, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64))

    def test_rules(self, lab, rng):
        """names the rule of an operation"""
        x, picture, labels = torch.rand(4, 4, generator=rng), torch.rand(1, 1, 6, 6, generator=rng), torch.arange(4)
        cases = (
            ("matmul", "lower", torch.matmul, x, x),
            ("conv2d", "lower", F.conv2d, picture, picture[..., :3, :3]),
            ("linear", "lower", F.linear, x, x),
            ("cross_entropy", "float32", F.cross_entropy, x, labels),
            ("mse_loss", "float32", F.mse_loss, x, x),
            ("prod", "float32", torch.prod, x),
            ("relu", "follows", torch.relu, x),
            ("add", "follows", torch.add, x, x),
            ("sum over an axis", "follows", torch.sum, x, 1),
            ("argmax", "other", torch.argmax, x),
            ("half", "other", Tensor.half, x),
            ("a comparison", "other", lambda a, b: (a @ b).double(), x, x),
        )
        for name, rule, operation, *inputs in cases:
            got = lab.autocast_rule(operation, *inputs)
            assert got == rule, f"expected {rule!r} for {name}, got {got!r}"
        given_half = [
            lab.autocast_rule(torch.matmul, x.bfloat16(), x.bfloat16()),
            lab.autocast_rule(torch.relu, x.double()),
        ]
        assert given_half == ["lower", "follows"], (
            f"expected lower and follows whatever type is given, got {given_half}"
        )

    def test_rules_in_float16(self, lab, rng):
        """names the rule for another 16-bit type, and when it is called under autocast"""
        x = torch.rand(3, 3, generator=rng)
        got = [
            lab.autocast_rule(operation, x, dtype=torch.float16) for operation in (torch.relu, torch.t, Tensor.bfloat16)
        ]
        got += [lab.autocast_rule(torch.matmul, x, x, dtype=torch.float16)]
        with torch.autocast("cpu", enabled=False):
            got += [lab.autocast_rule(torch.matmul, x, x)]
        with torch.autocast("cpu", dtype=torch.float16):
            got += [lab.autocast_rule(torch.matmul, x, x), lab.autocast_rule(torch.prod, x)]
        expected = ["follows", "follows", "other", "lower", "lower", "lower", "float32"]
        assert got == expected, f"expected {expected}, got {got}"

    def test_training(self, lab, rng):
        """takes the steps that autocast around forward and loss gives, in every precision"""
        for dtype in (None, torch.bfloat16, torch.float16):
            model, reference = twins(rng, 6, 16, 3)
            ours = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
            theirs = torch.optim.SGD(reference.parameters(), lr=0.3, momentum=0.9)
            for _ in range(4):
                x, labels = normal(rng, 7, 6), torch.randint(3, (7,), generator=rng)
                loss = lab.train_step(model, ours, x, labels, dtype)
                with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                    expected = F.cross_entropy(reference(x), labels)
                theirs.zero_grad()
                expected.backward()
                theirs.step()
                assert_close(loss, expected.detach())
            assert_close(weights(model), weights(reference))

    @guard
    def test_autocast_around_forward_only(self, lab, rng):
        """autocast is on in the forward pass if a dtype is given, and off in backward and the optimizer's step"""
        for dtype in (None, torch.bfloat16):
            model = Watched(filled(mlp(4, 3), rng))
            Watch.log = []

            class Noting(torch.optim.SGD):
                def step(self, closure=None):
                    Watch.log.append(("step", torch.is_autocast_enabled("cpu")))
                    return super().step(closure)

            optimizer = Noting(model.parameters(), lr=0.1)
            lab.train_step(model, optimizer, normal(rng, 5, 4), torch.zeros(5, dtype=torch.long), dtype)
            expected = [("forward", dtype is not None), ("backward", False), ("step", False)]
            assert Watch.log == expected, f"expected autocast on as in {expected} for dtype {dtype}, got {Watch.log}"

    @guard
    def test_loss_is_off_the_tape(self, lab, rng):
        """returns the loss as a tensor without dimensions, off the tape, and reads no number"""
        model = filled(mlp(4, 3), rng)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x, labels = normal(rng, 5, 4), torch.zeros(5, dtype=torch.long)
        with forbid("item", "_local_scalar_dense"):
            loss = lab.train_step(model, optimizer, x, labels)
        assert isinstance(loss, Tensor), f"expected a tensor, got {type(loss).__name__}"
        assert not loss.requires_grad, "expected the loss off the tape, got one that requires grad"
        assert loss.shape == (), f"expected no dimensions, got the shape {tuple(loss.shape)}"

    def workload(self, lab, size, rng):
        model, x = filled(mlp(64, 64, 10), rng, 0.1), normal(rng, 128 * size, 64)
        optimizer, labels = torch.optim.SGD(model.parameters(), lr=1e-3), torch.arange(len(x)) % 10
        return lambda: lab.train_step(model, optimizer, x, labels, torch.bfloat16)


class TestLossScaler(Exercise):
    """A loss scaler."""

    points = 3
    skills = ("mixed-precision", "optimizers")
    hints = (
        "What must be remembered between `unscale_` and `step`, and between `step` and `update`? For which optimizer?",
        "A dict from `id(optimizer)` to whether something bad was found, a set of those that have stepped; `update` "
        "empties both.",
        "`unscale_`: `grad.mul_(1 / scale)` for every parameter that has one, bad if not all are finite. `step`: "
        "unscale unless done, and `optimizer.step()` unless bad. `update`: back off, or count and grow.",
    )

    def pair(self, lab, **settings):
        """Ours and PyTorch's."""
        return lab.LossScaler(**settings), torch.amp.GradScaler("cpu", **settings)

    def drive(self, scaler, model, optimizer, spoil, unscale=False):
        """One iteration whose gradients are spoilt by a number, or not."""
        optimizer.zero_grad()
        x = torch.linspace(-1, 1, 12).reshape(4, 3)
        scaler.scale(model(x).square().mean()).backward()
        if spoil is not None:
            list(model.parameters())[-1].grad[0] = spoil
        if unscale:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 0.05)
        scaler.step(optimizer)
        scaler.update()

    def compare(self, lab, rng, spoilt, unscale=False, make=None, **settings):
        """Drive both through the same iterations; scales and weights after each."""
        make = make or (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9))
        ours, theirs = self.pair(lab, **settings)
        model, reference = twins(rng, 3, 4, 2)
        first, second = make(model.parameters()), make(reference.parameters())
        scales, expected = [], []
        for spoil in spoilt:
            self.drive(ours, model, first, spoil, unscale)
            self.drive(theirs, reference, second, spoil, unscale)
            scales.append(ours.get_scale())
            expected.append(theirs.get_scale())
            assert_close(weights(model), weights(reference), rtol=1e-5, atol=1e-6)
        assert_close(torch.tensor(scales), torch.tensor(expected))

    def test_scales_and_unscales(self, lab, rng):
        """good steps are those of the optimizer alone, whatever the scale"""
        for scale in (1.0, 1024.0, 300.0):
            self.compare(lab, rng, [None] * 4, init_scale=scale)
        ours, _ = self.pair(lab, init_scale=8.0)
        loss = torch.tensor([1.5, -2.0])
        assert_close(ours.scale(loss), 8 * loss)

    def test_skips_bad_steps(self, lab, rng):
        """a step with an infinite gradient or a NaN anywhere is skipped, and changes no state of the optimizer"""
        spoilt = [None, math.inf, None, -math.inf, math.nan, None]
        for make in (None, lambda p: torch.optim.Adam(p, lr=0.05)):
            self.compare(lab, rng, spoilt, make=make, init_scale=64.0)

    def test_grows_and_backs_off(self, lab, rng):
        """grows after growth_interval good steps in a row, and backs off after a bad one"""
        bad = math.inf
        spoilt = [None, None, bad, None, None, None, None, bad, bad, None, None, None, None, None, None, None]
        self.compare(lab, rng, spoilt, init_scale=16.0, growth_interval=3)
        self.compare(lab, rng, spoilt, init_scale=16.0, growth_interval=1, growth_factor=3.0, backoff_factor=0.25)
        self.compare(lab, rng, [None, bad, None])

    def test_unscale_first(self, lab, rng):
        """gradients can be unscaled, clipped, and then used by step, which does not unscale them again"""
        self.compare(lab, rng, [None, None, math.nan, None], unscale=True, init_scale=128.0, growth_interval=2)

    def test_state(self, lab, rng):
        """its state_dict is PyTorch's, both can read the other's, and the count goes on"""
        settings = {"init_scale": 32.0, "growth_interval": 4, "growth_factor": 3.0, "backoff_factor": 0.25}
        ours, theirs = self.pair(lab, **settings)
        model, reference = twins(rng, 3, 2)
        first, second = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, reference))
        for spoil in (math.inf, None, None, None):
            self.drive(ours, model, first, spoil)
            self.drive(theirs, reference, second, spoil)
        state = ours.state_dict()
        assert_close({key: float(state[key]) for key in sorted(state)},
                     {key: float(value) for key, value in sorted(theirs.state_dict().items())})  # fmt: skip
        other, fresh = self.pair(lab)
        assert_close({key: float(value) for key, value in sorted(other.state_dict().items())},
                     {key: float(value) for key, value in sorted(fresh.state_dict().items())})  # fmt: skip
        other.load_state_dict(theirs.state_dict())
        assert_close(torch.tensor(other.get_scale()), torch.tensor(theirs.get_scale()))
        for spoil in (None, math.inf, None, None, None, None):
            self.drive(other, model, first, spoil)
            self.drive(theirs, reference, second, spoil)
            assert_close(torch.tensor(other.get_scale()), torch.tensor(theirs.get_scale()))

    def test_two_optimizers(self, lab, rng):
        """of two optimizers, one may step while the other is skipped, and the scale backs off once"""
        for bad in ((0,), (1,), (0, 1)):
            ours, theirs = self.pair(lab, init_scale=16.0)
            results = []
            for scaler in (ours, theirs):
                parameters = [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0]))]
                optimizers = [torch.optim.SGD([p], lr=0.1) for p in parameters]
                scaler.scale(sum(p.square().sum() for p in parameters)).backward()
                for i in bad:
                    parameters[i].grad[0] = math.inf
                for optimizer in optimizers:
                    scaler.step(optimizer)
                scaler.update()
                results.append([*(p.detach() for p in parameters), torch.tensor(scaler.get_scale())])
            assert_close(*results)

    @guard
    def test_gradients_are_unscaled_in_any_case(self, lab, rng):
        """unscale_ divides the gradients, also where one is bad, and leaves a missing one alone"""
        ours, _ = self.pair(lab, init_scale=4.0)
        a, b, c = (nn.Parameter(torch.ones(2)) for _ in range(3))
        a.grad, c.grad = torch.tensor([8.0, -4.0]), torch.tensor([math.inf, 2.0])
        ours.unscale_(torch.optim.SGD([{"params": [a, b]}, {"params": [c]}], lr=0.1))
        assert_close([a.grad, c.grad], [torch.tensor([2.0, -1.0]), torch.tensor([math.inf, 0.5])])
        assert b.grad is None, "expected a missing gradient to stay None, got a tensor"

    @guard
    def test_refuses(self, lab, rng):
        """raises RuntimeError for a second unscale_ or step, and for unscale_ after step, until update"""
        for first, second in (("unscale_", "unscale_"), ("step", "step"), ("step", "unscale_")):
            ours, _ = self.pair(lab, init_scale=4.0)
            p = nn.Parameter(torch.ones(2))
            optimizer = torch.optim.SGD([p], lr=0.1)
            for _ in range(2):
                p.grad = torch.ones(2)
                getattr(ours, first)(optimizer)
                with raises(RuntimeError):
                    getattr(ours, second)(optimizer)
                ours.update()

    @guard
    def test_step_returns_what_the_optimizer_returns(self, lab, rng):
        """step returns the result of the optimizer's step, and None where it was skipped"""
        p = nn.Parameter(torch.ones(2))

        class Telling(torch.optim.SGD):
            def step(self, closure=None):
                super().step()
                return 42

        optimizer = Telling([p], lr=0.1)
        ours, _ = self.pair(lab)
        results = []
        for gradient in (1.0, math.nan):
            p.grad = torch.full((2,), gradient)
            results.append(ours.step(optimizer))
            ours.update()
        assert results == [42, None], f"expected [42, None], got {results}"

    @guard
    def test_no_builtin(self, lab, rng):
        """does without torch.amp.GradScaler"""
        with mock.patch.object(torch.amp.GradScaler, "__init__", side_effect=AssertionError("GradScaler was used")):
            ours = lab.LossScaler(init_scale=2.0)
            model = filled(mlp(3, 2), rng)
            self.drive(ours, model, torch.optim.SGD(model.parameters(), lr=0.1), None)

    def workload(self, lab, size, rng):
        model, x = filled(mlp(64, 64, 10), rng, 0.1), normal(rng, 128 * size, 64)
        optimizer, scaler = torch.optim.SGD(model.parameters(), lr=1e-6), lab.LossScaler(1024.0)

        def update():
            optimizer.zero_grad()
            scaler.scale(model(x).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()

        return update


def profiled(call) -> dict[str, int]:
    """How many times each operator runs."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        call()
    return {e.key.removeprefix("aten::"): e.count for e in record.key_averages() if e.key.startswith("aten::")}


def apart(function: Callable[[], Any]) -> Any:
    """What `function()` returns, or raises, in a forked process: a profiler leaves a thread behind where it has run.

    Where there is no fork, or an accelerator that would not survive it, the function runs here.
    """
    if sys.platform != "linux" or torch.accelerator.is_available():
        return function()
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        torch.set_num_threads(1)  # the threads of the parent's own computations are not there
        try:
            theirs.send(function())
        except BaseException as error:
            theirs.send(
                error if isinstance(error, NotImplementedError) else AssertionError(f"your code raised {error!r}")
            )

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    theirs.close()
    try:
        result = ours.recv()
    except EOFError as error:
        raise AssertionError("expected counts, but the process that counted died") from error
    finally:
        process.join()
    if isinstance(result, NotImplementedError):
        return function()  # a stub, which says so here, where the engine knows whose it is
    if isinstance(result, BaseException):
        raise result
    return result


def balanced_step(model, optimizer, x, labels):
    """What `slow_step` does, in closed form; loss and accuracy."""
    x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3)
    logits = model(x)
    counts = F.one_hot(labels, 10).sum(0)
    of_each = len(labels) / (10 * counts[labels])
    loss = (F.cross_entropy(logits, labels, reduction="none") * of_each).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach(), (logits.argmax(-1) == labels).to(logits.dtype).mean()


class TestOperatorCalls(Exercise):
    """A slow step."""

    points = 3
    skills = ("profiling", "timing")
    hints = (
        "Which operator runs some thousand times, and which line calls it?",
        "`record.key_averages()` gives events with `key` and `count`. In the step, everything inside the loop can be "
        "said once, for the whole batch.",
        '`F.cross_entropy(logits, labels, weight=weights, reduction="sum") / batch`; the accuracy is the mean of '
        "`logits.argmax(-1) == labels`, as a float.",
    )

    def step(self, function, model, x, labels):
        """One step as a call without arguments."""
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return lambda: function(model, optimizer, x, labels)

    def test_counts(self, lab, rng):
        """counts each operator of a call, those inside others too"""
        x = normal(rng, 6, 6)

        def work():
            y = x
            for _ in range(4):
                y = torch.relu(y @ x)
            with torch.profiler.record_function("mine"):
                return F.linear(y, x).softmax(-1).sum().item()

        for call in (work, lambda: x + x):
            got, expected = apart(lambda call=call: (dict(lab.operator_calls(call)), profiled(call)))
            assert got == expected, f"expected the counts {expected}, got {got}"

    def test_reads(self, lab, rng):
        """counts how often Python waited for a number"""
        x = torch.tensor([3.0, 1.0, 2.0])
        calls = (
            (lambda: [v.item() for v in x], 3),
            (lambda: x + 1, 0),
            (lambda: float(x[0]) if x[1] > 0 else 0.0, 2),
            (lambda: x[torch.tensor(1)], 1),
        )
        got = apart(lambda: [lab.reads(call) for call, _ in calls])
        assert_close(torch.tensor(got), torch.tensor([expected for _, expected in calls]))

    def test_fast_step(self, lab, rng):
        """fast_step does the same updates, and returns the same loss and accuracy"""
        for batch, classes in ((40, 10), (7, 4), (2, 10), (12, 1)):
            model, reference = twins(rng, 5, 8, 10)
            first = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
            second = torch.optim.SGD(reference.parameters(), lr=0.5, momentum=0.9)
            for _ in range(3):
                x, labels = 3 * normal(rng, batch, 5) + 1, torch.randint(classes, (batch,), generator=rng)
                got = lab.fast_step(model, first, x, labels)
                expected = balanced_step(reference, second, x, labels)
                assert_close([*got], [*expected], rtol=1e-4, atol=1e-5)
            assert_close(weights(model), weights(reference), rtol=1e-3, atol=1e-4)

    @guard
    def test_is_called_once(self, lab, rng):
        """operator_calls runs the call once"""

        def count() -> int:
            calls = []
            lab.operator_calls(lambda: calls.append(1))
            return len(calls)

        calls = apart(count)
        assert calls == 1, f"expected one call, got {calls}"

    @guard
    def test_reads_nothing(self, lab, rng):
        """fast_step reads no number, and runs as many operators for 8 examples as for 64"""
        counts = {}
        for batch in (8, 64):
            x, labels = normal(rng, batch, 5), torch.randint(10, (batch,), generator=rng)
            step = self.step(lab.fast_step, filled(mlp(5, 4, 10), rng), x, labels)
            with count_calls() as calls:
                step()
            found = calls["local_scalar_dense"]
            assert found == 0, f"expected no reads with a batch of {batch}, got {found}"
            counts[batch] = calls.total()
        assert counts[8] == counts[64], f"expected as many operators for 8 examples as for 64, got {counts}"

    @guard
    def test_results_are_tensors(self, lab, rng):
        """loss and accuracy are tensors without dimensions, off the tape, and of the logits' type"""
        model = filled(mlp(5, 10), rng).double()
        x, labels = normal(rng, 6, 5).double(), torch.randint(10, (6,), generator=rng)
        for name, value in zip(("loss", "accuracy"), self.step(lab.fast_step, model, x, labels)(), strict=True):
            assert isinstance(value, Tensor), f"expected the {name} as a tensor, got {type(value).__name__}"
            assert value.shape == (), f"expected the {name} without dimensions, got {tuple(value.shape)}"
            assert not value.requires_grad, f"expected the {name} off the tape, got one that requires grad"
            assert value.dtype == torch.float64, f"expected the {name} in float64 here, got {value.dtype}"

    def workload(self, lab, size, rng):
        model, x = filled(mlp(64, 64, 10), rng, 0.1), normal(rng, 128 * size, 64)
        optimizer, labels = torch.optim.SGD(model.parameters(), lr=1e-3), torch.arange(len(x)) % 10
        return lambda: lab.fast_step(model, optimizer, x, labels)


class Counted(nn.Module):
    """A residual block that counts how often it runs, and notes where autograd would record."""

    def __init__(self, d: int, p: float, number: int) -> None:
        super().__init__()
        self.first, self.second, self.dropout = nn.Linear(d, 3 * d), nn.Linear(3 * d, d), nn.Dropout(p)
        self.number, self.runs = number, 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return x + self.dropout(self.second(torch.tanh(self.first(x)))) * (1 + 0.1 * self.number)


def tower(rng: torch.Generator, n: int, d: int = 4, p: float = 0.0) -> nn.ModuleList:
    """`n` different blocks."""
    return filled(nn.ModuleList(Counted(d, p, i) for i in range(n)), rng, 0.3)


def saved_bytes(call, *left_out: nn.Module) -> int:
    """Bytes of the storages that autograd saves in `call()`, without the parameters of `left_out`."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        result = call()
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    for parameter in itertools.chain.from_iterable(module.parameters() for module in left_out):
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    del result
    return sum(storages.values())


def plain(blocks, x: Tensor) -> Tensor:
    """The blocks in a row."""
    for block in blocks:
        x = block(x)
    return x


class TestCheckpointed(Exercise):
    """Activation checkpointing."""

    points = 2
    skills = ("activation-checkpointing", "memory", "dropout")
    hints = (
        "When does the function that you hand to `checkpoint` run for the second time, and what are the loop's "
        "variables then?",
        "A function `run(start, x)` that applies one segment; hand it and its arguments to `checkpoint`.",
        "`for start in range(0, n, segment)`: if `start + segment >= n`, `x = run(start, x)`, else "
        "`x = checkpoint(run, start, x, use_reentrant=False)`.",
    )

    def gradients(self, run, blocks, x, upstream):
        """Result, and gradients of input and parameters."""
        x = x.clone().requires_grad_()
        parameters = [p for _, p in sorted(blocks.named_parameters())]
        y = run(x)
        return [y.detach(), *torch.autograd.grad(y, [x, *parameters], upstream, allow_unused=True)]

    def test_result_and_gradients(self, lab, rng):
        """gives the plain network's result and gradients, for any number of blocks and any segment"""
        for n, segment in ((6, 2), (7, 3), (5, 1), (1, 1), (4, 9), (9, None), (3, None)):
            blocks, x, upstream = tower(rng, n), normal(rng, 3, 4), normal(rng, 3, 4)
            got = self.gradients(lambda x, s=segment, b=blocks: lab.checkpointed(b, x, s), blocks, x, upstream)
            expected = self.gradients(functools.partial(plain, blocks), blocks, x, upstream)
            assert_close(got, expected, **CLOSE)

    def test_keeps_only_the_inputs_of_segments(self, lab, rng):
        """keeps for backward the segments' inputs and what the last segment saves"""
        got, expected = [], []
        for n, segment in ((8, 2), (7, 3), (9, 4), (5, 1), (16, None), (10, None), (17, None), (2, 2)):
            blocks, x = tower(rng, n), normal(rng, 6, 4)
            size = segment or math.ceil(math.sqrt(n))
            start = (math.ceil(n / size) - 1) * size
            got.append(saved_bytes(lambda b=blocks, s=segment, x=x: lab.checkpointed(b, x, s), blocks))
            last = saved_bytes(lambda b=blocks, s=start, x=x: plain(b[s:], x), blocks)
            expected.append(start // size * x.nbytes + last)
        assert_close(torch.tensor(got), torch.tensor(expected))

    def test_runs_twice(self, lab, rng):
        """each block runs once forward, and once more in backward unless it is in the last segment"""
        got, expected = [], []
        for n, segment in ((6, 2), (7, 3), (10, None)):
            blocks, x = tower(rng, n), normal(rng, 2, 4).requires_grad_()
            y = lab.checkpointed(blocks, x, segment)
            got.append([block.runs for block in blocks])
            expected.append([1] * n)
            y.sum().backward()
            got.append([block.runs for block in blocks])
            size = segment or math.ceil(math.sqrt(n))
            start = (math.ceil(n / size) - 1) * size
            expected.append([2] * start + [1] * (n - start))
        assert got == expected, f"expected the blocks to run {expected} times after forward and backward, got {got}"

    def test_dropout(self, lab, rng):
        """drops the same elements as the plain network with the same seed, also in backward"""
        for n, segment in ((6, 2), (5, None)):
            blocks, x, upstream = tower(rng, n, p=0.5), normal(rng, 5, 4), normal(rng, 5, 4)
            torch.manual_seed(3)
            got = self.gradients(lambda x, s=segment, b=blocks: lab.checkpointed(b, x, s), blocks, x, upstream)
            torch.manual_seed(3)
            expected = self.gradients(functools.partial(plain, blocks), blocks, x, upstream)
            assert_close(got, expected, **CLOSE)

    @guard
    def test_no_blocks(self, lab, rng):
        """without blocks the result is x"""
        x = normal(rng, 2, 3)
        assert_close(lab.checkpointed([], x), x)
        assert_close(lab.checkpointed(nn.ModuleList(), x, 2), x)

    @guard
    def test_input_without_gradient(self, lab, rng):
        """parameters get gradients also if the input requires none"""
        blocks = tower(rng, 4)
        lab.checkpointed(blocks, normal(rng, 2, 4), 2).sum().backward()
        missing = [name for name, p in blocks.named_parameters() if p.grad is None]
        assert not missing, f"expected a gradient for every parameter, got none for {missing}"

    def workload(self, lab, size, rng):
        blocks, x = tower(rng, 9, 32), normal(rng, 32 * size, 32).requires_grad_()
        return lambda: lab.checkpointed(blocks, x).sum().backward()


RANKS, ROWS, STEPS = 2, 6, 3
CHILDREN = ("first", "second", "last")


class Odd(nn.Module):
    """Three children whose first axes do not divide by two evenly, and one without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second, self.last = nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 5), nn.Linear(5, 1)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(self.act(self.first(x))))) * self.scale.mean()


def odd_model() -> nn.Module:
    """Always the same start."""
    return filled(Odd(), torch.Generator().manual_seed(7))


def odd_data() -> tuple[Tensor, Tensor]:
    """Rows that differ much between the ranks."""
    generator = torch.Generator().manual_seed(8)
    return normal(generator, ROWS, 4), torch.linspace(-3, 5, ROWS)[:, None]


def on_a_rank(shard, held_bytes, sharded_step, whole_state) -> dict:
    """What one rank sees of the learner's four functions."""
    model = odd_model()
    returned = shard(model)
    report = {
        "in place": returned is model,
        "units": [isinstance(module, FSDPModule) for module in (model, *model.children())],
        "ranks of the mesh": model.first.weight.device_mesh.size() if hasattr(model.first.weight, "device_mesh") else 0,
    }
    report["held"] = held_bytes(model)
    report["parts"] = {name: tuple(p.to_local().shape) for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    # What was there before must be cleared.
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    x, y = odd_data()
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    report["losses"] = [sharded_step(model, optimizer, x, y) for _ in range(STEPS)]
    report["floats"] = all(isinstance(loss, float) for loss in report["losses"])
    report["rows"] = torch.cat(seen)
    state = whole_state(model)
    report["plain"] = all(type(value) is Tensor and not value.requires_grad for value in state.values())
    report["state"] = {name: value.detach().clone() for name, value in state.items()}
    return report


@functools.lru_cache(maxsize=1)
def _launched(*functions) -> list[dict] | LaunchError:
    """One launch for all tests of the same four functions."""
    try:
        return launch(on_a_rank, *functions, ranks=RANKS, seconds=30)
    except LaunchError as error:
        return error


def two_ranks(lab) -> list[dict]:
    """What the two ranks saw."""
    result = _launched(lab.shard, lab.held_bytes, lab.sharded_step, lab.whole_state)
    if isinstance(result, StubMet):
        raise result
    if isinstance(result, LaunchError):
        raise AssertionError(f"expected both ranks to finish, got: {result}")
    return result


def one_process() -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights of the same training in one process."""
    model, (x, y) = odd_model(), odd_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    losses = []
    for _ in range(STEPS):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, weights(model)


class TestShard(Exercise):
    """Two ranks."""

    points = 2
    skills = ("distributed", "memory")
    hints = (
        "In which order must children and model be sharded, so that the model takes what the children have left?",
        "`x.chunk(ranks)[rank]` are this rank's rows. The loss that a rank computes is the mean over its rows only: "
        "who averages it?",
        "`fully_shard(child, mesh=mesh)` for each child, then the model. `total = loss.detach().clone()`, "
        "`dist.all_reduce(total)`, `total.item() / ranks`. Whole values: `p.full_tensor()`, on every rank.",
    )

    def test_units(self, lab, rng):
        """shard makes each child a unit, and then the model, over both ranks"""
        for rank, report in enumerate(two_ranks(lab)):
            assert all(report["units"]), (
                f"expected the model and its four children to be units on rank {rank}, got {report['units']}"
            )
            assert report["ranks of the mesh"] == RANKS, (
                f"expected a mesh of {RANKS} ranks, got {report['ranks of the mesh']}"
            )

    def test_held(self, lab, rng):
        """held_bytes counts what this rank holds, and no more"""
        expected = []
        for rank in range(RANKS):
            parts = [p.chunk(RANKS) for p in odd_model().parameters()]
            expected.append(sum(part[rank].numel() * 4 for part in parts if rank < len(part)))
        assert_close(torch.tensor([report["held"] for report in two_ranks(lab)]), torch.tensor(expected))

    def test_losses(self, lab, rng):
        """sharded_step returns the loss of the whole batch, the same on every rank"""
        losses, _ = one_process()
        got = torch.tensor([report["losses"] for report in two_ranks(lab)])
        assert_close(got, torch.tensor([losses] * RANKS), **CLOSE)

    def test_weights(self, lab, rng):
        """after three steps the whole weights are those of one process, on every rank"""
        _, expected = one_process()
        for report in two_ranks(lab):
            assert_close(report["state"], expected, **CLOSE)

    @guard
    def test_own_rows(self, lab, rng):
        """each rank computes on its own rows only"""
        x, _ = odd_data()
        for rank, report in enumerate(two_ranks(lab)):
            assert_close(report["rows"], x.chunk(RANKS)[rank].repeat(STEPS, 1))

    @guard
    def test_in_place(self, lab, rng):
        """shard returns its model, sharded_step floats, and whole_state plain tensors off the tape"""
        for report in two_ranks(lab):
            assert report["in place"], "expected shard to return its model, got another object"
            assert report["floats"], "expected sharded_step to return floats, got something else"
            assert report["plain"], "expected plain tensors off the tape from whole_state, got something else"


class TestCountGraphs(Exercise):
    """What the compiler sees."""

    side_quest = True
    points = 2
    skills = ("compile",)
    hints = (
        "What does `torch.compile` do with the function that you hand it as `backend`, and what must that return?",
        "`def backend(graph_module, example_inputs)`: append to a list, return `graph_module.forward`. The smaller of "
        "two factors is a clamp.",
        "`torch.compiler.reset()`, compile once, call for each tuple, return the length of the list. "
        "`x * (limit / x.norm()).clamp(max=1)`.",
    )

    def graphs(self, function, calls):
        """PyTorch's own count."""
        from torch._dynamo.testing import CompileCounter

        torch.compiler.reset()
        counter = CompileCounter()
        compiled = torch.compile(function, backend=counter)
        for arguments in calls:
            compiled(*arguments)
        return counter.frame_count

    def test_counts(self, lab, rng):
        """counts the graphs over all calls: breaks, branches and new shapes"""

        def breaks(x):
            y = torch.sin(x) + 1
            torch._dynamo.graph_break()
            return torch.cos(y) * 2

        def smooth(x, factor):
            return (x * factor).tanh().sum()

        def branch(x):
            y = x * 2
            return y + 1 if y.sum() > 0 else y.exp()

        one, two = torch.ones(3), -torch.ones(3)
        cases = (
            (smooth, [(one, two)]),
            (smooth, [(one, two), (two, one)]),
            (smooth, [(torch.ones(n), torch.ones(n)) for n in (3, 4, 5, 6)]),
            (breaks, [(one,)]),
            (branch, [(one,), (two,), (one,)]),
        )
        got = [lab.count_graphs(*case) for case in cases]
        assert_close(torch.tensor(got), torch.tensor([self.graphs(*case) for case in cases]))
        again = [lab.count_graphs(*cases[2]) for _ in range(2)]
        assert again == [2, 2], f"expected four lengths to take 2 graphs however often they are counted, got {again}"

    def test_rescale(self, lab, rng):
        """rescale shortens what is longer than the limit and nothing else"""
        for shape, limit in (((5,), 1.0), ((3, 4), 0.1), ((2, 3), 50.0), ((1,), 2.0)):
            x = 2 * normal(rng, *shape)
            norm = x.norm()
            expected = x * (limit / norm) if norm > limit else x
            assert_close(lab.rescale(x, limit), expected, **CLOSE)
        assert_close(lab.rescale(torch.zeros(4), 1.0), torch.zeros(4))

    def test_one_graph(self, lab, rng):
        """rescale is one graph, whatever comes"""
        x = normal(rng, 6)
        y = lab.rescale(x, 0.5)
        assert_close(y.norm(), torch.tensor(0.5), **CLOSE)
        count = self.graphs(lab.rescale, [(x, 0.5), (x / 100, 0.5)])
        assert count == 1, f"expected one graph for a long and a short x, got {count}"

    @guard
    def test_calls_in_order(self, lab, rng):
        """runs the function for every tuple of arguments"""
        seen = torch.zeros(3)

        def note(x, i):
            seen[i] += 1
            return x + i

        lab.count_graphs(note, [(torch.ones(2), i) for i in range(3)])
        assert_close(seen, torch.ones(3))


class Turn(nn.Module):
    """Undoes any memory format."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous() + 0


class Reversed(nn.Module):
    """Registers its modules in another order than it runs them, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.unused, self.first = nn.ReLU(), nn.Conv2d(2, 2, 1), nn.Conv2d(4, 6, 3)
        self.body = nn.Sequential(Turn(), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.last(self.first(x)))


class TestLayouts(Exercise):
    """Channels last."""

    side_quest = True
    points = 1
    skills = ("memory", "hooks")
    hints = (
        "Which function of a tensor says whether it lies in memory in a given format?",
        "A forward hook on each leaf module; `model.to(memory_format=torch.channels_last)` works in place, for a "
        "tensor it does not.",
        "In the hook: `if output.dim() == 4: found[name] = output.is_contiguous(memory_format=torch.channels_last)`.",
    )

    def test_layouts(self, lab, rng):
        """finds which outputs are in channels_last, in the order in which the modules ran"""
        nets = (
            (nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), Turn(), nn.ReLU(), nn.Conv2d(6, 5, 3)),
             [("0", True), ("1", True), ("2", False), ("3", False), ("4", True)]),
            (Reversed(), [("first", True), ("last", True), ("body.0", False)]),
        )  # fmt: skip
        for net, expected in nets:
            got = list(lab.layouts(net, normal(rng, 2, 4, 8, 7)).items())
            assert got == expected, f"expected {expected}, got {got}"

    def test_converts_model_and_input(self, lab, rng):
        """runs once, off the tape, with the input and the weights in channels_last"""
        seen = []

        class Look(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                seen.append((x.is_contiguous(memory_format=torch.channels_last), torch.is_grad_enabled()))
                return x * 2

        net = nn.Sequential(Look(), nn.Conv2d(4, 6, 3))
        found = lab.layouts(net, normal(rng, 2, 4, 5, 6))
        assert found == {"0": True, "1": True}, f"expected both outputs in channels_last, got {found}"
        assert seen == [(True, False)], f"expected one run with x in channels_last and no grad, got {seen}"
        assert net[1].weight.is_contiguous(memory_format=torch.channels_last), (
            "expected the model's weights in channels_last afterwards, got another format"
        )

    @guard
    def test_hooks_are_removed(self, lab, rng):
        """removes its hooks"""
        net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
        lab.layouts(net, normal(rng, 1, 4, 5, 5))
        left = [name for name, module in net.named_modules() if module._forward_hooks]
        assert not left, f"expected no hooks left, got some on {left}"

    def workload(self, lab, size, rng):
        model, x = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)), normal(rng, 8 * size, 4, 24, 24)
        return lambda: lab.layouts(model, x)


class TestMatmulWork(Exercise):
    """The roof."""

    side_quest = True
    points = 1
    skills = ("profiling", "timing")
    hints = (
        "How many multiplications and how many additions make one element of the product?",
        "Three matrices cross the memory once each: count their elements.",
        "`2 * m * k * n` operations, `(m * k + k * n + m * n) * itemsize` bytes; `min(peak, bandwidth * intensity)`.",
    )

    def test_products(self, lab, rng):
        """counts operations and bytes of a product"""
        for m, k, n, size in ((2, 3, 5, 4), (1, 7, 1, 2), (64, 32, 16, 8)):
            expected = (2 * m * k * n, size * sum(map(math.prod, ((m, k), (k, n), (m, n)))))
            got = tuple(lab.matmul_work(m, k, n, size))
            assert got == expected, f"expected {expected} for a product {m} × {k} × {n}, got {got}"

    def test_sums(self, lab, rng):
        """counts operations and bytes of a sum"""
        for count, size in ((10, 4), (1, 2), (1000, 8)):
            got, expected = tuple(lab.add_work(count, size)), (count, 3 * size * count)
            assert got == expected, f"expected {expected} for {count} elements of {size} bytes, got {got}"

    def test_roof(self, lab, rng):
        """is bound by the bandwidth on the left and by the peak on the right"""
        cases = ((0.1, 100.0, 20.0, 2.0), (5.0, 100.0, 20.0, 100.0), (50.0, 100.0, 20.0, 100.0), (3.0, 8.0, 2.5, 7.5))
        got = [lab.attainable(*case[:3]) for case in cases]
        assert_close(torch.tensor(got), torch.tensor([case[3] for case in cases]))
