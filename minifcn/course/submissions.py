"""Find submitted files, their students and their assignments, and print the points."""

import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from .cells import read_cells
from .sentences import say
from .texts import printable

SUFFIXES = (".ipynb", ".py")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


@dataclass
class Submission:
    """A submitted file and, once graded, its results."""

    path: Path
    student: str
    assignment: object
    sources: list
    results: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    helpers: set = field(default_factory=set)  # the files beside it that it imports
    page: Path | None = None
    days_late: int = 0
    counted: float = 0.0  # the points, after the penalty for lateness

    points = property(lambda self: sum(t.points for t in self.results))
    out_of = property(lambda self: sum(t.out_of for t in self.results))


def found(paths):
    """The notebooks and modules in `paths`, which may be files or folders, and the files that are skipped.

    Returns
    -------
    files : list of (Path, bool)
        Each file, and whether it lies in a subfolder of the given folder.
    skipped : list of (Path, str)
        Each skipped file, and the reason.  Names that begin with ``.`` or ``__`` are ignored without a note.
    """
    files, skipped = [], []
    for path in paths:
        if path.is_dir():
            for inside in sorted(path.rglob("*")):
                parts = inside.relative_to(path).parts
                if any(part.startswith((".", "__")) for part in parts):
                    continue
                if why := _why_skipped(inside):
                    skipped.append((inside, why))
                elif inside.is_file():
                    files.append((inside, len(parts) > 1))
        elif path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path} is neither an .ipynb or .py file nor a folder: give one of these")
        elif not path.is_file():
            raise UserError(f"there is no file {path}; check the path")
        else:
            files.append((path, False))
    return files, skipped


def _why_skipped(path):
    """The reason to skip a path found in a folder; None for notebooks, modules and folders."""
    suffix = path.suffix.lower()
    if path.is_symlink():  # a link could point to a file that the student may not read, and the feedback would quote it
        return "it is a link: hand in the file itself"
    if path.is_dir():
        return None
    if suffix in ARCHIVES:
        return "it is an archive: unpack it, and grade again"
    if suffix not in SUFFIXES:
        return "it is neither a notebook nor a module"
    return None if path.is_file() else "it is not a regular file"


def submission(path, known, inside=False):
    """Read a file as a :class:`Submission`, with its student and assignment; a file that cannot be read has no sources.

    The student of ann/a2.ipynb, ann/a2/a2.ipynb, ann/a2 (1).ipynb and ann_a2.py is ann; that of ann/anything.py, too,
    if `inside` says that ann is a subfolder of the class's folder.
    """
    by_name = {a.name: a for a in known}
    folder = _without_numbers(next(p.name for p in path.resolve().parents if p.name not in by_name))
    assignment = next((a for name, a in by_name.items() if name in path.stem.lower()), None)
    if assignment:
        rest = re.sub(rf"{assignment.name}(-\d+$)?|\(\d+\)|\bcopy( of)?\b", "", path.stem, flags=re.IGNORECASE).strip(
            "_- "
        )
        student = _without_numbers(rest) if re.search(r"\w", rest) else folder
    else:
        student = folder if inside else path.stem
    # macOS writes 김 in a file's name as three characters, which would be another student in a table
    student = unicodedata.normalize("NFC", student)
    try:
        cells, notes = read_cells(path), []
    except UserError as error:
        cells, notes = [], [str(error).replace(str(path), path.name)]
    if lost := [str(number) for number, cell in enumerate(cells, 1) if cell.kind == "unreadable"]:
        notes.append(f"these cells cannot be read and were left out: number {', '.join(lost[:10])}")
    if not assignment:
        numbers, text = {c.task for c in cells}, "\n".join(c.source for c in cells)
        assignment = next((a for a in known if any(t.number in numbers or t.is_named_in(text) for t in a.tasks)), None)
        if not assignment:
            notes.append("neither its name nor a cell that begins with `# Task N.M` says which assignment it answers")
    student = os.fsencode(student).decode("utf-8", "replace")  # a file name need not be UTF-8, but the table is
    sources = [c.source for c in cells if c.kind == "code"]
    helpers = {name for name in _imported(sources) if name != path.stem and _is_beside(path, name)}
    for name in sorted(helpers):
        helper = (
            "it imports `{name}`, a file beside it: only the file that is handed in is run, so put the code of "
            "{name}.py into one of its cells"
        )
        notes.append(helper.format(name=name))
    return Submission(path, student, assignment, sources, notes=notes, helpers=helpers)


def _without_numbers(name):
    """A student's name without what Moodle and Canvas append to it in the names of downloaded files."""
    return re.sub(r"(_LATE)?(_\d+_\d+_?|_\d+_assignsubmission_file_?)$", "", name) or name


def _imported(sources):
    """The names of the modules that the cells import."""
    text = "\n".join(sources)
    found = re.findall(r"^[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import\b|import[ \t]+([\w., \t]+))", text, re.M)
    many = (part.split()[0].split(".")[0] for _, names in found for part in names.split(",") if part.strip())
    return {one for one, _ in found if one} | set(many)


def _is_beside(path, name):
    return (path.parent / f"{name}.py").is_file() or (path.parent / name / "__init__.py").is_file()


def collected(paths, known):
    """The submissions in `paths`, and the files that are not graded, as pairs of a path and the reason."""
    files, ungraded = found(paths)
    every = [submission(path, known, inside) for path, inside in files]
    users = {(one.path.parent, name): one for one in every for name in one.helpers}
    handed_in = []
    for one in every:
        user = users.get((one.path.parent, one.path.stem))
        if one.assignment or not user:
            handed_in.append(one)
        else:
            ungraded.append((one.path, f"it answers no task; {user.path.name} imports it"))
    several = Counter((one.student, one.assignment) for one in handed_in)
    for one in handed_in:
        if one.assignment and (count := several[one.student, one.assignment]) > 1:
            one.notes.append(
                "{student} handed in {count} files for this assignment".format(student=one.student, count=count)
            )
    return handed_in, ungraded


def lines_of(one, detailed):
    """A submission's points in one line; if `detailed`, also each task and check with what is wrong."""
    if not one.results:
        return printable(f"{one.student:<20} {say('not graded')}: {' '.join(map(say, one.notes))}")
    tasks = "  ".join(f"{t.number}: {t.points}/{t.out_of}" for t in one.results)
    points = say("{points} of {out_of}".format(points=f"{one.points:>3}", out_of=one.out_of))
    lines = [f"{one.student:<20} {points}   {tasks}", *(map(say, one.notes) if detailed else ())]
    for t in one.results if detailed else ():
        title = say("Task {number}: {title}".format(number=t.number, title=t.title))
        lines += ["", f"{title} ({_points(t)})", *(f"      {say(says)}" for says in t.says)]
        for c in t.checks:
            lines += [f"  {'✓' if c.points == c.out_of else '✗'}  {say(c.title)} ({_points(c)})"]
            lines += [f"      {say(says)}" for says in c.says]
            lines += [f"          {line}" for line in c.code.split("\n") if c.code]
    return printable("\n".join(lines))


def _points(part):
    return say("{points} of {out_of}".format(points=part.points, out_of=part.out_of))


def as_json(one):
    """A submission and its results as plain data, for JSON."""
    return {
        "student": printable(one.student), "file": os.fsencode(one.path).decode("utf-8", "replace"),
        "assignment": one.assignment and one.assignment.name, "points": one.points, "out_of": one.out_of,
        "days_late": one.days_late, "counted": one.counted, "notes": list(map(printable, one.notes)),
        "tasks": [
            {
                "number": t.number, "title": t.title, "points": t.points, "out_of": t.out_of,
                "says": list(map(printable, t.says)), "checks": list(map(_check, t.checks)),
            }
            for t in one.results
        ],
    }  # fmt: skip


def _check(check):
    says = list(map(printable, check.says))
    return dict(title=check.title, points=check.points, out_of=check.out_of, says=says, code=check.code)
