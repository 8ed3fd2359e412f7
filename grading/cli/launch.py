"""JupyterLab on the learner's desk."""

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from urllib.parse import quote

from grading import units
from grading.cli.show import Refused, say


def jupyterlab(notebook: Path | None) -> None:
    """Run JupyterLab with its root at the learner's root, open on `notebook`, until it is ended."""
    command = [sys.executable, "-m", "jupyterlab", *_settings(notebook)]
    say("Opening JupyterLab. Ctrl-C here ends it; `solo start` goes on where you were.")
    with subprocess.Popen(command, cwd=units.home(), env=_environment()) as server:
        # From here on Ctrl-C is the server's business: it asks, saves and ends, and so do we.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = server.wait()
    if code:
        raise Refused(f"JupyterLab ended with code {code}; what it said is above.")


def _settings(notebook: Path | None) -> list[str]:
    settings = [
        f"--ServerApp.root_dir={units.home()}",
        # The address itself leads to the notebook, so that it does so too when it is copied by hand.
        f"--LabApp.default_url=/lab{f'/tree/{quote(_from_home(notebook))}' if notebook else ''}",
        # The address is printed all the same, and so is what stops the server.
        "--ServerApp.log_level=ERROR",
        "--LabApp.log_level=ERROR",
        # Otherwise each kernel warns in this terminal that it talks in plain text.
        "--KernelManager.transport_encryption=auto",
    ]
    if not browser():
        settings.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        settings.append("--allow-root")  # a container; the server listens on this machine only
    return settings


def _from_home(notebook: Path) -> str:
    return notebook.relative_to(units.home()).as_posix()


def browser() -> bool:
    """Whether a window can open. Without a display Python would start a text browser in this very terminal."""
    signs = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform != "linux" or any(os.environ.get(sign) for sign in signs)


def _environment() -> dict[str, str]:
    """This environment with our settings of JupyterLab, and its own scripts first: what notebooks start by name is
    then what is installed here."""
    return {
        **os.environ,
        "PATH": _first(sysconfig.get_path("scripts"), "PATH"),
        "JUPYTER_CONFIG_PATH": _first(str(units.PACKAGE / "jupyter"), "JUPYTER_CONFIG_PATH"),
        "JUPYTER_PATH": _first(str(units.PACKAGE / "jupyter"), "JUPYTER_PATH"),
    }


def _first(place: str, variable: str) -> str:
    return os.pathsep.join([place, *filter(None, [os.environ.get(variable)])])
