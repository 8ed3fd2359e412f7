"""What keeps a submission to itself on Linux, without root: namespaces, Landlock, limits and a filter of system calls.

Each layer is one thing that the kernel offers or does not. `layers()` finds out which by trying them for real.
"""

import ctypes
import errno
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if sys.platform == "linux":
    import fcntl
    import resource
if TYPE_CHECKING:
    from py_landlock import AccessFs, Landlock
    from pyseccomp import SyscallFilter

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MNT_DETACH = 2, 4, 4096, 16384, 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine, -1) if sys.platform == "linux" else -1
PR_SET_PDEATHSIG, PR_SET_SECUREBITS, NO_SETUID_FIXUP = 1, 28, 4
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
NOBODY, MANY = 1_900_000_000, 60_000
"""Who submissions are on the outside when root grades them: the kernel does not count root's own processes."""

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
ETC = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "nsswitch.conf", "hosts", "host.conf",
    "passwd", "group", "fonts", "mime.types", "ssl/certs", "ssl/openssl.cnf", "alternatives",
)  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
OWN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
"""Where programs write what they share or forget; in a root of its own, a submission has its own."""
OWN_PROC = ("status", "stat", "statm", "maps", "limits", "cgroup", "mounts", "mountinfo", "cmdline", "comm", "fd")
FILE_RIGHTS = 0xC007
"""Landlock's rights that a file can have: execute, write, read, truncate, device control."""
FORBIDDEN_CALLS = (
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "delete_module", "finit_module", "fsopen", "fsconfig",
    "fsmount", "init_module", "io_uring_setup", "ioperm", "iopl", "kexec_file_load", "kexec_load", "keyctl", "mount",
    "mount_setattr", "move_mount", "open_by_handle_at", "open_tree", "perf_event_open", "pidfd_getfd", "pivot_root",
    "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key", "setdomainname",
    "sethostname", "setns", "settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd",
)  # fmt: skip


class Layer(StrEnum):
    """One layer of isolation, and in words what it does."""

    FILES = "files: a submission reads its environment and writes its own folder, nothing else"
    PRIVILEGES = "privileges: it has none outside"
    NETWORK = "network: loopback of its own, and nothing else"
    PROCESSES = "processes: it sees and ends its own only, and none outlives it"
    DISK = "disk: its folder is of limited size and vanishes with it"
    SYSCALLS = "system calls: those that no lab needs are refused"


@dataclass(frozen=True)
class Bounds:
    """What one submission may have."""

    scratch: str
    """Its own folder."""
    readable: tuple[str, ...]
    """Files and folders beside the system's own."""
    hidden: tuple[str, ...] = ()
    """Folders that are not there for it, should they lie in one that is, but for what else is named here."""
    stand_ins: tuple[str, ...] = ()
    """Files that are there for it, and empty."""
    files: str = "/tmp"
    """The folder that was handed in; it is copied into the scratch folder."""
    memory_mb: int = 4096
    processes: int = 64
    disk_mb: int = 512
    file_mb: int = 256
    open_files: int = 512


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def layers() -> dict[Layer, str]:
    """The layers that this machine lacks, each with the reason; empty if all are there."""
    if sys.platform != "linux":
        return dict.fromkeys(Layer, "only Linux has it")
    probe = subprocess.run([sys.executable, "-m", "grading.classroom.sandbox"], capture_output=True, text=True)
    if probe.returncode:
        return dict.fromkeys(Layer, "trying it failed")
    return {Layer[name]: why for name, why in json.loads(probe.stdout).items()}


def settle(wanted: Collection[Layer]) -> None:
    """Move this process, which must be small and have one thread, to where it can wall off its children.

    That is a user namespace and a process namespace, whose first process it becomes: what calls this goes on as a
    child, and the caller itself stays outside, waits, and ends with it.
    """
    flags = CLONE_NEWUSER if Layer.PRIVILEGES in wanted else 0
    flags |= CLONE_NEWPID if Layer.PROCESSES in wanted else 0
    if not flags:
        return
    _unshare(flags)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


class Nursery:
    """Forks children each of which is the first process of a namespace of its own, and takes all of it along."""

    def __init__(self, wanted: Collection[Layer]) -> None:
        self._apart = Layer.PROCESSES in wanted
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if self._apart else -1

    def fork(self) -> int:
        """As `os.fork`."""
        if not self._apart:
            return os.fork()
        _checked(_libc.unshare(CLONE_NEWPID), "unshare")
        pid = os.fork()
        if pid:
            _checked(_libc.setns(self._home, CLONE_NEWPID), "setns")
        return pid


def enclose(wanted: Collection[Layer], bounds: Bounds) -> None:
    """Wall this process off, a nursery's child: its own network and folders, limits, and nobody's rights outside."""
    flags = 0
    for layer, flag in (
        (Layer.PRIVILEGES, CLONE_NEWUTS),
        (Layer.PROCESSES, CLONE_NEWIPC),
        (Layer.NETWORK, CLONE_NEWNET),
        (Layer.DISK, CLONE_NEWNS),
    ):
        flags |= flag if layer in wanted else 0
    if flags:
        _checked(_libc.unshare(flags), "unshare")
    if Layer.NETWORK in wanted:
        _loopback_up()
    if Layer.DISK in wanted:
        _new_root(bounds, own_proc=Layer.PROCESSES in wanted)
    if Layer.PRIVILEGES in wanted:
        _become_nobody()
    if sys.platform == "linux":
        limit(bounds)


def _new_root(bounds: Bounds, own_proc: bool) -> None:
    """A root folder of one's own, in which there is nothing but what may be opened: no sockets of others either."""
    root, room = bounds.scratch, f"size={bounds.disk_mb}m,mode=1777"
    _mount("tmpfs", root, "size=1m,mode=0755")
    for place in (*OWN_FOLDERS, bounds.scratch):
        os.makedirs(root + place, exist_ok=True)
        _mount("tmpfs", root + place, room)
    shown = dict.fromkeys((*_system(), *DEVICES, *_environment(), *bounds.readable, bounds.files), _show)
    for path, put in sorted((shown | dict.fromkeys(bounds.hidden, _hide)).items(), key=lambda item: len(item[0])):
        put(path, root)  # what holds others comes first
    for path in bounds.stand_ins:
        _stand_in(path, root)
    _mount_proc(root + "/proc", own_proc)
    os.chdir(root)
    _checked(_libc.syscall(PIVOT_ROOT, b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def _mount_proc(place: str, own: bool) -> None:
    os.mkdir(place)
    if own:
        with suppress(OSError):  # refused in most containers: `lock_files` then opens less of the old one
            _mount("proc", place)
            return
    _mount("/proc", place, flags=MS_BIND | MS_REC)


def _show(path: str, root: str) -> None:
    """Let `path` be in the new root as it is in the old one."""
    place = root + path
    if not os.path.lexists(path) or os.path.lexists(place):
        return
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), place)
        return
    if os.path.isdir(path):
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o600))
    _mount(path, place, flags=MS_BIND | MS_REC)


def _hide(path: str, root: str) -> None:
    """Put nothing in the place of a folder that is shown by now."""
    if os.path.isdir(root + path):
        _mount("tmpfs", root + path, "size=1m,mode=0755")


def _stand_in(path: str, root: str) -> None:
    """An empty file as old as the one at `path`."""
    os.makedirs(os.path.dirname(root + path), exist_ok=True)
    Path(root + path).touch()
    changed = os.stat(path).st_mtime_ns
    os.utime(root + path, ns=(changed, changed))


def _become_nobody() -> None:
    """Take a user number that no other submission has now: the kernel counts processes by it."""
    numbers = _mapped()
    if len(numbers) == 1:  # graded without root: a namespace inside the namespace counts for itself
        uid, gid = os.getuid(), os.getgid()
        _checked(_libc.unshare(CLONE_NEWUSER), "unshare")
        _map_self(uid, gid)
        return
    _checked(_libc.prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0), "prctl")
    number = secrets.randbelow(MANY)
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)


def limit(bounds: Bounds) -> None:
    """The kernel's own limits on one process; memory as a whole is the parent's to watch."""
    now_mb = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() // 2**20
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, bounds.file_mb * 2**20),
        (resource.RLIMIT_NOFILE, bounds.open_files),
        (resource.RLIMIT_NPROC, bounds.processes),
        (resource.RLIMIT_AS, (now_mb + 2 * bounds.memory_mb) * 2**20),
    ):
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def lock_files(bounds: Bounds, own_root: bool = False) -> None:
    """From now on this process and its children open only what `bounds` names. Files that are open stay open."""
    from py_landlock import AccessFs, Landlock

    read = AccessFs.READ_FILE | AccessFs.READ_DIR
    write = (
        AccessFs.WRITE_FILE | AccessFs.TRUNCATE | AccessFs.REMOVE_FILE | AccessFs.REMOVE_DIR | AccessFs.MAKE_DIR
        | AccessFs.MAKE_REG | AccessFs.MAKE_SYM | AccessFs.MAKE_FIFO | AccessFs.MAKE_SOCK | AccessFs.REFER
    )  # fmt: skip
    lock = Landlock(strict=False).allow_all_network()  # the network namespace has nobody to talk to
    _allow(lock, (*_system(), *_environment(), *bounds.readable), read | AccessFs.EXECUTE)
    _allow(lock, _proc(), read)
    _allow(lock, DEVICES, AccessFs.READ_FILE | AccessFs.WRITE_FILE)
    _allow(lock, [bounds.scratch, *(OWN_FOLDERS if own_root else ("/dev/shm",))], read | write)
    _allow(lock, [os.path.dirname(path) for path in bounds.stand_ins], AccessFs.READ_DIR)
    lock.apply()


def lock_calls() -> None:
    """Refuse the system calls that no lab needs, here and in every child."""
    _filter().load()


@cache
def _filter() -> "SyscallFilter":
    import pyseccomp

    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in FORBIDDEN_CALLS:
        with suppress(ValueError, RuntimeError, OSError):  # a call that this kernel's library has no name for
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
    return rules


def _allow(lock: "Landlock", paths: Collection[str], access: "AccessFs") -> None:
    """Add a rule for each path that exists; a file takes only the rights that files have."""
    for path in paths:
        rights = access if os.path.isdir(path) else access & type(access)(FILE_RIGHTS)
        if os.path.exists(path):
            lock.add_path_rule(path, access=rights)


def _system() -> tuple[str, ...]:
    """What belongs to the system and is nobody's secret."""
    return (*SYSTEM, *(f"/etc/{name}" for name in ETC), "/sys/devices/system")


def _environment() -> set[str]:
    """Where Python and the packages are."""
    return {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))}


def _proc() -> list[str]:
    """All of /proc where it shows our own processes only, else what it says of this one and of the machine."""
    if os.readlink("/proc/self") == str(os.getpid()) == "1":
        return ["/proc"]
    return ["/proc/cpuinfo", "/proc/meminfo", "/proc/stat", *(f"/proc/self/{name}" for name in OWN_PROC)]


def _unshare(flags: int) -> None:
    """Leave the namespaces, and keep the right to read root's files where root grades: not its other rights."""
    uid, gid = os.getuid(), os.getgid()
    if not flags & CLONE_NEWUSER:
        _checked(_libc.unshare(flags), "unshare")
    elif uid:
        _checked(_libc.unshare(flags), "unshare")
        _map_self(uid, gid)
    else:
        _unshare_as_root(flags)


def _map_self(uid: int, gid: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _unshare_as_root(flags: int) -> None:
    """Inside, the numbers from 0 are nobody's outside, and the one after them is root's.

    Only a process that stays outside may say so.
    """
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    target = os.getpid()
    helper = os.fork()
    if helper == 0:
        try:
            os.read(ready_read, 1)
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{target}/{name}").write_text(f"0 {NOBODY} {MANY}\n{MANY} 0 1\n")
            os.write(done_write, b"x")
        finally:
            os._exit(0)
    os.close(done_write)
    try:
        _checked(_libc.unshare(flags), "unshare")
        os.write(ready_write, b"x")
        if not os.read(done_read, 1):
            raise OSError(errno.EPERM, "root's user could not be mapped")
    finally:
        for fd in (ready_read, ready_write, done_read):
            os.close(fd)
        os.waitpid(helper, 0)


def _mapped() -> range:
    """The user numbers from the first that this namespace has."""
    first, _, n = map(int, Path("/proc/self/uid_map").read_text().split()[:3])
    return range(first, first + n)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))


def _mount(kind: str, place: str, options: str = "", flags: int = MS_NOSUID | MS_NODEV) -> None:
    _checked(_libc.mount(kind.encode(), place.encode(), kind.encode(), flags, options.encode()), f"mount {place}")


def _checked(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _probe() -> dict[str, str]:
    """Try every layer in a process of its own; why those that fail do."""
    bounds = Bounds("/tmp", ())
    missing: dict[str, str] = {}
    for layer in (Layer.PRIVILEGES, Layer.PROCESSES, Layer.NETWORK, Layer.DISK):
        # Without root, the other namespaces are only to be had inside one of privileges.
        wanted = {layer} if Layer.PRIVILEGES.name in missing else {layer, Layer.PRIVILEGES}
        missing |= _if_any(layer, _why_not(lambda: _try(wanted, bounds)))  # noqa: B023 - called at once
    missing |= _if_any(Layer.FILES, _why_not(lambda: lock_files(bounds)))
    return missing | _if_any(Layer.SYSCALLS, _why_not(lock_calls))


def _try(wanted: Collection[Layer], bounds: Bounds) -> None:
    settle(wanted)
    if pid := Nursery(wanted).fork():
        os.waitpid(pid, 0)
    else:
        enclose(wanted, bounds)


def _if_any(layer: Layer, why: str) -> dict[str, str]:
    return {layer.name: why} if why else {}


def _why_not(trial: Callable[[], object]) -> str:
    """What `trial` raises in a child process, empty if nothing."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            trial()
        except BaseException as error:
            os.write(write, (str(error) or type(error).__name__).encode()[:500])
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode()


if __name__ == "__main__":
    print(json.dumps(_probe()))
