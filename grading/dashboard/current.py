"""The dashboard of the record as it is now, and how to tell that there is something new."""

from datetime import date, datetime
from pathlib import Path

from grading import progress, units
from grading.dashboard.data import Dashboard, dashboard
from grading.dashboard.page import page, panel


def version() -> str:
    """Changes when the page would: with the record, what was set aside, and the day."""
    try:
        found = progress.path().stat()
        stamp = f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}-{len(progress.notices())}"
    except (OSError, progress.ProgressError):
        stamp = "none"
    return f"{date.today()}-{stamp}"


def shown() -> Dashboard:
    """What the record amounts to now, with days as they are here; `ProgressError` where it cannot be read."""
    return dashboard(progress.load().events, datetime.now().astimezone())


def current_page(live: str) -> str:
    """The page now; where the record cannot be read, the sentence that says so. `live`: where `version` is told."""
    before = version()  # whatever is recorded from here on is told as new
    try:
        return page(shown(), progress.notices(), live, before)
    except progress.ProgressError as error:
        return page(None, (str(error),), live, before)


def current_panel(notebook: Path | None) -> str:
    """What to show beside `notebook` now: its unit's exercises, else those of the next quest's unit."""
    try:
        found = shown()
    except progress.ProgressError as error:
        return panel(None, None, (str(error),))
    return panel(found, _unit_id(notebook) or (found.quest.unit if found.quest else None), progress.notices())


def _unit_id(notebook: Path | None) -> str | None:
    return next((unit.id for unit in units.all_units() if notebook == unit.workspace_notebook), None)
