"""A class on one server, walked through for real: JupyterHub, accounts of the machine, nbgrader's exchange.

It makes three accounts and removes them, so it needs root; and JupyterHub, which `make hub` installs.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import nbformat
import pytest

from grading import units
from grading.classroom.bundle import bundle
from grading.classroom.hub.settings import VARIABLE, ClassSettings, HubError, environment, read

HUB = units.PACKAGE / "classroom" / "hub"
LAB = "lab1_tensors_and_autograd"
PATIENCE_S = 120


def missing() -> str | None:
    """What this machine lacks for the walk."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("useradd") is None:
        return "needs root, to make accounts on Linux"
    if not Path(sys.executable).with_name("jupyterhub").exists():
        return "needs JupyterHub: `make hub` installs it"
    if not all(folder.stat().st_mode & 0o001 for folder in Path(sys.executable).resolve().parents):
        return "this Python lives in a folder that other accounts cannot enter"
    return None


walked = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@dataclass
class Person:
    """Someone with an account, and a browser of their own."""

    name: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    browser: httpx.Client | None = None

    def logs_in(self, address: str) -> None:
        """By the login page, as everybody does; then their server is started."""
        self.browser = httpx.Client(base_url=address, follow_redirects=True, timeout=60)
        form = {"username": self.name, "password": self.password, "_xsrf": self._token("/hub/login")}
        assert self.browser.post("/hub/login", data=form).status_code == 200
        self.browser.get("/hub/spawn")
        wait_for(self._is_in)

    def _is_in(self) -> bool:
        page = self.browser.get(f"/user/{self.name}/lab")
        return page.status_code == 200 and page.url.path == f"/user/{self.name}/lab"

    def gets(self, path: str) -> httpx.Response:
        """A page of their own server."""
        return self.browser.get(f"/user/{self.name}{path}")

    def sends(self, method: str, path: str, **content: object) -> httpx.Response:
        """What a click on a page of their own server does."""
        token = {"X-XSRFToken": self._token(f"/user/{self.name}/lab")}
        return self.browser.request(method, f"/user/{self.name}{path}", headers=token, **content)

    def _token(self, page: str) -> str:
        self.browser.get(page)
        return [c.value for c in self.browser.cookies.jar if c.name == "_xsrf" and page.startswith(c.path)][-1]

    def types(self, settings: ClassSettings, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
        """A command in a terminal of theirs."""
        scripts = Path(sys.executable).parent
        own = environment(settings, self.name)
        own |= {"PATH": f"{scripts}:{os.environ['PATH']}", VARIABLE: os.environ[VARIABLE], "OMP_NUM_THREADS": "1"}
        own |= {"HOME": str(self.home), "SOLO_HOME": str(self.home), "USER": self.name, "LOGNAME": self.name}
        return subprocess.run(
            ["runuser", "-u", self.name, "--", *command],
            cwd=cwd or self.home, env=own, capture_output=True, text=True,
        )  # fmt: skip

    @property
    def home(self) -> Path:
        """Their home."""
        return Path("/home", self.name)


def wait_for(happened: Callable[[], bool]) -> None:
    """Until `happened`, for as long as a server may take."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if happened():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="class-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def people() -> Iterator[tuple[Person, Person, Person]]:
    """An instructor and two learners."""
    mark = secrets.token_hex(3)
    found = tuple(Person(f"{name}{mark}") for name in ("ada", "alan", "grace"))
    for person in found:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", person.name], check=True)
        subprocess.run(["chpasswd"], input=f"{person.name}:{person.password}", text=True, check=True)
    yield found
    for person in found:
        subprocess.run(["pkill", "-KILL", "-u", person.name], check=False)
        subprocess.run(["userdel", "--remove", "--force", person.name], check=False, capture_output=True)


@pytest.fixture
def served(place: Path, people: tuple[Person, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[ClassSettings]:
    """The class on its server, everybody logged in."""
    ada, *learners = people
    bundle(place / "edition")
    subprocess.run(["git", "clone", "--quiet", str(units.PACKAGE.parent), str(place / "repository")], check=True)
    subprocess.run(["chown", "-R", f"{ada.name}:", str(place / "repository")], check=True)
    (place / "repository").chmod(0o700)
    for name in ("exchange", "data"):
        (place / name).mkdir()
        (place / name).chmod(0o777)
    port = free_port()
    names = ", ".join(f'"{person.name}"' for person in learners)
    (place / "class.toml").write_text(
        f'course = "pytorch"\ninstructors = ["{ada.name}"]\nlearners = [{names}]\n'
        + "".join(f'{name} = "{place / name}"\n' for name in ("edition", "repository", "exchange", "data"))
        + f'address = "http://127.0.0.1:{port}"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv(VARIABLE, str(place / "class.toml"))
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", secrets.token_hex(16))
    settings = read()
    subprocess.run(["chmod", "-R", "a+rX", str(place / "edition")], check=True)
    log = (place / "hub.log").open("wb")
    command = [str(Path(sys.executable).with_name("jupyterhub")), "-f", str(HUB / "jupyterhub_config.py")]
    command += [
        f"--JupyterHub.hub_port={free_port()}",
        f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}",
    ]
    hub = subprocess.Popen(command, cwd=place, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: httpx.get(f"{settings.address}/hub/api/").status_code == 200)
        for person in people:
            person.logs_in(settings.address)
        yield settings
    except BaseException:
        print((place / "hub.log").read_text(encoding="utf-8")[-6000:])
        raise
    finally:
        hub.terminate()
        hub.wait(30)
        log.close()


@walked
def test_two_learners_and_an_instructor(served, people):
    ada, alan, grace = people
    course, assignment = ada.home / served.course, {"course_id": served.course, "assignment_id": LAB}

    def types(*command: str) -> None:
        done = ada.types(served, *command, cwd=course if course.exists() else None)
        assert done.returncode == 0, done.stdout + done.stderr

    types("grading", "release", "phase1/lab1", "--course", served.course)
    types("nbgrader", "release_assignment", LAB)

    for learner in (alan, grace):
        assert learner.types(served, "ls", str(served.repository)).returncode != 0, "learners cannot see solutions"
        assert learner.gets("/formgrader").status_code == 404
        fetched = learner.sends("POST", "/assignments/fetch", data=assignment)
        assert fetched.json()["success"], fetched.text
    solved = nbformat.read(units.find("phase1/lab1").solution, as_version=4)
    answers = {cell.metadata.nbgrader.grade_id: cell.source for cell in solved.cells
               if cell.metadata.get("nbgrader", {}).get("solution")}  # fmt: skip
    everything, one = set(answers), {"as_floats"}
    for learner, names in ((alan, one), (grace, everything)):
        path = f"/api/contents/{LAB}/{LAB}.ipynb"
        found = learner.gets(path)
        assert found.status_code == 200, found.text[-2000:]
        model = found.json()
        for cell in model["content"]["cells"]:
            name = cell["metadata"].get("nbgrader", {}).get("grade_id")
            if name in names:
                cell["source"] = answers[name]
        assert learner.sends("PUT", path, json={"type": "notebook", "content": model["content"]}).status_code == 200
        handed_in = learner.sends(
            "POST", "/assignments/submit", data={"course_id": served.course, "assignment_id": LAB}
        )
        assert handed_in.json()["success"], handed_in.text

    for step in ("collect", "grade", "feedback"):
        types("solo", "class", step, "phase1/lab1", "--course", ".")
    types("nbgrader", "release_feedback", LAB)
    assert ada.gets("/formgrader").status_code == 200
    marks = {row["student"]: row["score"] for row in ada.gets(f"/formgrader/api/submissions/{LAB}").json()}
    assert marks == {alan.name: 2, grace.name: 20}

    for learner in (alan, grace):
        told = learner.sends(
            "POST", "/assignments/fetch_feedback", data={"course_id": served.course, "assignment_id": LAB}
        )
        assert told.json()["success"], told.text
        (page,) = (learner.home / LAB / "feedback").rglob("*.html")
        assert f"Score: {marks[learner.name]:g}" in page.read_text(encoding="utf-8").replace(".0", "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("course = ", "cannot be used"),
        ('course = "x"', "instructors: Field required"),
        ("nothing = 1", "cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path, text, says):
    file = tmp_path / "class.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(HubError, match=says):
        read(file)


def test_nobody_is_instructor_and_learner(tmp_path):
    example = (HUB / "class.example.toml").read_text(encoding="utf-8")
    (tmp_path / "class.toml").write_text(example.replace('"grace"', '"ada"'), encoding="utf-8")
    with pytest.raises(HubError, match="ada cannot be an instructor and a learner"):
        read(tmp_path / "class.toml")
    (tmp_path / "class.toml").write_text(example, encoding="utf-8")
    settings = read(tmp_path / "class.toml")
    assert environment(settings, "ada")["PYTHONPATH"] == str(settings.repository)
    assert environment(settings, "grace")["PYTHONPATH"] == str(settings.edition)


def test_settings_must_be_said(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(HubError, match=f"set {VARIABLE}"):
        read()
