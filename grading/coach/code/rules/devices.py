"""The rule about tensors that are made on the wrong device."""

from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import LOSS, MODULE, TENSOR, Code
from grading.coach.code.names import parameters
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import method, receiver

MAKERS = {
    "zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "rand", "randn", "randint", "randperm", "eye",
    "tensor", "as_tensor", "tril_indices", "triu_indices",
}  # fmt: skip
KEEPS_DEVICE = {
    "tril", "triu", "exp", "cos", "sin", "float", "bool", "long", "view", "reshape", "unsqueeze", "expand", "log",
}  # fmt: skip
COMBINING = {
    "cat", "stack", "where", "matmul", "mm", "bmm", "add", "mul", "sub", "div", "masked_fill", "einsum", "outer",
    "concat", "hstack", "vstack", "maximum", "minimum",
}  # fmt: skip
IN_PLACE = {"index_add_", "scatter_", "scatter_add_", "add_", "mul_", "sub_", "masked_fill_", "index_add"}
OFF_DEVICE_CLASSES = {"Dataset", "IterableDataset", "Sampler", "TensorDataset"}


@rule(
    "wrong-device",
    "A new tensor is on the CPU unless you say otherwise: beside a tensor on a GPU this line raises an error.",
    "phase1/theory5",
)
def wrong_device(code: Code) -> Iterator[Spot]:
    """A tensor made on the default device and combined with one that was handed in."""
    for function in code.all(cst.FunctionDef):
        given = _given_tensors(code, function)
        if not given or _stays_on_cpu(code, function):
            continue
        for call in code.own(cst.Call, function):
            if _is_made_here(code, call) and _meets(code, call, given, function):
                yield Spot(call, _with_device(code, call, sorted(given)[0] if "x" not in given else "x"))


def _given_tensors(code: Code, function: cst.FunctionDef) -> set[str]:
    """The parameters that are tensors."""
    return {p.name.value for p in parameters(function) if code.kind_of_parameter(p) == TENSOR} - {"self"}


def _stays_on_cpu(code: Code, function: cst.FunctionDef) -> bool:
    """Whether the function is about samples of a data set, or moves or asks for devices in its own way."""
    owner = code.class_of(function)
    bases = {base.split(".")[-1] for base in code.bases(owner)} if owner is not None else set()
    if bases & OFF_DEVICE_CLASSES or function.name.value in {"__getitem__", "collate", "collate_fn"}:
        return True
    return "set_default_device" in code.text(function)


def _is_made_here(code: Code, call: cst.Call) -> bool:
    """Whether it makes a tensor on the default device, with a shape: numbers go with any device."""
    name = code.qualified(call.func)
    if not name.startswith("torch.") or name.removeprefix("torch.") not in MAKERS:
        return False
    if any(a.keyword is not None and a.keyword.value in {"device", "generator", "out"} for a in call.args):
        return False
    if any(a.star == "**" for a in call.args) or not call.args:
        return False
    if any("device(" in code.text(i) for a in code.ancestors(call) if isinstance(a, cst.With) for i in a.items):
        return False
    first = call.args[0].value
    if name in {"torch.tensor", "torch.as_tensor"}:
        return isinstance(first, cst.List | cst.Tuple | cst.ListComp) and not _holds_tensor(code, first)
    return not (isinstance(first, cst.Tuple) and not first.elements)


def _holds_tensor(code: Code, node: cst.CSTNode) -> bool:
    return any(code.kind(name) == TENSOR for name in code.all(cst.Name, node)) and "shape" not in code.text(node)


def _meets(code: Code, call: cst.Call, given: set[str], function: cst.FunctionDef) -> bool:
    """Whether the new tensor is combined with a given one as it is made, or later by its name."""
    top = _grown(code, call)
    if top is None:
        return False
    if _is_combined(code, top, given):
        return True
    statement = code.statement(top)
    if not isinstance(statement, cst.Assign) or statement.value is not top:
        return False
    name = statement.targets[0].target
    if not isinstance(name, cst.Name):
        return False
    uses = [n for n in code.all(cst.Name, function.body) if n.value == name.value and n is not name]
    if any(_moves(code, use) for use in uses):
        return False
    return any(
        (binding := code.binding(use)) is not None
        and binding.name is name
        and _is_combined(code, _grown(code, use) or use, given)
        for use in uses
    )


def _grown(code: Code, node: cst.CSTNode) -> cst.CSTNode | None:
    """The whole expression that is still on the new tensor's device; None if it is moved."""
    while True:
        outer = code.parent(node)
        if isinstance(outer, cst.Attribute) and outer.value is node and isinstance(code.parent(outer), cst.Call):
            if outer.attr.value in {"to", "cuda", "type_as"}:
                return None
            if outer.attr.value not in KEEPS_DEVICE:
                return node
            node = code.parent(outer)
        elif isinstance(outer, cst.Arg) and code.qualified(code.parent(outer).func) in {
            f"torch.{n}" for n in KEEPS_DEVICE
        }:
            node = code.parent(outer)
        elif (
            isinstance(outer, cst.UnaryOperation)
            or (isinstance(outer, cst.Subscript) and outer.value is node)
            or (isinstance(outer, cst.Comparison) and _plain_beside(code, outer, node))
            or (isinstance(outer, cst.BinaryOperation) and _plain_beside(code, outer, node))
        ):
            node = outer
        else:
            return node


def _plain_beside(code: Code, outer: cst.CSTNode, node: cst.CSTNode) -> bool:
    """Whether everything else in `outer` is a number."""
    others = (
        [outer.left, outer.right]
        if isinstance(outer, cst.BinaryOperation)
        else [outer.left, outer.comparisons[0].comparator]
    )
    return all(other is node or code.kind(other) != TENSOR for other in others)


def _is_combined(code: Code, node: cst.CSTNode, given: set[str]) -> bool:
    """Whether `node` meets a tensor that comes from `given` in the same operation."""
    outer = code.parent(node)
    if isinstance(outer, cst.BinaryOperation):
        other = outer.right if outer.left is node else outer.left
        return _comes_from(code, other, given)
    if isinstance(outer, cst.AugAssign):
        return _comes_from(code, outer.value if outer.target is node else outer.target, given)
    if isinstance(outer, cst.Attribute) and isinstance(code.parent(outer), cst.Call):
        call = code.parent(outer)
        return outer.attr.value in COMBINING | IN_PLACE and any(_comes_from(code, a.value, given) for a in call.args)
    if isinstance(outer, cst.Element):
        outer = code.parent(code.parent(outer))
    if not isinstance(outer, cst.Arg):
        return False
    call = code.parent(outer)
    name = code.qualified(call.func)
    if name.startswith("torch.nn.functional.") or code.kind(call.func) in {MODULE, LOSS}:
        return any(a is not outer and _comes_from(code, a.value, given) for a in call.args)
    if name.startswith("torch.") and name.split(".")[-1] in COMBINING:
        return any(a is not outer and _comes_from(code, a.value, given) for a in call.args) or any(
            _comes_from(code, e.value, given) for e in code.all(cst.Element, outer) if not code.holds(e, node)
        )
    return method(call) in COMBINING | {"scatter_add"} and _comes_from(code, receiver(call), given)


def _comes_from(code: Code, node: cst.CSTNode, given: set[str], depth: int = 5) -> bool:
    """Whether `node` is a tensor that was made of one of `given`, not of its shape alone."""
    if depth == 0 or code.kind(node) != TENSOR or ".cpu()" in code.text(node):
        return False
    for name in code.all(cst.Name, node):
        if isinstance(code.parent(name), cst.Attribute) and code.parent(name).attr is name:
            continue
        outer = code.parent(name)
        if isinstance(outer, cst.Attribute) and outer.attr.value in {"shape", "device", "dtype", "ndim", "size", "dim"}:
            continue
        binding = code.binding(name)
        if name.value in given and binding is not None and binding.param is not None:
            return True
        value = binding.value if binding is not None else None
        if value is not None and not code.holds(value, name) and _comes_from(code, value, given, depth - 1):
            return True
    return False


def _moves(code: Code, use: cst.Name) -> bool:
    outer = code.parent(use)
    return isinstance(outer, cst.Attribute) and outer.attr.value in {"to", "cuda", "type_as"}


def _with_device(code: Code, call: cst.Call, name: str) -> str:
    return f"{code.text(call)[:-1].rstrip(', ')}, device={name}.device)"
