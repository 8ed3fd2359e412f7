"""Rules about the Python around PyTorch: exceptions, names and code without use."""

import builtins
from collections.abc import Iterator

import libcst as cst

from grading.coach.code.kinds import TENSOR, Code
from grading.coach.code.rule import Spot, rule
from grading.coach.code.syntax import dotted, is_constant

EVERYWHERE = {"torch", "nn", "F", "np", "optim"}
"""Modules that any function of this field may want."""
QUIET_BUILTINS = {"_", "copyright", "credits", "license", "exit", "quit", "help"}


@rule(
    "bare-except",
    "It also hides the errors that you did not think of, a misspelt name or Ctrl-C, and the program goes on.",
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
