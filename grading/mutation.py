"""Mutation testing of a unit's checkers: a mutant of the solution that still gets full marks has found a hole."""

import multiprocessing
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, ValidationError

from grading import processes
from grading.fresh import start_child
from grading.mutants import Mutant, mutants
from grading.mutation_child import Fate, main
from grading.units import Unit

EQUIVALENTS = "equivalent_mutants.toml"
"""The file beside a lab that explains the mutants which no checker should kill."""
ENOUGH = 0.95


class MutationError(RuntimeError):
    """Mutants that cannot be tried; the message says why."""


class Equivalent(BaseModel):
    """A mutant that is right to survive, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exercise: str
    function: str
    diff: str
    why: str

    def explains(self, mutant: Mutant) -> bool:
        """Whether this is the one."""
        key = mutant.exercise, mutant.function, mutant.diff
        return (self.exercise, self.function, self.diff.strip("\n")) == key


class _Equivalents(BaseModel):
    """The file of explanations."""

    model_config = ConfigDict(extra="forbid")

    equivalent: tuple[Equivalent, ...]


@dataclass(frozen=True)
class Score:
    """What became of the mutants of one unit, and what is known of those that should survive."""

    fates: dict[Mutant, Fate]
    equivalents: tuple[Equivalent, ...]

    @cached_property
    def explained(self) -> tuple[Mutant, ...]:
        """Survivors that nobody can tell from the solution."""
        return tuple(m for m in self._survived if any(e.explains(m) for e in self.equivalents))

    @cached_property
    def survivors(self) -> tuple[Mutant, ...]:
        """Survivors without an excuse."""
        return tuple(m for m in self._survived if m not in self.explained)

    @property
    def stale(self) -> tuple[Equivalent, ...]:
        """Explanations of what is no mutant, or is killed."""
        return tuple(e for e in self.equivalents if not any(e.explains(m) for m in self._survived))

    @property
    def share(self) -> float:
        """Killed mutants among those that can be killed."""
        n_survivors, n_mortal = len(self.survivors), len(self.fates) - len(self.explained)
        return 1 - n_survivors / n_mortal if n_mortal else 1.0

    @property
    def enough(self) -> bool:
        """The checkers are good, and so is the file of explanations."""
        return self.share >= ENOUGH and not self.stale

    @property
    def _survived(self) -> list[Mutant]:
        return [m for m, fate in self.fates.items() if fate == "survived"]


def chosen_mutants(unit: Unit, exercise: str | None = None) -> tuple[Mutant, ...]:
    """The mutants of `unit`, or of one exercise. Raises `MutationError` if there are none."""
    every = mutants(unit) if unit.kind in {"lab", "project"} else ()
    chosen = tuple(m for m in every if exercise in {None, m.exercise})
    if not chosen:
        known = ", ".join(dict.fromkeys(m.exercise for m in every))
        raise MutationError(
            f"{unit.id} has no exercise {exercise!r}. It has: {known}."
            if every
            else f"{unit.id} has nothing to mutate."
        )
    return chosen


def equivalents(unit: Unit, exercise: str | None = None) -> tuple[Equivalent, ...]:
    """The explanations beside `unit`, or those of one exercise. Raises `MutationError` for a malformed file."""
    path = unit.folder / EQUIVALENTS
    if not path.exists():
        return ()
    try:
        known = _Equivalents.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise MutationError(f"{path} cannot be read: {error}") from None
    return tuple(e for e in known.equivalent if exercise in {None, e.exercise})


def try_mutants(
    unit: Unit,
    tried: tuple[Mutant, ...],
    seed: int = 0,
    on_fate: Callable[[Mutant, Fate], None] = lambda mutant, fate: None,
) -> dict[Mutant, Fate]:
    """What became of each mutant under the checkers of `unit`; `on_fate` is told as soon as it is known.

    Raises `MutationError` where processes cannot be forked, or if the solution itself does not get full marks.
    """
    if sys.platform != "linux":
        raise MutationError(
            "Mutants run in forked processes, which are safe with torch on Linux only: use Linux or WSL."
        )
    ours, theirs = multiprocessing.Pipe(duplex=False)
    fates: dict[int, Fate] = {}
    with TemporaryDirectory(prefix="solo-") as scratch:
        started = time.time()
        nursery = start_child(main, theirs, unit, tried, seed, scratch)
        theirs.close()
        try:
            while len(fates) < len(tried):
                index, fate = _received(ours)
                fates[index] = fate
                on_fate(tried[index], fate)
        finally:
            processes.end(nursery, scratch, started)
            ours.close()
    return {mutant: fates[i] for i, mutant in enumerate(tried)}


def _received(pipe: Connection) -> tuple[int, Fate]:
    try:
        message = pipe.recv()
    except EOFError:
        message = "The process that tries the mutants died. Is there memory left?"
    if isinstance(message, str):
        raise MutationError(message)
    return message
