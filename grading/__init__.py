"""The engine of PyTorch Solo Leveling: build, run, report, progress and the command line.

A notebook needs one line: `check, hint, reveal = unit("phase1/lab1")`. After `solo check`, `review()` shows in it what
the coach says.
"""

from grading.coach.desk import practice
from grading.notebook import mark_as_read, review, unit
from grading.quizzes.desk import quiz, sitting

__all__ = ["mark_as_read", "practice", "quiz", "review", "sitting", "unit"]
