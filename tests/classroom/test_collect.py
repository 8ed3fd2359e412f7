"""Collecting: folders and zips as platforms make them, and nothing from outside them."""

import stat
import zipfile
from pathlib import Path

import pytest

from grading.classroom.books import Books
from grading.classroom.collect import CollectError, collect, student_of
from grading.classroom.intake import digest_of

LAB = "lab9_tiny"


def states(course: Path, source: Path) -> dict[str, str]:
    return {one.student: one.state for one in collect(Books(course), LAB, source)}


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("amy", "amy"),
        ("Amy Lovelace_12345_assignsubmission_file_", "Amy-Lovelace"),
        ("lovelaceamy_LATE_123_4567_lab9_tiny.ipynb", "lovelaceamy"),
        ("lovelaceamy_123_4567_lab9_tiny-2.ipynb", "lovelaceamy"),
        ("amy@example.org.ipynb", "amy@example.org"),
        ("../../etc.ipynb", "etc"),
        ("[a-z]*", "a-z"),
        ("…", ""),
    ],
)
def test_whose_it_is(name, student, tmp_path):
    path = tmp_path / Path(name).name
    if path.suffix == ".ipynb":
        path.touch()
    assert student_of(path) == student


def test_a_folder_of_students(course, solved, tmp_path):
    source = tmp_path / "handed-in"
    for student in ("amy", "bob"):
        (source / student).mkdir(parents=True)
        (source / student / f"{LAB}.ipynb").write_text(solved())
    (source / "cleo.ipynb").write_text(solved())
    (source / "notes.txt").write_text("not a submission")
    assert states(course, source) == {"amy": "new", "bob": "new", "cleo": "new"}
    assert states(course, source) == {"amy": "same", "bob": "same", "cleo": "same"}
    (source / "amy" / f"{LAB}.ipynb").write_text(solved(softmax="pass"))
    before = digest_of(course / "submitted" / "amy" / LAB)
    assert states(course, source)["amy"] == "changed"
    (kept,) = (course / ".solo" / "replaced").iterdir()
    assert digest_of(kept) == before
    assert Books(course).submissions(LAB).keys() == {"amy", "bob", "cleo"}


def test_a_zip_keeps_to_its_own_folder(course, solved, tmp_path):
    source = tmp_path / "all.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("amy/lab.ipynb", solved())
        archive.writestr("../escaped.ipynb", solved())
        archive.writestr("/absolute.ipynb", solved())
        link = zipfile.ZipInfo("bob.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert states(course, source) == {"amy": "new"}
    assert not list(tmp_path.parent.glob("**/escaped.ipynb"))


def test_two_of_the_same_name_are_told(course, solved, tmp_path):
    source = tmp_path / "handed-in"
    source.mkdir()
    for name in ("amy_1_2_lab.ipynb", "amy_1_3_lab.ipynb"):
        (source / name).write_text(solved())
    assert list(states(course, source).values()) == [
        "left out: amy_1_3_lab.ipynb is a second submission of the same name"
    ]


def test_what_is_neither_is_refused(course, tmp_path):
    (tmp_path / "marks.csv").write_text("no")
    with pytest.raises(CollectError, match="neither a folder nor a zip"):
        states(course, tmp_path / "marks.csv")
