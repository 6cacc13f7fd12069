"""The table of scores: a row a submission, kept on the disk after each of them, and told apart by its file."""

import csv
import os
from pathlib import Path

from ..errors import UserError

FIRST, LAST = ["student", "assignment"], ["points", "out_of", "seed", "file", "page", "note"]


class Scores:
    """``scores.csv`` of a folder, with the rows that are there already: those of files graded again are replaced.

    Parameters
    ----------
    folder : Path
        Where the pages of feedback lie, too.

    Raises
    ------
    UserError
        If the table that is there cannot be read as one.
    """

    def __init__(self, folder):
        self.path, self.rows = folder / "scores.csv", {}
        if self.path.exists():
            try:
                with open(self.path, newline="", encoding="utf-8") as file:
                    self.rows = {row["file"]: row for row in csv.DictReader(file)}
            except (KeyError, ValueError, csv.Error):
                raise UserError(f"{self.path} is no table of the grader's: give another --out") from None

    def page_for(self, one):
        """The name of a submission's page: the one it had, or one that no other file has."""
        file = _file(one)
        if page := self.rows.get(file, {}).get("page"):
            return page
        student = one.student.lstrip("=+-@").encode()[:150].decode(errors="ignore")  # a system's names have 255 bytes
        name = f"{student}_{one.assignment.name}{'' if one.path.suffix.lower() == '.ipynb' else '_py'}"
        taken = {row.get("page") for row in self.rows.values()}
        page = next(p for n in range(1, len(taken) + 2) if (p := f"{name}{f'_{n}' * (n > 1)}.html") not in taken)
        self.rows[file] = {"file": file, "page": page}  # from here on it is taken
        return page

    def enter(self, one, seed):
        """The row of a submission that was graded, or could not be."""
        file, note = _file(one), _cell(printable(" ".join(one.notes)))
        self.rows[file] = {
            "student": _cell(one.student), "assignment": one.assignment.name if one.assignment else "",
            **{t.number: t.points for t in one.results}, "points": one.points, "out_of": one.out_of, "seed": seed,
            "file": file, "page": self.rows.get(file, {}).get("page", ""), "note": note,
        }  # fmt: skip
        self._write()

    def _write(self):
        """All at once: what is cut off in the middle has not happened."""
        rows = [row for row in self.rows.values() if "student" in row]
        tasks = sorted({name for row in rows for name in row} - {*FIRST, *LAST})
        new = self.path.with_suffix(".csv.new")
        with open(new, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*FIRST, *tasks, *LAST], restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(new, self.path)


def _file(one):
    """What tells a submission from others: however its path was given, it is the same file."""
    return _cell(os.fsencode(Path(one.path).resolve()).decode("utf-8", "replace"))


def _cell(text):
    """A text as a spreadsheet shall show it: one that begins as a formula does would be worked out there."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def printable(text):
    """A text of a student's without what would steer a terminal, or could not be written."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
