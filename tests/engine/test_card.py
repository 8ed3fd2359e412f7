"""Cards: every fact a learner needs, in text and in HTML, and nothing of the engine's."""

import re
from html.parser import HTMLParser

import pytest

from grading import card, units
from grading.runner import run


def exercise(tiny, namespace, code):
    exec(compile(code, "<learner>", "exec"), namespace)
    return run(tiny, namespace, "softmax")["softmax"]


@pytest.fixture
def unstable(tiny, solved):
    return exercise(tiny, solved, "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)")


def test_a_failure_shows_requirements_evidence_cause_points_and_next_step(unstable):
    text = card.text(unstable)
    assert text.startswith("✗ Numerically stable softmax — not yet · 1 of 2 points")
    assert "✓ equals the float64 value on any shape and dim" in text
    assert "✗ stays finite for logits of a thousand" in text
    assert "24 of 24 values are NaN" in text
    assert "Likely cause: You exponentiate raw logits" in text
    assert 'hint("softmax")' in text
    assert "Traceback" not in text
    assert "grading/" not in text


def test_a_terminal_asks_for_hints_in_its_own_way_and_a_paper_that_is_handed_in_for_none(unstable):
    assert "Stuck? `solo hint lab9 softmax`" in card.text(unstable, hint="solo hint lab9 {name}")
    for shown in (card.text(unstable, hint=None), card.html(unstable, hint=None)):
        assert "Likely cause" in shown
        assert "Next:" not in shown


def test_a_project_is_written_in_modules_that_are_saved(unstable, tiny):
    place = card.place_in(units.find("phase1/project"))
    for shown in (card.text(unstable, place=place), card.html(unstable, place=place)):
        assert "change the module, save it, and check again" in shown
        assert "cell" not in shown
    assert "change your cell, run it, and check again" in card.text(unstable, place=card.place_in(tiny))


def test_html_says_the_same_words(unstable):
    class Words(HTMLParser):
        def __init__(self):
            super().__init__()
            self.data = []

        def handle_data(self, data):
            self.data.append(data)

    parser = Words()
    parser.feed(card.html(unstable))
    squeeze = lambda text: re.sub(r"[\s`]+", "", text)  # noqa: E731
    assert squeeze("".join(parser.data)) == squeeze(card.text(unstable))


def test_the_learners_text_cannot_break_out_of_the_card(tiny, solved):
    evil = "def softmax(x, dim):\n    raise ValueError('<script>alert(1)</script> `odd')"
    html = card.html(exercise(tiny, solved, evil))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_one_error_that_fails_everything_is_told_once(tiny, solved):
    failed = exercise(tiny, solved, "def softmax(x, dim):\n    raise ValueError('odd')")
    text = card.text(failed)
    assert text.count("your code raised ValueError: odd") == 1
    assert text.count("as above") == len(failed.requirements) - 1


def test_values_stand_in_columns_below_each_other(tiny, solved):
    text = card.text(exercise(tiny, solved, "def softmax(x, dim):\n    return torch.softmax(x, -1)"))
    expected, got = (next(line for line in text.splitlines() if f"{label}:" in line) for label in ("expected", "got"))
    assert expected.index("[") == got.index("[")


def test_untouched_work_is_not_scolded(tiny, solved):
    text = card.text(exercise(tiny, solved, "def softmax(x, dim):\n    raise NotImplementedError"))
    assert text.startswith("○ Numerically stable softmax — not attempted · 0 of 2 points")
    assert "✗" not in text


def test_an_undefined_name_is_told_what_to_do(tiny, solved):
    del solved["softmax"]
    assert "`softmax` is not defined here: write and run its cell" in card.text(run(tiny, solved, "softmax")["softmax"])


def test_error_carried_forward_is_told(tiny, solved):
    exec("def softmax(x, dim):\n    raise NotImplementedError", solved)
    text = card.text(run(tiny, solved, "attention")["attention"])
    assert "Checked with the reference in place of `softmax`, which does not pass yet" in text


def test_side_quests_earn_xp(tiny, solved):
    assert "1 of 1 XP" in card.text(run(tiny, solved, "scale")["scale"])
