"""What goes back to students: nbgrader's page with every card, and a `progress.json` to merge into their own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from grading.classroom.books import Books, NotBooked
from grading.gradebook import write_grades


def feedback(books: Books, assignment: str) -> Iterator[tuple[str, str | None]]:
    """Write the feedback of every graded student; each student, and why it could not be written, if it could not."""
    records = books.course / ".solo" / "records"
    for student, _, record in write_grades(books.course, assignment, records, books.db_url):
        try:
            folder = books.feedback(assignment, student)
        except NotBooked as error:
            yield student, str(error)
        else:
            shutil.copyfile(record, Path(folder, "progress.json"))
            yield student, None
