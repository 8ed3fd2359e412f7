"""Your code beside PyTorch's on the same work: time and peak memory, as ratios."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NOISE = 3.0
"""On a shared machine the same code varies by almost this factor; below it, no difference is claimed."""


@dataclass(frozen=True)
class Comparison:
    """Seconds and peak bytes of new tensors, for your code and for the reference."""

    your_seconds: float
    reference_seconds: float
    your_bytes: int
    reference_bytes: int

    @property
    def time_ratio(self) -> float:
        """How many times longer your code takes."""
        return self.your_seconds / self.reference_seconds

    @property
    def memory_ratio(self) -> float:
        """How many times more memory your code holds at its peak."""
        return self.your_bytes / max(self.reference_bytes, 1)

    def __str__(self) -> str:
        ratio = self.time_ratio
        clear = ratio >= NOISE or ratio <= 1 / NOISE
        took = f"time {ratio:.2g}×" if clear else "time about the same"
        sizes = f"{self.your_bytes / 2**20:.1f} MiB against {self.reference_bytes / 2**20:.1f} MiB"
        return f"{took}, memory {self.memory_ratio:.3g}× ({sizes})"


def compare(yours: Callable[[], object], reference: Callable[[], object], repeats: int = 7) -> Comparison:
    """Run both `repeats` times in turn on one thread; times are medians, after one run that measures memory."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sizes = peak_bytes(yours), peak_bytes(reference)
        pairs = [(_seconds(yours), _seconds(reference)) for _ in range(repeats)]
    finally:
        torch.set_num_threads(threads)
    times = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return Comparison(*times, *sizes)


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes that tensors made inside `call` held at one time; what a single kernel uses inside is not seen."""
    with _LiveStorages() as live:
        call()
    return live.peak


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class _LiveStorages(TorchDispatchMode):
    """Follows every storage that an operation makes until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {StorageWeakRef(s) for s in _storages((args, kwargs))}
        made = {StorageWeakRef(s): s.nbytes() for s in _storages(result)}
        self._sizes = {ref: size for ref, size in self._sizes.items() if not ref.expired()}
        self._sizes |= {ref: size for ref, size in made.items() if ref not in given}
        self.peak = max(self.peak, sum(self._sizes.values()))
        return result


def _storages(nested: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(nested) if isinstance(leaf, torch.Tensor)]
