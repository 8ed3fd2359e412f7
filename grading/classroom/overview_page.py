"""The overview of a class as one HTML page that needs no other, readable on light and dark screens."""

import io
from collections.abc import Iterable
from html import escape

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from grading.classroom.overview import ExerciseOverview, Overview
from labkit.plots import COLOURS, use_theme

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}: the class</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ padding: .25rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid #7977; }}
td.number, th.number {{ text-align: right; white-space: nowrap; }}
svg {{ max-width: 100%; height: auto; }}
</style>
<h1>{title}: the class</h1>
<p>{summary}</p>
<h2>Marks</h2>
{marks}
<h2>Exercises, the hardest first</h2>
{exercises}
<h2>Known mistakes, the most frequent first</h2>
{mistakes}
<h2>Time</h2>
<p>Seconds of a submission's own work: its cells and the checks of its functions.</p>
{time}
<h2>Submissions that are alike</h2>
<p>Pairs that share at least 60 % of what the smaller one wrote and hardly anybody else did, names and comments aside.
It is a reason to look, and no proof.</p>
{pairs}
<h2>For a person to look at</h2>
{flagged}
</html>
"""


def page(seen: Overview) -> str:
    """The whole page."""
    use_theme()
    points = [entry.report.points for entry in seen.marked]
    most = seen.marked[0].report.max_points if seen.marked else 0
    middle = sorted(points)[len(points) // 2] if points else 0
    return PAGE.format(
        title=escape(seen.title),
        summary=f"{len(seen.entries)} submissions, {len(points)} with marks; their median is {middle:g} of {most:g}.",
        marks=_histogram(points, f"points of {most:g}"),
        exercises=_exercises(sorted(seen.exercises, key=lambda e: e.share)),
        mistakes=_mistakes(seen.exercises),
        time=_histogram([entry.work_s for entry in seen.entries if entry.report], "seconds"),
        pairs=_table(["", "", "shared"], [(p.one, p.other, f"{p.share:.0%}") for p in seen.pairs]),
        flagged=_flagged(seen),
    )


def _exercises(exercises: Iterable[ExerciseOverview]) -> str:
    rows = [
        (f"{e.title} ({e.name})", f"{e.share:.0%}", f"{e.n_passed}", f"{e.n_attempted}",
         "; ".join(f"{text} ({n})" for text, n in e.requirements[:3]))
        for e in exercises
    ]  # fmt: skip
    return _table(["exercise", "points earned", "passed", "tried", "most often missed"], rows)


def _mistakes(exercises: Iterable[ExerciseOverview]) -> str:
    found = [(message, e.name, n) for e in exercises for message, n in e.mistakes]
    return _table(["mistake", "exercise", "students"], sorted(found, key=lambda row: -row[2]))


def _flagged(seen: Overview) -> str:
    rows = [(e.student, text) for e in seen.entries for text in ([e.reason] if e.reason else []) + list(e.flags)]
    return _table(["student", "why"], rows)


def _table(head: list[str], rows: list[tuple]) -> str:
    if not rows:
        return "<p>None.</p>"

    def line(cells: Iterable, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _histogram(values: list[float], label: str) -> str:
    if not values:
        return "<p>None.</p>"
    figure, axes = plt.subplots(figsize=(8, 2.6))
    axes.hist(values, bins=min(20, max(5, len(set(values)))), color=COLOURS[0])
    axes.set(xlabel=label, ylabel="students")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight")
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
