"""Findings about the values in masks: are they class ids, or grey levels, soft edges, a white foreground, colours?"""

from collections import Counter
from contextlib import suppress

import numpy as np

from ...errors import UserError
from ..images import EXACT, VOID
from ..masks import RARE, count_classes
from .finding import ERROR, WARNING, Finding, number, some
from .survey import values_of

LOOKED_AT = 20  # masks in which soft edges are looked for
THIN, SOLID = 0.1, 0.5  # the least solidity of a frequent value, and of a rare one, that is not a blend
GUESS = "the nearest id is a guess along edges, so export the masks again without smoothing if you can"
ONE_CLASS = 0.999  # of all labelled pixels: then a network that always answers this class looks perfect


def about_values(facts, classes=None):
    """Findings about the values in all masks.

    Parameters
    ----------
    facts : list of Facts
    classes : sequence of str, optional
        The names of the classes, if the data set has them.

    Returns
    -------
    list of Finding
    """
    read = {f.sample.mask or f.sample.image: f.mask for f in facts if f.sample.image and f.mask}
    beyond = {
        path: mask for path, mask in read.items() if mask.counts is None and not all(map(_is_colour, mask.others))
    }
    drawn = {f.sample.mask or f.sample.image for f in facts if f.sample.draw}
    counted = {path: mask.counts for path, mask in read.items() if mask.counts is not None}
    stored = {path: counts for path, counts in counted.items() if path not in drawn and not read[path].others}
    ids = about_ids(stored, classes) if stored or not counted else [*_empty(counted)]
    return [*_beyond(beyond), *_formats(read, ids), *ids, *_palettes(read)]


def about_ids(counted, classes=None):
    """Findings about the numbers of pixels of each value in masks.

    Parameters
    ----------
    counted : dict of {Path: ndarray of int, (256,)}
    classes : sequence of str, optional

    Returns
    -------
    list of Finding
    """
    if not counted:
        return []
    total = sum(counted.values())
    if not total[:VOID].any():
        return [_all_void(counted)]
    finding = _not_ids(counted, total, classes) or _soft_edges(counted, total) or _white(counted, total)
    return [*([finding] if finding else []), *_empty(counted), *_identical(counted)]


def _holding(counted, value):
    """The masks with a pixel of `value`."""
    return tuple(path for path, counts in counted.items() if counts[value])


def _beyond(masks):
    """Masks with values that no class can have."""
    total = Counter()
    for mask in masks.values():
        total.update(mask.others)
    if total:
        what = f"{number(len(masks), 'mask')} with values beyond 255 or fractions: {some(sorted(total))}"
        common = [value for value in sorted(total) if total[value] >= RARE * total.total()]
        usable = 0 < len(common) <= VOID and all(value % 1 == 0 and 0 <= value < 65536 for value in common)
        flags = ("--ids", ",".join(f"{value:g}" for value in common)) if usable else ()
        advice = "" if usable else "save one class id for each pixel, 0 to 254"
        yield Finding(ERROR, what, "class ids lie in 0..254, and 255 is void", tuple(masks), flags, advice)


def _is_colour(value):
    return isinstance(value, tuple)


def _all_void(counted):
    return Finding(
        ERROR,
        f"all {len(counted)} masks hold nothing but {VOID}, which means void",
        "no pixel is labelled, so there is nothing to learn",
        tuple(counted),
        advice=f"label some pixels with class ids from 0; if {VOID} is the foreground, the masks have no background",
    )


def _not_ids(counted, total, classes):
    """Values that `Folder` refuses as class ids, or that no named class has."""
    values = np.flatnonzero(total).tolist()
    unknown = [value for value in values if len(classes or ()) <= value < VOID]
    if classes:
        if not unknown and values != [0, VOID]:
            return None
    else:
        try:
            count_classes(counted, "")
            return None
        except UserError:
            pass
    regions = _regions(counted, total)
    blends = [value for value in values if value not in regions]
    if len(regions) == 2 and (not blends or len(blends) > 2) and not (classes and not unknown and VOID not in values):
        low, high = regions
        between = f", and {len(blends)} values between them" if blends else ""
        return Finding(
            ERROR,
            f"the masks hold {low} and {high}{between}: black and white, not class ids",
            "255 means void, so a white foreground would not be learned, and a run would report perfect scores"
            if high == VOID
            else f"a value is a class id, so {high} would mean {high + 1} classes",
            _holding(counted, high),
            ("--binary", str((low + high + 1) // 2)),
        )
    soft = len(blends) > len(regions) + 4
    ids, white = _ids(regions if soft and regions else values, classes, counted)
    if soft and len(regions) < 2:
        what = f"the masks hold {len(values)} different values, and hardly any of them forms regions"
        advice = "export the masks again, as PNG with one class id for each pixel"
        return Finding(ERROR, what, "noise like that of a photo is no label", tuple(counted), advice=advice)
    if soft:
        return Finding(
            ERROR,
            f"the masks hold {len(values)} different values, but only {len(regions)} of them form regions: "
            f"{some(regions)}",
            f"the others come from smoothed edges or from JPEG compression, and each would be a class; {GUESS}{white}",
            tuple(path for path, counts in counted.items() if counts[blends].any()),
            (*ids, "--nearest"),
        )
    if classes and unknown[-1] - len(classes) < 2 * len(unknown) and len(unknown) < len(classes):
        added = (f"class {k}" for k in range(len(classes), unknown[-1] + 1))
        ids, white = ("--names", ",".join([*classes, *added])), ""
    if classes:
        return Finding(
            ERROR,
            f"the masks hold the values {some(unknown)}, but {len(classes)} classes are named",
            f"ids must lie in 0..{len(classes) - 1}, or be {VOID} (void){white}",
            _holding(counted, unknown[-1]),
            ids,
        )
    highest = max(value for value in values if value < VOID)
    return Finding(
        ERROR,
        f"the masks hold the grey levels {', '.join(map(str, values[:8]))}{' …' * (len(values) > 8)}, not the class "
        "ids 0, 1, 2 …",
        f"a value is a class id, so {highest} would mean {highest + 1} classes{white}",
        _holding(counted, highest),
        ids,
    )


def _ids(values, classes, counted):
    """The flag that makes classes of values, and what it takes 255 for.

    255 is void if the other values are as many as the named classes; without names if it is far from the others, which
    levels of grey up to white are not, or if it fills whole masks and occurs in no other.
    """
    others, white = [value for value in values if value != VOID], ""
    if VOID in values:
        whole = all(counts[VOID] in (0, counts.sum()) for counts in counted.values())
        void = whole or (
            len(others) == len(classes) if classes else VOID - others[-1] > 2 * max(np.diff(others), default=0)
        )
        values = others if void else values
        white = f"; {VOID} is taken for void: add it to --ids if it is a class" if void else (
            f"; {VOID} is taken for a class: leave it out of --ids if it is void"
        )  # fmt: skip
    return ("--ids", ",".join(map(str, values))), white


def _regions(counted, total):
    """The values that form regions, in order: those of classes, without those of smoothed edges and of JPEG's noise."""
    share, solid = total / total.sum(), solidity(list(counted))
    return np.flatnonzero(((share >= RARE) & (solid >= THIN)) | ((share >= RARE / 20) & (solid >= SOLID))).tolist()


def solidity(paths):
    """The share of each value's pixels whose right and lower neighbours have the same value, (256,).

    It is large for a class, whose pixels form regions, and small for the values of smoothed edges and of JPEG's noise.
    Up to LOOKED_AT masks are read.
    """
    every, solid = np.zeros(VOID + 1, int), np.zeros(VOID + 1, int)
    for path in paths[:: -(-len(paths) // LOOKED_AT)]:
        with suppress(UserError):
            ids = values_of(path)
            here = ids[:-1, :-1]
            inside = (here == ids[1:, :-1]) & (here == ids[:-1, 1:])
            every += np.bincount(here.ravel(), minlength=VOID + 1)
            solid += np.bincount(here[inside], minlength=VOID + 1)
    return solid / np.maximum(every, 1)


def _soft_edges(counted, total):
    """Values that only occur along edges: a mask with few classes was smoothed, and its values look like ids."""
    present = np.flatnonzero(total[:VOID]).tolist()
    if sum(total[value] < RARE * total.sum() for value in present) < 3:
        return None
    regions = _regions(counted, total)
    thin = [value for value in present if value not in regions]
    if len(regions) < 2 or len(thin) < 3 or len(thin) < len(regions):
        return None
    return Finding(
        WARNING,
        f"{len(thin)} of the {len(present)} ids occur only along edges: {some(thin)}",
        f"smoothing blends neighbouring ids, and each blend would be a class; {GUESS}",
        tuple(path for path in counted if counted[path][thin].any()),
        ("--ids", ",".join(map(str, regions)), "--nearest"),
    )


def _white(counted, total):
    """One class has almost all labelled pixels, and there is void: it may be the foreground."""
    labelled = total[:VOID]
    if total[VOID] < RARE * total.sum() or labelled.max() < ONE_CLASS * labelled.sum() or labelled.argmax() != 0:
        return None
    return Finding(
        WARNING,
        f"of the labelled pixels all but {labelled.sum() - labelled.max():,} have class 0, and "
        f"{total[VOID] / total.sum():.0%} of all pixels are {VOID}, which means void",
        "if white is the foreground, it is not learned, and a run reports almost perfect scores that mean nothing",
        _holding(counted, VOID),
        ("--binary", "128"),
    )


def _formats(read, findings):
    """Masks that are readable, but not a single channel of exact values; what cures the `findings` cures them, too."""
    inexact = {
        path: mask for path, mask in read.items() if mask.trouble and mask.counts is not None and not mask.others
    }
    kinds = {
        path: f"mode {mask.header.mode}" if mask.header.format in EXACT else f"format {mask.header.format}"
        for path, mask in inexact.items()
    }
    largest = max((int(mask.counts[:VOID].nonzero()[0].max(initial=0)) for mask in inexact.values()), default=0)
    ids = ("--ids", ",".join(map(str, range(largest + 1))))
    for kind in dict.fromkeys(kinds.values()):
        paths = tuple(path for path in kinds if kinds[path] == kind)
        what = f"{number(len(paths), 'mask')} of {kind}"
        why = "a mask must store one class id for each pixel unchanged: one channel, in a PNG, TIFF, BMP or GIF"
        yield Finding(
            ERROR,
            what,
            why,
            paths,
            next((f.flags for f in findings if f.flags[:1] in (("--ids",), ("--binary",))), ids),
        )


def _empty(counted):
    void = [path for path, counts in counted.items() if not counts[:VOID].any()]
    if void:
        what = f"{number(len(void), 'mask')} with nothing but {VOID}, which means void"
        yield Finding(WARNING, what, "their images teach nothing", tuple(void), ("--skip",))


def _identical(counted):
    paths = list(counted)
    if len(paths) < 3 or len({counts.tobytes() for counts in counted.values()}) > 1:
        return
    first = values_of(paths[0])
    if all(np.array_equal(values_of(path), first) for path in paths[1:]):
        yield Finding(
            WARNING, f"all {len(paths)} masks are identical",
            "the answer does not depend on the image, so there is nothing to learn", tuple(paths),
            advice="export the masks again; the program has saved one mask for all images",
        )  # fmt: skip


def _palettes(read):
    """Masks whose palettes give one id different colours: an image editor has numbered the colours of each file."""
    first, conflicts = {}, []
    for path, mask in read.items():
        if not mask.palette or mask.counts is None:
            continue
        colours = {v: mask.palette[3 * v : 3 * v + 3] for v in np.flatnonzero(mask.counts[:VOID]).tolist()}
        if any(first.setdefault(v, colour) != colour for v, colour in colours.items()):
            conflicts.append(path)
    if conflicts:
        yield Finding(
            WARNING,
            f"{number(len(conflicts), 'mask')} whose palette gives the ids other colours than {next(iter(read)).name}",
            "an image editor numbers indexed colours in each file anew, so one id would mean several classes",
            tuple(conflicts),
            ("--palettes",),
        )
