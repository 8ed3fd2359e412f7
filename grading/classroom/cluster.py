"""A class on several machines: Dask carries each submission to a worker, whose own engine grades it.

Workers need this repository's environment, and no disk in common with the grader: what was handed in goes there with
the task, and the result comes back. A submission whose worker is lost goes to another one.
"""

import io
import logging
import secrets
import socket
import tempfile
import time
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from distributed import CancelledError, Client
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from grading.classroom import sandbox
from grading.classroom.engine import Engine, EngineLost, Result, refused
from grading.classroom.ledger import grader_digest
from grading.classroom.sandbox import Layer
from grading.learner_notebook import NotebookCell
from grading.units import Unit, UnitNotFound, find

CONNECT_S = 10
RETRIES = 2
"""How often a submission is tried again that failed for a reason of ours."""


class ClusterError(RuntimeError):
    """A scheduler or workers that cannot be worked with; the message says what to do."""


@dataclass(frozen=True)
class Errand:
    """What a worker must know of a run."""

    unit: str
    grader: str
    """Hash of what decides the marks."""
    seed: int
    only: tuple[str, ...]
    values: tuple[str, ...]


class Cluster:
    """Grades as `Engine` does, on the workers of a Dask scheduler."""

    def __init__(
        self,
        unit: Unit,
        address: str,
        seed: int | None = None,
        only: Collection[str] = (),
        values: Collection[str] = (),
    ) -> None:
        """`address` is the scheduler's, as `tcp://host:8786`. Raises `ClusterError`."""
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost is told once, by us
        seed = secrets.randbits(31) if seed is None else seed
        self.unit, self.only = unit, tuple(only)
        self._errand = Errand(unit.id, grader_digest(unit), seed, self.only, tuple(values))
        try:
            self._client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(f"There is no Dask scheduler at {address}: {error or type(error).__name__}.") from None
        try:
            self.missing = self._look_at_workers(address)
        except BaseException:
            self._client.close()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers' engines, and hang up."""
        self._client.run(_close, self._errand, on_error="ignore")
        self._client.close()

    @property
    def places(self) -> tuple[str, ...]:
        """The workers there are now; each should see the solution pass before the class is graded."""
        return tuple(self._client.nthreads())

    @property
    def width(self) -> int:
        """How many submissions to have under way: one that waits for each that runs."""
        return 2 * sum(self._client.nthreads().values())

    def grade(self, cells: list[NotebookCell], files: Path, place: str | None = None) -> Result:
        """`Engine.grade` on a worker, the one at `place` if it is named. Raises `EngineLost`."""
        there = [place] if place else None
        task = self._client.submit(
            _grade, self._errand, cells, _packed(files), pure=False, retries=RETRIES, workers=there
        )
        try:
            return task.result()
        except (KilledWorker, CommClosedError, CancelledError, TimeoutError, OSError) as error:
            raise EngineLost(f"its worker was lost ({str(error).splitlines()[0] if str(error) else error!r})") from None

    def refused(self, reason: str) -> Result:
        """The result of a submission that there is nothing to run of."""
        return refused(self.unit, self.only, reason)

    def _look_at_workers(self, address: str) -> dict[str, dict[Layer, str]]:
        """The layers of isolation that each worker's machine lacks."""
        said = self._client.run(_look, self._errand)
        if not said:
            raise ClusterError(f"{address} has no workers: `dask worker {address}` starts one on a machine.")
        for answer in said.values():
            if isinstance(answer, str):
                raise ClusterError(answer)
        return dict(said.values())


# What follows runs on a worker.

IDLE_S = 900
"""After so long an engine's grader has gone without a word."""


@dataclass
class _Running:
    engine: Engine
    used: float


_engines: dict[Errand, _Running] = {}
_lock = Lock()


def _look(errand: Errand) -> tuple[str, dict[Layer, str]] | str:
    """This machine's name and what it lacks, or why it cannot grade."""
    return _why_not(errand) or (socket.gethostname(), sandbox.layers())


def _why_not(errand: Errand) -> str | None:
    """Why a worker here would not give the marks that the grader's own checkers give."""
    try:
        same = grader_digest(find(errand.unit)) == errand.grader
    except (UnitNotFound, OSError):
        same = False
    if same:
        return None
    return f"The worker on {socket.gethostname()} has other checkers of {errand.unit} than the grader: update it."


def _grade(errand: Errand, cells: list[NotebookCell], packed: bytes) -> Result:
    with tempfile.TemporaryDirectory(prefix="solo-class-") as folder:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(folder)
        return _engine(errand).grade(cells, Path(folder))


def _engine(errand: Errand) -> Engine:
    """The engine of this run in this worker, made for its first submission."""
    with _lock:
        if errand not in _engines:
            if why := _why_not(errand):
                raise EngineLost(why)
            _close_idle()
            layers = frozenset(Layer) - sandbox.layers().keys()
            made = Engine(find(errand.unit), layers, seed=errand.seed, only=errand.only, values=errand.values)
            _engines[errand] = _Running(made, time.monotonic())
        running = _engines[errand]
        running.used = time.monotonic()
        return running.engine


def _close_idle() -> None:
    for errand in [e for e, running in _engines.items() if time.monotonic() - running.used > IDLE_S]:
        _engines.pop(errand).engine.close()


def _close(errand: Errand) -> None:
    with _lock:
        if errand in _engines:
            _engines.pop(errand).engine.close()


def _packed(folder: Path) -> bytes:
    """All files of a folder, in memory."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return whole.getvalue()
