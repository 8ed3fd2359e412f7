"""Whatever a learner's code or machine does: one clear sentence, and nothing lost.

Loops, memory and broken notebooks in a fresh run: `engine/test_fresh.py`; killed and many writers: `test_progress.py`;
what happens to a notebook while it is watched: `test_watch.py`.
"""

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from grading import fresh, progress
from grading.fresh import Limits, NotebookError, run_fresh
from grading.report import Outcome

REPO = Path(__file__).parents[1]
MAIN = "import sys; from grading.cli import main; main(sys.argv[1:])"
SETUP = "import os, sys, torch\nfrom grading import unit\ncheck, hint, reveal = unit('phase1/lab9')\n"
SOFTMAX = """
def softmax(x, dim):
    {}
    w = (x - x.amax(dim, keepdim=True)).exp()
    return w / w.sum(dim, keepdim=True)
"""
# A gigabyte in a cell; a function is called four times by the tests, and more for the exercise that needs it.
FLOOD = "[(sys.stdout.write('x' * 2**24), os.write(1, b'x' * 2**20)) for _ in range({})]"
IN_CELL, IN_FUNCTION = FLOOD.format(60), FLOOD.format(15)
LONELY = ["sleep", "3607"]
QUICK = Limits(test_s=6, cell_s=30)

posix = pytest.mark.skipif(os.name == "nt", reason="of Linux and macOS")


def python(code, *arguments, cwd, **env):
    """Run code in a process of its own, with this clone's packages unless told otherwise."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), **env}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, encoding="utf-8")


def checked(tiny, rewritten, softmax):
    """A fresh run of the tiny unit with this code in softmax's cell."""
    tiny.workspace_notebook.write_text(rewritten(softmax=softmax), encoding="utf-8")
    return run_fresh(tiny, tiny.workspace_notebook, limits=QUICK, demos=False)


@pytest.mark.parametrize(("in_cell", "in_function"), [(IN_CELL, "pass"), ("", IN_FUNCTION)])
def test_output_without_end_costs_nothing_in_a_fresh_run(tiny, rewritten, in_cell, in_function):
    report = checked(tiny, rewritten, f"import os, sys\n{in_cell}\n{SOFTMAX.format(in_function)}")
    assert report.points == 4
    assert report.problems == ()


@posix
def test_output_without_end_costs_no_memory_in_the_notebook(tiny):
    code = SETUP + SOFTMAX.format(f"if loud: {IN_FUNCTION}")
    code += """
import resource
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
loud = False; check("softmax"); before = peak_mb()
loud = True; check("softmax"); print("needed", peak_mb() - before, "MB")
"""
    done = python(code, cwd=tiny.workspace_notebook.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("passed · 2 of 2 points") == 2
    assert float(done.stdout.split()[-2]) < 200
    assert len(done.stdout) < 5000, "the flood stays inside"


def test_a_question_to_the_keyboard_is_no_wait(tiny, rewritten):
    report = checked(tiny, rewritten, SOFTMAX.format("input('?')"))
    assert "EOFError" in report["softmax"].requirements[0].evidence.message


@pytest.mark.parametrize("body", ["return softmax(x, dim)", "x = [x]\n    for _ in range(10**6): x = [x]\n    repr(x)"])
def test_recursion_without_end_or_limit_costs_its_own_exercise(tiny, rewritten, body):
    report = checked(tiny, rewritten, f"import sys\nsys.setrecursionlimit(10**9)\n{SOFTMAX.format(body)}")
    outcomes = {e.name: e.outcome for e in report.exercises}
    assert outcomes == {"softmax": Outcome.RAISED, "attention": Outcome.PASSED, "scale": Outcome.PASSED}
    message = report["softmax"].requirements[0].evidence.message
    # Which limit is met first depends on the version of Python: the crash, the time, the memory, or a new limit.
    assert any(says in message for says in ("is there a recursion", "did not finish", "MB of memory", "RecursionError"))


@posix
@pytest.mark.parametrize("ending", ["pass", "time.sleep(0.2); os._exit(1)"])
def test_nothing_that_a_cell_started_is_left_running(tiny, rewritten, ending):
    start = f"""
import os, subprocess, sys, threading, time
subprocess.Popen({LONELY}, start_new_session=True)
orphan = "import subprocess; subprocess.Popen({LONELY}, start_new_session=True)"
subprocess.run([sys.executable, "-c", orphan])
threading.Thread(target=time.sleep, args=(3600,)).start()
"""
    report = checked(tiny, rewritten, start + SOFTMAX.format(ending))
    assert report["attention"].passed
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == LONELY]


@posix
def test_a_cell_that_leaves_for_a_folder_and_deletes_it_harms_nobody(tiny, rewritten):
    leave = "import os, tempfile\nwith tempfile.TemporaryDirectory() as folder:\n    os.chdir(folder)\n"
    report = checked(tiny, rewritten, leave + SOFTMAX.format("pass"))
    assert report.problems == ()
    assert report.points == 4


@dataclass
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    def refuses(self, *words):
        """Whether it ended in one sentence with these words."""
        one = self.err.startswith("solo: ") and self.err.count("\n") == 1
        return self.code == 2 and one and all(word in self.err for word in words)


@pytest.fixture
def disk(tmp_path, home):
    """`disk(spoil, *commands)`: the learner's root on a small disk of its own, then spoilt.

    A command is `solo`'s arguments, or Python code. Gives what they said, and the root as it was before and after.
    """
    mount = "mount -t tmpfs -o size=512k none"
    private = ["unshare", "--map-root-user", "--mount", "sh", "-ec"]
    if not shutil.which("unshare") or subprocess.run([*private, f"{mount} /mnt"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a disk of their own")

    def run(spoil, *commands):
        before, place, after = (tmp_path / name for name in ("before", "place", "after"))
        shutil.copytree(home, before)
        place.mkdir()
        script = [f"cd {tmp_path}", f"{mount} place", "cp -R before/. place", spoil, "set +e"]
        for i, command in enumerate(commands):
            code, arguments = (command, ()) if isinstance(command, str) else (MAIN, command)
            typed = shlex.join([sys.executable, "-c", code, *arguments])
            script.append(f"(cd place; {typed}) >{i}.out 2>{i}.err")
            script.append(f"echo $? >{i}.code")
        script.append("cp -R place/. after")
        environment = os.environ | {"SOLO_HOME": str(place), "SOLO_PROGRESS": str(place / "progress.json")}
        environment["PYTHONPATH"] = str(REPO)
        subprocess.run([*private, "\n".join(script)], env=environment, check=True)
        said = []
        for i in range(len(commands)):
            code, out, err = ((tmp_path / f"{i}.{kind}").read_text(encoding="utf-8") for kind in ("code", "out", "err"))
            said.append(Said(int(code), out, err))
        return said, before, after

    return run


def same(before, after, *paths):
    """Whether these files are what they were."""
    return all((before / path).read_bytes() == (after / path).read_bytes() for path in paths)


def test_a_read_only_disk_is_one_sentence_each_and_nothing_lost(tiny, home, disk):
    progress.append(progress.Done(unit="phase1/lab9"))
    notebook = tiny.workspace_notebook.relative_to(home)
    in_notebook = f"{SETUP}{SOFTMAX.format('pass')}check('softmax'); hint('softmax')"
    said, before, after = disk(
        "mount -o remount,ro place",
        ("status",),
        ("hint", "lab9", "softmax"),
        ("reset", "lab9"),
        ("note", "lab9", "learnt"),
        in_notebook,
    )
    status, hint, reset, note, live = said
    assert (status.code, status.err) == (0, "")
    assert "Hint 1 of 3" in hint.out
    assert hint.refuses("progress.json cannot be written (read-only file system); nothing was recorded")
    assert reset.refuses("read-only file system")
    assert note.refuses("nothing was recorded")
    assert (live.code, live.err) == (0, "")
    assert "passed · 2 of 2 points" in live.out
    assert "Hint 1 of 3" in live.out
    assert live.out.count("Not recorded: ") == 2
    assert same(before, after, "progress.json", notebook)


def test_a_full_disk_is_one_sentence_each_and_nothing_lost(tiny, home, disk):
    for _ in range(20):
        progress.append(progress.Note(unit="phase1/lab9", text="x" * 500))
    notebook = tiny.workspace_notebook.relative_to(home)
    said, before, after = disk(
        "dd if=/dev/zero of=place/filler bs=512 2>/dev/null || true",
        ("status",),
        ("check", "lab9"),
        ("reset", "lab9"),
        ("reset", "lab9", "--exercise", "softmax"),
        ("open", "phase1/quiz"),
    )
    status, check, reset, reset_one, new = said
    assert (status.code, status.err) == (0, "")
    assert "4 of 4 points" in check.out, "the result is shown"
    assert check.refuses("progress.json cannot be written (no space left on device); nothing was recorded")
    assert reset.refuses("no space left on device")
    assert reset_one.refuses("no space left on device")
    assert new.refuses("quiz.ipynb", "no space left on device")
    assert same(before, after, "progress.json", notebook)
    known = {path.relative_to(before) for path in before.rglob("*") if path.is_file()}
    new = {path.relative_to(after) for path in after.rglob("*") if path.is_file()} - known
    assert new <= {Path("filler"), Path("progress.json.lock")}, "nothing half-written stays behind"


def test_a_fresh_run_without_room_for_its_own_files_says_so(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(fresh.tempfile, "TemporaryDirectory", lambda prefix: nullcontext(str(tmp_path / "gone")))
    with pytest.raises(NotebookError, match=r"could not start: .*gone cannot be written \(no such file or directory\)"):
        run_fresh(tiny, tiny.workspace_notebook)


def test_two_kernels_at_once_on_one_notebook_lose_nothing(tiny):
    code = SETUP + SOFTMAX.format("pass") + "for _ in range(10): check('softmax')"
    kernels = [start_new_kernel(cwd=str(tiny.workspace_notebook.parent)) for _ in range(2)]
    try:
        asked = [client.execute(code) for _, client in kernels]
        answers = [_answer(client, message) for (_, client), message in zip(kernels, asked, strict=True)]
    finally:
        for manager, client in kernels:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    assert answers == ["ok", "ok"]
    events = progress.load().events
    assert (len(events), len({event.id for event in events})) == (20, 20)
    assert all(event.passed for event in events)


def _answer(client, message):
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"]["msg_id"] == message:
            return reply["content"]["status"]


def test_a_clone_may_live_in_a_path_with_spaces_and_umlauts(tiny, tmp_path):
    clone = tmp_path / "mein Ordner äöü ß" / "Solo Leveling"
    without_caches = shutil.ignore_patterns("__pycache__")
    for folder in ("grading", "labkit"):
        shutil.copytree(REPO / folder, clone / folder, ignore=without_caches)
    shutil.copytree(tiny.folder, clone / tiny.folder.relative_to(REPO / "tests" / "content"), ignore=without_caches)
    shutil.copy(REPO / "pyproject.toml", clone)
    places = {name: os.environ[name] for name in ("SOLO_CONTENT", "SOLO_HOME", "SOLO_PROGRESS")}

    def solo(*arguments):
        code = f"import os\nfor name in {list(places)}: del os.environ[name]\n{MAIN}"
        return python(code, *arguments, cwd=clone.parent, PYTHONPATH=str(clone))

    started = solo("start", "--no-lab")
    assert (started.returncode, started.stderr) == (0, "")
    copy = clone / "workspace" / "phase1_foundations" / "lab9_tiny" / "lab.ipynb"
    assert copy.exists()
    shutil.copy(tiny.solution, copy)
    done = solo("check", str(copy))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "4 of 4 points" in done.stdout
    kept = progress.load(clone / "progress.json").events
    assert [event.kind for event in kept] == ["attempt"] * 3 + ["reviewed"]
    assert "2 confirmed" in solo("status").stdout
