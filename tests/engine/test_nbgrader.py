"""The whole way through nbgrader, for real: release, autograde, feedback, formgrader, Validate, and without a clone."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import nbformat
import pytest
from nbgrader.api import Gradebook

from grading import progress, units
from grading.build import render, source_text
from grading.fresh import run_fresh
from grading.gradebook import GradebookError, write_grades
from grading.release import ReleaseError, nbgrader, release

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("nbgrader")]

ROOT = Path(__file__).parents[2]
CONTENT = Path(__file__).parents[1] / "content"
LAB = "lab9_tiny"
HALF_RIGHT = "def softmax(logits, dim):\n    return logits.exp() / logits.exp().sum(dim, keepdim=True)"
WHICH_GRADING = "import grading\n\nprint(grading.__file__)\nraise ValueError"
IN_WORDS = "Because exp(89) is infinite in float32."
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
TOKEN = "test"


@pytest.fixture(scope="module")
def unit() -> Iterator[units.Unit]:
    """The tiny unit, for this process and the commands it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOLO_CONTENT", str(CONTENT))
        units.all_units.cache_clear()
        yield units.find("phase1/lab9")
    units.all_units.cache_clear()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is published."""
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", str(place), str(ROOT)], check=True)
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """What a machine without a clone has: the wheel, unpacked; here the tiny lab is beside the real ones."""
    site = wheel.parent / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    shutil.copytree(CONTENT, site / "grading" / "_content", dirs_exist_ok=True)
    return site


@contextmanager
def no_clone(site: Path) -> Iterator[None]:
    """Commands started inside see the installed package alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        patch.delenv("SOLO_CONTENT")
        yield


def hand_in(course: Path, student: str, notebook: str, **answers: str) -> None:
    """Put a copy of `notebook` where nbgrader collects, with some of its cells rewritten."""
    copy = nbformat.reads(notebook, 4)
    for cell in copy.cells:
        cell.source = answers.get(cell.id, cell.source)
    path = course / "submitted" / student / LAB / f"{LAB}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(copy, path)


@pytest.fixture(scope="module")
def course(unit: units.Unit, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course made with the installed package: one release, three submissions, their marks and the feedback."""
    course = tmp_path_factory.mktemp("course")
    notebooks = render(unit)
    hand_in(course, "solved", notebooks[unit.solution])
    hand_in(course, "untouched", notebooks[unit.notebook])
    hand_in(course, "halfway", notebooks[unit.solution], softmax=HALF_RIGHT, why_max=IN_WORDS, Scale=WHICH_GRADING)
    with no_clone(installed):
        command = [sys.executable, "-m", "grading.author_cli", "release", "lab9", "--course", "."]
        subprocess.run(command, cwd=course, check=True)
        for command in ("autograde", "generate_feedback"):
            run = nbgrader(command, LAB, course=course)
            assert run.returncode == 0, run.stderr
    return course


@pytest.fixture(scope="module")
def marks(course: Path) -> dict[str, dict[str, float | None]]:
    """What nbgrader gave, by student and cell; None waits for a person."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id: {g.name: g.auto_score for n in submission.notebooks for g in n.grades}
            for submission in gradebook.assignment_submissions(LAB)
        }


def test_nbgrader_releases_exactly_our_starter(course, unit):
    assert (course / "release" / LAB / f"{LAB}.ipynb").read_text(encoding="utf-8") == render(unit)[unit.notebook]


def test_marks_cell_by_cell(marks):
    full = {"check-softmax": 2, "check-attention": 2, "check-scale": 0, "why_max": None}
    assert marks == {
        "solved": full,
        "untouched": dict.fromkeys(full, 0),
        "halfway": full | {"check-softmax": 1},
    }


def test_marks_equal_those_of_a_fresh_run(course, marks, unit):
    for student, given in marks.items():
        report = run_fresh(unit, course / "submitted" / student / LAB / f"{LAB}.ipynb")
        core = {f"check-{e.name}": e.points for e in report.exercises if not e.side_quest}
        assert core == {name: given[name] for name in core}, student


def test_feedback_shows_the_card(course):
    page = (course / "feedback" / "halfway" / LAB / f"{LAB}.html").read_text(encoding="utf-8")
    assert "stays finite for logits of a thousand" in page


def test_each_student_gets_a_record(course, unit, tmp_path):
    written = {student: (points, path) for student, points, path in write_grades(course, LAB, tmp_path)}
    assert {student: points for student, (points, _) in written.items()} == {"solved": 4, "untouched": 0, "halfway": 3}
    records = {student: progress.load(path).events for student, (_, path) in written.items()}
    attempts = {s: {e.exercise: e.points for e in events if e.kind == "attempt"} for s, events in records.items()}
    assert attempts == {
        "solved": {"softmax": 2, "attention": 2},
        "untouched": {},
        "halfway": {"softmax": 1, "attention": 2},
    }
    assert {e.context for e in records["solved"] if e.kind == "attempt"} == {"autograde"}
    for _ in write_grades(course, LAB, tmp_path):
        pass
    assert {student: progress.load(path).events for student, (_, path) in written.items()} == records, "once is enough"


def test_what_is_missing_is_said(course, tmp_path):
    with pytest.raises(GradebookError, match="There is no gradebook"):
        list(write_grades(tmp_path, LAB, tmp_path))


@pytest.mark.parametrize(
    ("settings", "exercises", "says"),
    [
        ("c.Exchange.root = nonsense\n", 3, "NameError: name 'nonsense' is not defined"),
        ("# ours\n", 2, "RuntimeError: Cannot add or remove cells for notebook 'lab9_tiny'"),
    ],
)
def test_a_refused_release_says_why(course, installed, unit, tmp_path, monkeypatch, settings, exercises, says):
    copy = tmp_path / "course"
    shutil.copytree(course, copy)
    with (copy / "nbgrader_config.py").open("a", encoding="utf-8") as config:
        config.write(settings)
    fewer = nbformat.reads(source_text(unit), 4)
    fewer.cells = [cell for cell in fewer.cells if exercises == 3 or "cale" not in cell.id]
    monkeypatch.setattr("grading.release.source_text", lambda unit: nbformat.writes(fewer))
    with no_clone(installed), pytest.raises(ReleaseError, match=says):
        release(unit, copy)
    assert (copy / "nbgrader_config.py").read_text(encoding="utf-8").endswith(settings)


@pytest.fixture(scope="module")
def server(course: Path, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Jupyter server in the course's folder; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("jupyter")
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    places = {f"JUPYTER_{kind}_DIR": str(home) for kind in ("CONFIG", "DATA", "RUNTIME")}
    with (home / "log").open("w") as log, no_clone(installed):
        process = subprocess.Popen(
            command + options, cwd=course, env={**os.environ, **places}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_for(f"{address}/api/status", process, home / "log")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            ask(address)
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def ask(address: str, data: dict | None = None) -> str:
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    body = None if data is None else json.dumps(data).encode()
    with urlopen(Request(address, body, headers), timeout=120) as answer:
        return answer.read().decode()


def test_the_formgrader_answers(server):
    for page in ("manage_assignments", "gradebook", f"gradebook/{LAB}", f"gradebook/{LAB}/{LAB}", "manage_students"):
        assert "formgrader" in ask(f"{server}/formgrader/{page}")
    (assignment,) = json.loads(ask(f"{server}/formgrader/api/assignments"))
    assert (assignment["name"], assignment["num_submissions"], assignment["max_score"]) == (LAB, 3, 6)
    submissions = json.loads(ask(f"{server}/formgrader/api/submissions/{LAB}"))
    assert {s["student"]: s["score"] for s in submissions} == {"solved": 4, "untouched": 0, "halfway": 3}
    halfway = next(s["id"] for s in json.loads(ask(f"{server}/formgrader/api/submitted_notebooks/{LAB}/{LAB}")))
    assert "How this is marked" in ask(f"{server}/formgrader/submissions/{halfway}/?index=0")


def test_validate_answers_on_the_starter(server):
    answer = json.loads(ask(f"{server}/assignments/validate", {"path": f"release/{LAB}/{LAB}.ipynb"}))
    assert answer["success"], answer["value"]
    failed = [cell["source"] for cell in answer["value"]["failed"]]
    assert 'check("softmax")' in failed
    assert 'check("attention")' in failed
    assert "changed" not in answer["value"]


def test_no_clone_was_needed(course, installed):
    cells = nbformat.read(course / "autograded" / "halfway" / LAB / f"{LAB}.ipynb", 4).cells
    said = next(cell.outputs[0].text for cell in cells if cell.source == WHICH_GRADING)
    assert Path(said.strip()).is_relative_to(installed)


def test_the_wheel_carries_every_unit(wheel, monkeypatch):
    names = set(zipfile.ZipFile(wheel).namelist())
    monkeypatch.delenv("SOLO_CONTENT")
    units.all_units.cache_clear()
    real = units.all_units()
    units.all_units.cache_clear()
    for unit in real:
        for path in (unit.source, unit.checkers, unit.answers):
            assert path is None or f"grading/_content/{path.relative_to(ROOT)}" in names
    assert not any("__pycache__" in name for name in names)
