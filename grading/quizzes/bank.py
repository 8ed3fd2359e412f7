"""A quiz's bank: `quiz.yaml`, whose every choice says why it is right or wrong, and questions as they are drawn."""

import ast
import math
import random
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from grading.units import Unit

LETTERS = "abcdefgh"


class BankError(ValueError):
    """A bank that breaks the rules of the house."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(_Model):
    """One choice of a question, and why it is right or wrong."""

    text: str
    why: str
    right: bool = False


class Slip(_Model):
    """A wrong way to a number, and where it goes wrong."""

    formula: str
    why: str


class Question(_Model):
    """One question: with choices, or for a number that follows from parameters.

    `parameters` maps a name to `low..high` (whole numbers, both included) or to a list to choose from; `{name}` in a
    text stands for its value. `answer` and the formulas of `slips` are arithmetic over the parameters and `math`.
    """

    id: str
    skills: tuple[str, ...] = Field(min_length=1)
    ask: str
    choices: tuple[Choice, ...] = ()
    parameters: dict[str, str | list[float]] = {}
    answer: str | None = None
    why: str | None = None
    slips: tuple[Slip, ...] = ()
    tolerance: float = 0.0
    """Relative."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if self.choices:
            if self.answer or self.slips or not any(c.right for c in self.choices) or len(self.choices) > len(LETTERS):
                raise ValueError("a question with choices has a right one, at most eight in all, and no `answer`")
            if all(c.right for c in self.choices):
                raise ValueError("a question whose every choice is right asks nothing")
        elif not (self.answer and self.why):
            raise ValueError("a question without choices has an `answer` and a `why`")
        return self


class Review(_Model):
    """A code review: the snippet is the mistake `shipped` of answers.py; `fault` occurs in the line to be named."""

    exercise: str
    shipped: str
    fault: str
    why: str


class Bank(_Model):
    """All of `quiz.yaml`."""

    title: str
    questions: tuple[Question, ...]
    challenges: tuple[str, ...]
    """Names of exercises."""
    reviews: tuple[Review, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        ids = [q.id for q in self.questions] + list(self.challenges) + [r.exercise for r in self.reviews]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"used twice: {', '.join(twice)}")
        return self

    def question(self, question_id: str) -> Question:
        """The question called `question_id`; `KeyError` if there is none any more."""
        return {q.id: q for q in self.questions}[question_id]

    def review(self, exercise: str) -> Review:
        """The review of that exercise; `KeyError` if there is none any more."""
        return {r.exercise: r for r in self.reviews}[exercise]


def read(unit: Unit) -> Bank:
    """The bank of a quiz. Raises `BankError`."""
    path = unit.folder / "quiz.yaml"
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, _mtime_ns: int) -> Bank:
    try:
        return Bank.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise BankError(f"{path.name}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise BankError(f"{path.name}, {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass(frozen=True)
class Drawn:
    """A question as one sitting sees it: its parameters have values, its choices an order."""

    question: Question
    values: Mapping[str, float]
    choices: tuple[Choice, ...]

    @property
    def text(self) -> str:
        """The question in Markdown, its choices lettered."""
        lines = [self._filled(self.question.ask).strip()]
        lines += [f"- **{letter}** · {_one_line(c.text)}" for letter, c in zip(LETTERS, self.choices, strict=False)]
        return "\n\n".join([lines[0], "\n".join(lines[1:])]).strip()

    @property
    def asks_for(self) -> str:
        """What an answer looks like."""
        if not self.choices:
            return "a number"
        several = sum(c.right for c in self.choices) > 1
        return 'letters, as in "ac"' if several else 'a letter, as in "b"'

    @property
    def number(self) -> float:
        """The right number, of a question that asks for one."""
        return self._value(self.question.answer)

    def judge(self, answer: object) -> tuple[bool, str]:
        """Whether `answer` is right, and why: what its choices say, and what the right ones say where it missed."""
        if self.choices:
            return self._judge_letters(answer)
        given = _number(answer)
        why = self._filled(self.question.why)
        if given is None:
            return False, f"{self.number:g}. {why}"
        if self._equal(given, self.number):
            return True, why
        slip = next((s for s in self.question.slips if self._equal(given, self._value(s.formula))), None)
        return False, f"{self._filled(slip.why) + ' ' if slip else ''}It is {self.number:g}. {why}"

    def _judge_letters(self, answer: object) -> tuple[bool, str]:
        chosen = set(re.sub(r"[\s,;]", "", str(answer or "")).lower())
        right = {letter for letter, c in zip(LETTERS, self.choices, strict=False) if c.right}
        told = right | chosen
        whys = [
            f"({letter}) {_one_line(c.why)}" for letter, c in zip(LETTERS, self.choices, strict=False) if letter in told
        ]
        return chosen == right, " ".join(whys)

    def _equal(self, one: float, other: float) -> bool:
        return math.isclose(one, other, rel_tol=max(self.question.tolerance, 1e-9), abs_tol=1e-12)

    def _value(self, formula: str) -> float:
        return float(eval(formula, {"__builtins__": {}, **vars(math)}, dict(self.values)))

    def _filled(self, text: str) -> str:
        for name, value in self.values.items():
            text = text.replace(f"{{{name}}}", f"{value:g}")
        return text


def drawn(question: Question, seed: int) -> Drawn:
    """`question` as the sitting with this seed sees it; the same for the same seed."""
    rng = random.Random(f"{seed} {question.id}")
    values = {name: _pick(rng, choice) for name, choice in question.parameters.items()}
    return Drawn(question, values, tuple(rng.sample(question.choices, len(question.choices))))


def snippet(unit: Unit, review: Review) -> str:
    """The faulty code of a review: the body of its mistake in answers.py. Raises `BankError` if there is none."""
    text = unit.answers.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and node.name == review.shipped:
            code = [s for s in node.body[1:] if not isinstance(s, ast.Assign)]
            lines = text.splitlines()[code[0].lineno - 1 : code[-1].end_lineno]
            return textwrap.dedent("\n".join(lines))
    raise BankError(f"{unit.answers.name} has no {review.shipped}, which quiz.yaml ships for {review.exercise}.")


def faulty_lines(unit: Unit, review: Review) -> list[int]:
    """The numbers of the lines, from 1, in which the fault is."""
    lines = snippet(unit, review).splitlines()
    return [number for number, line in enumerate(lines, 1) if review.fault in line]


def _pick(rng: random.Random, choice: str | list[float]) -> float:
    if isinstance(choice, list):
        return rng.choice(choice)
    low, high = choice.split("..")
    return rng.randint(int(low), int(high))


def _number(answer: Any) -> float | None:
    try:
        return float(str(answer).replace("_", "").strip())
    except ValueError:
        return None


def _one_line(text: str) -> str:
    return " ".join(text.split())
