"""A learner's own tests, judged: they must pass on a right package and fail on wrong ones."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest

from grading.answers import Answer, answers
from grading.checkers import checkers
from grading.namespaces import Package, Patch, replaced
from grading.projects import is_test
from grading.pytest_plugin import Lab
from grading.reference import sources
from grading.runner import PYTEST_ARGUMENTS
from grading.units import Unit


@dataclass
class Outcome:
    """What one run of the tests came to, by the names of the tests."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """With what was raised, in one line."""
    unwritten: NotImplementedError | None = None
    """What a stub raised; it is no test yet."""


def load(unit: Unit) -> None:
    """Read the reference's package and the known mistakes, once: when a submission runs, they are out of reach."""
    _right(unit)
    _mistakes(unit)


def on_reference(lab: Lab, module: str) -> Outcome:
    """Run the learner's tests in `module` over the reference's package.

    Raises the stub's `NotImplementedError` if none of them is written.
    """
    with _reference(lab._namespace):
        return _on_right_package(lab._namespace, module)


def caught(lab: Lab, module: str, mistakes: tuple[str, ...]) -> dict[str, bool]:
    """Of each known mistake, by name, whether a test in `module` fails with it in the reference's package.

    A test that fails without a mistake catches none. Raises the stub's `NotImplementedError` if no test is written, and
    `LookupError` for a mistake that the project does not know.
    """
    package = lab._namespace
    known = _mistakes(package.unit)
    if unknown := [name for name in mistakes if name not in known]:
        raise LookupError(f"{package.unit.id} knows no mistake {unknown[0]}")
    with _reference(package):
        sound = _on_right_package(package, module).passed
        return {name: _catches(package, module, known[name], sound) for name in mistakes}


def _on_right_package(package: Package, module: str) -> Outcome:
    outcome = _run(package[module])
    if outcome.unwritten and not (outcome.passed or outcome.failed):
        raise outcome.unwritten
    return outcome


def _catches(package: Package, module: str, mistake: Answer, sound: list[str]) -> bool:
    with replaced(package, mistake.patch):
        return bool(_run(package[module], only=sound).failed)


@contextmanager
def _reference(package: Package) -> Iterator[None]:
    """The reference's modules in place of the learner's; their tests stay."""
    with ExitStack() as stack:
        for patch in _right(package.unit):
            stack.enter_context(replaced(package, patch))
        yield


@cache
def _right(unit: Unit) -> tuple[Patch, ...]:
    """The modules of the reference's package, ready to run."""
    return tuple(
        Patch(compile(text, f"<reference {module}>", "exec"), module)
        for checker in checkers(unit)
        for module, text in sources(unit, checker.name).items()
        if not is_test(module)
    )


@cache
def _mistakes(unit: Unit) -> dict[str, Answer]:
    return {answer.name: answer for answer in answers(unit) if not answer.right}


def _run(module: ModuleType, only: list[str] | None = None) -> Outcome:
    """Run the tests of a module as it is in memory; `only` those named, and then until the first failure."""
    plugin = _Plugin(module, only)
    arguments = [module.__file__, *PYTEST_ARGUMENTS, *(["--exitfirst"] if only is not None else [])]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        pytest.main(arguments, plugins=[plugin])
    return plugin.outcome


class _Plugin:
    """Gives pytest the module that is loaded, and keeps what became of its tests."""

    def __init__(self, module: ModuleType, only: list[str] | None) -> None:
        self.module, self.only, self.outcome = module, only, Outcome()

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module:
        """Not the file: a known answer may stand in for some of its functions."""
        collector = pytest.Module.from_parent(parent, path=module_path)
        collector.obj = self.module
        return collector

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that are wanted."""
        items[:] = [item for item in items if self.only is None or item.name in self.only]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
        """Note what a test raised; one that skips itself is neither passed nor failed."""
        if call.excinfo is None:
            if call.when == "call":
                self.outcome.passed.append(item.name)
        elif isinstance(call.excinfo.value, NotImplementedError):
            self.outcome.unwritten = call.excinfo.value
        elif not call.excinfo.errisinstance(pytest.skip.Exception):
            self.outcome.failed[item.name] = call.excinfo.exconly(tryshort=True).splitlines()[0]
        return (yield)
