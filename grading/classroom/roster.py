"""Who is in the class: a learning platform's table of participants, taken into nbgrader's list of students."""

import csv
from collections.abc import Mapping
from pathlib import Path

from grading.classroom.books import Books
from grading.classroom.collect import plain_name

COLUMNS = {
    "id": ("username", "sis login id", "login id", "id", "email address", "email"),
    "first_name": ("first name", "given name", "first_name"),
    "last_name": ("last name", "surname", "family name", "last_name"),
    "email": ("email address", "email"),
    "lms_user_id": ("id number", "id", "lms_user_id"),
}
"""For each of nbgrader's fields, the headings that mean it, the best first: those of Moodle, Canvas and nbgrader."""
FULL_NAME = "student"
"""Canvas's heading of `Last, First`."""


class RosterError(ValueError):
    """A table that cannot be read as a class; the message says what it lacks."""


def take_in(books: Books, table: Path) -> list[str]:
    """Add the people in a CSV file to the gradebook, or bring them up to date; their ids. Nobody is removed.

    Raises `RosterError` for a file that is no such table.
    """
    people = _read(table)
    with books.gradebook() as gradebook:
        for person in people:
            gradebook.update_or_create_student(person["id"], **{k: v for k, v in person.items() if k != "id"})
    return [person["id"] for person in people]


def _read(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [{(k or "").strip().lower(): (v or "").strip() for k, v in row.items() if not isinstance(v, list)}
                    for row in csv.DictReader(file)]  # fmt: skip
    except (UnicodeDecodeError, csv.Error) as error:
        raise RosterError(f"{table} is no CSV file in UTF-8: {error}.") from None
    people = [person for row in rows if (person := _person(row))["id"]]
    if not people:
        raise RosterError(f"{table} has no column of user names: one of {', '.join(COLUMNS['id'])}.")
    doubled = sorted({p["id"] for p in people if sum(q["id"] == p["id"] for q in people) > 1})
    if doubled:
        raise RosterError(f"{table} has several rows of {', '.join(doubled)}: which one is right?")
    return people


def _person(row: Mapping[str, str]) -> dict[str, str]:
    person = {field: next((row[name] for name in names if row.get(name)), "") for field, names in COLUMNS.items()}
    if not person["last_name"] and "," in row.get(FULL_NAME, ""):
        person["last_name"], person["first_name"] = (part.strip() for part in row[FULL_NAME].split(",", 1))
    return person | {"id": plain_name(person["id"])}
