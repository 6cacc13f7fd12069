"""Tables of points that Moodle and Canvas import."""

import csv

from . import statistics
from .scores import cell, replacing

MOODLE = ["ID number", "Email address", "Full name"]  # Moodle asks which column identifies a student
CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]  # in this order, before the assignments


def write(folder, records, known, classroom):
    """Write ``moodle.csv`` and ``canvas.csv`` into `folder`, in UTF-8 with a byte order mark.

    A student of the roster who handed in nothing has empty cells: an import leaves the points as they are.
    """
    best = statistics.best(records)
    assignments = [a for a in known if any(name == a.name for _, name in best)]
    students = [(name, classroom.student(name) or {"name": name}) for name in sorted({name for name, _ in best})]
    listed = [student for _, student in students]
    students += [(None, student) for student in classroom.students if not any(student is s for s in listed)]
    moodle, canvas = (
        [],
        [["    Points Possible", "", "", "", "", *(sum(t.points for t in a.tasks) for a in assignments)]],
    )
    for name, student in students:
        found = [best.get((name, a.name)) for a in assignments]
        points = [record["counted"] if record else "" for record in found]
        feedback = [_feedback(record) for record in found]
        fields = {key: cell(student.get(key, "")) for key in ("name", "id", "email", "login", "canvas", "section")}
        both = [value for pair in zip(points, feedback) for value in pair]
        moodle.append([fields["id"], fields["email"], fields["name"], *both])
        canvas.append([fields["name"], *(fields[k] for k in ("canvas", "id", "login", "section")), *points])
    titles = [a.title for a in assignments]
    columns = [c for title in titles for c in (title, f"{title} (feedback)")]
    _table(folder / "moodle.csv", [[*MOODLE, *columns], *moodle])
    _table(folder / "canvas.csv", [[*CANVAS, *titles], *canvas])


def _feedback(record):
    """The points of each task, and the days late, in one line."""
    if not record:
        return ""
    late = f"{record['days_late']} days late; " if record["days_late"] else ""
    return late + ", ".join(f"{t['number']}: {t['points']} of {t['out_of']}" for t in record["tasks"])


def _table(path, rows):
    with replacing(path) as file:
        csv.writer(file).writerows(rows)
