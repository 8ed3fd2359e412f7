"""A class from release to export, by the commands that an instructor types, in nbgrader's own gradebook."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from grading import progress, units
from grading.classroom import sandbox
from grading.classroom.books import Books
from grading.classroom.cold import Cold
from grading.classroom.engine import Engine
from grading.classroom.grade import Classroom
from grading.classroom.intake import take_in
from grading.classroom.ledger import Ledger
from grading.classroom.needs import Needs, NeedsError, needs_of
from grading.fresh import run_fresh

pytestmark = pytest.mark.slow

LAB = "lab9_tiny"
HALF = "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)"
WRONG = "def softmax(x, dim):\n    return x"
LATE = """
from nbgrader.plugins import BasePlugin


class Late(BasePlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return score / 2
"""


def graded(course: Path) -> dict[str, dict[str, float | None]]:
    return Books(course).marks(LAB)


@pytest.fixture(scope="module")
def course_of_five(term, hand_in_to):
    """A course that has been graded once; what was said."""
    course, unit = term / "course", units.find("phase1/lab9")
    hand_in_to(course, unit, "amy")
    hand_in_to(course, unit, "bob", softmax=HALF, why_max="Because exp(89) is infinite.")
    hand_in_to(course, unit, "cleo", softmax=WRONG)
    hand_in_to(course, unit, "mended", **{"check-softmax": "2.0", "check-attention": None})
    (hand_in_to(course, unit, "tardy") / "timestamp.txt").write_text("2026-02-01 12:00:00 UTC")
    (course / "late.py").write_text(LATE)
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(f"import sys\nsys.path.insert(0, {str(course)!r})\n")
        config.write("c.AssignLatePenalties.plugin_class = 'late.Late'\n")
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        gradebook.update_or_create_assignment(LAB, duedate="2026-01-01")
    said = typed("class", "grade", "lab9", "--course", course, "--workers", 2)
    return course, said


def typed(*arguments: object) -> str:
    """What a command says, typed in a terminal."""
    command = [sys.executable, "-c", "from grading.cli import main; main()", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def test_a_class_is_graded_by_one_command(course_of_five):
    course, said = course_of_five
    assert "5 submissions to grade." in said
    assert "5 graded in" in said
    assert "1 had cells put back or mended." in said
    full = {"check-softmax": 2, "check-attention": 2, "check-scale": 0}
    core = {s: {name: points for name, points in given.items() if name in full} for s, given in graded(course).items()}
    assert core == {
        "amy": full,
        "bob": full | {"check-softmax": 1},
        "cleo": full | {"check-softmax": 0},
        "mended": full,
        "tardy": full,
    }
    assert graded(course)["bob"]["why_max"] is None, "a person marks it"


def test_the_marks_are_those_of_a_fresh_run(course_of_five):
    course, _ = course_of_five
    for student, given in graded(course).items():
        notebook = course / "submitted" / student / LAB / f"{LAB}.ipynb"
        report = run_fresh(units.find("phase1/lab9"), notebook, find_causes=False)
        core = {f"check-{e.name}": e.points for e in report.exercises if not e.side_quest}
        assert {name: given[name] for name in core} == core


def test_late_penalties_are_nbgraders(course_of_five):
    with Books(course_of_five[0]).gradebook() as gradebook:
        penalties = {s.student.id: s.late_submission_penalty for s in gradebook.assignment_submissions(LAB)}
    assert penalties == {"amy": 0, "bob": 0, "cleo": 0, "mended": 0, "tardy": 2}


def test_what_was_mended_is_told_on_top_of_the_notebook(course_of_five):
    notebook = nbformat.read(course_of_five[0] / "autograded" / "mended" / LAB / f"{LAB}.ipynb", as_version=4)
    assert "`check-softmax` was changed" in notebook.cells[0].source
    assert "`check-attention` was missing" in notebook.cells[0].source


def test_feedback_is_a_page_with_cards_and_a_record(course_of_five, solo):
    course, _ = course_of_five
    assert "5 students' feedback" in solo("class", "feedback", "lab9", "--course", str(course))[1]
    page = (course / "feedback" / "bob" / LAB / f"{LAB}.html").read_text(encoding="utf-8")
    assert "stays finite for logits of a thousand" in page
    record = progress.load(course / "feedback" / "bob" / LAB / "progress.json")
    assert {e.exercise: e.points for e in record.events if e.kind == "attempt"} == {"softmax": 1, "attention": 2}


@pytest.mark.parametrize(("form", "name"), [("canvas", 3), ("moodle", 0)])
def test_marks_are_exported_as_platforms_import_them(form, name, course_of_five, solo, tmp_path):
    file = tmp_path / "marks.csv"
    solo("class", "export", "lab9", str(file), "--course", str(course_of_five[0]), "--format", form)
    with file.open(encoding="utf-8") as table:
        rows = list(csv.reader(table))
    marks = {row[name]: row[5] for row in rows[-5:]}
    assert marks == {"amy": "4", "bob": "3", "cleo": "2", "mended": "4", "tardy": "2"}


def test_only_what_is_new_or_has_changed_is_graded_again(course_of_five, term, hand_in_to, solo, tmp_path):
    course = shutil.copytree(course_of_five[0], tmp_path / "course")
    before = Ledger(course, LAB).entries()
    assert solo("class", "grade", "lab9", "--course", str(course))[1].startswith("0 submissions to grade; 5 are graded")
    hand_in_to(course, units.find("phase1/lab9"), "cleo")
    assert "1 submissions to grade; 4 are graded" in solo("class", "grade", "lab9", "--course", str(course))[1]
    assert graded(course)["cleo"]["check-softmax"] == 2
    after = Ledger(course, LAB).entries()
    assert [s for s in after if after[s] != before[s]] == ["cleo"]


def test_a_regrade_shows_what_would_change_before_it_writes(course, content, unit, hand_in, solo):
    hand_in("amy", softmax=HALF)
    hand_in("bob")
    solo("class", "grade", "lab9", "--course", str(course))
    kinder = unit.checkers.read_text().replace("1000 + torch.randn(4, 6", "1 + torch.randn(4, 6")
    unit.checkers.write_text(kinder)
    assert "--regrade shows changes" in solo("class", "grade", "lab9", "--course", str(course))[1]
    said = solo("class", "grade", "lab9", "--course", str(course), "--regrade")[1]
    assert "amy: check-softmax 1 → 2" in said
    assert "1 marks of 1 students change." in said
    assert "Nothing is written" in said
    assert graded(course)["amy"]["check-softmax"] == 1
    solo("class", "grade", "lab9", "--course", str(course), "--regrade", "--yes")
    assert graded(course)["amy"]["check-softmax"] == 2


def test_nothing_is_graded_where_the_solution_itself_fails(course, unit, hand_in, solo):
    hand_in("amy")
    unit.checkers.write_text(unit.checkers.read_text().replace("def test_values(self", "def test_values(self, oops"))
    code, _, complaint = solo("class", "grade", "lab9", "--course", str(course))
    assert code == 2
    assert "Nobody was graded, for here the solution itself gets" in complaint
    assert graded(course) == {}


def test_a_missing_layer_is_named_and_may_be_required(course, hand_in, solo, monkeypatch):
    hand_in("amy")
    monkeypatch.setattr(sandbox, "layers", lambda: {sandbox.Layer.NETWORK: "not allowed here"})
    code, said, complaint = solo("class", "grade", "lab9", "--course", str(course), "--require-sandbox")
    assert code == 2
    assert "Not here: network" in said
    assert "Nothing was run" in complaint


@pytest.mark.parametrize("path", ["warm, without isolation", "cold"])
def test_without_isolation_the_marks_are_the_same(path, course, unit, hand_in, tmp_path):
    hand_in("amy", softmax=HALF)
    hand_in("bob", softmax="import os, subprocess\nsubprocess.Popen(['sleep', '3613'])\nos._exit(3)")
    room = Classroom(course, unit)
    with Engine(unit, frozenset()) as engine:
        if path == "cold":
            engine._children.close()
            engine._children = Cold()
        results = {g.student: g.result.report for g in room.run(engine, room.plan().todo, 2, tmp_path / "staged")}
    assert {student: report.points for student, report in results.items()} == {"amy": 3, "bob": 2}
    assert "ended the Python process (exit code 3)" in results["bob"].problems[0]


def test_each_submission_has_its_own_random_state_and_one_thread(course, unit, hand_in, tmp_path):
    code = "import random, numpy, os\nraise ValueError([random.random(), numpy.random.rand(), torch.rand(()).item(), "
    code += "torch.get_num_threads(), sorted(os.environ)])"
    hand_in("amy", softmax=code)
    hand_in("bob", softmax=code)
    room = Classroom(course, unit)
    with Engine(unit, frozenset(sandbox.Layer) - sandbox.layers().keys()) as engine:
        told = [g.result.report.problems[0] for g in room.run(engine, room.plan().todo, 1, tmp_path / "staged")]
    amy, bob = (text[text.index("[") + 1 :].split(", ") for text in told)
    assert all(mine != others for mine, others in zip(amy[:3], bob[:3], strict=True))
    assert amy[3] == bob[3] == "1"
    assert not any("TOKEN" in word or "KEY" in word for word in amy[4:])


def test_a_rank_that_fails_is_no_tampering(course, unit, hand_in, tmp_path):
    code = "from labkit.launch import LaunchError, launch\ndef fail():\n    raise ValueError('honestly')\n"
    code += f"try:\n    launch(fail, ranks=1)\nexcept LaunchError as error:\n    print(error)\n{HALF}"
    hand_in("amy", softmax=code)
    room = Classroom(course, unit)
    with Engine(unit, frozenset(sandbox.Layer) - sandbox.layers().keys()) as engine:
        (graded,) = room.run(engine, room.plan().todo, 1, tmp_path / "staged")
    assert "ValueError: honestly" in json.dumps(list(graded.result.outputs.values()))
    assert graded.result.flags == ()


def test_an_answer_in_a_cell_of_ones_own_counts(course, unit, hand_in, solved):
    folder = hand_in("amy", softmax=None)
    notebook = json.loads((folder / f"{LAB}.ipynb").read_text())
    own = {"cell_type": "code", "id": "own", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["cells"].insert(3, own | {"source": HALF})
    (folder / f"{LAB}.ipynb").write_text(json.dumps(notebook))
    intake = take_in(folder, Classroom(course, unit).released, LAB)
    assert intake.notes == ("The cell `softmax` was missing and was put back.",)
    assert not any("NotImplementedError" in cell.source for cell in intake.cells)


def test_needs_are_read_and_refused_by_name(unit):
    assert needs_of(unit) == Needs()
    (unit.folder / "unit.toml").write_text("[needs]\nmemory_mb = 8000\nprocesses = 200\n")
    assert (needs_of(unit).memory_mb, needs_of(unit).processes, needs_of(unit).seconds) == (8000, 200, 600)
    (unit.folder / "unit.toml").write_text("[needs]\nmemory_mb = 'much'\n")
    with pytest.raises(NeedsError, match=r"unit.toml.*memory_mb"):
        needs_of(unit)


def test_a_folder_that_is_no_course_is_named(unit, tmp_path, solo):
    code, _, complaint = solo("class", "grade", "lab9", "--course", str(tmp_path))
    assert code == 2
    assert "solo class release UNIT" in complaint


def test_what_the_grader_could_not_do_is_said_and_done_next_time(course, unit, hand_in, tmp_path, monkeypatch):
    hand_in("amy")
    hand_in("bob")
    room = Classroom(course, unit)
    start = Cold.start

    def fail_once(self, job):
        monkeypatch.setattr(Cold, "start", start)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cold, "start", fail_once)
    monkeypatch.setattr("grading.classroom.engine.Zygote", lambda unit, layers: Cold())
    with Engine(unit, frozenset()) as engine:
        entries = [room.write(graded) for graded in room.run(engine, room.plan().todo, 1, tmp_path / "staged")]
        assert {e.student: e.reason for e in entries} == {
            "amy": "it could not be graded now: [Errno 28] No space left on device",
            "bob": None,
        }
        assert room.plan().todo.keys() == {"amy"}
