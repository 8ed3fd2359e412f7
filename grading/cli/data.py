"""Commands about data sets: what there is, fetching it, and where it is kept."""

from typing import Annotated

import typer
from rich.table import Table

from grading.cli import show
from labkit.catalog import DATA_SETS
from labkit.store import DataSet, cache, fetch


def list_data() -> None:
    """Every data set that is fetched, its size and licence, and whether it is here."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for data in DATA_SETS.values():
        state = "here" if data.here else f"{data.size_mb:g} MB to fetch"
        table.add_row(data.name, data.phase, state, f"{data.summary}. Licence: {data.licence}.")
    show.console.print(table)


def fetch_data(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|PHASE]…", help="Data sets or phases; all without one.")
    ] = None,
) -> None:
    """Fetch data sets now, so that later nothing needs a network."""
    for data in _wanted(names or list(DATA_SETS)):
        here = data.here
        fetch(data)
        show.say(f"{data.name} {'was here already' if here else 'is here now'}.")


def where() -> None:
    """The folder that data sets are kept in. It may be moved: name the new place in $SOLO_DATA."""
    show.say(str(cache()))


def _wanted(names: list[str]) -> list[DataSet]:
    found: dict[str, DataSet] = {}
    for name in names:
        chosen = {d.name: d for d in DATA_SETS.values() if name in {d.name, d.phase}}
        if not chosen:
            raise show.Refused(f"There is no data set or phase {name!r}. There are: {', '.join(DATA_SETS)}.")
        found |= chosen
    return list(found.values())
