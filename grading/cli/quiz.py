"""`solo quiz`: begin a sitting, in a notebook or here in the terminal."""

import os
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.markdown import Markdown

from grading import progress, units
from grading import status as status_of
from grading.cli import launch, show
from grading.units import Unit


def quiz(
    phase: Annotated[str, typer.Argument(metavar="PHASE", help="phase1, phase2 …")] = "phase1",
    terminal: Annotated[bool, typer.Option("--terminal", help="Take it here, with your $EDITOR for the code.")] = False,
    lab: Annotated[bool, typer.Option("--lab/--no-lab", help="Open JupyterLab, or only prepare.")] = True,
) -> None:
    """Sit a phase's quiz: ten questions, a challenge and a code review; a retake draws others."""
    from grading.quizzes import paper, sitting

    begun = sitting.begin(_quiz_of(phase))
    file = paper.ensure(begun)
    if terminal:
        _take(begun)
        return
    show.say(f"Your sitting: {show.short(file)}. Its last cell hands it in.")
    if lab:
        launch.jupyterlab(file)


def _quiz_of(phase: str) -> Unit:
    wanted = phase if phase.endswith("quiz") else f"{phase.strip('/')}/quiz"
    return units.find(wanted)


def _take(begun: "sitting.Paper") -> None:  # noqa: F821 - imported where it is used
    """Ask everything, let an editor open for the code, and hand in by a fresh run of the filled-in paper."""
    import nbformat

    from grading.files import write_atomically
    from grading.fresh import run_fresh
    from grading.quizzes import bank, desk, paper, sitting
    from grading.report import ExerciseReport

    answers: dict[str, object] = {}
    for i, question in enumerate(begun.questions, 1):
        show.console.print(Markdown(f"### Question {i}\n\n{question.text}"))
        answers[f"q{i}"] = typer.prompt(f"Question {i}, {question.asks_for}", default="", show_default=False)
    challenge, review = begun.sitting.challenge, begun.sitting.review
    faulty = bank.snippet(begun.unit, begun.review)
    show.console.print(Markdown(f"### Challenge\n\n{paper.task(begun.unit, challenge)}"))
    code = {challenge: _edited(paper.stub(begun.unit, challenge))}
    task = f"### Code review\n\n{paper.task(begun.unit, review)}\n\n```text\n{paper.numbered(faulty)}\n```"
    show.console.print(Markdown(task))
    answers["faulty_line"] = typer.prompt("The faulty line, its number", default="", show_default=False)
    code[review] = _edited(faulty)
    file = paper.path(begun)
    write_atomically(file, nbformat.writes(paper.notebook(begun, answers, code)) + "\n")

    def check(exercise: str) -> ExerciseReport:
        return run_fresh(begun.unit, file, exercise)[exercise]

    with show.console.status("running your code afresh"):
        marks, first = sitting.hand_in(begun, answers, check)
    show.say(repr(desk.Shown(marks, first)))
    show.quest(status_of.derive(progress.load().events))


def _edited(code: str) -> str:
    """`code` after the learner's editor; Enter first, so that the task can be read."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")
    typer.prompt(f"Enter opens {editor}", default="", show_default=False)
    with TemporaryDirectory() as folder:
        file = Path(folder, "answer.py")
        file.write_text(code, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError):
            raise show.Refused(f"{editor} cannot be used: set $EDITOR, or take the quiz in the notebook.") from None
        return file.read_text(encoding="utf-8")
