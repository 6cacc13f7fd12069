"""Find out whether the values in a set of masks are class ids, or were changed by an image editor or by compression."""

import os
from functools import lru_cache
from shlex import quote

import numpy as np

from ..errors import UserError
from .images import VOID, read_mask

MOST = 100  # unnamed classes
RARE = 0.01  # a value with a smaller share of the pixels probably comes from a smoothed edge
SHOWN = 6  # at most so many values in a message


def histogram(path):
    """The number of pixels of each value 0..255 in a mask, (256,); cached until the file changes."""
    try:
        state = os.stat(path)
    except OSError:
        return _histogram(path, None)  # read_mask raises the UserError
    return _histogram(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=20_000)
def _histogram(path, state):
    counts = np.bincount(read_mask(path).ravel(), minlength=VOID + 1)
    counts.flags.writeable = False
    return counts


def count_classes(histograms, whose):
    """The number of classes in masks without a ``classes.txt``, and the ids among them that never occur.

    Class ids are 0, 1, 2 … without large gaps, and 255 is void.

    Parameters
    ----------
    histograms : dict of {path: (256,) array}
        The histogram of each mask.
    whose : str or path
        The name of the data set in an error message.

    Returns
    -------
    n : int
    absent : list of int

    Raises
    ------
    UserError
        If at least half of the ids up to the largest never occur, if there are more than a hundred values, or if
        there is nothing but 0 and void.
    """
    total = sum(histograms.values())
    values = np.flatnonzero(total[:VOID])
    require_labels(total, whose)
    cure = f"python -m minifcn.data check {quote(str(whose))} says how"
    if not values.any():
        remedy = "write 1 instead of 255" if total[VOID] else "a foreground must have the id 1"
        raise UserError(f"the masks of {whose} hold only class 0, and {VOID} means void; {remedy}; {cure}")
    n = int(values[-1]) + 1
    if n == 2 or (len(values) <= MOST and 2 * len(values) > n):
        return n, sorted(set(range(n)) - set(values.tolist()))
    example = next(path for path, counts in histograms.items() if counts[values[-1]])
    every = np.flatnonzero(total)
    common = [int(value) for value in every if total[value] >= RARE * total.sum()]
    named = f"if these values are class ids, name all {n} classes in classes.txt"
    if len(every) > 2 * len(common) + 4:
        raise UserError(
            f"the masks of {whose} hold {len(every)} different values (the largest in {example}), most of them in few "
            "pixels, which smoothing or JPEG compression causes; keep only the class values (perhaps "
            f"{_list(common)}), number them 0, 1, 2, and save as PNG without smoothing: {cure}; {named}"
        )
    raise UserError(
        f"the masks of {whose} hold the values {_list(every)} (the largest class in {example}); class ids must be 0, "
        f"1, 2 without gaps, and {VOID} for void; renumber the values in the masks: {cure}; {named}"
    )


def require_labels(total, whose):
    """Raise UserError if all pixels that a histogram counts are void."""
    if not total[:VOID].any():
        raise UserError(
            f"the masks of {whose} hold nothing but {VOID}, and {VOID} means void, so there is nothing to learn; label "
            "some pixels with class ids from 0"
        )


def _list(values):
    shown = ", ".join(map(str, values[:SHOWN]))
    return shown + (f" and {len(values) - SHOWN} more" if len(values) > SHOWN else "")
