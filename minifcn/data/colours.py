"""Tables of colours: read them, write them, and turn masks in colours into class ids and back."""

import re
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .images import VOID, read_colours
from .manifest import some
from .names import read_lines

TABLES = ("colours.txt", "colors.txt", "label_colors.txt", "label_colours.txt", "class_dict.csv", "labelmap.txt")
UNLABELLED = {"void", "unlabelled", "unlabeled", "unlabel", "ignore", "__ignore__", "ignored"}
"""Names, in lower case, of what is no class: such pixels are void."""
MOST = 64  # colours without a table; more are not classes, but the noise of JPEG or soft edges


@dataclass(frozen=True)
class Colours:
    """The colour of each class, and the colours of void."""

    classes: tuple[str, ...]
    palette: np.ndarray  # uint8 (classes, 3)
    void: np.ndarray  # uint8 (n, 3)

    def ids(self, path):
        """The class ids of a mask in colours, uint8 (H, W); UserError if it has a colour that is not in the table."""
        packed = pack(read_colours(path))
        table = np.concatenate([pack(self.palette), pack(self.void)])
        ids = np.concatenate([np.arange(len(self.palette)), np.full(len(self.void), VOID)]).astype(np.uint8)
        order = np.argsort(table)
        place = np.minimum(np.searchsorted(table[order], packed), len(table) - 1)
        unknown = table[order][place] != packed
        if unknown.any():
            colours, counts = np.unique(packed[unknown], return_counts=True)
            shown = some(named(colour) for colour in colours[np.argsort(-counts)])
            raise UserError(
                f"mask {path} has {unknown.sum()} pixels in colours that are no class ({shown}); add them to "
                f"{TABLES[0]}, or save the mask as PNG without smoothing"
            )
        return ids[order][place]


def read_table(path):
    """The :class:`Colours` in a table: on each line a colour and a name.

    A line is ``128 64 0 road``, ``#804000 road``, ``road,128,64,0`` or ``road:128,64,0::``; the first is CamVid's, the
    third comes with many data sets on Kaggle, the fourth is CVAT's.  Lines that begin with ``# `` are comments.
    """
    known, void = {}, []
    for k, line in enumerate(filter(None, read_lines(path)), 1):
        if line.startswith("# ") or (k == 1 and re.match(r"name\s*,\s*r", line, re.I)):
            continue
        name, colour = _entry(line)
        if colour is None:
            raise UserError(f"{path}: {line[:60]!r} is not a colour and a name; write such as: 128 64 0 road")
        if colour in known.values() or colour in void:
            raise UserError(f"{path} gives the colour {named(colour)} twice; give each class another colour")
        if name.lower() in UNLABELLED:
            void.append(colour)
        elif name in known:
            raise UserError(f"{path} names {name!r} twice; give each class another name")
        else:
            known[name] = colour
    return Colours(tuple(known), unpack(list(known.values())), unpack(void))


def _entry(line):
    """The name and the packed colour on a line of a table; None for the colour if there is none."""
    for pattern in (
        r"(?P<r>\d+)[\s,]+(?P<g>\d+)[\s,]+(?P<b>\d+)[\s,]+(?P<name>\S.*)",
        r"#(?P<hex>[0-9a-fA-F]{6})[\s,]+(?P<name>\S.*)",
        r"(?P<name>[^,:]*\S)\s*[,:]\s*(?P<r>\d+)\s*,\s*(?P<g>\d+)\s*,\s*(?P<b>\d+)(?::.*)?",
    ):
        if found := re.fullmatch(pattern, line):
            parts = found.groupdict()
            colour = [int(parts[c]) for c in "rgb"] if "r" in parts else [*bytes.fromhex(parts["hex"])]
            if max(colour) < 256:
                return " ".join(parts["name"].split()), int(pack(np.array(colour)))
    return line, None


def infer(paths):
    """The :class:`Colours` of masks without a table: their colours in order of their numbers, each with its name.

    Raises
    ------
    UserError
        If there are more than 64.
    """
    found = np.empty(0, int)
    for path in paths:
        here = np.unique(pack(read_colours(path)))
        found = np.union1d(found, here)
        if len(found) > MOST:
            raise UserError(
                f"the masks have more than {MOST} colours (the last in {path}), which smoothing or JPEG compression "
                f"causes; write {TABLES[0]} with a colour and a name on each line, such as: 128 64 0 road"
            )
    colours = [int(colour) for colour in found]
    return Colours(tuple(map(named, colours)), unpack(colours), unpack([]))


def write_table(path, classes, palette, void=None):
    """Write a table that :func:`read_table` reads; `void` is the colour of void pixels."""
    rows = [*zip(palette.tolist(), classes), *([(np.asarray(void).tolist(), "void")] if void is not None else [])]
    text = "".join(f"{r} {g} {b} {name}\n" for (r, g, b), name in rows)
    path.write_text(text, encoding="utf-8")


def pack(colours):
    """Each RGB colour as one number."""
    colours = np.asarray(colours, np.int64).reshape(*np.shape(colours)[:-1], 3)
    return (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]


def unpack(numbers):
    """RGB colours, uint8 (n, 3), of the numbers that :func:`pack` gives."""
    return np.array([[n >> 16, n >> 8 & 255, n & 255] for n in numbers], np.uint8).reshape(-1, 3)


def named(colour):
    """A packed colour as ``#rrggbb``."""
    return f"#{int(colour):06x}"
