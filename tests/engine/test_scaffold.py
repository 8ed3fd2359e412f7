"""From a project's solution to its starter."""

from pathlib import Path

import pytest

from grading import scaffold
from grading.nbgrader_config import CODE_STUB
from grading.source import SourceError

MODEL = '''"""The model."""

from torch import nn


class Net(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.layer = nn.Linear(2, 2)
        ### END SOLUTION

    def describe(self) -> str:
        """Given."""
        return "net"
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "phase1_foundations" / "project_tiny"
    package = folder / "solution" / "tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "model.py").write_text(MODEL, encoding="utf-8")
    (folder / "solution" / "config.toml").write_text("lr = 0.1\n", encoding="utf-8")
    return folder


def test_projects_are_found(project, monkeypatch):
    monkeypatch.setenv("SOLO_CONTENT", str(project.parents[1]))
    assert scaffold.projects() == [project]


def test_solutions_become_stubs_and_all_else_stays(project):
    scaffold.build(project)
    text = (project / "starter" / "tiny" / "model.py").read_text(encoding="utf-8")
    stub = "".join(f"        {line}\n" for line in CODE_STUB.splitlines())
    before, _, rest = MODEL.partition("        ### BEGIN SOLUTION\n")
    assert text == before + stub + rest.partition("### END SOLUTION\n")[2]
    assert (project / "starter" / "config.toml").read_text(encoding="utf-8") == "lr = 0.1\n"


def test_stale_files_are_named_and_built_once(project):
    written = scaffold.build(project)
    assert len(written) == 3
    assert scaffold.stale(project) == []
    assert scaffold.build(project) == []
    (project / "solution" / "tiny" / "model.py").write_text(MODEL.replace("Two", "Three"), encoding="utf-8")
    (project / "solution" / "config.toml").unlink()
    changed = [project / "starter" / "tiny" / "model.py", project / "starter" / "config.toml"]
    assert scaffold.stale(project) == changed
    assert scaffold.build(project) == changed
    assert not (project / "starter" / "config.toml").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("        ### END SOLUTION\n", "", r"project_tiny/solution/tiny/model\.py: `### BEGIN SOLUTION` has no"),
        ("        ### BEGIN", "      ### BEGIN", r"model\.py: with a stub for the solution this is not valid Python"),
    ],
)
def test_a_file_that_cannot_be_cleared_is_refused(project, old, new, says):
    (project / "solution" / "tiny" / "model.py").write_text(MODEL.replace(old, new), encoding="utf-8")
    with pytest.raises(SourceError, match=says):
        scaffold.render(project)
