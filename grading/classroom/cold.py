"""Where there is no zygote: a new process for each submission, with the limits of a fresh run and no isolation."""

import pickle
import time
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

from grading import processes
from grading.classroom import child
from grading.classroom.child import Job
from grading.fresh import start_child


class Cold:
    """Starts children as a zygote does."""

    def wait(self) -> None:
        """There is nothing to wait for."""

    def start(self, job: Job) -> "ColdChild":
        """Start a process that does `job`."""
        ours, theirs = Pipe()
        process = ColdChild(start_child(child.main, theirs), ours, job.bounds.scratch)
        theirs.close()
        ours.send_bytes(pickle.dumps(job))
        return process

    def close(self) -> None:
        """There is nothing to end."""


class ColdChild:
    """A process of its own."""

    def __init__(self, process: Process, connection: Connection, mark: str) -> None:
        self.connection, self.pid = connection, process.pid
        self._process, self._mark, self._started = process, mark, time.time()

    @property
    def exitcode(self) -> int | None:
        """As of `multiprocessing.Process`."""
        return self._process.exitcode

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._process.join(timeout)

    def end(self) -> None:
        """End it, and what it has started as far as that can be found."""
        processes.end(self._process, self._mark, self._started)
        self.connection.close()
