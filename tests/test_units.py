"""What must be true of every unit. Units are found on disk, so a new one is covered by existing."""

import os
import re
import shutil
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from grading import build, scaffold, units
from grading.answers import answers
from grading.checkers import Checker, checkers
from grading.fresh import run_fresh
from grading.plan import phases
from grading.proof import SEEDS, Trial, prove
from grading.quizzes import bank
from grading.report import Outcome, Report
from grading.source import read_source
from grading.units import Unit

CORE_POINTS = 20
BRIEF_WORDS = 2000
LONGEST_SHARE = 0.4
"""Of three or four choices each is the longest by chance in about 0.3 of the questions."""

ORIENTATION = "lab0_orientation"
"""The one lab that earns no points, and has no core."""

PROJECTS = [pytest.param(u, id=u.id) for u in units.all_units() if u.kind == "project"]
LABS = [pytest.param(u, id=u.id) for u in units.labs()]
BRIEFS = [pytest.param(u, id=u.id) for u in units.all_units() if u.kind == "theory"]

QUIZZES = [pytest.param(u, id=u.id) for u in units.all_units() if u.kind == "quiz"]

of_every_graded_unit = pytest.mark.parametrize("unit", LABS + QUIZZES + PROJECTS)
of_every_lab_and_project = pytest.mark.parametrize("unit", LABS + PROJECTS)
of_every_project = pytest.mark.parametrize("unit", PROJECTS)
of_every_quiz = pytest.mark.parametrize("unit", QUIZZES)
of_every_lab = pytest.mark.parametrize("unit", LABS)
of_every_brief = pytest.mark.parametrize("unit", BRIEFS)


@cache
def solution_report(unit: Unit) -> Report:
    """The one execution of a solution: it proves the notebook, or the package, and the marks."""
    return run_fresh(unit, unit.solution)


@cache
def proof(unit: Unit) -> list[Trial]:
    """Every known answer, under one seed; under all of them in `make test-all`."""
    return prove(unit, SEEDS if os.environ.get("SOLO_WHOLE") else SEEDS[:1])


def faults(unit: Unit, kind: str) -> list[str]:
    trials = [t for t in proof(unit) if t.kind == kind]
    assert trials, f"{unit.id} was not tried with any {kind} answer"
    return [t.fault for t in trials if t.fault]


def core(unit: Unit) -> list[Checker]:
    return [c for c in checkers(unit) if not c.side_quest]


def test_there_are_units():
    assert LABS
    assert BRIEFS


@pytest.mark.parametrize("unit", LABS + BRIEFS + QUIZZES + PROJECTS)
def test_notebooks_are_what_their_source_says(unit):
    stale = [str(path.name) for path in build.stale(unit)]
    assert not stale, f"run `make notebooks`: {unit.id} has a stale {' and '.join(stale)}"


@of_every_lab
def test_the_core_is_six_to_eight_exercises_for_20_points(unit):
    if unit.name == ORIENTATION:
        assert core(unit) == []
        return
    assert sum(c.points for c in core(unit)) == CORE_POINTS
    assert 6 <= len(core(unit)) <= 8


@of_every_lab_and_project
def test_every_exercise_has_three_tests_two_mistakes_and_an_alternative(unit):
    for checker in checkers(unit):
        known = [a for a in answers(unit) if a.exercise == checker.name]
        assert len(checker.tests) >= 3, f"{checker.name}: {len(checker.tests)} tests"
        assert sum(not a.right for a in known) >= 2, f"{checker.name}: too few mistakes"
        assert any(a.right for a in known), f"{checker.name}: no alternative"
        assert checker.skills, f"{checker.name}: no skills"


@of_every_graded_unit
def test_the_solution_gets_full_marks_from_top_to_bottom(unit):
    report = solution_report(unit)
    assert report.problems == ()
    unmet = [f"{e.name}: {r.text}: {r.evidence}" for e in report.exercises for r in e.requirements if r.evidence]
    assert unmet == []
    assert report.points == report.max_points


@of_every_lab_and_project
def test_the_untouched_starter_earns_nothing_and_is_not_scolded(unit):
    report = run_fresh(unit, unit.starter)
    assert report.problems == ()
    assert {e.name: e.outcome for e in report.exercises} == dict.fromkeys(
        (c.name for c in checkers(unit)), Outcome.NOT_ATTEMPTED
    )
    assert [e.name for e in report.exercises if e.points] == []


@of_every_lab
def test_run_all_goes_through_the_starter(unit, tmp_path):
    """In a real kernel: no cell stops it, stubs print one line, each check answers with a number."""
    notebook = nbformat.read(unit.notebook, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in notebook.cells:
        if cell.id.startswith("check-"):
            assert [o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result"] == ["0.0"]
        elif cell.cell_type == "code":
            assert [o for o in cell.outputs if o.get("name") == "stderr"] == []


@of_every_project
@pytest.mark.parametrize("state", ["starter", "solution"])
def test_run_all_goes_through_a_project(unit, state, tmp_path):
    """In a real kernel, beside the starter and the solution: only a demonstration that meets a stub may end early."""
    folder = shutil.copytree(getattr(unit, state), tmp_path / unit.name)
    notebook = nbformat.read(unit.notebook, as_version=4)
    # What the checks say is proven elsewhere, and takes its time.
    notebook.cells = [cell for cell in notebook.cells if not cell.id.startswith("check-")]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    errors = [o.evalue for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert errors == []
    unwritten = [o for cell in notebook.cells for o in cell.get("outputs", []) if "is not written yet" in str(o)]
    assert bool(unwritten) == (state == "starter")


@of_every_project
def test_a_project_has_five_to_seven_milestones_and_is_seen_at_scale(unit):
    assert 5 <= len(core(unit)) <= 7
    assert any(checker.side_quest for checker in checkers(unit)), "stretch goals"
    assert not scaffold.stale(unit.folder), "run `make notebooks`: the starter is stale"
    prose = "\n".join(cell.text for cell in read_source(unit.source) if cell.markdown)
    _, _, at_scale = prose.partition("# Meta-scale considerations")
    assert len(re.findall(r"^###? ", at_scale, re.MULTILINE)) >= 6
    assert re.search(r"Measured on \d{4}-\d\d-\d\d", (unit.folder / "README.md").read_text(encoding="utf-8"))


@of_every_graded_unit
def test_lazy_answers_earn_nothing(unit):
    assert faults(unit, "lazy") == []


@of_every_graded_unit
def test_every_mistake_is_rejected_and_called_by_its_own_name(unit):
    assert faults(unit, "mistake") == []


@of_every_graded_unit
def test_every_alternative_gets_full_marks(unit):
    assert faults(unit, "reference") == []
    assert faults(unit, "alternative") == []


@of_every_graded_unit
def test_a_forbidden_call_is_among_the_known_mistakes(unit):
    for checker in checkers(unit):
        caught = [
            t for t in proof(unit) if t.exercise == checker.name and t.kind == "mistake" and "forbidden" in t.stages
        ]
        assert bool(caught) == bool(checker.forbidden), f"{checker.name} forbids {checker.forbidden}, caught: {caught}"


@of_every_quiz
def test_a_bank_is_large_enough_and_its_questions_can_be_answered(unit):
    known = bank.read(unit)
    assert len(known.questions) >= 30
    assert len(known.challenges) == len(known.reviews) == 3
    for question in known.questions:
        for seed in range(20):
            drawn = bank.drawn(question, seed)
            letters = "".join(x for x, c in zip(bank.LETTERS, drawn.choices, strict=False) if c.right)
            assert drawn.judge(letters or drawn.number)[0], question.id
            assert "{" not in drawn.text or not question.parameters, f"{question.id}: a parameter is not filled in"
            for slip in question.slips:
                assert not drawn.judge(drawn._value(slip.formula))[0], f"{question.id}: {slip.formula} is right too"


@of_every_quiz
def test_length_does_not_give_the_right_choice_away(unit):
    single = [q for q in bank.read(unit).questions if sum(c.right for c in q.choices) == 1]
    longest = [q.id for q in single if _right_is_longest(q)]
    assert len(longest) <= LONGEST_SHARE * len(single), f"the right choice is the longest in {', '.join(longest)}"


def _right_is_longest(question: bank.Question) -> bool:
    right = next(len(c.text) for c in question.choices if c.right)
    return all(len(c.text) < right for c in question.choices if not c.right)


@of_every_quiz
def test_what_a_quiz_asks_the_phase_has_taught(unit):
    missing = {name for p in phases() if p.id == unit.phase for name in p.units} - {u.name for u in units.all_units()}
    if any(name.startswith("lab") for name in missing):
        pytest.skip(f"{unit.phase} is not complete: {', '.join(sorted(missing))}")
    taught = {s for u in units.labs() if u.phase == unit.phase for c in checkers(u) for s in c.skills}
    asked = {s for q in bank.read(unit).questions for s in q.skills} | {s for c in checkers(unit) for s in c.skills}
    assert asked <= taught


@of_every_brief
def test_a_brief_runs_marks_itself_as_read_and_fits_its_length(unit, tmp_path, monkeypatch):
    record = tmp_path / "progress.json"
    monkeypatch.setenv("SOLO_PROGRESS", str(record))
    notebook = nbformat.read(unit.notebook, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert unit.id in record.read_text(encoding="utf-8")

    prose = "\n".join(cell.text for cell in read_source(unit.source) if cell.markdown)
    assert len(re.findall(r"\w+", prose)) <= BRIEF_WORDS
    assert prose.count("<details") == 3
    figures = [
        o for cell in notebook.cells for o in cell.get("outputs", []) if "image" in str(o.get("data", {}).keys())
    ]
    assert figures, "a brief draws one picture"


def test_without_a_phase_a_name_means_the_first_that_has_it():
    assert units.find("lab1").id == units.find("phase1/lab1").id == "phase1/lab1"
    assert units.find("phase2/lab1").id == "phase2/lab1"
    with pytest.raises(units.UnitNotFound, match="There is no unit 'lab77'"):
        units.find("lab77")


def test_no_lab_imports_another():
    for unit in units.labs():
        for path in unit.folder.glob("*.py"):
            imported = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert not [name for name in imported if name.startswith(("phase", "capstone"))], path


def test_the_files_of_every_lab_are_the_same():
    expected = {"lab.py", "test_lab.py", "answers.py", "starter.ipynb", "solution.ipynb"}
    for unit in units.labs():
        assert expected <= {p.name for p in Path(unit.folder).iterdir()}
