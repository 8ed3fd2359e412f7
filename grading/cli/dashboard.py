"""`solo dashboard`: the page of all that the record says, live in a browser or written to a file."""

import errno
import webbrowser
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from grading import files, progress
from grading.cli import launch, show


def dashboard(
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the page, and end.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to serve it; any that is free without it.")] = 0,
) -> None:
    """All that you have done and what comes next, as a page in the browser that follows along. Ctrl-C ends it."""
    if html:
        _write(html)
    else:
        _serve(port)


def _write(file: Path) -> None:
    from grading.dashboard.data import dashboard as amounts_to
    from grading.dashboard.page import is_ours, page

    file = file.resolve()
    if not file.parent.is_dir():
        raise show.Refused(f"The folder {file.parent} does not exist; make it first.")
    if file.exists() and not (file.is_file() and is_ours(file.read_text(encoding="utf-8", errors="replace"))):
        raise show.Refused(f"{file} is there already and is no dashboard; choose another name, or move it away.")
    events = progress.load().events
    files.write_atomically(file, page(amounts_to(events, datetime.now().astimezone()), progress.notices()))
    show.say(f"Written: {show.short(file)}")


def _serve(port: int) -> None:
    from grading.dashboard.server import serve

    try:
        with suppress(KeyboardInterrupt):
            serve(port, _ready)
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        why = "taken by another program" if error.errno == errno.EADDRINUSE else "not open to you"
        raise show.Refused(f"Port {port} is {why}: choose another `--port`, or leave it out.") from None


def _ready(address: str) -> None:
    show.say(f"Your dashboard: {address}")
    show.say("It follows your record. Ctrl-C here ends it.")
    if launch.browser():
        webbrowser.open(address)
