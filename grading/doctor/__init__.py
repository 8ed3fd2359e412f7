"""What can stop a learner, found before it does, each problem with its cure.

An examination is a function that yields findings; a new one joins `EXAMINATIONS`.
"""

from collections.abc import Callable, Iterator

from grading.doctor import desk, installation, libraries, machine
from grading.doctor.finding import INSTALL, Finding, State, problem

__all__ = ["Finding", "State", "examine"]

Examination = Callable[[], Iterator[Finding]]

EXAMINATIONS: tuple[Examination, ...] = (
    installation.python, installation.packages, installation.kernel, installation.nbgrader,
    machine.port, machine.disk, machine.memory,
    desk.folders, desk.place, desk.record, desk.notebooks, desk.data,
)  # fmt: skip


def examine() -> tuple[Finding, ...]:
    """Everything that was looked at. Changes nothing; a record that is damaged is set aside, as always."""
    with libraries.loading() as process:  # the longest wait: all else is looked at meanwhile
        found = [finding for examination in EXAMINATIONS for finding in _safely(examination)]
        return (*found, *libraries.findings(process))


def _safely(examination: Examination) -> Iterator[Finding]:
    """An examination that fails is a finding: a package that it needs may be what is broken."""
    try:
        yield from examination()
    except Exception as error:
        yield problem(examination.__name__, f"It cannot be examined ({type(error).__name__}: {error}).", INSTALL)
