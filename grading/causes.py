"""Naming the cause: the known mistake whose failures are the learner's failures."""

import time
from collections.abc import Callable, Mapping, Sequence

from grading.answers import Answer, mistakes
from grading.diagnosis import Signature
from grading.report import Cause
from grading.units import Unit

BUDGET_S = 2.0

Signatures = Mapping[str, Signature]


def name_cause(
    unit: Unit, exercise: str, failures: Signatures, signatures_of: Callable[[Answer], Signatures]
) -> Cause | None:
    """The one mistake that explains `failures` (by test id), or None if none or several do.

    `signatures_of` runs the fast tests with a mistake in the learner's place. It is given two seconds of computing in
    all: a cause is a courtesy, and a learner is waiting. A busy machine takes longer, and names no fewer.
    """
    deadline = time.process_time() + BUDGET_S
    tried: list[tuple[Answer, Signatures]] = []
    for mistake in mistakes(unit, exercise):
        if time.process_time() > deadline:
            break
        tried.append((mistake, signatures_of(mistake)))
    return choose(tried, failures)


def choose(tried: Sequence[tuple[Answer, Signatures]], failures: Signatures) -> Cause | None:
    """The one of the tried mistakes that explains `failures` best. Exact matches come first; a tie names nobody."""
    exact = [mistake for mistake, theirs in tried if is_exact(theirs, failures)]
    if exact:
        return _cause(exact[0], exact=True) if len(exact) == 1 else None
    partial = [(len(theirs), mistake) for mistake, theirs in tried if is_part(theirs, failures)]
    most = max((n for n, _ in partial), default=0)
    best = [mistake for n, mistake in partial if n == most]
    return _cause(best[0], exact=False) if len(best) == 1 else None


def is_exact(theirs: Signatures, failures: Signatures) -> bool:
    """The same tests fail, each in the same way."""
    return bool(theirs) and theirs.keys() == failures.keys() and all(theirs[t].matches(failures[t]) for t in theirs)


def is_part(theirs: Signatures, failures: Signatures) -> bool:
    """All that the mistake fails is failed in the same way, and at least one of it is more than a place in a file."""
    if not theirs or not theirs.keys() <= failures.keys():
        return False
    return all(theirs[t].matches(failures[t]) for t in theirs) and any(s.strong for s in theirs.values())


def _cause(mistake: Answer, exact: bool) -> Cause:
    return Cause(mistake=mistake.name, message=mistake.message, exact=exact)
