"""`solo doctor`: what can stop a learner, and its cure."""

import json
import platform
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from grading.cli import show

MARKS = {"ok": ("✓", "green"), "warning": ("!", "magenta"), "problem": ("✗", "red")}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="For a bug report.")] = False) -> None:
    """Look for what could stop you: versions, GPU, kernel, disk, record. Exit code 1 if something does."""
    from grading.doctor import State, examine

    with show.console.status("looking around, and loading torch"):
        found = examine()
    problems = sum(finding.state is State.PROBLEM for finding in found)
    if as_json:
        report = {"platform": platform.platform(), "findings": [finding.model_dump() for finding in found]}
        typer.echo(json.dumps(report, indent=2))
        raise typer.Exit(1 if problems else 0)
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in found:
        mark, style = MARKS[finding.state]
        table.add_row(Text(mark, style), finding.about, Text(finding.says))
        if finding.cure:
            table.add_row("", "", Text(f"→ {finding.cure}", "bold"))
    show.console.print(table)
    show.say("Something stands in your way; → says what helps." if problems else "Nothing stops you.", style="bold")
    raise typer.Exit(1 if problems else 0)
