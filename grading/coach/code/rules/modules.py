"""Rules about modules: parameters that nobody uses, and layers that nobody sees."""

from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import MODULE, Code
from grading.coach.code.names import pairs
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import COMPREHENSIONS, dotted, method, receiver

LOOKING = {
    "children", "modules", "named_children", "named_modules", "parameters", "named_parameters", "get_submodule",
    "get_parameter", "_modules", "_parameters", "__dict__",
}  # fmt: skip
REGISTERING = {"torch.nn.ModuleList", "torch.nn.Sequential", "torch.nn.ModuleDict", "torch.nn.ParameterList", "setattr"}


@rule(
    "dead-parameter",
    "No method uses it: it takes memory, gets no gradient, and whoever counts parameters counts it.",
    "phase1/theory2",
)
def dead_parameter(code: Code) -> Iterator[Spot]:
    """Parameters that are made and never used, and layers in a plain list."""
    for owner in code.all(cst.ClassDef):
        init = code.method(owner, "__init__")
        if init is None or not code.is_module(owner) or code.is_stub(owner):
            continue
        yield from _unused(code, owner, init)
        yield from _unseen(code, owner, init)


def _unused(code: Code, owner: cst.ClassDef, init: cst.FunctionDef) -> Iterator[Spot]:
    if not _is_whole(code, owner) or _is_looked_through(code, owner):
        return
    for assign in code.own(cst.Assign, init):
        for target, value in pairs(assign.targets[0].target, assign.value):
            if not _is_own_attribute(target) or not _is_trainable(code, value):
                continue
            if not _is_used(code, owner, init, target):
                yield Spot(assign, f"nothing, or use `{dotted(target)}` in forward")


def _is_whole(code: Code, owner: cst.ClassDef) -> bool:
    """Whether all methods that could use an attribute can be seen: it has a forward, and a plain base."""
    bases = code.bases(owner)
    if any(base != "torch.nn.Module" and not base.startswith("abc.") for base in bases):
        return False
    return code.method(owner, "forward") is not None


def _is_looked_through(code: Code, owner: cst.ClassDef) -> bool:
    attributes = {node.attr.value for node in code.all(cst.Attribute, owner) if dotted(node.value) == "self"}
    names = {dotted(call.func) for call in code.calls(owner)}
    return bool(attributes & LOOKING) or bool(names & {"getattr", "vars"})


def _is_own_attribute(node: cst.CSTNode) -> bool:
    return dotted(node).startswith("self.") and dotted(node).count(".") == 1


def _is_trainable(code: Code, node: cst.BaseExpression) -> bool:
    """Whether it is a layer or a parameter, made right here."""
    if not isinstance(node, cst.Call):
        return False
    name = code.qualified(node.func)
    return name == "torch.nn.Parameter" or (
        code.kind(node) == MODULE and (name.startswith("torch.nn.") or name in code.classes)
    )


def _is_used(code: Code, owner: cst.ClassDef, init: cst.FunctionDef, target: cst.Attribute) -> bool:
    name = target.attr.value
    heirs = [c for c in code.all(cst.ClassDef) if owner.name.value in code.bases(c)]
    for node in code.all(cst.Attribute):
        if node.attr.value != name or node is target:
            continue
        inside = code.holds(owner, node)
        if dotted(node.value) == "self":
            if inside and not (code.holds(init, node) and _only_prepares(code, node)):
                return True
            if any(code.holds(heir, node) for heir in heirs):
                return True
        elif not inside and not dotted(node.value).startswith("torch"):
            return True
    return any(f'"{name}"' == s.value or f"'{name}'" == s.value for s in code.all(cst.SimpleString))


def _only_prepares(code: Code, node: cst.Attribute) -> bool:
    """Whether a use in `__init__` only sets initial values, or ties weights."""
    statement = code.statement(node)
    if isinstance(statement, cst.Assign):
        return any(code.holds(t.target, node) for t in statement.targets)
    call = next((a for a in code.ancestors(node) if isinstance(a, cst.Call)), None)
    return call is not None and ("init" in code.qualified(call.func) or method(call).endswith("_"))


def _unseen(code: Code, owner: cst.ClassDef, init: cst.FunctionDef) -> Iterator[Spot]:
    for assign in code.own(cst.Assign, init):
        target = assign.targets[0].target
        if not _is_own_attribute(target):
            continue
        filled = _filled_with_layers(code, init, assign.value, dotted(target))
        if filled and not _is_registered(code, owner, dotted(target), assign.value):
            kind = "ModuleDict" if isinstance(assign.value, cst.Dict | cst.DictComp) else "ModuleList"
            why = "A plain list hides layers: `parameters()`, `.to(device)` and `state_dict()` do not see them."
            yield Spot(assign, f"{dotted(target)} = nn.{kind}({code.text(assign.value)})", why)


def _filled_with_layers(code: Code, init: cst.FunctionDef, value: cst.BaseExpression, name: str) -> bool:
    """Whether `value` is a plain collection that holds layers, or gets them by `append`."""
    match value:
        case cst.List(elements=elements) | cst.Tuple(elements=elements) if elements:
            return all(isinstance(e.value, cst.Call) and _is_trainable(code, e.value) for e in elements)
        case cst.ListComp(elt=element):
            return _is_trainable(code, element)
        case cst.Dict(elements=elements) if elements:
            return all(isinstance(e, cst.DictElement) and _is_trainable(code, e.value) for e in elements)
        case cst.DictComp(value=element):
            return _is_trainable(code, element)
        case cst.List() | cst.Call(func=cst.Name(value="list")):
            appends = [c for c in code.methods("append", init) if dotted(receiver(c)) == name and c.args]
            return bool(appends) and all(_is_trainable(code, c.args[0].value) for c in appends)
        case cst.BinaryOperation(left=a, right=b):
            return any(_filled_with_layers(code, init, side, name) for side in (a, b) if isinstance(side, cst.List))
        case cst.Name():
            binding = code.binding(value)
            inner = binding.value if binding is not None and binding.part is None else None
            return isinstance(inner, (cst.List, *COMPREHENSIONS)) and _filled_with_layers(
                code, init, inner, value.value
            )
    return False


def _is_registered(code: Code, owner: cst.ClassDef, name: str, value: cst.BaseExpression) -> bool:
    """Whether the same layers are also handed to something that registers them."""
    names = {name, dotted(value)} - {""}
    for call in code.calls(owner):
        registers = code.qualified(call.func) in REGISTERING or method(call) in {
            "add_module",
            "register_module",
            "extend",
        }
        if not registers or method(call) == "append":
            continue
        inside = {dotted(n) for n in code.any_of((cst.Name, cst.Attribute), call)}
        if inside & names:
            return True
    loops = [
        loop
        for loop in code.all(cst.For, owner)
        if names & {dotted(n) for n in code.any_of((cst.Name, cst.Attribute), loop.iter)}
    ]
    return any(
        method(c) in {"add_module", "register_module"} or dotted(c.func) == "setattr"
        for loop in loops
        for c in code.calls(loop)
    )
