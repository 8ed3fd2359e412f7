"""The rule about 64 bits that nobody meant."""

import re
from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import NUMPY, TENSOR, Code
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import argument, bound_by, is_constant, method, receiver

TAKE_ARRAYS = {"torch.from_numpy", "torch.tensor", "torch.as_tensor"}
EXACT = re.compile(r"64\b|double|gradcheck|expected|reference|exact")


@rule(
    "accidental-float64",
    "NumPy's floats have 64 bits, and PyTorch keeps them: modules in float32 refuse such an input.",
    "phase1/theory1",
)
def accidental_float64(code: Code) -> Iterator[Spot]:
    """A float64 array made a tensor without a cast, or `dtype=float`."""
    for call in code.calls():
        name = code.qualified(call.func)
        if name in TAKE_ARRAYS and _takes_float64(code, call):
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


def _takes_float64(code: Code, call: cst.Call) -> bool:
    """Whether a tensor is made of a float64 array, and nobody casts it or speaks of 64 bits."""
    is_float64 = bool(call.args) and _is_float64(code, call.args[0].value)
    return is_float64 and not _is_cast(code, call) and not _is_meant(code, call)


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
    "normal", "uniform", "random", "standard_normal", "rand", "randn", "exponential", "beta", "gamma", "laplace",
}  # fmt: skip
FLOAT_FUNCTIONS = {"sin", "cos", "tan", "exp", "log", "sqrt", "tanh", "log1p", "log2", "log10"}
KEEPS_TYPE = {
    "stack", "concatenate", "vstack", "hstack", "column_stack", "abs", "clip", "cumsum", "array", "asarray", "reshape",
    "mean", "std", "sum",
}  # fmt: skip
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
    names = bound_by(code.statement(call))
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
    names = bound_by(code.statement(call))
    return any(
        EXACT.search(code.text(code.statement(name))) is not None
        for name in code.all(cst.Name, scope)
        if name.value in names and not isinstance(code.statement(name), cst.FunctionDef | cst.ClassDef)
    )
