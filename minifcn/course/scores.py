"""The table of scores: one row per submitted file, written to disk after each submission, and the details beside it."""

import csv
import json
import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from .submissions import as_json
from .texts import printable

FIRST = ["student", "assignment"]
LAST = ["points", "out_of", "days_late", "counted", "seed", "file", "page", "note"]


class Scores:
    """The table ``scores.csv`` of a folder; rows already in it stay, unless their file is graded again.

    ``records.json`` beside it has what the table has no room for: every check, and what is wrong.

    Parameters
    ----------
    folder : Path
        The folder of the table and the pages of feedback.

    Raises
    ------
    UserError
        If the folder has a ``scores.csv`` or a ``records.json`` that this class did not write.
    """

    def __init__(self, folder):
        self.path, self.rows = folder / "scores.csv", {}
        self.details, self.records, self.skipped = folder / "records.json", {}, {}
        read = self.path
        try:
            if self.path.exists():
                with open(self.path, newline="", encoding="utf-8-sig") as file:
                    self.rows = {row["file"]: row for row in csv.DictReader(file)}
            read = self.details
            if self.details.exists():
                saved = json.loads(self.details.read_text(encoding="utf-8"))
                self.records, self.skipped = dict(saved["files"]), dict(saved["not graded"])
        except (KeyError, ValueError, TypeError, AttributeError, csv.Error):
            raise UserError(f"{read} is not a file of the grader: give another folder (--out)") from None

    @property
    def seed(self):
        """The seed with which most files of this folder were graded; None for a new folder."""
        seeds = Counter(int(s) for row in self.rows.values() if (s := str(row.get("seed", ""))).isdecimal())
        return seeds.most_common(1)[0][0] if seeds else None

    def page_for(self, one):
        """The name of a submission's page: the name it had before, or one that no other file has."""
        file = _file(one)
        if page := self.rows.get(file, {}).get("page"):
            return page
        student = one.student.lstrip("=+-@").encode()[:150].decode(errors="ignore")  # file names may have 255 bytes
        name = f"{student}_{one.assignment.name}{'' if one.path.suffix.lower() == '.ipynb' else '_py'}"
        taken = {str(row.get("page")).casefold() for row in self.rows.values()}  # macOS: Ann.html and ann.html are one
        pages = (f"{name}{f'_{n}' * (n > 1)}.html" for n in range(1, len(taken) + 2))
        page = next(p for p in pages if p.casefold() not in taken)
        self.rows[file] = {"file": file, "page": page}  # reserve the name
        return page

    def enter(self, one, seed):
        """Enter the row of a submission, graded or not, and save the table."""
        file, note = _file(one), cell(printable(" ".join(one.notes)))
        page = one.page.name if one.page else ""
        self.rows[file] = {
            "student": cell(printable(one.student)), "assignment": one.assignment.name if one.assignment else "",
            **{t.number: t.points for t in one.results}, "points": one.points, "out_of": one.out_of,
            "days_late": one.days_late, "counted": one.counted, "seed": seed, "file": file, "page": page, "note": note,
        }  # fmt: skip
        self.records[file] = {**as_json(one), "seed": seed, "page": page}
        rows = [row for row in self.rows.values() if "student" in row]
        tasks = sorted({name for row in rows for name in row} - {*FIRST, *LAST})
        with replacing(self.path) as file:
            writer = csv.DictWriter(file, [*FIRST, *tasks, *LAST], restval="")
            writer.writeheader()
            writer.writerows(rows)

    def skip(self, files):
        """Enter files that are not graded, as pairs (path, reason); those of earlier gradings stay while they exist."""
        self.skipped = {path: why for path, why in self.skipped.items() if os.path.lexists(path)}
        self.skipped |= {os.path.abspath(os.fsencode(path).decode("utf-8", "replace")): why for path, why in files}

    def save_details(self):
        """Save ``records.json``."""
        with replacing(self.details, "utf-8") as file:
            json.dump({"files": self.records, "not graded": self.skipped}, file, ensure_ascii=False)


@contextmanager
def replacing(path, encoding="utf-8-sig"):
    """Write a new file and rename it to `path`: an interruption never leaves half a file.

    With a byte order mark, the default, spreadsheets read UTF-8.
    """
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", newline="", encoding=encoding) as file:
        yield file
    os.replace(new, path)


def _file(one):
    """The key of a submission's row: its absolute path, the same however the path was given."""
    return cell(os.fsencode(Path(one.path).resolve()).decode("utf-8", "replace"))


def cell(text):
    """A text for the table; one that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
