"""nbgrader's settings, in one place: the notebooks we build and the pipeline of a course both follow them.

A course's own `nbgrader_config.py` merges `settings()` into its configuration; `grading release` writes that file.
"""

from traitlets.config import Config

from grading.source import BEGIN_SOLUTION, END_SOLUTION

STUB_LINE = "# Your code here"
CODE_STUB = f"{STUB_LINE}\nraise NotImplementedError"
TEXT_STUB = "*Your answer here: double-click this line and write.*"
CELL_TIMEOUT_S = 120


def settings() -> Config:
    """The settings for building a notebook and for every nbgrader command of a course."""
    c = Config()
    c.ClearSolutions.code_stub = {"python": CODE_STUB}
    c.ClearSolutions.text_stub = TEXT_STUB
    c.ClearSolutions.begin_solution_delimeter = BEGIN_SOLUTION
    c.ClearSolutions.end_solution_delimeter = END_SOLUTION
    # Prose carries no grade id, so that mending a typo never invalidates what has been handed in.
    c.LockCells.lock_all_cells = True
    c.Execute.timeout = CELL_TIMEOUT_S  # nbgrader's 30 s are too few for an exercise that trains on a busy machine
    return c
