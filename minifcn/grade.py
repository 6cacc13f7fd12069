"""``python -m minifcn.grade FILE...``: grade submissions to the course's assignments, offline."""

import csv
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from .cli import Parser, at_least, command, json_file, numbers, write_json
from .errors import UserError

SUFFIXES = (".ipynb", ".py")


@dataclass
class Submission:
    """A file that was handed in, and what became of it."""

    path: Path
    student: str
    assignment: object
    sources: list
    results: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    points = property(lambda self: sum(t.points for t in self.results))
    out_of = property(lambda self: sum(t.out_of for t in self.results))


def parser():
    """The flags of this command."""
    p = Parser("grade", "Grade submissions to the course's assignments: points, and a page of feedback each.")
    p.add_argument(
        "paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="notebooks, modules, or folders of them"
    )
    p.add_argument("--task", type=numbers, metavar="N.M", help="grade these tasks only: 2.1,2.3")
    p.add_argument("--out", type=Path, metavar="DIR", help="for scores.csv and pages (graded, or graded-2.1 of a task)")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the results there, too ("-": standard output)')
    p.add_argument("--timeout", type=at_least(0.1, float), default=10.0, metavar="S", help="seconds for one answer")
    p.add_argument("--workers", type=at_least(1), default=os.cpu_count() or 1, help="submissions at a time")
    p.add_argument("--seed", type=at_least(0), help="of what is drawn; a page says its own (default: a fresh one)")
    return p


@command
def main(argv=None):
    """Grade, from the command line."""
    args = parser().parse(argv)
    if os.name != "posix":
        raise UserError("grading takes Linux or macOS: a submission's memory cannot be limited here")
    from .course import feedback, judge, tasks  # not on Windows

    known = tasks.assignments()
    tasks.require(args.task, known)
    handed_in = [submission(path, known) for path in found(args.paths)]
    seed = secrets.randbelow(2**32) if args.seed is None else args.seed
    examiners = {a.name: judge.Examiner(a, seed, args.timeout) for a in known}
    # the pages and rows of some tasks do not take the place of those of all
    folder = args.out or Path("-".join(["graded", *(args.task or ())]))
    folder.mkdir(parents=True, exist_ok=True)

    def grade(one):
        if one.assignment:
            one.results = examiners[one.assignment.name].grade(one.sources, args.task)
        return one

    graded, pages = [], set()
    pool = ThreadPoolExecutor(args.workers)
    try:
        for one in tqdm(pool.map(grade, handed_in), total=len(handed_in), unit="submission", disable=None):
            graded.append(one)
            if one.assignment:
                notes = [*one.notes, f"Graded with seed {seed}."]
                html = feedback.page(one.student, one.assignment.title, one.results, notes)
                pages.add(page := page_of(one, folder, pages))
                page.write_text(html, encoding="utf-8", errors="replace")
    finally:  # interrupted, it ends with those it is at, and keeps what it has
        pool.shutdown(cancel_futures=True)
        write_scores(folder / "scores.csv", graded)
    screen = sys.stderr if args.json == "-" else sys.stdout
    print(*(lines_of(one, detailed=len(graded) == 1) for one in graded), sep="\n", file=screen)
    print(f"{folder / 'scores.csv'}, and a page of feedback each beside it", file=screen)
    if args.json:
        write_json(args.json, {"seed": seed, "submissions": [as_json(one) for one in graded]})


def found(paths):
    """The notebooks and modules that `paths` name or hold, in order."""
    files = []
    for path in paths:
        if path.is_dir():
            # no links: what a student may not read would be handed in, and come back as feedback
            inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file() and not p.is_symlink())
            files += [p for p in inside if not any(part.startswith((".", "__")) for part in p.relative_to(path).parts)]
        elif path.suffix not in SUFFIXES:
            raise UserError(f"{path} is no .ipynb, .py or folder of them")
        elif not path.is_file():
            raise UserError(f"there is no file {path}; check the path")
        else:
            files.append(path)
    if not files:
        raise UserError(f"there is nothing to grade in {', '.join(map(str, paths))}: no .ipynb and no .py")
    return files


def submission(path, known):
    """A file as a submission: whose, and to which assignment.  What cannot be read answers nothing."""
    from .course.cells import read_cells

    by_name = {a.name: a for a in known}
    near = [
        path.stem,
        *(p.name for p in path.resolve().parents),
    ]  # a2.ipynb, ann/a2.ipynb, ann/a2/a2.ipynb, ann_a2.ipynb
    student = next(name for name in near if name not in by_name)
    assignment = next((a for name, a in by_name.items() if name in path.stem), None)
    if assignment:
        student = student.replace(assignment.name, "").strip("_- ") or student
    try:
        cells, notes = read_cells(path), []
    except UserError as error:
        cells, notes = [], [str(error)]
    if not assignment:
        numbers, text = {c.task for c in cells}, "\n".join(c.source for c in cells)
        assignment = next((a for a in known if any(t.number in numbers or t.is_named_in(text) for t in a.tasks)), None)
        if not assignment:
            notes.append("neither its name nor a cell that begins with `# Task N.M` says which assignment it answers")
    student = os.fsencode(student).decode("utf-8", "replace")  # what is no UTF-8 can be written nowhere
    return Submission(path, student, assignment, [c.source for c in cells if c.kind == "code"], notes=notes)


def page_of(one, folder, taken):
    """Where the feedback on a submission goes: named as its file, and numbered where that is `taken`."""
    student = one.student.encode()[:150].decode(errors="ignore")  # a system's names have 255 bytes
    name = f"{student}_{one.assignment.name}{'' if one.path.suffix == '.ipynb' else '_py'}"
    numbered = (folder / f"{name}{n}.html" for n in ("", *(f"_{i}" for i in range(2, len(taken) + 3))))
    return next(path for path in numbered if path not in taken)


def write_scores(path, handed_in):
    """A row a submission: who, what, the points of each task and in all.  Rows of files graded earlier stay."""
    rows = {}
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            rows = {row["file"]: row for row in csv.DictReader(file)}
    for one in handed_in:
        file = cell(os.fsencode(one.path).decode("utf-8", "replace"))
        rows[file] = {
            "student": cell(one.student), "assignment": one.assignment.name if one.assignment else "",
            **{t.number: t.points for t in one.results}, "points": one.points, "out_of": one.out_of,
            "file": file, "note": cell(printable(" ".join(one.notes))),
        }  # fmt: skip
    first, last = ["student", "assignment"], ["points", "out_of", "file", "note"]
    tasks = sorted({name for row in rows.values() for name in row} - {*first, *last})
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*first, *tasks, *last], restval="")
        writer.writeheader()
        writer.writerows(rows.values())


def cell(text):
    """A text as a spreadsheet shall show it: one that begins as a formula does would be worked out there."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def lines_of(one, detailed):
    """A submission in a line, or with each task and what was wrong with it."""
    if not one.results:
        return printable(f"{one.student:<20} not graded: {' '.join(one.notes)}")
    tasks = "  ".join(f"{t.number}: {t.points}/{t.out_of}" for t in one.results)
    lines = [f"{one.student:<20} {one.points:>3} of {one.out_of}   {tasks}"]
    for t in one.results if detailed else ():
        lines += ["", f"Task {t.number}: {t.title} ({t.points} of {t.out_of})", *(f"      {says}" for says in t.says)]
        for c in t.checks:
            lines += [f"  {'✓' if c.points == c.out_of else '✗'}  {c.title} ({c.points} of {c.out_of})"]
            lines += [f"      {says}" for says in c.says]
    return printable("\n".join(lines))


def printable(text):
    """A text of a student's without what would steer a terminal, or could not be written."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def as_json(one):
    """A submission as plain data."""
    return {
        "student": one.student, "file": os.fsencode(one.path).decode("utf-8", "replace"),
        "assignment": one.assignment and one.assignment.name,
        "points": one.points, "out_of": one.out_of, "notes": one.notes,
        "tasks": [
            {
                "number": t.number, "title": t.title, "points": t.points, "out_of": t.out_of, "says": t.says,
                "checks": [dict(title=c.title, points=c.points, out_of=c.out_of, says=c.says) for c in t.checks],
            }
            for t in one.results
        ],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
