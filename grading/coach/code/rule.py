"""What a rule is: an id, why it matters, the brief that explains it, and a function that finds the places."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import libcst as cst

from grading.coach.code.kinds import Code


@dataclass(frozen=True)
class Spot:
    """A place that a rule found, and the better line for it. `why` replaces the rule's own where there are several."""

    node: cst.CSTNode
    better: str
    why: str | None = None


Find = Callable[[Code], Iterator[Spot]]


@dataclass(frozen=True)
class Rule:
    """One thing that the code review looks for."""

    id: str
    why: str
    brief: str | None
    find: Find


RULES: dict[str, Rule] = {}
"""Every rule of ours by id, in the order in which their modules are imported."""


def rule(name: str, why: str, brief: str | None = None) -> Callable[[Find], Find]:
    """Enter the decorated function as the rule `name`."""

    def enter(find: Find) -> Find:
        RULES[name] = Rule(name, why, brief, find)
        return find

    return enter
