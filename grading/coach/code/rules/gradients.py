"""Rules about gradients: those that add up, and those that nobody wants."""

from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import MODULE, OPTIMIZER, Code
from grading.coach.code.names import parameters
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import argument, bound_by, dotted, is_constant, method, receiver
from grading.coach.code.training import (
    backwards,
    clears,
    gradients_in,
    hand_updates,
    is_step,
    loop_around,
    steps,
)


@rule(
    "no-zero-grad",
    "backward() adds to the gradients that are there. Nothing sets them to zero, so each step follows the sum of all "
    "gradients since the start.",
    "phase1/theory3",
)
def no_zero_grad(code: Code) -> Iterator[Spot]:
    """A loop, or a function for one step, with backward and an update, and nothing that clears."""
    for scope in [code.module, *code.all(cst.FunctionDef)]:
        passes = [call for call in backwards(code, scope) if code.scope(call) is scope]
        updates = [u for u in (*steps(code, scope), *hand_updates(code, scope)) if code.scope(u) is scope]
        if passes and updates and _goes_on(code, scope, passes[-1], updates[-1]):
            yield Spot(passes[-1], f"{_clearing(code, updates)}  # before: {code.text(passes[-1])}")


def _clearing(code: Code, updates: list[cst.CSTNode]) -> str:
    """The line that is missing, with the learner's names."""
    stepped = (u for u in updates if isinstance(u, cst.Call) and is_step(code, u))
    optimizer = next((_owner(code, update) for update in stepped), None)
    return f"{optimizer}.zero_grad()" if optimizer else f"{_owner(code, updates[0])}.grad = None"


def _cleared(code: Code, scope: cst.FunctionDef) -> bool:
    """Whether gradients are cleared in a function, in what it calls, or by those who call it."""
    if code.reaches(scope, lambda node: clears(code, node)) or _hands_over(code, scope):
        return True
    return any(code.reaches(code.scope(call), lambda node: clears(code, node)) for call in code.callers(scope))


def _hands_over(code: Code, node: cst.CSTNode) -> bool:
    """Whether the optimizer is handed to something that cannot be looked into."""
    for call in code.own(cst.Call, node):
        plain = not code.called(call) and not is_step(code, call) and isinstance(call.func, cst.Name)
        if plain and any(code.kind(a.value) == OPTIMIZER for a in call.args) and call.func.value[0].islower():
            return code.qualified(call.func) not in {"print", "isinstance", "len", "id", "type"}
    return False


def _goes_on(code: Code, scope: cst.CSTNode, passed: cst.Call, update: cst.CSTNode) -> bool:
    """Whether the same gradients are met again, not cleared: by a loop's next turn, or the function's next call."""
    loop = loop_around(code, passed)
    outer = loop
    while outer is not None and not code.holds(outer.body, update):
        outer = loop_around(code, outer)
    if outer is not None:
        cleared = code.reaches(outer.body, lambda node: clears(code, node)) or _hands_over(code, outer.body)
        return not cleared and not _made_anew(code, outer, update)
    if loop is not None or not isinstance(scope, cst.FunctionDef) or _cleared(code, scope):
        return False
    owner = _owner(code, update)
    names = {p.name.value for p in parameters(scope)} | {"self"}
    return owner.split(".")[0] in names and _is_repeated(code, scope)


def _owner(code: Code, update: cst.CSTNode) -> str:
    """The optimizer, or the parameter that is updated by hand, by its dotted name."""
    if isinstance(update, cst.Call):
        of = receiver(update)
        if is_step(code, update) and code.kind(of) != OPTIMIZER:
            of = argument(update, 0)
        return dotted(of)
    return dotted(update.target if isinstance(update, cst.AugAssign) else update.targets[0].target)


def _is_repeated(code: Code, function: cst.FunctionDef) -> bool:
    """Whether a function is called in loops, as far as its callers are known, or by its name is meant to be."""
    callers = code.callers(function)
    if callers:
        return any(loop_around(code, call) for call in callers)
    return any(part in function.name.value for part in ("step", "train", "update"))


def _made_anew(code: Code, loop: cst.CSTNode, update: cst.CSTNode) -> bool:
    """Whether each turn of the loop makes its own optimizer or parameter."""
    owner = _owner(code, update)
    return any(owner in bound_by(assign) for assign in code.all(cst.Assign, loop.body) if assign is not update)


@rule(
    "requires-grad-on-input",
    "Only parameters learn. A batch that requires gradients costs memory and a part of the backward pass, and its "
    "gradient is used by nobody.",
    "phase1/theory1",
)
def requires_grad_on_input(code: Code) -> Iterator[Spot]:
    """A batch, or data that goes into a data set, that asks for gradients while a model is trained."""
    for node, name in _asks_for_gradient(code):
        scope = code.scope(node)
        if not name or _gradient_is_used(code, scope, name):
            continue
        if _is_trained_on(code, node, scope, name) or _goes_into_data_set(code, scope, name):
            yield Spot(node, _without_gradient(code, node, name))


def _asks_for_gradient(code: Code) -> Iterator[tuple[cst.CSTNode, str]]:
    """Places that say `requires_grad`, with the name of the tensor."""
    for assign in code.all(cst.Assign):
        target = assign.targets[0].target
        if dotted(target).endswith(".requires_grad") and is_constant(assign.value, "True"):
            yield assign, dotted(target.value)
    for call in code.calls():
        asks = is_constant(argument(call, None, "requires_grad"), "True")
        if method(call) == "requires_grad_" and not is_constant(argument(call, 0), "False"):
            yield call, dotted(receiver(call)) or code.assigned_to(call)
        elif asks and code.qualified(call.func).startswith("torch.") and "nn." not in code.qualified(call.func):
            yield call, code.assigned_to(call)


def _gradient_is_used(code: Code, scope: cst.CSTNode, name: str) -> bool:
    """Whether anybody reads the gradient of `name`, differentiates by hand, or lets an optimizer move it."""
    if name in gradients_in(code, scope):
        return True
    for call in code.calls(scope):
        called = code.qualified(call.func)
        if called.split(".")[-1] in {"grad", "gradcheck", "gradgradcheck", "jacobian", "hessian", "retain_grad"}:
            return True
        if code.kind(call) == OPTIMIZER and any(
            name == dotted(n) for n in code.any_of((cst.Name, cst.Attribute), call)
        ):
            return True
    return False


def _is_trained_on(code: Code, node: cst.CSTNode, scope: cst.CSTNode, name: str) -> bool:
    """Whether a model is called on `name` in a place that also makes updates."""
    fed = any(
        code.kind(call.func) == MODULE and any(_is_name(code, a.value, name) for a in call.args)
        for call in code.calls(scope)
    )
    return fed and bool(backwards(code, scope)) and bool(steps(code, scope))


def _is_name(code: Code, node: cst.CSTNode, name: str) -> bool:
    return name in {dotted(n) for n in code.any_of((cst.Name, cst.Attribute), node)}


def _goes_into_data_set(code: Code, scope: cst.CSTNode, name: str) -> bool:
    """Whether `name` is handed to a `TensorDataset` or a loader, or is what a data set's item is made of."""
    makers = {"torch.utils.data.TensorDataset", "torch.utils.data.DataLoader"}
    if any(
        code.qualified(call.func) in makers and any(_is_name(code, a.value, name) for a in call.args)
        for call in code.calls(scope)
    ):
        return True
    if not isinstance(scope, cst.FunctionDef) or scope.name.value != "__getitem__":
        return False
    return any(r.value is not None and _is_name(code, r.value, name) for r in code.own(cst.Return, scope))


def _without_gradient(code: Code, node: cst.CSTNode, name: str) -> str:
    if isinstance(node, cst.Assign) or (method(node) == "requires_grad_" and isinstance(code.parent(node), cst.Expr)):
        return f"nothing: leave `{name}` as it is"
    text = code.text(code.statement(node))
    for part in (", requires_grad=True", ".requires_grad_(True)", ".requires_grad_()"):
        text = text.replace(part, "")
    return text
