"""Where a call spends itself: its operations by the learner's line that asked for them, and the lines it runs.

A profiler knows the operations but not dependably the lines; here each operation finds its line when it is dispatched.
"""

import ast
import itertools
import linecache
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from grading.namespaces import owns

Position = tuple[int, int]
"""Line, from 1, and column."""


@dataclass(frozen=True)
class Spot:
    """An instruction of a function that is under way."""

    code: CodeType
    offset: int

    @property
    def position(self) -> Position:
        """Where it stands in its file."""
        line, _, column, _ = next(itertools.islice(self.code.co_positions(), self.offset // 2, None))
        return line or self.code.co_firstlineno, column or 0

    @property
    def function(self) -> str:
        """What a learner calls the function: a comprehension is a part of the one that it stands in."""
        return self.code.co_qualname.split(".<locals>")[0]


@dataclass(frozen=True)
class Site:
    """A place in the learner's code: the head of a loop, or a line that is in none."""

    line: int
    """In its cell or module, from 1."""
    function: str
    loop: bool

    def __str__(self) -> str:
        place = f"line {self.line} of `{self.function}`"
        return f"the loop at {place}" if self.loop else place


@dataclass
class Cost:
    """Calls of one operation from one site, and what they took."""

    calls: int = 0
    seconds: float = 0.0


@dataclass
class Trace:
    """The operations of one call that reach the dispatcher."""

    costs: dict[tuple[str, Site | None], Cost] = field(default_factory=dict)
    """By name, `aten::select`, and by site; None is not in the learner's code."""
    computing: Counter[Site | None] = field(default_factory=Counter)
    """How many compute something, and do not only look at a tensor in another way."""

    @property
    def seconds(self) -> float:
        """The time in operations."""
        return sum(cost.seconds for cost in self.costs.values())


def trace(call: Callable[[], object], namespace: dict[str, Any], runs: int = 1) -> Trace:
    """Run `call()` and see each operation, those of its backward passes included; times are of the fastest run."""
    recorded = [_operations(call, namespace) for _ in range(runs)]
    result = Trace()
    for (name, computes, stack), seen in recorded[-1].seen.items():
        where = _site([Spot(recorded[-1].codes[code], offset) for code, offset in stack])
        cost = result.costs.setdefault((name, where), Cost())
        cost.calls += seen.calls
        cost.seconds += min(r.seen.get((name, computes, stack), seen).seconds for r in recorded)
        result.computing[where] += seen.calls * computes
    return result


def _operations(call: Callable[[], object], namespace: dict[str, Any]) -> "_Operations":
    with _Operations(namespace) as operations:
        call()
    return operations


class _Operations(TorchDispatchMode):
    """Times every operation under the dispatcher, by its name, whether it computes, and the learner's stack."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        super().__init__()
        self.namespace = namespace
        self.seen: dict[tuple[str, bool, tuple[tuple[int, int], ...]], Cost] = {}
        self.codes: dict[int, CodeType] = {}
        """By id: to hash the code of a function for each operation would take longer than the operation."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        seconds = time.perf_counter() - start
        cost = self.seen.setdefault((func._schema.name, not func.is_view, self._stack(sys._getframe(1))), Cost())
        cost.calls += 1
        cost.seconds += seconds
        return result

    def _stack(self, frame: FrameType | None) -> tuple[tuple[int, int], ...]:
        stack = []
        while frame is not None:
            if owns(self.namespace, frame):
                code = frame.f_code
                self.codes[id(code)] = code
                stack.append((id(code), frame.f_lasti))
            frame = frame.f_back
        return tuple(stack)


def busiest(call: Callable[[], object], namespace: dict[str, Any]) -> tuple[Site, int] | None:
    """Where `call()` runs a line of the learner's most often, and how often; None where it runs none."""
    with _lines(namespace) as counts:
        call()
    if not counts:
        return None
    spot, times = counts.most_common(1)[0]
    return _site([spot]), times


@contextmanager
def _lines(namespace: dict[str, Any]) -> Iterator[Counter[Spot]]:
    counts: Counter[Spot] = Counter()

    def inside(frame: FrameType, event: str, argument: Any) -> Callable:
        if event == "line":
            counts[Spot(frame.f_code, frame.f_lasti)] += 1
        return inside

    def entered(frame: FrameType, event: str, argument: Any) -> Callable | None:
        return inside if owns(namespace, frame) else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        yield counts
    finally:
        sys.settrace(before)


def _site(stack: Sequence[Spot]) -> Site | None:
    """The innermost loop that the functions under way are in, innermost first; else the innermost line."""
    for spot in stack:
        head = _loop_around(spot)
        if head is not None:
            return Site(head, spot.function, loop=True)
    return Site(stack[0].position[0], stack[0].function, loop=False) if stack else None


def _loop_around(spot: Spot) -> int | None:
    """The line of the innermost loop that repeats an instruction."""
    around = [loop for loop in _loops(spot.code.co_filename) if loop.first <= spot.position < loop.last]
    return max(around, key=lambda loop: loop.first).head if around else None


@dataclass(frozen=True)
class _Loop:
    """From where to where a loop repeats, and the line of its head."""

    first: Position
    last: Position
    head: int


@lru_cache(maxsize=64)
def _loops(filename: str) -> tuple[_Loop, ...]:
    """The loops of a source."""
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:  # a cell with magics
        return ()
    return tuple(
        _Loop((first.lineno, first.col_offset), (last.end_lineno, last.end_col_offset), node.lineno)
        for node in ast.walk(tree)
        for first, last in _repeated(node)
    )


def _repeated(node: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
    """First and last part of what a loop runs again and again: of a comprehension not its first iterable."""
    match node:
        case ast.For() | ast.AsyncFor():
            return [(node.body[0], node.body[-1])]
        case ast.While():
            return [(node.test, node.body[-1])]
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
            return [(node.elt, node.elt), *_inner(node.generators)]
        case ast.DictComp():
            return [(node.key, node.value), *_inner(node.generators)]
    return []


def _inner(generators: list[ast.comprehension]) -> list[tuple[ast.AST, ast.AST]]:
    parts = [part for g in generators for part in g.ifs] + [g.iter for g in generators[1:]]
    return [(part, part) for part in parts]
