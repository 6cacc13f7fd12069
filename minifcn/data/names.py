"""Read ``classes.txt`` and ``bands.txt``: one name a line, in the order of the ids or channels."""

import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_LE
from pathlib import Path

from ..errors import UserError
from ..io.files import require_file
from .images import VOID

LONGEST = 100  # characters of a class name; a longer one does not fit into a figure


def read_lines(path):
    """The lines of a text file in UTF-8 (or UTF-16 with a byte order mark), with single blanks between words."""
    require_file(path)
    content = Path(path).read_bytes()
    wide = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) and not content.startswith(BOM_UTF32_LE)
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path} is not encoded as UTF-8 (line {line}); save it as UTF-8 in your editor") from None
    # splitlines() would also split at form feeds and other separators
    return [" ".join(line.split()) for line in re.split(r"\r\n|\r|\n", text)]


def read_classes(path, kind=("class", "classes"), least=2):
    """The names of 2 to 255 classes in a text file, which is in UTF-8, or in UTF-16 with a byte order mark.

    Parameters
    ----------
    path : path-like
    kind : (str, str)
        What the file names, in the messages: singular and plural.
    least : int
        The smallest number of names.

    Returns
    -------
    tuple of str

    Raises
    ------
    UserError
        If the file has another encoding, an empty line before the last name, a comment, or a name that occurs twice,
        is too long or holds characters that cannot be displayed (the message names the line); if there are fewer than
        `least` names or more than 255.
    """
    one, several = kind
    names = read_lines(path)
    while names and not names[-1]:
        names.pop()
    first = {}
    for k, name in enumerate(names, 1):
        if not name:
            raise UserError(f"line {k} of {path} is empty; write one {one} name on each line, without empty lines")
        if name.startswith("#") and not re.fullmatch("#[0-9a-f]{6}", name):  # a colour without a name
            raise UserError(f"line {k} of {path} begins with #; the file must hold only {one} names: remove comments")
        if len(name) > LONGEST:
            raise UserError(f"line {k} of {path} has {len(name)} characters; a {one} name has at most {LONGEST}")
        if any(unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") for character in name):
            raise UserError(f"line {k} of {path} holds characters that cannot be shown; write the name as plain text")
        if name in first:
            raise UserError(f"lines {first[name]} and {k} of {path} are both {name!r}; give each {one} another name")
        first[name] = k
    if not least <= len(names) <= VOID:
        raise UserError(f"{path} must name {least} to {VOID} {several}, one on each line; it names {len(names)}")
    return tuple(names)
