"""A class whose gradebook is in a real PostgreSQL server, as several instructors share one."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from grading.classroom.books import Books

pytestmark = pytest.mark.slow

LAB = "lab9_tiny"
HALF = "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)"


def programs() -> Path | None:
    """Where PostgreSQL's server is: Debian does not put it on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The address of an empty database in a server of its own."""
    if programs() is None:
        pytest.skip("there is no PostgreSQL server here")
    folder = tmp_path_factory.mktemp("postgres")
    as_user = {}
    if os.getuid() == 0:  # it refuses to run as root
        as_user = {"user": "postgres", "group": "postgres"}
        shutil.chown(folder, "postgres", "postgres")
        for parent in folder.parents:
            if parent.owner() == "root" and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
                parent.chmod(0o711)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        subprocess.run([programs() / program, *arguments], check=True, cwd=folder, capture_output=True, **as_user)

    run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "solo")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    run("pg_ctl", "-D", str(folder / "data"), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "solo", "gradebook")
        yield f"postgresql+psycopg://solo@127.0.0.1:{port}/gradebook"
    finally:
        run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")


def test_the_gradebook_may_be_a_server(database, course, hand_in, solo, tmp_path):
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(f"c.CourseDirectory.db_url = {database!r}\n")
    (course / "gradebook.db").unlink()
    solo("class", "release", "lab9", "--course", str(course))
    hand_in("amy")
    hand_in("bob", softmax=HALF)
    code, said, complaint = solo("class", "grade", "lab9", "--course", str(course))
    assert (code, complaint) == (0, "")
    assert "2 graded in" in said
    assert {s: given["check-softmax"] for s, given in Books(course).marks(LAB).items()} == {"amy": 2, "bob": 1}
    assert "2 students' feedback" in solo("class", "feedback", "lab9", "--course", str(course))[1]
    assert (course / "feedback" / "bob" / LAB / "progress.json").exists()
    solo("class", "export", "lab9", str(tmp_path / "marks.csv"), "--course", str(course))
    assert "bob,,,bob,,3" in (tmp_path / "marks.csv").read_text()
    assert not (course / "gradebook.db").exists(), "nothing is kept beside the server"
