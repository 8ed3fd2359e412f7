"""What the cells of a notebook show, kept as a notebook keeps it and never more than a notebook can bear."""

import io
from base64 import b64encode
from contextlib import redirect_stdout
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher

from grading.learner_notebook import new_shell

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

CELL_CHARS = 200_000
NOTEBOOK_CHARS = 8_000_000
CUT = "\n… the rest of this output is left out.\n"


class Recorder:
    """The outputs of the cell that is running, in nbformat's form."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.room, self.total = CELL_CHARS, NOTEBOOK_CHARS

    def take(self) -> list[dict[str, Any]]:
        """What the cell has shown; the next one begins with nothing."""
        taken, self.outputs, self.room = self.outputs, [], CELL_CHARS
        return taken

    def write(self, name: str, text: str) -> None:
        """Add to a stream, as far as there is room."""
        room = min(self.room, self.total)
        if room <= 0:
            return
        if len(text) > room:
            text = text[:room] + CUT
        self._pay(len(text))
        last = self.outputs[-1] if self.outputs else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"] += text
        else:
            self.outputs.append({"output_type": "stream", "name": name, "text": text})

    def show(self, kind: str, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Add a display or a result, unless it is too large."""
        texts = {mime: b64encode(v).decode() if isinstance(v, bytes) else v for mime, v in data.items()}
        texts = {mime: value for mime, value in texts.items() if isinstance(value, str)}
        size = sum(map(len, texts.values()))
        if size > min(5 * CELL_CHARS, self.total):
            self.write("stderr", f"An output of {size:,} characters is left out.\n")
            return
        self.total -= size
        extra = {"execution_count": None} if kind == "execute_result" else {}
        self.outputs.append({"output_type": kind, "data": texts, "metadata": dict(metadata or {}), **extra})

    def error(self, name: str, message: str, traceback: list[str]) -> None:
        """Add what a cell raised."""
        cut = [line[:2000] for line in traceback[:50]]
        self.outputs.append({"output_type": "error", "ename": name, "evalue": message[:2000], "traceback": cut})

    def _pay(self, n: int) -> None:
        self.room -= n
        self.total -= n


class Stream(io.TextIOBase):
    """A standard stream that goes into the record."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder, self._name = recorder, name

    encoding = "utf-8"

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Record `text`."""
        self._recorder.write(self._name, str(text))
        return len(text)


@cache
def recording_shell() -> tuple["InteractiveShell", Recorder]:
    """The shell of this process, which shows nothing, and what it keeps all in, figures included."""
    shell, recorder = new_shell(ModuleType("learner_notebook")), Recorder()
    shell.display_pub = _Publisher(recorder, parent=shell)
    shell.displayhook = _Hook(recorder, shell=shell)
    shell.display_trap.hook = shell.displayhook
    shell._showtraceback = lambda kind, error, lines: recorder.error(kind.__name__, str(error), list(lines))
    with redirect_stdout(Stream(recorder, "stdout")):
        shell.run_line_magic("matplotlib", "inline")
    recorder.take()
    return shell, recorder


def give(shell: "InteractiveShell", module: ModuleType) -> None:
    """Let `shell` execute its cells in `module`."""
    shell.user_module, shell.user_ns = module, module.__dict__
    shell.init_user_ns()


class _Publisher(DisplayPublisher):
    def __init__(self, recorder: Recorder, **settings: Any) -> None:
        super().__init__(**settings)
        self._recorder = recorder

    def publish(self, data: dict, metadata: dict | None = None, **_: Any) -> None:
        """Record a display."""
        self._recorder.show("display_data", data, metadata or {})

    def clear_output(self, wait: bool = False) -> None:
        """Forget what the cell has shown so far."""
        self._recorder.take()


class _Hook(DisplayHook):
    def __init__(self, recorder: Recorder, **settings: Any) -> None:
        super().__init__(**settings)
        self._recorder = recorder

    def write_output_prompt(self) -> None:
        """There is no prompt."""

    def write_format_data(self, format_dict: dict, md_dict: dict | None = None) -> None:
        """Record a result."""
        self._recorder.show("execute_result", format_dict, md_dict or {})

    def log_output(self, format_dict: dict) -> None:
        """There is no log."""

    def finish_displayhook(self) -> None:
        """There is nothing to end."""
