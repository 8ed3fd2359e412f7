"""The page: whole, safe, and alone."""

import re
import time
from itertools import pairwise

import pytest
from histories import history, scholar

from grading.dashboard.data import dashboard
from grading.dashboard.page import is_ours, page
from grading.events import Note
from grading.plan import phases
from grading.units import all_units

COMPUTE_S, SIZE_MB = 2.0, 2.0


@pytest.fixture
def shown(real, now, outline):
    """The page of someone in the middle of things, as text and as outline."""
    text = page(dashboard(scholar(now), now), ("A sentence with `code`.",))
    return text, outline(text)


def test_it_has_all_parts(shown):
    text, read = shown
    assert is_ours(text)
    built = {(unit.phase, unit.name) for unit in all_units()}
    planned = [title for p in phases() for name, title in p.units.items() if (p.id, name) not in built]
    for words in (
        *planned,
        "A sentence with code.", "Rank D", "Next quest", "Once more:", "Phase 1 · Foundations",
        "Self-attention mechanism", "Quiz of phase1: 16 of 20 points", "broadcasting",
        "All of “Lab 1: Tensor operations and autograd” confirmed", "not overcome yet", "overcome on",
        "to improve", "as_floats",
    ):  # fmt: skip
        assert words in read.text, words


def test_it_needs_nothing_from_elsewhere(shown):
    text, read = shown
    addresses = [value for _, attributes in read.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"@import|url\(", text)


def test_its_policy_allows_its_own_script_and_style_only(shown):
    text, read = shown
    policy = next(attributes["content"] for _, attributes in read.tags if "http-equiv" in attributes)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not [
        tag for tag, attributes in read.tags if "style" in attributes or any(n.startswith("on") for n in attributes)
    ]
    assert (text.count("<script>"), text.count("<style>")) == (1, 1)


def test_headings_go_down_one_level_at_a_time_and_ids_are_unique(shown):
    _, read = shown
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_what_people_write_is_text(curriculum, now, outline):
    evil = '<script>alert(1)</script><img src=x onerror="alert(2)"> "\'&amp; `<b>bold</b>` {{ 7 * 7 }}'
    text = page(dashboard([Note(at=now, unit="<i>lab</i>", text=evil)], now), (evil,))
    read = outline(text)
    assert text.count("<script>") == 1
    assert not {"img", "b", "i"} & {tag for tag, _ in read.tags}
    assert "{{ 7 * 7 }}" in read.text
    assert "<script>alert(1)</script>" in read.text


def test_without_a_record_that_can_be_read_it_says_why(outline):
    text = page(None, ("It was written by a newer version.",), live="version", version="1")
    read = outline(text)
    assert "It was written by a newer version." in read.text
    assert "Rank" not in read.text
    assert 'data-live="version"' in text


def test_a_thousand_attempts_are_quick_and_small(real, now):
    told = history(1000, now, days=200)
    assert sum(event.kind == "attempt" for event in told) == 1000
    start = time.process_time()
    text = page(dashboard(told, now))
    assert time.process_time() - start < COMPUTE_S
    assert len(text.encode()) < 1e6 * SIZE_MB
