"""``classes.txt``: one class name a line, in the order of the ids."""

import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_LE
from pathlib import Path

from ..errors import UserError
from ..io.files import require_file
from .images import VOID

LONGEST = 100  # characters of a name: a figure has to hold it


def read_classes(path):
    """The class names in a text file, in UTF-8, or in UTF-16 if it says so by its first bytes.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    tuple of str

    Raises
    ------
    UserError
        Naming the line: for another encoding, an empty line before the last name, a comment, a name that occurs twice,
        is too long or holds characters that cannot be shown; for fewer than 2 names or more than 255.
    """
    require_file(path)
    content = Path(path).read_bytes()
    wide = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) and not content.startswith(BOM_UTF32_LE)
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path} is not encoded as UTF-8 (line {line}); save it as UTF-8 in your editor") from None
    # not splitlines(), which also splits at form feeds and the like
    names = [" ".join(line.split()) for line in re.split(r"\r\n|\r|\n", text)]
    while names and not names[-1]:
        names.pop()
    first = {}
    for k, name in enumerate(names, 1):
        if not name:
            raise UserError(f"{path} has an empty line {k}; it must have one class a line without gaps")
        if name.startswith("#"):
            raise UserError(f"line {k} of {path} begins with #; it must hold class names alone: remove comments")
        if len(name) > LONGEST:
            raise UserError(f"line {k} of {path} has {len(name)} characters; a class name has at most {LONGEST}")
        if any(unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") for character in name):
            raise UserError(f"line {k} of {path} holds characters that cannot be shown; write the name as plain text")
        if name in first:
            raise UserError(f"lines {first[name]} and {k} of {path} are both {name!r}; each class needs its own name")
        first[name] = k
    if not 2 <= len(names) <= VOID:
        raise UserError(f"{path} must name 2 to {VOID} classes, one a line without gaps; it has {len(names)}")
    return tuple(names)
