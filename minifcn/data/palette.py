"""Class colours: the PASCAL VOC colour map, and masks saved as palette PNGs.

A palette PNG stores class ids, and every image viewer displays it in the colours of its palette.
"""

import numpy as np
from PIL import Image


def voc_colour_map(n=256):
    """The colours of PASCAL VOC: the bits of a class id become, in turn, bits of red, green and blue.

    ``r |= (id >> 0 & 1) << (7 − i)``, likewise g with bit 1 and b with bit 2, then ``id >>= 3``; i = 0 .. 7.

    Parameters
    ----------
    n : int
        Number of colours, at most 256.

    Returns
    -------
    ndarray of uint8, shape (n, 3)
        RGB; all colours differ.
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
        RGB of the first n ids; the other ids, and so void (255), have the colours of the VOC colour map.
    """
    colours = voc_colour_map()
    if palette is not None:
        colours[: len(palette)] = palette
    image = Image.fromarray(np.ascontiguousarray(label, np.uint8))
    image.putpalette(colours.tobytes())
    image.save(path, format="PNG")
