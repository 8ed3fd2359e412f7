"""Is everything installed that is needed, and do notebooks find it: Python, packages, kernel, nbgrader."""

import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from grading.doctor import requirements
from grading.doctor.finding import INSTALL, Finding, ok, problem, warning


def python() -> Iterator[Finding]:
    """The version is one that all packages have wheels for."""
    wanted, version = requirements.pythons(), platform.python_version()
    says = f"{version} in {sys.prefix}, on {platform.system()} {platform.machine()}."
    if wanted.contains(version, prereleases=True):
        yield ok("Python", says)
    else:
        cure = "Install Python 3.11, 3.12 or 3.13, delete the folder .venv, and set up again as the README says."
        yield problem("Python", f"{says} The packages need {wanted}.", cure)


def packages() -> Iterator[Finding]:
    """Everything is installed, in versions that go together and that were tested."""
    found = requirements.compare()
    if found.missing:
        yield problem("packages", f"Not installed: {', '.join(found.missing)}.", INSTALL)
    if found.unfit:
        yield problem("packages", f"Of another version than is needed: {', '.join(found.unfit)}.", INSTALL)
    if found.unlocked:
        yield warning("packages", f"Not tested in this version: {', '.join(found.unlocked)}.", INSTALL)
    if not (found.missing or found.unfit or found.unlocked):
        yield ok("packages", f"{found.installed} installed, as they should be.")


def kernel() -> Iterator[Finding]:
    """The kernel `python3`, which every notebook asks for, is this very Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    own = f"{sys.executable} -m ipykernel install --sys-prefix"
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        yield problem("kernel", "There is no kernel `python3`, which the notebooks ask for.", own)
        return
    interpreter = Path(spec.argv[0])
    # jupyter_client puts the running Python in place of these names; a path in a venv is a link, so folders compare.
    if spec.argv[0].startswith("python") or interpreter.parent.resolve() == Path(sys.executable).parent.resolve():
        yield ok("kernel", f"`python3` is this Python ({spec.resource_dir}).")
        return
    inside = Path(spec.resource_dir).is_relative_to(sys.prefix)
    yield problem(
        "kernel",
        f"`python3` starts {interpreter}, {'another Python' if interpreter.exists() else 'which is not there'}.",
        own if inside else f"Delete the folder {spec.resource_dir}: JupyterLab then finds this Python's own.",
    )


def nbgrader() -> Iterator[Finding]:
    """JupyterLab's *Validate* button and the formgrader are there."""
    from jupyter_core.paths import jupyter_config_path, jupyter_path
    from jupyter_server.extension.config import ExtensionConfigManager

    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    known = manager.get_jpserver_extensions("jupyter_server_config")
    server = any(on for name, on in known.items() if name.startswith("nbgrader."))
    lab = any(Path(place, "@jupyter/nbgrader/package.json").exists() for place in jupyter_path("labextensions"))
    if server and lab:
        yield ok("nbgrader", "its extensions of JupyterLab are installed and on.")
    else:
        cure = "jupyter server extension enable --sys-prefix --py nbgrader" if lab else INSTALL
        yield warning("nbgrader", "its extensions are off: no Validate button, no formgrader; checks work.", cure)
