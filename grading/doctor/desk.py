"""Can the learner work: workspace, record, notebooks and data sets."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grading import progress, units
from grading.checkers import checkers
from grading.doctor.finding import Finding, ok, problem, warning
from grading.files import reason
from grading.units import Unit

SYNCED = ("OneDrive", "Dropbox", "Google Drive", "Mobile Documents")
"""Parts of paths that a service copies away while notebooks are being written."""
ELSEWHERE = "Move the clone to a folder of your own on this machine's disk, or name another place in SOLO_HOME."


def folders() -> Iterator[Finding]:
    """The learner's root, workspace and record can be written."""
    workspace = units.home() / "workspace"
    places = (units.home(), workspace if workspace.exists() else units.home(), progress.path().resolve().parent)
    refused = [says for place in dict.fromkeys(places) if (says := _unwritable(place))]
    for says in refused:
        yield problem("workspace", says, ELSEWHERE)
    if not refused:
        yield ok("workspace", f"{workspace} can be written.")


def _unwritable(place: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{place} cannot be written ({reason(error)})."


def record() -> Iterator[Finding]:
    """The record can be read."""
    try:
        events = progress.load().events
    except progress.ProgressError as error:
        yield problem("record", str(error))
        return
    for notice in progress.notices():
        yield warning("record", notice)
    yield ok("record", f"{progress.path()} holds {len(events)} events.")


def place() -> Iterator[Finding]:
    """The learner's root is not in a folder that something else writes to, or that is far away."""
    home = units.home()
    service = next((part for part in home.parts if part.startswith(SYNCED)), None)
    if service:
        says = f"{home} is kept in step by {service}, which may lock or double notebooks while you write them."
        yield warning("place", says, ELSEWHERE)
    elif str(home).startswith(r"\\"):
        yield warning("place", f"{home} is on another machine: notebooks and locks may fail there.", ELSEWHERE)
    else:
        yield ok("place", f"{home}, which only you write to.")


def notebooks() -> Iterator[Finding]:
    """Every unit has its notebook, and a lab's has the exercises that its checkers know."""
    wrong = [unit.id for unit in units.all_units() if not _fits(unit)]
    if wrong:
        cure = "`git status` shows what has changed in the clone; authors run `make notebooks`."
        yield problem("notebooks", f"Missing, or without an exercise that is checked: {', '.join(wrong)}.", cure)
    else:
        yield ok(
            "notebooks", f"{len(units.all_units())} units, each with its notebook and the exercises that are checked."
        )


def _fits(unit: Unit) -> bool:
    try:  # plain JSON: nbformat would validate each notebook, for seconds
        cells = json.loads(unit.notebook.read_text(encoding="utf-8"))["cells"]
        present = {cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in cells}
    except (OSError, ValueError, KeyError):
        return False
    expected = {f"check-{checker.name}" for checker in checkers(unit)} if unit.kind == "lab" else set()
    return expected <= present


def data() -> Iterator[Finding]:
    """The cache of data sets can be written, and what it holds."""
    from labkit.catalog import DATA_SETS
    from labkit.store import cache

    existing = next(folder for folder in (cache(), *cache().parents) if folder.exists())
    if says := _unwritable(existing):
        yield warning("data", says, "Name another folder for data sets in SOLO_DATA.")
        return
    here = sum(data_set.here for data_set in DATA_SETS.values())
    yield ok("data", f"{here} of {len(DATA_SETS)} data sets are in {cache()}; a lab fetches what it needs.")
