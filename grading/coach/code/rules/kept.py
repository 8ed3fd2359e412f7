"""Rules about what a training loop keeps of its steps: losses with their graphs, numbers that must be waited for."""

import re
from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import LOSS, TENSOR, Code
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import argument, dotted, is_constant, method, receiver, target_names
from grading.coach.code.training import (
    backwards,
    differentiated,
    is_conditional,
    is_detached,
    loop_around,
    records_nothing,
    training_loop,
)

FEW = 10
"""So few turns are a demonstration, and no one waits for them."""


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
    part = next((part for part in _bare(value) if _has_graph(code, part, node)), None)
    if part is not None:
        name = code.text(part)
        yield Spot(node, re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", f"{name}.detach()", code.text(node)))


def _step_loop(code: Code, node: cst.CSTNode) -> cst.CSTNode | None:
    """The loop around `node`, if it trains through a function that one can see."""
    loop = loop_around(code, node)
    if loop is None:
        return None
    functions = [f for call in code.calls(loop.body) for f in code.called(call)]
    return loop if any(backwards(code, f) for f in functions) else None


def _bare(value: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """The names and calls that give `value` its graph: not inside `.item()`, `.detach()` or `float()`."""
    if is_detached(value):
        return
    match value:
        case cst.Name():
            yield value
        case cst.BinaryOperation(left=a, right=b):
            yield from _bare(a)
            yield from _bare(b)
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            for element in elements:
                yield from _bare(element.value)
        case cst.Dict(elements=elements):
            for element in elements:
                yield from _bare(element.value)
        case cst.Call() if method(value) in {"mean", "sum", "clone", "cpu", "to", "double", "float"}:
            yield from _bare(receiver(value))
        case cst.Call():
            yield value


def _has_graph(code: Code, part: cst.BaseExpression, node: cst.CSTNode) -> bool:
    """Whether a backward pass starts from `part`, or a visible training step returns it with its graph."""
    if isinstance(part, cst.Call):
        loss = code.kind(part.func) == LOSS or code.qualified(part.func).startswith("torch.nn.functional.")
        return (loss and not records_nothing(code, part)) or any(
            _returns_attached(code, function) for function in code.called(part)
        )
    binding = code.binding(part)
    if binding is None or binding.value is None or is_detached(binding.value):
        return False
    stepped = binding.part is None and isinstance(binding.value, cst.Call)
    if stepped and any(_returns_attached(code, function) for function in code.called(binding.value)):
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
            return binding is not None and binding.value is not None and not is_detached(binding.value)
    return False


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
        if loop is None or loop in loops or is_conditional(code, call, loop) or _is_rare(loop):
            continue
        if code.scope(call) is not code.scope(loop) or _decides(code, call, loop):
            continue
        loops.add(loop)
        kept = code.text(of) if ".detach()" in code.text(of) else f"{code.text(of)}.detach()"
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


def _is_rare(loop: cst.CSTNode) -> bool:
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
    name = code.assigned_to(call)
    if not name:
        return False
    return any(name == dotted(n) for test in tests for n in code.any_of((cst.Name, cst.Attribute), test))
