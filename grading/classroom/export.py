"""Marks as a table that Canvas or Moodle imports."""

import csv
from pathlib import Path
from typing import Literal

from nbgrader.api import MissingEntry, SubmittedAssignment

from grading.classroom.books import Books, CourseError

Format = Literal["canvas", "moodle"]


def export(books: Books, assignment: str, to: Path, form: Format) -> int:
    """Write the marks of `assignment`, late penalties and a person's marks included; how many students there are.

    Names, addresses and numbers are those of nbgrader's student list; `solo class roster` fills it.
    """
    with books.gradebook() as gradebook, to.open("w", encoding="utf-8", newline="") as file:
        try:
            submissions = sorted(gradebook.assignment_submissions(assignment), key=lambda s: s.student.id)
        except MissingEntry:
            raise CourseError(f"The gradebook has no {assignment!r}: nothing is released or graded yet.") from None
        table = csv.writer(file)
        if form == "canvas":
            table.writerow(["Student", "ID", "SIS User ID", "SIS Login ID", "Section", assignment])
            highest = gradebook.find_assignment(assignment).max_score
            table.writerow(["Points Possible", "", "", "", "", f"{highest:g}"])
        else:
            table.writerow(["Username", "ID number", "Email address", "First name", "Last name", assignment])
        table.writerows(_row(submission, form) for submission in submissions)
        return len(submissions)


def _row(submission: SubmittedAssignment, form: Format) -> list[str]:
    student, score = submission.student, f"{round(_after_penalty(submission), 2):g}"
    number = student.lms_user_id or ""
    if form == "canvas":
        name = ", ".join(filter(None, [student.last_name, student.first_name])) or student.id
        return [name, number, "", student.id, "", score]
    return [student.id, number, student.email or "", student.first_name or "", student.last_name or "", score]


def _after_penalty(submission: SubmittedAssignment) -> float:
    return max(0.0, submission.score - submission.late_submission_penalty)
