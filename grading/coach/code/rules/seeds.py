"""The rule about seeds."""

import re
from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import LOADER, MODULE, OPTIMIZER, Code
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import LOOPS, dotted, method, target_names
from grading.coach.code.training import backwards, steps

SEEDS = {
    "torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all",
    "torch.random.manual_seed", "numpy.random.seed", "random.seed",
}  # fmt: skip
PER_SAMPLE = {"forward", "__getitem__", "__call__", "training_step", "collate_fn"}
PER_STEP = re.compile(r"_?(epoch|step|batch|iteration|it)(_?\w+)?")
"""How the variable of a training loop is called."""


@rule(
    "seed-in-wrong-place",
    "Seeding again and again gives the same numbers again and again: the same dropout, the same noise in every step.",
    "phase1/theory4",
)
def seed_in_wrong_place(code: Code) -> Iterator[Spot]:
    """The global generator is seeded in each step or for each sample."""
    for call in code.calls():
        if code.qualified(call.func) not in SEEDS or _is_forked(code, call):
            continue
        function = code.scope(call)
        name = function.name.value if isinstance(function, cst.FunctionDef) else ""
        if "worker" in name or "init_fn" in name:
            continue
        per_step = isinstance(function, cst.FunctionDef) and any(
            _is_hot(code, loop, call) for c in code.callers(function) for loop in _loops(code, c)
        )
        if name in PER_SAMPLE or per_step or any(_is_hot(code, loop, call) for loop in _loops(code, call)):
            yield Spot(call, f"{code.text(call)}  # once, before the loop; or a torch.Generator of its own")


def _is_forked(code: Code, call: cst.Call) -> bool:
    """Whether the generator is put back afterwards."""
    if any("set_rng_state" in dotted(other.func) for other in code.calls(code.scope(call))):
        return True
    around = (a for a in code.ancestors(call) if isinstance(a, cst.With))
    return any("fork_rng" in code.text(item) for a in around for item in a.items)


def _loops(code: Code, node: cst.CSTNode) -> list[cst.CSTNode]:
    """The loops around `node` in its function, whose body it is in."""
    scope = code.scope(node)
    around = [a for a in code.ancestors(node) if isinstance(a, LOOPS) and code.holds(a.body, node)]
    return [loop for loop in around if code.scope(loop) is scope]


def _is_hot(code: Code, loop: cst.CSTNode, seed: cst.Call) -> bool:
    """Whether `loop` trains, loads or draws; a loop that begins a new experiment in each turn may seed it."""
    if any(
        code.kind(call) in {MODULE, OPTIMIZER, LOADER}
        for call in code.own(cst.Call, loop.body)
        if not _is_applied(code, call)
    ):
        return False
    made = {
        n.value
        for a in code.own(cst.Assign, loop.body)
        if isinstance(a.value, cst.Call)
        for n in target_names(a.targets[0].target)
    }
    if made & {dotted(call.func) for call in code.calls(loop.body)}:
        return False
    if isinstance(loop, cst.For) and any(
        "seed" in n.value or n.value in {"run", "trial"} for n in target_names(loop.target)
    ):
        return False
    if isinstance(loop, cst.For) and code.kind(_plain(loop.iter)) == LOADER:
        return True
    if isinstance(loop, cst.For) and any(PER_STEP.fullmatch(name.value) for name in target_names(loop.target)):
        return True
    if backwards(code, loop.body) or steps(code, loop.body):
        return True
    functions = [f for call in code.calls(loop.body) for f in code.called(call)]
    if any(_makes_its_own(code, f) for f in functions):
        return False
    if any(backwards(code, function) for function in functions):
        return True
    draws = [
        c
        for c in code.calls(loop.body)
        if code.qualified(c.func).split(".")[-1]
        in {"randn", "rand", "normal", "randint", "randperm", "random", "uniform"}
    ]
    varies = any(True for a in seed.args for _ in code.all(cst.Name, a))
    return bool(draws) and bool(code.methods("append", loop.body)) and not varies


def _is_applied(code: Code, call: cst.Call) -> bool:
    """Whether it only changes a module that is there, `model.train()`."""
    return method(call) in {"train", "eval", "to"} and code.kind(call.func.value) == MODULE


def _makes_its_own(code: Code, function: cst.FunctionDef) -> bool:
    return any(code.kind(call) in {MODULE, OPTIMIZER} for call in code.calls(function) if not _is_applied(code, call))


def _plain(node: cst.BaseExpression) -> cst.BaseExpression:
    while isinstance(node, cst.Call) and dotted(node.func).split(".")[-1] in {"enumerate", "tqdm"} and node.args:
        node = node.args[0].value
    return node
