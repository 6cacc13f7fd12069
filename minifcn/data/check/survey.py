"""Reads every image and mask once, and keeps a few numbers of each; an unreadable file is a fact, not an error."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ...errors import UserError
from ..bands import false_colour
from ..deep import read_deep
from ..images import VOID, Header, as_rgb, header_of, image_header, opened, read_bands, read_mask
from ..masks import histogram
from .files import Sample

SIDE = 16  # pixels of a thumbnail, by which similar images are found
DRAFT = 256  # a JPEG is decoded at the smallest of its sizes that is at least this, which takes a tenth of the time
MOST = 4096  # different colours or large values that are kept of a mask
THREADS = 4
CHUNK = 64  # samples given to the threads at a time


@dataclass
class Picture:
    """What is kept of an image."""

    header: Header | None = None
    thumb: np.ndarray | None = None  # uint8 (SIDE, SIDE, 3)
    mean: np.ndarray | None = None  # (bands,)
    white: int = 0  # the largest value that its bits may mean, if they are fewer than the file has
    hidden: float = 0.0  # the share of pixels that are transparent
    trouble: str = ""  # why it cannot be read


@dataclass
class Mask:
    """What is kept of a mask."""

    header: Header | None = None
    counts: np.ndarray | None = None  # (256,) pixels of each value
    others: dict = field(default_factory=dict)  # {colour, or value beyond 0..255: pixels}, at most MOST of them
    palette: bytes = b""  # the colours of values 0, 1, 2 ... if it has a palette
    trouble: str = ""  # why it cannot be used as it is


@dataclass
class Facts:
    """A sample with what is kept of its image and its mask; None for a file that is missing."""

    sample: Sample
    picture: Picture | None
    mask: Mask | None


def survey(samples, bands=None):
    """Read the files of all samples, in several threads, and yield the :class:`Facts` of each in order.

    At most THREADS images are in memory at a time.
    """
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(samples), CHUNK):
            yield from pool.map(lambda sample: facts(sample, bands), samples[start : start + CHUNK])


def facts(sample, bands=None):
    """Read the image and the mask of a sample."""
    seen = picture(sample.image, bands) if sample.image else None
    if sample.draw and seen and seen.header:
        return Facts(sample, seen, _drawn(sample, seen.header.size))
    return Facts(sample, seen, mask_of(sample.mask) if sample.mask else None)


def picture(path, bands=None):
    """The :class:`Picture` of an image file; with names of `bands` all its values are used as stored."""
    found = Picture()
    try:
        with opened(path) as image:
            found.header = header_of(image)
        if bands:
            values = read_bands(path, len(bands))
            rgb = false_colour(values, bands)
        else:
            with opened(path) as image:
                image.draft(image.mode, (DRAFT, DRAFT))
                values = rgb = as_rgb(path, image)
                found.hidden = _hidden(image)
        found.mean = values.mean(axis=(0, 1))
        found.thumb = np.asarray(Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.BOX))
    except UserError as error:
        found.trouble = str(error)
        if "16-bit values" in found.trouble:
            found.white = _white(path)
    return found


def _white(path):
    """The smallest of 1023, 4095, 16383 that is at least the largest value of an image of 16 bits; 0 if unknown."""
    values = read_deep(path)
    if values is None:
        with opened(path) as image:
            if len(image.getbands()) > 1:  # such as in planes, of which Pillow gives only the upper bytes
                return 0
            values = np.asarray(image)
    largest = int(values.max())
    return next((white for white in (1023, 4095, 16383) if white >= largest), 32767)


def _hidden(image):
    """The share of the pixels of a Pillow image that are not opaque."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return 0.0
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return float((alpha < 255).mean())


def _drawn(sample, size):
    """The :class:`Mask` of a label that annotations give."""
    found = Mask()
    try:
        if sample.mask:
            found.header = image_header(sample.mask)
        found.counts = np.bincount(sample.draw(size).ravel(), minlength=VOID + 1)
    except UserError as error:
        found.trouble = str(error)
    return found


def mask_of(path):
    """The :class:`Mask` of a mask file.  Values are counted also if the file cannot be used as a mask."""
    found = Mask()
    try:
        with opened(path) as image:
            found.header = header_of(image)
            if image.mode == "P":
                found.palette = bytes(image.getpalette() or ())
        found.counts = histogram(path)
    except UserError as error:
        found.trouble = str(error)
        with suppress(UserError):  # the file is damaged, as the first message says
            _count(values_of(path), found)
    return found


def values_of(path):
    """The values in a mask file, also if it cannot be used as a mask; UserError if it cannot be read.

    Returns
    -------
    ndarray
        uint8 (H, W) if the file holds ids or grey levels, in whatever format; uint8 (H, W, 3) if it holds colours;
        another type (H, W) if it holds values beyond 0..255 or fractions.
    """
    try:
        return read_mask(path)
    except UserError:
        pass
    with opened(path) as image:
        wide = image.mode in ("I", "F") or image.mode.startswith("I;")
        values = np.asarray(image if wide else image.convert("RGB"))
    if values.ndim == 3 and (values[..., :1] == values).all():
        return values[..., 0]
    if values.ndim == 2 and values.size and 0 <= values.min() <= values.max() <= 255 and (values % 1 == 0).all():
        return values.astype(np.uint8)
    return values


def _count(values, found):
    """Count grey levels into `counts`, and colours and other values into `others`."""
    if values.ndim == 2 and values.dtype == np.uint8:
        found.counts = np.bincount(values.ravel(), minlength=VOID + 1)
        return
    coloured = values.ndim == 3
    if coloured:
        values = values.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    each, pixels = np.unique(values, return_counts=True)
    if len(each) <= MOST:
        keys = [(v >> 16, v >> 8 & 255, v & 255) if coloured else v for v in each.tolist()]
        found.others = dict(zip(keys, pixels.tolist()))
