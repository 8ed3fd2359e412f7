"""Rules about the Python around PyTorch: seeds, exceptions, names and code without use."""

import builtins
import re
from collections.abc import Iterator

import libcst as cst

from grading.coach.code.flow import LOADER, MODULE, OPTIMIZER, TENSOR, Code
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import LOOPS, dotted, is_constant, method, target_names
from grading.coach.code.training import backwards, steps

SEEDS = {
    "torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all", "torch.random.manual_seed",
    "numpy.random.seed", "random.seed",
}  # fmt: skip
PER_SAMPLE = {"forward", "__getitem__", "__call__", "training_step", "collate_fn"}
PER_STEP = re.compile(r"_?(epoch|step|batch|iteration|it)(_?\w+)?")
"""How the variable of a training loop is called."""
EVERYWHERE = {"torch", "nn", "F", "np", "optim"}
"""Modules that any function of this field may want."""
QUIET_BUILTINS = {"_", "copyright", "credits", "license", "exit", "quit", "help"}


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


@rule(
    "bare-except",
    "It also hides the errors that you did not think of, a misspelt name or Ctrl-C, and the program goes on with nonsense.",
)
def bare_except(code: Code) -> Iterator[Spot]:
    """`except:` that does not raise again, and `except Exception:` that does nothing."""
    for handler in code.all(cst.ExceptHandler):
        if any(True for _ in code.all(cst.Raise, handler.body)):
            continue
        if handler.type is None or (
            dotted(handler.type) in {"Exception", "BaseException"} and _does_nothing(handler.body)
        ):
            yield Spot(handler, "except ValueError:  # the error that you expect")


def _does_nothing(body: cst.BaseSuite) -> bool:
    lines = body.body if isinstance(body, cst.IndentedBlock) else [body]
    if any(isinstance(line, cst.BaseCompoundStatement) for line in lines):
        return False
    return all(_is_nothing(statement) for line in lines for statement in line.body)


def _is_nothing(statement: cst.BaseSmallStatement) -> bool:
    comment = isinstance(statement, cst.Expr) and isinstance(statement.value, cst.Ellipsis | cst.SimpleString)
    return comment or isinstance(statement, cst.Pass | cst.Continue)


@rule(
    "shadowed-name",
    "From here on the name means your value: the next call of what it meant before fails, in this notebook even in "
    "cells far away.",
)
def shadowed_name(code: Code) -> Iterator[Spot]:
    """A builtin, an imported module or a function of one's own gets another value."""
    for scope in [code.module, *code.all(cst.FunctionDef)]:
        for name, bindings in code.bindings(scope).items():
            binding = bindings[0]
            local = code.around(binding.name, cst.CompFor) is not None
            if local or binding.param is not None or is_constant(binding.value, "None"):
                continue  # a parameter is what the caller hands in by that name
            if (
                _is_builtin(name)
                or _hides_module(code, scope, binding.name)
                or _is_own_function(code, scope, binding.name)
            ):
                better = f"{name}s" if code.kind(binding.name) == TENSOR and name == "input" else f"{name}_"
                line = code.text(code.statement(binding.name)).split("\n")[0]
                yield Spot(binding.name, _renamed(line, name, better))


def _renamed(line: str, name: str, better: str) -> str:
    head = line.split(":")[0] if line.startswith(("for ", "with ")) else line
    return head.replace(name, better, 1)


def _is_builtin(name: str) -> bool:
    return hasattr(builtins, name) and name not in QUIET_BUILTINS and not name.startswith("__")


def _hides_module(code: Code, scope: cst.CSTNode, name: cst.Name) -> bool:
    """Whether an imported module is lost: for the whole notebook, or in a function that may well want it.

    A function that speaks of a length as `time`, and has no use for the clock, does no harm.
    """
    if name.value not in code.modules:
        return False
    if isinstance(scope, cst.Module) or name.value in EVERYWHERE:
        return True
    statement = code.statement(name)
    wanted = (call for call in code.calls(scope) if dotted(call.func).startswith(f"{name.value}."))
    return any(code.before(call, statement) or code.holds(statement, call) for call in wanted)


def _is_own_function(code: Code, scope: cst.CSTNode, name: cst.Name) -> bool:
    """Whether it is the name of the function that it stands in, or of one that is called for the value."""
    if isinstance(scope, cst.FunctionDef) and not code.is_method(scope) and scope.name.value == name.value:
        return True
    functions = [f for f in code.functions.get(name.value, ()) if not code.is_method(f)]
    statement = code.statement(name)
    if not functions or not isinstance(statement, cst.Assign):
        return False
    return any(dotted(call.func) == name.value for call in code.calls(statement.value))


def unreachable(code: Code) -> Iterator[Spot]:
    """Statements after one that never goes on."""
    for block in code.any_of((cst.IndentedBlock, cst.Module)):
        ended = False
        for line in block.body:
            if ended:
                yield Spot(line, "nothing: no one gets here", "The line before leaves: this one never runs.")
                break
            last = line.body[-1] if isinstance(line, cst.SimpleStatementLine) else None
            ended = isinstance(last, cst.Return | cst.Raise | cst.Continue | cst.Break)


rule("unused-code", "It has no effect, and the reader looks for one.")(unreachable)
