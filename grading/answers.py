"""Known answers: `Mistake` and `Alternative`, read from `answers.py` and put in the place of a learner's.

An answers file is parsed, not imported: a class's statements are compiled from the syntax tree and executed in the
lab's own namespace, so that defaults, base classes, decorators and annotations see the lab's names, and the lab's
other functions call the answer.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

from grading.namespaces import Patch
from grading.units import Unit, defined_names


class Mistake:
    """Base of a wrong answer that people give. The docstring says to the learner what is wrong and what helps.

    `module` is the module of a project that it stands in.
    """

    exercise: str
    module: str


class Alternative:
    """Base of a right answer written another way: the checkers must give it full marks. The docstring says how."""

    exercise: str
    module: str


@dataclass(frozen=True)
class Answer:
    """One known answer to one exercise, ready to run."""

    name: str
    exercise: str
    right: bool
    message: str
    defines: tuple[str, ...]
    patch: Patch
    extends: bool
    """Whether it is a class that extends the one it replaces, `class Value(Value)`; that one is the reference's."""


class AnswersError(ValueError):
    """An answers file that breaks the rules of the house."""


def answers(unit: Unit) -> tuple[Answer, ...]:
    """All known answers of `unit` in file order, empty if there are none."""
    if unit.answers is None or not unit.answers.exists():
        return ()
    return read_answers(unit.answers)


def mistakes(unit: Unit, exercise: str) -> tuple[Answer, ...]:
    """The known wrong answers to one exercise."""
    return tuple(a for a in answers(unit) if a.exercise == exercise and not a.right)


def read_answers(path: Path) -> tuple[Answer, ...]:
    """The answers of one file; `AnswersError` says which class breaks which rule."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return tuple(_answer(node, base, path) for node in tree.body for base in _bases(node))


def _bases(node: ast.stmt) -> list[str]:
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    return [b.id for b in bases if isinstance(b, ast.Name) and b.id in {"Mistake", "Alternative"}]


def _answer(node: ast.ClassDef, base: str, path: Path) -> Answer:
    where = f"{path.name}, class {node.name}"
    message = ast.get_docstring(node)
    if not message:
        raise AnswersError(f"{where}: the docstring is what a learner reads, and it is missing.")
    body = node.body[1:]
    exercise, module = (_said(body, name) for name in ("exercise", "module"))
    if exercise is None:
        raise AnswersError(f'{where}: say which exercise it answers, as `exercise = "softmax"`.')
    body = [s for s in body if not (_assigns(s, "exercise") or _assigns(s, "module"))]
    if not defined_names(body):
        raise AnswersError(f"{where}: it defines nothing that could replace an answer.")
    code = compile(ast.Module(body=body, type_ignores=[]), str(path), "exec")
    extends = any(isinstance(s, ast.ClassDef) and s.name in map(ast.unparse, s.bases) for s in body)
    right, words = base == "Alternative", " ".join(message.split())
    return Answer(node.name, exercise, right, words, tuple(defined_names(body)), Patch(code, module), extends)


def _assigns(statement: ast.stmt, name: str) -> bool:
    return isinstance(statement, ast.Assign) and [ast.unparse(t) for t in statement.targets] == [name]


def _said(body: list[ast.stmt], name: str) -> str | None:
    return next((ast.literal_eval(s.value) for s in body if _assigns(s, name)), None)
