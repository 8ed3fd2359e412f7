"""Do torch and its kin load, and can the GPU be used. They load in another process, for a broken library can end it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

from grading.doctor import probe
from grading.doctor.finding import INSTALL, Finding, ok, problem, warning

PATIENCE_S = 60
WINDOWS = "; where a DLL is missing, Microsoft's Visual C++ Redistributable"


def loading() -> subprocess.Popen:
    """A process that loads the libraries and tells of each."""
    # -P: a torch.py in the current folder is not meant.
    command = [sys.executable, "-P", probe.__file__]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def findings(process: subprocess.Popen) -> Iterator[Finding]:
    """Wait for `process`, and say what came of each library and of the GPU."""
    told, ended = _told(process)
    yield from _libraries({line["library"]: line for line in told if "library" in line}, ended)
    for line in told:
        if "gpu" in line:
            yield _gpu(line)


def _told(process: subprocess.Popen) -> tuple[list[dict], str]:
    """What the process has told, and how it ended where it did not come to its end."""
    try:
        printed, _ = process.communicate(timeout=PATIENCE_S)
        ended = f"ends the Python process (exit code {process.returncode})"
    except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
        ended = f"takes more than {PATIENCE_S} s"
    return [json.loads(line) for line in printed.splitlines() if line.startswith('{"')], ended


def _libraries(told: dict[str, dict], ended: str) -> Iterator[Finding]:
    cure = INSTALL + (WINDOWS if sys.platform == "win32" else "")
    for name in probe.LIBRARIES:
        if name not in told:
            yield problem("torch", f"{name} {ended} when it is loaded.", cure)
            return
        if "error" in told[name]:
            yield problem("torch", f"{name} does not load: {told[name]['error']}.", cure)
    if all("version" in line for line in told.values()):
        yield ok("torch", ", ".join(f"{name} {line['version']}" for name, line in told.items()) + " load.")


def _gpu(told: dict) -> Finding:
    if told["gpu"]:
        return ok("GPU", f"{told['gpu']}.")
    if told["error"]:
        cure = "Update its driver, or leave it as it is: every unit runs on a CPU."
        return warning("GPU", f"There is one that PyTorch cannot use: {told['error']}", cure)
    if shutil.which("nvidia-smi"):
        cure = "Install PyTorch's CUDA build, or leave it as it is: every unit runs on a CPU."
        return warning("GPU", "There is one from NVIDIA, and PyTorch does not see it.", cure)
    return ok("GPU", "none, and none is needed: every unit runs on a CPU.")
