"""A result as a person reads it: an HTML card in a notebook, plain text anywhere else."""

from collections.abc import Iterable, Iterator
from html import escape

from grading.report import Evidence, ExerciseReport, Outcome, Requirement
from grading.units import Unit

MARKS = {
    Outcome.PASSED: "✓",
    Outcome.FAILED: "✗",
    Outcome.RAISED: "✗",
    Outcome.WAITING: "…",
    Outcome.NOT_ATTEMPTED: "○",
}
WORDS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "not yet",
    Outcome.RAISED: "raised an error",
    Outcome.WAITING: "waiting for another exercise",
    Outcome.NOT_ATTEMPTED: "not attempted",
}

# JupyterLab's own tones, which follow its theme; elsewhere mid tones that reach 4.5:1 on white and 3:1 on near black.
# They are for marks and edges: text itself takes the theme's colour.
GREEN = "var(--jp-success-color1,#2a8540)"
RED = "var(--jp-error-color1,#d1413a)"
COLOURS = {Outcome.PASSED: GREEN, Outcome.FAILED: RED, Outcome.RAISED: RED}
GREY = "#767676"
VALUES = ("expected", "got")
VALUES_WIDTH = len("expected: ")
COLUMNS = ";font-family:monospace;white-space:pre-wrap"
HANGING = "padding-left:1.5em;text-indent:-1.5em"

HINT = 'hint("{name}")'
"""How a notebook asks for an exercise's next hint."""

CELL, MODULE = "your cell, run it", "the module, save it"
"""Where an answer is written, and what lets a check see it: in a notebook, and in a project."""


def place_in(unit: Unit | None) -> str:
    """Where the answers to `unit` are written; a cell if it is not known."""
    return MODULE if unit and unit.kind == "project" else CELL


def text(exercise: ExerciseReport, footer: str = "", hint: str | None = HINT, place: str = CELL) -> str:
    """The card in plain text: a headline, a line per requirement, evidence, cause, and what to do next.

    `hint` is how a hint is asked for where the card is read; without it nothing more is to be done, or told. `place` is
    where the answer is written, `CELL` or `MODULE`.
    """
    lines = [headline(exercise)]
    if exercise.outcome is not Outcome.NOT_ATTEMPTED:
        lines += [
            f"  {line}" for requirement in _once(exercise.requirements) for line in requirement_lines(requirement)
        ]
    lines += [f"  {line}" for line in notes(exercise, hint, place)]
    if footer:
        lines.append(f"  {footer}")
    return "\n".join(lines)


def requirement_lines(requirement: Requirement) -> list[str]:
    """One requirement in plain text, with the evidence below it."""
    evidence = [*_evidence_lines(requirement), *_values(requirement)]
    return [f"{MARKS[requirement.outcome]} {requirement.text}", *(f"    {line}" for line in evidence)]


def _once(requirements: Iterable[Requirement]) -> Iterator[Requirement]:
    """The requirements, without evidence that stands above already: one error often fails them all."""
    seen = []
    for requirement in requirements:
        evidence = requirement.evidence
        if evidence in seen:
            brief = Evidence(stage=evidence.stage, message="as above")
            yield requirement.model_copy(update={"evidence": brief})
        else:
            seen += [evidence] if evidence else []
            yield requirement


def headline(exercise: ExerciseReport) -> str:
    """One line: the exercise, what became of it, its points."""
    return f"{MARKS[exercise.outcome]} {exercise.title} — {WORDS[exercise.outcome]} · {points(exercise)}"


def points(exercise: ExerciseReport) -> str:
    """`1.5 of 2 points`, or XP for a side quest."""
    unit = "XP" if exercise.side_quest else "point" if exercise.max_points == 1 else "points"
    return f"{exercise.points:g} of {exercise.max_points:g} {unit}"


def notes(exercise: ExerciseReport, hint: str | None = HINT, place: str = CELL) -> Iterator[str]:
    """The sentences below the requirements: cause, error carried forward, next step."""
    if exercise.cause:
        yield f"Likely cause: {exercise.cause.message}"
    if exercise.carried:
        names = " and ".join(f"`{n}`" for n in exercise.carried)
        verb = "does" if len(exercise.carried) == 1 else "do"
        rest = "this one is right as it stands" if exercise.passed else "what is left here is this exercise's own"
        yield f"Checked with the reference in place of {names}, which {verb} not pass yet: {rest}."
    if hint:
        yield next_step(exercise, hint, place)


def next_step(exercise: ExerciseReport, hint: str = HINT, place: str = CELL) -> str:
    """What to do now."""
    stuck = f"Stuck? `{hint.format(name=exercise.name)}`"
    match exercise.outcome:
        case Outcome.PASSED:
            return "Next: go on to the next exercise."
        case Outcome.NOT_ATTEMPTED if undefined := _undefined(exercise):
            return f"Next: {undefined}, then check again."
        case Outcome.NOT_ATTEMPTED:
            return f"Next: write your answer in {place}, and check again. {stuck}"
        case Outcome.WAITING:
            return "Next: solve the exercise it needs, then check again."
    return f"Next: change {place}, and check again. {stuck}"


def _undefined(exercise: ExerciseReport) -> str | None:
    """What to do about a name that is not there, if that is why nothing could be judged."""
    found = (r.evidence for r in exercise.requirements if r.evidence)
    return next((evidence.message for evidence in found if evidence.stage == "undefined"), None)


def _evidence_lines(requirement: Requirement) -> Iterator[str]:
    evidence = requirement.evidence
    if evidence is None:
        return
    yield evidence.message
    if evidence.line:
        yield f"in {evidence.line}"
    if facts := [f"{label}: {value}" for label, value in evidence.facts.items() if label not in VALUES]:
        yield " · ".join(facts)


def _values(requirement: Requirement) -> list[str]:
    """What was expected above what came, in columns."""
    facts = requirement.evidence.facts if requirement.evidence else {}
    return [f"{f'{label}:':{VALUES_WIDTH}}{facts[label]}" for label in VALUES if label in facts]


def html(exercise: ExerciseReport, footer: str = "", hint: str | None = HINT, place: str = CELL) -> str:
    """The card of `text` for a notebook: inline styles only, the theme's own text colour, readable without colour."""
    colour = COLOURS.get(exercise.outcome, GREY)
    rows = "" if exercise.outcome is Outcome.NOT_ATTEMPTED else "".join(map(_row, _once(exercise.requirements)))
    remarks = "".join(map(_remark, notes(exercise, hint, place)))
    foot = f'<div style="margin-top:.35em;opacity:.75">{inline(footer)}</div>' if footer else ""
    return (
        f'<div role="group" aria-label="{escape(headline(exercise))}" style="border-left:4px solid {colour};'
        'padding:.5em .9em;margin:.3em 0;max-width:60em;line-height:1.45;overflow-wrap:anywhere">'
        f'<div style="{HANGING}">{_mark(exercise.outcome)}<b>{inline(exercise.title)}</b> '
        f"— {WORDS[exercise.outcome]} · {points(exercise)}</div>"
        f'<ul style="list-style:none;padding:0;margin:.3em 0 0">{rows}</ul>{remarks}{foot}</div>'
    )


def _mark(outcome: Outcome) -> str:
    """✓ or ✗ in a column of its own."""
    return (
        f'<b role="img" aria-label="{WORDS[outcome]}" style="display:inline-block;width:1.5em;text-indent:0;'
        f'color:{COLOURS.get(outcome, GREY)}">{MARKS[outcome]}</b>'
    )


def _row(requirement: Requirement) -> str:
    evidence = "".join(_below(inline(line)) for line in _evidence_lines(requirement))
    values = "".join(_below(escape(line), COLUMNS) for line in _values(requirement))
    words = f"{_mark(requirement.outcome)}{inline(requirement.text)}"
    return f'<li style="margin:.15em 0;{HANGING}">{words}{evidence}{values}</li>'


def _below(line: str, style: str = "") -> str:
    return f'<div style="text-indent:0;font-size:.93em{style}">{line}</div>'


def _remark(note: str) -> str:
    """A note with its label in bold; the likely cause, which is what helps most, stands out."""
    label, colon, rest = note.partition(": ")
    box = ";padding:.35em .6em;background:rgba(127,127,127,.12)" if label == "Likely cause" else ""
    words = f"<b>{label}:</b> {inline(rest)}" if colon and label in {"Likely cause", "Next"} else inline(note)
    return f'<div style="margin-top:.35em{box}">{words}</div>'


def inline(sentence: str) -> str:
    """Escape, and turn backticks into code."""
    parts = escape(sentence).split("`")
    if len(parts) % 2 == 0:
        return escape(sentence)
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
