"""JupyterHub for one class on one server. `SOLO_CLASS=class.toml jupyterhub -f …/jupyterhub_config.py` starts it.

People log in with their accounts of the machine, and each server runs under its owner's account: what keeps learners
out of each other's homes, and out of the repository with the solutions, is the system itself.
"""

import os
import sys
from pathlib import Path

from grading.classroom.hub.settings import VARIABLE, environment, read

settings = read()
scripts = Path(sys.executable).parent

c = get_config()  # noqa: F821 - JupyterHub defines it
c.JupyterHub.bind_url = settings.address
c.JupyterHub.authenticator_class = "pam"
c.Authenticator.allowed_users = set(settings.instructors | settings.learners)
c.ConfigurableHTTPProxy.command = [str(scripts / "configurable-http-proxy")]

c.Spawner.cmd = [str(scripts / "jupyterhub-singleuser")]
c.Spawner.default_url = "/lab"
c.Spawner.notebook_dir = "~"
c.Spawner.environment = {
    VARIABLE: os.environ[VARIABLE],
    "PATH": os.pathsep.join([str(scripts), os.environ["PATH"]]),
    # One math thread each: a class of kernels on one machine would fight for its cores.
    "OMP_NUM_THREADS": "1",
    **{
        name: lambda spawner, name=name: environment(settings, spawner.user.name)[name]
        for name in environment(settings, "")
    },
}

culler = [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={settings.idle_s}"]
scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
c.JupyterHub.services = [{"name": "idle-culler", "command": culler}]
c.JupyterHub.load_roles = [{"name": "idle-culler", "scopes": scopes, "services": ["idle-culler"]}]
