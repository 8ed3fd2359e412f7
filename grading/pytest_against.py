"""Checker files under plain pytest: each test replays what a fresh run of a notebook made of it.

The notebook runs once, in a child process; pytest shows the Report test by test.
"""

from pathlib import Path

import pytest

from grading import card, progress, units
from grading.fresh import NotebookError, run_fresh
from grading.projects import ProjectError
from grading.report import Outcome, Report
from grading.units import Unit

REPORTS = pytest.StashKey[dict[str, Report]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which notebook the checkers judge, and whether the result is kept."""
    group = parser.getgroup("solo")
    group.addoption(
        "--against",
        default="solution",
        metavar="solution|starter|workspace|PATH",
        help="the notebook that the checkers of a unit judge (default: solution)",
    )
    group.addoption("--record", action="store_true", help="keep the results in progress.json")


def pytest_configure(config: pytest.Config) -> None:
    """Start with no unit run yet."""
    config.stash[REPORTS] = {}


@pytest.fixture
def lab() -> None:
    """The learner's namespace is in the child process."""


@pytest.fixture
def rng() -> None:
    """So is the generator."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Replay the requirement of a checker's test; any other test runs as usual."""
    unit = _unit_of(pyfuncitem.path)
    if unit is None:
        return None
    exercise = next(e for e in _report(pyfuncitem.config, unit).exercises if _is_of(e.name, pyfuncitem, unit))
    requirement = next(r for r in exercise.requirements if r.id == pyfuncitem.originalname)
    if requirement.outcome is not Outcome.PASSED:
        pytest.fail("\n".join(card.requirement_lines(requirement)), pytrace=False)
    return True


def _unit_of(path: Path) -> Unit | None:
    return next((unit for unit in units.all_units() if unit.kind in {"lab", "project"} and unit.checkers == path), None)


def _is_of(exercise: str, item: pytest.Function, unit: Unit) -> bool:
    from grading.checkers import checker

    return checker(unit, exercise).class_name == item.cls.__name__


def _report(config: pytest.Config, unit: Unit) -> Report:
    reports = config.stash[REPORTS]
    if unit.id not in reports:
        against = config.getoption("against")
        known = {"solution": unit.solution, "starter": unit.starter, "workspace": unit.workspace_notebook}
        try:
            reports[unit.id] = run_fresh(unit, known.get(against) or Path(against).resolve())
        except (NotebookError, ProjectError) as error:
            pytest.exit(str(error), returncode=2)
        if config.getoption("record") and against not in {"solution", "starter"}:
            progress.record(reports[unit.id])
    return reports[unit.id]
