"""The rule about loops over what a tensor could do at once."""

from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import CHUNKS, OTHER, TENSOR, Code
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import (
    COMPREHENSIONS,
    LOOPS,
    argument,
    dotted,
    is_constant,
    method,
    receiver,
    target_names,
)

BUILTINS = {"float", "int", "abs", "min", "max", "sum", "range", "len", "enumerate", "zip", "bool", "pow", "round"}
NO_BATCH = {
    "randn", "rand", "randperm", "randint", "manual_seed", "svd", "unique", "nonzero", "multinomial", "bincount",
    "bernoulli", "split", "chunk", "backward", "histc", "grad", "save", "load",
}  # fmt: skip
METHODS = {
    "pow", "sum", "sqrt", "mean", "exp", "abs", "max", "min", "square", "norm", "std", "var", "log", "dot", "argmax",
    "clamp", "float", "softmax", "sigmoid", "relu", "prod",
}  # fmt: skip
"""What nearly only tensors can do."""
STOPS = (
    cst.Break,
    cst.Continue,
    cst.Return,
    cst.Yield,
    cst.Raise,
    cst.While,
    cst.Try,
    cst.With,
    cst.FunctionDef,
    cst.Await,
)


@rule(
    "loop-over-tensor",
    "Python goes through the tensor one piece at a time, and each turn costs microseconds. One operation does all.",
    "phase1/theory1",
)
def loop_over_tensor(code: Code) -> Iterator[Spot]:
    """A loop over a dimension whose turns are independent and consist of tensor operations."""
    reported: list[cst.CSTNode] = []
    for loop in code.any_of((cst.For, *COMPREHENSIONS)):
        if any(code.holds(outer, loop) for outer in reported):
            continue
        parts = _parts(code, loop)
        if parts is None:
            continue
        target, iterated, body = parts
        if _goes_over_dimension(code, target, iterated, body) and _is_independent(code, loop, target, body):
            reported.append(loop)
            yield Spot(loop, _better(code, loop, body))


def _parts(code: Code, loop: cst.CSTNode) -> tuple[cst.CSTNode, cst.BaseExpression, cst.CSTNode] | None:
    """Target, iterable and body; of a comprehension only if its elements become a tensor or a number again."""
    if isinstance(loop, cst.For):
        return loop.target, loop.iter, loop.body
    call = code.parent(code.parent(loop))
    joined = isinstance(call, cst.Call) and code.qualified(call.func) in {
        "torch.stack", "torch.tensor", "torch.cat", "sum", "max", "min",
    }  # fmt: skip
    if not joined or isinstance(loop, cst.DictComp) or loop.for_in.ifs or loop.for_in.inner_for_in is not None:
        return None
    if not code.any_of((cst.Call, cst.BinaryOperation, cst.Comparison), loop.elt):
        return None  # pieces put together in another way
    return loop.for_in.target, loop.for_in.iter, loop.elt


def _goes_over_dimension(code: Code, target: cst.CSTNode, iterated: cst.BaseExpression, body: cst.CSTNode) -> bool:
    """Whether the loop counts through a tensor's size and takes one piece at a time, or iterates over tensors."""
    names = [name.value for name in target_names(target)]
    while isinstance(iterated, cst.Call) and dotted(iterated.func) == "enumerate" and iterated.args:
        iterated, names = iterated.args[0].value, names[1:]
    if isinstance(iterated, cst.Call) and dotted(iterated.func) == "range":
        sizes = [a.value for a in iterated.args]
        return len(sizes) == 1 and len(names) == 1 and _is_size(code, sizes[0]) and _takes_pieces(code, body, names[0])
    if isinstance(iterated, cst.Call) and dotted(iterated.func) == "zip":
        over = [a.value for a in iterated.args if a.keyword is None]
        return bool(over) and all(_is_plain_tensor(code, node) for node in over)
    return _is_plain_tensor(code, iterated)


def _is_plain_tensor(code: Code, node: cst.BaseExpression) -> bool:
    """Whether `node` is a tensor whose rows are gone through: not its pieces, its values or numbers in a loader."""
    if not code.is_tensor(node):
        return False
    for origin in code.origins(node):
        if isinstance(origin, cst.Call) and (
            method(origin) in {*CHUNKS, "unique", "parameters", "nonzero", "split"}
            or code.qualified(origin.func)
            in {"torch.randperm", "torch.linspace", "torch.arange", "torch.logspace", "torch.unique", "torch.tensor"}
        ):
            return False
    return True


def _is_size(code: Code, node: cst.BaseExpression) -> bool:
    """Whether `node` is the length of an axis."""
    match node:
        case cst.Call(func=cst.Name(value="len")):
            return code.is_tensor(argument(node, 0))
        case cst.Call() if method(node) == "size":
            return code.kind(receiver(node)) in {TENSOR, None}
        case cst.Subscript(value=cst.Attribute(attr=cst.Name(value="shape"), value=of)):
            return code.kind(of) in {TENSOR, None}
        case cst.Name():
            binding = code.binding(node)
            if binding is None or binding.value is None:
                return False
            value = binding.value
            if binding.part is not None and isinstance(value, cst.Tuple):
                return _is_size(code, value.elements[binding.part].value)
            if binding.part is not None:
                return _is_whole_shape(code, value)
            return not isinstance(value, cst.Name) and _is_size(code, value)
    return False


def _is_whole_shape(code: Code, node: cst.BaseExpression) -> bool:
    if isinstance(node, cst.Subscript):
        node = node.value
    if isinstance(node, cst.Call) and method(node) == "size":
        return code.kind(receiver(node)) in {TENSOR, None}
    return isinstance(node, cst.Attribute) and node.attr.value == "shape" and code.kind(node.value) in {TENSOR, None}


def _takes_pieces(code: Code, body: cst.CSTNode, name: str) -> bool:
    """Whether a tensor is indexed by the loop's variable, just so."""
    return any(
        code.kind(node.value) in {TENSOR, None}
        and any(
            isinstance(element.slice, cst.Index) and is_constant(element.slice.value, name) for element in node.slice
        )
        for node in code.all(cst.Subscript, body)
        if code.kind(node.value) == TENSOR
    )


def _is_independent(code: Code, loop: cst.CSTNode, target: cst.CSTNode, body: cst.CSTNode) -> bool:
    """Whether every turn does the same to its own piece: tensor operations, no state but sums, no way out."""
    if any(True for kind in STOPS for _ in code.all(kind, body)):
        return False
    if any(not _is_tensor_operation(code, call) for call in code.calls(body)):
        return False
    if isinstance(loop, cst.For) and (_carries(code, body) or not _keeps_something(code, body)):
        return False
    return not _reaches_neighbours(code, target, body)


def _is_tensor_operation(code: Code, call: cst.Call) -> bool:
    """Whether it has a batched form, or is a part of the loop's bookkeeping."""
    name = code.qualified(call.func)
    last = name.split(".")[-1] or method(call)
    if last in NO_BATCH or last.endswith("loss_fn"):
        return False
    if name in BUILTINS or name.startswith("math."):
        return True
    if name.startswith("torch."):
        return not name.startswith(
            ("torch.nn.Module", "torch.optim", "torch.utils", "torch.distributed", "torch.cuda")
        ) and (name.count(".") == 1 or name.startswith(("torch.nn.functional.", "torch.linalg.")))
    if method(call) in {"append", "item"}:
        return True
    if not isinstance(call.func, cst.Attribute):
        return False
    kind = code.kind(receiver(call))
    return kind == TENSOR or (kind is None and last in METHODS)


def _carries(code: Code, body: cst.CSTNode) -> bool:
    """Whether a turn uses what the turn before has computed: a name that is read before the body gives it a value."""
    assigned = [n for a in code.all(cst.Assign, body) for t in a.targets for n in target_names(t.target)]
    first = {}
    for name in assigned:
        first.setdefault(name.value, name)
    for assign in code.all(cst.AugAssign, body):
        if not isinstance(assign.operator, cst.AddAssign | cst.SubtractAssign):
            return True
    for name in code.all(cst.Name, body):
        if name.value in first and name is not first[name.value] and not _is_attribute_name(code, name):
            place = code.statement(first[name.value])
            if code.before(name, first[name.value]) or (
                code.holds(place, name) and not _is_sum(code, place, name.value)
            ):
                return True
    sums = {dotted(a.target) for a in code.all(cst.AugAssign, body)} - {""}
    return any(
        name.value in sums and not isinstance(code.statement(name), cst.AugAssign) and name.value not in first
        for name in code.all(cst.Name, body)
    )


def _is_attribute_name(code: Code, name: cst.Name) -> bool:
    outer = code.parent(name)
    return isinstance(outer, cst.Attribute) and outer.attr is name


def _is_sum(code: Code, statement: cst.CSTNode, name: str) -> bool:
    """`total = total + …`"""
    match statement:
        case cst.Assign(value=cst.BinaryOperation(left=left, operator=cst.Add() | cst.Subtract())):
            return is_constant(left, name)
    return False


def _keeps_something(code: Code, body: cst.CSTNode) -> bool:
    """Whether the turns add up to a tensor, a list or a number."""
    written = [t.target for a in code.all(cst.Assign, body) for t in a.targets]
    written += [a.target for a in code.all(cst.AugAssign, body)]
    stored = any(isinstance(t, cst.Subscript) and code.kind(t.value) in {TENSOR, None} for t in written)
    return (
        stored
        or any(True for _ in code.all(cst.AugAssign, body))
        or bool(code.methods("append", body))
        or any(_is_sum(code, a, dotted(a.targets[0].target)) for a in code.all(cst.Assign, body))
    )


def _reaches_neighbours(code: Code, target: cst.CSTNode, body: cst.CSTNode) -> bool:
    """Whether another turn's piece is used, `out[i - 1]`, or pieces of growing length, `x[:i]`; or a piece is blown up
    by broadcasting, `x[:, i, None]`: then the loop saves memory."""
    names = {name.value for name in target_names(target)}
    for node in code.all(cst.Subscript, body):
        for element in node.slice:
            part = element.slice
            inner = part.value if isinstance(part, cst.Index) else part
            if is_constant(inner, "None"):
                return True
            if not (isinstance(inner, cst.Name | cst.Subscript) or is_constant(inner)) and any(
                n.value in names for n in code.all(cst.Name, inner)
            ):
                return True
            if isinstance(inner, cst.Name) and code.kind(inner) not in {OTHER, TENSOR, None}:
                return True
    return False


def _better(code: Code, loop: cst.CSTNode, body: cst.CSTNode) -> str:
    """Which operation to look for, by what the loop does."""
    names = {method(call) or dotted(call.func).split(".")[-1] for call in code.calls(body)}
    if "dot" in names or "matmul" in names or any(True for _ in code.all(cst.MatrixMultiply, body)):
        return "a matrix product of the whole tensors, `a @ b` or `torch.einsum`"
    inner = [node for node in code.all(cst.For, body) if isinstance(node, LOOPS)]
    if inner:
        return "one expression with broadcasting, as `a[:, None] - b[None, :]`"
    if any(True for _ in code.all(cst.AugAssign, body)):
        return "the expression on the whole tensor, then `.sum(dim)` or `.mean(dim)`"
    return "the same expression on the whole tensor, with `dim=` where it reduces"
