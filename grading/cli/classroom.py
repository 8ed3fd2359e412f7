"""`solo class`: what an instructor types, from the release of a lab to the marks in a learning platform."""

import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from grading import units
from grading.cli import show

if TYPE_CHECKING:
    from grading.classroom.cluster import Cluster
    from grading.classroom.engine import Engine
    from grading.classroom.grade import Change, Classroom, Graded, Plan
    from grading.classroom.ledger import Entry

app = typer.Typer(
    help="A class: bundle, release, roster, collect, grade, feedback, report, export.", no_args_is_help=True
)

Assignment = Annotated[str, typer.Argument(metavar="UNIT", help="A lab, project or quiz, as in `solo list`.")]
Course = Annotated[Path, typer.Option(help="The course's folder.")]
HERE = Path("course")


@app.command()
def bundle(to: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Write the learners' edition of this repository: no solutions, alternatives or keys."""
    from grading.classroom.bundle import bundle as write_edition

    show.say(f"{len(write_edition(to))} files are in {show.short(to.resolve())}: what learners need, and no solutions.")


@app.command()
def release(unit: Assignment, course: Course = HERE) -> None:
    """Put a unit into the course, and make the version that students get; of a quiz, a paper for the class."""
    from grading.release import release as release_unit

    show.say(f"Released: {show.short(release_unit(units.find(unit), course))}")


@app.command()
def roster(table: Annotated[Path, typer.Argument(help="A CSV file.")], course: Course = HERE) -> None:
    """Take in who is in the class, from the table of participants of Moodle, Canvas or your own."""
    from grading.classroom.books import Books
    from grading.classroom.roster import take_in

    show.say(f"{len(take_in(Books(course), table))} students are in the gradebook's list.")


@app.command()
def collect(
    unit: Assignment,
    source: Annotated[
        Path | None, typer.Argument(help="A folder or zip of submissions; nbgrader's exchange without it.")
    ] = None,
    course: Course = HERE,
) -> None:
    """Take in what was handed in: from a folder or a zip, Moodle's and Canvas's too, or from nbgrader's exchange."""
    from grading.classroom.books import Books
    from grading.classroom.collect import collect as collect_from
    from grading.release import nbgrader

    assignment = units.find(unit).assignment
    if source is None:
        run = nbgrader("collect", assignment, "--update", course=course)
        if run.returncode:
            raise show.Refused(f"nbgrader cannot collect {assignment}: {run.stderr.strip().splitlines()[-1]}")
        show.say(f"Collected {assignment} from the exchange.")
        return
    collected = list(collect_from(Books(course), assignment, source))
    for one in collected:
        if one.state not in {"new", "same"}:
            show.say(f"{one.student}: {one.state}")
    counts = Counter(one.state.split(":")[0] for one in collected)
    show.say(", ".join(f"{n} {state}" for state, n in counts.items()) or f"There is nothing in {source}.")


@app.command()
def grade(
    unit: Assignment,
    course: Course = HERE,
    workers: Annotated[int | None, typer.Option(min=1, help="Submissions at a time; all cores without it.")] = None,
    students: Annotated[list[str] | None, typer.Option("--student", help="Only this one; may be repeated.")] = None,
    regrade: Annotated[
        bool, typer.Option("--regrade", help="All again, and show what would change before it is written.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write what a regrading changes.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Grade on the workers of this Dask scheduler, as tcp://host:8786.")
    ] = None,
    require_sandbox: Annotated[
        bool, typer.Option("--require-sandbox", help="Refuse to run where a layer of isolation is missing.")
    ] = False,
) -> None:
    """Grade what is new or has changed; nothing that a submission does stops the others."""
    bound = units.find(unit)
    with ExitStack() as stack:
        here = None if scheduler else stack.enter_context(_Here(bound))
        from grading.classroom.grade import Classroom  # nbgrader takes seconds to import; so does what `here` starts

        room = Classroom(course, bound)
        plan = room.plan(again=regrade, only=students or ())
        _announce(plan)
        if plan.todo:
            ours = here.engine(room, require_sandbox) if here else _elsewhere(room, scheduler, require_sandbox)
            engine = stack.enter_context(ours)
            _grade(room, plan, engine, min(workers or engine.width, len(plan.todo)), regrade, yes)


def _announce(plan: "Plan") -> None:
    same = f"; {len(plan.done)} are graded and unchanged" if plan.done else ""
    show.say(f"{len(plan.todo)} submissions to grade{same}.")
    if plan.outdated:
        show.say(f"{len(plan.outdated)} of those were graded by other checkers than today's: --regrade shows changes.")


class _Here:
    """This machine, getting ready to grade."""

    def __init__(self, unit: units.Unit) -> None:
        from grading.classroom import sandbox
        from grading.classroom.engine import children

        self._missing = sandbox.layers()
        self._layers = frozenset(sandbox.Layer) - self._missing.keys()
        self._start = children(unit, self._layers)

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *_: object) -> None:
        self._start.close()

    def engine(self, room: "Classroom", required: bool) -> "Engine":
        """What grades; the layers of isolation that this machine has not are named before anything runs."""
        _tell_missing({"here": self._missing}, required)
        return room.engine(self._layers, start=self._start)


def _elsewhere(room: "Classroom", scheduler: str, required: bool) -> "Cluster":
    """What grades on other machines; the layers that one of them has not are named before anything runs."""
    cluster = room.cluster(scheduler)
    try:
        _tell_missing({f"on {host}": missing for host, missing in cluster.missing.items()}, required)
    except show.Refused:
        cluster.close()
        raise
    show.say(f"{len(cluster.places)} workers.")
    return cluster


def _tell_missing(missing: dict[str, dict], required: bool) -> None:
    for place, layers in missing.items():
        for layer, why in layers.items():
            show.say(f"Not {place}: {layer} ({why}).", style="magenta")
    if required and any(missing.values()):
        raise show.Refused("Nothing was run: --require-sandbox asks for every layer.")


def _grade(room: "Classroom", plan: "Plan", engine: "Engine | Cluster", workers: int, regrade: bool, yes: bool) -> None:
    start, tally, held = time.perf_counter(), _Tally(), []
    with tempfile.TemporaryDirectory(prefix="solo-class-") as scratch, _bar() as bar:
        if why := room.rehearse(engine, Path(tempfile.mkdtemp(dir=scratch))):
            raise show.Refused(f"Nobody was graded, for here the solution itself gets {why}.")
        task = bar.add_task(room.assignment, total=len(plan.todo))
        for graded in room.run(engine, plan.todo, workers, Path(scratch)):
            if regrade:
                held.append(graded)
            else:
                entry = room.write(graded)
                _tell(bar, entry)
                tally.count(entry)
            bar.advance(task)
        if regrade:
            for entry in _regrade(room, held, yes):
                tally.count(entry)
    if tally.all:
        tally.tell(time.perf_counter() - start)


def _regrade(room: "Classroom", held: "list[Graded]", yes: bool) -> "list[Entry]":
    changes = room.changes(held)
    for change in sorted(changes, key=lambda c: (c.student, c.cell)):
        show.say(_change(change))
    show.say(f"{len(changes)} marks of {len({c.student for c in changes})} students change.", style="bold")
    if changes and not yes:
        show.say("Nothing is written; --yes writes it.")
        return []
    return [room.write(graded) for graded in held]


def _change(change: "Change") -> str:
    before = "none" if change.before is None else f"{change.before:g}"
    return f"{change.student}: {change.cell} {before} → {change.after:g}"


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=show.console)


def _tell(bar: Progress, entry: "Entry") -> None:
    """A line for a student whom a person should look at."""
    lines = [entry.reason] if entry.reason else []
    lines += [f"looks like tampering, marks withheld: {flag}" for flag in entry.flags]
    for line in lines:
        bar.console.print(f"{entry.student}: {line}", markup=False, soft_wrap=True)


@dataclass
class _Tally:
    """What is said of a whole class at the end."""

    all: int = 0
    unread: int = 0
    flagged: int = 0
    mended: int = 0
    most: float = 0.0
    points: list[float] = field(default_factory=list)

    def count(self, entry: "Entry") -> None:
        """One more."""
        self.all += 1
        self.unread += bool(entry.reason)
        self.flagged += bool(entry.flags)
        self.mended += bool(entry.notes)
        if entry.report and not entry.reason:
            self.points.append(entry.report.points)
            self.most = entry.report.max_points

    def tell(self, seconds: float) -> None:
        """Say it."""
        points = sorted(self.points)
        middle = f", median {points[len(points) // 2]:g} of {self.most:g} points" if points else ""
        show.say(f"{self.all} graded in {seconds:.0f} s{middle}.", style="bold")
        for what, n in (
            ("could not be read or run", self.unread),
            ("look like tampering: their marks wait for a person", self.flagged),
            ("had cells put back or mended", self.mended),
        ):
            if n:
                show.say(f"{n} {what}.")


@app.command()
def feedback(unit: Assignment, course: Course = HERE) -> None:
    """Write each student's feedback: nbgrader's page, and a progress.json to merge."""
    from grading.classroom.books import Books
    from grading.classroom.feedback import feedback as write_feedback

    written = 0
    for student, why_not in write_feedback(Books(course), units.find(unit).assignment):
        if why_not:
            show.say(f"{student}: {why_not}", style="red")
        written += not why_not
    show.say(f"{written} students' feedback is in {show.short(course.resolve() / 'feedback')}.")


@app.command()
def report(
    unit: Assignment,
    course: Course = HERE,
    out: Annotated[Path | None, typer.Option(help="The page; UNIT-report.html in the course without it.")] = None,
) -> None:
    """Draw the class: marks, hard exercises, the mistakes it makes, time, and who is alike; a page and a CSV."""
    from grading.classroom.books import Books
    from grading.classroom.overview import overview, write_csv
    from grading.classroom.overview_page import page
    from grading.files import write_atomically

    wanted = units.find(unit)
    with show.console.status("trying the known mistakes"):
        seen = overview(Books(course), wanted)
    file = out or course / f"{wanted.assignment}-report.html"
    write_atomically(file, page(seen))
    write_csv(seen, file.with_suffix(".csv"))
    show.say(f"The class is drawn in {show.short(file.resolve())}; the numbers are in the CSV beside it.")


@app.command()
def export(
    unit: Assignment,
    to: Annotated[Path, typer.Argument(help="The CSV file to write.")],
    course: Course = HERE,
    form: Annotated[str, typer.Option("--format", help="canvas or moodle.")] = "canvas",
) -> None:
    """Write the marks as a table that Canvas or Moodle imports."""
    from grading.classroom.books import Books
    from grading.classroom.export import export as write_marks

    if form not in {"canvas", "moodle"}:
        raise show.Refused(f"There is no format {form!r}: canvas or moodle.")
    count = write_marks(Books(course), units.find(unit).assignment, to, form)
    show.say(f"The marks of {count} students are in {show.short(to)}.")
