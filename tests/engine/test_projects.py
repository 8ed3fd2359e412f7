"""Projects: a package is judged module by module, whatever state its files are in."""

import shutil

import nbformat
import pytest
from nbclient import NotebookClient

from grading import units, workspace
from grading.build import SourceError, build
from grading.checkers import checkers
from grading.fresh import Limits, run_fresh
from grading.mutants import mutants
from grading.namespaces import Patch, replaced
from grading.projects import ProjectError, load, module_files
from grading.proof import prove
from grading.reference import exercise_of, solution_code
from grading.report import Outcome

QUICK = Limits(test_s=3, cell_s=4)


@pytest.fixture
def project(tiny):
    return units.find("phase1/project")


@pytest.fixture
def folder(project, tmp_path):
    """A learner's copy, solved."""
    return shutil.copytree(project.solution, tmp_path / "mine")


def write(folder, module, old, new):
    path = folder / "tiny" / f"{module}.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def outcomes(report):
    return {e.name: e.outcome for e in report.exercises}


def test_a_project_is_a_unit_after_the_quiz(project):
    assert [unit.id for unit in units.all_units()][-2:] == ["phase1/quiz", "phase1/project"]
    assert units.find("project_tiny") is units.find(project.solution) is project
    assert exercise_of(project) == {"data": "data", "model": "model", "test_tiny": "own_tests"}


def test_a_solved_project_gets_full_marks(project, folder):
    steps = []
    report = run_fresh(project, folder, on_step=steps.append)
    assert (report.points, report.max_points, report.problems) == (8, 8, ())
    assert "running `tiny/data.py`" in steps
    assert not list(folder.rglob("__pycache__"))


def test_an_untouched_starter_is_not_scolded(project):
    report = run_fresh(project, project.starter)
    assert set(outcomes(report).values()) == {Outcome.NOT_ATTEMPTED}
    assert (report.points, report.problems) == (0, ())
    assert "`data.mean` is not written yet" in report["data"].requirements[0].evidence.message


def test_a_milestone_is_judged_with_the_reference_in_place_of_what_it_needs(project, folder):
    write(folder, "data", "sum(values) / len(values)", "values[0]")
    report = run_fresh(project, folder)
    assert outcomes(report) == {"data": Outcome.FAILED, "model": Outcome.PASSED, "own_tests": Outcome.PASSED}
    assert report["model"].carried == ("data",)
    assert report["data"].cause.mistake == "MeanOfMiddle"


def test_a_class_that_inherits_from_a_replaced_one_inherits_from_the_new(project, folder):
    for module, code in (
        ("data", "\n\nclass Base:\n    def say(self):\n        return mean([1.0, 3.0])\n"),
        ("model", "\n\nfrom tiny.data import Base\n\n\nclass Heir(Base):\n    pass\n"),
    ):
        path = folder / "tiny" / f"{module}.py"
        path.write_text(path.read_text(encoding="utf-8") + code, encoding="utf-8")
    package, errors = load(project, folder, module_files(project, folder))
    assert errors == {}
    heir = package["model"].Heir
    patch = Patch(compile("class Base:\n    def say(self):\n        return 'new'", "new", "exec"), "data")
    with replaced(package, patch):
        assert heir().say() == package["data"].Base().say() == "new"
    assert heir().say() == 2


def test_an_exception_is_placed_in_its_file(project, folder):
    write(folder, "model", "    return sum(", "    values = None\n    return sum(")
    evidence = run_fresh(project, folder, only="model")["model"].requirements[0].evidence
    assert evidence.line.startswith("data.mean, line 9: return sum(values)")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("middle = mean", "middle = = mean", "`tiny/data.py` raised SyntaxError"),
        ("SCALE = 1.0", "raise SystemExit", "`tiny/data.py` raised SystemExit"),
        ("SCALE = 1.0", "while True: pass", "`tiny/data.py` did not finish in time"),
        ("SCALE = 1.0", "import os; os._exit(3)", "`tiny/data.py` ended the Python process"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(project, folder, old, new, says):
    write(folder, "data", old, new)
    report = run_fresh(project, folder, limits=QUICK)
    assert says in report.problems[0]
    assert report["data"].outcome is Outcome.FAILED
    assert says.split(" ")[0] in report["data"].requirements[0].evidence.message
    # Whether the rest stands depends on what it imports: these two import the broken one.
    assert report.points == 0


def test_a_missing_module_is_named_with_its_remedy(project, folder):
    (folder / "tiny" / "model.py").unlink()
    report = run_fresh(project, folder, only="model")
    (problem,) = [p for p in report.problems if "missing" in p]
    assert problem == "`tiny/model.py` is missing: `solo reset phase1/project --exercise model` restores it"


def test_a_folder_without_the_package_is_refused(project, tmp_path):
    with pytest.raises(ProjectError, match="There is no package tiny in"):
        run_fresh(project, tmp_path)


def test_modules_of_the_learners_own_may_be_added(project, folder):
    (folder / "tiny" / "arithmetic.py").write_text("def total(values):\n    return sum(values)\n", encoding="utf-8")
    write(folder, "data", "return sum(values)", "from tiny.arithmetic import total\n    return total(values)")
    assert run_fresh(project, folder).points == 8


@pytest.mark.parametrize(
    ("test", "milestone_passes"),
    [
        ("assert spread([1.0, 3.0]) == 1", True),
        ("pass", False),
        ("assert spread([1.0, 3.0]) == 7", False),
        ("pytest.skip()", False),
    ],
)
def test_own_tests_must_tell_right_from_wrong(project, folder, test, milestone_passes):
    path = folder / "tests" / "test_tiny.py"
    path.write_text(path.read_text(encoding="utf-8").replace("assert spread([1.0, 3.0]) == 1", test), encoding="utf-8")
    assert run_fresh(project, folder, only="own_tests")["own_tests"].passed is milestone_passes


def test_own_tests_are_judged_on_the_reference_not_on_the_learners_package(project, folder):
    write(folder, "model", "/ len(values)", "")
    assert run_fresh(project, folder, only="own_tests")["own_tests"].passed


def test_the_checkers_of_a_project_are_proven(project):
    trials = prove(project)
    assert {t.kind for t in trials} == {"reference", "mistake", "alternative", "lazy"}
    assert [t.fault for t in trials if t.fault] == []


def test_mutants_are_made_of_what_the_learner_writes_but_for_tests(project):
    assert {(m.module, m.function) for m in mutants(project)} == {
        ("data", "mean"), ("data", "centred"), ("model", "spread")
    }  # fmt: skip


def test_an_answer_may_be_read_with_its_places(project):
    code = solution_code(project, "data")
    assert code.startswith("# tiny/data.py\ndef mean(")
    assert "### BEGIN" not in code


def test_the_notebook_checks_the_files_beside_it(project, folder):
    shutil.copy(project.notebook, folder)
    notebook = nbformat.read(folder / "project.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    shown = [
        output.data["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if cell.id.startswith("check-") and output.output_type == "execute_result"
    ]
    assert shown == ["4.0", "2.0", "2.0"]


def test_stubs_met_in_the_notebook_print_one_line(project, tmp_path):
    folder = shutil.copytree(project.starter, tmp_path / "mine")
    notebook = nbformat.read(project.notebook, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    (demo,) = [cell for cell in notebook.cells if "demo" in cell.metadata.get("tags", [])]
    assert [output.text for output in demo.outputs] == ["`centred` is not written yet.\n"]


def test_the_workspace_holds_package_tests_and_notebook(project):
    assert workspace.ensure(project)
    place = project.workspace_notebook.parent
    assert {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()} == {
        "project.ipynb", "tests/test_tiny.py", "tiny/__init__.py", "tiny/data.py", "tiny/model.py"
    }  # fmt: skip
    (place / "tiny" / "data.py").write_text("mine", encoding="utf-8")
    (place / "tiny" / "model.py").unlink()
    assert not workspace.ensure(project)
    assert (place / "tiny" / "data.py").read_text(encoding="utf-8") == "mine"
    assert (place / "tiny" / "model.py").exists()


def test_a_reset_keeps_all_that_was_there(project):
    workspace.ensure(project)
    place = project.workspace_notebook.parent
    for module in ("data", "model"):
        (place / "tiny" / f"{module}.py").write_text("mine", encoding="utf-8")
    backup = workspace.reset_exercise(project, "data")
    assert (backup / "tiny" / "data.py").read_text(encoding="utf-8") == "mine"
    assert "NotImplementedError" in (place / "tiny" / "data.py").read_text(encoding="utf-8")
    assert (place / "tiny" / "model.py").read_text(encoding="utf-8") == "mine"
    backup = workspace.reset(project)
    assert (backup / "tiny" / "model.py").read_text(encoding="utf-8") == "mine"
    assert "NotImplementedError" in (place / "tiny" / "model.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("test_project.py", '("model",)', '("data",)', "module `data` must be in the solution, and belong to one"),
        ("test_project.py", '("model",)', '("models",)', "module `models` must be in the solution"),
        ("project.py", 'check("model")', "print()", "the milestone `model` needs a checker class and one check cell"),
        ("answers.py", 'module = "model"', 'module = "data"', "SumOfSquares stands in module 'data', which `model`"),
    ],
)
def test_what_cannot_be_right_is_refused(project, tmp_path, monkeypatch, file, old, new, says):
    copied = shutil.copytree(project.folder, tmp_path / "phase1_foundations" / project.folder.name)
    path = copied / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    monkeypatch.setenv("SOLO_CONTENT", str(tmp_path))
    units.all_units.cache_clear()
    with pytest.raises(SourceError, match=says):
        build(units.find("phase1/project"))


def test_milestones_have_their_points(project):
    assert {c.name: c.points for c in checkers(project)} == {"data": 4, "model": 2, "own_tests": 2}
