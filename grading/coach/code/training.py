"""What a training loop is: backward passes, updates, cleared gradients, and code that records no graph."""

from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import OPTIMIZER, Code
from grading.coach.code.syntax import LOOPS, argument, dotted, is_constant, method, receiver

GRAD_OFF = {"torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.inference_mode"}


def backwards(code: Code, within: cst.CSTNode) -> list[cst.Call]:
    """The backward passes in `within`: `loss.backward()`, `scaler.scale(loss).backward()`."""
    return [call for call in code.methods("backward", within) if dotted(receiver(call)) not in {"self", "super"}]


def is_step(code: Code, call: cst.Call) -> bool:
    """Whether it is an optimizer's step, directly or through a gradient scaler."""
    if method(call) != "step":
        return False
    given = argument(call, 0)
    return code.kind(receiver(call)) == OPTIMIZER or (given is not None and code.kind(given) == OPTIMIZER)


def steps(code: Code, within: cst.CSTNode) -> list[cst.Call]:
    """The optimizer's steps in `within`."""
    return [call for call in code.methods("step", within) if is_step(code, call)]


def gradients_in(code: Code, node: cst.CSTNode) -> Iterator[str]:
    """Whose gradients are used in `node`, by dotted name: `w` for `lr * w.grad`."""
    for attribute in code.all(cst.Attribute, node):
        if attribute.attr.value == "grad" and dotted(attribute.value):
            yield dotted(attribute.value)
    for name in code.all(cst.Name, node):
        binding = code.binding(name) if not isinstance(code.parent(name), cst.Attribute) else None
        if binding is not None and dotted(binding.value).endswith(".grad"):
            yield dotted(binding.value).removesuffix(".grad")


def hand_updates(code: Code, within: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Statements and calls that move a parameter along its own gradient: `w -= lr * w.grad`, `w.sub_(lr * w.grad)`."""
    for node in code.all(cst.AugAssign, within):
        if _without_data(dotted(node.target)) in gradients_in(code, node.value):
            yield node
    for node in code.all(cst.Assign, within):
        target = _without_data(dotted(node.targets[0].target))
        if target in gradients_in(code, node.value) and not isinstance(node.value, cst.Call):
            yield node
    for call in code.calls(within):
        name = _without_data(dotted(receiver(call)))
        if method(call) in {"sub_", "add_", "copy_"} and any(name in gradients_in(code, a) for a in call.args):
            yield call


def _without_data(name: str) -> str:
    return name.removesuffix(".data")


def clears(code: Code, node: cst.CSTNode) -> bool:
    """Whether `node` itself, without what it calls, sets gradients to zero or None."""
    if any(_clears(call) for call in code.calls(node)):
        return True
    assigned = (t.target for assign in code.all(cst.Assign, node) for t in assign.targets)
    deleted = (d.target for d in code.all(cst.Del, node))
    return any(dotted(target).endswith(".grad") for target in (*assigned, *deleted))


def _clears(call: cst.Call) -> bool:
    name = method(call) or dotted(call.func)
    on_gradient = dotted(receiver(call)).endswith(".grad")
    return "zero_grad" in name or "clear" in name or (on_gradient and name in {"zero_", "fill_"})


def records_nothing(code: Code, node: cst.CSTNode, depth: int = 3) -> bool:
    """Whether `node` runs under `no_grad` or the like, here or, if it is always so, where its function is called."""
    for ancestor in code.ancestors(node):
        if isinstance(ancestor, cst.With) and any(_turns_off(code, item.item) for item in ancestor.items):
            return True
        if isinstance(ancestor, cst.FunctionDef) and any(_turns_off(code, d.decorator) for d in ancestor.decorators):
            return True
    scope = code.scope(node)
    if any(_switches_off(code, call) and code.before(call, node) for call in code.own(cst.Call, scope)):
        return True
    if depth == 0 or not isinstance(scope, cst.FunctionDef):
        return False
    return any(records_nothing(code, call, depth - 1) for call in code.callers(scope) if not code.holds(scope, call))


def _turns_off(code: Code, node: cst.BaseExpression) -> bool:
    """Whether a context or decorator stops recording; other contexts with such a name are trusted to."""
    called = node.func if isinstance(node, cst.Call) else node
    name = code.qualified(called)
    if name in GRAD_OFF:
        off = isinstance(node, cst.Call) or isinstance(code.parent(node), cst.Decorator)
        return off and not (isinstance(node, cst.Call) and is_constant(argument(node, 0, "mode"), "False"))
    if name == "torch.set_grad_enabled" and isinstance(node, cst.Call):
        return not is_constant(argument(node, 0), "True")
    functions = code.functions.get(name, ())
    if not functions and isinstance(node, cst.Call) and not name.startswith("torch."):
        return any(part in name for part in ("eval", "grad", "infer"))
    return any(code.qualified(call.func) in GRAD_OFF for function in functions for call in code.calls(function))


def _switches_off(code: Code, call: cst.Call) -> bool:
    """Whether it turns recording off for good, or for the parameters of a module."""
    switch = code.qualified(call.func) == "torch.set_grad_enabled" or method(call) == "requires_grad_"
    return switch and isinstance(code.parent(call), cst.Expr) and is_constant(argument(call, 0), "False")


def loop_around(code: Code, node: cst.CSTNode) -> cst.For | cst.While | None:
    """The innermost loop whose body `node` stands in, within its function."""
    loop = code.around(node, *LOOPS)
    while loop is not None and not code.holds(loop.body, node):
        loop = code.around(loop, *LOOPS)
    return loop


def training_loop(code: Code, node: cst.CSTNode) -> cst.For | cst.While | None:
    """The innermost loop around `node`, if each of its turns makes a backward pass."""
    loop = loop_around(code, node)
    passes = backwards(code, loop.body) if loop is not None else []
    return loop if any(loop_around(code, call) is loop for call in passes) else None


def is_conditional(code: Code, node: cst.CSTNode, loop: cst.CSTNode) -> bool:
    """Whether `node` runs only in some turns of `loop`."""
    for ancestor in code.ancestors(node):
        if ancestor is loop:
            return False
        if isinstance(ancestor, cst.If | cst.IfExp | cst.BooleanOperation) and not (
            isinstance(ancestor, cst.If) and code.holds(ancestor.test, node)
        ):
            return True
    return False


def is_detached(node: cst.BaseExpression) -> bool:
    """Whether the value of `node` has no graph: a number, or cut off."""
    return isinstance(node, cst.Call) and (
        method(node) in {"item", "detach", "detach_", "tolist", "numpy"} or dotted(node.func) in {"float", "int", "len"}
    )


def differentiated(code: Code, scope: cst.CSTNode) -> set[str]:
    """The names that take part in what a backward pass starts from, in `scope`."""
    names = set()
    for call in backwards(code, scope):
        of = [receiver(call), *(a.value for a in call.args)]
        names |= {dotted(name) for node in of for name in code.any_of((cst.Name, cst.Attribute), node) if dotted(name)}
    return names - {"torch"}
