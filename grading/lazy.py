"""Lazy answers: what earns nothing in any exercise. The engine tries them on every one."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from inspect import isfunction
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from grading.exercise import FAMILIES

Variant = Callable[[Callable], Callable]


def lazy_answers(reference: dict[str, Any], forbidden: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every lazy answer to an exercise, with its description; `reference` holds what its solution cell defines."""
    for label, variant in VARIANTS.items():
        yield label, {name: _lazy(value, variant) for name, value in reference.items()}
    functions = [name for name, value in reference.items() if isfunction(value)]
    for operation in {op for family in forbidden for op in FAMILIES.get(family, {family})}:
        for home in (torch, F, torch.linalg):
            call = getattr(home, operation, None)
            for name in functions if callable(call) else ():
                nothing = {other: _returns_none(reference[other]) for other in functions}
                yield f"calls {home.__name__}.{operation} as `{name}`", nothing | {name: _without_signature(call)}


def _lazy(value: Any, variant: Variant) -> Any:
    """A function, or each method of a class, made lazy; any other value as it is."""
    if isfunction(value):
        return variant(value)
    if not isinstance(value, type):
        return value
    members: dict[str, Any] = {}
    for name, member in vars(value).items():
        if isinstance(member, staticmethod):
            members[name] = staticmethod(variant(member.__func__))
        elif isfunction(member) and name not in {"__init__", "__repr__", "__hash__"}:
            members[name] = variant(member)
    return type(value.__name__, (value,), members)


def _returns_none(function: Callable) -> Callable:
    return lambda *args, **kwargs: None


def _returns_argument(function: Callable) -> Callable:
    def lazy(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        return next((a for a in given if isinstance(a, torch.Tensor)), given[-1] if given else None)

    return lazy


def _returns_zeros(function: Callable) -> Callable:
    """The right shapes and types, and nothing in them; whatever else the function does, it does to copies."""

    def lazy(*args: Any, **kwargs: Any) -> Any:
        try:
            with torch.no_grad():
                return tree_map(_zero, function(*tree_map(_copy, args), **tree_map(_copy, kwargs)))
        except Exception:
            return None

    return lazy


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    try:
        return deepcopy(value)
    except Exception:
        return value


def _zero(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value)
    return type(value)(0) if isinstance(value, bool | int | float) else None


def _without_signature(call: Callable) -> Callable:
    return lambda *args, **kwargs: call(*args, **kwargs)


VARIANTS: dict[str, Variant] = {
    "returns None": _returns_none,
    "returns its first tensor": _returns_argument,
    "returns zeros": _returns_zeros,
}
