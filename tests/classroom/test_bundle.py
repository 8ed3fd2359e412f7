"""The learners' edition works, and holds no solution."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from grading import units
from grading.classroom.bundle import BundleError, bundle, withheld
from grading.reference import parts

KNOWN = "test_", "answers"
"""Files that may come near a solution: tests have closed forms, and mistakes are solutions but for one thing."""


@pytest.fixture(scope="module")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("edition") / "course"
    bundle(place)
    return place


def solo(edition: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(edition), "SOLO_HOME": str(edition)}
    environment.pop("SOLO_CONTENT", None)
    environment.pop("SOLO_PROGRESS", None)
    command = [sys.executable, "-c", "from grading.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=edition, env=environment, capture_output=True, text=True)


def solutions() -> Iterator[tuple[str, str]]:
    """The lines between the markers that are long enough to be told from anything else, and stand nowhere else."""
    taught = "".join(u.notebook.read_text(encoding="utf-8") for u in units.all_units())
    for unit in units.all_units():
        if unit.kind in {"lab", "project"}:
            for part in parts(unit):
                inside = False
                for line in part.text.splitlines():
                    if "### BEGIN" in line or "### END" in line:
                        inside = "### BEGIN" in line
                    elif inside and len(line.strip()) > 40 and json.dumps(line.strip())[1:-1] not in taught:
                        yield unit.id, line.strip()


def test_no_solution_is_in_what_learners_open(edition):
    texts = [p.read_text(encoding="utf-8") for p in edition.rglob("lab.py")]
    texts += [
        p.read_text(encoding="utf-8") for p in edition.glob("phase*/project_*/**/*.py") if not p.name.startswith(KNOWN)
    ]
    texts += [json.dumps([c.source for c in nbformat.read(p, 4).cells]) for p in edition.rglob("*.ipynb")]
    whole = "\n".join(texts)
    assert len(texts) > 10
    assert [line for line in solutions() if line[1] in whole] == []


def test_neither_solved_files_nor_keys_nor_alternatives_are_in_it(edition):
    names = {p.name for p in edition.rglob("*")}
    assert not names & {"solution.ipynb", "solution", "quiz.yaml", "equivalent_mutants.toml"}
    for answers in edition.glob("phase*/*/answers.py"):
        bases = {ast.unparse(b) for n in ast.parse(answers.read_text()).body for b in getattr(n, "bases", [])}
        assert bases == {"Mistake"}


def test_a_learner_can_work_with_it(edition, tmp_path):
    assert solo(edition, "start", "--no-lab").returncode == 0
    copy = Path(shutil.copy(edition / "phase1_foundations" / "lab1_tensors_and_autograd" / "starter.ipynb", tmp_path))
    told = solo(edition, "check", "lab1", "--exercise", "as_floats", "--notebook", str(copy))
    assert "not attempted" in told.stdout, told.stdout + told.stderr
    notebook = nbformat.read(copy, 4)
    (cell,) = [c for c in notebook.cells if c.id == "as_floats"]
    cell.source = (
        "def as_floats(values, device='cpu'):\n    return torch.as_tensor(values, dtype=torch.float32, device=device)"
    )
    nbformat.write(notebook, copy)
    told = solo(edition, "check", "lab1", "--exercise", "as_floats", "--notebook", str(copy))
    assert "Likely cause" in told.stdout, told.stdout + told.stderr


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BundleError, match="is not empty"):
        bundle(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_explanations_and_model_answers_go_and_markers_stay():
    source = '''# %%
def f(x):
    """Doubles."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %% [markdown] tags=["explanation"]
"""
Twice.
"""

# %% [markdown]
"""
Why?
### BEGIN ANSWER why 2
Because.
### RUBRIC
One point for a reason.
### END ANSWER
"""
'''
    text = withheld(source)
    assert "    ### BEGIN SOLUTION\n    # Your code here\n    raise NotImplementedError\n    ### END SOLUTION\n" in text
    assert "2 * x" not in text
    assert "Twice" not in text
    assert "Because" not in text
    assert "One point for a reason." in text
