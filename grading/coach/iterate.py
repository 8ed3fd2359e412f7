"""This attempt and the last: what changed between two reviews of a unit."""

from collections.abc import Iterable
from dataclasses import dataclass

from grading.coach.review import Finding, Review
from grading.events import Event, Reviewed

NOTICEABLE = 1.5
"""A ratio of times that changed by less than this factor may be the machine's mood."""


@dataclass(frozen=True)
class Changes:
    """What is different now."""

    points: float
    """More, or fewer, than the last time."""
    gone: tuple[Finding, ...]
    new: tuple[Finding, ...]
    speed: dict[str, tuple[float, float]]
    """Of each exercise whose time changed noticeably: its ratio to the reference's before, and now."""


def reviews(events: Iterable[Event], unit_id: str) -> list[Review]:
    """The reviews of a unit that the record keeps, oldest first."""
    kept = [event for event in events if isinstance(event, Reviewed) and event.unit == unit_id]
    return [event.review for event in sorted(kept, key=lambda event: (event.at, event.id))]


def compare(before: Review, now: Review) -> Changes:
    """What changed. A finding is the same if its rule, its exercise and its line of code are: lines move."""
    ratios = {note.exercise: note.ratio for note in before.speed}
    pairs = {n.exercise: (ratios[n.exercise], n.ratio) for n in now.speed if n.exercise in ratios}
    return Changes(
        points=round(now.points - before.points, 2),
        gone=_without(before.findings, now.findings),
        new=_without(now.findings, before.findings),
        speed={name: pair for name, pair in pairs.items() if max(pair) >= NOTICEABLE * min(pair)},
    )


def _without(some: Iterable[Finding], others: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those of `some` that are not among `others`; of two that look alike, one accounts for one."""
    left = [_identity(finding) for finding in others]
    found = []
    for finding in some:
        if _identity(finding) in left:
            left.remove(_identity(finding))
        else:
            found.append(finding)
    return tuple(found)


def _identity(finding: Finding) -> tuple[str, str | None, str]:
    return finding.rule, finding.exercise, finding.code
