"""Your code beside PyTorch's on the same work: time and peak memory, as ratios."""

import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
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
        self.peak = self._held = 0
        self._alive: dict[int, weakref.ref] = {}
        """By address, which is free again when the storage is."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {s._cdata for s in _storages((args, kwargs))}
        for storage in _storages(result):
            if storage._cdata not in given and storage._cdata not in self._alive:
                self._follow(storage)
        self.peak = max(self.peak, self._held)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()

        def freed(_: object) -> None:
            del self._alive[address]
            self._held -= size

        self._alive[address] = weakref.ref(storage, freed)
        self._held += size


def _storages(nested: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(nested) if isinstance(leaf, torch.Tensor)]
