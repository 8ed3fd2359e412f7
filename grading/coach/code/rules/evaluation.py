"""Rules about evaluation: the model's mode, and the graph that nobody needs."""

import re
from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import LOADER, LOSS, MODULE, WRAPPERS, Code, conventional
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import COMPREHENSIONS, argument, dotted, is_constant, method, receiver, target_names
from grading.coach.code.training import (
    GRAD_OFF,
    backwards,
    differentiated,
    hand_updates,
    records_nothing,
    steps,
)

PREDICTIONS = {"argmax", "topk", "softmax", "sigmoid", "eq", "ne", "item", "tolist", "sign", "update"}
CONTRACT = re.compile(r"eval(uation)?[- ]mode|mode (is|was) set|already (in|set)|prepared", re.IGNORECASE)


@rule(
    "no-eval",
    "In training mode dropout drops and batch norm uses (and changes) the statistics of the batch: the measured number "
    "is not the model's.",
    "phase1/theory3",
)
def no_eval(code: Code) -> Iterator[Spot]:
    """A metric over a loader, from a model that nothing puts into evaluation mode."""
    for loop, call in evaluations(code):
        if not _mode_is_set(code, loop):
            yield Spot(loop, f"{code.text(call.func)}.eval()  # before the loop")


@rule(
    "no-no-grad",
    "Autograd records a graph here that nobody goes back through: time and memory for nothing.",
    "phase1/theory1",
)
def no_no_grad(code: Code) -> Iterator[Spot]:
    """An evaluation or an update by hand on the tape, or a `no_grad` that has no effect."""
    useless = list(_without_effect(code))
    yield from useless
    scopes = {code.scope(spot.node) for spot in useless}
    for loop, _ in evaluations(code):
        if code.scope(loop) not in scopes and not records_nothing(code, loop) and not _graph_is_used(code, loop):
            yield Spot(loop, f"with torch.no_grad():  # around: {code.text(loop).split(':')[0][:60]}")
    for node in hand_updates(code, code.module):
        if code.scope(node) not in scopes and not _is_off_tape(code, node):
            why = (
                "An update on the tape: for a parameter in place PyTorch refuses it, and `w = w - …` makes w a result."
            )
            yield Spot(node, f"with torch.no_grad(): {code.text(node)}", why)


def evaluations(code: Code) -> Iterator[tuple[cst.CSTNode, cst.Call]]:
    """The loops over a loader that only measure, each with the call of the model."""
    for loop in code.any_of((cst.For, *COMPREHENSIONS)):
        head = loop if isinstance(loop, cst.For) else loop.for_in
        body = loop.body if isinstance(loop, cst.For) else loop
        call = _model_call(code, body, head.target) if _gives_batches(code, head) else None
        if call is not None and _measures(code, body, loop) and not code.reaches(body, lambda n: _trains(code, n)):
            yield loop, call


def _gives_batches(code: Code, head: cst.For | cst.CompFor) -> bool:
    """Whether the loop is over a loader, by kind or name, or over pairs of something that was handed in."""
    node = head.iter
    while isinstance(node, cst.Call) and dotted(node.func).split(".")[-1] in {*WRAPPERS, "enumerate"} and node.args:
        node = node.args[0].value
    if code.kind(node) == LOADER or conventional(dotted(node).split(".")[-1]) == LOADER:
        return True
    return isinstance(node, cst.Name) and isinstance(head.target, cst.Tuple) and len(target_names(head.target)) == 2


def _model_call(code: Code, body: cst.CSTNode, target: cst.CSTNode) -> cst.Call | None:
    """The call of a module on what the loop gives to `target`."""
    given = {name.value for name in target_names(target)}
    for assign in code.all(cst.Assign, body):
        if given & {name.value for name in code.all(cst.Name, assign.value)}:
            given |= {name.value for t in assign.targets for name in target_names(t.target)}
    for call in code.calls(body):
        names = {name.value for a in call.args for name in code.all(cst.Name, a)}
        if code.kind(call.func) == MODULE and given & names and method(call) not in {"train", "eval", "to"}:
            return call
    return None


def _trains(code: Code, node: cst.CSTNode) -> bool:
    if backwards(code, node) or steps(code, node):
        return True
    return any(code.qualified(c.func) == "torch.autograd.grad" or "train" in method(c) for c in code.calls(node))


def _measures(code: Code, body: cst.CSTNode, loop: cst.CSTNode) -> bool:
    """Whether the loop ends in predictions or numbers; a sum of losses that stays on the tape may be wanted there."""
    for call in code.calls(code.statement(loop) if isinstance(loop, COMPREHENSIONS) else body):
        name = method(call) or dotted(call.func)
        reduced = name == "max" and (argument(call, 0) or argument(call, None, "dim"))
        if name in PREDICTIONS or (reduced and code.kind(call.func.value if method(call) else None) != LOSS):
            return True
        if name in {"float", "accuracy"} or code.qualified(call.func) == "torch.max":
            return True
    return any(
        isinstance(c.operator, cst.Equal) and not is_constant(c.comparator, "0")
        for comparison in code.all(cst.Comparison, body)
        for c in comparison.comparisons
    )


def _mode_is_set(code: Code, node: cst.CSTNode, depth: int = 3) -> bool:
    """Whether somebody sets a mode before: this function, those around it, what they call, or their callers."""
    for scope in code.scopes(node):
        own = list(code.own(cst.Call, scope))
        if any(_sets_mode(code, call) for call in own) or _promises_mode(scope):
            return True
        if not backwards(code, scope) and any(
            method(c) == "train" and not c.args and code.before(c, node) for c in own
        ):
            return True  # training mode is meant, as in Monte Carlo dropout
        assigned = (t.target for a in code.own(cst.Assign, scope) for t in a.targets)
        if any(dotted(target).endswith(".training") for target in assigned):
            return True
    owner, scope = code.class_of(node), code.scope(node)
    if owner is not None and any(_sets_mode(code, call) for call in code.calls(owner)):
        return True
    if depth == 0 or not isinstance(scope, cst.FunctionDef):
        return False
    return any(_mode_is_set(code, call, depth - 1) for call in code.callers(scope) if not code.holds(scope, call))


def _sets_mode(code: Code, call: cst.Call) -> bool:
    name = method(call)
    if name == "eval" or (name == "train" and call.args and not is_constant(call.args[0].value, "True")):
        return True
    functions = code.called(call)
    if any(code.reaches(f, lambda n: any(_is_mode_call(c) for c in code.calls(n))) for f in functions):
        return True
    called = dotted(call.func)
    return not functions and any(part in called for part in ("eval_mode", "evaluating", "evaluation_mode", "set_mode"))


def _is_mode_call(call: cst.Call) -> bool:
    return method(call) == "eval" or (method(call) == "train" and bool(call.args))


def _promises_mode(scope: cst.CSTNode) -> bool:
    docstring = scope.get_docstring() if isinstance(scope, cst.FunctionDef) else None
    return bool(docstring and CONTRACT.search(docstring))


def _graph_is_used(code: Code, loop: cst.CSTNode) -> bool:
    """Whether somebody goes back through what the loop computes, or wants gradients of inputs."""
    scope = code.scope(loop)
    bound = {name.value for a in code.all(cst.Assign, loop) for t in a.targets for name in target_names(t.target)}
    bound |= {dotted(a.target) for a in code.all(cst.AugAssign, loop)}
    bound |= {dotted(receiver(call)) for call in code.methods("append", loop)}
    return bool(bound & differentiated(code, scope)) or "requires_grad" in code.text(loop)


def _without_effect(code: Code) -> Iterator[Spot]:
    """`with torch.no_grad:`, and a `torch.no_grad()` that stands alone."""
    for node in (*code.all(cst.WithItem), *code.all(cst.Expr)):
        value = node.item if isinstance(node, cst.WithItem) else node.value
        name = code.qualified(value.func if isinstance(value, cst.Call) else value)
        if name in GRAD_OFF and not (isinstance(node, cst.WithItem) and isinstance(value, cst.Call)):
            why = "This turns nothing off: `no_grad` is a context, which is made by calling it and entered by `with`."
            yield Spot(node, f"with {code.text(value).removesuffix('()')}():", why)


def _is_off_tape(code: Code, node: cst.CSTNode) -> bool:
    target = node.target if isinstance(node, cst.AugAssign) else None
    if isinstance(node, cst.Call):
        target = receiver(node)
    elif isinstance(node, cst.Assign):
        target = node.targets[0].target
    return ".data" in code.text(target) or ".data" in code.text(node) or records_nothing(code, node)
