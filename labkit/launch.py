"""A function run by several processes at once, which gloo joins on this machine."""

import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist

LOOPBACK = {"linux": "lo", "darwin": "lo0"}
"""The network interface of a machine with itself, by system. Gloo would look up the host's name, which may fail."""


class LaunchError(RuntimeError):
    """A rank raised, died or took too long."""


class StubMet(LaunchError, NotImplementedError):
    """A rank met a function that is not written yet, whose name is `stub`."""

    def __init__(self, stub: str) -> None:
        super().__init__(f"`{stub}` is not written yet")
        self.stub = stub


@dataclass(frozen=True)
class Failure:
    """Why a rank has nothing to return, and when that happened, in seconds since the epoch."""

    story: str
    at: float
    stub: str | None = None
    """The function that is not written yet, if that is why."""


def launch(function: Callable[..., Any], *arguments: Any, ranks: int = 2, seconds: float = 60.0) -> list[Any]:
    """What `function(*arguments)` returns in each of `ranks` processes, in rank order.

    The function may be defined in a notebook. While it runs, the process group is up, with the backend gloo, and each
    process has one math thread. Raises `LaunchError`, with the traceback of the rank that failed first, if one raises,
    dies, or is not done after `seconds`; `StubMet` where that rank met an exercise that is not written yet. Nothing is
    left running.
    """
    context = _context()
    call = (function, arguments) if context.get_start_method() == "fork" else _by_value(function, arguments)
    started: list[BaseProcess] = []
    with tempfile.TemporaryDirectory(prefix="ranks-", ignore_cleanup_errors=True) as folder:
        try:
            for rank in range(ranks):
                process = context.Process(target=_run, args=(call, rank, ranks, folder, seconds), daemon=True)
                process.start()
                started.append(process)
            _wait(started, time.monotonic() + seconds)
            codes = [process.exitcode for process in started]
        finally:
            for process in started:
                process.kill()
                process.join()
        outcomes = [_outcome(Path(folder, f"{rank}.pt"), code, seconds) for rank, code in enumerate(codes)]
    failures = {rank: outcome for rank, outcome in enumerate(outcomes) if isinstance(outcome, Failure)}
    if failures:
        # The others fail in its wake, with "connection closed by peer".
        rank = min(failures, key=lambda rank: failures[rank].at)
        if failures[rank].stub:
            raise StubMet(failures[rank].stub)
        raise LaunchError(f"rank {rank} of {ranks} {failures[rank].story}")
    return outcomes


def _context() -> BaseContext:
    """Forks are quick and know the notebook's names; beside an accelerator's threads only new processes are safe."""
    forks = sys.platform == "linux" and not torch.accelerator.is_available()
    return multiprocessing.get_context("fork" if forks else "spawn")


def _by_value(function: Callable[..., Any], arguments: tuple) -> bytes:
    """The call with the code of its functions, so that a new process need not find the modules they stand in."""
    names = {getattr(value, "__module__", None) for value in (function, *arguments) if callable(value)}
    modules = [sys.modules[name] for name in names if name in sys.modules]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((function, arguments))
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _wait(processes: list[BaseProcess], deadline: float) -> None:
    """Return when all have ended well, one has not, or it is late."""
    running = {process.sentinel: process for process in processes}
    while running and (left := deadline - time.monotonic()) > 0:
        for sentinel in wait(list(running), timeout=left):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                return


def _outcome(path: Path, exit_code: int | None, seconds: float) -> Any:
    """What a rank returned, or its `Failure`; `exit_code` is None if it was still at work."""
    if path.exists():
        return torch.load(path, weights_only=False)
    if exit_code is None:
        return Failure(f"was not done after {seconds:g} s", at=float("inf"))
    return Failure(f"died without a word, exit code {exit_code}", at=0.0)


def _run(call: tuple | bytes, rank: int, ranks: int, folder: str, seconds: float) -> None:
    """One rank: join the others, run, and leave the outcome in `folder`."""
    torch.set_num_threads(1)
    if sys.platform in LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])
    try:
        function, arguments = pickle.loads(call) if isinstance(call, bytes) else call
        dist.init_process_group(
            "gloo",
            init_method=Path(folder, "meeting").as_uri(),
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=seconds),
        )
        _leave(function(*arguments), folder, rank)
    except BaseException as error:
        stub = _function_of(error) if isinstance(error, NotImplementedError) else None
        _leave(Failure(f"failed:\n{traceback.format_exc()}", at=time.time(), stub=stub), folder, rank)
        sys.exit(1)
    dist.destroy_process_group()


def _function_of(error: BaseException) -> str:
    """The function that raised `error`."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1].f_code.co_qualname


def _leave(outcome: Any, folder: str, rank: int) -> None:
    """Write the outcome, and give it its name when it is whole."""
    draft = Path(folder, f"{rank}.draft")
    torch.save(outcome, draft)
    draft.replace(Path(folder, f"{rank}.pt"))
