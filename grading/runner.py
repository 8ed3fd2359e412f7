"""The one runner: checkers × a namespace → `Report`. Everything else is a way to get a namespace."""

import ast
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch

from grading import causes
from grading.answers import Answer
from grading.checkers import Checker, checkers
from grading.diagnosis import Signature
from grading.namespaces import Patch, replaced
from grading.pytest_plugin import CheckPlugin, Collected
from grading.reference import exercise_of, sources
from grading.report import (
    Cause,
    Context,
    Evidence,
    ExerciseReport,
    Outcome,
    Report,
    Requirement,
    award,
    overall,
)
from grading.silence import silence
from grading.units import PACKAGE, Unit, content_root, defined_names

PYTEST_ARGUMENTS = (
    "--import-mode=importlib", "--noconftest", "--disable-plugin-autoload", "-c", str(PACKAGE / "pytest_checks.ini"),
    "--capture=no",  # `silence` does it
    "-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler",
    # These two collect garbage at the end of a run, which costs a quarter of a second with torch loaded.
    "-p", "no:unraisableexception", "-p", "no:threadexception",
)  # fmt: skip


class CheckerBroken(RuntimeError):
    """The checker file itself could not be run; no fault of the learner's."""


def new_seed() -> int:
    """A seed that an answer cannot have been written for."""
    return secrets.randbits(31)


def run(
    unit: Unit,
    namespace: dict[str, Any],
    only: str | None = None,
    *,
    seed: int = 0,
    context: Context = "live",
    find_causes: bool = True,
) -> Report:
    """Check one exercise, or all of `unit`, against `namespace`, which is left as it was.

    Raises `LookupError` for an unknown exercise, `CheckerBroken` if the checkers cannot run and `KeyboardInterrupt`
    if the learner stops it.
    """
    start = time.perf_counter()
    session = Session(unit, namespace, seed=seed, find_causes=find_causes)
    names = [c.name for c in checkers(unit)] if only is None else [only]
    exercises = tuple(session.exercise(name) for name in names)
    seconds = time.perf_counter() - start
    return Report(unit=unit.id, context=context, seed=seed, seconds=round(seconds, 4), exercises=exercises)


@dataclass(frozen=True)
class Result:
    """The tests of one exercise in one setting: learner's own, or with references in place of needed exercises."""

    requirements: tuple[Requirement, ...]
    signatures: Mapping[str, Signature]
    """By test id, of those that failed."""
    blames: frozenset[str] = frozenset()
    """The exercises whose stub or absence made a test fail."""
    carried: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Every requirement is met."""
        return overall(self.requirements) is Outcome.PASSED

    @property
    def waits(self) -> bool:
        """A needed exercise is in the way."""
        return overall(self.requirements) is Outcome.WAITING

    @property
    def fast_signatures(self) -> dict[str, Signature]:
        """What a cause is looked for by: the failures of tests that are not slow."""
        slow = {r.id for r in self.requirements if r.slow}
        return {tid: signature for tid, signature in self.signatures.items() if tid not in slow}


class Session:
    """One run over one namespace; an exercise is tested once, however many others need it."""

    def __init__(
        self,
        unit: Unit,
        namespace: dict[str, Any],
        *,
        seed: int = 0,
        find_causes: bool = True,
        broken: Mapping[str, str] | None = None,
        dead: Mapping[str, Evidence] | None = None,
        on_test: Callable[[str, str], None] | None = None,
    ) -> None:
        """`broken` says why a name is undefined, `dead` which exercises ended the process when they were tested."""
        self.unit, self.namespace, self.seed, self.find_causes = unit, namespace, seed, find_causes
        self.broken, self.dead = broken or {}, dead or {}
        self.on_test = on_test
        self.checkers = {c.name: c for c in checkers(unit)}
        self._results: dict[str, Result] = {}

    def exercise(self, name: str) -> ExerciseReport:
        """Check one exercise: its tests, error carried forward, and the cause of what is left."""
        checker = self._checker(name)
        result = self._result(name)
        cause = self._cause(checker, result) if self.find_causes and not result.passed else None
        return ExerciseReport(
            name=name,
            title=checker.title,
            outcome=overall(result.requirements),
            points=award(result.requirements, checker.points),
            max_points=checker.points,
            side_quest=checker.side_quest,
            checker=checker.digest,
            requirements=result.requirements,
            cause=cause,
            carried=result.carried,
        )

    def _checker(self, name: str) -> Checker:
        if name not in self.checkers:
            raise LookupError(f"{self.unit.id} has no exercise {name!r}. It has: {', '.join(self.checkers)}.")
        return self.checkers[name]

    def _result(self, name: str) -> Result:
        if name not in self._results:
            self._results[name] = self._judge(self._checker(name))
        return self._results[name]

    def _judge(self, checker: Checker) -> Result:
        if checker.name in self.dead:
            return self._died(checker)
        needs = self._all_needs(checker)
        deadly = tuple(n for n in needs if n in self.dead)
        result = self._with_references(checker, deadly)
        if result.passed or not needs:
            return result
        failing = tuple(n for n in needs if not self._result(n).passed)
        if failing in ((), deadly):
            return result
        carried = self._with_references(checker, failing)
        # What does not even run for want of others says less than what runs with the reference in their place.
        return max(result, carried, key=lambda r: (award(r.requirements, 1), not r.waits))

    def _all_needs(self, checker: Checker) -> tuple[str, ...]:
        """Needed exercises, and those that they need, first things first."""
        names: dict[str, None] = {}
        for need in checker.needs:
            names.update(dict.fromkeys((*self._all_needs(self._checker(need)), need)))
        return tuple(names)

    def _with_references(self, checker: Checker, names: tuple[str, ...]) -> Result:
        """Test with the reference in place of `names`, as far as the unit ships them."""
        carried = tuple(n for n in names if self._reference(n))
        with self._references(carried):
            return self.tested(checker.name, carried)

    @contextmanager
    def _references(self, names: Iterable[str]) -> Iterator[None]:
        with ExitStack() as stack:
            for name in names:
                for module, text in self._reference(name).items():
                    code = compile(text, f"<reference {name}>", "exec")
                    stack.enter_context(replaced(self.namespace, Patch(code, module)))
            yield

    @contextmanager
    def _reference_parts(self, exercise: str, mistake: Answer) -> Iterator[None]:
        """The reference's definitions in place of those of the learner's that `mistake` is about; of those alone."""
        tree = ast.parse(self._reference(exercise)[mistake.patch.module])
        tree.body = [part for part in tree.body if set(defined_names([part])) & set(mistake.defines)]
        code = compile(tree, f"<reference {exercise}>", "exec")
        with replaced(self.namespace, Patch(code, mistake.patch.module)):
            yield

    def _reference(self, name: str) -> dict[str | None, str]:
        return sources(self.unit, name)

    def tested(self, name: str, carried: tuple[str, ...] = (), fast_only: bool = False) -> Result:
        """The tests of one exercise over the namespace as it is, without regard to what it needs."""
        checker = self._checker(name)
        collected = self._pytest(checker, fast_only)
        tests = [t for t in checker.tests if not (fast_only and t.slow)]
        found = {t.id: collected.get(t.id, Collected(Outcome.NOT_ATTEMPTED)) for t in tests}
        blamed = {tid: self._exercise_of.get(c.diagnosis.blames) for tid, c in found.items() if c.diagnosis}
        requirements = tuple(
            Requirement(
                id=t.id,
                text=t.text,
                guard=t.guard,
                slow=t.slow,
                outcome=self._outcome(found[t.id], checker, blamed.get(t.id)),
                evidence=self._evidence(found[t.id]),
                seconds=round(found[t.id].seconds, 4),
            )
            for t in tests
        )
        signatures = {tid: c.diagnosis.signature for tid, c in found.items() if c.diagnosis}
        others = frozenset(name for name in blamed.values() if name not in {None, checker.name})
        return Result(requirements, signatures, others, carried)

    def _outcome(self, collected: Collected, checker: Checker, blamed: str | None) -> Outcome:
        diagnosis = collected.diagnosis
        if blamed not in {None, checker.name} and diagnosis:
            return Outcome.WAITING
        if diagnosis and diagnosis.evidence.stage == "undefined" and diagnosis.blames not in self.broken:
            # Its cell has not run, or is still the stub of a whole class: either way there is nothing to judge.
            return Outcome.NOT_ATTEMPTED if blamed else collected.outcome
        return collected.outcome

    def _evidence(self, collected: Collected) -> Evidence | None:
        if collected.diagnosis is None:
            return None
        evidence, name = collected.diagnosis.evidence, collected.diagnosis.blames
        if evidence.stage == "undefined" and name in self.broken:
            return evidence.model_copy(update={"message": f"`{name}` is not defined, because {self.broken[name]}"})
        return evidence

    @cached_property
    def _exercise_of(self) -> dict[str, str]:
        return exercise_of(self.unit)

    def _died(self, checker: Checker) -> Result:
        requirements = tuple(
            Requirement(id=t.id, text=t.text, guard=t.guard, slow=t.slow, outcome=Outcome.RAISED,
                        evidence=self.dead[checker.name])
            for t in checker.tests
        )  # fmt: skip
        return Result(requirements, {})

    def _cause(self, checker: Checker, result: Result) -> Cause | None:
        """The known mistake that fails the same tests in the same way."""
        if not result.fast_signatures or any(r.outcome in NOT_TRIED for r in result.requirements):
            return None

        changes_nothing: dict[tuple, bool] = {}

        def at_fault(mistake: Answer) -> bool:
            """Whether what the learner has in the mistake's place matters: the reference's changes a failure."""
            place = mistake.patch.module, mistake.defines
            if mistake.patch.module not in self._reference(checker.name):
                return True
            if place not in changes_nothing:
                with self._references(result.carried), self._reference_parts(checker.name, mistake):
                    signatures = self.tested(checker.name, fast_only=True).signatures
                changes_nothing[place] = causes.is_exact(signatures, result.fast_signatures)
            return not changes_nothing[place]

        def signatures_of(mistake: Answer) -> Mapping[str, Signature]:
            if not at_fault(mistake):
                return {}
            base = (checker.name,) if mistake.extends else ()
            with self._references((*result.carried, *base)), replaced(self.namespace, mistake.patch):
                return self.tested(checker.name, fast_only=True).signatures

        return causes.name_cause(self.unit, checker.name, result.fast_signatures, signatures_of)

    def _pytest(self, checker: Checker, fast_only: bool = False) -> dict[str, Collected]:
        """Run the tests of one exercise; results by test id."""
        return self._pytest_all([checker], fast_only)[checker.name]

    def _pytest_all(self, wanted: Iterable[Checker], fast_only: bool = False) -> dict[str, dict[str, Collected]]:
        """Run the tests of several exercises at once; results by exercise and test id."""
        exercise = {c.class_name: c.name for c in wanted}
        on_test = self.on_test and (lambda cls, test: self.on_test(exercise[cls], test))
        plugin = CheckPlugin(self.namespace, self.unit.checkers, self.seed, frozenset(exercise), fast_only, on_test)
        _pytest_main(self.unit, plugin)
        results = {name: {} for name in exercise.values()}
        for (cls, test), collected in plugin.results.items():
            results[exercise[cls]][test] = collected
        return results


def load_checkers(unit: Unit) -> None:
    """Read the checkers of `unit` now, so that the first check need not. Raises `CheckerBroken`."""
    _pytest_main(unit, CheckPlugin({}, unit.checkers, seed=0, classes=frozenset()))


def _pytest_main(unit: Unit, plugin: CheckPlugin) -> None:
    _forget_if_edited(unit)
    # Without its cut, pytest lists every folder on the way down to the checkers.
    places = [str(unit.checkers), f"--rootdir={content_root()}", f"--confcutdir={unit.folder}"]
    with _state_kept(), silence():
        pytest.main([*places, *PYTEST_ARGUMENTS], plugins=[plugin])
    if plugin.interrupted:
        raise KeyboardInterrupt
    if plugin.collection_error:
        raise CheckerBroken(f"The checkers of {unit.id} cannot run: {plugin.collection_error}")


NOT_TRIED = {Outcome.NOT_ATTEMPTED, Outcome.WAITING}


@contextmanager
def _state_kept() -> Iterator[None]:
    """Random state, grad mode, default dtype and threads are the learner's: check with our own, then put them back."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    grad, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    current_test = os.environ.get("PYTEST_CURRENT_TEST")
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        if current_test is not None:
            os.environ["PYTEST_CURRENT_TEST"] = current_test


_loaded: dict[str, int] = {}
"""The checker files that are loaded, with the time of their last change."""


def _forget_if_edited(unit: Unit) -> None:
    """Let an edited checker file be read again. An unchanged one stays loaded: reading it can triple a check."""
    path, changed = str(unit.checkers), unit.checkers.stat().st_mtime_ns
    if _loaded.get(path) != changed:
        for name in [n for n, module in sys.modules.items() if getattr(module, "__file__", None) == path]:
            del sys.modules[name]
    _loaded[path] = changed
