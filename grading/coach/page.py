"""The review as a page: the same words in a terminal (rich) and in a notebook (HTML, in the look of `grading.card`)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from grading.card import COLUMNS, GREEN, GREY, HANGING, RED, inline
from grading.coach.iterate import Changes, compare, reviews
from grading.coach.review import ArchitectureNote, Finding, Part, Review, SpeedNote, Step
from grading.events import Event, Note

COLOURS = {"✓": ("green", GREEN), "✗": ("red", RED)}
MARK = "display:inline-block;width:1.5em;text-indent:0"
SLOW = 2.0
"""So many times the reference's time is worth a mark."""
TEXT_WIDTH = 100
SHOWN = 3
"""Of each part, in the short form."""


@dataclass(frozen=True)
class Line:
    """One thing to say: a mark, a sentence, code as it is written, and what belongs below it."""

    text: str
    mark: str = "·"
    code: str = ""
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    lines: tuple[Line, ...]


def headline(review: Review) -> str:
    """`Review of phase1/lab1 · 18 of 20 points · 2026-11-23 14:05`."""
    points = f" · {review.points:g} of {review.max_points:g} points" if review.max_points else ""
    return f"Review of {review.unit}{points} · {review.at.astimezone():%Y-%m-%d %H:%M}"


def sections(review: Review, changes: Changes | None = None, notes: Sequence[Note] = ()) -> list[Section]:
    """All that the page says, in order. `notes` are the learner's own."""
    found = [
        Section("Since the last time", tuple(_changed(changes)) if changes else ()),
        _part(review, "code", "Code", [_finding(f) for f in review.findings], "Nothing to remark."),
        _part(review, "measured", "Speed and memory", [_speed(note) for note in review.speed]),
        Section("Architecture", tuple(map(_architecture, review.architecture))),
        _part(review, "challenges", "Challenges", [_step(step) for step in review.challenges]),
        _part(review, "steps", "Next steps", [_step(step) for step in review.steps]),
        Section("Your notes", tuple(map(_note, notes))),
    ]
    return [section for section in found if section.lines]


def kept(events: Iterable[Event], unit_id: str) -> tuple[str, list[Section]] | None:
    """The last review of a unit that the record keeps, as headline and sections; None where there is none."""
    events = tuple(events)
    *before, last = [None, None, *reviews(events, unit_id)]
    if last is None:
        return None
    changes = compare(before[-1], last) if before[-1] else None
    notes = [event for event in events if isinstance(event, Note) and event.unit == unit_id]
    return headline(last), sections(last, changes, notes)


def brief(review: Review, changes: Changes | None = None) -> list[Section]:
    """The first lines of what matters most, for below the results of a check."""
    kept = []
    for section in sections(review, changes):
        if section.title in {"Since the last time", "Code", "Speed and memory", "Next steps"}:
            noted = [line for line in section.lines if line.mark != "✓" or section.title == "Since the last time"]
            lines = [Line(line.text, line.mark, line.code) for line in noted[:SHOWN]]
            if len(noted) > SHOWN:
                lines.append(Line(f"and {len(noted) - SHOWN} more"))
            kept.append(Section(section.title, tuple(lines)))
    return [section for section in kept if section.lines]


def terminal(title: str, shown: Sequence[Section]) -> Group:
    """The page for a terminal of any width."""
    parts: list[Text | Padding] = [Text(title, "bold")] if title else []
    for section in shown:
        parts += [Text(), Text(section.title, "bold underline")]
        for line in section.lines:
            parts.append(Padding(_hanging(line.mark, line.text), (0, 0, 0, 2), expand=False))
            below = [*line.code.splitlines(), *line.below]
            parts += [Padding(Text(text), (0, 0, 0, 6), expand=False) for text in below]
    return Group(*parts)


def plain(title: str, shown: Sequence[Section]) -> str:
    """The page without colours, for where there is neither a terminal nor HTML."""
    console = Console(width=TEXT_WIDTH, color_system=None, file=StringIO(), force_jupyter=False)
    console.print(terminal(title, shown))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def _hanging(mark: str, text: str) -> Text:
    return Text.assemble((mark, COLOURS.get(mark, ("", ""))[0]), " ", text)


def html(title: str, shown: Sequence[Section]) -> str:
    """The page for a notebook: headings that a screen reader finds, the theme's own text colour, no script."""
    body = "".join(
        f'<h4 style="margin:.9em 0 .2em">{escape(section.title)}</h4>'
        f'<ul style="list-style:none;padding:0;margin:0">{"".join(map(_item, section.lines))}</ul>'
        for section in shown
    )
    return (
        f'<section aria-label="{escape(title)}" style="border-left:4px solid {GREY};padding:.5em .9em;margin:.3em 0;'
        f'max-width:60em;line-height:1.45;overflow-wrap:anywhere"><h3 style="margin:0">{inline(title)}</h3>{body}'
        "</section>"
    )


def _item(line: Line) -> str:
    colour = COLOURS.get(line.mark, ("", GREY))[1]
    mark = f'<b aria-hidden="true" style="{MARK};color:{colour}">{line.mark}</b>'
    code = f'<div style="text-indent:0{COLUMNS}">{escape(line.code)}</div>' if line.code else ""
    below = "".join(f'<div style="text-indent:0;font-size:.93em">{inline(text)}</div>' for text in line.below)
    return f'<li style="margin:.15em 0;{HANGING}">{mark}{inline(line.text)}{code}{below}</li>'


def _part(review: Review, part: Part, title: str, lines: list[Line], none: str = "") -> Section:
    """A part's section, with the sentence about what is missing of it."""
    if part in review.omitted:
        lines = [*lines, Line(review.omitted[part], "!")]
    elif not lines and none:
        lines = [Line(none, "✓")]
    return Section(title, tuple(lines))


def _changed(changes: Changes) -> Iterator[Line]:
    if changes.points:
        more = "more" if changes.points > 0 else "fewer"
        unit = "point" if abs(changes.points) == 1 else "points"
        yield Line(f"{abs(changes.points):g} {unit} {more}", "✓" if changes.points > 0 else "✗")
    for finding in changes.gone:
        yield Line(f"Gone: {_place(finding)}", "✓", finding.code)
    for finding in changes.new:
        yield Line(f"New: {_place(finding)}", "✗", finding.code)
    for name, (before, now) in changes.speed.items():
        verb = "faster" if now < before else "slower"
        text = f"`{name}` is {verb}: {now:.2g} times the reference's time, {before:.2g} times before"
        yield Line(text, "✓" if now < before else "✗")
    if not (changes.points or changes.gone or changes.new or changes.speed):
        yield Line("Nothing has changed.")


def _place(finding: Finding) -> str:
    where = f"`{finding.exercise}`" if finding.exercise else "a cell of your own"
    return f"{finding.rule} in {where}, line {finding.line}"


def _finding(finding: Finding) -> Line:
    more = (f"`solo open {finding.brief}` explains it.",) if finding.brief else ()
    return Line(f"{_place(finding)}: {finding.why}", "✗", finding.code, (f"Better: {finding.better}", *more))


def _speed(note: SpeedNote) -> Line:
    return Line(f"`{note.exercise}`: {note.text}", "✗" if note.ratio >= SLOW else "✓")


def _architecture(note: ArchitectureNote) -> Line:
    facts = " · ".join(f"{label}: {value}" for label, value in note.facts.items())
    return Line(f"`{note.exercise}`: {facts}", below=note.remarks)


def _step(step: Step) -> Line:
    return Line(f"{LEADS[step.kind]} {step.title}. {step.why}", "→", below=tuple(filter(None, [how(step)])))


LEADS = {
    "again": "Once more:",
    "read": "Read:",
    "review": "Be asked:",
    "quiz": "Sit the quiz:",
    "try": "Try:",
    "skip": "You may skip:",
}
"""How a step is announced."""


def how(step: Step) -> str:
    """The command that does it; empty for what is to be left out."""
    match step.kind:
        case "again":
            return f"`solo review --again {step.unit} {step.exercise}`"
        case "review" | "quiz":
            return f"`solo quiz {step.unit.split('/')[0]}`"
        case "read" | "try":
            return f"`solo open {step.unit}`" + (f", exercise `{step.exercise}`" if step.exercise else "")
    return ""


def _note(note: Note) -> Line:
    kind = "to improve" if note.improve else "learnt"
    return Line(f"{note.at.astimezone():%Y-%m-%d}, {kind}: {note.text}")
