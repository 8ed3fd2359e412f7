"""A learner's module beside the reference's: the facts of both, and what stands out, with a rule of thumb."""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from grading.coach.build import Build, Reach, measure
from grading.coach.quantities import percent, rounded
from grading.coach.review import ArchitectureNote
from grading.coach.sides import Side
from grading.pytest_plugin import Lab

LARGER = 2.0
"""With so many times the reference's parameters, FLOPs or bytes a module stands out."""
NARROWER = 0.5
"""So does one that sees less than this share of what the reference sees."""
LEVEL = 100.0
"""Nor is a signal level that grows or shrinks by this over a module."""
DEEP = 3
"""From so many layers on there is a way for a signal to go."""
DEAD = 0.1
"""More of the units than this, and they are missed."""
PARTS = 3
"""How many parts of a module are named."""

Architecture: TypeAlias = Callable[[Lab, torch.Generator], tuple[nn.Module, tuple]]


def architecture_note(exercise: str, architecture: Architecture, sides: tuple[Side, Side]) -> ArchitectureNote:
    """The facts of the learner's module, and what stands out beside the reference's."""
    yours, ours = (side.run(lambda side=side: measure(*side.build(architecture))) for side in sides)
    return ArchitectureNote(exercise=exercise, facts=facts(yours, ours), remarks=remarks(yours, ours))


def facts(yours: Build, ours: Build) -> dict[str, str]:
    """What was measured, in words, with the reference's where that differs."""
    reference = _facts(ours)
    return {
        label: value if reference.get(label, value) == value else f"{value}; the reference: {reference[label]}"
        for label, value in _facts(yours).items()
    }


def remarks(yours: Build, ours: Build) -> tuple[str, ...]:
    """A sentence or two on each thing that stands out beside the reference, with the source of the rule."""
    rules = _too_many_parameters, _too_much_work, _too_much_kept, _too_narrow, _not_level, _too_many_dead
    return tuple(remark for rule in rules if (remark := rule(yours, ours)))


def _facts(build: Build) -> dict[str, str]:
    said = {"Parameters": f"{build.total:,}{_where(build)}"}
    if build.flops:
        said["FLOPs"] = f"{_amount(build.flops)} forward, {_for(build)}"
    said["Activation memory"] = f"{_bytes(build.activation_bytes)} kept for the backward pass, {_for(build)}"
    if build.reach:
        label = "Receptive field" if _is_picture(build) else "Context"
        said[label] = f"{_seen(build.reach)} of {_axes(build.reach.size)} {'pixels' if _is_picture(build) else 'steps'}"
    if len(build.signal) >= DEEP:
        way = f"{build.signal[0]:.2g} → {build.signal[-1]:.2g}"
        said["Signal at init"] = f"standard deviation {way} over {len(build.signal)} products with weights"
    if build.units:
        said["Dead units at init"] = f"{build.dead:,} of {build.units:,}"
    return said


def _too_many_parameters(yours: Build, ours: Build) -> str | None:
    if not ours.total or yours.total < LARGER * ours.total:
        return None
    name, size = next(iter(yours.parameters.items()))
    says = f"{_times(yours.total, ours.total)} the parameters of the reference,"
    says = f"{says} {percent(size / yours.total)} of them in `{name}`."
    if not _is_picture(yours):
        return says
    return f"{says} Where a head takes most of them, the mean of each map before it saves them (Lin et al., 2014)."


def _too_much_work(yours: Build, ours: Build) -> str | None:
    if not ours.flops or yours.flops < LARGER * ours.flops:
        return None
    return (
        f"{_times(yours.flops, ours.flops)} the FLOPs of the reference. A step of training costs three times as many "
        "as the forward pass (Kaplan et al., 2020)."
    )


def _too_much_kept(yours: Build, ours: Build) -> str | None:
    if not ours.activation_bytes or yours.activation_bytes < LARGER * ours.activation_bytes:
        return None
    return (
        f"{_times(yours.activation_bytes, ours.activation_bytes)} the activation memory of the reference. It grows "
        "with the batch; checkpoints bring n layers down to about √n (Chen et al., 2016)."
    )


def _too_narrow(yours: Build, ours: Build) -> str | None:
    if not yours.reach or not ours.reach:
        return None
    axes = zip(yours.reach.seen, ours.reach.seen, yours.reach.size, strict=True)
    if not any(seen < NARROWER * reference and seen < size for seen, reference, size in axes):
        return None
    says = f"An output sees {_seen(yours.reach)} of {_axes(yours.reach.size)}, in the reference {_seen(ours.reach)}."
    if not _is_picture(yours):
        return says
    return f"{says} What is larger it sees in parts, and the field that counts is smaller still (Luo et al., 2016)."


def _not_level(yours: Build, ours: Build) -> str | None:
    if len(yours.signal) < DEEP or _is_level(yours.signal) or (len(ours.signal) >= DEEP and not _is_level(ours.signal)):
        return None
    first, last = yours.signal[0], yours.signal[-1]
    way = "explodes" if not last <= first else "fades"
    return (
        f"The signal {way} at init: its standard deviation goes from {first:.2g} to {last:.2g} over "
        f"{len(yours.signal)} products. Weights of variance 2 / fan_in keep it level through ReLUs (He et al., 2015)."
    )


def _is_level(signal: tuple[float, ...]) -> bool:
    return all(map(math.isfinite, signal)) and 1 / LEVEL < signal[-1] / signal[0] < LEVEL


def _too_many_dead(yours: Build, ours: Build) -> str | None:
    share, reference = (build.dead / build.units if build.units else 0.0 for build in (yours, ours))
    if share <= max(DEAD, LARGER * reference):
        return None
    return (
        f"{percent(share)} of the units behind a ReLU fire for none of the inputs at init, and no gradient will wake "
        "them. With symmetric weights and zero biases a unit fires for about half of the inputs (He et al., 2015)."
    )


def _is_picture(build: Build) -> bool:
    return build.reach is not None and len(build.reach.size) > 1


def _where(build: Build) -> str:
    parts = [f"{percent(size / build.total)} in `{name}`" for name, size in build.parameters.items()]
    named = parts[:PARTS] + [f"{len(parts) - PARTS} more"] * (len(parts) > PARTS)
    return f": {', '.join(named)}" if len(parts) > 1 else ""


def _for(build: Build) -> str:
    return f"for inputs of {' and '.join(map(_axes, build.inputs))}"


def _seen(reach: Reach) -> str:
    return _axes(reach.seen)


def _axes(numbers: tuple[int, ...]) -> str:
    return " × ".join(map(str, numbers))


def _times(yours: float, ours: float) -> str:
    return f"{rounded(yours / ours)} times"


def _amount(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def _bytes(number: int) -> str:
    return f"{number / 2**20:.1f} MiB" if number >= 2**20 else f"{number / 2**10:.1f} KiB"
