"""The quest log under `solo watch`, and the line that celebrates a rank."""

import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from grading import notebook, progress, units
from grading.cli.questlog import QuestLog
from grading.events import Marked, RankUp
from grading.quizzes.desk import Shown
from grading.quizzes.sitting import Marks
from grading.ranks import REQUIREMENTS

REPO = Path(__file__).parents[2]
PATIENCE_S = 60


def shown(log):
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(log)
    return captured.get()


def test_the_log_says_where_each_exercise_stands(report):
    progress.record(report("lab1", first=6))
    log = QuestLog(units.find("lab1"))
    before = shown(log)
    assert "first   confirmed  6 / 6 points" in before
    assert "extra   open       0 / 5 XP" in before
    assert "✗" not in before, "nothing has run yet"
    assert "Rank E · 6 XP" in before
    ran = report("lab1", first=6, second=2)
    progress.record(ran)
    log.take(ran)
    after = shown(log)
    assert "✓  first   confirmed" in after
    assert "✗  second  tried      2 / 4 points" in after
    assert "8 / 10" in after
    assert "Next quest: The second (`second` in phase1/lab1)" in after


class Terminal:
    """`solo watch` at a pseudo-terminal of 50 rows and 120 columns."""

    def __init__(self, unit):
        import fcntl
        import pty
        import termios

        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        path = os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", "from grading.cli import main; main()", "watch", unit]
        env = {**os.environ, "PYTHONPATH": path, "TERM": "xterm"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                self.text += os.read(self.master, 10_000).decode(errors="replace")
            except OSError:
                return

    def until(self, *words):
        start, deadline = len(self.text), time.monotonic() + PATIENCE_S
        while not all(word in self.text for word in words):
            assert time.monotonic() < deadline, f"no {words} in {self.text[start - 2000 :]}"
            assert self.process.poll() is None, self.text
            time.sleep(0.1)


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_at_a_terminal_the_log_stays_below_what_is_printed(tiny, rewritten):
    import signal

    terminal = Terminal("lab9")
    try:
        terminal.until("exercises passed in", "Next quest: ")
        after = terminal.text[terminal.text.rindex("exercises passed in") :]
        deadline = time.monotonic() + PATIENCE_S
        while "confirmed" not in after and time.monotonic() < deadline:
            time.sleep(0.1)
            after = terminal.text[terminal.text.rindex("exercises passed in") :]
        assert "confirmed" in after, "drawn again, below"
        assert "Rank E" in after
        tiny.workspace_notebook.write_text(rewritten(attention="def attention(q, k):\n    return softmax(q @ k.T, -1)"))
        terminal.until("`attention` first", "3 of 4 points")
        assert "Traceback" not in terminal.text
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(PATIENCE_S) == 0
    finally:
        terminal.process.kill()


def test_a_rank_is_celebrated_in_one_line_wherever_it_is_earned(solo, report, capsys):
    line = f"Rank up! You are D-rank now: {REQUIREMENTS['D']}."
    assert RankUp(rank="D").words == line
    full = {"first": 6, "second": 4}
    progress.record(report("lab1", **full))
    desk = notebook.Desk(units.find("lab2"), {})
    assert desk._record(report("lab2", **full)).startswith(line)
    assert "Rank up" not in desk._record(report("lab2", **full)), "once"
    sat = Shown(Marks(rank_up=RankUp(rank="C")), first=True)
    assert repr(sat).splitlines()[1].startswith("Rank up! You are C-rank now")
    assert "Rank up! You are C-rank now" in sat._repr_html_()


def test_handing_in_tells_of_the_rank_that_it_earned(tiny, monkeypatch):
    from grading.quizzes import sitting

    quiz = units.find("phase1/quiz")
    monkeypatch.setattr(progress, "append", lambda *events: RankUp(rank="C") if isinstance(events[0], Marked) else None)
    sheet = sitting.Paper(quiz, sitting.draw(quiz, 1, []))
    names = {sitting.CHALLENGE: sheet.sitting.challenge, sitting.REVIEW: sheet.sitting.review}

    def check(exercise):
        from grading.report import ExerciseReport

        return ExerciseReport(
            name=names.get(exercise, exercise), title="It", outcome="passed", points=1, max_points=1, checker="x",
            requirements=(),
        )  # fmt: skip

    marks, first = sitting.hand_in(sheet, {"q1": "a"}, check)
    assert first
    assert marks.rank_up.rank == "C"
