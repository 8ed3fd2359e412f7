"""The proof of a unit's checkers: they pass what is right, reject what is wrong, and tell mistakes apart.

Everything runs in a child process over the namespace of the solution, as `run_fresh` would make it.
"""

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from grading.answers import Answer, answers
from grading.causes import choose
from grading.checkers import Checker, checkers
from grading.fresh import start_child
from grading.namespaces import replaced, replaced_values
from grading.projects import is_test
from grading.reference import Part, parts
from grading.report import award
from grading.units import Unit, find

if TYPE_CHECKING:
    from grading.runner import Result

SEEDS = (0, 1, 2)


class Trial(BaseModel):
    """One answer to one exercise, under one seed, and whether the checkers treated it as they should."""

    exercise: str
    answer: str
    seed: int
    kind: str
    """`reference`, `alternative`, `mistake` or `lazy`."""
    points: float
    max_points: float
    named: str | None = None
    stages: tuple[str, ...] = ()
    says: str = ""
    """The first thing the learner would read."""

    @property
    def fault(self) -> str | None:
        """What is wrong with the checkers, in a sentence; None if nothing is."""
        subject = f"{self.exercise}: {self.kind} `{self.answer}` (seed {self.seed})"
        if self.kind in {"reference", "alternative"} and self.points < self.max_points:
            return f"{subject} is right and gets {self.points:g} of {self.max_points:g}: {self.says}"
        if self.kind == "mistake" and self.points >= self.max_points:
            return f"{subject} gets full marks"
        if self.kind == "mistake" and self.named != self.answer:
            return f"{subject} is taken for {self.named or 'nothing known'}: {self.says}"
        if self.kind == "lazy" and self.points > 0:
            return f"{subject} earns {self.points:g}"
        return None


def prove(unit: Unit, seeds: tuple[int, ...] = SEEDS) -> list[Trial]:
    """Try every known and every lazy answer to every exercise of `unit`. Raises `RuntimeError` if the trial breaks."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with TemporaryDirectory(prefix="solo-") as scratch:
        process = start_child(_child, theirs, unit.id, seeds, scratch)
        theirs.close()
        try:
            result = ours.recv()
        except EOFError:
            result = f"the child process ended with exit code {process.exitcode}"
        process.join()
    if isinstance(result, str):
        raise RuntimeError(f"{unit.id} could not be proven: {result}")
    return [Trial(**trial) for trial in result]


def _child(pipe: Connection, unit_id: str, seeds: tuple[int, ...], scratch: str) -> None:
    import traceback

    from grading.fresh_child import quiet

    try:
        unit = find(unit_id)
        quiet(Path(scratch))
        namespace = solution_namespace(unit, Path(scratch))
        pipe.send([trial.model_dump() for trial in _trials(unit, namespace, seeds)])
    except Exception:
        pipe.send(traceback.format_exc())


def solution_namespace(unit: Unit, scratch: Path) -> dict[str, Any]:
    """What the solution of `unit` defines. Raises `RuntimeError` if one of its cells does, or a module."""
    from grading.learner_notebook import new_module, read_notebook, run_cells
    from grading.projects import load, module_files

    if unit.kind == "project":
        package, errors = load(unit, unit.solution, module_files(unit, unit.solution))
        if errors:
            raise RuntimeError(f"modules of the solution raise: {errors}")
        return package
    cells = [c for c in read_notebook(unit.solution) if not c.check and not c.demo]
    module = new_module(scratch, cells)
    if errors := run_cells(cells, module):
        raise RuntimeError(f"solution cells raise: {errors}")
    return module.__dict__


def _trials(unit: Unit, namespace: dict[str, Any], seeds: tuple[int, ...]) -> Iterator[Trial]:
    for checker in checkers(unit):
        bench = _Bench(unit, namespace, checker)
        for seed in seeds:
            yield bench.trial("reference", "solution", seed, bench.test(seed))
            yield from bench.known_answers(seed)
        yield from bench.lazy_answers(seeds[0])


@dataclass(frozen=True)
class _Bench:
    """One exercise, and the solution's namespace to try answers in."""

    unit: Unit
    namespace: dict[str, Any]
    checker: Checker

    def test(self, seed: int, fast_only: bool = False) -> "Result":
        from grading.runner import Session

        return Session(self.unit, self.namespace, seed=seed).tested(self.checker.name, fast_only=fast_only)

    def known_answers(self, seed: int) -> Iterator[Trial]:
        """Every known answer; a mistake's failures are then explained as a learner's would be, by all mistakes."""
        known = [a for a in answers(self.unit) if a.exercise == self.checker.name]
        results = [(answer, self.answered(answer, seed)) for answer in known]
        mistakes = [(answer, result.fast_signatures) for answer, result in results if not answer.right]
        for answer, result in results:
            if answer.right:
                yield self.trial("alternative", answer.name, seed, result)
            else:
                cause = choose(mistakes, result.fast_signatures)
                yield self.trial("mistake", answer.name, seed, result, cause.mistake if cause else None)

    def lazy_answers(self, seed: int) -> Iterator[Trial]:
        """All that the learner writes for the exercise, made lazy at once."""
        written = [part for part in parts(self.unit) if part.exercise == self.checker.name]
        for variants in zip(*map(self._lazy_variants, written), strict=False):
            with ExitStack() as stack:
                for part, (_, values) in zip(written, variants, strict=True):
                    stack.enter_context(replaced_values(self.namespace, part.module, values))
                yield self.trial("lazy", variants[0][0], seed, self.test(seed))

    def _lazy_variants(self, part: Part) -> list[tuple[str, dict[str, Any]]]:
        from grading.lazy import lazy_answers

        scope = vars(self.namespace[part.module]) if part.module else self.namespace
        variants = list(lazy_answers({name: scope[name] for name in part.names}, self.checker.forbidden))
        # A test returns nothing: all that could make one lazy is to do nothing.
        return variants[:1] if is_test(part.module) else variants

    def answered(self, answer: Answer, seed: int) -> "Result":
        """The tests over a known answer; a mistake's slow tests only if the fast ones did not reject it."""
        with replaced(self.namespace, answer.patch):
            if not answer.right:
                result = self.test(seed, fast_only=True)
                if not result.passed:
                    return result
            return self.test(seed)

    def trial(self, kind: str, answer: str, seed: int, result: "Result", named: str | None = None) -> Trial:
        """What came of one answer, in a form that leaves the process."""
        failed = [r.evidence for r in result.requirements if r.evidence]
        return Trial(
            exercise=self.checker.name,
            answer=answer,
            seed=seed,
            kind=kind,
            points=award(result.requirements, self.checker.points),
            max_points=self.checker.points,
            named=named,
            stages=tuple(dict.fromkeys(e.stage for e in failed)),
            says=failed[0].message if failed else "",
        )
