"""The checks of a submission: our `Session`, which asks the grader for what its process must not hold."""

import linecache
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Any

import torch
from torch.testing import _comparison

import grading.preload  # noqa: F401 - all that a check may import, before any code but ours runs
from grading.checkers import Checker, checkers
from grading.classroom.child import Ask, Job, Tell
from grading.classroom.scribe import Scribe, observe
from grading.pytest_plugin import Collected
from grading.runner import CheckerBroken, Result, Session, load_checkers
from grading.units import Unit


def _plainly(compare: Callable[..., Any]) -> Callable[..., Any]:
    """A comparison in which a tensor type of the submission's own has no say."""

    @wraps(compare)
    def compared(*values: Any, **settings: Any) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return compare(*values, **settings)

    return compared


# What `assert_close` calls; it itself must stay, for its frame is where a diagnosis reads the values.
_comparison.not_close_error_metas = _plainly(_comparison.not_close_error_metas)
for _kind in (_comparison.TensorLikePair, _comparison.NumberPair):
    observe(_kind)


@cache
def load(unit: Unit) -> None:
    """Read the checkers of `unit`, once: when a submission runs, their file is out of reach."""
    load_checkers(unit)
    checkers(unit)
    linecache.getlines(str(unit.checkers))


def load_reference(unit: Unit) -> None:
    """Read what a learner's own tests are judged by. No process that holds it runs anything else of a submission's."""
    from grading import own_tests

    own_tests.load(unit)


class Checks:
    """The checks of one submission, prepared before its code runs and begun when it has."""

    def __init__(self, unit: Unit, job: Job, tell: Tell, ask: Ask) -> None:
        load(unit)
        self._unit, self._job, self._tell, self._ask = unit, job, tell, ask
        self._session: _Session | None = None

    def begin(self, namespace: dict[str, Any], broken: dict[str, str]) -> None:
        """Take the submission's namespace. The seed is asked for now: no cell has run since it was known."""
        self._session = _Session(
            self._unit,
            namespace,
            seed=self._ask("seed"),
            find_causes=False,
            broken=broken,
            dead=self._job.dead,
        )
        self._session.prepare(self._job, self._tell, self._ask)

    def exercise(self, name: str) -> str:
        """The report on one exercise, as JSON."""
        return self._session.exercise(name).model_dump_json()


class _Session(Session):
    def prepare(self, job: Job, tell: Tell, ask: Ask) -> None:
        """Take what a session otherwise reads from the unit's source, and run every test once.

        One run of pytest for all costs a tenth of one for each exercise.
        """
        self._tell, self._ask, self._scribe = tell, ask, Scribe(tell)
        self.on_test = self._begin
        self.__dict__["_exercise_of"] = job.owners  # in place of the cached property
        wanted = (c for c in self.checkers.values() if c.name in job.exercises)
        tried = [c for c in wanted if not self.dead.keys() & {c.name, *self._all_needs(c)}]
        self._first_run = self._pytest_all(tried)
        if lost := [c.name for c in tried if self._first_run[c.name].keys() != {t.id for t in c.tests}]:
            raise CheckerBroken(f"not every test was run, of {', '.join(lost)}")

    def _pytest(self, checker: Checker, fast_only: bool = False) -> dict[str, Collected]:
        """The tests as they went in the first run; anew where references stand in."""
        if not self._carrying and checker.name in self._first_run:
            return self._first_run[checker.name]
        return super()._pytest(checker, fast_only)

    def _pytest_all(self, wanted: Iterable[Checker], fast_only: bool = False) -> dict[str, dict[str, Collected]]:
        found = super()._pytest_all(wanted, fast_only)
        self._scribe.end_run()
        return found

    def _begin(self, exercise: str, test: str) -> None:
        self._tell("test", exercise, test)
        self._scribe.begin(exercise, test)

    _carrying = False

    def _reference(self, name: str) -> dict[str | None, str]:
        return dict(self._ask("reference", name))

    def _with_references(self, checker: Checker, names: tuple[str, ...]) -> Result:
        self._carrying = bool(names)
        try:
            return super()._with_references(checker, names)
        except CheckerBroken:
            raise
        except Exception:  # the references need what the submission has broken, such as its imports
            self._carrying = False
            return self.tested(checker.name)
        finally:
            self._carrying = False
