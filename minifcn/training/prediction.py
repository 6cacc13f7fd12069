"""What ``python -m minifcn.predict`` finds out about one image: labels, probabilities, and the area of each class."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.bands import RGB, false_colour
from ..data.images import image_header
from ..data.palette import voc_colour_map
from ..errors import UserError
from ..models.inference import certified, image_of, reads_photographs

BAND = 1 << 24  # pixels that are counted at a time, because NumPy counts a copy of 64-bit integers


@dataclass(frozen=True)
class Prediction:
    """The result for one image.

    Attributes
    ----------
    shown : ndarray of uint8, shape (H, W, 3)
        The image, in false colours if it is no photograph.
    label : ndarray of uint8, shape (H, W)
    probabilities : ndarray of float32, shape (C, H, W), or None
    certified : ndarray of bool, shape (H, W), or None
        The pixels that were computed in tiles with all that they depend on; all of them if there was one tile.
    """

    shown: Any
    label: Any
    probabilities: Any = None
    certified: Any = None


def predicted(model, picture, note, probabilities=False, tta=False, memory=None, certify=False):
    """The `Prediction` for a :class:`minifcn.training.pictures.Picture`.

    Parameters
    ----------
    model : FCN
    picture : Picture
    note : callable
        ``note(text)`` says which pages are left out.
    probabilities : bool
        Whether they are wanted.
    tta : bool
        Whether to use test-time augmentation: see :func:`minifcn.models.inference.scores`.
    memory : number, optional
        The bytes that the process may take: see :func:`minifcn.models.inference.each`.
    certify : bool
        Whether the certified pixels are wanted.

    Raises
    ------
    UserError
        If the file cannot be read, or is too large for the memory.
    """
    path = picture.path
    if picture.page is not None and not reads_photographs(model):
        raise UserError(f"{path} has several pages, which are bands for this model: leave out --frames")
    if picture.page is None and reads_photographs(model) and (pages := image_header(path).pages) > 1:
        note(f"note: {path} has {pages} pages or frames; only the first is labelled (--frames labels all)")
    image = image_of(model, path, picture.page or 0)
    found = sure = None
    try:
        if certify:
            kept = image.nbytes + image[..., 0].size * (4 * model.num_classes if probabilities else 1)
            rows, columns = certified(model, image.shape[:2], kept, tta, memory)
            sure = rows[:, None] & columns
        if probabilities:
            found = model.predict_proba(image, tta, memory)
            label = found.argmax(0).astype(np.uint8)
        else:
            label = model.predict(image, tta, memory)
    except MemoryError:
        height, width = image.shape[:2]
        raise UserError(
            f"{path} is {height}x{width} (height x width), which is too large for the memory; give a limit "
            "(--memory 2GB), cut it into tiles, or make it smaller"
        ) from None
    return Prediction(false_colour(image, model.bands or RGB), label, found, sure)


def names_and_colours(model):
    """The names and the colours of a model's classes; numbers and Pascal VOC's colours if it has seen no data set."""
    names = model.classes or [f"class {i}" for i in range(model.num_classes)]
    return names, voc_colour_map(model.num_classes) if model.palette is None else model.palette


def titled(head, name):
    """The name of a class, after that of its head if it is not the first."""
    return f"{head} {name}" if head else name


def areas(label, classes):
    """{class: (its number of pixels, its share of the image)} of a label map."""
    counts = sum((counted(part, len(classes)) for part in np.array_split(label, label.size // BAND + 1)), 0)
    return shared(counts, label.size, classes)


def counted(label, count):
    """The number of pixels of each of `count` classes."""
    return np.bincount(label.ravel(), minlength=256)[:count]


def shared(counts, pixels, classes):
    """{class: (its number of pixels, its share of `pixels`)}."""
    return {name: (int(n), int(n) / pixels) for name, n in zip(classes, counts)}


def shares(found):
    """The result of :func:`areas` as text, the largest share first; shares below 0.5 % are left out."""
    ordered = sorted(((share, name) for name, (_, share) in found.items()), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in ordered if share >= 0.005)


def row_of(picture, size, found):
    """A row of the table of results: the image, its size, and the pixels and the share of each class."""
    height, width = size
    row = dict(image=str(picture), height=height, width=width)
    row |= {f"pixels {name}": pixels for name, (pixels, _) in found.items()}
    return row | {f"share {name}": round(share, 6) for name, (_, share) in found.items()}


def record_of(picture, size, found, files):
    """The same as :func:`row_of` as a JSON value, with the paths of the results."""
    height, width = size
    classes = {name: dict(pixels=pixels, share=share) for name, (pixels, share) in found.items()}
    return dict(
        image=str(picture.path), frame=picture.page, height=height, width=width, classes=classes,
        files=[str(file) for file in files],
    )  # fmt: skip
