"""What can be measured of a module: parameters, work, memory for the backward pass, the signal at init, and reach."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

WEIGHTED = {"aten::convolution", "aten::addmm", "aten::mm"}
"""Operations that multiply by weights."""
RECTIFIERS = {"aten::relu", "aten::relu_", "aten::clamp_min", "aten::clamp_min_", "aten::hardtanh"}
PICTURE_DIMS, SEQUENCE_DIMS = 4, 3
ENLARGED, LARGEST = 4, 256
"""What an output sees is looked for on inputs so many times as large, up to so many pixels or steps."""
DRAWS = 12
"""A maximum hands its gradient to one of its inputs: so many random inputs show all of them."""


@dataclass(frozen=True)
class Reach:
    """How many pixels or steps an output sees along each axis, of an input of `size`."""

    seen: tuple[int, ...]
    size: tuple[int, ...]


@dataclass(frozen=True)
class Build:
    """What was measured with one batch, in training mode."""

    inputs: tuple[tuple[int, ...], ...]
    parameters: dict[str, int]
    """By part, the largest first."""
    flops: int
    """Of products and convolutions, forward; a multiplication and an addition are two."""
    activation_bytes: int
    """What the forward pass keeps for the backward pass, less the parameters."""
    signal: tuple[float, ...]
    """Standard deviation after each product with weights, in their order, without those that give zeros."""
    units: int
    """Outputs of rectifiers; in a picture, channels."""
    dead: int
    """Units that are zero for the whole batch."""
    reach: Reach | None

    @property
    def total(self) -> int:
        """The number of parameters."""
        return sum(self.parameters.values())


def measure(module: nn.Module, inputs: tuple) -> Build:
    """The build of `module`, as it is at init, with a batch of `inputs`."""
    reach = _reach(module, inputs)  # first, for what follows moves running statistics
    module.train()
    shapes = tuple(tuple(x.shape) for x in tree_leaves(inputs) if isinstance(x, Tensor))
    signal, rectified = _signal(module, inputs)
    return Build(
        inputs=shapes,
        parameters=_parameters(module),
        flops=_flops(module, inputs),
        activation_bytes=_activation_bytes(module, inputs),
        signal=signal,
        units=sum(len(fires) for fires in rectified),
        dead=sum(int((~fires).sum()) for fires in rectified),
        reach=reach,
    )


def _parameters(module: nn.Module) -> dict[str, int]:
    """Numbers of parameters by part: of the children, or of theirs where all are in one."""
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    depth, parts = 0, Counter()
    while len(parts) < 2 and depth <= max((name.count(".") for name in sizes), default=-1):
        depth += 1
        parts = Counter()
        for name, size in sizes.items():
            parts[".".join(name.split(".")[:depth])] += size
    return dict(parts.most_common())


def _flops(module: nn.Module, inputs: tuple) -> int:
    # oneDNN would run an LSTM as one operation, which the counter does not know.
    with (
        torch.backends.mkldnn.flags(enabled=False, allow_tf32=None),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        module(*inputs)
    return counter.get_total_flops()


def _activation_bytes(module: nn.Module, inputs: tuple) -> int:
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(*inputs)
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    size = sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in parameters)
    del output  # the addresses are taken until now
    return size


def _signal(module: nn.Module, inputs: tuple) -> tuple[tuple[float, ...], list[Tensor]]:
    """Sizes of the signal on its way, and which units of each rectifier fire."""
    with _Signal() as seen, torch.no_grad():
        module(*inputs)
    return tuple(size for size in seen.sizes if size != 0), seen.fires


class _Signal(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[float] = []
        self.fires: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name in WEIGHTED and result.numel() > 1:
            self.sizes.append(result.std().item())
        elif name in RECTIFIERS and result.dim() > 1:
            units = 1 if result.dim() == PICTURE_DIMS else result.dim() - 1
            self.fires.append((result > 0).movedim(units, 0).flatten(1).any(1))
        return result


def _reach(module: nn.Module, inputs: tuple) -> Reach | None:
    """Of pictures, the receptive field; of sequences, numbers or tokens, how many steps the last output sees.

    Measured by gradients of a copy whose weights are positive, so that nothing cancels. None where there is no axis to
    look along, or the copy cannot be run so.
    """
    first = inputs[0]
    with suppress(Exception):  # of the learner's code, with inputs that it was not written for
        positive = _positive(module)
        if first.dim() == PICTURE_DIMS:
            return _receptive_field(positive, first)
        if first.dim() == SEQUENCE_DIMS or not first.is_floating_point():
            return _context(positive, inputs)
    return None


def _positive(module: nn.Module) -> nn.Module:
    """A copy in float64, for evaluation, whose parameters are positive and keep the signal's size."""
    positive = copy.deepcopy(module).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in positive.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5).div_(fan_in)
    return positive


def _receptive_field(module: nn.Module, images: Tensor) -> Reach | None:
    """What the middle of the last map sees, of a picture so large that it has an edge to see."""
    size = tuple(images.shape[2:])
    large = [min(ENLARGED * n, max(LARGEST, n)) for n in size]
    seen = torch.zeros(large, dtype=torch.bool)
    for _ in range(DRAWS):
        x = (torch.rand(1, images.shape[1], *large, dtype=torch.float64) + 0.5).requires_grad_()
        maps = _last_map(module, x)
        if maps is None:
            return None
        middle = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
        seen |= torch.autograd.grad(middle, [x])[0][0].ne(0).any(0)
    return Reach((_extent(seen.any(1)), _extent(seen.any(0))), size)


def _last_map(module: nn.Module, x: Tensor) -> Tensor | None:
    """The last output of a part of `module` that is a map, of more than one pixel."""
    maps: list[Tensor] = []

    def note(part: nn.Module, inputs: tuple, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == PICTURE_DIMS and output.shape[2:].numel() > 1:
            maps.append(output)

    with _listening(module, lambda part: True, note), suppress(Exception):  # a head may want pictures of one size
        module(x)
    return maps[-1] if maps else None


def _context(module: nn.Module, inputs: tuple) -> Reach | None:
    """How many steps the last output of the first sequence sees."""
    first, *others = (x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)
    embedded: list[Tensor] = []

    def note(part: nn.Module, inputs: tuple, output: Tensor) -> None:
        embedded.append(output)

    if first.is_floating_point():
        first = (first.abs() + 0.5).requires_grad_()
        embedded.append(first)
    with _listening(module, lambda part: isinstance(part, nn.Embedding), note):
        output = tree_leaves(module(first, *others))[0]
    if not embedded:
        return None
    last = output[0, -1] if output.dim() == SEQUENCE_DIMS else output[0]
    steps = torch.autograd.grad(last.sum(), [embedded[0]])[0][0].flatten(1).ne(0).any(1)
    return Reach((int(steps.sum()),), (len(steps),))


@contextmanager
def _listening(module: nn.Module, wanted: Callable[[nn.Module], bool], note: Callable) -> Iterator[None]:
    handles = [part.register_forward_hook(note) for part in module.modules() if wanted(part)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _extent(seen: Tensor) -> int:
    """From the first to the last that is seen."""
    where = seen.nonzero()
    return int(where.max() - where.min()) + 1 if len(where) else 0
