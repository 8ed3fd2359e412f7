"""A unit as an nbgrader assignment: the course's folder, the instructor's source, and the version students get."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat

from grading.build import source_text
from grading.units import Unit

COURSE_CONFIG = '''"""nbgrader's settings for this course: those the labs are built with, then your own."""

import os

from grading.nbgrader_config import settings

c = get_config()  # noqa: F821 - nbgrader defines it
c.merge(settings())
c.CourseDirectory.course_id = os.environ.get("SOLO_COURSE", "pytorch-solo-leveling")  # a class's server sets it
'''


class ReleaseError(RuntimeError):
    """nbgrader refused the release; the message is what it said."""


def release(unit: Unit, course: Path) -> Path:
    """Write `unit` into the course's `source/` and let nbgrader make the students' version, whose path is returned.

    An `nbgrader_config.py` that is there already is left as it is.
    """
    if not unit.layout:
        raise ReleaseError(f"{unit.id} has no exercises: there is nothing in it to be graded.")
    place = Path(unit.assignment, f"{unit.assignment}.ipynb")
    source = course / "source" / place
    source.parent.mkdir(parents=True, exist_ok=True)
    if unit.kind == "project":
        shutil.copytree(unit.starter, source.parent, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    source.write_text(_text(unit, course), encoding="utf-8", newline="\n")
    config = course / "nbgrader_config.py"
    if not config.exists():
        config.write_text(COURSE_CONFIG, encoding="utf-8")
    run = nbgrader("generate_assignment", unit.assignment, "--force", course=course)
    # A configuration that cannot be read is no error to nbgrader: it would go on with settings that are not ours.
    if run.returncode or "Exception while loading config file" in run.stderr:
        raise ReleaseError(f"nbgrader cannot release {unit.assignment}: {_reason(run.stderr)}")
    return course / "release" / place


def _text(unit: Unit, course: Path) -> str:
    """The instructor's notebook; of a quiz, the paper that the class gets."""
    if unit.kind != "quiz":
        return source_text(unit)
    from grading.classroom.exam import draw_paper
    from grading.quizzes.paper import class_notebook

    return nbformat.writes(class_notebook(draw_paper(unit, course))) + "\n"


def nbgrader(*arguments: str, course: Path) -> subprocess.CompletedProcess[str]:
    """Run an nbgrader command in the folder of a course."""
    # Its first gradebook starts `alembic` by name, which only an activated environment would find.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(command, cwd=course, env={**os.environ, "PATH": path}, capture_output=True, text=True)


def _reason(log: str) -> str:
    """The exception at the end of nbgrader's log, or all of it."""
    errors = re.findall(r"^\s*([\w.]+(?:Error|Exception): .+)$", log, re.MULTILINE)
    return errors[-1] if errors else log.strip()
