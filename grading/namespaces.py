"""What a learner has defined, the namespace of a notebook or the modules of a project, and other answers in its place.

The runner sees a mapping of names to values either way; `lab.softmax` is a function, `lab.training` a module.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from grading.units import Unit


class Package(dict[str, ModuleType]):
    """The modules of a project's package, by their short names, and those of the learner's tests."""

    def __init__(self, unit: Unit) -> None:
        """An empty package of the project `unit`."""
        super().__init__()
        self.unit = unit


@dataclass(frozen=True)
class Patch:
    """Code that defines names anew: in a notebook's namespace, or in one `module` of a project."""

    code: CodeType
    module: str | None = None


def owns(namespace: dict[str, Any], frame: FrameType) -> bool:
    """Whether `frame` runs the learner's own code."""
    return any(frame.f_globals is scope for scope in _scopes(namespace))


def full_name(namespace: dict[str, Any], frame: FrameType) -> str:
    """What a learner calls the function of `frame`: `softmax`, `Value.backward`, or in a project `data.split`."""
    name = frame.f_code.co_qualname
    return f"{_module_of(namespace, frame)}.{name}" if isinstance(namespace, Package) else name


def _module_of(package: Package, frame: FrameType) -> str:
    return next(name for name, module in package.items() if vars(module) is frame.f_globals)


@contextmanager
def replaced(namespace: dict[str, Any], patch: Patch) -> Iterator[None]:
    """Execute `patch`, let all that had imported what it defines see the new, and put every name back afterwards."""
    with _changed(namespace, patch.module, lambda scope: exec(patch.code, scope)):
        yield


@contextmanager
def replaced_values(namespace: dict[str, Any], module: str | None, values: dict[str, Any]) -> Iterator[None]:
    """`replaced`, with the `values` themselves."""
    with _changed(namespace, module, lambda scope: scope.update(values)):
        yield


@contextmanager
def _changed(namespace: dict[str, Any], module: str | None, change: Callable[[dict], None]) -> Iterator[None]:
    before = [(scope, dict(scope)) for scope in _scopes(namespace)]
    absent = module is not None and module not in namespace
    if absent:  # a module that could not be imported
        namespace[module] = ModuleType(module)
    scope = namespace if module is None else vars(namespace[module])
    old, rebased = dict(scope), []
    try:
        change(scope)
        rebased = _spread(namespace, old, scope)
        yield
    finally:
        for heir, bases in rebased:
            heir.__bases__ = bases
        if absent:
            del namespace[module]
        for scope, names in before:
            for name in scope.keys() - names.keys():
                del scope[name]
            scope.update(names)


def _spread(namespace: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> list[tuple[type, tuple]]:
    """Where another module has imported a function or class that was replaced, let it have the new one.

    So do classes that inherit from it; returns those, with the bases that they had.
    """
    renewed = {
        id(value): new[name]
        for name, value in old.items()
        if isinstance(value, FunctionType | type) and name in new and new[name] is not value
    }
    rebased = []
    for scope in _scopes(namespace):
        if scope is not new:
            for value in [v for v in scope.values() if isinstance(v, type)]:
                bases = tuple(renewed.get(id(base), base) for base in value.__bases__)
                if bases != value.__bases__:
                    rebased.append((value, value.__bases__))
                    value.__bases__ = bases
            scope.update({name: renewed[id(value)] for name, value in scope.items() if id(value) in renewed})
    return rebased


def _scopes(namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """The dicts in which the learner's code runs."""
    return [vars(module) for module in namespace.values()] if isinstance(namespace, Package) else [namespace]
