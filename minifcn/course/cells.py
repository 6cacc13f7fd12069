"""Notebooks and modules as cells: both forms of an assignment, read alike.

A module is a notebook in the percent format: a line that begins with ``# %%`` begins a cell, and the cells of prose
are comments.
"""

import re
from dataclasses import dataclass

from ..errors import UserError

SIZES = {".ipynb": 64 << 20, ".py": 1 << 20}  # the largest file that is read
CELLS = 2000


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
    notebook = read_notebook(path)
    if "cells" not in notebook:
        raise UserError(f"{path} cannot be read as a notebook: it has no cells")
    found = [Cell(c.get("cell_type", ""), c.get("source", "")) for c in notebook.cells]
    if not all(isinstance(c.source, str) for c in found) or len(found) > CELLS:
        raise UserError(f"{path} cannot be read as a notebook: a cell is no text, or there are more than {CELLS}")
    return [Cell(c.kind, c.source.encode("utf-8", "replace").decode()) for c in found]


def read_notebook(path):
    """An ``.ipynb`` or a ``.py`` file as nbformat's notebook; UserError if it is neither."""
    try:
        import jupytext
    except ImportError:
        raise UserError("reading assignments needs the extra: pip install 'minifcn[course]'") from None
    try:
        if path.stat().st_size > SIZES[path.suffix]:
            raise UserError(f"{path} is larger than {SIZES[path.suffix] >> 20} MB")
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
        if path.suffix == ".py":
            # a header in YAML is left out if it may repeat itself: what a small one stands for can be endless
            text = re.sub(r"\A# ---\n(?:#.*\n)*?# ---\n", lambda head: "" if "&" in head[0] else head[0], text)
            if text.count("# %%") > CELLS:
                raise UserError(f"{path} has more than {CELLS} cells")
        return jupytext.reads(text, fmt="ipynb" if path.suffix == ".ipynb" else "py:percent")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # nbformat and jupytext raise many kinds
        raise UserError(f"{path} cannot be read as a notebook ({type(error).__name__}: {error})") from None
