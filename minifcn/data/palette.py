"""Class colours: the PASCAL VOC colour map, and masks saved as palette PNGs.

A palette PNG holds class ids *and* shows colours: any image viewer displays it, and no id is lost.
"""

import numpy as np
from PIL import Image


def voc_colour_map(n=256):
    """The colours of PASCAL VOC: the bits of a class id dealt out to red, green and blue, high bits first.

    ``r |= (id >> 0 & 1) << (7 − i)``, likewise g with bit 1 and b with bit 2, then ``id >>= 3``; i = 0 .. 7.

    Parameters
    ----------
    n : int
        Colours.

    Returns
    -------
    ndarray of uint8, shape (n, 3)
        RGB; n is at most 256, and all colours differ.
    """
    ids = np.arange(n)
    colours = np.zeros((n, 3), np.uint8)
    for i in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> channel) & 1) << (7 - i)).astype(np.uint8)
        ids >>= 3
    return colours


def save_mask(path, label, palette=None):
    """Save class ids as a palette PNG, as VOC stores its ground truth.

    Parameters
    ----------
    path : path-like
    label : array of uint8, shape (H, W)
    palette : array of uint8, shape (n, 3), optional
        RGB of the first n ids; the VOC colour map goes on after them (so 255 = void stays visible).
    """
    colours = voc_colour_map()
    if palette is not None:
        colours[: len(palette)] = palette
    image = Image.fromarray(np.ascontiguousarray(label, np.uint8))
    image.putpalette(colours.tobytes())
    image.save(path, format="PNG")
