"""The class file and the roster: whose submission it is, when it is due, and what lateness costs."""

import re
from datetime import UTC, datetime

import pytest

from minifcn.errors import UserError

pytestmark = pytest.mark.course

tasks = pytest.importorskip("minifcn.course.tasks", reason="pip install 'minifcn[course]'")
from minifcn.course import classroom, gradebooks  # noqa: E402

DUE = 1_775_000_000  # seconds since 1970
CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,A2 (77)
    Points Possible,,,,,20
"Kim, Chulsu",31,2024,kimc,S1,
"""
ROSTERS = {
    CANVAS: (
        "kimc", {"name": "Kim, Chulsu", "canvas": "31", "id": "2024", "login": "kimc", "section": "S1"}),
    "First name;Last name;ID number;Email address\n철수;김;2024;k@x\n": (
        "김철수", {"name": "철수 김", "id": "2024", "email": "k@x"}),
    "file,name\nchul,김철수\n": ("chul", {"name": "김철수"}),
    "name,id,email\n김철수,2024,k@x\n": ("2024", {"name": "김철수", "id": "2024", "canvas": "", "email": "k@x"}),
    "Student,ID,SIS Login ID,Section\n김철수,31,kimc,S1\n": ("kimc", {"id": "", "canvas": "31"}),
    "Student,ID,Section,A2 (77)\n    Points Possible,,,20\n김철수,31,S1,\n": ("김철수", {"id": "", "canvas": "31"}),
    "id,name,학번\n7,김철수,2024\n": ("2024", {"name": "김철수", "id": "2024"}),
    "이름,성,학번,이메일 주소\n철수,김,2024,k@x\n": (
        "김철수", {"name": "김 철수", "first": "철수", "last": "김", "id": "2024", "email": "k@x"}),
    "성,이름\n김,철수\n": ("김철수", {"name": "김 철수"}),
}  # fmt: skip


@pytest.mark.parametrize("text", ROSTERS, ids=lambda text: text.split("\n")[0])
def test_a_list_that_moodle_or_canvas_exports_is_a_roster(tmp_path, text):
    (tmp_path / "r.csv").write_text(text, encoding="utf-8-sig")
    (student,) = classroom.read_roster(tmp_path / "r.csv")
    name, fields = ROSTERS[text]
    assert {key: value for key, value in student.items() if key in fields} == fields
    assert classroom.Classroom([student]).student(name) is student


@pytest.mark.parametrize("row", ['"Kim,1', '"Kim,1\n' + "x" * 200_000, '"Kim" Chulsu,1'])
def test_a_roster_with_a_wrong_quotation_mark_is_refused_in_a_sentence(tmp_path, row):
    (tmp_path / "r.csv").write_text(f"name,id\n{row}\nLee,2\n")
    with pytest.raises(UserError, match=r"r\.csv is not a CSV file .*: look for a quotation mark"):
        classroom.read_roster(tmp_path / "r.csv")


def test_moodle_gets_the_number_of_a_roster_as_in_the_documentation(tmp_path):
    (tmp_path / "r.csv").write_text("name,id,email\nann,2024,a@x\n")
    gradebooks.write(tmp_path, [], [], classroom.Classroom(classroom.read_roster(tmp_path / "r.csv")))
    last = {name: (tmp_path / f"{name}.csv").read_text().splitlines()[-1] for name in ("moodle", "canvas")}
    assert last == {"moodle": "2024,a@x,ann", "canvas": "ann,,2024,,"}


def test_two_students_of_one_name_are_not_guessed():
    fields = dict.fromkeys(classroom.COLUMNS, "")
    two = [{**fields, "name": "김철수", "id": number} for number in ("1", "2")]
    assert classroom.Classroom(two).student("김철수") is None and classroom.Classroom(two).student("2") is two[1]


WRONG = {
    "roster = 3": "roster is 3; it should be a text",
    "rooster = 'a'": "rooster is not known; there is deadlines, late, roster, site",
    "[deadlines]\na9 = 2026-01-01": "deadlines.a9 is not known",
    "[deadlines]\na2_convolution = 3": "it should be a time such as",
    "[late]\npercent_per_day = 200": "it should be a number from 0 to 100",
    "late = 3": "it should be a table: [late]",
    "= 3": "is not a TOML file in UTF-8",
    "roster = 'none.csv'": "none.csv: No such file",
    "roster = 'class.toml'": "has no column of students",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_class_file_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "class.toml").write_text(text)
    with pytest.raises(UserError, match=re.escape(WRONG[text])):
        classroom.read_class(tmp_path / "class.toml", {"a2_convolution"})


def test_days_begun_after_the_deadline_count():
    room = classroom.Classroom(deadlines={"a": datetime.fromtimestamp(DUE, UTC)}, percent_per_day=30, at_most=50)
    days = {-1: 0, 0: 0, 1: 1, 86_400: 1, 86_401: 2}
    assert {s: room.days_late("a", DUE + s) for s in days} == days and room.days_late("b", DUE + 9e9) == 0
    assert [room.counted(10, d) for d in range(4)] == [10, 7, 5, 5]
