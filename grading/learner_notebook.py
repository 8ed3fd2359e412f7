"""A learner's notebook as cells, and as a module that a fresh process, its workers and its ranks can import."""

import ast
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import TYPE_CHECKING

from grading.units import defined_names

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from nbformat import NotebookNode

MODULE = "learner_notebook"


class NotebookError(ValueError):
    """A notebook that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class NotebookCell:
    """One code cell. `grade_id` is nbgrader's, None for a cell the learner added."""

    index: int
    source: str
    grade_id: str | None
    check: bool
    demo: bool

    @property
    def label(self) -> str:
        """How to speak of the cell."""
        if self.grade_id and not self.check:
            return f"the cell of `{self.grade_id}`"
        first = next((line.strip() for line in self.source.splitlines() if line.strip()), "")
        return f"the cell that begins `{first[:60]}`"

    def defines(self) -> list[str]:
        """The names it binds, or should: its grade id is one."""
        promised = [self.grade_id] if self.grade_id else []
        try:
            return promised + defined_names(ast.parse(self.source).body)
        except SyntaxError:
            return promised


def read_notebook(path: Path) -> list[NotebookCell]:
    """The code cells of a notebook on disk. Raises `NotebookError` for a missing, broken or foreign file."""
    if not path.exists():
        raise NotebookError(
            f"There is no notebook at {path}. `solo open` makes your copy; `solo check --notebook` takes another."
        )
    import nbformat  # takes more than a second, which no process that is handed cells should wait

    try:
        notebook = nbformat.read(path, as_version=4)
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError, RecursionError) as error:
        raise NotebookError(
            f"{path} is not a notebook that can be read ({short(error)}). "
            "Restore it from a backup, or start over with `solo reset`."
        ) from None
    return [code_cell(cell, i) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def code_cell(cell: "NotebookNode", index: int) -> NotebookCell:
    """What is needed to run one code cell of a notebook."""
    meta = cell.metadata.get("nbgrader", {})
    tags = cell.metadata.get("tags", [])
    return NotebookCell(
        index=index,
        source=cell.source,
        grade_id=meta.get("grade_id") if meta.get("solution") or meta.get("grade") else None,
        check=bool(meta.get("grade")) and not meta.get("solution"),
        demo="demo" in tags,
    )


def missing_cells(cells: Iterable[NotebookCell], expected: Iterable[str]) -> list[str]:
    """The solution cells of `expected` that the notebook no longer has, by grade id."""
    present = {cell.grade_id for cell in cells}
    return [name for name in expected if name not in present]


def run_cells(
    cells: Iterable[NotebookCell],
    module: ModuleType,
    on_cell: Callable[[NotebookCell], None] = lambda cell: None,
    shell: "InteractiveShell | None" = None,
) -> dict[int, str]:
    """Execute cells in `module` as IPython does, magics included; what each raised, by cell index.

    A cell that raises does not stop the next one, as in *Run All*.
    """
    shell = shell or new_shell(module)
    cells = list(cells)
    missing = {name for cell in cells if cell.grade_id and not cell.check for name in cell.defines()}
    errors = {}
    for cell in cells:
        on_cell(cell)
        result = shell.run_cell(cell.source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if error is None:
            continue
        if _is_unwritten(error, module, missing):
            missing.update(cell.defines())
        else:
            errors[cell.index] = f"{type(error).__name__}: {short(error)}"
    return errors


def _is_unwritten(error: BaseException, module: ModuleType, missing: set[str]) -> bool:
    """Whether a cell met a stub, or what a stub has left `missing`: nothing that its exercise does not tell already."""
    if isinstance(error, NameError):
        return error.name in missing
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    met = hasattr(error, "stub") or frames[-1].f_globals is module.__dict__  # here, or in a rank of several
    return isinstance(error, NotImplementedError) and met


def new_shell(module: ModuleType) -> "InteractiveShell":
    """The one IPython shell of a process, which executes cells in `module`."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def enable_gui(self, gui: str | None = None) -> None:
            """`%matplotlib inline` asks for it; a process without a screen has none."""

        def _tee(self, channel: str) -> AbstractContextManager:
            """Its history would keep all that a cell prints, were it without end."""
            return nullcontext()

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Minimal"  # nobody reads these tracebacks, and deep ones are slow to draw
    return Shell.instance(config=config, user_module=module, user_ns=module.__dict__)


def new_module(folder: Path, cells: list[NotebookCell]) -> ModuleType:
    """An empty module for `cells`, with a file in `folder` from which another process imports their definitions.

    That file runs neither checks nor demonstrations: a DataLoader worker wants the classes, not the training.
    """
    wanted = [vars(cell) for cell in cells if not cell.check and not cell.demo]
    (folder / f"{MODULE}.json").write_text(json.dumps(wanted), encoding="utf-8")
    source = folder / f"{MODULE}.py"
    source.write_text(
        '"""What the notebook defines, for processes other than the one it runs in."""\n\n'
        "import sys\n\nfrom grading.learner_notebook import define\n\ndefine(sys.modules[__name__])\n",
        encoding="utf-8",
    )
    module = ModuleType(MODULE)
    module.__file__ = str(source)
    sys.modules[MODULE] = module
    sys.path.insert(0, str(folder))
    return module


def define(module: ModuleType) -> None:
    """Run the cells that lie beside `module`'s file in it."""
    cells = json.loads(Path(module.__file__).with_suffix(".json").read_text(encoding="utf-8"))
    run_cells([NotebookCell(**cell) for cell in cells], module)


def short(error: BaseException) -> str:
    """The first line of an error's message, if that is not too long."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
