"""The bands of a data set: the names of its images' channels, and pictures of images with any number of them.

A data set with the attribute ``bands``, a tuple of names, has images (H, W, len(bands)) of uint8 or uint16, and their
values are used as they are.  Without it the bands are red, green and blue, in 8 bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.types import Array
from ..errors import UserError

RGB = ("red", "green", "blue")
WHITE = 98  # percent of the values of a 16-bit picture are darker than its white


def bands_of(dataset: Any) -> tuple[str, ...]:
    """The names of a data set's bands."""
    return tuple(getattr(dataset, "bands", RGB))


def require_bands(value: Any, name: str) -> None:
    """Raise UserError unless `value` is a sequence of different names; `name` is the data set's in the message."""
    names = value if isinstance(value, tuple | list) else ()
    proper = names and all(isinstance(band, str) and band and band.isprintable() for band in names)
    if not proper or len(set(names)) != len(names):
        raise UserError(f"{name} has bands {value!r}; it must be a tuple of different names, one for each channel")


def require_same_bands(then: Sequence[str], now: Sequence[str], before: str, after: str) -> None:
    """Raise UserError if two lists of bands differ; `before` and `after` are subject and verb for either list."""
    if tuple(then) != tuple(now):
        raise UserError(f"{before} the bands {', '.join(then)}, but {after} {', '.join(now)}; both must be the same")


def choose(bands: Sequence[str] | str, known: Sequence[str], what: str = "bands") -> tuple[str, ...]:
    """The names in a text such as "red,height" or a sequence; UserError if one is unknown, or given twice."""
    chosen = tuple(band.strip() for band in (bands.split(",") if isinstance(bands, str) else bands))
    if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(known):
        raise UserError(f"{what} are {','.join(chosen)!r}; choose different ones of {', '.join(known)}")
    return chosen


def false_colour(image: Array, bands: Sequence[str] = RGB) -> Array:
    """An RGB picture of an image with any bands: red, green and blue if it has them, else the first three.

    With fewer than three bands, the first is shown in grey.  16-bit values are scaled so that 98 % of those shown lie
    below white, unless they all fit into 8 bits.

    Parameters
    ----------
    image : ndarray of uint8 or uint16, shape (H, W, C)
    bands : sequence of str

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    if image.dtype == np.uint8 and tuple(bands) == RGB:
        return image
    bands = list(bands)
    shown = [bands.index(band) for band in RGB] if set(RGB) <= set(bands) else [0, 1, 2] if len(bands) > 2 else [0] * 3
    picture = image[..., shown]
    if picture.max(initial=0) <= 255:
        return picture.astype(np.uint8)
    white = max(float(np.percentile(picture, WHITE)), 1.0)
    return np.rint(np.minimum(picture / white, 1) * 255).astype(np.uint8)
