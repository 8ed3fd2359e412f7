"""The warm parent of all submissions: it imports what they need once, computes nothing, and forks a child for each.

A fork copies one thread only, so a parent that had ever computed on two would leave its children waiting for the
other for ever. It therefore makes sure, before each fork, that it has one.
"""

import gc
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock

from grading import processes, units
from grading.classroom import child, sandbox
from grading.classroom.child import KEPT_VARIABLES, Job
from grading.classroom.sandbox import Layer, Nursery
from grading.fresh import ONE_THREAD
from grading.units import Unit, content_root
from labkit.store import cache as data_cache

READY, FAILED = b"ready", b"failed"
START_S = 120
STATUS = struct.Struct("i")


class ZygoteError(RuntimeError):
    """The process that all submissions are forked from could not start."""


class Zygote:
    """A zygote for one unit, which prepares itself while its owner does other things.

    `close` ends it and all that it has forked.
    """

    def __init__(self, unit: Unit, layers: Collection[Layer]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | ONE_THREAD
        # Where they are is found out here: a submission's folders are not the instructor's.
        environment |= {"SOLO_CONTENT": str(content_root()), "SOLO_DATA": str(data_cache())}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), unit.id, *(layer.name for layer in layers)],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the grader's business
            )
        self._unit, self._lock, self._contained = unit, Lock(), Layer.PROCESSES in layers
        self._ready = False
        self._socket.settimeout(START_S)

    def wait(self) -> None:
        """Return when it can fork. Raises `ZygoteError` if it never will."""
        with self._lock:
            if not self._ready and self._socket.recv(len(READY)) != READY:
                raise ZygoteError(f"The checkers of {self._unit.id} cannot be loaded; what they said is above.")
            self._ready = True

    def start(self, job: Job) -> "WarmChild":
        """Fork a child that does `job`."""
        self.wait()
        ours, theirs = Pipe()
        status, write = os.pipe()
        with self._lock:
            socket.send_fds(self._socket, [b"f"], [theirs.fileno(), write])
            theirs.close()
            os.close(write)
            message, handles, *_ = socket.recv_fds(self._socket, 1, 1)
        if not message:
            os.close(status)
            raise ZygoteError("The process that submissions are forked from has ended.")
        child = WarmChild(handles[0], status, ours, None if self._contained else job.bounds.scratch)
        ours.send_bytes(pickle.dumps(job))
        return child

    def close(self) -> None:
        """End the zygote; its children end with it."""
        self._socket.close()
        if self._ready:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self._process.kill()
        self._process.wait()


class WarmChild:
    """A forked child, by its handle: a number could be another process's by now."""

    def __init__(self, handle: int, status: int, connection: Connection, mark: str | None) -> None:
        """`mark` is what its descendants carry where no namespace ends them with it."""
        self.connection, self._mark, self._started = connection, mark, time.time()
        self.pid = _pid(handle)
        self.exitcode: int | None = None
        self._handle, self._status = handle, status

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, and learn how it came."""
        if self.exitcode is None and select.select([self._status], [], [], timeout)[0]:
            data = os.read(self._status, STATUS.size)
            ended = len(data) == STATUS.size
            self.exitcode = os.waitstatus_to_exitcode(*STATUS.unpack(data)) if ended else -signal.SIGKILL

    def end(self) -> None:
        """End it, and with it everything that it has started."""
        if self._mark:
            processes.end(self, self._mark, self._started)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        self.join(5)
        os.close(self._handle)
        os.close(self._status)
        self.connection.close()


def _pid(handle: int) -> int:
    """The number of a process as it is seen from here; 0 once it has ended."""
    facts = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines())
    return max(0, int(facts["Pid"]))


class _Server:
    """The zygote's own side: forks when asked, and tells how each child ended."""

    def __init__(self, line: socket.socket, layers: Collection[Layer]) -> None:
        self._line, self._nursery = line, Nursery(layers)
        self._statuses: dict[int, int] = {}
        """Where to tell of the end of a child."""

    def serve(self) -> None:
        """Fork whenever asked, until the grader hangs up."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, *_ = select.select([self._line, woken], [], [])
            if woken in ready:
                os.read(woken, 4096)
                self._reap()
            if self._line in ready and not self._fork():
                return

    def _fork(self) -> bool:
        """Answer one request; False when there will be no more."""
        message, fds, *_ = socket.recv_fds(self._line, 1, 2)
        if not message:
            return False
        child.assert_one_thread()
        pid = self._nursery.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            child.main(Connection(fds[0]))
        os.close(fds[0])
        self._statuses[pid] = fds[1]
        handle = os.pidfd_open(pid)
        socket.send_fds(self._line, [b"f"], [handle])
        os.close(handle)
        return True

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                told = self._statuses.pop(ended[0])
                with suppress(OSError):
                    os.write(told, STATUS.pack(ended[1]))
                os.close(told)


def main(fd: int, unit: str, layers: list[Layer]) -> None:
    """Settle, load the unit, and serve."""
    line = socket.socket(fileno=fd)
    sandbox.settle(layers)
    try:
        child.warm(units.find(unit))
    except BaseException:
        line.send(FAILED)
        raise
    gc.collect()
    gc.freeze()
    line.send(READY)
    _Server(line, layers).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], [Layer[name] for name in sys.argv[3:]])
