"""From a unit's one source to its notebooks.

Nobody writes nbgrader metadata by hand: it is derived from what a cell is, and nbgrader's own preprocessors do the
clearing, the locking and the checksums. A lab has three views: the instructor's *source*, with the solutions between
their markers; the *starter*, with stubs in their place; and the *solution*, the starter with the answers filled in.
"""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import ClearSolutions, SaveCells

from grading.answers import mistakes
from grading.checkers import checkers
from grading.nbgrader_config import settings
from grading.rules import PITFALLS, verified_cells
from grading.source import BEGIN_SOLUTION, Cell, SourceError, check_markers, without_markers
from grading.units import Unit

EXPLANATION = "explanation"
MAY_RAISE = "raises-exception"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
SCHEMA_VERSION = 3  # of nbgrader's cell metadata
PITFALLS_SHOWN = 3
"""An answers file lists the commonest mistakes of an exercise first; the rest would bury them."""


def render(unit: Unit) -> dict[Path, str]:
    """The notebooks of `unit` as they should be on disk. Raises `SourceError` for a unit that breaks a rule."""
    nodes = _nodes(unit)
    if unit.kind == "theory":
        return {unit.notebook: _text(_notebook(unit, nodes))}
    if unit.kind == "project":
        return {unit.notebook: _text(_released(_source(unit, nodes)))}
    starter = _released(_source(unit, nodes))
    for cell in starter.cells:
        if cell.cell_type == "code":
            _check_python(cell.source, f"{unit.folder.name}/{unit.source.name}, the cell of `{cell.id}`")
    solution = _text(_notebook(unit, _solved(nodes, starter.cells)))
    return {unit.notebook: _text(_cover(unit, starter) if unit.kind == "quiz" else starter), unit.solution: solution}


def build(unit: Unit) -> list[Path]:
    """Write those notebooks of `unit` that have changed; their paths."""
    rendered = render(unit)
    changed = _changed(rendered)
    for path in changed:
        path.write_text(rendered[path], encoding="utf-8", newline="\n")
    return changed


def stale(unit: Unit) -> list[Path]:
    """The notebooks of `unit` that are missing or are not what its source says."""
    return _changed(render(unit))


def source_text(unit: Unit) -> str:
    """The instructor's view of a lab, for nbgrader's `source/`: the solutions between their markers."""
    return _text(_source(unit, _nodes(unit)))


def cleared(code: str, where: str) -> str:
    """`code` with nbgrader's stub in place of each solution. Raises `SourceError` where that leaves no valid Python."""
    check_markers(code, where)
    if BEGIN_SOLUTION in code:
        cell = v4.new_code_cell(code, metadata={"nbgrader": {"solution": True}})
        code = ClearSolutions(config=settings()).preprocess_cell(cell, {"language": "python"}, 0)[0].source
    _check_python(code, where)
    return code


def pitfalls(unit: Unit) -> str:
    """The first known mistakes of each exercise that leads through the lab, as Markdown lists under their titles."""
    everything = checkers(unit)
    sections = []
    for checker in [c for c in everything if not c.side_quest] or everything:
        known = [f"- {mistake.message}" for mistake in mistakes(unit, checker.name)[:PITFALLS_SHOWN]]
        if known:
            sections.append("\n".join([f"**{checker.title}** (`{checker.name}`)", "", *known]))
    return "\n\n".join(sections)


def _check_python(code: str, where: str) -> None:
    try:
        ast.parse(code)
    except SyntaxError as error:
        reason = f"line {error.lineno}: {error.msg}"
        raise SourceError(f"{where}: with a stub for the solution this is not valid Python ({reason}).") from None


def _changed(rendered: dict[Path, str]) -> list[Path]:
    return [path for path, text in rendered.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def _nodes(unit: Unit) -> list[NotebookNode]:
    """Every cell of the unit's notebooks, explanations included, solutions between their markers."""
    cells = verified_cells(unit)
    points = {c.name: 0 if c.side_quest else c.points for c in checkers(unit)}
    nodes = [node for cell in cells for node in _cell_nodes(cell, points)]
    for node in nodes:
        if PITFALLS in node.source:
            node.source = node.source.replace(PITFALLS, pitfalls(unit))
        if unit.kind == "theory":
            node.metadata.pop("nbgrader", None)
    _make_ids_unique(nodes)
    return nodes


def _cell_nodes(cell: Cell, points: dict[str, int]) -> Iterator[NotebookNode]:
    """What `cell` becomes: one cell, or for a written answer its task, its rubric and the place to write."""
    match cell.kind:
        case "answer":
            if cell.answer.task:
                yield _node("markdown", _hashed("prose", cell.answer.task), cell.answer.task, cell.tags)
            rubric = f"**How this is marked** ({cell.answer.points} points)\n\n{cell.answer.rubric}"
            yield _node("markdown", f"rubric-{cell.answer.name}", rubric, cell.tags)
            graded = {"grade": True, "solution": True, "points": cell.answer.points}
            yield _node("markdown", cell.answer.name, cell.answer.model, cell.tags, graded)
        case "solution":
            yield _node("code", cell.names[0], cell.text, (*cell.tags, MAY_RAISE), {"solution": True})
        case "check":
            graded = {"grade": True, "locked": True, "points": points[cell.name]}
            yield _node("code", f"check-{cell.name}", cell.text, (*cell.tags, MAY_RAISE), graded)
        case "prose":
            yield _node("markdown", _hashed("prose", cell.text), cell.text, cell.tags)
        case _ if "demo" in cell.tags:
            yield _node("code", _hashed("demo", cell.text), cell.text, (*cell.tags, MAY_RAISE))
        case _ if cell.names and cell.names[0].isascii() and EXPLANATION not in cell.tags:
            # What later cells build on: nbgrader puts our text back before it grades.
            yield _node("code", f"code-{cell.names[0]}", cell.text, cell.tags, {"locked": True})
        case _:
            yield _node("code", _hashed("code", cell.text), cell.text, cell.tags)


def _node(
    cell_type: str, cell_id: str, text: str, tags: tuple[str, ...], nbgrader: dict[str, object] | None = None
) -> NotebookNode:
    metadata: dict[str, object] = {"tags": list(dict.fromkeys(tags))} if tags else {}
    if nbgrader:
        flags = {"grade": False, "solution": False, "locked": False, "task": False}
        metadata["nbgrader"] = {**flags, **nbgrader, "grade_id": cell_id, "schema_version": SCHEMA_VERSION}
    new = v4.new_code_cell if cell_type == "code" else v4.new_markdown_cell
    return new(text, id=cell_id, metadata=metadata)


def _hashed(kind: str, text: str) -> str:
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _make_ids_unique(nodes: list[NotebookNode]) -> None:
    """Number the cells that would share an id: the same sentence twice, or a helper defined anew."""
    seen: Counter[str] = Counter()
    for node in nodes:
        seen[node.id] += 1
        if seen[node.id] > 1:
            node.id = f"{node.id}-{seen[node.id]}"
            if "nbgrader" in node.metadata:
                node.metadata.nbgrader.grade_id = node.id


def _released(source: NotebookNode) -> NotebookNode:
    """What `nbgrader generate_assignment` makes of `source`: its own steps in its own order, but for the gradebook."""
    notebook, resources = deepcopy(source), {}
    for step in GenerateAssignment().preprocessors:
        if step is not SaveCells:
            notebook, resources = step(config=settings()).preprocess(notebook, resources)
    return notebook


def _solved(nodes: list[NotebookNode], starter: list[NotebookNode]) -> list[NotebookNode]:
    """The starter's cells, metadata and all, with the answers filled in and explained, and nothing allowed to raise."""
    metadata = {node.id: node.metadata for node in starter}
    solved = deepcopy(nodes)
    for node in solved:
        node.source = without_markers(node.source)
        node.metadata = deepcopy(metadata.get(node.id, node.metadata))
        tags = [tag for tag in node.metadata.pop("tags", ()) if tag != MAY_RAISE]
        if tags:
            node.metadata["tags"] = tags
    return solved


def _cover(unit: Unit, starter: NotebookNode) -> NotebookNode:
    """What opens a quiz: its first page, and a cell that begins a sitting. What is asked, each sitting draws anew."""
    begin = f'from grading import quiz\n\nquiz("{unit.id}")'
    return _notebook(unit, [starter.cells[0], _node("code", "begin", begin, ())])


def _source(unit: Unit, nodes: list[NotebookNode]) -> NotebookNode:
    return _notebook(unit, [node for node in nodes if EXPLANATION not in node.metadata.get("tags", ())])


def _notebook(unit: Unit, nodes: list[NotebookNode]) -> NotebookNode:
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}, "solo": {"unit": unit.id}}
    return v4.new_notebook(cells=nodes, metadata=metadata)


def _text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook) + "\n"
