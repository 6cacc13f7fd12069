"""Read what other programs write: JSON, XML, lists and paths; a UserError names a file that cannot be used."""

import json
import math
import os
import re
import unicodedata
from itertools import product
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import TreeBuilder
from xml.parsers import expat

import numpy as np

from ...errors import UserError, on_one_line
from ...io.files import require_file
from ..folder import MASKS, SUFFIXES

BEGINNING = 1 << 16  # bytes that tell which program has written a file


def read_text(path):
    """The text of a file in UTF-8; UserError if it cannot be read."""
    require_file(path)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not encoded as UTF-8; save it as UTF-8 in your editor") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None


def read_json(path):
    """The value in a JSON file; UserError if the file is damaged."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not complete JSON ({error}); export it again") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be read") from None


def read_xml(path):
    """The root element of an XML file; UserError if the file is damaged, or declares a document type.

    A document type can define entities that expand to any size, or that read other files.
    """
    require_file(path)
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_):
        raise UserError(f"{path} declares a document type (DOCTYPE), which may be unsafe; remove it from the file")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
        return builder.close()
    except expat.ExpatError as error:
        raise UserError(f"{path} is not complete XML ({error}); export it again") from None


def beginning(path):
    """The first 64 KB of a file as text, to recognise it; empty if it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            return file.read(BEGINNING).decode("utf-8", "replace")
    except OSError:
        return ""


def visible(folder, pattern="*"):
    """The files of a folder that match `pattern` and are no litter (``._a.json``, ``.DS_Store``), in order of name."""
    found = folder.glob(pattern) if folder.is_dir() else ()
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def images_below(folder):
    """All image files in a folder and its sub-folders, without litter, in order of name."""
    found, visited = [], set()
    for base, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(base)) in visited:  # a link that leads in a circle
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        found += [
            Path(base, name) for name in files if Path(name).suffix.lower() in SUFFIXES | MASKS and name[0] != "."
        ]
    return sorted(found)


def namesakes(folder):
    """The folders beside a folder in which pictures have the names of those in it, but for the suffix."""

    def stems(path):
        return {p.stem for p in visible(path) if p.suffix.lower() in SUFFIXES | MASKS}

    names = stems(folder)
    beside = (path for path in folder.parent.iterdir() if path.is_dir() and path != folder and path.name[0] != ".")
    return sorted(path for path in beside if names & stems(path))


def find_image(root, named, bases, source):
    """The image file that an annotation names, relative to the first of `bases` that has it.

    A path that leaves `root` is refused.  Of an absolute path, which is that of another computer, the longest end that
    exists here is taken.

    Parameters
    ----------
    root : Path
    named : str
        The path in the annotation, with slashes or backslashes.
    bases : sequence of Path
    source : str or Path
        The file with the annotation, for messages.

    Raises
    ------
    UserError
        If there is no such image, if the path leaves `root`, or if it is not text.
    """
    if not isinstance(named, str) or not named or "\0" in named:
        raise UserError(f"{source} names the image {on_one_line(named)!r}; expected the path of an image")
    path = unicodedata.normalize("NFC", named.replace("\\", "/"))
    parts = PurePosixPath(path).parts
    absolute = path.startswith("/") or re.match(r"[A-Za-z]:", path)
    tails = ["/".join(parts[k:]) for k in range(1, len(parts))] if absolute else [path]
    left = True
    for base, tail in product(bases, tails):
        candidate = Path(os.path.normpath(base / tail))
        if not candidate.is_relative_to(os.path.normpath(root)):
            continue
        left = False
        if candidate.is_file():
            return candidate
        decomposed = candidate.with_name(unicodedata.normalize("NFD", candidate.name))
        if decomposed.is_file():  # macOS may have stored "é" as e and an accent
            return decomposed
    if left:
        raise UserError(f"{source} names the image {on_one_line(named)!r}, which is outside {root}; move it inside")
    raise UserError(f"{source} names the image {on_one_line(named)!r}, which is not in {root}; put it there")


def relative(path, root):
    """The path below `root`, with slashes: the name of a sample."""
    return PurePosixPath(os.path.relpath(path, root).replace(os.sep, "/")).as_posix()


def points_of(value, what):
    """The corners of a shape as an array (n, 2) of (x, y) in pixels; UserError unless they are pairs of numbers."""
    try:
        points = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.size and (points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all()):
        points = np.empty(0)
    if not points.size:
        raise UserError(f"{what} has no valid points; expected pairs of numbers x, y")
    return points


def number(value, what):
    """A finite number from a file; UserError if it is none."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise UserError(f"{what} is {on_one_line(value)!r}; expected a number")
    return result


def require(value, kind, what):
    """`value`, if it is of the type `kind`; else a UserError that says what was expected."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {dict: "an object", list: "a list", str: "text", int: "a whole number"}
        raise UserError(f"{what} is {on_one_line(value)[:40]!r}; expected {names[kind]}")
    return value
