"""nbgrader as the book-keeper: its course folder, gradebook, late penalties and converters, without its execution."""

import glob
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import nbgrader.api
from nbformat import NotebookNode, v4
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps.autogradeapp import AutogradeApp
from nbgrader.converters import Autograde, BaseConverter, GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import CheckCellMetadata, Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade
from sqlalchemy.exc import SAWarning

from grading.classroom.engine import Result
from grading.notebook import Score
from grading.report import ExerciseReport
from grading.units import Unit, find

CHECK = "check-"
"""What the name of a cell that checks an exercise begins with."""


class CourseError(RuntimeError):
    """A course folder that cannot be worked with; the message says what to do."""


class NotBooked(RuntimeError):
    """nbgrader refused a submission; the message is its own."""


class Books:
    """The gradebook and the folders of one course. One process, one thread writes it."""

    def __init__(self, course: Path) -> None:
        self.course = course.resolve()
        if not (self.course / "nbgrader_config.py").exists():
            raise CourseError(f"{course} is no course: `solo class release UNIT --course {course}` makes one.")
        with _working_in(self.course):
            self._app = AutogradeApp()
            self._app.initialize([])
        self._said = _Said()
        self._app.log.handlers[:] = [self._said]
        self._app.log.propagate = False
        self._app.log.setLevel(logging.ERROR)
        self._folders = self._app.coursedir
        # nbgrader makes some of its rows before it adds them, and is told so each time.
        warnings.filterwarnings("ignore", category=SAWarning, message="Object of type")

    def folder(self, step: str, student: str, assignment: str) -> Path:
        """Where the course keeps the `submitted`, `autograded`, `feedback`, `source` or `release` of a student."""
        return Path(self._folders.format_path(getattr(self._folders, f"{step}_directory"), student, assignment))

    def released(self, assignment: str) -> NotebookNode:
        """The notebook that students got."""
        path = self.folder("release", ".", assignment) / f"{assignment}.ipynb"
        if not path.exists():
            raise CourseError(f"{assignment} is not released in {self.course}: `solo class release` does that.")
        return nbformat.read(path, as_version=4)

    def submissions(self, assignment: str) -> dict[str, Path]:
        """The folder of each student who has handed in, by name."""
        pattern = self.folder("submitted", "*", assignment)
        depth = pattern.parts.index("*")
        return {Path(p).parts[depth]: Path(p) for p in sorted(glob.glob(str(pattern))) if Path(p).is_dir()}

    def book(self, assignment: str, student: str, staged: Path, result: Result, notes: tuple[str, ...]) -> None:
        """Let nbgrader autograde what is `staged` for one student, with our result in place of an execution.

        Raises `NotBooked`.
        """
        converter = Autograde(coursedir=self._folders, parent=self._app)
        execution = Prepared(result, notes)
        # All metadata of what is staged are the release's own: nbgrader need not doubt them, twice, cell by cell.
        for steps in ("sanitize_preprocessors", "autograde_preprocessors"):
            own = [step for step in getattr(converter, steps) if step is not CheckCellMetadata]
            setattr(converter, steps, [execution if step is Execute else step for step in own])
        self._convert(converter, assignment, student, submitted=staged)
        if result.flags:
            self._leave_to_a_person(assignment, student)

    def feedback(self, assignment: str, student: str) -> Path:
        """Let nbgrader write a student's feedback; its folder. Raises `NotBooked`."""
        self._convert(GenerateFeedback(coursedir=self._folders, parent=self._app), assignment, student)
        return self.folder("feedback", student, assignment)

    def marks(self, assignment: str) -> dict[str, dict[str, float | None]]:
        """The automatic marks in the gradebook, by student and graded cell."""
        with self.gradebook() as gradebook:
            try:
                submissions = gradebook.assignment_submissions(assignment)
            except MissingEntry:
                return {}
            return {s.student.id: {g.name: g.auto_score for n in s.notebooks for g in n.grades} for s in submissions}

    @property
    def db_url(self) -> str:
        """Where the gradebook is: nbgrader's `db_url`, the course's own file unless the course says otherwise."""
        return self._folders.db_url

    def gradebook(self) -> Gradebook:
        """The gradebook, to be closed."""
        return Gradebook(self.db_url, self._folders.course_id)

    def _convert(self, converter: BaseConverter, assignment: str, student: str, **folders: Path) -> None:
        """Run one of nbgrader's converters for one student; `submitted` may be elsewhere for once."""
        converter.force = True
        before = {name: getattr(self._folders, name) for name in ("assignment_id", "student_id", "submitted_directory")}
        self._folders.assignment_id, self._folders.student_id = assignment, glob.escape(student)
        if "submitted" in folders:
            self._folders.submitted_directory = str(folders["submitted"])
        self._said.lines.clear()
        try:
            with _one_engine():
                converter.start()
        except (NbGraderException, OSError, ValueError) as error:
            raise NotBooked(self._said.reason or str(error)) from None
        finally:
            for name, value in before.items():
                setattr(self._folders, name, value)

    def _leave_to_a_person(self, assignment: str, student: str) -> None:
        """Withhold the automatic marks: a person decides in the formgrader."""
        with self.gradebook() as gradebook:
            for notebook in gradebook.find_submission(assignment, student).notebooks:
                for grade in notebook.grades:
                    if grade.auto_score is not None:
                        grade.auto_score, grade.needs_manual_grade = 0.0, True
            gradebook.db.commit()


class Prepared(NbGraderPreprocessor):
    """Takes the place of nbgrader's `Execute`: fills in what has been executed and checked elsewhere."""

    def __init__(self, result: Result, notes: tuple[str, ...], **settings: Any) -> None:
        super().__init__(**settings)
        self._result, self._notes = result, notes

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Outputs into their cells, marks and cards into the checks', and on top what the grader met."""
        exercises = {f"{CHECK}{e.name}": e for e in self._result.report.exercises}
        unit = find(self._result.report.unit)
        for i, cell in enumerate(nb.cells):
            if cell.cell_type != "code":
                continue
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if is_grade(cell) and name in exercises:
                cell.outputs = [_mark(exercises[name], cell.metadata.nbgrader.points, unit)]
            elif is_grade(cell):
                cell.outputs = [_nothing_earned()]
            else:
                cell.outputs = [nbformat.from_dict(output) for output in self._result.outputs.get(i, [])]
        if met := [*self._notes, *(f"{p[0].upper()}{p[1:]}." for p in self._result.report.problems), *self._flags()]:
            text = "\n".join(["**What the grader met**", "", *(f"- {_plain(line)}" for line in met)])
            nb.cells.insert(0, v4.new_markdown_cell(text, id="what-the-grader-met"))
        return nb, resources

    def _flags(self) -> Iterator[str]:
        if self._result.flags:
            yield "The automatic marks are withheld until a person has looked at this submission."


def _mark(exercise: ExerciseReport, points: float, unit: Unit) -> NotebookNode:
    """What nbgrader reads a mark from, and the student a card."""
    score = Score(exercise, worth=min(exercise.points, points), unit=unit)
    return v4.new_output("execute_result", data={"text/plain": repr(score), "text/html": score._repr_html_()})


def _nothing_earned() -> NotebookNode:
    """For a check that no checker answers to: nbgrader would give full marks for no output."""
    return v4.new_output("execute_result", data={"text/plain": "0.0"})


def _plain(line: str) -> str:
    return " ".join(line.split()).replace("<", "&lt;")


class _Said(logging.Handler):
    """What nbgrader logs while it works."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.lines.append(record.getMessage())

    @property
    def reason(self) -> str:
        """The exception that it logged, if it did."""
        logged = [line.strip() for text in self.lines for line in text.splitlines() if "Error: " in line]
        return logged[-1] if logged else ""


_engine = cache(nbgrader.api.create_engine)


@contextmanager
def _one_engine() -> Iterator[None]:
    """Let nbgrader, which opens its gradebook nine times for a submission, keep what it has learnt from the first."""
    with patch.object(nbgrader.api, "create_engine", _engine):
        yield


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
