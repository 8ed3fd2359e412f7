"""Several processes run one function, meet, and all end."""

import multiprocessing
import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from labkit import launch as module
from labkit.launch import LaunchError, StubMet, launch


def total(x: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The rank, and the sum over ranks of `x` times the rank + 1."""
    x = x * (dist.get_rank() + 1)
    dist.all_reduce(x)
    return dist.get_rank(), x


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_values_come_back_in_rank_order(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method} is not known here")
    monkeypatch.setattr(module, "_context", lambda: multiprocessing.get_context(method))
    threads = torch.get_num_threads()
    results = launch(total, torch.tensor([1.0, 2.0]), ranks=3)
    assert [rank for rank, _ in results] == [0, 1, 2]
    assert all(torch.equal(x, torch.tensor([6.0, 12.0])) for _, x in results)
    assert not dist.is_initialized(), "the caller's own process must stay out of the group"
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_local_function_runs(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_context", lambda: multiprocessing.get_context(method))
    offset = 10
    assert launch(lambda: dist.get_rank() + offset) == [10, 11]


def test_the_rank_that_failed_first_is_named() -> None:
    def faulty() -> None:
        if dist.get_rank() == 1:
            raise KeyError("of rank one")
        dist.barrier()

    with pytest.raises(LaunchError, match=r"rank 1 of 2 failed:(.|\n)*of rank one"):
        launch(faulty)


def test_an_unwritten_function_is_named() -> None:
    def unwritten() -> None:
        raise NotImplementedError

    with pytest.raises(StubMet, match=r"`test_an_unwritten_function_is_named.<locals>.unwritten` is not written yet"):
        launch(unwritten)


def test_a_rank_that_dies_is_named() -> None:
    def dying() -> None:
        if dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()

    start = time.monotonic()
    with pytest.raises(LaunchError, match="rank 1 of 2 died"):
        launch(dying)
    assert time.monotonic() - start < 30


def test_an_outcome_that_cannot_be_sent_is_a_failure() -> None:
    with pytest.raises(LaunchError, match="failed"):
        launch(lambda: (x for x in ()))


def test_late_ranks_are_ended() -> None:
    with pytest.raises(LaunchError, match="rank 0 of 2 was not done after 2 s"):
        launch(time.sleep, 60, seconds=2)
    assert not multiprocessing.active_children()
