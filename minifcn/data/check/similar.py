"""Finds images that are the same, or almost: a network that is measured on what it has learned looks too good."""

import numpy as np

from ..manifest import fingerprint
from .survey import SIDE, picture

ALIKE = (
    0.99  # correlation of two thumbnails; neighbouring frames of a video reach .995, different scenes stay below .985
)
FLAT = 2.0  # grey levels; thumbnails of less contrast are all alike
BLOCK = 1000  # images that are compared at a time


def near_duplicates(thumbs, others):
    """Pairs (i, j) of almost the same images, the most similar of `others` for each of `thumbs` that has one.

    Two thumbnails are alike if their values, less their means, have a correlation of at least .99.  Size, compression,
    brightness and contrast do not matter then.

    Parameters
    ----------
    thumbs, others : ndarray of uint8, (n, S, S, 3) and (m, S, S, 3)

    Returns
    -------
    list of (int, int)
    """
    (a, varied), (b, of_others) = _normalised(thumbs), _normalised(others)
    found = []
    for start in range(0, len(a), BLOCK):
        alike = a[start : start + BLOCK] @ b.T  # (rows, m)
        alike[:, ~of_others] = 0
        best = alike.argmax(axis=1)
        rows = np.flatnonzero((alike[np.arange(len(best)), best] >= ALIKE) & varied[start : start + BLOCK])
        found += [(start + int(i), int(best[i])) for i in rows]
    return found


def alike(thumbs):
    """The number of the group of each image; images that are almost the same, also through others, are in one group.

    Parameters
    ----------
    thumbs : ndarray of uint8, (n, S, S, 3)

    Returns
    -------
    ndarray of int, (n,)
    """
    a, varied = _normalised(thumbs)
    group = np.arange(len(a))
    for start in range(0, len(a), BLOCK):
        near = a[start : start + BLOCK] @ a.T >= ALIKE  # (rows, n)
        for i in np.flatnonzero(varied[start : start + BLOCK]):
            merged = np.unique(group[near[i] & varied])
            if len(merged) > 1:
                group[np.isin(group, merged)] = merged[0]
    return np.unique(group, return_inverse=True)[1]


def looks_alike(paths):
    """:func:`alike` for image files; a file that cannot be read is a group of its own."""
    pictures = [picture(path) for path in paths]
    blank = np.zeros((SIDE, SIDE, 3), np.uint8)
    return alike(np.stack([blank if found.thumb is None else found.thumb for found in pictures])).tolist()


def _normalised(thumbs):
    """Thumbnails as vectors of length 1 around 0, and which of them are not flat."""
    flat = np.asarray(thumbs, np.float32).reshape(len(thumbs), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.maximum(length, 1e-6), length[:, 0] > FLAT * flat.shape[1] ** 0.5


def duplicates(paths):
    """Groups of files with the same content, in the order of `paths`.

    Only files of the same size are read.

    Parameters
    ----------
    paths : sequence of Path

    Returns
    -------
    list of list of Path
    """
    by_size, by_content = {}, {}
    for path in paths:
        by_size.setdefault(path.stat().st_size, []).append(path)
    for group in by_size.values():
        for path in group if len(group) > 1 else ():
            by_content.setdefault(fingerprint(path), []).append(path)
    return [group for group in by_content.values() if len(group) > 1]
