"""Warm kernels: a fork with PyTorch loaded, as JupyterLab's Validate starts it."""

import time

import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import v4

from grading.cli.launch import _environment

pytestmark = pytest.mark.slow


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a cell in a warm kernel, with an environment and a folder of its own; its output and the kernel's pid."""
    for name, value in _environment().items():
        monkeypatch.setenv(name, value)

    def run(*cells: str) -> list[str]:
        notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
        client = NotebookClient(
            notebook, kernel_name="solo-warm", shutdown_kernel="immediate", resources={"metadata": {"path": tmp_path}}
        )
        client.execute()
        return ["".join(o.get("text", "") for o in cell.outputs) for cell in notebook.cells]

    return run


def test_it_begins_with_pytorch_loaded_in_its_own_place(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SOLO_MARK", "here")
    first, second = run(
        "import os, sys\nprint('torch' in sys.modules, os.getcwd(), os.environ['SOLO_MARK'], os.getpid())",
        "import torch\nprint(torch.ones(3).sum().item(), torch.get_num_threads())",
    )
    loaded, folder, mark, pid = first.split()
    assert (loaded, folder, mark) == ("True", str(tmp_path), "here")
    assert second.split() == ["3.0", "1"]
    for _ in range(50):
        if not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie":
            return
        time.sleep(0.1)
    raise AssertionError("the kernel is still there")


def test_two_share_nothing(run):
    kept = [run("import random, torch\nx = globals().get('x', 0) + 1\nprint(x)")[0] for _ in range(2)]
    assert [text.strip() for text in kept] == ["1", "1"]


def test_one_that_dies_is_noticed(run):
    with pytest.raises(DeadKernelError):
        run("import os\nos._exit(3)")


def test_what_cells_print_and_raise_comes_back(run):
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run("print('before')\n1 / 0")
