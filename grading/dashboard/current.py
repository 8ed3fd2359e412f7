"""The dashboard of the record as it is now, and how to tell that there is something new."""

from datetime import date, datetime

from grading import progress
from grading.dashboard.data import Dashboard, dashboard
from grading.dashboard.page import page


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
