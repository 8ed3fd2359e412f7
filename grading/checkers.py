"""What a checker file says of its exercises, read without running it (and so without importing torch)."""

import ast
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from grading.units import Unit


@dataclass(frozen=True)
class Test:
    """One requirement: a test method, its docstring and its marks."""

    id: str
    text: str
    guard: bool
    slow: bool


@dataclass(frozen=True)
class Checker:
    """One exercise as its class declares it."""

    name: str
    class_name: str
    title: str
    points: int
    needs: tuple[str, ...]
    side_quest: bool
    skills: tuple[str, ...]
    hints: tuple[str, ...]
    tests: tuple[Test, ...]
    forbidden: tuple[str, ...]
    """The operations that its tests `forbid`."""
    digest: str
    modules: tuple[str, ...] = ()
    """Of a project: those that the learner writes for this milestone."""
    workload: bool = False
    """Whether it says what to time the exercise on."""
    architecture: bool = False
    """Whether it says which module to look at the build of."""


FOR_THE_COACH = "workload", "architecture"
"""Methods of a checker that decide no marks."""


class CheckerError(ValueError):
    """A checker file that breaks the rules of the house."""


def checkers(unit: Unit) -> tuple[Checker, ...]:
    """The exercises of `unit` in order, empty for a unit without checkers."""
    return _read(unit.checkers, unit.checkers.stat().st_mtime_ns) if unit.checkers else ()


def checker(unit: Unit, exercise: str) -> Checker:
    """The checker of one exercise; `LookupError` names those that exist."""
    known = {c.name: c for c in checkers(unit)}
    if exercise not in known:
        raise LookupError(f"{unit.id} has no exercise {exercise!r}. It has: {', '.join(known)}.")
    return known[exercise]


@lru_cache(maxsize=64)
def _read(path: Path, _mtime_ns: int) -> tuple[Checker, ...]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return tuple(_checker(node, path) for node in tree.body if isinstance(node, ast.ClassDef) and _is_exercise(node))


def _is_exercise(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Exercise" for base in node.bases)


def _checker(node: ast.ClassDef, path: Path) -> Checker:
    where = f"{path.name}, class {node.name}"
    facts = {
        t.id: _literal(s, where)
        for s in node.body
        if isinstance(s, ast.Assign)
        for t in s.targets
        if isinstance(t, ast.Name)
    }
    tests = tuple(_test(s, where) for s in node.body if isinstance(s, ast.FunctionDef) and s.name.startswith("test_"))
    if not ast.get_docstring(node):
        raise CheckerError(f"{where}: the docstring is the exercise's title, and it is missing.")
    if all(test.guard for test in tests):
        raise CheckerError(f"{where}: needs at least one test that is not a guard, or it cannot be earned.")
    return Checker(
        name=facts.get("name") or snake_case(node.name.removeprefix("Test")),
        class_name=node.name,
        title=ast.get_docstring(node).strip().rstrip("."),
        points=facts.get("points", 1),
        needs=tuple(facts.get("needs", ())),
        side_quest=facts.get("side_quest", False),
        skills=tuple(facts.get("skills", ())),
        hints=tuple(facts.get("hints", ())),
        tests=tests,
        forbidden=_forbidden(node),
        digest=_digest(node),
        modules=tuple(facts.get("modules", ())),
        **{name: _method(node, name) for name in FOR_THE_COACH},
    )


def _method(node: ast.ClassDef, name: str) -> bool:
    return any(isinstance(s, ast.FunctionDef) and s.name == name for s in node.body)


def _literal(statement: ast.Assign, where: str) -> object:
    try:
        return ast.literal_eval(statement.value)
    except ValueError:
        raise CheckerError(f"{where}, line {statement.lineno}: class attributes must be literals.") from None


def _test(node: ast.FunctionDef, where: str) -> Test:
    text = ast.get_docstring(node)
    if not text:
        raise CheckerError(f"{where}.{node.name}: the docstring is the requirement the learner reads; it is missing.")
    marks = {ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list}
    return Test(node.name, " ".join(text.split()), guard="guard" in marks, slow="slow" in marks)


def _forbidden(node: ast.ClassDef) -> tuple[str, ...]:
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func) == "forbid"]
    return tuple(dict.fromkeys(arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)))


def _digest(node: ast.ClassDef) -> str:
    """Hash of what decides marks: code and points, not comments, docstrings, hints, skills or what is the coach's."""
    code = "\n".join(ast.dump(_without_docstring(s)) for s in node.body if _decides_marks(s))
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def _decides_marks(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        return statement.targets[0].id not in {"hints", "skills"}
    return not (isinstance(statement, ast.FunctionDef) and statement.name in FOR_THE_COACH)


def _without_docstring(node: ast.stmt) -> ast.AST:
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
        return ast.Module(body=[*node.decorator_list, node.args, *node.body[1:]], type_ignores=[])
    return node


def snake_case(name: str) -> str:
    """`LogSumExp` -> `log_sum_exp`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
