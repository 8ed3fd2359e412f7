"""How exact the code review is, on snippets: those made with the rules, and those made apart from them."""

from collections import Counter
from pathlib import Path

import pytest

from grading.coach.code.proof import Score, Snippet, read_snippets, scores, total
from grading.coach.code.rules import RULES

MADE_WITH, HELD_BACK = (Path(__file__).parent / name for name in ("snippets", "held_back"))
PRECISION, RECALL = 0.95, 0.85
EACH = 8
"""The least number of faulty and of clean snippets for a rule."""


@pytest.fixture(scope="module")
def snippets() -> list[Snippet]:
    return [*read_snippets(MADE_WITH), *read_snippets(HELD_BACK)]


@pytest.fixture(scope="module")
def found(snippets: list[Snippet]) -> dict[str, Score]:
    return scores(snippets)


def test_every_rule_has_snippets_of_both_kinds(snippets):
    counts = Counter((snippet.rule, snippet.faulty) for snippet in snippets)
    assert {rule for rule, _ in counts} == set(RULES)
    if HELD_BACK.exists():
        few = {key: n for key, n in counts.items() if n < EACH}
        assert not few, f"fewer than {EACH} snippets: {few}"


def test_a_third_of_them_is_held_back(snippets):
    if not HELD_BACK.exists():
        pytest.skip("the snippets that were made apart from the rules are not here")
    apart = Counter((snippet.rule, snippet.faulty) for snippet in snippets if snippet.path.parent == HELD_BACK)
    few = {(rule, faulty) for rule in RULES for faulty in (True, False) if apart[rule, faulty] < EACH / 3}
    assert not few


def test_what_it_says_is_right(found):
    whole = total(found.values())
    assert whole.precision >= PRECISION, "\n".join(whole.wrong)


def test_it_finds_what_is_there(found):
    whole = total(found.values())
    assert whole.recall >= RECALL, "\n".join(whole.missed)
