"""Read notebooks and modules, the two forms of an assignment, into the same list of cells.

A module is a notebook in the percent format: a line that begins with ``# %%`` starts a cell, and text cells are
comments.
"""

import codecs
import io
import json
import re
import tokenize
from contextlib import suppress
from dataclasses import dataclass

from ..errors import UserError

# Limits for files from students: a larger one could exhaust the grader's memory.
SIZES = {".ipynb": 64 << 20, ".py": 1 << 20}  # bytes
CELLS = 2000
VALUES = 5_000_000  # lists, dicts and items in a notebook's JSON


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook.

    Attributes
    ----------
    kind : str
        ``code``, ``markdown``, …; ``unreadable`` for a value that is not a valid cell.
    source : str
    """

    kind: str
    source: str

    @property
    def task(self):
        """The number of the task that this cell answers, from a first line such as ``# Task 2.1``; None for others.

        A cell magic such as ``%%time`` must be the first line of its cell: the number is then in the second line.
        """
        found = re.match(r"\s*(?:%%.*\n\s*)?# Task (\d\.\d)\b", self.source)
        return found and found[1]

    @property
    def is_shown(self):
        """Whether it is a code cell that answers do not need, such as a check or a picture."""
        return self.kind == "code" and not self.source.startswith(("# Task", "# Setup"))


def read_cells(path):
    """The cells of an ``.ipynb`` or a ``.py`` file; UserError if the file cannot be read.

    A cell of a notebook that cannot be read gets the kind ``unreadable``; the other cells are read.
    """
    if path.suffix.lower() == ".py":
        cells = [Cell(c.cell_type, c.source) for c in read_module(path).cells]
    else:
        cells = [_cell(value) for value in _values(path)]
    if len(cells) > CELLS:
        raise UserError(f"{path} has more than {CELLS} cells")
    return [Cell(c.kind, c.source.encode("utf-8", "replace").decode()) for c in cells]


def _values(path):
    """The cells of a notebook as values of its JSON.  Notebook formats 2 and 3 keep them in worksheets."""
    text = read_text(path)
    if sum(map(text.count, "[{,")) > VALUES:  # parsed, a small value takes thirty times its text
        raise UserError(f"{path} contains more than {VALUES:,} values: clear its outputs, and hand it in again")
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
    """A cell from its JSON: the text is ``source``, or ``input`` in format 3, as a str or a list of lines."""
    if isinstance(value, dict):
        kind, source = value.get("cell_type"), value.get("source", value.get("input", ""))
        lines = source if isinstance(source, list) else [source]
        if isinstance(kind, str) and all(isinstance(line, str) for line in lines):
            return Cell(kind, "".join(lines))
    return Cell("unreadable", "")


def read_module(path):
    """A ``.py`` file in the percent format as an nbformat notebook; UserError if it cannot be read."""
    try:
        import jupytext
    except ImportError:
        raise UserError("reading assignments needs jupytext: pip install 'minifcn[course]'") from None
    text = read_text(path)
    # Remove two kinds of comment lines at the top: jupytext fails on an encoding line, and it parses a header between
    # `# ---` lines as YAML, in which a value that refers to itself makes it loop for ever.
    head = re.match(r"(?:[ \t\f]*#(?! %%).*\n)*", text)[0]
    text = re.sub(r"(?m)^[ \t\f]*#.*(?:---|coding[:=]).*$", "#", head) + text[len(head) :]
    if text.count("# %%") > CELLS:
        raise UserError(f"{path} has more than {CELLS} cells")
    try:
        return jupytext.reads(text, fmt="py:percent")
    except Exception as error:  # jupytext raises many kinds
        raise UserError(f"{path} cannot be read as a module ({type(error).__name__}: {error})") from None


def read_text(path):
    """The text of a file, decoded with :func:`encodings`, its line ends as line feeds; UserError if it is not text."""
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
    raise UserError(f"{path} is not a text file: save it as UTF-8, and hand it in again")


def encodings(data):
    """The encodings to try for the bytes of a text, the most likely first.

    A byte order mark, or a zero among the first two bytes, means UTF-16 or UTF-32.  Otherwise the first is the encoding
    that the file declares (PEP 263: ``# -*- coding: cp949 -*-``), or UTF-8.  UTF-8, cp949 (Korean) and cp1252 follow,
    because editors on Windows write the last two without a declaration or with a wrong one.  All three encode ASCII
    alike, so a wrong guess changes only characters that are not ASCII.
    """
    first = json.detect_encoding(data)
    if first in ("utf-8", "utf-8-sig"):
        with suppress(SyntaxError):  # an unknown encoding, or one that contradicts the byte order mark
            first = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
    if codecs.lookup(first).name in ("idna", "punycode"):  # for host names: decoding a megabyte takes a minute
        first = "utf-8-sig"
    return first, "utf-8-sig", "cp949", "cp1252"
