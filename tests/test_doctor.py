"""`solo doctor`: what is wrong is found, with its cure; what is broken does not break the doctor."""

import json
import os
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from grading import doctor, progress, units
from grading.doctor import State, desk, installation, libraries, machine, requirements

REPO = Path(__file__).parents[1]
GB = 2**30
TORCH = """
import types, warnings
__version__ = "2.14.1"
cuda = types.SimpleNamespace(is_available=lambda: {available}, get_device_name=lambda: "A card")
accelerator = types.SimpleNamespace(current_accelerator=lambda check_available: {device})
ones = lambda *size, device: {ones}
"""
CPU_ONLY = {"available": "False", "device": "None", "ones": "None"}
CARD = {"available": "True", "device": "types.SimpleNamespace(type='cuda')"}
SUM = "types.SimpleNamespace(sum=lambda: types.SimpleNamespace(item=lambda: 1))"
MODERN, ANCIENT = (f"[project]\nrequires-python = '{wanted}'\ndependencies = {{}}\n" for wanted in (">=3.11", "<3.0"))


@pytest.fixture
def replaced(tmp_path, monkeypatch):
    """`replaced(torch="…")`: these files stand in for torch and its kin, which are tiny and load at once."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(**code):
        modules = {
            "torch": TORCH.format(**CPU_ONLY),
            "torchvision": "__version__ = '1'",
            "torchaudio": "__version__ = '2'",
        }
        for name, text in (modules | code).items():
            (tmp_path / f"{name}.py").write_text(text)

    write()
    return write


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """`clone(pyproject, lock)`: the requirements are those of a clone with these files."""

    def write(pyproject, lock=""):
        (tmp_path / "pyproject.toml").write_text(pyproject)
        (tmp_path / "requirements.txt").write_text(lock)
        monkeypatch.setattr(requirements, "PACKAGE", tmp_path / "grading")

    return write


def only(findings):
    (finding,) = findings
    return finding


def torch_findings():
    with libraries.loading() as process:
        return {finding.about: finding for finding in libraries.findings(process)}


def test_this_machine_has_no_problem_and_the_command_loads_no_torch(home, tmp_path):
    code = "import sys; from grading.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "doctor", "--json"]
    (tmp_path / "torch.py").write_text("raise RuntimeError('not this one')")
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(REPO), "SOLO_CONTENT": str(REPO / "tests" / "content")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    report, loaded = done.stdout.strip().rsplit("\n", 1)
    assert (done.returncode, done.stderr, loaded) == (0, "", "False")
    found = {finding["about"]: finding for finding in json.loads(report)["findings"]}
    assert {f["about"] for f in found.values() if f["state"] == "problem"} == set()
    assert {"Python", "packages", "torch", "GPU", "kernel", "nbgrader", "port", "disk", "memory"} < set(found)
    assert "torch 2.14" in found["torch"]["says"]
    assert not list(home.iterdir()), "looking around leaves nothing behind"


def test_the_table_shows_cures_and_a_problem_is_exit_code_1(solo, curriculum, replaced):
    code, out, err = solo("doctor")
    assert (code, err) == (0, "")
    assert "✓" in out
    assert "every unit runs on a CPU" in out
    assert "Nothing stops you." in out
    replaced(torchvision="raise ImportError('undefined symbol')")
    code, out, _ = solo("doctor")
    assert code == 1
    assert "✗  torch" in out
    assert "torchvision does not load: ImportError: undefined symbol." in out
    assert "→ In the clone, with its environment active: pip install -r requirements.txt" in out


@pytest.mark.parametrize(
    ("torch", "says"),
    [
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "torch does not load: OSError: libcudart"),
        ("raise ModuleNotFoundError(\"No module named 'torch'\")", "torch does not load: ModuleNotFoundError"),
        ("import os; os.abort()", "torch ends the Python process (exit code"),
        ("import os; os._exit(0)", "torch ends the Python process (exit code 0)"),
        ("raise SystemExit", "torch ends the Python process"),
        ("import time; time.sleep(60)", "torch takes more than 1 s"),
    ],
)
def test_a_broken_torch_is_a_finding(replaced, monkeypatch, torch, says):
    monkeypatch.setattr(libraries, "PATIENCE_S", 1 if "sleep" in torch else 60)
    replaced(torch=torch)
    found = torch_findings()
    assert found["torch"].state is State.PROBLEM
    assert says in found["torch"].says
    assert "pip install" in found["torch"].cure
    assert "GPU" not in found


@pytest.mark.parametrize(
    ("gpu", "state", "says"),
    [
        (CPU_ONLY, State.OK, "none is needed"),
        (CPU_ONLY | {"available": "warnings.warn('The NVIDIA driver is too old')"}, State.WARNING, "driver is too old"),
        (CPU_ONLY | {"available": "1 / 0"}, State.WARNING, "ZeroDivisionError"),
        (CARD | {"ones": SUM}, State.OK, "A card."),
        (CARD | {"ones": "1 / 0"}, State.WARNING, "cannot use: ZeroDivisionError"),
    ],
)
def test_a_gpu_is_used_or_it_is_said_why_not(replaced, monkeypatch, gpu, state, says):
    monkeypatch.setattr(libraries.shutil, "which", lambda name: None)
    replaced(torch=TORCH.format(**gpu))
    found = torch_findings()
    assert found["torch"].state is State.OK
    assert (found["GPU"].state, says in found["GPU"].says) == (state, True)


def test_an_nvidia_driver_beside_a_cpu_build_is_told(replaced, monkeypatch):
    monkeypatch.setattr(libraries.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert torch_findings()["GPU"].state is State.WARNING


def test_packages_are_compared_with_requirements_and_lock(clone):
    clone(MODERN.format(["no-such-package", "pytest<1", "filelock", "rich"]), "# a lock\nfilelock==0.1\n-e .\n")
    missing, unfit, unlocked = installation.packages()
    assert (missing.state, unfit.state, unlocked.state) == (State.PROBLEM, State.PROBLEM, State.WARNING)
    assert "no-such-package" in missing.says
    assert "pytest" in unfit.says
    assert "wanted: <1" in unfit.says
    assert "filelock" in unlocked.says
    assert "rich" not in unlocked.says


def test_packages_that_ours_need_are_looked_at_too(clone, monkeypatch):
    real = requirements.metadata.version
    monkeypatch.setattr(requirements.metadata, "version", lambda name: None if name == "pluggy" else real(name))
    clone(MODERN.format(["pytest"]))
    assert "pluggy" in only(installation.packages()).says


def test_requirements_for_other_systems_and_extras_do_not_count(clone):
    clone(MODERN.format(["no-such-package; sys_platform == 'amiga'", "rich"]))
    assert only(installation.packages()).state is State.OK


def test_another_python_is_a_problem(clone):
    clone(ANCIENT.format([]))
    assert "The packages need <3.0" in only(installation.python()).says
    clone(MODERN.format([]))
    assert only(installation.python()).state is State.OK


@pytest.mark.parametrize(
    ("interpreter", "state", "says"),
    [
        ("python", State.OK, "is this Python"),
        (sys.executable, State.OK, "is this Python"),
        ("/gone/bin/python", State.PROBLEM, "which is not there"),
        (str(Path(sys.base_prefix, "bin", "python3")), State.PROBLEM, "another Python"),
    ],
)
def test_a_kernel_of_another_environment_is_found(tmp_path, monkeypatch, interpreter, state, says):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {"argv": [interpreter, "-m", "ipykernel_launcher"], "display_name": "Python 3", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    found = only(installation.kernel())
    assert (found.state, says in found.says) == (state, True), found
    assert state is State.OK or str(folder) in found.cure


def test_nbgrader_that_is_off_is_a_warning(tmp_path, monkeypatch):
    assert only(installation.nbgrader()).state is State.OK
    known = {"nbgrader.server_extensions.formgrader": False, "nbgrader.server_extensions.validate_assignment": False}
    monkeypatch.setattr(
        "jupyter_server.extension.config.ExtensionConfigManager.get_jpserver_extensions", lambda *of: known
    )
    found = only(installation.nbgrader())
    assert found.state is State.WARNING
    assert "jupyter server extension enable" in found.cure


def test_a_taken_port_is_a_warning_and_a_closed_loopback_a_problem(monkeypatch):
    with socket.create_server((machine.LOOPBACK, 0)) as server:
        monkeypatch.setattr(machine, "PORT", server.getsockname()[1])
        assert only(machine.port()).state is State.WARNING
    assert only(machine.port()).state is State.OK

    def refuse(address):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.socket, "create_server", refuse)
    found = only(machine.port())
    assert (found.state, "permission denied" in found.says) == (State.PROBLEM, True)


def test_little_room_is_a_warning(monkeypatch):
    usage, state = namedtuple("usage", "free"), namedtuple("state", "available total")
    for room, expected in ((6 * GB, State.OK), (1 * GB, State.WARNING)):
        monkeypatch.setattr(machine.psutil, "disk_usage", lambda path, room=room: usage(room))
        monkeypatch.setattr(machine.psutil, "virtual_memory", lambda room=room: state(room, 16 * GB))
        assert only(machine.disk()).state is expected
        assert only(machine.memory()).state is expected


def test_a_record_that_cannot_be_written_or_read_is_found(home, monkeypatch):
    assert only(desk.folders()).state is State.OK
    assert only(desk.record()).state is State.OK
    progress.path().write_text("{")
    notice, fresh = desk.record()
    assert (notice.state, fresh.state) == (State.WARNING, State.OK)
    progress.path().write_text('{"schema": 9, "events": []}')
    assert "newer version" in only(desk.record()).says
    monkeypatch.setenv("SOLO_PROGRESS", str(home / "nowhere" / "progress.json"))
    assert only(desk.record()).state is State.PROBLEM
    found = only(desk.folders())
    assert (found.state, "nowhere cannot be written" in found.says) == (State.PROBLEM, True)


def test_a_folder_that_a_service_synchronises_is_a_warning(tmp_path, monkeypatch):
    assert only(desk.place()).state is State.OK
    monkeypatch.setenv("SOLO_HOME", str(tmp_path / "OneDrive - A University" / "solo"))
    assert "OneDrive" in only(desk.place()).says
    monkeypatch.setenv("SOLO_HOME", str(tmp_path / "mein Ordner äöü"))
    assert only(desk.place()).state is State.OK, "spaces and umlauts are fine"


def test_a_notebook_that_does_not_fit_its_checkers_is_a_problem(curriculum):
    assert only(desk.notebooks()).state is State.OK
    first, second = units.labs()
    first.notebook.write_text(first.notebook.read_text().replace("check-second", "check-third"))
    second.notebook.unlink()
    found = only(desk.notebooks())
    assert found.state is State.PROBLEM
    assert "phase1/lab1, phase1/lab2" in found.says


def test_the_cache_of_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("SOLO_DATA", str(tmp_path / "not" / "yet"))
    found = only(desk.data())
    assert (found.state, "0 of " in found.says) == (State.OK, True)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOLO_DATA", str(tmp_path / "file" / "below"))
    assert only(desk.data()).state is State.WARNING


def test_an_examination_that_fails_is_a_finding(replaced, monkeypatch):
    def kernel():
        raise ModuleNotFoundError("No module named 'jupyter_client'")
        yield

    monkeypatch.setattr(doctor, "EXAMINATIONS", (kernel, machine.disk))
    first, *rest = doctor.examine()
    assert (first.about, first.state) == ("kernel", State.PROBLEM)
    assert "No module named 'jupyter_client'" in first.says
    assert [finding.about for finding in rest] == ["disk", "torch", "GPU"]
