"""Code review: what could be better in the learner's own lines, silent where they are good.

`passages` says which code is whose; `syntax`, `names` and `kinds` what it means; each module of `rules` finds one
family of things; `linters` adds what ruff and TorchFix know; `proof` measures how exact all this is. A new rule is a
decorated function and a file of snippets.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from grading.coach.code.kinds import Code
from grading.coach.code.linters import RUFF, TORCHFIX, Remark, ruff, torchfix
from grading.coach.code.passages import Passage, Text, of_notebook, of_project
from grading.coach.code.rules import RULES
from grading.coach.review import Finding
from grading.learner_notebook import NotebookCell
from grading.units import Unit


def review_code(unit: Unit, cells: Sequence[NotebookCell]) -> tuple[Finding, ...]:
    """What there is to say about the learner's cells, which are read as one module with those that are given."""
    return review_passages(of_notebook(unit, cells))


def review_project(unit: Unit, folder: Path) -> tuple[Finding, ...]:
    """What there is to say about the modules and tests in `folder`, each by itself."""
    return tuple(finding for passage in of_project(unit, folder) for finding in review_passages([passage]))


def review_passages(passages: Sequence[Passage]) -> tuple[Finding, ...]:
    """The findings in what the learner wrote, in order; of one rule at most one for each line."""
    text = Text(passages)
    if not text.has_own_lines:
        return ()
    try:
        return _findings(text)
    except RecursionError:  # an expression that is nested deeper than Python can follow
        return ()


def _findings(text: Text) -> tuple[Finding, ...]:
    code = Code(text.source)
    unwritten = code.stub_lines
    found: dict[tuple[int, str], Finding] = {}
    for line, rule, why, better, brief in (*_ours(code), *_linters(code, text)):
        if not text.is_learners(line) or line in unwritten:
            continue
        place = text.place(line)
        finding = Finding(
            rule=rule,
            exercise=place.passage.exercise,
            line=place.line,
            code=place.code,
            why=why,
            better=better,
            brief=brief,
        )
        found.setdefault((line, rule), finding)
    return tuple(found[key] for key in sorted(found))


Said = tuple[int, str, str, str, str | None]
"""Line of the whole text, rule, why, better, brief."""


def _ours(code: Code) -> Iterator[Said]:
    for rule in RULES.values():
        for spot in rule.find(code):
            yield code.line(spot.node), rule.id, spot.why or rule.why, spot.better, rule.brief


def _linters(code: Code, text: Text) -> Iterator[Said]:
    for remarks, table in ((ruff(text.source), RUFF), (torchfix(text.own_source), TORCHFIX)):
        for remark in remarks:
            if not _is_meant(remark, code, text):
                advice = table[remark.code]
                yield remark.line, advice.rule, advice.why, advice.better, advice.brief


def _is_meant(remark: Remark, code: Code, text: Text) -> bool:
    """Whether a linter finds what is all right in a notebook: a last line that is shown, a context that is named."""
    line = text.place(remark.line).code
    match remark.code:
        case "B018":
            return remark.line in text.last_lines
        case "F841":
            return line.startswith(("with ", "async with ", "except"))
        case "F401":
            return code.is_tried(remark.line)
    return False
