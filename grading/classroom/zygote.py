"""The warm parent of all submissions: it imports what they need once, computes nothing, and forks a child for each.

A fork copies one thread only, so a parent that had ever computed on two would leave its children waiting for the
other for ever. It therefore makes sure, before each fork, that it has one.
"""

import gc
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Lock

from grading.classroom.child import KEPT_VARIABLES, Job
from grading.fresh import ONE_THREAD
from grading.units import Unit

READY, FAILED = b"ready", b"failed"
START_S = 120
PID = struct.Struct("i")


class ZygoteError(RuntimeError):
    """The process that all submissions are forked from could not start."""


class Zygote:
    """A running zygote for one unit; `close` ends it and all that it has forked."""

    def __init__(self, unit: Unit) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | ONE_THREAD
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), unit.id],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the grader's business
            )
        self._lock = Lock()
        self._socket.settimeout(START_S)
        if self._socket.recv(len(READY)) != READY:
            raise ZygoteError(f"The checkers of {unit.id} cannot be loaded; what they said is above.")

    def start(self, job: Job) -> "WarmChild":
        """Fork a child that does `job`."""
        ours, theirs = Pipe()
        status, write = os.pipe()
        with self._lock:
            socket.send_fds(self._socket, [b"f"], [theirs.fileno(), write])
            theirs.close()
            os.close(write)
            answer = self._socket.recv(PID.size)
        if len(answer) != PID.size:
            os.close(status)
            raise ZygoteError("The process that submissions are forked from has ended.")
        child = WarmChild(PID.unpack(answer)[0], status, ours)
        ours.send_bytes(pickle.dumps(job))
        return child

    def close(self) -> None:
        """End the zygote; its children end with it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


class WarmChild:
    """A forked child: what keeps the submission, outside its walls."""

    def __init__(self, pid: int, status: int, connection: Connection) -> None:
        self.pid, self.connection = pid, connection
        self.exitcode: int | None = None
        self._status = status
        self._handle: int | None = None
        with suppress(ProcessLookupError):
            self._handle = os.pidfd_open(pid)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, and learn how the submission's process ended."""
        if self.exitcode is not None:
            return
        with suppress(TimeoutError):
            data = _read(self._status, timeout)
            self.exitcode = os.waitstatus_to_exitcode(*PID.unpack(data)) if len(data) == PID.size else -signal.SIGKILL

    def end(self) -> None:
        """End it, and with it everything that the submission has started."""
        if self._handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            os.close(self._handle)
            self._handle = None
        with suppress(OSError):
            os.close(self._status)
        self.connection.close()


def _read(fd: int, timeout: float | None) -> bytes:
    import select

    if not select.select([fd], [], [], timeout)[0]:
        raise TimeoutError
    return os.read(fd, PID.size)


def serve(line: socket.socket, unit: str) -> None:
    """Load the unit, then fork whenever asked, until the grader hangs up."""
    from grading.classroom import child
    from grading.units import find

    try:
        child.warm(find(unit))
    except BaseException:
        line.send(FAILED)
        raise
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children here
    gc.collect()
    gc.freeze()
    line.send(READY)
    while True:
        message, fds, *_ = socket.recv_fds(line, 1, 2)
        if not message:
            return
        child.assert_one_thread()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.close()
            child.main(Connection(fds[0]), fds[1])
        for fd in fds:
            os.close(fd)
        line.send(PID.pack(pid))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
