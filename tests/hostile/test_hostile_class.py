"""One class of hostile submissions, graded in one run: each ends as its file says, and the honest ones are unmoved."""

import json
import os
import shutil
import socket
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from grading import units
from grading.build import render
from grading.classroom import sandbox
from grading.classroom.engine import Engine
from grading.classroom.grade import Classroom
from grading.classroom.ledger import Entry
from grading.classroom.needs import Needs
from grading.fresh import Limits
from grading.release import release

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("hostile"),
    pytest.mark.skipif(bool(sandbox.layers()), reason="this machine lacks a layer of isolation"),
]

CONTENT = Path(__file__).parents[1] / "content"
FILES = sorted((Path(__file__).parent / "submissions").glob("*.toml"))
HOSTILE = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in FILES}
LAB = "lab9_tiny"
RIGHT = (
    b"def softmax(x, dim):\n    w = (x - x.amax(dim, keepdim=True)).exp()\n    return w / w.sum(dim, keepdim=True)\n"
)
HALF = "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)"
HONEST = {"honest": ({}, 4), "neighbour": ({"softmax": HALF}, 3), "zz_last": ({}, 4)}
LIMITS = Limits(test_s=4, cell_s=5)
NEEDS = Needs(seconds=60, memory_mb=1500, processes=40, disk_mb=64)


class Given:
    """The course, and what the submissions attack."""

    def __init__(self, unit: units.Unit, root: Path) -> None:
        self.unit, self.course, self.home = unit, root / "course", root / "home"
        self.home.mkdir()
        self.scratch = Path(tempfile.mkdtemp(prefix="hostile-"))  # of this class alone: others grade at the same time
        (self.home / "progress.json").write_text("mine")
        release(unit, self.course)
        self.solved = render(unit)[unit.solution]

    def hand_in(self, student: str, case: dict[str, Any], **words: object) -> None:
        """Put a submission where nbgrader expects it."""
        folder = self.course / "submitted" / student / LAB
        folder.mkdir(parents=True)
        words |= {"course": self.course, "unit": self.unit.folder, "home": self.home, "pid": os.getpid()}
        notebook = self.notebook({name: filled(code, words) for name, code in case.get("cells", {}).items()})
        content = MAKERS.get(case.get("make"), lambda n, _: json.dumps(n))(notebook, folder)
        path = folder / f"{LAB}.ipynb"
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def notebook(self, cells: dict[str, str]) -> dict[str, Any]:
        """The solved notebook as plain data with some cells rewritten; `before` is a new one, run before the rest."""
        notebook = json.loads(self.solved)
        for cell in notebook["cells"]:
            cell["source"] = cells.get(cell["id"], cell["source"])
        if "before" in cells:
            new = {"cell_type": "code", "id": "before", "metadata": {}, "outputs": [], "execution_count": None}
            first = next(i for i, cell in enumerate(notebook["cells"]) if cell["id"] == "softmax")
            notebook["cells"].insert(first, {**new, "source": cells["before"]})
        return notebook


def filled(code: str, words: dict[str, object]) -> str:
    for name, value in words.items():
        code = code.replace("{" + name + "}", str(value))
    return code


def checks(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["id"].startswith("check-")]


def forged_outputs(notebook: dict, _: Path) -> str:
    for cell in checks(notebook):
        data = {"text/plain": "2.0"}
        cell["outputs"] = [{"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": 1}]
    return json.dumps(notebook)


def faked_metadata(notebook: dict, _: Path) -> str:
    for cell in checks(notebook):
        cell["metadata"]["nbgrader"] |= {"points": 100, "solution": True, "locked": False, "checksum": "0"}
    return json.dumps(notebook)


def doubled(notebook: dict, _: Path) -> str:
    notebook["cells"] = [cell for cell in notebook["cells"] for _ in range(2)]
    return json.dumps(notebook)


def without_checks(notebook: dict, _: Path) -> str:
    notebook["cells"] = [cell for cell in notebook["cells"] if cell not in checks(notebook)]
    return json.dumps(notebook)


def huge_outputs(notebook: dict, _: Path) -> str:
    text = {"output_type": "stream", "name": "stdout", "text": "x" * 40_000_000}
    next(cell for cell in notebook["cells"] if cell["id"] == "softmax")["outputs"] = [text]
    return json.dumps(notebook)


def no_metadata(notebook: dict, _: Path) -> str:
    cells = [{"cell_type": c["cell_type"], "source": c["source"]} for c in notebook["cells"]]
    return json.dumps({"cells": cells, "metadata": {"kernelspec": {"name": "sos"}}, "nbformat": 4})


def old_format(notebook: dict, _: Path) -> str:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
    return json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": notebook["cells"]}]})


def link(notebook: dict, folder: Path) -> None:
    (folder / f"{LAB}.ipynb").symlink_to(folder.parents[1] / "honest" / LAB / f"{LAB}.ipynb")


def odd_files(notebook: dict, folder: Path) -> str:
    (folder / "passwords").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    (folder / "..\\..\\evil.txt").write_text("evil")
    (folder / "torch.py").write_text("raise RuntimeError('not torch')")
    (folder / "timestamp.txt").write_text("the day before yesterday")
    return json.dumps(notebook)


MAKERS = {
    "forged_outputs": forged_outputs,
    "faked_metadata": faked_metadata,
    "doubled": doubled,
    "without_checks": without_checks,
    "empty": lambda notebook, _: json.dumps(notebook | {"cells": []}),
    "text": lambda notebook, _: "Dear professor,\nmy dog ate it.",
    "noise": lambda notebook, _: os.urandom(2**20),
    "nested": lambda notebook, _: "[" * 100_000,
    "link": link,
    "huge_outputs": huge_outputs,
    "no_metadata": no_metadata,
    "old_format": old_format,
    "odd_files": odd_files,
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Given]:
    """A course with all of the hostile submissions, three honest ones, and servers that would help to cheat."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("SOLO_CONTENT", str(CONTENT))
        units.all_units.cache_clear()
        root = tmp_path_factory.mktemp("hostile")
        course = Given(units.find("phase1/lab9"), root)
        tcp, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        unix.bind(str(root / "s"))
        unix.listen()
        for server in (stack.enter_context(tcp), stack.enter_context(unix)):
            threading.Thread(target=helpful, args=(server,), daemon=True).start()
        for student, (cells, _) in HONEST.items():
            course.hand_in(student, {"cells": cells})
        for student, case in HOSTILE.items():
            course.hand_in(student, case, port=tcp.getsockname()[1], socket=root / "s")
        yield course
        shutil.rmtree(course.scratch)
    units.all_units.cache_clear()


def helpful(server: socket.socket) -> None:
    """Give the right answer to whoever asks."""
    while True:
        try:
            line, _ = server.accept()
        except OSError:
            return
        line.sendall(RIGHT)
        line.close()


@pytest.fixture(scope="module")
def entries(given: Given, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """What the ledger says after one run with two workers."""
    room = Classroom(given.course, given.unit)
    with (
        pytest.MonkeyPatch.context() as patch,
        Engine(given.unit, frozenset(sandbox.Layer), LIMITS, NEEDS, given.course) as engine,
    ):
        patch.setattr(tempfile, "tempdir", str(given.scratch))
        given.zygote = engine._children._process.pid
        assert room.rehearse(engine, tmp_path_factory.mktemp("rehearsed")) is None
        for graded in room.run(engine, room.plan().todo, 2, tmp_path_factory.mktemp("staged")):
            room.write(graded)
    return room.ledger.entries()


@pytest.fixture(scope="module")
def marks(given: Given, entries: dict[str, Entry]) -> dict[str, float]:
    """The sum of each student's automatic marks in nbgrader's gradebook."""
    marks = Classroom(given.course, given.unit).books.marks(LAB)
    return {student: sum(mark or 0 for mark in cells.values()) for student, cells in marks.items()}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_ends_as_its_file_says(name, entries, marks):
    case, entry = HOSTILE[name], entries[name]
    told = json.dumps(entry.model_dump(mode="json"))
    assert marks[name] == case["points"], told
    assert case.get("says", "") in told
    assert case.get("note", "") in " ".join(entry.notes)
    for key, found in (("reason", entry.reason or ""), ("flag", " ".join(entry.flags))):
        assert case.get(key, "") in found, told
        assert bool(found) == (key in case), told


@pytest.mark.parametrize("name", HOSTILE)
def test_its_class_is_what_happens_to_it(name):
    case = HOSTILE[name]
    assert case["class"] in {"prevented", "detected", "not preventable"}
    assert ("flag" in case) == (case["class"] == "detected")


@pytest.mark.parametrize(("name", "points"), [(name, points) for name, (_, points) in HONEST.items()])
def test_the_honest_are_not_moved(name, points, entries, marks):
    assert marks[name] == points
    assert (entries[name].reason, entries[name].flags, entries[name].notes) == (None, (), ())


def test_nobody_is_forgotten(entries):
    assert entries.keys() == HOSTILE.keys() | HONEST.keys()


def session(pid: int) -> int | None:
    """The session of a process, which is its zygote's: others grade at the same time. None once it has ended."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_nothing_is_left_behind(given, entries):
    assert (given.home / "progress.json").read_text() == "mine"
    assert not list(given.scratch.iterdir())
    assert not list(Path("/dev/shm").glob("filler*"))
    time.sleep(0.5)
    assert not [process for process in psutil.process_iter() if session(process.pid) == given.zygote]
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if "3611" in command]
