"""The rank rule, E to S."""

from collections.abc import Mapping

RANKS = "EDCBAS"
PASS = 0.7
"""The share of a unit's core points that must be confirmed."""

REQUIREMENTS = {
    "E": "where everyone starts",
    "D": "every lab of Phase 1 at 70 %",
    "C": "Phase 1's quiz and project at 70 %",
    "B": "every unit of Phase 2 at 70 %",
    "A": "every unit of Phase 3 at 70 %",
    "S": "every unit of Phase 4, and the capstone, at 70 %",
}
"""What each rank asks for beyond the one before it, in words."""


def rank(shares: Mapping[str, Mapping[str, float]]) -> str:
    """The rank that is earned by `shares`: for each phase, each planned unit's confirmed share of its core points.

    Ranks are earned in order. A unit that is planned and not built yet has the share 0, and a phase without planned
    units cannot be passed, so no rank is ever earned for nothing.
    """
    first = shares.get("phase1", {})
    steps = {
        "D": [{name: share for name, share in first.items() if name.startswith("lab")}],
        "C": [{name: share for name, share in first.items() if not name.startswith("lab")}],
        "B": [shares.get("phase2", {})],
        "A": [shares.get("phase3", {})],
        "S": [shares.get("phase4", {}), shares.get("capstone", {})],
    }
    earned = "E"
    for letter, parts in steps.items():
        if not all(part and min(part.values()) >= PASS for part in parts):
            break
        earned = letter
    return earned


def higher(one: str, other: str) -> str:
    """The higher of two ranks."""
    return max(one, other, key=RANKS.index)


def after(rank: str) -> str | None:
    """The next rank; None after S."""
    return RANKS[RANKS.index(rank) + 1] if rank != RANKS[-1] else None
