"""A child process and whatever it starts: the memory they hold, and an end to all of them."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import psutil

MARK = "SOLO_FRESH"
"""The environment variable that the descendants of one run inherit; its value is that run's own."""


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its descendants."""
    total = 0
    for process in _family(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 2**20


def end(process: multiprocessing.Process, mark: str, started: float) -> None:
    """End `process` and whatever it started, also what has left its parent and its session but carries its `mark`.

    `started` is the time, in seconds since the epoch, before which nothing of it existed.
    """
    for member in reversed(_family(process.pid)):
        _kill(member)
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    for member in _marked(mark, started):
        _kill(member)
    process.join(5)


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _marked(mark: str, started: float) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            # A second of grace: clocks are coarse. Only what is young is asked for its environment, which is slow.
            if process.create_time() > started - 1 and process.environ().get(MARK) == mark:
                yield process


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.kill()
