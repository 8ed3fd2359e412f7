"""No test touches the learner's own record or workspace; and a small curriculum to test with."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from grading import cli, units
from grading.checkers import checkers
from grading.report import ExerciseReport, Outcome, Report, Requirement
from grading.units import Unit

CONTENT = Path(__file__).parent / "content"
PLAN = """
title = "Foundations"
goal = "Learn."
[units]
lab1_alpha = "Alpha"
lab2_beta = "Beta"
quiz = "Quiz"
project_gamma = "Gamma"
"""
CHECKERS = '''
class TestFirst(Exercise):
    """The first."""
    points = 6
    hints = ("Look.", "Look closer.", "It is there.")
    def test_it(self, lab):
        """does it"""

class TestSecond(Exercise):
    """The second."""
    points = 4
    def test_it(self, lab):
        """does it"""

class TestExtra(Exercise):
    """A side quest."""
    points = 5
    side_quest = True
    def test_it(self, lab):
        """does it"""
'''


def _asks_for_content(config: pytest.Config) -> bool:
    """Whether this run is one that a test started, on the test content, in a home that it has chosen."""
    return any(CONTENT in Path(argument).resolve().parents for argument in config.args)


def _at_home(place: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.setenv("SOLO_HOME", str(place))
    patch.setenv("SOLO_PROGRESS", str(place / "progress.json"))
    return place


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The test content is for tests to run, not a part of them: its checkers are collected only when asked for."""
    return True if collection_path == CONTENT and not _asks_for_content(config) else None


class SideBySide(LoadScopeScheduling):
    """What runs side by side: the tests of a unit stay together, for they run it once, and so do those of a file."""

    def _split_scope(self, nodeid: str) -> str:
        unit = re.search(r"test_units\.py.*\[(?:\w+-)?(\w+/\w+)\]$", nodeid)
        return unit[1] if unit else nodeid.split("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SideBySide:
    """For `-n 2`. xdist's own groups have no effect with this pytest, whose node ids cannot be changed."""
    return SideBySide(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Units come first: they take longest, and one that began last would keep the others waiting."""
    items.sort(key=lambda item: item.path.name != "test_units.py")


@pytest.fixture(scope="session", autouse=True)
def _no_real_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not _asks_for_content(request.config):
            _at_home(tmp_path_factory.mktemp("home"), patch)
        yield


@pytest.fixture(autouse=True)
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path | None:
    """This test's own learner's root, empty."""
    if _asks_for_content(request.config):
        return None
    return _at_home(tmp_path_factory.mktemp("home"), monkeypatch)


@pytest.fixture
def curriculum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One phase: a brief, two labs of 10 points and a side quest each; a quiz and a project that are only planned."""
    root = tmp_path / "content"
    phase = root / "phase1_foundations"
    (phase / "theory").mkdir(parents=True)
    (phase / "phase.toml").write_text(PLAN)
    (phase / "theory" / "01_alpha.py").write_text('# %% [markdown]\n"""\n# On alpha\n"""\n')
    nbformat.write(new_notebook(cells=[new_markdown_cell("# On alpha")]), phase / "theory" / "01_alpha.ipynb")
    for name in ("lab1_alpha", "lab2_beta"):
        lab = phase / name
        lab.mkdir()
        (lab / "lab.py").write_text(f'# %% [markdown]\n"""\n# {name}\n"""\n')
        (lab / "test_lab.py").write_text(CHECKERS)
        nbformat.write(_starter(), lab / "starter.ipynb")
    monkeypatch.setenv("SOLO_CONTENT", str(root))
    units.all_units.cache_clear()
    yield root
    units.all_units.cache_clear()


def _starter() -> nbformat.NotebookNode:
    cells = [new_markdown_cell("# A lab", id="title")]
    for name in ("first", "second", "extra"):
        stub = f"def {name}():\n    raise NotImplementedError"
        cells.append(new_code_cell(stub, id=name, metadata={"nbgrader": {"grade_id": name, "solution": True}}))
        check = {"nbgrader": {"grade_id": f"check-{name}", "grade": True}}
        cells.append(new_code_cell(f'check("{name}")', id=f"check-{name}", metadata=check))
    return new_notebook(cells=cells)


@pytest.fixture
def report(curriculum: Path) -> Callable[..., Report]:
    """`report("lab1", first=6, second=None)`: a run with these points, full ones passed, None not attempted."""

    def make(unit: str, context: str = "fresh", checker: str | None = None, **points: float | None) -> Report:
        known = {c.name: c for c in checkers(units.find(unit))}
        exercises = []
        for name, earned in points.items():
            outcome = Outcome.NOT_ATTEMPTED if earned is None else Outcome.FAILED
            outcome = Outcome.PASSED if earned == known[name].points else outcome
            exercises.append(
                ExerciseReport(
                    name=name,
                    title=known[name].title,
                    outcome=outcome,
                    points=earned or 0,
                    max_points=known[name].points,
                    side_quest=known[name].side_quest,
                    checker=checker or known[name].digest,
                    requirements=(Requirement(id="test_it", text="does it", outcome=outcome),),
                )
            )
        return Report(unit=units.find(unit).id, context=context, seed=1, exercises=tuple(exercises))

    return make


@pytest.fixture
def solo(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; its exit code, what it printed and what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def served(curriculum: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of a running `solo dashboard`, and the process."""
    code = "from grading.cli import main; main(['dashboard'])"
    paths = os.pathsep.join([str(CONTENT.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", "BROWSER": "true"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as process:
        yield re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0], process
        process.kill()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[Unit]:
    """The one unit that can really be checked; the learner's copy is its solution."""
    monkeypatch.setenv("SOLO_CONTENT", str(CONTENT))
    units.all_units.cache_clear()
    unit = units.find("lab9")
    unit.workspace_notebook.parent.mkdir(parents=True)
    shutil.copy(unit.solution, unit.workspace_notebook)
    yield unit
    units.all_units.cache_clear()


@pytest.fixture
def rewritten(tiny: Unit) -> Callable[..., str]:
    """`rewritten(softmax="…")`: the text of the tiny unit's solution with other code in some cells, by grade id."""

    def text(**code: str) -> str:
        notebook = nbformat.read(tiny.solution, as_version=4)
        for cell in notebook.cells:
            cell.source = code.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
        return nbformat.writes(notebook)

    return text
