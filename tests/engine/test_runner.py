"""The runner on a live namespace: outcomes kept apart, marks, causes, error carried forward, nothing left behind."""

import random

import numpy as np
import pytest
import torch

from grading.report import Evidence, Outcome, Report
from grading.runner import CheckerBroken, Session, run

STUB = "def {name}(*args, **kwargs):\n    raise NotImplementedError"


def define(namespace, code):
    exec(compile(code, "<learner>", "exec"), namespace)


def first_evidence(report, exercise):
    return next(r.evidence for r in report[exercise].requirements if r.evidence)


def test_the_solution_gets_full_marks(tiny, solved):
    report = run(tiny, solved)
    assert (report.points, report.max_points) == (4, 4)
    assert [e.outcome for e in report.exercises] == [Outcome.PASSED] * 3
    assert report["scale"].side_quest


def test_a_report_survives_json(tiny, solved):
    define(solved, "def softmax(x, dim): return x")
    report = run(tiny, solved, "softmax")
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_stub_is_not_attempted_and_earns_nothing(tiny, solved):
    define(solved, STUB.format(name="softmax"))
    exercise = run(tiny, solved, "softmax")["softmax"]
    assert exercise.outcome is Outcome.NOT_ATTEMPTED
    assert exercise.points == 0
    assert exercise.cause is None


def test_a_name_that_is_not_there_is_said_to_be_undefined(tiny, solved):
    del solved["softmax"]
    report = run(tiny, solved, "softmax")
    assert report["softmax"].outcome is Outcome.NOT_ATTEMPTED
    assert first_evidence(report, "softmax").stage == "undefined"


def test_a_cell_that_raised_was_an_attempt(tiny, solved):
    del solved["softmax"]
    exercise = Session(tiny, solved, broken={"softmax": "its cell raised SyntaxError"}).exercise("softmax")
    assert exercise.outcome is Outcome.FAILED
    assert exercise.requirements[0].evidence.message.endswith("because its cell raised SyntaxError")


def test_an_exception_shows_the_learners_own_line(tiny, solved):
    define(solved, "def softmax(x, dim):\n    half = x / 2\n    return half.nope()")
    report = run(tiny, solved, "softmax")
    assert report["softmax"].outcome is Outcome.RAISED
    evidence = first_evidence(report, "softmax")
    assert "AttributeError" in evidence.message
    assert evidence.line.startswith("softmax, line 3")


def test_a_missing_return_is_suspected(tiny, solved):
    define(solved, "def softmax(x, dim):\n    x.exp()")
    assert "got None" in first_evidence(run(tiny, solved, "softmax"), "softmax").message


def test_partial_credit_is_the_share_of_value_tests(tiny, solved):
    define(solved, "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)")
    exercise = run(tiny, solved, "softmax")["softmax"]
    assert exercise.points == 1
    assert exercise.cause.mistake == "NoMaxSubtraction"
    assert exercise.cause.exact


def test_a_mistake_in_what_is_not_at_fault_is_no_cause(tiny, solved, tmp_path, monkeypatch):
    elsewhere = tmp_path / "answers.py"
    elsewhere.write_text(
        'class Other(Mistake):\n    "It is not this."\n    exercise = "softmax"\n\n    def other(): ...\n'
    )
    monkeypatch.setattr(type(tiny), "answers", property(lambda self: elsewhere))
    define(solved, "def softmax(x, dim):\n    return x")
    assert run(tiny, solved, "softmax")["softmax"].cause is None


def test_a_cause_is_named_for_code_written_differently(tiny, solved):
    define(
        solved,
        "def softmax(z, dim):\n    top = torch.exp(z)\n    return torch.div(top, torch.sum(top, dim).unsqueeze(dim))",
    )
    assert run(tiny, solved, "softmax")["softmax"].cause.mistake == "NoMaxSubtraction"


def test_an_unknown_mistake_is_not_given_a_name(tiny, solved):
    define(solved, "def softmax(x, dim):\n    return torch.sigmoid(x)")
    exercise = run(tiny, solved, "softmax")["softmax"]
    assert exercise.outcome is Outcome.FAILED
    assert exercise.cause is None


def test_two_mistakes_at_once_name_the_one_whose_results_show(tiny, solved):
    define(solved, "def softmax(x, dim):\n    x -= x.amax(dim, keepdim=True)\n    return torch.softmax(x, dim)")
    exercise = run(tiny, solved, "softmax")["softmax"]
    assert exercise.points == 0
    assert exercise.cause is None, "two mistakes explain a part each: naming one would be a guess"


def test_a_mistake_in_one_method_is_named_whatever_the_learners_class_is_made_of(tiny, solved):
    code = """
class Scale(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.factors = nn.Parameter(torch.ones(size))

    def forward(self, x):
        with torch.no_grad():
            scaled = x * self.factors
        return scaled.requires_grad_()
"""
    define(solved, code)
    assert run(tiny, solved, "scale")["scale"].cause.mistake == "Detached"


def test_a_failed_guard_withholds_one_share(tiny, solved):
    define(
        solved,
        "def softmax(x, dim):\n    x -= x.amax(dim, keepdim=True)\n    return x.exp() / x.exp().sum(dim, keepdim=True)",
    )
    exercise = run(tiny, solved, "softmax")["softmax"]
    assert exercise.points == 1
    assert exercise.cause.mistake == "InPlace"


@pytest.mark.parametrize(
    "call",
    ["torch.softmax(x, dim)", "x.softmax(dim)", "torch.nn.functional.softmax(x, dim)", "nn.Softmax(dim)(x)",
     "torch.special.softmax(x, dim)", "torch.log_softmax(x, dim).exp()"],
)  # fmt: skip
def test_a_forbidden_call_takes_everything_in_any_spelling(tiny, solved, call):
    define(solved, f"def softmax(x, dim):\n    return {call}")
    exercise = run(tiny, solved, "softmax")["softmax"]
    assert exercise.points == 0
    assert any(r.evidence and r.evidence.stage == "forbidden" for r in exercise.requirements)


def test_a_forbidden_call_cannot_be_swallowed(tiny, solved):
    code = """
def softmax(x, dim):
    try:
        return torch.softmax(x, dim)
    except BaseException:
        w = (x - x.amax(dim, keepdim=True)).exp()
        return w / w.sum(dim, keepdim=True)
"""
    define(solved, code)
    assert run(tiny, solved, "softmax")["softmax"].points == 0


@pytest.mark.parametrize(
    "softmax",
    [
        STUB.format(name="softmax"),
        "def softmax(x, dim):\n    return x",
        "def softmax(x, dim):\n    return 1 / 0",
        "del softmax",
    ],
)
def test_the_reference_stands_in_for_a_needed_exercise_that_fails(tiny, solved, softmax):
    define(solved, softmax)
    exercise = run(tiny, solved, "attention")["attention"]
    assert exercise.passed
    assert exercise.carried == ("softmax",)


def test_a_fault_of_its_own_is_not_blamed_on_the_needed_exercise(tiny, solved):
    define(solved, "def attention(q, k):\n    return softmax(q @ k.T, dim=-1)")
    exercise = run(tiny, solved, "attention")["attention"]
    assert not exercise.passed
    assert exercise.carried == ()
    assert exercise.cause.mistake == "NoScale"


def test_both_at_fault_is_judged_with_the_reference(tiny, solved):
    define(solved, STUB.format(name="softmax"))
    define(solved, "def attention(q, k):\n    return softmax(q @ k.T, dim=-1)")
    exercise = run(tiny, solved, "attention")["attention"]
    assert exercise.carried == ("softmax",)
    assert exercise.points == 1
    assert exercise.cause.mistake == "NoScale"


def test_without_a_reference_an_exercise_waits(tiny, solved, monkeypatch):
    monkeypatch.setattr("grading.runner.sources", lambda unit, name: {})
    define(solved, STUB.format(name="softmax"))
    exercise = run(tiny, solved, "attention")["attention"]
    assert exercise.outcome is Outcome.WAITING
    assert exercise.points == 0


def test_a_dead_needed_exercise_is_not_tried_again(tiny, solved):
    define(solved, "def softmax(x, dim):\n    raise SystemError('this must not run')")
    dead = {"softmax": Evidence(stage="limit", message="your code did not finish in time")}
    session = Session(tiny, solved, dead=dead)
    assert session.exercise("softmax").requirements[0].evidence.stage == "limit"
    assert session.exercise("attention").passed


def test_random_state_grad_mode_dtype_and_names_are_left_as_they_were(tiny, solved):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    names = dict(solved)
    define(solved, "def softmax(x, dim):\n    return x.exp() / x.exp().sum(dim, keepdim=True)")
    before = solved["softmax"]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            run(tiny, solved)
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    assert solved["softmax"] is before
    assert solved.keys() == names.keys()


def test_another_seed_draws_other_numbers_and_the_same_seed_the_same(tiny, solved):
    define(solved, "def softmax(x, dim):\n    return x")
    shown = [first_evidence(run(tiny, solved, "softmax", seed=s), "softmax").facts["worst"] for s in (1, 1, 2)]
    assert shown[0] == shown[1] != shown[2]


def test_print_warnings_and_file_descriptors_stay_inside(tiny, solved, capfd):
    code = """
def softmax(x, dim):
    import os, sys, warnings
    print("noise")
    warnings.warn("noise")
    os.write(2, b"noise")
    w = (x - x.amax(dim, keepdim=True)).exp()
    return w / w.sum(dim, keepdim=True)
"""
    define(solved, code)
    assert run(tiny, solved, "softmax")["softmax"].passed
    out, err = capfd.readouterr()
    assert out + err == ""


@pytest.mark.parametrize(
    "code", ["raise SystemExit(1)", "import sys; sys.exit()", "return softmax(x, dim)", "raise KeyError"]
)
def test_what_would_end_a_program_is_only_a_failed_test(tiny, solved, code):
    define(solved, f"def softmax(x, dim):\n    {code}")
    report = run(tiny, solved)
    assert report["softmax"].outcome is Outcome.RAISED
    assert report["attention"].passed


def test_the_stop_button_stops_the_check(tiny, solved):
    define(solved, "def softmax(x, dim):\n    raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        run(tiny, solved, "softmax")


def test_an_unknown_exercise_is_answered_with_those_there_are(tiny, solved):
    with pytest.raises(LookupError, match="softmax, attention, scale"):
        run(tiny, solved, "sofmax")


def test_a_broken_checker_file_is_not_the_learners_fault(tiny, solved, tmp_path, monkeypatch):
    broken = tmp_path / "test_lab.py"
    broken.write_text(tiny.checkers.read_text(encoding="utf-8") + "\nimport no_such_module\n", encoding="utf-8")
    monkeypatch.setattr(type(tiny), "checkers", property(lambda self: broken))
    with pytest.raises(CheckerBroken, match="no_such_module"):
        run(tiny, solved, "softmax")


def test_an_edited_checker_file_is_read_again(tiny, solved, tmp_path, monkeypatch):
    edited = tmp_path / "test_lab.py"
    text = tiny.checkers.read_text(encoding="utf-8")
    edited.write_text(text, encoding="utf-8")
    monkeypatch.setattr(type(tiny), "checkers", property(lambda self: edited))
    assert run(tiny, solved, "scale")["scale"].passed
    edited.write_text(text.replace("layer = lab.Scale(3)", "assert False, 'edited'"), encoding="utf-8")
    assert first_evidence(run(tiny, solved, "scale"), "scale").message == "edited"
