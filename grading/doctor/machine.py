"""Is the machine fit: ports, room on the disk, memory."""

import socket
from collections.abc import Iterator

import psutil

from grading import units
from grading.doctor.finding import Finding, ok, problem, warning
from grading.files import reason

PORT = 8888
LOOPBACK = "127.0.0.1"
DISK_GB = 5
MEMORY_GB = 2
"""What the solution notebook of a lab may take."""


def port() -> Iterator[Finding]:
    """JupyterLab and its kernels can talk to each other, and its usual port is free."""
    try:
        with socket.create_server((LOOPBACK, 0)):
            pass
    except OSError as error:
        cure = "Allow Python to use the local network (127.0.0.1) in your firewall or security software."
        yield problem("port", f"JupyterLab cannot listen on this machine ({reason(error)}).", cure)
        return
    try:
        with socket.create_server((LOOPBACK, PORT)):
            yield ok("port", f"{PORT} is free for JupyterLab.")
    except OSError:
        cure = "`jupyter server list` shows what is running; end what you no longer need."
        yield warning("port", f"{PORT} is taken, maybe by another JupyterLab; the next one takes the next port.", cure)


def disk() -> Iterator[Finding]:
    """There is room for notebooks, data sets and checkpoints."""
    free = psutil.disk_usage(str(units.home())).free / 2**30
    says = f"{free:.1f} GB free where {units.home()} is."
    if free >= DISK_GB:
        yield ok("disk", says)
    else:
        yield warning("disk", says, f"Make room: with less than {DISK_GB} GB, data sets and checkpoints may not fit.")


def memory() -> Iterator[Finding]:
    """A fresh run fits beside what else is open."""
    now = psutil.virtual_memory()
    says = f"{now.available / 2**30:.1f} of {now.total / 2**30:.1f} GB free."
    if now.available >= MEMORY_GB * 2**30:
        yield ok("memory", says)
    else:
        cure = f"Close other programs, and kernels you no longer use: a lab takes up to {MEMORY_GB} GB."
        yield warning("memory", says, cure)
