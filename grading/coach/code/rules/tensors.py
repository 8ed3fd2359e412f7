"""The rule about `.data`."""

from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import TENSOR, Code
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import dotted
from grading.coach.code.training import gradients_in


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
