"""The class file: who is in the class, when each assignment is due, and what lateness costs.

The file is TOML, and every part of it is optional::

    roster = "roster.csv"         # beside this file: the list that Moodle or Canvas exports, or one with these columns
    site = "https://…"            # the built documentation, for links to sections of the notebooks

    [deadlines]
    a2_convolution = 2026-04-10T23:59:00+09:00

    [late]
    percent_per_day = 10          # of the points, for each day that has begun
    at_most = 50
"""

import csv
import math
import tomllib
import unicodedata
from dataclasses import dataclass, field
from datetime import date, datetime, time

from ..errors import UserError
from .cells import encodings

COLUMNS = {  # a student's field: names of its column, in lower case
    "file": ("file", "file name"),
    "name": ("name", "full name", "student", "이름", "성명"),
    "id": ("id number", "sis user id", "student id", "학번"),
    "email": ("email", "email address", "이메일", "이메일 주소"),
    "login": ("sis login id", "login", "username"),
    "canvas": ("canvas id",),
    "section": ("section", "group"),
    "first": ("first name",),
    "last": ("last name", "surname", "성"),
}
DAY = 86_400  # seconds
KEYS = {"roster", "site", "deadlines", "late"}


@dataclass
class Classroom:
    """A class, without a class file an empty one.

    Attributes
    ----------
    students : list of dict
        Each student's fields (see ``COLUMNS``), as text; missing ones are "".
    deadlines : dict of {str: datetime}
        By the name of the assignment.
    percent_per_day, at_most : float
        The penalty, in percent of the points.
    site : str or None
    """

    students: list = field(default_factory=list)
    deadlines: dict = field(default_factory=dict)
    percent_per_day: float = 0.0
    at_most: float = 100.0
    site: str | None = None

    def student(self, name):
        """The fields of the student whose files have `name`; None if it is not in the roster, or not of one only."""
        wanted = _key(name)
        found = [s for s in self.students if wanted in map(_key, _names(s))]
        return found[0] if len(found) == 1 else None

    def days_late(self, assignment, when):
        """The days begun since the deadline of an assignment at time `when` (seconds since 1970); 0 without one."""
        due = self.deadlines.get(assignment)
        return max(0, math.ceil((when - due.timestamp()) / DAY)) if due else 0

    def counted(self, points, days):
        """The points that count for a submission that is `days` late."""
        percent = min(self.percent_per_day * days, self.at_most)
        return round(points * (1 - percent / 100), 2)


def _names(student):
    """The names that a student's files may have."""
    pairs = (student["first"] + student["last"], student["last"] + student["first"])
    return [n for n in (*(student[k] for k in ("file", "name", "id", "email", "login")), *pairs) if n]


def _key(name):
    """A name without blanks, case and forms of Unicode: macOS writes 김 as three characters in a file's name."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().replace(",", "").split())


def read_class(path, assignments):
    """The class that the TOML file at `path` describes.

    Parameters
    ----------
    path : Path
    assignments : collection of str
        The names of all assignments.

    Raises
    ------
    UserError
        If a file cannot be read, or has a key or a value that is not expected.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a TOML file in UTF-8 ({error})") from None
    _only(path, "", settings, KEYS)
    late, deadlines = _table(path, settings, "late"), _table(path, settings, "deadlines")
    _only(path, "late.", late, {"percent_per_day", "at_most"})
    _only(path, "deadlines.", deadlines, set(assignments))
    percents = {name: _percent(path, name, late.get(name, default)) for name, default in PERCENTS.items()}
    due = {name: _moment(path, name, value) for name, value in deadlines.items()}
    for name in ("roster", "site"):
        if not isinstance(settings.get(name, ""), str):
            raise UserError(f"{path}: {name} is {settings[name]!r}; it should be a text")
    roster = settings.get("roster")
    students = read_roster(path.parent / roster) if roster else []
    return Classroom(students, due, **percents, site=settings.get("site"))


PERCENTS = {"percent_per_day": 0, "at_most": 100}


def _only(path, prefix, table, allowed):
    if unknown := sorted(set(table) - allowed):
        raise UserError(f"{path}: {prefix}{unknown[0]} is not known; there is {', '.join(sorted(allowed))}")


def _table(path, settings, name):
    table = settings.get(name, {})
    if not isinstance(table, dict):
        raise UserError(f"{path}: {name} is {table!r}; it should be a table: [{name}]")
    return table


def _percent(path, name, value):
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise UserError(f"{path}: late.{name} is {value!r}; it should be a number from 0 to 100")
    return float(value)


def _moment(path, name, value):
    """A deadline; one without an offset is in the time of this computer, a date means its end."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time(23, 59, 59))
    raise UserError(f"{path}: deadlines.{name} is {value!r}; it should be a time such as 2026-04-10T23:59:00")


def read_roster(path):
    """The students in a CSV file, as dicts; a list that Moodle or Canvas exports is read, too.

    Raises
    ------
    UserError
        If the file cannot be read, is not CSV, or has no column of students.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    for encoding in encodings(data):
        try:
            text = data.decode(encoding).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
            break
        except (UnicodeError, LookupError):
            continue
    else:
        raise UserError(f"{path} is not a text file: save it as CSV in UTF-8")
    lines = text.splitlines()
    separator = max(",;\t", key=(lines or [""])[0].count)
    try:  # without strict, an open quotation mark takes all lines after it into one field, and their students are lost
        rows = list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file ({error}): look for a quotation mark that is not closed") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    at = _columns(header, bool({"sis user id", "sis login id"} & {*header}) or "Points Possible" in text)
    if not {"file", "name", "id", "email", "login", "last"} & at.keys():
        raise UserError(
            f"{path} has no column of students: its first line should name one, such as name, email or 학번"
        )
    students = []
    for row in rows[1:]:
        student = {key: row[at[key]].strip() if at.get(key, len(row)) < len(row) else "" for key in COLUMNS}
        if student["name"].startswith("Points Possible") or not _names(student):  # the second line of Canvas
            continue
        parts = (student["last"], student["first"]) if "성" in header else (student["first"], student["last"])
        student["name"] = student["name"] or " ".join(parts).strip() or _names(student)[0]
        students.append(student)
    return students


def _columns(header, from_canvas):
    """The number of the column of each field of a student."""
    at = {key: i for key, names in COLUMNS.items() for i, name in enumerate(header) if name in names}
    if {"성", "이름"} <= set(header):  # beside a family name, 이름 is the given name
        at["first"] = header.index("이름")
        at = {key: i for key, i in at.items() if (key, i) != ("name", at["first"])}
    if "id" in header:  # in Canvas's list, its own number of a student
        at.setdefault("canvas" if from_canvas else "id", header.index("id"))
    return at
