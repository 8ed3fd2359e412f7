"""Projects and quizzes in a class: folders graded by milestones, and one paper for everybody."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from grading import progress, units
from grading.classroom import exam
from grading.classroom.books import Books
from grading.classroom.grade import Classroom
from grading.classroom.ledger import Ledger
from grading.quizzes.sitting import QuizError
from grading.release import release

pytestmark = pytest.mark.slow

PROJECT, QUIZ = "project_tiny", "quiz_phase1"
SPY = "from grading import own_tests\n\nHELD = own_tests._right.cache_info().currsize\n"


@pytest.fixture(scope="module")
def projects(term):
    """A course in which a project is graded, by student."""
    course, unit = term / "course", units.find("phase1/project")
    release(unit, course)

    def hand_in(student: str, *of_solution: str) -> Path:
        folder = course / "submitted" / student / PROJECT
        shutil.copytree(course / "release" / PROJECT, folder)
        for name in of_solution:
            shutil.copytree(unit.solution / name, folder / name, dirs_exist_ok=True)
        return folder

    hand_in("amy", "tiny", "tests")
    hand_in("bob", "tests")
    hand_in("cleo")
    (hand_in("dora", "tiny", "tests") / f"{PROJECT}.ipynb").unlink()
    shutil.rmtree(hand_in("eve") / "tiny")
    (hand_in("finn", "tiny") / "tests" / "test_tiny.py").write_text("def test_nothing():\n    pass\n")
    spy = hand_in("gus", "tiny", "tests")
    (spy / "tiny" / "data.py").write_text(SPY + "raise ValueError(f'held: {HELD}')\n")
    (spy / "tests" / "test_tiny.py").write_text(SPY + "def test_centred():\n    assert not HELD\n")
    (hand_in("hugo", "tests") / "tiny" / "data.py").write_text("import os\n\nos._exit(3)\n")
    return course


def test_a_project_is_graded_by_its_milestones(projects, solo):
    code, said, _ = solo("class", "grade", "phase1/project", "--course", str(projects))
    assert code == 0
    assert "8 graded in" in said
    assert {student: sum(given.values()) for student, given in Books(projects).marks(PROJECT).items()} == {
        "amy": 8, "bob": 2, "cleo": 0, "dora": 8, "eve": 0, "finn": 6, "gus": 0, "hugo": 2,
    }  # fmt: skip
    entries = Ledger(projects, PROJECT).entries()
    assert entries["dora"].notes == (f"The notebook was not used: there is no {PROJECT}.ipynb.",)
    assert any("`tiny/data.py` is missing" in p for p in entries["eve"].report.problems)
    assert any("ended the Python process (exit code 3)" in p for p in entries["hugo"].report.problems)


def test_what_judges_tests_is_never_where_the_package_runs(projects):
    report = Ledger(projects, PROJECT).entries()["gus"].report
    assert "`tiny/data.py` raised ValueError: held: 0" in report.problems
    assert "AssertionError" in report["own_tests"].requirements[0].evidence.message
    assert report["data"].points == 0


def test_a_record_comes_with_the_feedback_of_a_project(projects, solo):
    assert "8 students' feedback" in solo("class", "feedback", "phase1/project", "--course", str(projects))[1]
    record = progress.load(projects / "feedback" / "finn" / PROJECT / "progress.json")
    assert {e.exercise: e.points for e in record.events} == {"data": 4, "model": 2}


def test_a_class_of_projects_is_drawn(projects, solo):
    assert solo("class", "report", "phase1/project", "--course", str(projects))[0] == 0
    page = (projects / f"{PROJECT}-report.html").read_text(encoding="utf-8")
    assert "Centred data" in page


@pytest.fixture(scope="module")
def papers(term):
    """A course in which a quiz is handed in."""
    course, unit = term / "course", units.find("phase1/quiz")
    with pytest.raises(QuizError, match="solo class release"):
        exam.paper_of(unit, course)
    release(unit, course)
    paper = exam.paper_of(unit, course)
    right = exam.solved(paper)
    blank = nbformat.read(course / "release" / QUIZ / f"{QUIZ}.ipynb", as_version=4)
    half = nbformat.from_dict(right)
    for cell in half.cells:
        if cell.id in {"q1", "q2"}:
            cell.source = f"{cell.id} = 'zz'"
        if cell.id == "faulty_line":
            cell.source = (
                "class Line(int):\n    def __eq__(self, other):\n        return True\n\nfaulty_line = Line(99)"
            )
    robbed = nbformat.from_dict(exam.solved(paper))
    robbed.cells = [c for c in robbed.cells if not c.id.startswith("check-")] + [v4.new_code_cell("q3 = None")]
    for student, notebook in {"amy": right, "bob": blank, "cleo": half, "dora": robbed}.items():
        folder = course / "submitted" / student / QUIZ
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{QUIZ}.ipynb")
    (course / "submitted" / "eve" / QUIZ).mkdir(parents=True)
    (course / "submitted" / "eve" / QUIZ / f"{QUIZ}.ipynb").write_text("no JSON")
    return course, paper


def test_a_quiz_is_marked_by_its_sitting(papers, solo):
    course, paper = papers
    code, said, _ = solo("class", "grade", "phase1/quiz", "--course", str(course))
    assert code == 0
    assert "5 graded in" in said
    totals = {student: sum(given.values()) for student, given in Books(course).marks(QUIZ).items()}
    assert totals == {"amy": 20, "bob": 0, "cleo": 20 - 2 - 2, "dora": 19, "eve": 0}
    report = Ledger(course, QUIZ).entries()["cleo"].report
    assert report["q1"].requirements[0].evidence.message, "the reasons are told"
    assert report["q3"].passed
    assert {e.name for e in report.exercises} >= {"q10", "faulty_line", paper.sitting.challenge, paper.sitting.review}


def test_the_paper_of_a_class_stays_the_same(papers):
    course, paper = papers
    release(paper.unit, course)
    assert exam.paper_of(paper.unit, course).sitting == paper.sitting
    released = nbformat.read(course / "release" / QUIZ / f"{QUIZ}.ipynb", as_version=4)
    worth = {c.id: c.metadata.nbgrader.points for c in released.cells if "nbgrader" in c.metadata}
    assert sum(worth.values()) == 20
    assert len(worth) == 13
    assert all(c.source.startswith("0.0") for c in released.cells if c.id in worth), "earns nothing if merely run"


def test_the_record_of_a_quiz_is_a_sitting(papers, solo):
    course, paper = papers
    for _ in range(2):  # the same marks are the same events
        solo("class", "feedback", "phase1/quiz", "--course", str(course))
    record = progress.load(course / "feedback" / "cleo" / QUIZ / "progress.json")
    assert [e.kind for e in record.events] == ["sitting", "marked"]
    marked = record.events[1]
    assert (marked.points, marked.max_points) == (16, 20)
    assert [name for name, share in marked.marks.items() if not share] == [
        *paper.sitting.questions[:2], f"{paper.sitting.review}: line",
    ]  # fmt: skip
    page = (course / "feedback" / "cleo" / QUIZ / f"{QUIZ}.html").read_text(encoding="utf-8")
    assert "Question 1" in page
    assert solo("class", "report", "phase1/quiz", "--course", str(course))[0] == 0
    assert "Question 1" in (course / f"{QUIZ}-report.html").read_text(encoding="utf-8")


def test_without_isolation_a_project_is_graded_alike(projects, tmp_path):
    room = Classroom(projects, units.find("phase1/project"))
    with room.engine(frozenset()) as engine:
        one = next(iter(room.run(engine, {"amy": projects / "submitted" / "amy" / PROJECT}, 1, tmp_path)))
    assert one.result.report.points == 8
