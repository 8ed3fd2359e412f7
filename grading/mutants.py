"""Mutants: what a learner writes, solved, with one small change that its checkers should notice.

They are made from the syntax tree alone. A mutant that compiles to what the original or another mutant compiles to is
left out: nobody can tell them apart.
"""

import ast
import difflib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType

from grading.mutant_changes import changes
from grading.projects import is_test
from grading.reference import parts
from grading.units import Unit

NOT_ENTERED = (ast.Raise, ast.JoinedStr)
"""Nodes that are changed as a whole or not at all: nobody checks the words of an error."""
NOT_RUN = {"annotation", "returns", "type_params", "decorator_list"}
"""Fields that do not decide what a function gives; a decorator is removed with its function in view."""


@dataclass(frozen=True)
class Mutant:
    """A solution cell, or a definition in a project's `module`, with one change in it."""

    exercise: str
    function: str
    """Where the change is: `softmax`, `Value.__add__`."""
    line: int
    """Which line of the cell it is in."""
    diff: str
    """The changed lines, before and after, in the form that `ast.unparse` gives them."""
    code: str
    module: str | None = None


def mutants(unit: Unit) -> tuple[Mutant, ...]:
    """Every mutant of what the learner writes in `unit`, in order.

    The learner's own tests are left out: a test that is a little weaker is no mistake.
    """
    written = [part for part in parts(unit) if not is_test(part.module)]
    return tuple(mutant for part in written for mutant in mutate(part.exercise, part.text, part.module))


def mutate(exercise: str, code: str, module: str | None = None) -> Iterator[Mutant]:
    """Every mutant of one cell or definition."""
    tree = ast.parse(code)
    original = ast.unparse(tree)
    seen = {_fingerprint(original)}
    for site in _sites(tree, tree, "", 1):
        for changed in site.variants(tree):
            fingerprint = _fingerprint(changed)
            if fingerprint is not None and fingerprint not in seen:
                seen.add(fingerprint)
                yield Mutant(exercise, site.function, site.line, _diff(original, changed), changed, module)


@dataclass(frozen=True)
class _Site:
    """A node, and how to put another in its place."""

    node: ast.AST
    parent: ast.AST
    put: Callable[[ast.AST], None]
    function: str
    line: int

    def variants(self, tree: ast.Module) -> Iterator[str]:
        """The whole of `tree` as code, once for each change of this node."""
        for change in changes(self.node, self.parent):
            self.put(change)
            try:
                yield ast.unparse(tree)
            finally:
                self.put(self.node)


def _sites(node: ast.AST, parent: ast.AST, function: str, line: int) -> Iterator[_Site]:
    """The nodes below `node` that may be changed."""
    for child, put in _children(node):
        name, at = function, getattr(child, "lineno", line)
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = f"{function}.{child.name}".lstrip(".")
        yield _Site(child, node, put, name, at)
        if not isinstance(child, NOT_ENTERED):
            yield from _sites(child, node, name, at)


def _children(node: ast.AST) -> Iterator[tuple[ast.AST, Callable[[ast.AST], None]]]:
    for field, value in ast.iter_fields(node):
        if field in NOT_RUN:
            continue
        if isinstance(value, ast.AST):
            yield value, lambda new, field=field: setattr(node, field, new)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, ast.AST) and not _is_text(item):
                    yield item, lambda new, items=value, i=i: items.__setitem__(i, new)


def _is_text(node: ast.AST) -> bool:
    """A docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _fingerprint(code: str) -> tuple | None:
    """What `code` compiles to, without regard to positions; None if it does not compile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return _facts(compile(code, "<mutant>", "exec"))
    except SyntaxError:
        return None


def _facts(code: CodeType) -> tuple:
    constants = tuple(_facts(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    arguments = code.co_argcount, code.co_kwonlyargcount, code.co_flags
    return code.co_name, arguments, code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
