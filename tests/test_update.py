"""A unit has changed: the learner's copy follows, and nothing that they wrote is lost."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from grading import units, update, workspace
from grading.build import build
from grading.workspace import WorkspaceError

CONTENT = Path(__file__).parent / "content"
ANSWER = "def softmax(x, dim):\n    return (x - x.amax(dim, True)).softmax(dim)"


@pytest.fixture
def content(tmp_path, monkeypatch):
    """The tiny content, this test's own."""
    shutil.copytree(CONTENT, tmp_path / "content", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("SOLO_CONTENT", str(tmp_path / "content"))
    units.all_units.cache_clear()
    yield
    units.all_units.cache_clear()


@pytest.fixture
def lab(content):
    """The tiny lab, and the learner's copy of it."""
    unit = units.find("phase1/lab9")
    workspace.ensure(unit)
    return unit


def edit(unit, change):
    """Let the learner change their notebook."""
    notebook = nbformat.read(unit.workspace_notebook, as_version=4)
    change({cell.id: cell for cell in notebook.cells}, notebook)
    nbformat.write(notebook, unit.workspace_notebook)


def upstream(unit, *changes):
    """Change the unit's source, as a new version does."""
    text = unit.source.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    unit.source.write_text(text)
    build(unit)


def sources(unit):
    return [cell.source for cell in nbformat.read(unit.workspace_notebook, as_version=4).cells]


def test_an_unchanged_unit_changes_nothing(lab):
    before = lab.workspace_notebook.read_bytes()
    assert not update.is_due(lab)
    assert update.update(lab) is None
    assert lab.workspace_notebook.read_bytes() == before


def test_answers_and_added_cells_stay_and_all_else_is_new(lab):
    def work(cells, notebook):
        cells["softmax"].source = ANSWER
        place = notebook.cells.index(cells["softmax"])
        notebook.cells.insert(place + 1, v4.new_code_cell("mine = softmax", id="my-own"))

    edit(lab, work)
    upstream(lab, ("# Lab 9: Tiny", "# Lab 9: Tiny, second edition"))
    assert update.is_due(lab)
    done = update.update(lab)
    now = sources(lab)
    assert any("second edition" in source for source in now)
    assert now.index("mine = softmax") == now.index(ANSWER) + 1
    assert not any("# Lab 9: Tiny\n" in source for source in now), "the old heading is gone"
    assert "second edition" not in done.backup.read_text()
    assert ANSWER.splitlines()[0] in done.backup.read_text()
    assert "second edition" in done.diff.read_text()
    assert not update.is_due(lab)
    assert update.update(lab) is None


def test_an_untouched_stub_becomes_the_new_one_and_an_answer_is_told(lab):
    edit(lab, lambda cells, _: cells["softmax"].update(source=ANSWER))
    stub = next(s for s in sources(lab) if s.startswith("def attention"))
    upstream(
        lab,
        ("def softmax(", "def softmax(  # as in the brief\n    "),
        ("def attention(", "def attention(  # new\n    "),
    )
    done = update.update(lab)
    now = sources(lab)
    assert ANSWER in now
    assert stub not in now
    assert any(source.startswith("def attention(  # new") for source in now)
    assert [note for note in done.notes if note.startswith("`softmax`: your answer stays")]


def test_an_exercise_that_is_no_longer_asked_stays_as_a_cell_of_ones_own(lab):
    edit(lab, lambda cells, _: cells["softmax"].update(source=ANSWER))
    notebook = nbformat.read(lab.notebook, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id not in {"softmax", "check-softmax"}]
    nbformat.write(notebook, lab.notebook)
    done = update.update(lab)
    merged = nbformat.read(lab.workspace_notebook, as_version=4)
    (kept,) = [cell for cell in merged.cells if cell.source == ANSWER]
    assert "nbgrader" not in kept.metadata
    assert any("no longer asked" in note for note in done.notes)
    assert not any(cell.id == "check-softmax" for cell in merged.cells)


def test_a_copy_of_unknown_origin_keeps_what_was_written(lab):
    edit(lab, lambda cells, _: cells["softmax"].update(source=ANSWER))
    workspace._original_place(lab.workspace_notebook).unlink()
    upstream(lab, ("# Lab 9: Tiny", "# Lab 9: Tiny, second edition"))
    assert not update.is_due(lab), "it cannot know"
    update.update(lab)
    now = sources(lab)
    assert ANSWER in now
    assert any("second edition" in source for source in now)
    assert not any("# Lab 9: Tiny\n" in source for source in now)


def test_modules_of_a_project_follow_unless_they_were_worked_on(content):
    unit = units.find("phase1/project")
    workspace.ensure(unit)
    place = unit.workspace_notebook.parent
    (place / "tiny" / "data.py").write_text("mine = 1\n")
    for name in ("data", "model"):
        path = unit.starter / "tiny" / f"{name}.py"
        path.write_text(path.read_text() + "\n# new\n")
    done = update.update(unit)
    assert (place / "tiny" / "data.py").read_text() == "mine = 1\n"
    assert (place / "tiny" / "model.py").read_text().endswith("# new\n")
    assert [note for note in done.notes if note.startswith("tiny/data.py stays as you wrote it")]
    assert (done.backup / "tiny" / "model.py").exists()


def test_the_command_says_what_it_did(lab, solo):
    edit(lab, lambda cells, _: cells["softmax"].update(source=ANSWER))
    upstream(lab, ("# Lab 9: Tiny", "# Lab 9: Tiny, second edition"))
    code, said, _ = solo("update")
    assert code == 0
    assert "phase1/lab9 is up to date now" in said
    assert "backups" in said
    assert "phase1/lab9 is up to date." in solo("update", "lab9")[1]


def test_a_broken_copy_is_one_sentence_and_stays(lab, solo):
    lab.workspace_notebook.write_text("{")
    with pytest.raises(WorkspaceError, match="not a notebook any more"):
        update.update(lab)
    assert lab.workspace_notebook.read_text() == "{"
    assert solo("update", "lab9")[0] == 2
