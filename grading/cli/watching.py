"""`solo watch`: a terminal beside the notebook that answers every save, with the quest log below."""

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from rich.markup import escape

from grading.cli import results, show
from grading.cli.learning import find_lab, own_copy
from grading.cli.questlog import QuestLog, live
from grading.cli.record import UnitName
from grading.report import Report

if TYPE_CHECKING:
    from grading.watch import Look, Watched


def watch(unit: UnitName) -> None:
    """Check your notebook afresh on every save, what you edited first, and show what is new. Ctrl-C ends it."""
    wanted = find_lab(unit)
    if wanted.kind != "lab":
        raise show.Refused(f"{wanted.id} is not a lab: its notebook says when and how it is checked.")
    path = own_copy(wanted)
    show.say(f"Watching {show.short(path)}: every save is checked, without demonstrations. Ctrl-C ends this.")
    log = QuestLog(wanted)
    with suppress(KeyboardInterrupt), live(log):
        from grading.watch import Watched, looks

        watched = Watched(wanted, path)
        for look in looks(path):
            if look.trouble:
                show.say(look.trouble, style="red")
            elif watched.unchanged(look):
                show.say(f"{_saved(look)}: the code is the same.")
            else:
                _answer(watched, look, log)


def _answer(watched: "Watched", look: "Look", log: QuestLog) -> None:
    """Check one save; tell and record what is new as soon as it is known."""
    from grading.watch import NotebookError, Superseded

    edited = " and ".join(f"`{name}`" for name in watched.edited(look))
    show.say(f"{_saved(look)}: checking {f'{edited} first, then the rest' if edited else 'everything'}.")
    try:
        with show.console.status("starting a fresh process") as spinner:
            report = watched.check(look, lambda news: _tell(news, log), lambda step: spinner.update(escape(step)))
    except Superseded:
        show.say("Saved again meanwhile: starting over.")
    except NotebookError as error:
        show.say(str(error), style="red")
    else:
        results.summary(report)


def _saved(look: "Look") -> str:
    return f"Saved at {datetime.fromtimestamp(look.saved_at):%H:%M:%S}"


def _tell(report: Report, log: QuestLog) -> None:
    for result in report.exercises:
        results.exercise(report.unit, result)
    results.keep(report)
    log.take(report)
