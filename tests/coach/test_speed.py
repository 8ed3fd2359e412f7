"""Speed notes: a slow answer is named with its line and operation, a good one with silence."""

import linecache
import time
from contextlib import nullcontext

import pytest
import torch

from grading.coach.measuring import LIMITS, measured_notes
from grading.coach.sides import Side
from grading.coach.speed import growth, speed_note
from grading.coach.tracing import Site, trace
from grading.follow import Limits

ROW_BY_ROW = """
def softmax(logits, dim):
    out = torch.empty_like(logits)
    for i in range(logits.shape[0]):
        weights = (logits[i] - logits[i].max()).exp()
        out[i] = weights / weights.sum()
    return out
""".strip()
ONE_COSTLY_OPERATION = """
def softmax(logits, dim):
    for _ in range(64):
        torch.sort(logits, dim)
    weights = (logits - logits.amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)
""".strip()
IN_LISTS = """
import math

def softmax(logits, dim):
    rows = []
    for row in logits.tolist():
        weights = [math.exp(x - max(row)) for x in row]
        rows.append([w / sum(weights) for w in weights])
    return torch.tensor(rows)
""".strip()
HOARDING = """
def softmax(logits, dim):
    large = logits.new_zeros(64, *logits.shape) + logits
    weights = (large[0] - logits.amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)
""".strip()
MANY_OPERATIONS = """
def softmax(logits, dim):
    few = logits[:1, :1]
    for _ in range(48):
        few = few + 1
    weights = (logits - logits.amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)
""".strip()
ANOTHER_WAY = """
def softmax(logits, dim):
    top = logits.amax(dim, keepdim=True)
    return (logits - top - (logits - top).exp().sum(dim, keepdim=True).log()).exp()
""".strip()
SLOW_ATTENTION = """
def attention(queries, keys):
    return torch.stack([softmax((q * keys).sum(1) / queries.shape[-1] ** 0.5, 0) for q in queries])
""".strip()
QUICK = Limits(test_s=4, cell_s=30)


@pytest.fixture
def measured(tiny, rewritten, tmp_path):
    """`measured("softmax", softmax="…")`: what is said of these exercises of a notebook with these cells."""

    def measure(*only, limits=LIMITS, **cells):
        notebook = tmp_path / "lab.ipynb"
        notebook.write_text(rewritten(**cells), encoding="utf-8")
        return measured_notes(tiny, notebook, only, limits)

    return measure


def test_a_loop_over_rows_is_named_with_its_line_and_its_operations(measured):
    (note,) = measured("softmax", softmax=ROW_BY_ROW).speed
    assert note.exercise == "softmax"
    assert note.ratio > 5
    assert "× slower than the reference: " in note.text
    assert "in the loop at line 3 of `softmax`" in note.text
    assert "It makes 1,537 operations where the reference makes 5" in note.text


def test_the_operation_that_costs_most_is_named_with_its_share_calls_and_line(measured):
    (note,) = measured("softmax", softmax=ONE_COSTLY_OPERATION).speed
    assert "% of the time in operations is in `aten::sort`, called 64 times from the loop at line 2" in note.text


def test_time_that_goes_into_python_is_called_so(measured):
    (note,) = measured("softmax", softmax=IN_LISTS).speed
    assert "the time goes into Python itself, not into operations; the loop at line " in note.text
    assert note.memory_ratio is None, "what lists hold is not seen"


def test_peak_memory_is_compared(measured):
    (note,) = measured("softmax", softmax=HOARDING).speed
    assert note.memory_ratio > 20
    assert "at its peak it holds 32." in note.text.lower()


def test_as_fast_with_many_operations_speaks_of_operations_only(measured):
    notes = measured("softmax", softmax=MANY_OPERATIONS).speed
    if not notes or notes[0].ratio >= 3:
        pytest.skip("the machine is too busy to find them as fast")
    assert notes[0].text.startswith("About as fast as the reference, but with 53 operations where it makes 5, most of")
    assert "from the loop at line 3 of `softmax`" in notes[0].text


@pytest.mark.parametrize("cells", [{}, {"softmax": ANOTHER_WAY}])
def test_good_answers_are_met_with_silence(measured, cells):
    result = measured("softmax", "attention", **cells)
    assert result.speed == ()
    assert result.problems == ()


def test_an_exercise_answers_for_its_own_code_alone(measured):
    assert measured("attention", softmax=ROW_BY_ROW).speed == ()


def test_nothing_is_said_of_what_does_not_pass(measured):
    assert measured(softmax=ROW_BY_ROW) == ((), (), ())


@pytest.mark.parametrize(
    ("softmax", "says"),
    [
        ("def softmax(x, dim):\n    while True: pass", "softmax: your code did not finish in time"),
        ("def softmax(x, dim):\n    import os; os._exit(3)", "softmax: your code ended the Python process"),
        ("def softmax(x, dim):\n    raise ValueError('mine')", "the workload of softmax raised ValueError: mine"),
        ("def softmax(x, dim):\n    raise SystemExit", "the workload of softmax raised SystemExit"),
        ("while True: pass", "the cell of `softmax` did not finish in time"),
    ],
)
def test_a_deadly_answer_costs_its_own_note_only(measured, softmax, says):
    result = measured("softmax", "attention", "scale", limits=QUICK, softmax=softmax, attention=SLOW_ATTENTION)
    assert [note.exercise for note in result.speed] == ["attention"]
    assert [note.exercise for note in result.architecture] == ["scale"]
    assert any(problem.startswith(says) for problem in result.problems)


def test_growth_is_the_exponent():
    assert growth((1, 2, 4), (3, 12, 48)) == pytest.approx(2)
    assert growth((1, 2, 4), (5, 10, 20)) == pytest.approx(1)
    assert growth((1, 2, 4), (7, 7, 7)) == pytest.approx(0)


def test_quadratic_time_is_told_from_linear():
    """Asleep, a function takes its time whatever else the machine does."""
    naps = {"yours": lambda size: 0.008 * size**2, "ours": lambda size: 0.008 * size}
    sides = tuple(Side({"nap": nap}, nullcontext, 0) for nap in naps.values())
    note = speed_note("nap", lambda lab, size, rng: lambda: time.sleep(lab.nap(size)), sides)
    assert note.ratio == pytest.approx(4, abs=1)
    assert note.exponent == pytest.approx(2, abs=0.3)
    assert note.reference_exponent == pytest.approx(1, abs=0.3)
    assert "Its time grows as size^" in note.text


def traced(source, call):
    """The calls of each operation at each site, of a cell with this source."""
    name = f"<cell {hash(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace = {"torch": torch, "x": torch.ones(4, 3)}
    exec(compile(source, name, "exec"), namespace)
    costs = trace(lambda: eval(call, namespace), namespace).costs
    return {key: cost.calls for key, cost in costs.items()}


def test_operations_find_the_innermost_loop_that_repeats_them():
    calls = traced(
        "def f(x):\n    for row in x:\n        for i in range(2):\n            row.exp()\n    x.sum()\n", "f(x)"
    )
    assert calls["aten::exp", Site(3, "f", loop=True)] == 8
    assert calls["aten::unbind", Site(2, "f", loop=False)] == 1
    assert calls["aten::sum", Site(5, "f", loop=False)] == 1


def test_a_call_around_a_comprehension_is_not_in_it():
    calls = traced("def f(x):\n    return torch.stack([row.exp() for row in x.unbind()])\n", "f(x)")
    assert calls["aten::exp", Site(2, "f", loop=True)] == 4
    assert calls["aten::stack", Site(2, "f", loop=False)] == 1
    assert calls["aten::unbind", Site(2, "f", loop=False)] == 1


def test_a_helper_is_charged_to_the_loop_that_calls_it():
    calls = traced(
        "def g(row):\n    return row.exp()\n\ndef f(x):\n    while len(x):\n        x = x[1:]\n        g(x)\n", "f(x)"
    )
    assert calls["aten::exp", Site(5, "f", loop=True)] == 4


def test_operations_of_a_backward_pass_belong_to_the_line_that_starts_it():
    source = "def f(x):\n    x = x.clone().requires_grad_()\n    y = x.exp().sum()\n    y.backward()\n"
    calls = traced(source, "f(x)")
    assert calls["aten::mul", Site(4, "f", loop=False)] == 1
