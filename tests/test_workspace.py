"""The learner's copies are made once and never lost."""

import nbformat
import pytest

from grading import units, workspace
from grading.workspace import WorkspaceError


@pytest.fixture
def lab(curriculum):
    return units.find("lab1")


def cells(unit):
    notebook = nbformat.read(unit.workspace_notebook, as_version=4)
    return {cell.metadata.get("nbgrader", {}).get("grade_id", cell.id): cell.source for cell in notebook.cells}


def work(unit, drop=(), **sources):
    """Write answers into the learner's copy."""
    notebook = nbformat.read(unit.workspace_notebook, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id not in drop]
    for cell in notebook.cells:
        cell.source = sources.get(cell.id, cell.source)
    nbformat.write(notebook, unit.workspace_notebook)


def test_a_copy_is_made_once(lab):
    assert workspace.ensure(lab)
    assert lab.workspace_notebook.read_bytes() == lab.notebook.read_bytes()
    work(lab, first="mine")
    assert not workspace.ensure(lab)
    assert cells(lab)["first"] == "mine"


def test_a_brief_has_a_copy_too(curriculum):
    brief = units.find("theory1")
    workspace.ensure(brief)
    assert brief.workspace_notebook.exists()


def test_an_original_that_is_not_built_is_one_sentence(lab):
    lab.notebook.unlink()
    with pytest.raises(WorkspaceError, match="make notebooks"):
        workspace.ensure(lab)


def test_reset_keeps_every_earlier_state(lab):
    assert workspace.reset(lab) is None
    backups = []
    for answer in ("one", "two", "three"):
        work(lab, first=answer)
        held = lab.workspace_notebook.read_bytes()
        backups.append(workspace.reset(lab))
        assert backups[-1].read_bytes() == held
        assert lab.workspace_notebook.read_bytes() == lab.notebook.read_bytes()
    assert len(set(backups)) == 3
    assert all(backup.exists() for backup in backups)


def test_reset_of_an_exercise_touches_nothing_else(lab):
    workspace.ensure(lab)
    work(lab, first="my first", second="my second", title="my title")
    backup = workspace.reset_exercise(lab, "first")
    assert "my first" in backup.read_text()
    now = cells(lab)
    assert "NotImplementedError" in now["first"]
    assert (now["second"], now["title"]) == ("my second", "my title")


def test_reset_of_an_exercise_brings_a_deleted_cell_back_before_its_check(lab):
    workspace.ensure(lab)
    work(lab, drop={"second"})
    workspace.reset_exercise(lab, "second")
    assert list(cells(lab)) == ["title", "first", "check-first", "second", "check-second", "extra", "check-extra"]


def test_reset_of_an_exercise_removes_copies_of_its_cell(lab):
    workspace.ensure(lab)
    notebook = nbformat.read(lab.workspace_notebook, as_version=4)
    copy = notebook.cells[1].copy()
    copy.id = "copied"
    notebook.cells.append(copy)
    nbformat.write(notebook, lab.workspace_notebook)
    workspace.reset_exercise(lab, "first")
    assert [cell.id for cell in nbformat.read(lab.workspace_notebook, as_version=4).cells].count("first") == 1
    assert "copied" not in lab.workspace_notebook.read_text()


def test_a_class_is_found_by_its_exercise_name(lab):
    lab.notebook.write_text(lab.notebook.read_text().replace('"grade_id": "first"', '"grade_id": "First"'))
    workspace.ensure(lab)
    work(lab, first="mine")
    workspace.reset_exercise(lab, "first")
    assert "NotImplementedError" in cells(lab)["First"]


def test_reset_of_an_exercise_in_a_broken_notebook_says_what_to_do(lab):
    workspace.ensure(lab)
    lab.workspace_notebook.write_text("{not json")
    with pytest.raises(WorkspaceError, match="solo reset phase1/lab1"):
        workspace.reset_exercise(lab, "first")
    assert lab.workspace_notebook.read_text() == "{not json"
    assert workspace.reset(lab).read_text() == "{not json"


def test_reset_of_an_unknown_exercise_or_without_a_copy(lab):
    with pytest.raises(LookupError, match="first, second, extra"):
        workspace.reset_exercise(lab, "third")
    with pytest.raises(WorkspaceError, match="solo open"):
        workspace.reset_exercise(lab, "first")
