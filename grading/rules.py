"""The rules a unit must keep before it becomes a notebook; each broken one is told in a sentence."""

from collections import Counter
from collections.abc import Iterator

from grading.answers import answers
from grading.checkers import checkers
from grading.projects import module_path
from grading.quizzes import bank
from grading.source import Cell, SourceError, read_source
from grading.units import Unit

PITFALLS = "<!-- pitfalls -->"
HINTS = 3


def verified_cells(unit: Unit) -> tuple[Cell, ...]:
    """The cells of `unit`'s source; `SourceError` lists every rule that the unit breaks."""
    cells = read_source(unit.source)
    if unit.checkers and not unit.checkers.exists():
        raise SourceError(f"{unit.folder.name}: there is no {unit.checkers.name}, which checks the exercises.")
    broken = [sentence for rule in RULES[unit.kind] for sentence in rule(unit, cells)]
    if broken:
        raise SourceError("\n".join(broken))
    return cells


def _names(unit: Unit, cells: tuple[Cell, ...]) -> Iterator[str]:
    """A name that a solution cell defines is the learner's: no other cell may define it."""
    ours = [c for c in cells if c.kind in {"solution", "answer"}]
    helpers = [c for c in cells if c.kind == "code" and not {"demo", "explanation"} & set(c.tags)]
    graded = {name for cell in ours for name in cell.names}
    count = Counter(name for cell in (*ours, *helpers) for name in cell.names)
    for name in sorted(graded):
        if count[name] > 1:
            yield f"{_file(unit)}: `{name}` is defined by {count[name]} cells; the name of an exercise must be unique."
    checked = Counter(c.name for c in cells if c.kind == "check")
    for name in (name for name, times in checked.items() if times > 1):
        yield f'{_file(unit)}: check("{name}") stands in {checked[name]} cells; an exercise is graded once.'


def _exercises(unit: Unit, cells: tuple[Cell, ...]) -> Iterator[str]:
    """Every exercise has a solution cell, a check cell and a checker class."""
    exercises = {
        "solution cell": [c.name for c in cells if c.kind == "solution"],
        "check cell": [c.name for c in cells if c.kind == "check"],
        f"checker class in {unit.checkers.name}": [c.name for c in checkers(unit)],
    }
    for name in dict.fromkeys(name for names in exercises.values() for name in names):
        for what, names in exercises.items():
            if name not in names:
                yield f"{_file(unit)}: the exercise `{name}` has no {what}."


def _hints(unit: Unit, cells: tuple[Cell, ...]) -> Iterator[str]:
    for checker in checkers(unit):
        if len(checker.hints) != HINTS:
            where = f"{unit.folder.name}/{unit.checkers.name}"
            yield f"{where}: {checker.class_name} has {len(checker.hints)} hints; an exercise has {HINTS}."


def _pitfalls(unit: Unit, cells: tuple[Cell, ...]) -> Iterator[str]:
    places = sum(PITFALLS in c.text for c in cells if c.kind == "prose")
    if places != 1:
        yield f"{_file(unit)}: `{PITFALLS}`, the place of the known mistakes, belongs in one cell; it is in {places}."


def _answers(unit: Unit, cells: tuple[Cell, ...]) -> Iterator[str]:
    known = {checker.name: checker.modules for checker in checkers(unit)}
    for answer in answers(unit):
        where = f"{unit.folder.name}/{unit.answers.name}"
        if answer.exercise not in known:
            yield f"{where}: {answer.name} answers `{answer.exercise}`, and there is no such exercise."
        elif answer.patch.module not in (known[answer.exercise] or (None,)):
            yield f"{where}: {answer.name} stands in module {answer.patch.module!r}, which `{answer.exercise}` has not."


def _milestones(unit: Unit, cells: tuple[Cell, ...]) -> Iterator[str]:
    """Every milestone has one check cell and modules of its own, which the solution has."""
    checked = Counter(c.name for c in cells if c.kind == "check")
    owners = Counter(module for checker in checkers(unit) for module in checker.modules)
    for name in dict.fromkeys((*checked, *(c.name for c in checkers(unit)))):
        if checked[name] != 1 or name not in {c.name for c in checkers(unit)}:
            yield f"{_file(unit)}: the milestone `{name}` needs a checker class and one check cell."
    for module, times in owners.items():
        if times > 1 or not (unit.solution / module_path(unit, module)).exists():
            yield f"{_file(unit)}: the module `{module}` must be in the solution, and belong to one milestone."
    for cell in cells:
        if cell.kind == "solution":
            yield f"{_file(unit)}, cell {cell.index}: solutions stand in the package, not in the notebook."


def _no_exercises(unit: Unit, cells: tuple[Cell, ...]) -> Iterator[str]:
    for cell in cells:
        if cell.kind not in {"prose", "code"}:
            yield f"{_file(unit)}, cell {cell.index}: a theory brief has no exercises, and this is a {cell.kind} cell."


def _bank(unit: Unit, cells: tuple[Cell, ...]) -> Iterator[str]:
    """What the bank names is there: its challenges, its reviews, and the faults in what they ship."""
    known = bank.read(unit)
    exercises = {checker.name for checker in checkers(unit)}
    for name in (*known.challenges, *(r.exercise for r in known.reviews)):
        if name not in exercises:
            yield f"quiz.yaml names `{name}`, and {unit.checkers.name} has no such exercise."
    for review in known.reviews:
        if not bank.faulty_lines(unit, review):
            yield f"quiz.yaml: no line of {review.shipped} has the fault `{review.fault}`."


def _file(unit: Unit) -> str:
    return f"{unit.folder.name}/{unit.source.name}"


RULES = {
    "lab": (_names, _exercises, _hints, _pitfalls, _answers),
    "project": (_milestones, _hints, _answers),
    "quiz": (_names, _exercises, _answers, _bank),
    "theory": (_no_exercises,),
}
