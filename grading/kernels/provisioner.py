"""Starts a kernel as a fork of a process that has PyTorch loaded already; elsewhere than on Linux as Jupyter does."""

import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing import Process
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from grading.fresh import start_child


class WarmProvisioner(LocalProvisioner):
    """As Jupyter's own, but for how the process begins."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel that `cmd` would start: the first one loads the libraries, the others are there at once."""
        if sys.platform != "linux":
            return await super().launch_kernel(cmd, **kwargs)
        self.cwd = os.fspath(kwargs.get("cwd") or os.getcwd())
        arguments = cmd[cmd.index("-f") :]
        self.process = Forked(start_child(_run, arguments, self.cwd, dict(kwargs.get("env") or os.environ)))
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class Forked:
    """A process of `multiprocessing`, as Jupyter would have it: with what it uses of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end."""
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def _run(arguments: list[str], folder: str, environment: Mapping[str, str]) -> None:
    """Be the kernel."""
    from ipykernel.kernelapp import IPKernelApp

    threads = os.environ.get("OMP_NUM_THREADS")
    os.setsid()  # Jupyter signals the whole group
    os.environ.clear()
    os.environ |= environment
    # It ends with the process that it was forked from; as many threads were made there as that had been told.
    os.environ |= {"JPY_PARENT_PID": str(os.getppid()), "OMP_NUM_THREADS": threads or "1"}
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # what cells print goes through Jupyter
        os.dup2(nowhere, fd)
    sys.stdin = open(os.devnull)  # noqa: SIM115 - lives as long as the process
    IPKernelApp.launch_instance(arguments)
