"""What there is to say of a function's speed beside the reference: how much slower, and where the time goes."""

import itertools
import math
import statistics
from collections.abc import Sequence

from grading.coach.quantities import megabytes, percent, rounded
from grading.coach.review import SpeedNote
from grading.coach.sides import Side
from grading.coach.timing import SIZES, Both, Comparison, Work, Workload, compare
from grading.coach.tracing import Trace, busiest
from labkit.measure import NOISE

STEEPER = 1.5
"""So many times more than the reference's must the time grow at each doubling, for its growth to be spoken of."""
IN_OPERATIONS = 0.3
"""With a smaller share of its time in operations, a function spends it in Python."""
HALF = 0.5
TINY_BYTES = 2**18
"""Less memory than this nobody misses."""


def speed_note(exercise: str, workload: Workload, sides: Both[Side]) -> SpeedNote | None:
    """What there is to say of the speed of one exercise; None where nothing stands out.

    Below a ratio of `labkit.measure.NOISE` no difference in time is claimed, only one in the number of operations.
    """
    comparison = compare(workload, sides)
    if not (comparison.slower or comparison.busier):
        return None
    smaller = [Work.of(workload, size, sides).seconds() for size in SIZES[:-1]]
    times = tuple(zip(*smaller, comparison.seconds, strict=True))
    peaks = comparison.traced.peaks()
    return SpeedNote(
        exercise=exercise,
        ratio=comparison.ratio,
        memory_ratio=peaks[0] / peaks[1] if all(peaks) else None,  # neither lists nor views are seen
        exponent=growth(SIZES, times[0]),
        reference_exponent=growth(SIZES, times[1]),
        text=_text(comparison, times, peaks),
    )


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent k of cost ∝ size^k, by least squares between the logarithms."""
    return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, costs)]).slope


def _text(comparison: Comparison, times: Both[Sequence[float]], peaks: Both[int]) -> str:
    facts = []
    if comparison.slower and comparison.busier:
        facts.append("it makes {:,} operations where the reference makes {:,}".format(*comparison.operations))
    if comparison.slower and _is_steeper(*times):
        yours, ours = (growth(SIZES, column) for column in times)
        facts.append(f"its time grows as size^{yours:.1f}, the reference's as size^{ours:.1f}")
    if peaks[0] >= max(NOISE * peaks[1], TINY_BYTES):
        facts.append("at its peak it holds {}, the reference {}".format(*map(megabytes, peaks)))
    first = _slower(comparison, times) if comparison.slower else _busier(comparison)
    second = "; ".join(facts)
    return f"{first} {second[0].upper()}{second[1:]}." if facts else first


def _is_steeper(yours: Sequence[float], ours: Sequence[float]) -> bool:
    """At each doubling, and not at one of them alone, where a cache came to its end."""
    steps = zip(itertools.pairwise(yours), itertools.pairwise(ours), strict=True)
    return all(b / a >= STEEPER * d / c for (a, b), (c, d) in steps)


def _slower(comparison: Comparison, times: Both[Sequence[float]]) -> str:
    says, traced = f"{rounded(comparison.ratio)}× slower than the reference", comparison.traced
    if comparison.traces[0].seconds < IN_OPERATIONS * times[0][SIZES.index(traced.size)]:
        return f"{says}: the time goes into Python itself, not into operations{_busiest(traced)}."
    return f"{says}: {_costliest(comparison.traces[0])}{_at(traced)}."


def _busiest(traced: Work) -> str:
    """Where Python runs most often."""
    side, call = traced.sides[0], traced.calls[0]
    most = side.run(lambda: busiest(call, side.namespace))
    return f"; {most[0]} runs {_times(most[1])}{_at(traced)}" if most else ""


def _costliest(trace: Trace) -> str:
    """The operation that takes most of the time; where none takes half, the loop that does."""
    (name, site), cost = max(trace.costs.items(), key=lambda item: item[1].seconds)
    share, called = cost.seconds / trace.seconds, f"`{name}`, called {_times(cost.calls)}"
    if share < HALF and site and site.loop:
        loop = sum(cost.seconds for (_, where), cost in trace.costs.items() if where == site) / trace.seconds
        return f"{percent(loop)} of the time in operations is in {site}, the largest part in {called}"
    where = f" {'from' if site.loop else 'at'} {site}" if site else ""
    return f"{percent(share)} of the time in operations is in {called}{where}"


def _busier(comparison: Comparison) -> str:
    says = "About as fast as the reference, but with {:,} operations where it makes {:,}".format(*comparison.operations)
    site, _ = comparison.traces[0].computing.most_common(1)[0]
    where = f", most of them {'from' if site.loop else 'at'} {site}" if site else ""
    return f"{says}{where}: on an accelerator each is a kernel to launch."


def _at(traced: Work) -> str:
    return "" if traced.size == SIZES[-1] else f", on inputs of 1/{SIZES[-1] // traced.size} of the size"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")
