"""Code as a tree that can be asked: what stands in what, on which line, and what a dotted name means."""

from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import TypeVar

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

Node = TypeVar("Node", bound=cst.CSTNode)

FORMATTING = {
    "lpar", "rpar", "lbracket", "rbracket", "lbrace", "rbrace", "comma", "equal", "semicolon", "colon", "dot", "header",
    "footer", "leading_lines", "lines_after_decorators", "lines_after_module_docstring", "operator", "asynchronous",
}  # fmt: skip
COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)
SUBMODULES = {"nn", "functional", "optim", "init", "transforms", "datasets", "models", "utils", "distributed", "pyplot"}
"""What people import from packages that is a module."""
LOOPS = (cst.For, cst.While)


class Syntax:
    """One module of code. Nodes are numbered in the order in which they are met, so what a node holds is a range."""

    def __init__(self, source: str) -> None:
        self.wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
        self.module = self.wrapper.module
        self._order: list[cst.CSTNode] = []
        self._number: dict[cst.CSTNode, int] = {}
        self._end: dict[cst.CSTNode, int] = {}
        self._parent: dict[cst.CSTNode, cst.CSTNode] = {}
        self._walk(self.module)
        self._by_type: dict[type, list[int]] = {}
        for number, node in enumerate(self._order):
            self._by_type.setdefault(type(node), []).append(number)

    def _walk(self, node: cst.CSTNode) -> None:
        self._number[node] = len(self._order)
        self._order.append(node)
        for child in _children(node):
            self._parent[child] = node
            self._walk(child)
        self._end[node] = len(self._order)

    @cached_property
    def _positions(self) -> dict:
        return self.wrapper.resolve(PositionProvider)

    def line(self, node: cst.CSTNode) -> int:
        """The line on which `node` begins, from 1."""
        return self._positions[node].start.line

    def last_line(self, node: cst.CSTNode) -> int:
        """The line on which it ends."""
        return self._positions[node].end.line

    def before(self, a: cst.CSTNode, b: cst.CSTNode) -> bool:
        """Whether `a` comes before `b`."""
        return self._number[a] < self._number[b]

    def text(self, node: cst.CSTNode) -> str:
        """The code of `node`, in one line."""
        return " ".join(self.module.code_for_node(node).split())

    def all(self, kind: type[Node], within: cst.CSTNode | None = None) -> Iterator[Node]:
        """Every node of exactly that type in `within`, itself included, or in the module, in order."""
        numbers = self._by_type.get(kind, [])
        node = within or self.module
        for i in range(bisect_left(numbers, self._number[node]), len(numbers)):
            if numbers[i] >= self._end[node]:
                return
            yield self._order[numbers[i]]

    def any_of(self, kinds: tuple[type, ...], within: cst.CSTNode | None = None) -> list[cst.CSTNode]:
        """Every node of these types in `within`, in order."""
        return sorted((n for kind in kinds for n in self.all(kind, within)), key=self._number.__getitem__)

    def holds(self, outer: cst.CSTNode, inner: cst.CSTNode) -> bool:
        """Whether `inner` is `outer` or stands in it."""
        return self._number[outer] <= self._number[inner] < self._end[outer]

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """What `node` stands in directly."""
        return self._parent.get(node)

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """What `node` stands in, inside out."""
        while (node := self._parent.get(node)) is not None:
            yield node

    def around(self, node: cst.CSTNode, *kinds: type[Node]) -> Node | None:
        """The innermost of these that `node` stands in, within its own function."""
        for ancestor in self.ancestors(node):
            if isinstance(ancestor, kinds):
                return ancestor
            if isinstance(ancestor, cst.FunctionDef | cst.Lambda | cst.ClassDef):
                return None
        return None

    def scope(self, node: cst.CSTNode) -> cst.FunctionDef | cst.Module:
        """The function that `node` runs in, or the module. Decorators, defaults and annotations run outside."""
        child = node
        for ancestor in self.ancestors(node):
            if isinstance(ancestor, cst.FunctionDef) and child is ancestor.body:
                return ancestor
            child = ancestor
        return self.module

    def scopes(self, node: cst.CSTNode) -> Iterator[cst.FunctionDef | cst.Module]:
        """The function that `node` runs in, the one around that, …, and the module."""
        while not isinstance(node, cst.Module):
            node = self.scope(node)
            yield node

    def own(self, kind: type[Node], scope: cst.CSTNode) -> Iterator[Node]:
        """The nodes of that type that run in `scope` itself, not in a function inside it."""
        inner = scope if isinstance(scope, cst.FunctionDef | cst.Module) else self.scope(scope)
        return (node for node in self.all(kind, scope) if self.scope(node) is inner)

    def is_class_level(self, node: cst.CSTNode) -> bool:
        """Whether `node` stands in the body of a class, outside its methods."""
        owners = (a for a in self.ancestors(node) if isinstance(a, cst.FunctionDef | cst.ClassDef))
        return isinstance(next(owners, None), cst.ClassDef)

    def class_of(self, node: cst.CSTNode) -> cst.ClassDef | None:
        """The class whose method `node` stands in."""
        return next((a for a in self.ancestors(node) if isinstance(a, cst.ClassDef)), None)

    def statement(self, node: cst.CSTNode) -> cst.CSTNode:
        """The simple statement or the head of the compound one that `node` stands in."""
        while not isinstance(node, cst.BaseSmallStatement | cst.BaseCompoundStatement):
            node = self._parent[node]
        return node

    @cached_property
    def imports(self) -> dict[str, str]:
        """What each imported name means: `{"F": "torch.nn.functional"}`."""
        found = {}
        for node in self.all(cst.Import):
            for alias in node.names:
                whole = dotted(alias.name)
                name = dotted(alias.asname.name) if alias.asname else whole.split(".")[0]
                found[name] = whole if alias.asname else name
        for node in self.all(cst.ImportFrom):
            if isinstance(node.names, cst.ImportStar) or node.module is None or node.relative:
                continue
            for alias in node.names:
                name = alias.asname.name if alias.asname else alias.name
                found[dotted(name)] = f"{dotted(node.module)}.{dotted(alias.name)}"
        return found

    @cached_property
    def modules(self) -> set[str]:
        """The imported names that are modules, as far as one can tell."""
        found = set()
        for node in self.all(cst.Import):
            found |= {dotted(a.asname.name) if a.asname else dotted(a.name).split(".")[0] for a in node.names}
        for node in self.all(cst.ImportFrom):
            names = () if isinstance(node.names, cst.ImportStar) else node.names
            found |= {dotted(a.asname.name if a.asname else a.name) for a in names if dotted(a.name) in SUBMODULES}
        return found

    def qualified(self, node: cst.CSTNode) -> str:
        """The dotted name with its import resolved, `torch.nn.functional.relu` for `F.relu`; empty if it is none."""
        first, dot, rest = dotted(node).partition(".")
        return self.imports.get(first, first) + dot + rest

    def calls(self, within: cst.CSTNode | None = None) -> Iterator[cst.Call]:
        """All calls in `within`."""
        return self.all(cst.Call, within)

    def methods(self, name: str, within: cst.CSTNode | None = None) -> list[cst.Call]:
        """The calls `something.name(…)` in `within`."""
        return [call for call in self.calls(within) if method(call) == name]


def _children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for field in _fields(type(node)):
        value = getattr(node, field)
        if isinstance(value, cst.CSTNode):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, cst.CSTNode))


_FIELDS: dict[type, tuple[str, ...]] = {}


def _fields(kind: type) -> tuple[str, ...]:
    if kind not in _FIELDS:
        names = kind.__dataclass_fields__
        _FIELDS[kind] = tuple(n for n in names if n not in FORMATTING and not n.startswith("whitespace"))
    return _FIELDS[kind]


def dotted(node: cst.CSTNode | None) -> str:
    """`self.net.weight` for a chain of names; empty for anything else."""
    match node:
        case cst.Name(value=name):
            return name
        case cst.Attribute(value=value, attr=cst.Name(value=name)):
            before = dotted(value)
            return f"{before}.{name}" if before else ""
    return ""


def method(call: cst.CSTNode | None) -> str:
    """`backward` for `loss.backward()`; empty for what is no call of an attribute."""
    match call:
        case cst.Call(func=cst.Attribute(attr=cst.Name(value=name))):
            return name
    return ""


def receiver(call: cst.Call) -> cst.BaseExpression | None:
    """What a method is called on."""
    return call.func.value if isinstance(call.func, cst.Attribute) else None


def argument(call: cst.Call, position: int | None = None, keyword: str | None = None) -> cst.BaseExpression | None:
    """The argument at `position` or by `keyword`, None if it is not given."""
    plain = [arg.value for arg in call.args if arg.keyword is None and not arg.star]
    named = {arg.keyword.value: arg.value for arg in call.args if arg.keyword is not None}
    if keyword in named:
        return named[keyword]
    return plain[position] if position is not None and position < len(plain) else None


def target_names(target: cst.CSTNode) -> list[cst.Name]:
    """The names that an assignment to `target` binds."""
    match target:
        case cst.Name():
            return [target]
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            return [name for element in elements for name in target_names(element.value)]
        case cst.StarredElement(value=value):
            return target_names(value)
    return []


def bound_by(statement: cst.CSTNode) -> set[str]:
    """The dotted names that an assignment gives a value to; none for any other statement."""
    targets = [t.target for t in statement.targets] if isinstance(statement, cst.Assign) else []
    return {dotted(name) for target in targets for name in (target_names(target) or [target])} - {""}


def is_constant(node: cst.CSTNode | None, *values: str) -> bool:
    """Whether it is a literal (or name such as `None`) written as one of `values`."""
    return isinstance(node, cst.Name | cst.Integer | cst.Float | cst.SimpleString) and node.value in values
