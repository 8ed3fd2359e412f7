"""A course with the tiny lab, released once for all tests, and students who hand in what a test says."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nbformat
import pytest

from grading import units
from grading.build import render
from grading.release import release
from grading.units import Unit

CONTENT = Path(__file__).parents[1] / "content"
LAB = "lab9_tiny"


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content and a course in which the tiny lab is released; to be copied."""
    place = tmp_path_factory.mktemp("released")
    shutil.copytree(CONTENT, place / "content", ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOLO_CONTENT", str(place / "content"))
        units.all_units.cache_clear()
        release(units.find("phase1/lab9"), place / "course")
    units.all_units.cache_clear()
    return place


@pytest.fixture(scope="module")
def hand_in_to() -> Callable[..., Path]:
    """`hand_in_to(course, unit, "amy", softmax="…")`: as `hand_in`, for what a module shares."""
    return submit


@pytest.fixture(scope="module")
def term(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a copy of both that the tests of a module share."""
    place = tmp_path_factory.mktemp("term")
    shutil.copytree(released, place, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOLO_CONTENT", str(place / "content"))
        units.all_units.cache_clear()
        yield place
    units.all_units.cache_clear()


@pytest.fixture
def content(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The content, this test's own."""
    shutil.copytree(released / "content", tmp_path / "content")
    monkeypatch.setenv("SOLO_CONTENT", str(tmp_path / "content"))
    units.all_units.cache_clear()
    yield tmp_path / "content"
    units.all_units.cache_clear()


@pytest.fixture
def course(released: Path, content: Path, tmp_path: Path) -> Path:
    """The course, this test's own."""
    return Path(shutil.copytree(released / "course", tmp_path / "course"))


@pytest.fixture
def unit(content: Path) -> Unit:
    """The tiny lab."""
    return units.find("phase1/lab9")


@pytest.fixture
def solved(unit: Unit) -> Callable[..., str]:
    """`solved(softmax="…")`: the text of the solution with other code in some cells, by id; None drops one."""
    return partial(rewritten, render(unit)[unit.solution])


@pytest.fixture
def hand_in(course: Path, unit: Unit) -> Callable[..., Path]:
    """`hand_in("amy", softmax="…")`: put a submission into the course; its folder."""
    return partial(submit, course, unit)


def submit(course: Path, unit: Unit, student: str, **cells: str | None) -> Path:
    """Put the solution with some cells rewritten where nbgrader expects a submission; its folder."""
    folder = course / "submitted" / student / LAB
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{LAB}.ipynb").write_text(rewritten(render(unit)[unit.solution], **cells), encoding="utf-8")
    return folder


def rewritten(notebook: str, **cells: str | None) -> str:
    """The text of a notebook with other code in some cells, by id; None drops one."""
    copy = nbformat.reads(notebook, as_version=4)
    for cell in copy.cells:
        cell.source = cells.get(cell.id, cell.source)
    copy.cells = [cell for cell in copy.cells if cell.source is not None]
    return nbformat.writes(copy)
