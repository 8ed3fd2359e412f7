"""`solo` as it is typed."""

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from grading import cli, progress, units, workspace
from grading.cli import launch, show

REPO = Path(__file__).parents[1]


def shell(*arguments, encoding="utf-8"):
    """Run a command in a process of its own, whose terminal has this encoding; then tell whether torch was loaded."""
    path = os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])
    code = "import sys; from grading.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        encoding=encoding,
    )


def test_first_start_greets_copies_and_opens(solo, curriculum, monkeypatch):
    opened = []
    monkeypatch.setattr(launch, "jupyterlab", opened.append)
    code, out, _ = solo("start")
    brief, lab = (units.find(name).workspace_notebook for name in ("theory1", "lab1"))
    assert code == 0
    assert "Rank E · 0 XP" in out
    assert "Next quest: read “On alpha” (phase1/theory1)" in out
    assert opened == [lab], "the learner stands in front of the first exercise"
    assert brief.exists()
    assert lab.exists()


def test_second_start_goes_on_where_the_learner_was(solo, curriculum, report, monkeypatch):
    monkeypatch.setattr(launch, "jupyterlab", lambda notebook: pytest.fail("not asked for"))
    progress.record(report("lab1", first=6))
    lab = units.find("lab1").workspace_notebook
    solo("start", "--no-lab")
    lab.write_text("mine")
    code, out, _ = solo("start", "--no-lab")
    assert code == 0
    assert "`second` in phase1/lab1" in out
    assert lab.read_text() == "mine"


def test_start_with_nothing_left_to_do(solo, curriculum, report):
    for lab in ("lab1", "lab2"):
        progress.record(report(lab, first=6, second=4))
    assert "through everything that is built" in solo("start", "--no-lab")[1]


def test_open_makes_a_copy_and_opens_it(solo, curriculum, monkeypatch):
    opened = []
    monkeypatch.setattr(launch, "jupyterlab", opened.append)
    assert solo("open", "lab2")[0] == 0
    assert opened == [units.find("lab2").workspace_notebook]
    assert opened[0].exists()


def test_jupyterlab_opens_the_notebook_at_the_learners_root(curriculum, home, monkeypatch, tmp_path):
    started = {}

    class Server:
        def __init__(self, command, **how):
            started.update(how, command=command)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def wait(self):
            return started.get("code", 0)

    monkeypatch.setattr(launch.subprocess, "Popen", Server)
    monkeypatch.setattr(launch.signal, "signal", lambda *to: None)
    launch.jupyterlab(units.find("lab1").workspace_notebook)
    assert f"--ServerApp.root_dir={home}" in started["command"]
    address = "--LabApp.default_url=/lab/tree/workspace/phase1_foundations/lab1_alpha/lab.ipynb"
    assert address in started["command"]
    assert started["env"]["PATH"].startswith(str(Path(sys.executable).parent))
    started["code"] = 1
    with pytest.raises(show.Refused, match="code 1"):
        launch.jupyterlab(None)


def test_status_shows_bars_and_the_next_quest(solo, report):
    progress.record(report("lab1", first=6, second=2, extra=5))
    code, out, err = solo("status")
    assert (code, err) == (0, "")
    assert "Rank E · 13 XP" in out
    assert "8 / 10" in out
    assert "1 confirmed, 1 tried · side quests 5 XP" in out
    assert "The second (`second` in phase1/lab1)" in out
    assert "\x1b" not in out


def test_status_as_json(solo, report):
    progress.record(report("lab1", first=6))
    known = json.loads(solo("status", "--json")[1])
    assert (known["rank"], known["xp"], known["next_quest"]["exercise"]) == ("E", 6, "second")
    assert known["units"][1]["exercises"][0]["state"] == "confirmed"


def test_status_tells_of_a_record_that_was_set_aside(solo, curriculum):
    progress.path().write_text("{")
    for _ in range(2):
        code, out, _ = solo("status")
        assert code == 0
        assert "set aside" in out


def test_list_shows_what_is_built_and_what_is_coming(solo, curriculum):
    code, out, _ = solo("list")
    assert code == 0
    assert "phase1/lab1" in out
    assert "Coming: Quiz · Gamma" in out


def test_hints_come_one_by_one_and_are_recorded(solo, curriculum):
    for number in (1, 2, 3):
        code, out, _ = solo("hint", "lab1", "first")
        assert code == 0
        assert out.count("Hint ") == number
        assert progress.hints_given("phase1/lab1", "first") == number
    assert 'That was all. reveal("first") in the notebook' in solo("hint", "lab1", "First")[1]
    assert progress.hints_given("phase1/lab1", "first") == 3


def test_notes_and_done(solo, curriculum):
    assert "No notes" in solo("note", "lab1")[1]
    solo("note", "lab1", "views", "share", "storage")
    solo("note", "lab1", "strides", "--improve")
    out = solo("note", "lab1")[1]
    assert "learnt: views share storage" in out
    assert "to improve: strides" in out
    out = solo("done", "theory1")[1]
    assert "marked as read" in out
    assert "`first` in phase1/lab1" in out
    assert "done, you say" not in solo("status")[1]
    solo("done", "lab1")
    assert "done, you say" in solo("status")[1]


def test_reset_says_where_the_backup_is(solo, curriculum):
    solo("start", "--no-lab")
    _, whole, _ = solo("reset", "lab1")
    code, one, _ = solo("reset", "lab1", "--exercise", "first")
    assert code == 0
    assert "blank stub" in one
    backups = sorted(units.find("lab1").workspace_notebook.parent.glob("backups/*.ipynb"))
    assert len(backups) == 2, "each reset leaves its own"
    assert all(any(b.name in "".join(out.split()) for b in backups) for out in (whole, one))


def test_merge_tells_how_many_are_new(solo, curriculum, tmp_path):
    progress.append(progress.Done(unit="phase1/theory1"), path=tmp_path / "other.json")
    assert "1 new event from" in solo("progress", "merge", str(tmp_path / "other.json"))[1]
    assert "nothing new" in solo("progress", "merge", str(tmp_path / "other.json"))[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("open", "lab7"), "There is no unit 'lab7'"),
        (("check", "theory1"), "has no exercises"),
        (("check", "lab1"), "`solo open phase1/lab1` makes one"),
        (("check", "lab1", "--exercise", "third"), "It has: first, second, extra."),
        (("check", "lab1", "--notebook", "nowhere.ipynb"), "There is no notebook at nowhere.ipynb"),
        (("check", "lab1", "--seed", "x"), "valid integer"),
        (("hint", "lab1", "third"), "It has: first, second, extra."),
        (("hint", "lab1"), "Missing argument 'EXERCISE'"),
        (("reset", "lab1", "--exercise", "first"), "You have no copy"),
        (("progress", "merge", "nowhere.json"), "There is no file nowhere.json"),
        (("dance",), "No such command 'dance'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(solo, curriculum, arguments, sentence):
    code, _, err = solo(*arguments)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err


def test_a_newer_record_is_one_sentence(solo, curriculum):
    progress.path().write_text('{"schema": 9, "events": []}')
    code, out, err = solo("status")
    assert (code, out) == (2, "")
    assert "newer version" in err


def test_an_error_of_ours_is_not_hidden(curriculum, monkeypatch):
    monkeypatch.setattr(progress, "load", lambda: {}["a bug"])
    with pytest.raises(KeyError):
        cli.main(["status"])


def test_check_confirms_a_right_copy(solo, tiny):
    code, out, _ = solo("check", "lab9", "--seed", "3")
    assert code == 0
    assert "4 of 4 points, 2 of 2 exercises passed" in out
    assert "(seed 3)" in out
    assert "Next quest: Quiz: Tiny" in out
    assert {e.context for e in progress.load().events if isinstance(e, progress.Attempt)} == {"fresh"}
    assert "2 confirmed" in solo("status")[1]


def test_check_shows_the_card_of_what_fails(solo, tiny):
    wrong = tiny.workspace_notebook.read_text().replace("queries.shape[-1] ** 0.5", "queries.shape[-1]")
    tiny.workspace_notebook.write_text(wrong)
    code, out, _ = solo("check", "lab9", "--exercise", "attention")
    assert code == 1
    assert "✗ equals softmax(QKᵀ/√d)" in out
    assert "Stuck? `solo hint phase1/lab9 attention`" in out
    assert "hint(" not in out
    assert solo("check", "lab9", "--exercise", "softmax")[0] == 0


def test_check_of_a_project_tells_when_its_newest_module_was_saved(solo, tiny):
    project = units.find("phase1/project")
    workspace.ensure(project)
    folder = project.workspace_notebook.parent
    for path in folder.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
    os.utime(folder / "tiny" / "data.py", (1e9 + 60, 1e9 + 60))
    newest = datetime.fromtimestamp(1e9 + 60)
    for notebook in ((), ("--notebook", str(folder))):
        _, out, _ = solo("check", "phase1/project", "--exercise", "data", *notebook)
        assert f"whose newest module was saved at {newest:%H:%M:%S}" in " ".join(out.split())


def test_check_of_the_repositorys_own_notebook_does_not_count(solo, tiny):
    for arguments in (("lab9", "--notebook", str(tiny.solution)), (str(tiny.solution),)):
        code, out, _ = solo("check", *arguments)
        assert code == 0
        assert "does not count" in out
    assert progress.load().events == ()


def test_check_of_an_untouched_copy_scolds_nobody_and_records_nothing(solo, tiny):
    shutil.copy(tiny.notebook, tiny.workspace_notebook)
    code, out, _ = solo("check", "lab9")
    assert code == 1
    assert out.count("not attempted") == 3
    assert "✗" not in out
    assert progress.load().events == ()


def test_check_of_what_is_not_a_notebook(solo, tiny):
    tiny.workspace_notebook.write_text("{")
    code, _, err = solo("check", "lab9")
    assert code == 2
    assert "not a notebook" in err


def test_status_does_not_load_torch(curriculum):
    done = shell("status")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("False")


def test_an_old_code_page_is_no_error(report):
    progress.record(report("lab1", first=6))
    done = shell("status", encoding="cp1252")
    assert done.returncode == 0, done.stderr
    assert "?" in done.stdout


def test_errors_go_to_stderr(curriculum):
    done = shell("open", "lab7")
    assert done.returncode == 2
    assert done.stderr.startswith("solo: There is no unit")
