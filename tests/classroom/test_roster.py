"""Learning platforms' tables of participants are understood, and nothing is taken in from what is none."""

import pytest

from grading.classroom.books import Books
from grading.classroom.roster import RosterError, take_in

MOODLE = "\ufeffFirst name,Last name,ID number,Username,Email address\nAda,Lovelace,17,ada,ada@example.org\n"
CANVAS = 'Student,ID,SIS User ID,SIS Login ID,Section\n"Hopper, Grace",99,u1,grace,A\n,,,,\n'


def students(course):
    with Books(course).gradebook() as gradebook:
        return {s.id: (s.first_name, s.last_name, s.email or "", s.lms_user_id or "") for s in gradebook.students}


def test_tables_of_moodle_and_canvas_are_taken_in_and_brought_up_to_date(course, tmp_path, solo):
    for name, text in (("moodle.csv", MOODLE), ("canvas.csv", CANVAS)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        code, said, _ = solo("class", "roster", str(tmp_path / name), "--course", str(course))
        assert (code, said) == (0, "1 students are in the gradebook's list.\n")
    assert students(course) == {
        "ada": ("Ada", "Lovelace", "ada@example.org", "17"),
        "grace": ("Grace", "Hopper", "", "99"),
    }
    (tmp_path / "moodle.csv").write_text(MOODLE.replace("ada@example.org", "countess@example.org"), encoding="utf-8")
    take_in(Books(course), tmp_path / "moodle.csv")
    assert students(course)["ada"][2] == "countess@example.org"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column of user names"),
        ("colour,size\nred,3\n", "has no column of user names"),
        ("username\nada\nada\n", "several rows of ada"),
        (b"\xff\xfe\x00", "no CSV file in UTF-8"),
    ],
)
def test_what_is_no_class_is_refused(course, tmp_path, text, says):
    table = tmp_path / "table.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RosterError, match=says):
        take_in(Books(course), table)
    assert students(course) == {}
