"""The reference: what the solution has for an exercise, be it a cell of a notebook or the modules of a project."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from grading.checkers import checker, checkers
from grading.projects import module_path
from grading.source import BEGIN_SOLUTION, is_withheld, read_source, without_markers
from grading.units import Unit, defined_names


@dataclass(frozen=True)
class Part:
    """What a learner writes in one place: a solution cell, or one definition in a `module` of a project."""

    exercise: str
    names: tuple[str, ...]
    text: str
    module: str | None = None


def parts(unit: Unit) -> tuple[Part, ...]:
    """All that the learner writes, in order; empty where the unit ships without solutions."""
    if unit.kind == "project":
        return tuple(p for c in checkers(unit) for module in c.modules for p in _definitions(unit, c.name, module))
    cells = [c for c in read_source(unit.source) if c.kind == "solution" and not is_withheld(c.text)]
    return tuple(Part(c.name, c.names, c.text) for c in cells)


def sources(unit: Unit, exercise: str) -> dict[str | None, str]:
    """What to execute to have the reference for `exercise`, by module; None is the notebook's own namespace.

    A project's modules are whole, with all that the learner was given.
    """
    if unit.kind == "project":
        texts = {module: _module_text(unit, module) for module in checker(unit, exercise).modules}
        return {module: text for module, text in texts.items() if text is not None}
    return {part.module: without_markers(part.text) for part in parts(unit) if part.exercise == exercise}


def solution_code(unit: Unit, exercise: str) -> str | None:
    """The reference for `exercise` as a learner may read it, or None where the unit ships without solutions."""
    found = [part for part in parts(unit) if part.exercise == exercise]
    places = [f"# {module_path(unit, part.module).as_posix()}\n" if part.module else "" for part in found]
    return "\n\n\n".join(map("".join, zip(places, (without_markers(p.text) for p in found), strict=True))) or None


def exercise_of(unit: Unit) -> dict[str, str]:
    """Every name that a solution cell defines, or every module of a project, with the exercise it belongs to."""
    if unit.kind == "project":
        return {module: c.name for c in checkers(unit) for module in c.modules}
    return {name: c.name for c in read_source(unit.source) if c.kind == "solution" for name in c.names}


def _definitions(unit: Unit, exercise: str, module: str) -> Iterator[Part]:
    """The functions and classes of `module` that have a solution in them."""
    text = _module_text(unit, module) or ""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        code = "\n".join(lines[first - 1 : node.end_lineno])
        if BEGIN_SOLUTION in code:
            yield Part(exercise, tuple(defined_names([node])), code, module)


def _module_text(unit: Unit, module: str) -> str | None:
    path = unit.solution / module_path(unit, module)
    return path.read_text(encoding="utf-8") if path.exists() else None
