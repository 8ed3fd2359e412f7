"""`pytest UNIT --against PATH`: the same checkers, replayed test by test."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTENT = ROOT / "tests" / "content"


def run_pytest(tmp_path, *arguments):
    env = os.environ | {"SOLO_CONTENT": str(CONTENT), "SOLO_PROGRESS": str(tmp_path / "progress.json")}
    checkers = CONTENT / "phase1_foundations" / "lab9_tiny" / "test_lab.py"
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-rA", "--no-header", str(checkers), *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def test_a_notebook_is_judged_and_recorded(tmp_path, write_notebook):
    notebook = write_notebook(softmax="def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)")
    result = run_pytest(tmp_path, "--against", str(notebook), "--record")
    assert "1 failed, 6 passed" in result.stdout
    assert "stays finite for logits of a thousand" in result.stdout
    assert "24 of 24 values are NaN" in result.stdout
    assert result.returncode == 1
    events = json.loads((tmp_path / "progress.json").read_text(encoding="utf-8"))["events"]
    assert {e["exercise"]: e["outcome"] for e in events} == {
        "softmax": "failed",
        "attention": "passed",
        "scale": "passed",
    }


def test_without_record_nothing_is_kept(tmp_path, write_notebook):
    result = run_pytest(tmp_path, "--against", str(write_notebook()))
    assert "7 passed" in result.stdout
    assert not (tmp_path / "progress.json").exists()


def test_a_missing_notebook_fails_with_one_sentence(tmp_path):
    result = run_pytest(tmp_path, "--against", str(tmp_path / "none.ipynb"))
    assert "There is no notebook" in result.stdout
    assert "Traceback" not in result.stdout
    assert result.returncode == 2
