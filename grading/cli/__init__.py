"""`solo`, the learner's command line."""

import sys
from collections.abc import Sequence

import typer

from grading.cli import care, classroom, coaching, dashboard, data, learning, quiz, record, watching
from grading.files import reason

# By name: to import them all would cost each command a second, and the learner only meets those that are loaded.
EXPECTED = {
    "Refused", "UnitNotFound", "CheckerError", "ProgressError", "WorkspaceError", "NotebookError", "SourceError",
    "DataError", "QuizError", "BankError", "ProjectError", "ReleaseError", "CourseError", "CollectError",
    "GradebookError", "NeedsError", "ZygoteError", "BundleError", "HubError",
    "OverviewError", "KnownError", "RosterError", "ClusterError",
}  # fmt: skip

app = typer.Typer(
    help="PyTorch Solo Leveling: from E-rank to S-rank.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    learning.start, record.status, record.list_units, learning.check, watching.watch, learning.hint, learning.open_unit,
    learning.reset, learning.update, coaching.review, dashboard.dashboard, quiz.quiz, record.note, record.done,
    care.doctor,
):  # fmt: skip
    app.command({"open_unit": "open", "list_units": "list"}.get(command.__name__))(command)

progress_app = typer.Typer(help="Your record, progress.json.", no_args_is_help=True)
progress_app.command()(record.merge)
app.add_typer(progress_app, name="progress")

data_app = typer.Typer(help="Data sets: list, fetch, where they are.", no_args_is_help=True)
data_app.command("list")(data.list_data)
data_app.command("fetch")(data.fetch_data)
data_app.command()(data.where)
app.add_typer(data_app, name="data")

app.add_typer(classroom.app, name="class")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `solo`. Whatever can go wrong by input or by the machine ends here as one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # an old Windows code page has no ✓
    try:
        app(args=arguments, prog_name="solo")
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f"solo: {sentence}", file=sys.stderr)
        sys.exit(2)


def _sentence(error: Exception) -> str | None:
    """What to tell the learner, None for an error that is ours."""
    if type(error).__name__ in EXPECTED:
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {reason(error)}." if error.filename else f"{error.strerror or error}."
    return None
