"""Notebooks and modules as cells: both forms of an assignment, read alike.

A module is a notebook in the percent format: a line that begins with ``# %%`` begins a cell, and the cells of prose
are comments.
"""

import re
from dataclasses import dataclass

import jupytext

from ..errors import UserError


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes
    ----------
    kind : str
        ``code`` or ``markdown``.
    source : str
    """

    kind: str
    source: str

    @property
    def task(self):
        """The number of the task that this cell answers (it begins with ``# Task 2.1``); None for others."""
        found = re.match(r"# Task (\d\.\d)\b", self.source)
        return found and found[1]

    @property
    def is_shown(self):
        """Whether it is there to be looked at, a check or a picture: neither an answer nor what answers need."""
        return self.kind == "code" and not self.source.startswith(("# Task", "# Setup"))


def read_cells(path):
    """The cells of an ``.ipynb`` or a ``.py`` file; UserError if it is neither."""
    return [Cell(c.cell_type, c.source) for c in read_notebook(path).cells]


def read_notebook(path):
    """An ``.ipynb`` or a ``.py`` file as nbformat's notebook; UserError if it is neither."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
        return jupytext.reads(text, fmt="ipynb" if path.suffix == ".ipynb" else "py:percent")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # nbformat and jupytext raise many kinds
        raise UserError(f"{path} cannot be read as a notebook ({type(error).__name__}: {error})") from None
