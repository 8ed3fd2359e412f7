"""Rules about losses: functions that take logits and are given probabilities."""

from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import MODULE, Code
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import argument, dotted, method, receiver

SOFTMAX = {"softmax", "log_softmax", "Softmax", "LogSoftmax"}
SIGMOID = {"sigmoid", "Sigmoid", "logsigmoid", "LogSigmoid"}
TAKE_LOGITS = {
    "torch.nn.functional.cross_entropy": SOFTMAX,
    "torch.nn.CrossEntropyLoss": SOFTMAX,
    "torch.nn.functional.binary_cross_entropy_with_logits": SIGMOID,
    "torch.nn.BCEWithLogitsLoss": SIGMOID,
}
WHY = {
    "softmax": "Cross-entropy takes logits and applies log-softmax itself. After two of them gradients are small, and "
    "the loss cannot reach zero.",
    "sigmoid": "This loss takes logits and applies the sigmoid itself. After two of them gradients are small, and the "
    "loss cannot reach zero.",
}


@rule("softmax-before-cross-entropy", WHY["softmax"], "phase1/theory3")
def softmax_before_cross_entropy(code: Code) -> Iterator[Spot]:
    """A loss that takes logits, and what it is given comes out of a softmax or sigmoid."""
    for call in code.calls():
        squashes = _squashes_itself(code, call)
        given = argument(call, 0, "input")
        squashed = _squashed(code, given, squashes) if squashes and given is not None else None
        if squashed is not None:
            kind = "softmax" if squashes is SOFTMAX else "sigmoid"
            yield Spot(call, _better(code, call, given, squashed), WHY[kind])


def _squashes_itself(code: Code, call: cst.Call) -> set[str] | None:
    """What the loss that is called would apply by itself; None if it is no such loss."""
    if (found := TAKE_LOGITS.get(code.qualified(call.func))) and "Loss" not in code.qualified(call.func):
        return found
    makers = [o for o in code.origins(call.func) if isinstance(o, cst.Call)]
    found = [TAKE_LOGITS.get(code.qualified(maker.func)) for maker in makers]
    return found[0] if found and all(found) else None


def _squashed(code: Code, node: cst.BaseExpression, names: set[str], depth: int = 6) -> cst.CSTNode | None:
    """The call that squashes what becomes `node`; None if there is none, or not on every way."""
    if depth == 0:
        return None
    if isinstance(node, cst.Call):
        if _is(code, node, names):
            return node
        if method(node) in {"squeeze", "view", "reshape", "flatten", "float", "clamp", "log", "transpose", "permute"}:
            return _squashed(code, receiver(node), names, depth - 1)
        makers = code.origins(node.func)
        if makers and all(_module_squashes(code, maker, names, depth - 1) for maker in makers):
            return makers[0]
        functions = code.called(node)
        return node if functions and all(_returns_squashed(code, f, names, depth - 1) for f in functions) else None
    origins = [o for o in code.origins(node) if o is not node]
    found = [_squashed(code, origin, names, depth - 1) for origin in origins]
    return found[0] if found and all(found) else None


def _is(code: Code, call: cst.Call, names: set[str]) -> bool:
    """Whether it is a softmax, spelt as a function, a method or a module that is called."""
    name = code.qualified(call.func)
    if name.startswith("torch.") and name.split(".")[-1] in names and name.split(".")[-1][0].islower():
        return True
    if method(call) in names and not name.startswith(("torch.", "self.")):
        return True
    makers = (
        [o for o in code.origins(call.func) if isinstance(o, cst.Call)]
        if name != "" or isinstance(call.func, cst.Call)
        else []
    )
    return bool(makers) and all(_makes(code, maker, names) for maker in makers)


def _makes(code: Code, node: cst.CSTNode, names: set[str]) -> bool:
    name = code.qualified(node.func) if isinstance(node, cst.Call) else ""
    return name.startswith("torch.nn.") and name.split(".")[-1] in names


def _module_squashes(code: Code, node: cst.CSTNode, names: set[str], depth: int) -> bool:
    """Whether a module, by the expression that makes it, ends in a softmax."""
    if not isinstance(node, cst.Call) or depth <= 0:
        return False
    if method(node) in {"to", "cuda", "train", "eval", "cpu"}:
        return any(_module_squashes(code, o, names, depth - 1) for o in code.origins(receiver(node)))
    if code.qualified(node.func) == "torch.nn.Sequential" and node.args:
        return _makes(code, node.args[-1].value, names)
    owner = code.classes.get(dotted(node.func))
    forward = code.method(owner, "forward")
    return code.is_module(owner) and forward is not None and _returns_squashed(code, forward, names, depth - 1)


def _returns_squashed(code: Code, function: cst.FunctionDef, names: set[str], depth: int) -> bool:
    returned = [r.value for r in code.own(cst.Return, function) if r.value is not None]
    return bool(returned) and all(_squashed(code, value, names, depth) is not None for value in returned)


def _better(code: Code, call: cst.Call, given: cst.BaseExpression, squashed: cst.CSTNode) -> str:
    """The call with the logits in the place of what was squashed."""
    if isinstance(squashed, cst.Call) and code.kind(squashed.func) != MODULE and code.holds(given, squashed):
        inner = (
            argument(squashed, 0, "input") if code.qualified(squashed.func).startswith("torch.") else receiver(squashed)
        )
        return code.text(call).replace(code.text(squashed), code.text(inner))
    return f"{code.text(call)[:80]}  # with the logits: leave `{code.text(squashed)[:60]}` away"
