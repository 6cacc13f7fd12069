"""What the values in a set of masks are: class ids, or what an editor or a compression made of them."""

import os
from functools import lru_cache

import numpy as np

from ..errors import UserError
from .images import VOID, read_mask

MOST = 100  # classes that nobody named
RARE = 0.01  # a value of fewer pixels is an edge's, where there are many of them
SHOWN = 6  # values in a sentence


def histogram(path):
    """Pixels of each value 0..255 in a mask, (256,); kept until the file changes."""
    try:
        state = os.stat(path)
    except OSError:
        return _histogram(path, None)  # read_mask says what is wrong with it
    return _histogram(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=20_000)
def _histogram(path, state):
    counts = np.bincount(read_mask(path).ravel(), minlength=VOID + 1)
    counts.flags.writeable = False
    return counts


def count_classes(histograms, whose):
    """How many classes the values of masks stand for, where nobody named them; and the ids below it that never occur.

    Class ids are 0, 1, 2 … without large gaps, and 255 is void.

    Parameters
    ----------
    histograms : dict of {path: (256,) array}
        Of each mask.
    whose : str or path
        What a message calls the set.

    Returns
    -------
    n : int
    absent : list of int

    Raises
    ------
    UserError
        Naming a mask, what it holds and what to do, if most ids below the largest never occur, if there are more than
        a hundred values, or if there is nothing but 0 and void.
    """
    total = sum(histograms.values())
    values = np.flatnonzero(total[:VOID])
    require_labels(total, whose)
    if not values.any():
        remedy = "write 1 where the masks hold 255" if total[VOID] else "a foreground must have the id 1"
        raise UserError(
            f"the masks of {whose} hold no class but 0, and {VOID} means void; {remedy} (or name the classes in "
            "classes.txt)"
        )
    n = int(values[-1]) + 1
    if n == 2 or (len(values) <= MOST and 2 * len(values) > n):
        return n, sorted(set(range(n)) - set(values.tolist()))
    example = next(path for path, counts in histograms.items() if counts[values[-1]])
    every = np.flatnonzero(total)
    common = [int(value) for value in every if total[value] >= RARE * total.sum()]
    named = f"if they are ids, name all {n} classes in classes.txt"
    if len(every) > 2 * len(common) + 4:
        raise UserError(
            f"the masks of {whose} hold {len(every)} different values (the largest in {example}), most of them in few "
            f"pixels, as soft edges and JPEG leave them; keep the values that are meant (perhaps {_list(common)}), "
            f"numbered 0, 1, 2, and save without smoothing as PNG; {named}"
        )
    raise UserError(
        f"the masks of {whose} hold the values {_list(every)} (the largest class in {example}), which are not the ids "
        f"0, 1, 2 without gaps, with {VOID} for void; write the ids into the masks; {named}"
    )


def require_labels(total, whose):
    """Raise UserError if all pixels that a histogram counts are void."""
    if not total[:VOID].any():
        raise UserError(
            f"the masks of {whose} hold nothing but {VOID}, and {VOID} means void: there is nothing to learn"
        )


def _list(values):
    shown = ", ".join(map(str, values[:SHOWN]))
    return shown + (f" and {len(values) - SHOWN} more" if len(values) > SHOWN else "")
