"""Rules about single tensors: `.data`, the device they are made on, and their number of bits."""

import re
from collections.abc import Iterator

import libcst as cst

from grading.coach.code.flow import LOSS, MODULE, NUMPY, TENSOR, Code, parameters
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import argument, dotted, is_constant, method, receiver, target_names
from grading.coach.code.training import gradients_in

MAKERS = {
    "zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "rand", "randn", "randint", "randperm", "eye",
    "tensor", "as_tensor", "tril_indices", "triu_indices",
}  # fmt: skip
KEEPS_DEVICE = {
    "tril",
    "triu",
    "exp",
    "cos",
    "sin",
    "float",
    "bool",
    "long",
    "view",
    "reshape",
    "unsqueeze",
    "expand",
    "log",
}
COMBINING = {
    "cat", "stack", "where", "matmul", "mm", "bmm", "add", "mul", "sub", "div", "masked_fill", "einsum", "outer", "concat",
    "hstack", "vstack", "maximum", "minimum",
}  # fmt: skip
IN_PLACE = {"index_add_", "scatter_", "scatter_add_", "add_", "mul_", "sub_", "masked_fill_", "index_add"}
OFF_DEVICE_CLASSES = {"Dataset", "IterableDataset", "Sampler", "TensorDataset"}
EXACT = re.compile(r"64\b|double|gradcheck|expected|reference|exact")


@rule(
    "data-attribute",
    "`.data` goes behind autograd's back: what you change through it is not noticed, and gradients are silently wrong.",
    "phase1/theory1",
)
def data_attribute(code: Code) -> Iterator[Spot]:
    """`tensor.data`, read or written."""
    for node in code.all(cst.Attribute):
        called = isinstance(code.parent(node), cst.Call) and code.parent(node).func is node
        if node.attr.value != "data" or called or not _is_tensor(code, node):
            continue
        statement = code.statement(node)
        targets = [statement.target] if isinstance(statement, cst.AugAssign) else []
        targets += [t.target for t in statement.targets] if isinstance(statement, cst.Assign) else []
        text = code.text(statement).replace(code.text(node), code.text(node.value))
        changes = any(code.holds(target, node) for target in targets) or _in_place(code, node)
        detached = code.text(statement).replace(code.text(node), f"{code.text(node.value)}.detach()")
        yield Spot(node, f"with torch.no_grad(): {text}" if changes else detached.split("\n")[0])


def _is_tensor(code: Code, node: cst.Attribute) -> bool:
    """Whether what has the `.data` is a tensor: by where it comes from, or by what else is done with it."""
    of, name = node.value, dotted(node.value)
    if name == "self" or any(
        "data" in code.attributes(owner) for owner in code.ancestors(node) if isinstance(owner, cst.ClassDef)
    ):
        return False
    if code.kind(of) is not None:
        return code.kind(of) == TENSOR
    return _in_place(code, node) or (bool(name) and name in gradients_in(code, code.scope(node)))


def _in_place(code: Code, node: cst.Attribute) -> bool:
    """Whether a method that changes a tensor is called on it: `p.data.mul_(2)`."""
    outer = code.parent(node)
    name = outer.attr.value if isinstance(outer, cst.Attribute) and outer.value is node else ""
    return name.endswith("_") and not name.endswith("__")


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


@rule(
    "accidental-float64",
    "NumPy's floats have 64 bits, and PyTorch keeps them: modules in float32 refuse such an input, or all becomes slow.",
    "phase1/theory1",
)
def accidental_float64(code: Code) -> Iterator[Spot]:
    """A float64 array made a tensor without a cast, or `dtype=float`."""
    for call in code.calls():
        name = code.qualified(call.func)
        if name in {"torch.from_numpy", "torch.tensor", "torch.as_tensor"} and call.args:
            if _is_float64(code, call.args[0].value) and not _is_cast(code, call) and not _is_meant(code, call):
                cast = ", dtype=torch.float32)" if name != "torch.from_numpy" else ").float()"
                yield Spot(call, code.text(call)[:-1] + cast)
        dtype = argument(call, None, "dtype")
        on_tensor = (method(call) in {"to", "type"} and code.kind(receiver(call)) == TENSOR) or method(call).startswith(
            "new_"
        )
        if on_tensor and dtype is None:
            dtype = argument(call, 0)
        if (name.startswith("torch.") or on_tensor) and _is_python_float(code, dtype):
            why = "In PyTorch `float` as a dtype means 64 bits, not the float32 of everything else."
            yield Spot(call, code.text(call).replace(code.text(dtype), "torch.float32"), why)


def _is_python_float(code: Code, node: cst.CSTNode | None) -> bool:
    return is_constant(node, "float") or (
        node is not None and code.qualified(node) in {"numpy.float64", "numpy.double"}
    )


FLOAT_MAKERS = {
    "numpy.random.rand", "numpy.random.randn", "numpy.random.normal", "numpy.random.uniform", "numpy.random.random",
    "numpy.random.random_sample", "numpy.random.standard_normal", "numpy.random.exponential", "numpy.random.beta",
    "numpy.linspace", "numpy.logspace", "numpy.zeros", "numpy.ones", "numpy.empty", "numpy.eye", "numpy.identity",
    "numpy.loadtxt", "numpy.genfromtxt", "numpy.float64",
}  # fmt: skip
FLOAT_DRAWS = {
    "normal",
    "uniform",
    "random",
    "standard_normal",
    "rand",
    "randn",
    "exponential",
    "beta",
    "gamma",
    "laplace",
}
FLOAT_FUNCTIONS = {"sin", "cos", "tan", "exp", "log", "sqrt", "tanh", "log1p", "log2", "log10"}
KEEPS_TYPE = {
    "stack",
    "concatenate",
    "vstack",
    "hstack",
    "column_stack",
    "abs",
    "clip",
    "cumsum",
    "array",
    "asarray",
    "reshape",
    "mean",
    "std",
    "sum",
}
KEEPING_METHODS = {"reshape", "copy", "transpose", "ravel", "flatten", "clip", "sum", "cumsum", "round"}


def _is_float64(code: Code, node: cst.BaseExpression, depth: int = 12) -> bool:
    """Whether `node` is certainly a NumPy array of 64-bit floats."""
    if depth == 0:
        return False
    match node:
        case cst.Name() | cst.Attribute():
            if _is_from_scikit(code, node):
                return True
            if isinstance(node, cst.Attribute) and node.attr.value == "T":
                return _is_float64(code, node.value, depth - 1)
            origins = code.origins(node)
            return bool(origins) and all(o is not node and _is_float64(code, o, depth - 1) for o in origins)
        case cst.BinaryOperation(left=a, right=b):
            divides = isinstance(node.operator, cst.Divide) and NUMPY in {code.kind(a), code.kind(b)}
            either = _is_float64(code, a, depth - 1) or _is_float64(code, b, depth - 1)
            return either or (divides and _is_integer_array(code, a))
        case cst.UnaryOperation(expression=a) | cst.Subscript(value=a):
            return _is_float64(code, a, depth - 1)
        case cst.Call():
            return _call_is_float64(code, node, depth)
    return False


def _call_is_float64(code: Code, call: cst.Call, depth: int) -> bool:
    name = code.qualified(call.func)
    last = name.split(".")[-1] or method(call)
    dtype = argument(call, 1 if last in {"zeros", "ones", "empty", "array", "asarray"} else None, "dtype")
    if dtype is not None:
        return name.startswith("numpy.") and _is_python_float(code, dtype)
    if name in FLOAT_MAKERS:
        return True
    if name.startswith("numpy.") and last == "arange":
        return any(isinstance(part, cst.Float) for a in call.args for part in (a.value,))
    if name in {"numpy.array", "numpy.asarray"} and call.args:
        first = call.args[0].value
        return (
            any(True for _ in code.all(cst.Float, first))
            if isinstance(first, cst.List)
            else _is_float64(code, first, depth - 1)
        )
    if name.startswith("numpy.") and last in FLOAT_FUNCTIONS | KEEPS_TYPE and call.args:
        first = call.args[0].value
        if isinstance(first, cst.List | cst.Tuple):
            return bool(first.elements) and all(_is_float64(code, e.value, depth - 1) for e in first.elements)
        return _is_float64(code, first, depth - 1) or (last in FLOAT_FUNCTIONS and _is_integer_array(code, first))
    if not isinstance(call.func, cst.Attribute):
        return False
    of = receiver(call)
    if last == "astype":
        return bool(call.args) and _is_python_float(code, call.args[0].value)
    if last in FLOAT_DRAWS and _is_generator(code, of):
        return True
    return last in KEEPING_METHODS | {"mean", "std"} and _is_float64(code, of, depth - 1)


def _is_from_scikit(code: Code, node: cst.Name | cst.Attribute) -> bool:
    """Whether it is the features that scikit-learn gives: `load_digits().data`, or `x` of `x, y = make_moons()`."""
    if isinstance(node, cst.Attribute):
        makers = code.origins(node.value) if node.attr.value == "data" else []
    else:
        binding = code.binding(node)
        makers = [binding.value] if binding is not None and binding.part == 0 else []
    names = [code.qualified(maker.func) for maker in makers if isinstance(maker, cst.Call)]
    return bool(names) and all(re.match(r"sklearn\.datasets\.(load|make)_", name) for name in names)


def _is_generator(code: Code, node: cst.BaseExpression) -> bool:
    makers = [o for o in code.origins(node) if isinstance(o, cst.Call)]
    return bool(makers) and all(
        code.qualified(m.func) in {"numpy.random.default_rng", "numpy.random.RandomState"} for m in makers
    )


def _is_integer_array(code: Code, node: cst.BaseExpression) -> bool:
    made = [o for o in code.origins(node) if isinstance(o, cst.Call)]
    return bool(made) and all(code.qualified(m.func) in {"numpy.arange", "numpy.random.randint"} for m in made)


def _is_cast(code: Code, call: cst.Call) -> bool:
    """Whether the new tensor's type is said: here, right after, or anywhere it is used by its name."""
    if argument(call, 1, "dtype") is not None and code.qualified(call.func) != "torch.from_numpy":
        return True
    node = call
    casts = {"float", "to", "type", "half", "bfloat16", "type_as", "long", "int", "bool", "double"}
    while isinstance(outer := code.parent(node), cst.Attribute) and isinstance(code.parent(outer), cst.Call):
        if outer.attr.value in casts:
            return True
        node = code.parent(outer)
    statement = code.statement(call)
    names = (
        [n.value for t in statement.targets for n in target_names(t.target)]
        if isinstance(statement, cst.Assign)
        else []
    )
    return any(
        method(other) in casts and any(n.value in names for n in code.all(cst.Name, receiver(other)))
        for other in code.calls(code.scope(call))
    )


def _is_meant(code: Code, call: cst.Call) -> bool:
    """Whether 64 bits are spoken of where the tensor is made or used."""
    scope = code.scope(call)
    near = code.text(scope) if isinstance(scope, cst.FunctionDef) else code.text(code.statement(call))
    if EXACT.search(near):
        return True
    if any(method(other) == "double" for other in code.own(cst.Call, scope)):
        return True
    statement = code.statement(call)
    names = (
        {n.value for t in statement.targets for n in target_names(t.target)}
        if isinstance(statement, cst.Assign)
        else set()
    )
    return any(
        EXACT.search(code.text(code.statement(name))) is not None
        for name in code.all(cst.Name, scope)
        if name.value in names and not isinstance(code.statement(name), cst.FunctionDef | cst.ClassDef)
    )
