"""The code review of whole notebooks and projects, and what it takes from ruff and TorchFix."""

import ast
import textwrap
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from grading import units
from grading.coach.code import review_code, review_passages, review_project
from grading.coach.code.linters import RUFF, TORCHFIX
from grading.coach.code.passages import Passage, of_notebook
from grading.coach.code.rules import RULES
from grading.coach.review import Finding
from grading.learner_notebook import NotebookCell, read_notebook
from grading.projects import module_path
from grading.units import Unit

RIGHT = {
    # Where a number is read in every step of a training loop: it costs nothing on a CPU, and a GPU waits.
    ("phase1/lab1", "ThroughDetach"): {"item-in-loop"},
    ("phase1/lab3", "ByTorchAdam"): {"item-in-loop"},
    ("phase1/lab3", "BySampler"): {"item-in-loop"},
    ("phase1/quiz", "BySquaredErrors"): {"item-in-loop"},
    # An optimizer that writes through `.data`, and a loss that is detached by it.
    ("phase1/lab3", "VelocityCloned"): {"data-attribute"},
    ("phase1/lab5", "ByFinfo"): {"data-attribute"},
    # Masks and targets made on the CPU, for pictures that may be elsewhere.
    ("phase1/project", "ByMask"): {"wrong-device"},
    ("phase1/project", "AnotherPlace"): {"wrong-device"},
}
"""Right answers about which the review has something to say all the same, and is right."""

GRADED = [pytest.param(unit, id=unit.id) for unit in units.all_units() if unit.layout]
GIVEN = "import torch\nfrom torch import Tensor, nn\nfrom torch.nn import functional as F"


def review(*cells: str) -> list[Finding]:
    """What there is to say about these cells of the learner's, after the given imports."""
    return list(review_passages([Passage(GIVEN, learners=False), *map(Passage, cells)]))


def rules(findings: list[Finding]) -> set[str]:
    return {finding.rule for finding in findings}


# Right answers


@pytest.mark.parametrize("unit", GRADED)
def test_it_is_silent_or_right_about_the_solution(unit):
    if unit.kind == "project":
        findings = review_project(unit, unit.solution)
    else:
        findings = review_code(unit, read_notebook(unit.solution))
    assert rules(findings) <= RIGHT.get((unit.id, "solution"), set()), findings


@pytest.mark.slow
@pytest.mark.parametrize("unit", GRADED)
def test_it_is_silent_or_right_about_every_alternative(unit):
    for module, passages in _tried_together(unit):
        for finding in review_passages([*_around(unit, module), *passages]):
            name = finding.exercise
            assert finding.rule in RIGHT.get((unit.id, name), set()), finding


def _tried_together(unit: Unit) -> Iterator[tuple[str | None, list[Passage]]]:
    """The alternatives by the module they stand in, in groups with at most one for each exercise, under their names."""
    groups: dict[tuple[str | None, int], list[Passage]] = {}
    counts = Counter()
    for name, exercise, module, code in _alternatives(unit):
        groups.setdefault((module, counts[exercise]), []).append(Passage(code, name))
        counts[exercise] += 1
    for (module, _), passages in groups.items():
        yield module, passages


def _around(unit: Unit, module: str | None) -> list[Passage]:
    """The solution that an alternative takes a place in."""
    if module is not None:
        return [Passage((unit.solution / module_path(unit, module)).read_text(encoding="utf-8"), learners=False)]
    return [Passage(p.source, learners=False) for p in of_notebook(unit, read_notebook(unit.solution))]


def _alternatives(unit: Unit) -> Iterator[tuple[str, str, str | None, str]]:
    """Name, exercise, module and code of the right answers written another way."""
    text = unit.answers.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if not isinstance(node, ast.ClassDef) or "Alternative" not in map(ast.unparse, node.bases):
            continue
        said = {ast.unparse(s.targets[0]): s for s in node.body if isinstance(s, ast.Assign)}
        labels = [said[name] for name in ("exercise", "module") if name in said]
        values = [ast.literal_eval(label.value) for label in labels]
        first = max(statement.end_lineno for statement in (node.body[0], *labels))
        code = textwrap.dedent("\n".join(text.splitlines()[first : node.end_lineno]))
        yield node.name, values[0], values[1] if len(values) > 1 else None, code


def test_the_list_of_right_findings_is_not_longer_than_it_must_be():
    known = {unit.id: unit for unit in units.all_units()}
    for unit_id, name in RIGHT:
        names = {alternative for alternative, *_ in _alternatives(known[unit_id])}
        assert name == "solution" or name in names, f"{unit_id} has no alternative {name} any more"


# Whose code, and what is no Python


def test_given_cells_and_untouched_stubs_are_not_reviewed():
    for unit in units.labs():
        assert review_code(unit, read_notebook(unit.notebook)) == ()


def test_an_added_cell_is_reviewed_and_belongs_to_no_exercise(tiny):
    cells = read_notebook(tiny.solution)
    added = NotebookCell(len(cells), "def f(x):\n    return x\n    print(x)", None, check=False, demo=False)
    (finding,) = review_code(tiny, [*cells, added])
    assert (finding.rule, finding.exercise, finding.line, finding.code) == ("unused-code", None, 3, "print(x)")


def test_a_finding_names_its_exercise_and_the_line_in_its_cell(tiny):
    cells = [
        NotebookCell(c.index, f"{c.source}\n\n\nimport os", c.grade_id, c.check, c.demo)
        if c.grade_id == "softmax"
        else c
        for c in read_notebook(tiny.solution)
    ]
    (finding,) = review_code(tiny, cells)
    changed = next(c for c in cells if c.grade_id == "softmax")
    assert finding.exercise == "softmax"
    assert changed.source.splitlines()[finding.line - 1] == finding.code == "import os"


def test_names_that_a_later_cell_uses_are_used():
    assert review("import os", "print(os.getcwd())") == []
    assert rules(review("import os", "print(1)")) == {"unused-code"}


def test_magics_and_broken_cells_are_passed_over():
    cells = [
        "%matplotlib inline\n!ls\nfiles = !ls\nimport os",
        "def broken(:",
        "%%bash\nls",
        "%%time\nprint(os.name)",
        "torch.stack?",
    ]
    assert review(*cells) == []
    (finding,) = review("%%time\nimport os", "def broken(:\n    pass")
    assert (finding.code, finding.line) == ("import os", 2)


def test_a_notebook_may_end_a_cell_with_a_value():
    assert review("x = torch.zeros(3)\nx.shape") == []
    assert rules(review("x = torch.zeros(3)\nx.shape\nprint(x)")) == {"useless-statement"}


def test_a_stub_is_silent():
    assert review("def f(x):\n    y = x * 2\n    raise NotImplementedError") == []


@pytest.mark.parametrize("terms", [300, 900, 3000])
def test_what_nests_too_deeply_breaks_nothing(terms):
    assert rules(review("import os", f"x = {'+'.join('1' * terms)}")) <= {"unused-code"}


def test_nothing_to_review():
    assert review_passages([]) == ()
    assert review_passages([Passage("import os", learners=False)]) == ()


# Linters


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("unused-code", "def f(x):\n    y = x * 2\n    return x"),
        ("mutable-default", "def f(x, seen=[]):\n    seen.append(x)\n    return seen"),
        ("useless-statement", "optimizer = torch.optim.SGD([torch.zeros(1)])\noptimizer.zero_grad\nprint(optimizer)"),
        ("compared-with-none", "def f(x):\n    return x == None"),
        ("compared-with-bool", "def f(mask):\n    return mask == True"),
        ("is-literal", "def f(mode):\n    return mode is 'sum'"),
        ("repeated-key", "rates = {'a': 1, 'a': 2}\nprint(rates)"),
        ("self-assignment", "x = 1\nx = x\nprint(x)"),
        ("misspelt-requires-grad", "w = torch.zeros(3)\nw.require_grad = True"),
        ("removed-function", "print(torch.symeig(torch.eye(3)))"),
        ("deprecated-function", "print(torch.qr(torch.eye(3)))"),
        ("log1p", "def f(x):\n    return torch.log(1 + x)"),
        ("expm1", "def f(x):\n    return torch.exp(x) - 1"),
        (
            "checkpoint-reentrant",
            "from torch.utils.checkpoint import checkpoint\n\n\ndef f(g, x):\n    return checkpoint(g, x)",
        ),
    ],
)
def test_what_the_linters_find_is_said_once_and_in_our_words(rule, code):
    (finding,) = review(code)
    assert finding.rule == rule
    assert finding.why in {advice.why for advice in (*RUFF.values(), *TORCHFIX.values())}


def test_what_two_find_is_said_once():
    assert len(review("def f(x):\n    return x\n    import os")) == 1


# The rules as a whole


def test_every_brief_exists():
    known = {unit.id for unit in units.all_units()}
    briefs = {thing.brief for thing in (*RULES.values(), *RUFF.values(), *TORCHFIX.values())} - {None}
    assert briefs <= known


def test_a_whole_lab_takes_less_than_two_seconds():
    unit = max(units.labs(), key=lambda lab: lab.source.stat().st_size)
    cells = read_notebook(unit.solution)
    review_code(unit, cells)  # imports TorchFix
    took = []
    for _ in range(3):
        start = time.process_time()
        review_code(unit, cells)
        took.append(time.process_time() - start)
    assert min(took) < 2
