"""Masks from polygons and run lengths, by the rules of the programs that write them.

``polygon`` is COCO's rule (`pycocotools`), which CVAT uses, too.  labelme draws with Pillow: see its file.
"""

import numpy as np

from ...errors import UserError
from .files import points_of

FINE = 5  # COCO's rule looks at the boundary at five times the resolution
MOST = 50_000_000  # points of a boundary at that resolution


def polygon(points, size, what):
    """The pixels of a polygon by COCO's rule, which `pycocotools` defines (``rleFrPoly`` in its maskApi.c).

    The boundary is drawn at five times the resolution.  Where it crosses the centre line of a column of pixels, the
    inside begins or ends.

    Parameters
    ----------
    points : ndarray of float, shape (n, 2)
        The corners (x, y); (0, 0) is the upper left corner of the image.  They may lie outside.
    size : (int, int)
        Height and width of the image.
    what : str
        The name of the polygon in an error message.

    Returns
    -------
    ndarray of bool, shape (H, W)
    """
    h, w = size
    if np.abs(points).max() > 1e8:
        raise UserError(f"{what} has a corner at {np.abs(points).max():.3g} pixels; correct its points")
    corners = np.trunc(FINE * points + 0.5).astype(np.int64)
    ends = np.roll(corners, -1, axis=0)
    steps = np.abs(ends - corners).max(axis=1)  # number of points on each side of the polygon, less one
    if steps.sum() > MOST:
        raise UserError(f"{what} is {steps.sum() / FINE:.3g} pixels around, too long to be drawn; correct its points")
    side = np.repeat(np.arange(len(corners)), steps + 1)
    at = np.arange(len(side)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    by_x = np.abs(ends - corners)[:, 0] >= np.abs(ends - corners)[:, 1]
    # each side is walked along its longer axis, which comes first here, always towards growing coordinates
    here, there = (np.where(by_x[:, None], xy, xy[:, ::-1]) for xy in (corners, ends))
    backwards = here[:, 0] > there[:, 0]
    first, last = np.where(backwards[:, None], there, here), np.where(backwards[:, None], here, there)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(steps > 0, (last - first)[:, 1] / steps, 0.0)
    t = np.where(backwards[side], steps[side] - at, at)
    long_axis = t + first[side, 0]
    short_axis = np.trunc(first[side, 1] + slope[side] * t + 0.5).astype(np.int64)
    x = np.where(by_x[side], long_axis, short_axis)
    y = np.where(by_x[side], short_axis, long_axis)
    moved = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = (np.where(x[moved] < x[moved - 1], x[moved], x[moved] - 1) + 0.5) / FINE - 0.5
    used = (np.floor(column) == column) & (column >= 0) & (column <= w - 1)
    row = np.ceil(np.clip((np.minimum(y[moved], y[moved - 1]) + 0.5) / FINE - 0.5, 0, h))[used].astype(np.int64)
    column = column[used].astype(np.int64)
    mask = np.zeros(size, bool)
    if not len(column):
        return mask
    left, right = column.min(), column.max() + 1
    crossings = np.zeros((right - left) * h + 1, np.uint8)  # down the columns; a row beyond the last starts the next
    np.bitwise_xor.at(crossings, (column - left) * h + row, 1)
    inside = np.bitwise_xor.accumulate(crossings[:-1])
    mask[:, left:right] = inside.astype(bool).reshape(-1, h).T
    return mask


def run_lengths(counts, size, what, by_columns=True):
    """The pixels of run lengths, which alternate between outside and inside, and begin outside.

    Parameters
    ----------
    counts : sequence of int
    size : (int, int)
        Height and width.
    what : str
        The name of the mask in an error message.
    by_columns : bool
        Whether the runs go down the columns, as COCO's do, or along the rows, as CVAT's do.

    Returns
    -------
    ndarray of bool, shape (H, W)
    """
    h, w = size
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != h * w:
        raise UserError(f"{what} has run lengths that do not add up to {h}x{w} pixels; export it again")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(w, h).T if by_columns else flat.reshape(h, w)


def unpack(text, what):
    """The run lengths in COCO's compressed text: numbers of 5 bits a character; from the third on, differences.

    Parameters
    ----------
    text : str
    what : str

    Returns
    -------
    list of int
    """
    counts, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise UserError(f"{what} has damaged run lengths; export it again")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last character of a number; its bit 16 is the sign
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise UserError(f"{what} has run lengths that end within a number; export it again")
    return counts


def points_of_flat(numbers, what):
    """The corners (n, 2) in a flat list x, y, x, y, …, with at least three of them."""
    if not isinstance(numbers, list) or len(numbers) % 2 or len(numbers) < 6:
        raise UserError(f"{what} has a polygon without three corners; remove it, or export the file again")
    return points_of([numbers[k : k + 2] for k in range(0, len(numbers), 2)], what)


def count_runs(mask):
    """The run lengths of a mask down its columns, beginning outside: the inverse of :func:`run_lengths`."""
    flat = np.asarray(mask, bool).T.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(changes, prepend=0, append=flat.size).tolist()


def pack(counts):
    """COCO's compressed text of run lengths: the inverse of :func:`unpack`."""
    text = []
    for k, count in enumerate(counts):
        value = count - (counts[k - 2] if k > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + (bits | 32 * more)))
            if not more:
                break
    return "".join(text)


def turned(points, centre, degrees):
    """Points (n, 2) turned around `centre`, clockwise as seen on the screen, where y grows downwards."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (points - centre) @ np.array([(cos, sin), (-sin, cos)]) + centre


def ellipse(x, y, rx, ry, degrees):
    """The corners (360, 2) of a polygon that approximates an ellipse with centre (x, y), turned clockwise."""
    angles = np.radians(np.arange(360))
    return turned(np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1), (x, y), degrees)
