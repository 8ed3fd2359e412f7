"""`grading`: what authors and instructors type. Build the notebooks, release a lab to a class, take its grades."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from grading import units

if TYPE_CHECKING:
    from grading.mutation import Score

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(metavar="[UNIT]…", help="Units; all without one.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail and name what is out of date.")] = False,
) -> None:
    """Build notebooks from their sources, and project starters from their solutions."""
    from grading import build as notebooks
    from grading import scaffold
    from grading.answers import AnswersError
    from grading.checkers import CheckerError
    from grading.source import SourceError

    steps = [(notebooks, units.find(name)) for name in names or [u.id for u in units.all_units()]]
    if not names:
        steps += [(scaffold, project) for project in scaffold.projects()]
    changed, refused = [], False
    for module, what in steps:
        try:
            changed += module.stale(what) if check else module.build(what)
        except (SourceError, CheckerError, AnswersError) as error:
            console.print(str(error), style="red", markup=False)
            refused = True
    for path in changed:
        console.print(f"{'out of date' if check else 'written'}: {_short(path)}")
    if check and changed:
        console.print("`grading build` (or `make notebooks`) brings them up to date.")
    if refused or (check and changed):
        raise typer.Exit(1)
    if not changed:
        console.print("Everything is up to date.")


@app.command()
def prove(name: Annotated[str, typer.Argument(metavar="UNIT")]) -> None:
    """Try every known and every lazy answer on a lab's checkers; fail if one is not treated as it should be."""
    from collections import Counter

    from grading.proof import prove as trials_of

    trials = trials_of(units.find(name))
    for kind, count in Counter(trial.kind for trial in trials).items():
        console.print(f"{count} trials of {kind} answers")
    faults = [trial.fault for trial in trials if trial.fault]
    for fault in faults:
        console.print(fault, style="red", markup=False)
    console.print("The checkers treat every one as they should." if not faults else f"{len(faults)} faults.")
    raise typer.Exit(1 if faults else 0)


@app.command()
def mutate(
    names: Annotated[list[str] | None, typer.Argument(metavar="[UNIT]…", help="Labs; all without one.")] = None,
    exercise: Annotated[str | None, typer.Option(help="Only this exercise.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of the checks.")] = 0,
) -> None:
    """Change a lab's solutions, one small thing at a time; fail if its checkers overlook too many of the mutants."""
    tried = [units.find(name) for name in names] if names else units.labs()
    scores = [_score(unit, exercise, seed) for unit in tried]
    raise typer.Exit(0 if all(score.enough for score in scores) else 1)


def _score(unit: units.Unit, exercise: str | None, seed: int) -> "Score":
    from rich.progress import Progress

    from grading import mutation

    mutants, equivalents = mutation.chosen_mutants(unit, exercise), mutation.equivalents(unit, exercise)
    with Progress(console=console) as progress:
        bar = progress.add_task(f"{unit.id}: {len(mutants)} mutants", total=len(mutants))
        fates = mutation.try_mutants(unit, mutants, seed, lambda mutant, fate: progress.advance(bar))
    score = mutation.Score(fates, equivalents)
    _show_score(score)
    return score


def _show_score(score: "Score") -> None:
    from rich.table import Table

    from grading.mutation import ENOUGH, EQUIVALENTS

    table = Table("exercise", "mutants", "killed", "by time", "equivalent", "survivors", box=None)
    for name in dict.fromkeys(mutant.exercise for mutant in score.fates):
        fates = [fate for mutant, fate in score.fates.items() if mutant.exercise == name]
        n_explained, n_survivors = (sum(m.exercise == name for m in ms) for ms in (score.explained, score.survivors))
        n_killed = len(fates) - n_explained - n_survivors
        table.add_row(name, *map(str, (len(fates), n_killed, fates.count("timed out"), n_explained, n_survivors)))
    console.print(table)
    for mutant in score.survivors:
        console.print(f"\nsurvives: {mutant.exercise}, {mutant.function}, line {mutant.line} of the cell", style="red")
        console.print(mutant.diff, markup=False)
    for entry in score.stale:
        console.print(f"\n{EQUIVALENTS} explains what is no survivor any more; remove it:", style="red")
        console.print(f"{entry.exercise}, {entry.function}\n{entry.diff.rstrip()}", markup=False)
    mortal = len(score.fates) - len(score.explained)
    killed = mortal - len(score.survivors)
    console.print(f"{killed} of {mortal} mutants killed, {score.share:.1%}; {ENOUGH:.0%} is enough.")


@app.command()
def release(
    name: Annotated[str, typer.Argument(metavar="UNIT")],
    course: Annotated[Path, typer.Option(help="The course's folder; made if it is not there.")] = Path("course"),
) -> None:
    """Put a lab into an nbgrader course: its source, and from it the version that students get."""
    from grading.release import release as release_unit

    released = release_unit(units.find(name), course)
    console.print(f"Released: {_short(released)}")
    console.print(f"Put what is handed in at {course}/submitted/STUDENT/{released.stem}/. Then, in {course}:")
    console.print(f"  nbgrader autograde {released.stem}\n  nbgrader generate_feedback {released.stem}")


@app.command()
def grades(
    course: Path,
    assignment: str,
    out: Annotated[Path, typer.Option(help="Where each student's STUDENT/progress.json goes.")],
) -> None:
    """Write the marks of an autograded assignment into one progress.json per student."""
    from grading.gradebook import write_grades

    for student, points, path in write_grades(course, assignment, out):
        console.print(f"{student}: {points:g} points, {_short(path)}")


def _short(path: Path) -> str:
    path, here = path.resolve(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def main() -> None:
    """Run the command line; what a person can mend is one sentence, not a traceback."""
    try:
        app()
    except Exception as error:
        if not type(error).__module__.startswith("grading."):
            raise
        # An exception of our own says in its message what to do.
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), style="red", markup=False)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
