"""Notebooks and modules as cells: both forms of an assignment, read alike.

A module is a notebook in the percent format: a line that begins with ``# %%`` begins a cell, and the cells of prose
are comments.
"""

import codecs
import io
import json
import re
import tokenize
from contextlib import suppress
from dataclasses import dataclass

from ..errors import UserError

SIZES = {".ipynb": 64 << 20, ".py": 1 << 20}  # the largest file that is read
CELLS = 2000
VALUES = 5_000_000  # of a notebook's JSON


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes
    ----------
    kind : str
        ``code``, ``markdown``, …; ``unreadable`` for what is no cell.
    source : str
    """

    kind: str
    source: str

    @property
    def task(self):
        """The number of the task that this cell answers (it begins with ``# Task 2.1``); None for others.

        A cell magic, ``%%time``, must be the first line of its cell: the number then stands in the second.
        """
        found = re.match(r"\s*(?:%%.*\n\s*)?# Task (\d\.\d)\b", self.source)
        return found and found[1]

    @property
    def is_shown(self):
        """Whether it is there to be looked at, a check or a picture: neither an answer nor what answers need."""
        return self.kind == "code" and not self.source.startswith(("# Task", "# Setup"))


def read_cells(path):
    """The cells of an ``.ipynb`` or a ``.py`` file; UserError if it is neither.

    A cell of a notebook that cannot be read is one of the kind ``unreadable``: the others still count.
    """
    if path.suffix.lower() == ".py":
        cells = [Cell(c.cell_type, c.source) for c in read_module(path).cells]
    else:
        cells = [_cell(value) for value in _values(path)]
    if len(cells) > CELLS:
        raise UserError(f"{path} has more than {CELLS} cells")
    return [Cell(c.kind, c.source.encode("utf-8", "replace").decode()) for c in cells]


def _values(path):
    """The cells of a notebook, as they stand in its JSON.  Formats 2 and 3 keep them in worksheets."""
    text = read_text(path)
    if sum(map(text.count, "[{,")) > VALUES:  # small values take thirty times the memory of their text
        raise UserError(f"{path} holds more than {VALUES:,} values: clear its outputs, and hand it in again")
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a notebook ({type(error).__name__}: {error})") from None
    held = notebook if isinstance(notebook, dict) else {}
    sheets = [held, *(s for s in _list(held.get("worksheets")) if isinstance(s, dict))]
    if not any(isinstance(s.get("cells"), list) for s in sheets):
        raise UserError(f"{path} cannot be read as a notebook: it has no list of cells")
    return [value for sheet in sheets for value in _list(sheet.get("cells"))]


def _list(value):
    return value if isinstance(value, list) else []


def _cell(value):
    """A cell from its JSON: its text is `source`, in format 3 `input`; one text, or a list of lines."""
    if isinstance(value, dict):
        kind, source = value.get("cell_type"), value.get("source", value.get("input", ""))
        lines = source if isinstance(source, list) else [source]
        if isinstance(kind, str) and all(isinstance(line, str) for line in lines):
            return Cell(kind, "".join(lines))
    return Cell("unreadable", "")


def read_module(path):
    """A ``.py`` file in the percent format as nbformat's notebook; UserError if it cannot be read."""
    try:
        import jupytext
    except ImportError:
        raise UserError("reading assignments needs the extra: pip install 'minifcn[course]'") from None
    text = read_text(path)
    # jupytext refuses a line that names an encoding, and reads a header in YAML: what that stands for can be endless
    head = re.match(r"(?:[ \t\f]*#(?! %%).*\n)*", text)[0]
    text = re.sub(r"(?m)^[ \t\f]*#.*(?:---|coding[:=]).*$", "#", head) + text[len(head) :]
    if text.count("# %%") > CELLS:
        raise UserError(f"{path} has more than {CELLS} cells")
    try:
        return jupytext.reads(text, fmt="py:percent")
    except Exception as error:  # jupytext raises many kinds
        raise UserError(f"{path} cannot be read as a module ({type(error).__name__}: {error})") from None


def read_text(path):
    """The text of a file, decoded as :func:`encodings` says, with line feeds between lines; UserError if it is none."""
    limit = SIZES[path.suffix.lower()]
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if len(data) > limit:
        raise UserError(f"{path} is larger than {limit >> 20} MB")
    for encoding in encodings(data):
        try:
            text = data.decode(encoding)
        except (UnicodeError, LookupError):
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise UserError(f"{path} is no text: save it as UTF-8, and hand it in again")


def encodings(data):
    """The encodings that a text may be in, the likeliest first.

    A mark at its beginning, or zeros among its first characters, tell UTF-16 and UTF-32.  Else it is what a line as
    ``# -*- coding: cp949 -*-`` says (PEP 263), or UTF-8.  Editors on Windows write cp949 (Korean) or cp1252 without
    any such line, or with one that says otherwise; code itself is the same in all of them.
    """
    first = json.detect_encoding(data)
    if first in ("utf-8", "utf-8-sig"):
        with suppress(SyntaxError):  # an encoding that is unknown, or contradicts the mark
            first = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
    if codecs.lookup(first).name in ("idna", "punycode"):  # of hosts' names: a megabyte takes them a minute
        first = "utf-8-sig"
    return first, "utf-8-sig", "cp949", "cp1252"
