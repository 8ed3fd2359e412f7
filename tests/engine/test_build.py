"""From a source to its notebooks: what each view contains, that bytes repeat, and what is refused and how."""

import ast
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator
from typer.testing import CliRunner

from grading import author_cli, build, units
from grading.source import SourceError
from grading.units import Unit

TINY = Path(__file__).parents[1] / "content" / "phase1_foundations" / "lab9_tiny"
BRIEF = '''# %% [markdown]
"""
# A brief
"""

# %%
answer = 42

# %% tags=["demo"]
answer
'''


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unit]:
    """A copy of the tiny unit without notebooks, free to be edited."""
    folder = tmp_path / "phase1_foundations" / "lab9_tiny"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.ipynb", "__pycache__"))
    monkeypatch.setenv("SOLO_CONTENT", str(tmp_path))
    units.all_units.cache_clear()
    yield units.find("phase1/lab9")
    units.all_units.cache_clear()


@pytest.fixture
def edited(unit: Unit) -> Callable[..., Unit]:
    """`edited("lab.py", old, new)`: the unit with one passage of one of its files replaced."""

    def edit(file: str, old: str, new: str) -> Unit:
        path = unit.folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        return unit

    return edit


@pytest.fixture
def views(unit: Unit) -> dict[str, dict[str, nbformat.NotebookNode]]:
    """The cells of the three views by id."""
    rendered = build.render(unit)
    texts = {
        "source": build.source_text(unit),
        "starter": rendered[unit.notebook],
        "solution": rendered[unit.solution],
    }
    return {view: {cell.id: cell for cell in nbformat.reads(text, 4).cells} for view, text in texts.items()}


def graded(cell: nbformat.NotebookNode) -> tuple[bool, bool, bool, int | None]:
    meta = cell.metadata.nbgrader
    return meta.solution, meta.grade, meta.locked, meta.get("points")


def test_what_a_cell_is_decides_how_nbgrader_treats_it(views):
    for cells in views.values():
        assert graded(cells["softmax"]) == (True, False, False, None)
        assert graded(cells["Scale"]) == (True, False, False, None)
        assert graded(cells["check-softmax"]) == (False, True, True, 2)
        assert graded(cells["check-scale"]) == (False, True, True, 0), "a side quest is graded and earns no marks"
        assert graded(cells["why_max"]) == (True, True, False, 2)
        assert graded(cells["code-check"]) == (False, False, True, None), "the cell that binds the unit is restored"


def test_the_starter_has_stubs_and_the_solution_answers(views):
    assert views["starter"]["softmax"].source.endswith("\n    # Your code here\n    raise NotImplementedError")
    assert "amax" not in str(views["starter"])
    assert "### BEGIN SOLUTION" in views["source"]["softmax"].source
    assert "weights.sum(dim" in views["solution"]["softmax"].source
    for view in ("starter", "solution"):
        assert "### " not in "\n".join(cell.source for cell in views[view].values())
        for cell in views[view].values():
            if cell.cell_type == "code":
                ast.parse(cell.source)


def test_a_written_answer_has_its_rubric_before_it(views):
    for cells in views.values():
        ids = list(cells)
        assert ids.index("rubric-why_max") == ids.index("why_max") - 1
        assert "- 1 point: names the overflow of exp." in cells["rubric-why_max"].source
    assert views["starter"]["why_max"].source.startswith("*Your answer here")
    assert views["solution"]["why_max"].source == "Because exp overflows."


def test_explanations_are_in_the_solution_only(views):
    explained = {view: "Subtracting the maximum" in str(cells) for view, cells in views.items()}
    assert explained == {"source": False, "starter": False, "solution": True}


def test_all_but_answers_is_read_only_in_the_starter(views):
    editable = [cell.id for cell in views["starter"].values() if cell.metadata.get("editable", True)]
    assert editable == ["softmax", "attention", "Scale", "why_max"]
    assert not any(cell.metadata.deletable for cell in views["starter"].values())


def test_only_the_starter_may_raise(views):
    may_raise = {view: {c.id for c in cells.values() if "raises-exception" in c.metadata.get("tags", ())}
                 for view, cells in views.items()}  # fmt: skip
    checks = {"check-softmax", "check-attention", "check-scale"}
    demo = next(c.id for c in views["starter"].values() if "demo" in c.metadata.get("tags", ()))
    assert may_raise["starter"] == may_raise["source"] == {"softmax", "attention", "Scale", demo, *checks}
    assert may_raise["solution"] == set()


def test_the_pitfalls_are_the_mistakes_by_exercise(views):
    text = next(c.source for c in views["starter"].values() if c.source.startswith("## Common pitfalls"))
    assert "**Numerically stable softmax** (`softmax`)\n\n- You exponentiate raw logits" in text
    assert "- You forgot to divide the scores by √d" in text
    assert "logsumexp" not in text, "alternatives are right and no pitfalls"
    assert "<!--" not in text


def test_the_starter_and_the_solution_have_the_same_nbgrader_metadata(views):
    for name, cell in views["starter"].items():
        assert views["solution"][name].metadata.get("nbgrader") == cell.metadata.get("nbgrader")


def test_notebooks_are_valid_and_say_which_unit_they_are(unit):
    for text in build.render(unit).values():
        notebook = nbformat.reads(text, 4)
        nbformat.validate(notebook)
        MetadataValidator().validate_nb(notebook)
        assert notebook.metadata.solo.unit == "phase1/lab9"
        assert notebook.metadata.kernelspec.name == "python3"
        assert all(cell.get("outputs", []) == [] for cell in notebook.cells)


def test_ids_come_from_content_not_from_place(unit, edited):
    before = [cell.id for cell in nbformat.reads(build.render(unit)[unit.notebook], 4).cells]
    edited("lab.py", "# %% [markdown]\n", '# %% [markdown]\n"""\nNew.\n"""\n\n# %% [markdown]\n')
    after = [cell.id for cell in nbformat.reads(build.render(unit)[unit.notebook], 4).cells]
    assert [i for i in after if i in before] == before
    again = [i for i in after if i not in before]
    assert again[0].startswith("prose-")
    assert again[1:] == [f"{again[0]}-{n}" for n in range(2, len(again) + 1)], "the same text twice is numbered"


def test_mending_prose_or_a_demonstration_leaves_the_gradebooks_cells_alone(unit, edited):
    def tracked() -> list[str]:
        cells = nbformat.reads(build.source_text(unit), 4).cells
        return [cell.metadata.nbgrader.grade_id for cell in cells if "nbgrader" in cell.metadata]

    before = tracked()
    edited("lab.py", "Write softmax along `dim`.", "Write the softmax along `dim`.")
    edited("lab.py", "softmax(torch.tensor([1.0, 2.0]), 0)", "softmax(torch.tensor([1.0, 3.0]), 0)")
    assert tracked() == before, "or nbgrader would refuse what was handed in before"


def test_a_rebuild_changes_no_byte(unit):
    assert build.stale(unit) == [unit.notebook, unit.solution]
    assert build.build(unit) == [unit.notebook, unit.solution]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (unit.notebook, unit.solution)}
    assert build.stale(unit) == []
    assert build.build(unit) == []
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


def test_the_command_names_what_is_stale(unit, edited):
    run = CliRunner().invoke
    assert run(author_cli.app, ["build"]).exit_code == 0
    assert run(author_cli.app, ["build", "--check"]).exit_code == 0
    edited("answers.py", "You call torch's softmax.", "You call what you should write.")
    checked = run(author_cli.app, ["build", "lab9", "--check"])
    assert checked.exit_code == 1
    assert "out of date" in checked.output
    assert checked.output.count(".ipynb") == 2
    assert run(author_cli.app, ["build", "lab9"]).exit_code == 0
    assert build.stale(unit) == []


def test_one_refused_unit_does_not_hold_up_the_others(unit, edited):
    theory = unit.folder.parent / "theory" / "01_brief.py"
    theory.parent.mkdir()
    theory.write_text(BRIEF, encoding="utf-8")
    units.all_units.cache_clear()
    edited("lab.py", 'check("attention")', "pass")
    built = CliRunner().invoke(author_cli.app, ["build"])
    assert built.exit_code == 1
    assert "`attention` has no check cell" in built.output
    assert theory.with_suffix(".ipynb").exists()


def test_a_theory_brief_has_one_notebook_that_nbgrader_does_not_touch(unit):
    theory = unit.folder.parent / "theory" / "01_brief.py"
    theory.parent.mkdir()
    theory.write_text(BRIEF, encoding="utf-8")
    units.all_units.cache_clear()
    ((path, text),) = build.render(units.find("phase1/theory1")).items()
    assert path == theory.with_suffix(".ipynb")
    notebook = nbformat.reads(text, 4)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert not any("nbgrader" in cell.metadata or "editable" in cell.metadata for cell in notebook.cells)
    assert notebook.metadata.solo.unit == "phase1/theory1"


IMPORT = "from torch import Tensor, nn\n"
END = "    return weights / weights.sum(dim, keepdim=True)\n    ### END SOLUTION\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("lab.py", "def attention(", "def softmax(", "`softmax` is defined by 2 cells"),
        ("lab.py", IMPORT, f"{IMPORT}softmax = None\n", "`softmax` is defined by 2 cells"),
        ("lab.py", "ANSWER why_max 2", "ANSWER attention 2", "`attention` is defined by 2 cells"),
        ("lab.py", 'check("attention")', 'check("softmax")', 'check("softmax") stands in 2 cells'),
        ("lab.py", 'check("attention")', "pass", "lab.py: the exercise `attention` has no check cell"),
        ("lab.py", 'check("attention")', 'check("atention")', "`atention` has no solution cell"),
        ("lab.py", "def attention(", "def attend(", "`attention` has no solution cell"),
        ("test_lab.py", "class TestAttention(", "class TestAttend(", "`attention` has no checker class in test_lab.py"),
        ("test_lab.py", '"Divide before the softmax.", ', "", "test_lab.py: TestAttention has 2 hints"),
        ("answers.py", '"attention"', '"atention"', "answers.py: NoScale answers `atention`, and there is no such"),
        ("lab.py", "<!-- pitfalls -->", "", "lab.py: `<!-- pitfalls -->`"),
        ("lab.py", END, END.replace("    ### END SOLUTION\n", ""), "lab.py, cell 4: `### BEGIN SOLUTION` has no"),
        ("lab.py", END, END + "    ### END SOLUTION\n", "lab.py, cell 4: expected a line `### BEGIN SOLUTION`"),
        ("lab.py", "    ### BEGIN SOLUTION\n    weights", "    # BEGIN SOLUTION\n    weights", "cell 4: expected"),
        ("lab.py", IMPORT, f"### BEGIN SOLUTION\n{IMPORT}### END SOLUTION\n", "cell 2: a solution cell must define"),
        ("lab.py", "### END ANSWER\n", "", "a written answer is `### BEGIN ANSWER name points`"),
        ("lab.py", "### RUBRIC\n", "", "a written answer is `### BEGIN ANSWER name points`"),
        ("lab.py", END, f"{END}    else:\n        pass\n", "invalid syntax"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told_in_a_sentence(edited, file, old, new, says):
    with pytest.raises(SourceError) as refused:
        build.render(edited(file, old, new))
    assert says in str(refused.value)


def test_a_stub_that_leaves_no_python_is_refused(edited):
    branch = "    if dim:\n    ### BEGIN SOLUTION\n        pass\n    ### END SOLUTION\n"
    unit = edited("lab.py", END, END + branch)
    with pytest.raises(SourceError, match="the cell of `softmax`: with a stub for the solution this is not valid"):
        build.render(unit)


def test_a_lab_without_checkers_is_refused(unit):
    unit.checkers.unlink()
    with pytest.raises(SourceError, match=r"lab9_tiny: there is no test_lab\.py"):
        build.render(unit)
