"""The table of scores: one row per submitted file, written to disk after each submission."""

import csv
import os
from pathlib import Path

from ..errors import UserError
from .texts import printable

FIRST, LAST = ["student", "assignment"], ["points", "out_of", "seed", "file", "page", "note"]


class Scores:
    """The table ``scores.csv`` of a folder; rows already in it stay, unless their file is graded again.

    Parameters
    ----------
    folder : Path
        The folder of the table and the pages of feedback.

    Raises
    ------
    UserError
        If the folder has a ``scores.csv`` that this class did not write.
    """

    def __init__(self, folder):
        self.path, self.rows = folder / "scores.csv", {}
        if self.path.exists():
            try:
                with open(self.path, newline="", encoding="utf-8") as file:
                    self.rows = {row["file"]: row for row in csv.DictReader(file)}
            except (KeyError, ValueError, csv.Error):
                raise UserError(f"{self.path} is not a table of the grader: give another folder (--out)") from None

    def page_for(self, one):
        """The name of a submission's page: the name it had before, or one that no other file has."""
        file = _file(one)
        if page := self.rows.get(file, {}).get("page"):
            return page
        student = one.student.lstrip("=+-@").encode()[:150].decode(errors="ignore")  # file names may have 255 bytes
        name = f"{student}_{one.assignment.name}{'' if one.path.suffix.lower() == '.ipynb' else '_py'}"
        taken = {row.get("page") for row in self.rows.values()}
        page = next(p for n in range(1, len(taken) + 2) if (p := f"{name}{f'_{n}' * (n > 1)}.html") not in taken)
        self.rows[file] = {"file": file, "page": page}  # reserve the name
        return page

    def enter(self, one, seed):
        """Enter the row of a submission, graded or not, and save the table."""
        file, note = _file(one), _cell(printable(" ".join(one.notes)))
        self.rows[file] = {
            "student": _cell(printable(one.student)), "assignment": one.assignment.name if one.assignment else "",
            **{t.number: t.points for t in one.results}, "points": one.points, "out_of": one.out_of, "seed": seed,
            "file": file, "page": self.rows.get(file, {}).get("page", ""), "note": note,
        }  # fmt: skip
        self._write()

    def _write(self):
        """Write the whole table to a new file and rename it: an interruption never leaves half a table."""
        rows = [row for row in self.rows.values() if "student" in row]
        tasks = sorted({name for row in rows for name in row} - {*FIRST, *LAST})
        new = self.path.with_suffix(".csv.new")
        with open(new, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*FIRST, *tasks, *LAST], restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(new, self.path)


def _file(one):
    """The key of a submission's row: its absolute path, the same however the path was given."""
    return _cell(os.fsencode(Path(one.path).resolve()).decode("utf-8", "replace"))


def _cell(text):
    """A text for the table; one that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
