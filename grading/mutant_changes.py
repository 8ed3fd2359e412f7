"""What may be changed in one node of a syntax tree: the mistakes of a tired programmer, one at a time.

A change is a node to put in another's place. It need not make sense: what does not compile is dropped later, what
raises is found by the checkers at once.
"""

import ast
import re
from collections.abc import Callable, Iterator
from copy import copy
from itertools import pairwise

Changes = Iterator[ast.AST]

MODULES = {"F", "math", "nn", "np", "torch"}
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
}  # fmt: skip
COMMUTATIVE = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor)
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip


def _both_ways(*pairs: tuple[str, str]) -> dict[str, str]:
    return {a: b for pair in pairs for a, b in (pair, pair[::-1])}


NAMES = _both_ways(
    ("all", "any"), ("amax", "amin"), ("argmax", "argmin"), ("cat", "stack"), ("ceil", "floor"), ("cos", "sin"),
    ("cumprod", "cumsum"), ("exp", "log"), ("expm1", "log1p"), ("eval", "train"), ("log_softmax", "softmax"),
    ("max", "min"), ("maximum", "minimum"), ("mean", "sum"), ("new_ones", "new_zeros"), ("ones", "zeros"),
    ("ones_like", "zeros_like"), ("rand", "randn"), ("sigmoid", "tanh"), ("sqrt", "square"), ("tril", "triu"),
)  # fmt: skip
BUILTINS = ("all", "any", "max", "min")
KEYWORDS = _both_ways(("max", "min"))
VALUES = _both_ways(("float32", "float64"), ("int32", "int64"), ("indices", "values")) | {"mT": "T"}
TEXTS = _both_ways(("mean", "sum"), ("ij", "xy")) | {"cpu": "meta", "none": "mean"}
EINSUM = re.compile(r"([A-Za-z.]+)(,[A-Za-z.]+)*->[A-Za-z.]*")
IN_PLACE = {
    "abs", "add", "clamp", "div", "exp", "log", "masked_fill", "mul", "neg", "pow", "relu", "scatter", "sigmoid",
    "sqrt", "square", "squeeze", "sub", "tanh", "transpose", "tril", "triu", "unsqueeze",
}  # fmt: skip


def changes(node: ast.AST, parent: ast.AST) -> Changes:
    """Everything that may stand in the place of `node`."""
    for kinds, change in _RULES:
        if isinstance(node, kinds):
            yield from change(node, parent)


_RULES: list[tuple[tuple[type[ast.AST], ...], Callable[[ast.AST, ast.AST], Changes]]] = []


def _of(*kinds: type[ast.AST]) -> Callable[[Callable], Callable]:
    def register(change: Callable) -> Callable:
        _RULES.append((kinds, change))
        return change

    return register


def _like(node: ast.AST, **fields: object) -> ast.AST:
    """`node` with other fields."""
    new = copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _swaps(items: list) -> Iterator[list]:
    """`items` with two neighbours exchanged; a starred one stays."""
    for i, (a, b) in enumerate(pairwise(items)):
        if not any(isinstance(item, ast.Starred) for item in (a, b)):
            yield [*items[:i], b, a, *items[i + 2 :]]


def _without_one(items: list) -> Iterator[list]:
    for i in range(len(items)):
        yield items[:i] + items[i + 1 :]


# --- operators and constants


@_of(ast.BinOp)
def _arithmetic(node: ast.BinOp, parent: ast.AST) -> Changes:
    if type(node.op) in ARITHMETIC:
        yield _like(node, op=ARITHMETIC[type(node.op)]())
    yield node.left
    yield node.right
    if not isinstance(node.op, COMMUTATIVE):
        yield _like(node, left=node.right, right=node.left)


@_of(ast.AugAssign)
def _update(node: ast.AugAssign, parent: ast.AST) -> Changes:
    if type(node.op) in ARITHMETIC:
        yield _like(node, op=ARITHMETIC[type(node.op)]())
    yield ast.Assign([node.target], node.value, lineno=node.lineno)
    yield ast.Assign([node.target], ast.BinOp(node.target, node.op, node.value), lineno=node.lineno)


@_of(ast.Assign)
def _update_in_place(node: ast.Assign, parent: ast.AST) -> Changes:
    match node:
        case ast.Assign([ast.Name(name) as target], ast.BinOp(ast.Name(same), op, value)) if name == same:
            yield ast.AugAssign(target, op, value)


@_of(ast.UnaryOp)
def _operand(node: ast.UnaryOp, parent: ast.AST) -> Changes:
    yield node.operand


@_of(ast.Assign, ast.Return)
def _sign(node: ast.Assign | ast.Return, parent: ast.AST) -> Changes:
    if isinstance(node.value, ast.BinOp | ast.Call):
        yield _like(node, value=ast.UnaryOp(ast.USub(), node.value))


@_of(ast.Compare)
def _comparison(node: ast.Compare, parent: ast.AST) -> Changes:
    for i, op in enumerate(node.ops):
        for other in COMPARISONS[type(op)]:
            yield _like(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])


@_of(ast.BoolOp)
def _logic(node: ast.BoolOp, parent: ast.AST) -> Changes:
    yield _like(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    for values in _without_one(node.values):
        yield _like(node, values=values) if len(values) > 1 else values[0]


@_of(ast.Constant)
def _constant(node: ast.Constant, parent: ast.AST) -> Changes:
    match node.value:
        case bool(value):
            yield ast.Constant(not value)
        case int(value) | float(value):
            yield from map(ast.Constant, (value + 1, value - 1, -value))
        case None:
            yield ast.Constant(0)
        case str(text) if text in TEXTS:
            yield ast.Constant(TEXTS[text])
        case str(text) if EINSUM.fullmatch(text.replace(" ", "")):
            yield from map(ast.Constant, _einsums(text.replace(" ", "")))


def _einsums(text: str) -> Iterator[str]:
    """Two neighbouring letters of a term exchanged, or an axis of the result summed away."""
    for i, (a, b) in enumerate(pairwise(text)):
        if a.isalpha() and b.isalpha():
            yield text[:i] + b + a + text[i + 2 :]
    inputs, result = text.split("->")
    for i in range(len(result)):
        yield f"{inputs}->{result[:i]}{result[i + 1 :]}"


# --- values


@_of(ast.Attribute)
def _attribute(node: ast.Attribute, parent: ast.AST) -> Changes:
    called = isinstance(parent, ast.Call) and parent.func is node
    table = NAMES if called else VALUES
    if node.attr in table:
        yield _like(node, attr=table[node.attr])
    if node.attr in {"T", "mT", "data"} and isinstance(node.ctx, ast.Load):
        yield node.value
    if called and node.attr.endswith("_") and not node.attr.startswith("_"):
        yield _like(node, attr=node.attr.removesuffix("_"))
    if called and node.attr in IN_PLACE and isinstance(node.value, ast.Name) and not _is_home(node.value):
        yield _like(node, attr=f"{node.attr}_")


@_of(ast.Name)
def _builtin(node: ast.Name, parent: ast.AST) -> Changes:
    if node.id in BUILTINS and isinstance(parent, ast.Call) and parent.func is node:
        yield ast.Name(NAMES[node.id])
    if node.id in {"dim", "axis"} and isinstance(parent, ast.Call | ast.keyword):
        yield from map(ast.Constant, (0, -1))


@_of(ast.Tuple, ast.List)
def _order(node: ast.Tuple | ast.List, parent: ast.AST) -> Changes:
    if isinstance(node.ctx, ast.Load):
        for elements in _swaps(node.elts):
            yield _like(node, elts=elements)


@_of(ast.Subscript)
def _whole(node: ast.Subscript, parent: ast.AST) -> Changes:
    if isinstance(node.ctx, ast.Load):
        yield node.value


@_of(ast.Slice)
def _bounds(node: ast.Slice, parent: ast.AST) -> Changes:
    for field in ("lower", "upper", "step"):
        if getattr(node, field) is not None:
            yield _like(node, **{field: None})


# --- calls


@_of(ast.Call)
def _arguments(node: ast.Call, parent: ast.AST) -> Changes:
    for args in _swaps(node.args):
        yield _like(node, args=args)
    for keywords in _without_one(node.keywords):
        yield _like(node, keywords=keywords)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg in KEYWORDS:
            other = _like(keyword, arg=KEYWORDS[keyword.arg])
            yield _like(node, keywords=[*node.keywords[:i], other, *node.keywords[i + 1 :]])
    if node.args and isinstance(node.func, ast.Attribute) and not _is_home(node.func.value):
        yield _like(node, args=node.args[:-1])


@_of(ast.Call)
def _not_called(node: ast.Call, parent: ast.AST) -> Changes:
    """`x.detach()` → `x`, `torch.relu(x)` and `len(x)` → `x`."""
    if isinstance(parent, ast.Expr):
        return  # the same as the statement removed
    if isinstance(node.func, ast.Attribute) and not _is_home(node.func.value):
        yield node.func.value
    elif node.args and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]


def _is_home(node: ast.expr) -> bool:
    """Whether functions live there: a module, `super()`, or what is named as a class is."""
    match node:
        case ast.Attribute(value=inner):
            return _is_home(inner)
        case ast.Call(func=ast.Name("super")):
            return True
        case ast.Name(name):
            return name in MODULES or name[0].isupper()
    return False


# --- statements


@_of(ast.Expr, ast.AugAssign, ast.Delete, ast.Assert, ast.Raise, ast.Break, ast.Continue)
def _removed(node: ast.stmt, parent: ast.AST) -> Changes:
    yield ast.Pass()


@_of(ast.Assign, ast.AnnAssign)
def _not_assigned(node: ast.Assign | ast.AnnAssign, parent: ast.AST) -> Changes:
    """Where something is left to work with: not the first value of a local name."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    if isinstance(parent, ast.ClassDef) or not all(isinstance(t, ast.Name) and t.id not in read for t in targets):
        yield ast.Pass()


@_of(ast.FunctionDef)
def _method_removed(node: ast.FunctionDef, parent: ast.AST) -> Changes:
    if isinstance(parent, ast.ClassDef):
        yield ast.Pass()


@_of(ast.FunctionDef, ast.ClassDef)
def _undecorated(node: ast.FunctionDef | ast.ClassDef, parent: ast.AST) -> Changes:
    for decorators in _without_one(node.decorator_list):
        yield _like(node, decorator_list=decorators)


@_of(ast.Raise)
def _other_exception(node: ast.Raise, parent: ast.AST) -> Changes:
    if isinstance(node.exc, ast.Call):
        yield _like(node, exc=_like(node.exc, func=ast.Name("Exception")))


@_of(ast.If, ast.While)
def _condition(node: ast.If | ast.While, parent: ast.AST) -> Changes:
    yield _like(node, test=ast.UnaryOp(ast.Not(), node.test))
    yield _like(node, test=ast.Constant(True))
    if len(node.body) > 1 or node.orelse:  # else its one statement is removed
        yield _like(node, test=ast.Constant(False))


@_of(ast.IfExp)
def _choice(node: ast.IfExp, parent: ast.AST) -> Changes:
    yield from (node.body, node.orelse, _like(node, body=node.orelse, orelse=node.body))


@_of(ast.For)
def _rounds(node: ast.For, parent: ast.AST) -> Changes:
    """No round at all, or the first alone."""
    yield _like(node, iter=ast.Tuple([]))
    first = ast.Slice(upper=ast.Constant(1))
    yield _like(node, iter=ast.Subscript(ast.Call(ast.Name("list"), [node.iter], []), first))


@_of(ast.comprehension)
def _unfiltered(node: ast.comprehension, parent: ast.AST) -> Changes:
    if node.ifs:
        yield _like(node, ifs=[])


@_of(ast.With)
def _no_context(node: ast.With, parent: ast.AST) -> Changes:
    if not any(item.optional_vars for item in node.items):
        yield ast.If(ast.Constant(True), node.body, [])
