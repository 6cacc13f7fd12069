"""Colours of 10 to 16 bits a channel, with all their bits, which Pillow does not keep."""

import re
import sys

import numpy as np

from .images import as_rgb, file_header, opened, scaled, upright


def read_whitened(path, white):
    """Read an image as :func:`read_image` does, with `white` as the value of white if it has more than 8 bits.

    Parameters
    ----------
    path : path-like
    white : int
        Such as 4095 for the 12 bits of a camera.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    values = read_deep(path)
    if values is not None:
        return scaled(values, white)
    with opened(path) as image:
        return as_rgb(path, image, white)


def read_deep(path):
    """The values of an image in red, green and blue of 16 bits, uint16 (H, W, 3), upright; None of another image
    or of a TIFF that stores each channel in a plane of its own.

    Pillow keeps only the upper byte of such a value.  With the order of bytes reversed, it keeps the lower one.
    """
    halves = []
    header = file_header(path)
    for reverse in (False, True):
        with opened(path) as image:
            planes = image.format == "TIFF" and image.tag_v2.get(284) == 2  # Pillow then reads the upper bytes anyway
            if header.bits != 16 or header.mode not in ("RGB", "RGBA") or planes:
                return None
            if reverse:
                image.tile = [_reversed(tile) for tile in image.tile]
            halves.append(np.asarray(upright(image))[..., :3].astype(np.uint16))
    upper, lower = halves
    return upper << 8 | lower


def _reversed(tile):
    """A tile of Pillow's whose decoder reads values of 16 bits in the other order of bytes."""
    other = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
    *start, arguments = tile
    first, *rest = [arguments] if isinstance(arguments, str) else arguments
    first = re.sub(";16([LBN])$", lambda found: f";16{other[found[1]]}", first)
    return type(tile)(*start, (first, *rest)) if type(tile) is not tuple else (*start, (first, *rest))
