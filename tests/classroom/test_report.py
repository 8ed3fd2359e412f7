"""The report on a class names its mistakes, and those who wrote the same."""

import csv

import pytest

from grading.classroom.similarity import similar_pairs

pytestmark = pytest.mark.slow

HALF = "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)"
WRONG = "def softmax(x, dim):\n    return x"


def test_a_class_is_drawn(course, unit, hand_in, solo):
    hand_in("amy")
    hand_in("bob", softmax=HALF)
    hand_in("cleo", softmax=WRONG)
    hand_in("dan", softmax=HALF)
    refused, _, why = solo("class", "report", "lab9", "--course", str(course))
    assert refused == 2
    assert "`solo class grade phase1/lab9` does that" in why
    assert solo("class", "grade", "lab9", "--course", str(course), "--workers", "2")[0] == 0
    code, said, _ = solo("class", "report", "lab9", "--course", str(course))
    assert code == 0
    assert "The class is drawn" in said
    page = (course / "lab9_tiny-report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert 'src="http' not in page
    with (course / "lab9_tiny-report.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["student"], row["exercise"]): row for row in csv.DictReader(file)}
    assert rows["amy", "softmax"]["outcome"] == "passed"
    assert rows["bob", "softmax"]["known mistake"] == rows["dan", "softmax"]["known mistake"] != ""
    assert rows["bob", "softmax"]["known mistake"] in page
    assert rows["amy", "attention"]["known mistake"] == ""


COPIED = """
def attention(queries, keys, mask):
    width = queries.shape[-1]
    scores = queries @ keys.transpose(-2, -1)
    for row in range(scores.shape[0]):
        if mask is not None and not mask[row].any():
            scores[row] = 0.0
        elif mask is not None:
            scores[row] = scores[row].masked_fill(~mask[row], -float("inf"))
    return (scores / width ** 0.5).softmax(-1)
"""
OTHER = """
def attention(queries, keys, mask):
    logits = torch.einsum("nd,md->nm", queries, keys).div(math.sqrt(keys.size(1)))
    return torch.where(mask, logits, torch.full_like(logits, float("-inf"))).softmax(dim=1).nan_to_num()
"""


def test_a_copy_is_found_though_names_and_comments_differ():
    renamed = (
        COPIED.replace("scores", "s")
        .replace("width", "d")
        .replace("row", "i")
        .replace("\n    s =", "\n    # mine\n    s =")
    )
    pairs = similar_pairs({"amy": COPIED, "bob": renamed, "cleo": OTHER}, released="")
    assert [(pair.one, pair.other) for pair in pairs] == [("amy", "bob")]
    assert pairs[0].share > 0.9


def test_what_was_given_or_what_all_write_makes_nobody_suspect():
    assert similar_pairs({"amy": COPIED, "bob": COPIED}, released=COPIED) == []
    many = {f"student {i}": COPIED for i in range(30)}
    assert similar_pairs(many, released="") == []
    assert similar_pairs({"amy": "def f(x):\n    return x", "bob": "def f(x):\n    return x"}, released="") == []
    assert similar_pairs({"amy": "def f(:", "bob": ""}, released="") == []
