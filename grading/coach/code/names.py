"""A little data flow: where names get their values, and which functions and classes there are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from grading.coach.code.syntax import Syntax, argument, dotted, method, target_names


@dataclass(frozen=True)
class Binding:
    """A place where a name gets a value: `value` or what a loop over `looped` gives, `part` of it if it is unpacked."""

    name: cst.Name
    value: cst.BaseExpression | None = None
    looped: cst.BaseExpression | None = None
    part: int | None = None
    param: cst.Param | None = None


class Names(Syntax):
    """A module of code, and where its names get their values."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._bindings: dict[cst.CSTNode, dict[str, list[Binding]]] = {}

    def bindings(self, scope: cst.FunctionDef | cst.Module) -> dict[str, list[Binding]]:
        """Every name that `scope` itself binds, with all places where it does, in order."""
        if scope not in self._bindings:
            found: dict[str, list[Binding]] = {}
            for binding in self._all_bindings(scope):
                found.setdefault(binding.name.value, []).append(binding)
            self._bindings[scope] = found
        return self._bindings[scope]

    def _all_bindings(self, scope: cst.FunctionDef | cst.Module) -> Iterator[Binding]:
        if isinstance(scope, cst.FunctionDef):
            yield from (Binding(param.name, param=param) for param in parameters(scope))
        for node in self.any_of((cst.Assign, cst.AnnAssign, cst.NamedExpr, cst.For, cst.CompFor, cst.WithItem), scope):
            if self.scope(node) is not scope or self.is_class_level(node):
                continue
            match node:
                case cst.Assign(targets=targets, value=value):
                    for target in targets:
                        yield from _bound(target.target, value=value)
                case cst.AnnAssign(target=target, value=value) | cst.NamedExpr(target=target, value=value):
                    yield from _bound(target, value=value)
                case cst.For(target=target, iter=iterated) | cst.CompFor(target=target, iter=iterated):
                    yield from _bound(target, looped=iterated)
                case cst.WithItem(item=item, asname=cst.AsName(name=name)):
                    yield from _bound(name, value=item)

    def binding(self, name: cst.Name) -> Binding | None:
        """The place that gave `name` its value where it is used: the last one before, or in a loop the last of all."""
        for scope in self.scopes(name):
            places = self.bindings(scope).get(name.value)
            if not places:
                continue
            if scope is not self.scope(name):
                return places[-1]
            earlier = [b for b in places if b.name is not name and self.before(b.name, name) and self._done(b, name)]
            return (earlier or places)[-1]
        return None

    def _done(self, binding: Binding, name: cst.Name) -> bool:
        """Whether the assignment is over where `name` stands: in `x = f(x)` it is not, in a loop's body it is."""
        if binding.value is None:
            return True
        return not self.holds(binding.value, name)

    def origins(self, node: cst.BaseExpression, depth: int = 6) -> list[cst.BaseExpression]:
        """The expressions that `node` may have its value from; itself if it is no name, or one from outside.

        A parameter has its value from all visible callers, which costs more of the `depth` than a name.
        """
        if depth <= 0:
            return []
        if isinstance(node, cst.Name):
            binding = self.binding(node)
            if binding is None or binding.part is not None or binding.looped is not None:
                return [node]
            if binding.param is not None:
                given = self._arguments(binding.param)
                return [o for value in given for o in self.origins(value, depth - 3)] or [node]
            return self.origins(binding.value, depth - 1) if binding.value is not None else [node]
        if dotted(node).startswith("self.") and dotted(node).count(".") == 1:
            values = self.attributes(self.class_of(node)).get(node.attr.value, [])
            return [o for value in values for o in self.origins(value, depth - 1)] or [node]
        return [node]

    def _arguments(self, param: cst.Param) -> list[cst.BaseExpression]:
        """What visible callers hand in for `param`."""
        function = next(a for a in self.ancestors(param) if isinstance(a, cst.FunctionDef | cst.Lambda))
        if isinstance(function, cst.Lambda):
            return []
        names = [p.name.value for p in parameters(function)]
        position = names.index(param.name.value) - (names[:1] == ["self"])
        given = [argument(call, position, param.name.value) for call in self.callers(function)]
        return [value for value in given if value is not None]

    @cached_property
    def functions(self) -> dict[str, list[cst.FunctionDef]]:
        """All functions and methods, by name."""
        found: dict[str, list[cst.FunctionDef]] = {}
        for function in self.all(cst.FunctionDef):
            found.setdefault(function.name.value, []).append(function)
        return found

    @cached_property
    def classes(self) -> dict[str, cst.ClassDef]:
        """All classes, by name; of several of one name the last."""
        return {node.name.value: node for node in self.all(cst.ClassDef)}

    @cached_property
    def _calls_by_name(self) -> dict[str, list[cst.Call]]:
        found: dict[str, list[cst.Call]] = {}
        for call in self.calls():
            found.setdefault(dotted(call.func) if isinstance(call.func, cst.Name) else method(call), []).append(call)
        return found

    def callers(self, function: cst.FunctionDef) -> list[cst.Call]:
        """The visible calls of `function` by its name; those of `forward` go by other names."""
        calls = self._calls_by_name.get(function.name.value, [])
        return [call for call in calls if isinstance(call.func, cst.Attribute) == self.is_method(function)]

    def called(self, call: cst.Call) -> list[cst.FunctionDef]:
        """The visible functions that `call` may run."""
        name = dotted(call.func)
        if not name or (name.count(".") and self.qualified(call.func).split(".")[0] in {"torch", "numpy", "random"}):
            return []
        functions = self.functions.get(name.split(".")[-1], [])
        return [f for f in functions if self.is_method(f) == ("." in name)]

    def is_method(self, function: cst.FunctionDef) -> bool:
        """Whether it stands in a class."""
        return self.is_class_level(function)

    def assigned_to(self, node: cst.CSTNode) -> str:
        """The dotted name that the statement around `node` gives its value to; empty if it is no assignment."""
        statement = self.statement(node)
        if not isinstance(statement, cst.Assign):
            return ""
        parts = pairs(statement.targets[0].target, statement.value)
        return next((dotted(target) for target, value in parts if self.holds(value, node)), "")

    def reaches(self, node: cst.CSTNode, has: Callable[[cst.CSTNode], bool], depth: int = 3) -> bool:
        """Whether `has` is true of `node` or of a visible function that is called in it."""
        if has(node):
            return True
        functions = {f for call in self.calls(node) for f in self.called(call)} if depth else set()
        return any(self.reaches(function, has, depth - 1) for function in functions if not self.holds(function, node))

    def bases(self, node: cst.ClassDef) -> list[str]:
        """The qualified names of its base classes."""
        return [self.qualified(base.value) for base in node.bases]

    def is_module(self, node: cst.ClassDef | None, depth: int = 5) -> bool:
        """Whether the class derives from `nn.Module`, as far as one can see."""
        if node is None or depth == 0:
            return False
        return any(
            base.startswith("torch.nn.")
            or (self.classes.get(base) is not node and self.is_module(self.classes.get(base), depth - 1))
            for base in self.bases(node)
        )

    def attributes(self, node: cst.ClassDef | None) -> dict[str, list[cst.BaseExpression]]:
        """What the methods of a class assign to attributes of `self`."""
        found: dict[str, list[cst.BaseExpression]] = {}
        for assign in self.all(cst.Assign, node) if node is not None else ():
            for target in assign.targets:
                for left, right in pairs(target.target, assign.value):
                    if dotted(left).startswith("self.") and dotted(left).count(".") == 1:
                        found.setdefault(left.attr.value, []).append(right)
        return found

    def method(self, node: cst.ClassDef | None, name: str) -> cst.FunctionDef | None:
        """The method of a class by name, not of its bases."""
        body = node.body.body if node is not None else ()
        return next((f for f in body if isinstance(f, cst.FunctionDef) and f.name.value == name), None)

    def is_stub(self, node: cst.CSTNode) -> bool:
        """Whether something in `node` is still to be written."""
        raised = (s.exc.func if isinstance(s.exc, cst.Call) else s.exc for s in self.all(cst.Raise, node))
        return any(dotted(error) == "NotImplementedError" for error in raised)

    @cached_property
    def stub_lines(self) -> set[int]:
        """The lines of functions that are still to be written."""
        functions = [f for f in self.all(cst.FunctionDef) if self.is_stub(f)]
        return {n for f in functions for n in range(self.line(f), self.last_line(f) + 1)}

    def is_tried(self, line: int) -> bool:
        """Whether a line stands in a `try`."""
        return any(self.line(node) < line <= self.last_line(node) for node in self.all(cst.Try))


def _bound(
    target: cst.CSTNode, value: cst.BaseExpression | None = None, looped: cst.BaseExpression | None = None
) -> Iterator[Binding]:
    if isinstance(target, cst.Name):
        yield Binding(target, value, looped)
    elif isinstance(target, cst.Tuple | cst.List):
        for i, element in enumerate(target.elements):
            for name in target_names(element.value):
                yield Binding(name, value, looped, part=i)


def pairs(target: cst.CSTNode, value: cst.BaseExpression) -> Iterator[tuple[cst.CSTNode, cst.BaseExpression]]:
    """What is assigned to what, `a, b = c, d` taken apart."""
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple) and len(target.elements) == len(value.elements):
        for left, right in zip(target.elements, value.elements, strict=True):
            yield from pairs(left.value, right.value)
    else:
        yield target, value


def parameters(function: cst.FunctionDef | cst.Lambda) -> list[cst.Param]:
    """All parameters of a function that have a name of their own, in order."""
    params = function.params
    return [*params.posonly_params, *params.params, *params.kwonly_params]
