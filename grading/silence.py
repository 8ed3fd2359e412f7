"""Silence around the learner's code: what it prints goes nowhere, so that a print without end costs no disk or memory.

pytest would capture it, in a file that it then reads into memory; nobody looks at that.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


@contextmanager
def silence() -> Iterator[None]:
    """Point the standard streams, and the descriptors that C++ and child processes write to, at nothing.

    A read meets the end of the file instead of waiting for a keyboard.
    """
    with (
        open(os.devnull, encoding="utf-8") as source,
        open(os.devnull, "w", encoding="utf-8", errors="replace") as sink,
    ):
        nothing = {"stdin": source, "stdout": sink, "stderr": sink}
        streams = {name: getattr(sys, name) for name in STREAMS}
        copies = {fd: os.dup(fd) for fd in STREAMS.values() if _is_open(fd)}
        for name, fd in STREAMS.items():
            setattr(sys, name, nothing[name])
            if fd in copies:
                os.dup2(nothing[name].fileno(), fd)
        try:
            yield
        finally:
            for name, stream in streams.items():
                setattr(sys, name, stream)
            for fd, copy in copies.items():
                os.dup2(copy, fd)
                os.close(copy)


def _is_open(fd: int) -> bool:
    """A window without a console (pythonw) has none; a learner may have closed one."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
