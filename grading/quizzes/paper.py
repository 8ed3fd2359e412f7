"""The paper of a sitting as a notebook: questions to answer, a stub to fill, code to mend, and a cell that hands in."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

from grading.files import write_atomically
from grading.quizzes import MAX_POINTS, POINTS, bank
from grading.quizzes.bank import Drawn
from grading.quizzes.sitting import LINE, Paper
from grading.ranks import PASS
from grading.source import Cell, read_source
from grading.units import Unit

SETUP = 'from grading import sitting\n\npaper = sitting("{unit}", "{sitting}")'
MARKED_LATER = "0.0  # marked when it has been handed in"


def path(paper: Paper) -> Path:
    """Where the notebook of this sitting is, or will be."""
    folder = paper.unit.workspace_notebook.parent
    return folder / f"sitting-{paper.sitting.at.astimezone():%Y%m%d-%H%M}-{paper.sitting.id[:4]}.ipynb"


def ensure(paper: Paper) -> Path:
    """The notebook of this sitting, written unless it is there."""
    file = path(paper)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, nbformat.writes(notebook(paper)) + "\n")
    return file


def notebook(
    paper: Paper, answers: Mapping[str, object] | None = None, code: Mapping[str, str] | None = None
) -> NotebookNode:
    """The paper, with `answers` and the `code` of its exercises filled in as far as they are given."""
    cells = [
        v4.new_markdown_cell(_head(paper)),
        v4.new_code_cell(SETUP.format(unit=paper.unit.id, sitting=paper.sitting.id)),
        *_body(paper, answers or {}, code or {}),
        v4.new_markdown_cell("## Hand in\n\nSave, run every cell, and then this one. A sitting counts once."),
        v4.new_code_cell("paper.hand_in()"),
    ]
    return _with_metadata(paper, cells)


def class_notebook(
    paper: Paper, answers: Mapping[str, object] | None = None, code: Mapping[str, str] | None = None
) -> NotebookNode:
    """The paper as a class gets it, to be handed in to the instructor: a graded cell follows each answer."""
    cells = [v4.new_markdown_cell(_class_head(paper), id="head")]
    worth = points(paper)
    for i, cell in enumerate(_body(paper, answers or {}, code or {})):
        name = cell.metadata.get("solo", {}).get("answers")
        cell.metadata, cell.id = {}, name or f"cell-{i}"
        cells.append(cell)
        if name in worth:
            flags = {"grade": True, "solution": False, "locked": True, "task": False, "schema_version": 3}
            graded = {**flags, "grade_id": f"check-{name}", "points": worth[name]}
            # Run by anyone but the class's grader it earns nothing.
            cells.append(v4.new_code_cell(MARKED_LATER, id=f"check-{name}", metadata={"nbgrader": graded}))
    return _with_metadata(paper, cells)


def points(paper: Paper) -> dict[str, int]:
    """What each answer on the paper is worth, by the name that it goes by, in the order of a sitting's marks."""
    questions = {f"q{i}": POINTS["question"] for i in range(1, len(paper.questions) + 1)}
    review = {LINE: POINTS["line"], paper.sitting.review: POINTS["fix"]}
    return {**questions, paper.sitting.challenge: POINTS["challenge"], **review}


def _body(paper: Paper, answers: Mapping[str, object], code: Mapping[str, str]) -> Iterator[NotebookNode]:
    """What is asked, with a cell for each answer."""
    yield from (v4.new_code_cell(c.text) for c in read_source(paper.unit.source) if _is_shared(c))
    for i, question in enumerate(paper.questions, 1):
        yield v4.new_markdown_cell(f"## Question {i}\n\n{question.text}")
        yield _answer(f"q{i}", f"q{i} = {_written(question, answers.get(f'q{i}'))}  # {question.asks_for}")
    name = paper.sitting.challenge
    yield v4.new_markdown_cell(f"## Challenge\n\n{task(paper.unit, name)}")
    yield _exercise(name, code.get(name) or stub(paper.unit, name))
    name, faulty = paper.sitting.review, bank.snippet(paper.unit, paper.review)
    yield v4.new_markdown_cell(f"## Code review\n\n{task(paper.unit, name)}\n\n```text\n{numbered(faulty)}\n```")
    yield _answer(LINE, f"{LINE} = {answers.get(LINE)!r}  # its number")
    yield v4.new_markdown_cell("The same code again, for you to mend:")
    yield _exercise(name, code.get(name) or faulty)


def task(unit: Unit, exercise: str) -> str:
    """What the source says before the cell of an exercise, without its heading."""
    cells = read_source(unit.source)
    place = next(c.index for c in cells if c.kind == "solution" and c.name == exercise)
    prose = next(c.text for c in reversed(cells[:place]) if c.kind == "prose")
    return "\n".join(line for line in prose.splitlines() if not line.startswith("#")).strip()


def stub(unit: Unit, exercise: str) -> str:
    """The exercise's cell as the learner gets it."""
    from grading.build import cleared

    cell = next(c for c in read_source(unit.source) if c.kind == "solution" and c.name == exercise)
    return cleared(cell.text, f"the cell of `{exercise}`")


def numbered(code: str) -> str:
    """`code` with its line numbers."""
    return "\n".join(f"{number:3} | {line}".rstrip() for number, line in enumerate(code.splitlines(), 1))


def _written(question: Drawn, answer: object) -> str:
    """The right-hand side of an answer's cell."""
    blank = "" if question.choices else None
    return repr(blank if answer is None else answer)


def _head(paper: Paper) -> str:
    return (
        f"# {bank.read(paper.unit).title}\n\nA sitting of ten questions, a challenge and a code review: about 30 "
        f"minutes, {MAX_POINTS} points, {PASS:.0%} pass. Answer in the cells; leave none empty, a guess costs nothing. "
        "When you hand in, every choice tells you why."
    )


def _class_head(paper: Paper) -> str:
    return (
        f"# {bank.read(paper.unit).title}\n\nTen questions, a challenge and a code review: about 30 minutes, "
        f"{MAX_POINTS} points, {PASS:.0%} pass. Answer in the cells; leave none empty, a guess costs nothing. "
        "Save, and hand the notebook in. With your marks you get the reasons."
    )


def _with_metadata(paper: Paper, cells: list[NotebookNode]) -> NotebookNode:
    from grading.build import KERNEL

    return v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "solo": {"unit": paper.unit.id}})


def _answer(name: str, text: str, **metadata: object) -> NotebookNode:
    return v4.new_code_cell(text, metadata={"solo": {"answers": name}, **metadata})


def _exercise(name: str, text: str) -> NotebookNode:
    """A cell that a fresh run knows as the answer to `name`."""
    flags = {"grade": False, "solution": True, "locked": False, "task": False, "schema_version": 3}
    return _answer(name, text, nbgrader={**flags, "grade_id": name})


def _is_shared(cell: Cell) -> bool:
    """Imports and helpers that every exercise may use; not the cell that binds the source to its unit."""
    return cell.kind == "code" and not set(cell.tags) & {"demo", "explanation"} and "grading" not in cell.text
