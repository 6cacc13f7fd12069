"""Findings about masks in colours: whether a table says which class a colour means; their pixels by class."""

from collections import Counter
from contextlib import suppress

import numpy as np

from ...errors import UserError
from ..colours import MOST, TABLES, Colours, infer, named, pack, read_table, unpack
from ..images import EXACT, VOID, file_header
from ..layouts.masks import COLOURED
from .finding import ERROR, NOTE, Finding, number, some
from .survey import values_of


def about_colours(facts, folder):
    """The :class:`Colours` of masks in colours, or None if there are none or no table; and findings.

    The pixels of each class are written into the facts.  Without a table the colours are classes in the order of their
    numbers, as `minifcn.data.layouts.Masks` reads them.
    """
    stored = [f for f in facts if f.mask and f.sample.mask and not f.sample.draw]
    if not any(_coloured(f.mask) for f in stored):
        return None, []
    for f in stored:
        if f.mask.counts is not None and f.mask.header.mode in COLOURED:  # it has only black, white or greys
            f.mask.others = {(v, v, v): int(f.mask.counts[v]) for v in f.mask.counts.nonzero()[0].tolist()}
            f.mask.counts = None
    masks = {f.sample.mask: f.mask for f in stored if _coloured(f.mask)}
    if plain := [f.sample.mask for f in stored if f.mask.counts is not None]:
        what = f"{number(len(masks), 'mask')} in colours, but {len(plain)} not"
        advice = "save all masks in colours, or all as class ids"
        return None, [Finding(ERROR, what, "colours and class ids mean different things", tuple(plain), advice=advice)]
    total = Counter()
    for mask in masks.values():
        total.update(mask.others)
    files, what = tuple(masks), f"{number(len(masks), 'mask')} in {number(len(total), 'colour')}"
    if lossy := [path for path, mask in masks.items() if mask.header.format not in EXACT]:
        what, why = (
            f"{number(len(lossy), 'mask')} in colours, in a format that changes colours",
            "no class is known for them",
        )
        return None, [Finding(ERROR, what, why, tuple(lossy), advice="export the masks again, as PNG")]
    table = table_in(folder)
    if table:
        try:
            colours = read_table(table)
        except UserError as error:
            return None, [
                Finding(ERROR, "the table of colours cannot be used", str(error), (table,), advice="correct it")
            ]
    elif len(total) > MOST:
        why = "smoothing or JPEG compression makes new colours, and each would be a class"
        advice = f"write the classes into {TABLES[0]}, a line such as 128 64 0 road for each, and save masks as PNG"
        return None, [Finding(ERROR, what, why, files, advice=advice)]
    else:
        numbers = sorted(pack(np.array(list(total))).tolist())
        colours = Colours(tuple(map(named, numbers)), unpack(numbers), unpack([]))
    ids = dict(zip(map(tuple, colours.palette.tolist()), range(len(colours.classes))))
    ids |= dict.fromkeys(map(tuple, colours.void.tolist()), VOID)
    for mask in masks.values():
        mask.counts = np.zeros(VOID + 1, int)
        for colour, pixels in mask.others.items():
            if colour in ids:
                mask.counts[ids[colour]] += pixels
    unknown = [colour for colour in total if colour not in ids]
    if unknown:
        what = f"{number(sum(total[c] for c in unknown), 'pixel')} in colours that {table.name} does not name"
        files = tuple(path for path, mask in masks.items() if mask.others.keys() & set(unknown))
        shown = some([f"{r} {g} {b}" for r, g, b in sorted(unknown, key=total.get, reverse=True)])
        finding = Finding(ERROR, what, "no class is known for them", files, advice=f"add lines for {shown} and a name")
        return colours, [finding]
    if table:
        return colours, []
    why = f"nothing names them, so they are classes in the order of their numbers: {some(colours.classes)}"
    advice = f"write {TABLES[0]}, a line such as 128 64 0 road for each class, to name them"
    return colours, [Finding(NOTE, what, why, files, advice=advice)]


def colours_of(folder, masks, palettes=False):
    """The :class:`Colours` of masks, from a table or inferred; None if no mask is in colours.

    Parameters
    ----------
    folder : Path
    masks : sequence of Path
    palettes : bool
        Whether masks with palettes are in colours, too.
    """
    for mask in masks:
        with suppress(UserError):
            if palettes or (file_header(mask).mode in COLOURED and values_of(mask).ndim == 3):
                table = table_in(folder)
                return read_table(table) if table else infer(masks)
    return None


def table_in(folder):
    """The table of colours in a folder, or None."""
    return next((folder / name for name in TABLES if (folder / name).exists()), None)


def _coloured(mask):
    return bool(mask.others) and isinstance(next(iter(mask.others)), tuple)
