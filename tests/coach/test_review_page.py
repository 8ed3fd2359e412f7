"""The review as a page: in a terminal, in a notebook, after a check; the same words everywhere."""

import re
import shutil
from html.parser import HTMLParser

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console

from grading import notebook, progress, status, units
from grading.coach import page
from grading.coach.compose import keep
from grading.coach.review import ArchitectureNote, Finding, Review, SpeedNote, Step
from grading.events import Note, Reviewed

EVIL = "<script>alert(1)</script> [bold]`odd"
FULL = Review(
    unit="phase1/lab1", points=7, max_points=10,
    findings=(
        Finding(
            rule="data-attribute", exercise="first", line=2, code=f"x.data  # {EVIL}", why="It hides a change.",
            better="x.detach()", brief="phase1/theory1",
        ),
        Finding(rule="bare-except", exercise=None, line=1, code="except:", why="It hides all.", better="except E:"),
    ),
    speed=(
        SpeedNote(exercise="first", ratio=3.2, memory_ratio=None, exponent=1, reference_exponent=1, text="Slow: mul."),
        SpeedNote(exercise="second", ratio=1.0, memory_ratio=1, exponent=1, reference_exponent=1, text="As fast."),
    ),
    architecture=(
        ArchitectureNote(exercise="second", facts={"parameters": "10", "FLOPs": "20"}, remarks=("An idle bias.",)),
    ),
    challenges=(Step(kind="try", unit="phase1/lab1", exercise="extra", title="A side quest", why="It is there."),),
    steps=(
        Step(kind="again", unit="phase1/lab1", exercise="first", title="The first", why="You solved it long ago."),
        Step(kind="skip", unit="phase1/theory1", title="On alpha", why="You know it."),
    ),
    omitted={"measured": "This part is missing, because it failed."},
)  # fmt: skip
BETTER = FULL.model_copy(update={"points": 9, "findings": FULL.findings[1:]})


@pytest.fixture
def stand_ins(monkeypatch):
    """The parts that measure, replaced: here it matters what is told, not what is measured."""
    from grading.coach import compose

    made = {"code": FULL.findings, "measured": (FULL.speed, FULL.architecture, ())}
    real = compose._make
    monkeypatch.setattr(compose, "_make", lambda part, *rest: made[part] if part in made else real(part, *rest))


class Words(HTMLParser):
    """What is read, and the headings."""

    def __init__(self, html):
        super().__init__()
        self.data, self.tags = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.data.append(data)


def squeezed(text):
    return re.sub(r"[\s`]+", "", text)


def test_the_terminal_and_the_notebook_say_the_same_words(curriculum):
    changes = page.compare(FULL, BETTER)
    notes = (Note(unit="phase1/lab1", text="strides", improve=True),)
    shown = page.sections(BETTER, changes, notes)
    words = Words(page.html(page.headline(BETTER), shown))
    assert squeezed("".join(words.data)) == squeezed(page.plain(page.headline(BETTER), shown))
    assert [t for t in words.tags if t in {"h3", "h4"}] == ["h3"] + ["h4"] * len(shown)


def test_every_part_has_its_section_and_what_is_missing_is_said(curriculum):
    text = page.plain(page.headline(FULL), page.sections(FULL))
    assert text.startswith("Review of phase1/lab1 · 7 of 10 points · ")
    for told in (
        "data-attribute in `first`, line 2: It hides a change.", "Better: x.detach()",
        "`solo open phase1/theory1` explains it.", "bare-except in a cell of your own, line 1",
        "✗ `first`: Slow: mul.", "✓ `second`: As fast.", "parameters: 10 · FLOPs: 20", "An idle bias.",
        "This part is missing", "Try: A side quest. It is there.", "`solo open phase1/lab1`, exercise `extra`",
        "Once more: The first. You solved it long ago.", "`solo review --again phase1/lab1 first`",
        "You may skip: On alpha. You know it.",
    ):  # fmt: skip
        assert told in text
    assert "Since the last time" not in text
    assert "Your notes" not in text


def test_good_code_is_told_so_only_where_it_was_read(curriculum):
    clean = FULL.model_copy(update={"findings": ()})
    assert "Nothing to remark" in page.plain("", page.sections(clean))
    unread = clean.model_copy(update={"omitted": {"code": "This part is missing."}})
    assert "Nothing to remark" not in page.plain("", page.sections(unread))


def test_the_learners_text_is_text_in_html_and_in_a_terminal(curriculum):
    html = page.html("Review", page.sections(FULL))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert EVIL in page.plain("", page.sections(FULL))


def test_a_narrow_terminal_loses_nothing(curriculum):
    console = Console(width=40, color_system=None, record=True, file=__import__("io").StringIO())
    console.print(page.terminal("Review", page.sections(FULL)))
    text = console.export_text()
    assert all(len(line) <= 40 for line in text.splitlines())
    assert "x.detach()" in text


def test_iterate_says_what_is_gone_new_and_faster(curriculum):
    slow = FULL.speed[0].model_copy(update={"ratio": 1.1})
    now = BETTER.model_copy(update={"speed": (slow,)})
    text = page.plain("", page.sections(now, page.compare(FULL, now)))
    assert "✓ 2 points more" in text
    assert "✓ Gone: data-attribute in `first`, line 2" in text
    assert "✓ `first` is faster: 1.1 times the reference's time, 3.2 times before" in text
    assert "✗ New: data-attribute" in page.plain("", page.sections(FULL, page.compare(now, FULL)))
    assert "Nothing has changed" in page.plain("", page.sections(FULL, page.compare(FULL, FULL)))


def test_the_short_form_is_short(curriculum):
    many = FULL.model_copy(update={"findings": FULL.findings * 5})
    text = page.plain("", page.brief(many))
    assert text.count("✗ ") == page.SHOWN + 1
    assert "and 7 more" in text
    assert "As fast" not in text, "what is well needs no line"
    assert "parameters" not in text


def test_review_shows_the_newest_of_a_unit(solo, curriculum):
    keep(FULL)
    keep(BETTER)
    progress.append(Note(unit="phase1/lab1", text="strides", improve=True), Note(unit="phase1/lab2", text="other"))
    for arguments in (("review", "lab1"), ("review",)):
        code, out, err = solo(*arguments)
        assert (code, err) == (0, "")
        assert "9 of 10 points" in out
        assert "Gone: data-attribute" in out
        assert "to improve: strides" in out
        assert "other" not in out


def test_without_a_review_solo_says_how_to_get_one(solo, curriculum):
    for arguments in (("review",), ("review", "lab1")):
        code, _, err = solo(*arguments)
        assert code == 2
        assert "`solo check" in err
    assert solo("review", "lab7")[0] == 2


def test_a_whole_check_is_reviewed_kept_and_told_in_short(solo, tiny, stand_ins):
    code, out, _ = solo("check", "lab9")
    assert code == 0
    assert "Better:" not in out, "the short form"
    assert "data-attribute in `first`, line 2" in out
    assert out.index("exercises passed in") < out.index("Next steps") < out.index("`solo review phase1/lab9`")
    assert out.rstrip().splitlines()[-1].startswith("Next quest")
    (kept,) = [e for e in progress.load().events if isinstance(e, Reviewed)]
    assert kept.review.points == 4
    assert "\x1b" not in out
    assert "Nothing has changed" in solo("check", "lab9")[1]
    assert "Better: x.detach()" in solo("review", "lab9")[1]


@pytest.mark.parametrize("arguments", [("--no-review",), ("--exercise", "softmax")])
def test_no_review_unless_the_whole_unit_ran_and_it_is_wanted(solo, tiny, stand_ins, arguments):
    assert "solo review" not in solo("check", "lab9", *arguments)[1]
    assert not any(isinstance(e, Reviewed) for e in progress.load().events)


def test_no_review_of_what_does_not_count_or_was_not_begun(solo, tiny, stand_ins):
    assert "solo review" not in solo("check", str(tiny.solution))[1]
    shutil.copy(tiny.notebook, tiny.workspace_notebook)
    assert "solo review" not in solo("check", "lab9")[1]
    assert progress.load().events == ()


def test_the_notebook_shows_the_review_of_its_unit(tiny, tmp_path):
    keep(FULL.model_copy(update={"unit": "phase1/lab9"}))
    cells = ['from grading import review, unit\ncheck, hint, reveal = unit("phase1/lab9")', "review()"]
    shown = new_notebook(cells=[new_code_cell(c) for c in cells])
    NotebookClient(shown, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = shown.cells[1].outputs
    assert "<h3" in output["data"]["text/html"]
    assert "Better: x.detach()" in output["data"]["text/plain"]
    nbformat.validate(shown)


def test_in_the_notebook_a_review_that_is_not_there_is_a_sentence(curriculum, monkeypatch):
    assert "`solo check phase1/lab1` in a terminal makes one" in repr(notebook.review("lab1"))
    monkeypatch.setattr(notebook, "_bound", [])
    assert "Of which unit?" in repr(notebook.review())
    notebook.unit("lab2")
    assert "phase1/lab2" in repr(notebook.review())
    for variable in ("SOLO_FRESH", "NBGRADER_EXECUTION"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            assert notebook.review() is None


def test_a_record_with_reviews_is_read_again_and_merged(curriculum, tmp_path):
    keep(FULL)
    other = tmp_path / "other.json"
    progress.append(Reviewed(unit="phase1/lab1", review=BETTER), path=other)
    assert progress.merge(other) == 1
    assert [e.review for e in progress.load().events] == [FULL, BETTER]
    assert status.derive(progress.load().events) == status.derive([])
    assert units.find("lab1").id == "phase1/lab1"
