"""Pairs of submissions that are suspiciously alike: in what they share and hardly anybody else wrote.

Code is compared as runs of tokens, names replaced by where they first occur, so that renaming and comments do not hide
a copy (after winnowing, Schleimer, Wilkerson and Aiken, 2003). What the release has, or many write, does not count.
"""

import io
import keyword
import tokenize
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

RUN = 12
"""How many tokens are compared as one."""
COMMON = 0.1
"""What more than this share of a class has written is how one writes it."""
LEAST = 15
"""Shared runs below which nothing is said: short answers are alike."""
IGNORED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class Pair(NamedTuple):
    """Two students, and the share of the smaller one's own code that both have."""

    one: str
    other: str
    share: float


def similar_pairs(code: Mapping[str, str], released: str, threshold: float = 0.6) -> list[Pair]:
    """Pairs whose share is at least `threshold`, the most alike first; `code` is by student."""
    given = _runs(released)
    own = {student: _runs(text) - given for student, text in code.items()}
    writers = Counter(run for runs in own.values() for run in runs)
    rare = max(2, COMMON * len(code))
    own = {student: {run for run in runs if writers[run] <= rare} for student, runs in own.items()}
    shared: Counter[tuple[str, str]] = Counter()
    by_run: dict[tuple[str, ...], list[str]] = {}
    for student, runs in sorted(own.items()):
        for run in runs:
            by_run.setdefault(run, []).append(student)
    for students in by_run.values():
        shared.update(combinations(students, 2))
    pairs = [Pair(a, b, n / min(len(own[a]), len(own[b]))) for (a, b), n in shared.items() if n >= LEAST]
    return sorted((pair for pair in pairs if pair.share >= threshold), key=lambda pair: -pair.share)


def _runs(code: str) -> set[tuple[str, ...]]:
    tokens = _tokens(code)
    return {tuple(_renamed(tokens[i : i + RUN])) for i in range(len(tokens) - RUN + 1)}


def _tokens(code: str) -> list[str]:
    """The tokens that mean something, as far as the code can be read."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type not in IGNORED:
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError):
        pass
    return found


def _renamed(tokens: list[str]) -> list[str]:
    """Names by the order in which they occur."""
    numbers: dict[str, str] = {}
    return [
        numbers.setdefault(token, f"v{len(numbers)}")
        if token.isidentifier() and not keyword.iskeyword(token)
        else token
        for token in tokens
    ]
