"""Mutants: what is changed, what is not, and what becomes of each; a hole in the checkers leaves a survivor."""

import ast
import dataclasses
import shutil

import pytest

from grading import author_cli
from grading.mutants import Mutant, mutants, mutate
from grading.mutation import Equivalent, MutationError, Score, chosen_mutants, equivalents, try_mutants
from grading.units import Unit


def changed(code):
    """The lines that stand in the place of a changed one, over all mutants of `code`."""
    diffs = [mutant.diff.splitlines() for mutant in mutate("exercise", code)]
    return {line[1:].strip() for diff in diffs for line in diff if line.startswith("+")}


def returned(expression):
    """What a function that returns `expression` returns instead, over all its mutants."""
    lines = changed(f"def f(x, y, dim):\n    return {expression}")
    return {line.removeprefix("return ") for line in lines if line.startswith("return ")}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("x + y", {"x - y", "x", "y", "-(x + y)"}),
        ("x - y", {"x + y", "x", "y", "y - x", "-(x - y)"}),
        ("x @ y", {"x * y", "x", "y", "y @ x", "-(x @ y)"}),
        ("-x", {"x"}),
        ("x < y", {"x <= y", "x >= y"}),
        ("1 <= x", {"1 < x", "1 > x", "2 <= x", "0 <= x", "-1 <= x"}),
        ("x is not None", {"x is None", "x is not 0"}),
        ("x and y", {"x or y", "x", "y"}),
        ("x if y else 0", {"x", "0", "0 if y else x", "x if y else 1", "x if y else -1"}),
        ("(x, y)", {"(y, x)"}),
        ("x[:-1]", {"x", "x[:]", "x[:1]", "x[:-2]", "x[:-0]"}),
        ("x.T", {"x"}),
        ("torch.float32", {"torch.float64"}),
        ("torch.relu(x)", {"-torch.relu(x)", "x"}),
    ],
)
def test_an_expression_is_changed_in_every_way(expression, expected):
    assert returned(expression) == expected


@pytest.mark.parametrize(
    ("expression", "some"),
    [
        ("x.amax(dim, keepdim=True)", {"x.amax(dim)", "x.amin(dim, keepdim=True)", "x.amax(-1, keepdim=True)", "x"}),
        ("x.sum(-1)", {"x.mean(-1)", "x.sum()", "x.sum(1)", "x.sum(-2)"}),
        ("x.detach().clone()", {"x.detach()", "x.clone()"}),
        ("x.exp()", {"x.exp_()", "x.log()", "x"}),
        ("x.add_(y)", {"x.add(y)"}),
        ("torch.where(dim, x, y)", {"torch.where(x, dim, y)", "torch.where(dim, y, x)"}),
        ("x.clamp(min=0)", {"x.clamp(max=0)", "x.clamp(min=1)", "x.clamp()"}),
        ("torch.zeros(2, dtype=x.dtype)", {"torch.zeros(2)", "torch.ones(2, dtype=x.dtype)"}),
        ("torch.einsum('nd,md->nm', x, y)", {f"torch.einsum('nd,{e}', x, y)" for e in ("dm->nm", "md->mn", "md->n")}),
        ("[v for v in x if v]", {"[v for v in x]"}),
        ("lambda v=1.0: v", {"lambda v=2.0: v", "lambda v=0.0: v", "lambda v=-1.0: v"}),
    ],
)  # fmt: skip
def test_a_call_is_changed_in_these_ways_among_others(expression, some):
    assert some <= returned(expression)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("x -= y", {"x += y", "x = y", "x = x - y", "pass"}),
        ("x = x - y", {"x -= y", "x = x + y", "x = x", "x = y", "x = y - x", "x = -(x - y)", "pass"}),
        ("x.grad = None", {"x.grad = 0", "pass"}),
        ("x.backward()", {"pass"}),
        ("if x: raise ValueError('no')", {"if not x:", "if True:", "raise Exception('no')", "pass"}),
        ("with torch.no_grad(): x.run()", {"if True:", "pass"}),
        ("for v in x: v.run()", {"for v in ():", "for v in list(x)[:1]:", "pass"}),
        ("while x: x.run()", {"while not x:", "while True:", "pass"}),
    ],
)
def test_a_statement_is_changed_or_removed(statement, expected):
    assert changed(f"def f(x, y):\n    {statement}") == expected


def test_decorators_and_methods_are_removed():
    code = "class A:\n    @torch.no_grad()\n    def f(self):\n        return self.g\n\n    __radd__ = __add__"
    diffs = {(m.function, m.diff) for m in mutate("a", code)}
    assert ("A.f", "-    @torch.no_grad()") in diffs
    assert ("A", "-    __radd__ = __add__\n+    pass") in diffs
    assert any(function == "A.f" and diff.endswith("+    pass") for function, diff in diffs)


@pytest.mark.parametrize(
    "code",
    [
        "def f(x: Tensor | None) -> tuple[1, 2]:\n    'Add 1 + 2.'\n    y: int | None = x\n    return y",
        "def f(x):\n    y = x\n    return y",
    ],
)
def test_words_types_and_the_first_value_of_a_name_stay(code):
    assert list(mutate("f", code)) == []


def test_no_two_mutants_are_the_same_and_none_is_the_solution():
    ones = [m.code for m in mutate("f", "def f(x):\n    return x.sum(-1)") if "x.sum(1)" in m.code]
    assert len(ones) == 1, "the sign dropped, and the constant negated, are one"
    assert list(mutate("f", "def f(x):\n    return (x, x)")) == []


def test_a_mutant_says_where_it_is(tiny):
    made = mutants(tiny)
    assert {m.exercise for m in made} == {"softmax", "attention", "scale"}
    assert {m.function for m in made if m.exercise == "scale"} == {"Scale.__init__", "Scale.forward"}
    for mutant in made:
        assert 1 <= len(mutant.diff.splitlines()) <= 6
        ast.parse(mutant.code)
    assert {m.line for m in made if m.diff.endswith("+        return x")} == {12}


RIGHT = "weights = (logits - logits.amax(dim, True)).exp(); return weights / weights.sum(dim, True)"


def hostile(body):
    return Mutant("softmax", "softmax", 1, body, f"import os, sys\ndef softmax(logits, dim):\n    {body}")


def test_whatever_a_mutant_does_ends_that_mutant_alone(tiny):
    fates = {
        "return torch.exp(logits - torch.logaddexp(logits, logits))": "killed",
        "while True: pass": "timed out",
        "while True: print('x' * 10_000)": "timed out",
        "import time; time.sleep(1000)": "timed out",
        "os._exit(0)": "crashed",
        "os.kill(os.getpid(), 11)": "crashed",
        "raise SystemExit": "killed",
        "raise KeyboardInterrupt": "killed",
        "return softmax(logits, dim)": "killed",
        f"kept = [torch.empty(10**8) for _ in range(50)]; {RIGHT}": "killed",
        RIGHT: "survived",
    }
    told = []
    tried = tuple(map(hostile, fates))
    found = try_mutants(tiny, tried, on_fate=lambda mutant, fate: told.append((mutant, fate)))
    assert {mutant.diff: fate for mutant, fate in found.items()} == fates
    assert sorted(told, key=lambda t: tried.index(t[0])) == list(found.items())


@pytest.fixture
def weakened(tiny, tmp_path):
    """The tiny unit with a softmax that nobody tries with large logits."""
    folder = tmp_path / tiny.folder.name
    shutil.copytree(tiny.folder, folder)
    unit = Unit(tiny.id, tiny.kind, folder / "lab.py")
    text = unit.checkers.read_text(encoding="utf-8")
    unit.checkers.write_text(text.replace("1000 + torch.randn", "torch.randn"), encoding="utf-8")
    return unit


def unshifted(unit):
    """The mutant that does not subtract the maximum."""
    (mutant,) = (m for m in chosen_mutants(unit, "softmax") if m.diff.endswith("+    weights = logits.exp()"))
    return mutant


def test_a_hole_in_the_checkers_leaves_a_survivor(tiny, weakened):
    mutant = unshifted(tiny)
    assert try_mutants(tiny, (mutant,)) == {mutant: "killed"}
    assert try_mutants(weakened, (mutant,)) == {mutant: "survived"}


def explanation(mutant, **other):
    return Equivalent(
        exercise=mutant.exercise, function=mutant.function, diff=f"\n{mutant.diff}\n", why="It is.", **other
    )


ENTRY = """
[[equivalent]]
exercise = "softmax"
function = "softmax"
diff = '''
-a
+b
'''
why = "It is."
"""


def test_survivors_count_unless_they_are_explained(tiny):
    first, second, *others = chosen_mutants(tiny, "softmax")[:10]
    fates = {first: "survived", second: "survived"} | dict.fromkeys(others, "killed")
    bare, explained = Score(fates, ()), Score(fates, (explanation(first), explanation(second)))
    assert (bare.survivors, bare.share, bare.enough) == ((first, second), 0.8, False)
    assert (explained.survivors, explained.explained) == ((), (first, second))
    assert (explained.share, explained.enough) == (1, True)


def test_an_explanation_of_nothing_is_stale(tiny):
    first, second, *others = chosen_mutants(tiny, "softmax")[:10]
    fates = {first: "survived"} | dict.fromkeys((second, *others), "killed")
    gone = explanation(dataclasses.replace(first, diff="-    gone\n+    too"))
    score = Score(fates, (explanation(first), explanation(second), gone))
    assert score.share == 1
    assert score.stale == (explanation(second), gone)
    assert not score.enough


def test_explanations_are_read_from_beside_the_lab(weakened):
    assert equivalents(weakened) == ()
    file = weakened.folder / "equivalent_mutants.toml"
    file.write_text(
        "[[equivalent]]\nexercise = 'softmax'\nfunction = 'softmax'\ndiff = '''\n-a\n+b\n'''\nwhy = 'So.'\n"
    )
    (entry,) = equivalents(weakened)
    assert entry.explains(Mutant("softmax", "softmax", 3, "-a\n+b", ""))
    assert not entry.explains(Mutant("softmax", "other", 3, "-a\n+b", ""))
    assert equivalents(weakened, "attention") == ()
    file.write_text("[[equivalent]]\nexercise = 'softmax'\n")
    with pytest.raises(MutationError, match="cannot be read"):
        equivalents(weakened)


def test_the_command_lists_survivors_with_their_diffs_and_fails(tiny, weakened, monkeypatch, capsys):
    (weakened.folder / "equivalent_mutants.toml").write_text(ENTRY)
    monkeypatch.setattr(author_cli.units, "find", lambda name: weakened)
    monkeypatch.setattr("sys.argv", ["grading", "mutate", "lab9", "--exercise", "softmax"])
    with pytest.raises(SystemExit) as end:
        author_cli.main()
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert unshifted(weakened).diff in said
    assert "explains what is no survivor any more" in said
    assert "95% is enough" in said


def test_what_cannot_be_tried_is_said_in_a_sentence(tiny, weakened, monkeypatch):
    with pytest.raises(MutationError, match="no exercise 'nonsense'"):
        chosen_mutants(tiny, "nonsense")
    text = weakened.checkers.read_text(encoding="utf-8")
    weakened.checkers.write_text(text.replace("torch.ones(3, 1)", "torch.zeros(3, 1)"), encoding="utf-8")
    with pytest.raises(MutationError, match="The solution of attention does not get full marks"):
        try_mutants(weakened, chosen_mutants(weakened, "attention"))
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(MutationError, match="on Linux only"):
        try_mutants(tiny, chosen_mutants(tiny, "softmax"))
