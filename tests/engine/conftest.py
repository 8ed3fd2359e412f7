"""The tiny unit, its solution's namespace, and notebooks made of its cells."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from grading import units
from grading.source import read_source
from grading.units import Unit

CONTENT = Path(__file__).parents[1] / "content"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[Unit]:
    """The unit `phase1/lab9` of the test content; the real units are out of sight."""
    monkeypatch.setenv("SOLO_CONTENT", str(CONTENT))
    units.all_units.cache_clear()
    yield units.find("phase1/lab9")
    units.all_units.cache_clear()


@pytest.fixture
def solved(tiny: Unit) -> dict[str, Any]:
    """The namespace that the tiny unit's solution leaves behind."""
    namespace: dict[str, Any] = {"__name__": "solved"}
    for cell in read_source(tiny.source):
        if cell.kind == "solution" or "import torch" in cell.text:
            exec(cell.text, namespace)
    return namespace


@pytest.fixture
def write_notebook(tiny: Unit, tmp_path: Path) -> Callable[..., Path]:
    """`write_notebook(softmax="…")`: the solved notebook on disk, with some solution cells replaced; None drops one."""

    def write(**replaced: str | None) -> Path:
        cells = []
        for cell in read_source(tiny.source):
            if cell.markdown:
                continue
            source, meta = cell.text, {}
            if cell.kind == "solution":
                source = replaced.get(cell.name, source)
                meta = {"grade_id": cell.names[0], "solution": True, "grade": False}
            if cell.kind == "check":
                meta = {"grade_id": f"check-{cell.name}", "solution": False, "grade": True}
            if source is not None:
                metadata = {"tags": list(cell.tags)} | ({"nbgrader": meta} if meta else {})
                cells.append(new_code_cell(source, metadata=metadata))
        path = tmp_path / "lab.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return write
