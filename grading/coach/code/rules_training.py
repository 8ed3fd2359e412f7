"""Rules about the training loop: gradients that add up, losses that are kept, batches that are not parameters."""

import re
from collections.abc import Iterator

import libcst as cst

from grading.coach.code.flow import LOSS, MODULE, OPTIMIZER, TENSOR, Code, parameters
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import argument, dotted, is_constant, method, receiver, target_names
from grading.coach.code.training import (
    backwards,
    clears,
    differentiated,
    gradients_in,
    hand_updates,
    is_conditional,
    is_detached,
    is_step,
    loop_around,
    records_nothing,
    steps,
    training_loop,
)

FEW = 10
"""So few turns are a demonstration, and no one waits for them."""


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
            better = "optimizer.zero_grad()" if steps(code, scope) else "w.grad = None"
            update = next((u for u in updates if isinstance(u, cst.Call) and is_step(code, u)), None)
            if update is not None:
                owner = receiver(update) if code.kind(receiver(update)) == OPTIMIZER else argument(update, 0)
                better = f"{code.text(owner)}.zero_grad()"
            yield Spot(passes[-1], f"{better}  # before: {code.text(passes[-1])}")


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
    """Whether the same gradients are met again, not cleared: by the next turn of a loop, or when the function is called again."""
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
    for assign in code.all(cst.Assign, loop.body):
        if assign is update or isinstance(update, cst.Assign):
            if isinstance(update, cst.Assign) and assign is update:
                return isinstance(assign.value, cst.Call)
            continue
        if owner in {dotted(t.target) for t in assign.targets} | {
            n.value for t in assign.targets for n in target_names(t.target)
        }:
            return True
    return False


@rule(
    "attached-losses",
    "The loss brings its whole graph along. Kept from step to step, all those graphs stay in memory.",
    "phase1/theory1",
)
def attached_losses(code: Code) -> Iterator[Spot]:
    """`total += loss` or `losses.append(loss)` in a loop that has already gone back through that loss."""
    for assign in code.all(cst.AugAssign):
        if isinstance(assign.operator, cst.AddAssign):
            yield from _kept(code, assign, dotted(assign.target), assign.value)
    for assign in code.all(cst.Assign):
        target = dotted(assign.targets[0].target)
        value = assign.value
        if target and isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Add):
            sides = {dotted(value.left): value.right, dotted(value.right): value.left}
            if target in sides:
                yield from _kept(code, assign, target, sides[target])
        elif isinstance(assign.targets[0].target, cst.Subscript):
            yield from _kept(code, assign, dotted(assign.targets[0].target.value), value, stored=True)
    for call in code.methods("append"):
        if call.args:
            yield from _kept(code, call, dotted(receiver(call)), call.args[0].value, stored=True)


def _kept(
    code: Code, node: cst.CSTNode, target: str, value: cst.BaseExpression, stored: bool = False
) -> Iterator[Spot]:
    loop = training_loop(code, node) or _step_loop(code, node)
    if loop is None or (not stored and records_nothing(code, node)):
        return
    in_graph = differentiated(code, code.scope(node))
    if target and (target in in_graph or target.split(".")[-1] == "grad"):
        return
    for part in _bare(code, value):
        if _has_graph(code, part, node):
            name = code.text(part)
            detached = (
                f"{name}.detach()" if isinstance(part, cst.Name | cst.Attribute | cst.Call) else f"({name}).detach()"
            )
            yield Spot(node, re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", detached, code.text(node)))
            return


def _step_loop(code: Code, node: cst.CSTNode) -> cst.CSTNode | None:
    """The loop around `node`, if it trains through a function that one can see."""
    loop = loop_around(code, node)
    if loop is None:
        return None
    functions = [f for call in code.calls(loop.body) for f in code.called(call)]
    return loop if any(backwards(code, f) for f in functions) else None


def _bare(code: Code, value: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """The names and calls that give `value` its graph: not inside `.item()`, `.detach()` or `float()`."""
    if is_detached(code, value):
        return
    match value:
        case cst.Name():
            yield value
        case cst.BinaryOperation(left=a, right=b):
            yield from _bare(code, a)
            yield from _bare(code, b)
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            for element in elements:
                yield from _bare(code, element.value)
        case cst.Dict(elements=elements):
            for element in elements:
                yield from _bare(code, element.value)
        case cst.Call() if method(value) in {"mean", "sum", "clone", "cpu", "to", "double", "float"}:
            yield from _bare(code, receiver(value))
        case cst.Call():
            yield value


def _has_graph(code: Code, part: cst.BaseExpression, node: cst.CSTNode) -> bool:
    """Whether a backward pass starts from `part`, or it is a loss that a visible training step returns with its graph."""
    if isinstance(part, cst.Call):
        loss = code.kind(part.func) == LOSS or code.qualified(part.func).startswith("torch.nn.functional.")
        return (loss and not records_nothing(code, part)) or any(
            _returns_attached(code, function) for function in code.called(part)
        )
    binding = code.binding(part)
    if binding is None or binding.value is None or is_detached(code, binding.value):
        return False
    if binding.part is None and isinstance(binding.value, cst.Call) and code.called(binding.value):
        if any(_returns_attached(code, function) for function in code.called(binding.value)):
            return True
    passes = backwards(code, loop_around(code, node).body)
    started = {dotted(receiver(call)) for call in passes}
    return part.value in started or (
        code.kind(part) == TENSOR and any(part.value in differentiated(code, call) for call in passes)
    )


def _returns_attached(code: Code, function: cst.FunctionDef) -> bool:
    """Whether a training step gives back the very loss that it went back through."""
    passed = differentiated(code, function)
    for statement in code.own(cst.Return, function):
        if isinstance(statement.value, cst.Name) and statement.value.value in passed:
            binding = code.binding(statement.value)
            return binding is not None and binding.value is not None and not is_detached(code, binding.value)
    return False


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
            yield call, dotted(receiver(call)) or _assigned_name(code, call)
        elif asks and code.qualified(call.func).startswith("torch.") and "nn." not in code.qualified(call.func):
            yield call, _assigned_name(code, call)


def _assigned_name(code: Code, node: cst.CSTNode) -> str:
    """What the value of `node`, maybe further treated, is assigned to."""
    statement = code.statement(node)
    if isinstance(statement, cst.Assign):
        target = statement.targets[0].target
        if isinstance(target, cst.Tuple) and isinstance(statement.value, cst.Tuple):
            pairs = zip(target.elements, statement.value.elements, strict=False)
            return next((dotted(t.value) for t, v in pairs if code.holds(v, node)), "")
        return dotted(target)
    return ""


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


@rule(
    "item-in-loop",
    "This waits for the device in every step. On a GPU the queue runs empty each time.",
    "phase1/theory5",
)
def item_in_loop(code: Code) -> Iterator[Spot]:
    """A number is read from the device in every turn of a training loop; one finding for each loop."""
    loops = set()
    for call in code.calls():
        of = _read(code, call)
        if of is None:
            continue
        loop = training_loop(code, call)
        if loop is None or loop in loops or is_conditional(code, call, loop) or _is_rare(code, loop):
            continue
        if code.scope(call) is not code.scope(loop) or _decides(code, call, loop):
            continue
        loops.add(loop)
        kept = f"{code.text(of)}.detach()"
        yield Spot(call, f"{kept}  # keep the tensor; read it once, after the loop")


def _read(code: Code, call: cst.Call) -> cst.BaseExpression | None:
    """The tensor from which `call` reads numbers."""
    if isinstance(call.func, cst.Name) and call.func.value in {"float", "int"} and call.args:
        of = call.args[0].value
        return of if code.kind(of) == TENSOR else None
    of = receiver(call)
    to_cpu = method(call) == "to" and is_constant(argument(call, 0), '"cpu"', "'cpu'")
    if method(call) == "item" and not call.args:
        return of if code.kind(of) in {TENSOR, None} else None
    if method(call) in {"cpu", "tolist", "numpy"} or to_cpu:
        return of if code.kind(of) == TENSOR else None
    return None


def _is_rare(code: Code, loop: cst.CSTNode) -> bool:
    """Whether a turn of `loop` is a whole epoch by its variable's name, or there are only a few of them."""
    if not isinstance(loop, cst.For):
        return False
    turns = argument(loop.iter, 0) if isinstance(loop.iter, cst.Call) and dotted(loop.iter.func) == "range" else None
    if isinstance(turns, cst.Integer) and len(loop.iter.args) == 1 and int(turns.value, 0) <= FEW:
        return True
    return any("epoch" in name.value for name in target_names(loop.target))


def _decides(code: Code, call: cst.Call, loop: cst.CSTNode) -> bool:
    """Whether what the loop does next depends on the number: then it must be read."""
    tests = [
        n.test for n in (*code.all(cst.If, loop.body), *code.all(cst.While, loop), *code.all(cst.Assert, loop.body))
    ]
    if any(code.holds(test, call) for test in tests):
        return True
    name = _assigned_name(code, call)
    if not name:
        return False
    return any(name == dotted(n) for test in tests for n in code.any_of((cst.Name, cst.Attribute), test))
