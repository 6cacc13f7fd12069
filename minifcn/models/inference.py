"""From an image or its file to the scores of every pixel: the one place where an image is prepared for a model."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from os import PathLike
from typing import Any

import numpy as np

from .. import ops
from ..arrays import backend, memory
from ..arrays.types import Array
from ..data.bands import RGB
from ..data.images import read_bands, read_image
from ..engine.core import Tensor, no_grad
from ..errors import UserError
from ..geometry import Region
from ..nn.module import Module, evaluating
from . import tiles

Memory = str | float | None
SMALL = 1 << 18  # pixels up to which images are never cut: their maps are small
SCALES = (0.75, 1.0, 1.25)
"""The sizes of an image, relative to its own, over which test-time augmentation averages."""


def reads_photographs(model: Any) -> bool:
    """Whether a model takes 8-bit RGB, to which images of any kind are converted, not the bands that a file stores."""
    return (tuple(model.bands or RGB), model.in_channels, model.preprocessing.bits) == (RGB, 3, 8)


def image_of(model: Any, image: Array | str | PathLike, page: int = 0) -> Array:
    """The raw image for a model: `image` itself, or what the file at this path holds.

    Parameters
    ----------
    model : FCN
    image : ndarray or path-like
    page : int
        The page or frame of the file, for a model that takes photographs.

    Raises
    ------
    UserError
        If the file cannot be used (see `minifcn.data.images`).
    """
    if not isinstance(image, str | PathLike):
        return image
    return read_image(image, page) if reads_photographs(model) else read_bands(image, model.in_channels)


def scores(model: Module, images: Array, tta: bool = False) -> Tensor:
    """The scores of every pixel of raw images, without a graph, in evaluation mode.

    If the preprocessing has a ``size``, the model sees images of this size, and its scores are interpolated back.

    Test-time augmentation shows the model every image at the `SCALES`, each also mirrored, and averages the
    probabilities, ``p = 1/(2·|S|) Σ_s Σ_mirror resize(mirror(softmax(f(mirror(resize(x, s))))))``.  Images and
    probabilities are resized bilinearly.  The result is ``log p``, which has the form of scores: its softmax is ``p``.

    Parameters
    ----------
    model : Module
        With its ``preprocessing``.
    images : ndarray of uint8 or uint16
        (N, H, W, C) or (H, W, C).
    tta : bool
        Whether to use test-time augmentation, which costs about six times the time.

    Returns
    -------
    Tensor
        (N, num_classes, H, W).
    """
    seen = model.preprocessing.resized(images)
    x = Tensor(backend.to_device(model.preprocessing(seen), backend.device(model.parameters()[0].data)))
    size = x.shape[2:] if seen is images else images.shape[-3:-1]
    with evaluating(model), no_grad():
        if not tta:
            return model(x) if seen is images else ops.interpolate(model(x), size)
        total: Any = 0
        for scale in SCALES:
            scaled = x if scale == 1 else ops.interpolate(x, [max(1, round(scale * n)) for n in x.shape[2:]])
            for order in (1, -1):  # as it is, mirrored
                probabilities = ops.softmax(model(_columns(scaled, order)))
                total = total + ops.interpolate(_columns(probabilities, order), size).data
        smallest = np.finfo(np.float32).tiny  # instead of 0, whose logarithm is not finite
        return ops.log(Tensor((total / (2 * len(SCALES))).clip(smallest)))


def each(
    model: Any, images: Array, use: Callable[[slice, Region, Array], None], tta: bool = False, limit: Memory = None,
    more: int = 0,
) -> None:  # fmt: skip
    """Call ``use(images, pixels, scores)`` until every pixel has its scores: once, or for each tile of each image.

    Parameters
    ----------
    model : FCN
    images : ndarray (N, H, W, C) or (H, W, C)
        Raw.
    use : callable
        Takes the slice of the images, the region of their pixels, and the scores (n, num_classes, h, w) as an array on
        the model's device.
    tta : bool
        Test-time augmentation, which needs the whole images.
    limit : str or number, optional
        The memory that the process may take, as in :func:`minifcn.arrays.memory.allowed`; None on a GPU: any.
    more : int
        The bytes that the caller keeps besides the images.

    Raises
    ------
    UserError
        If the images do not suit the model, or the limit is too low.
    """
    batch = images[None] if images.ndim == 3 else images
    model.preprocessing(batch[:1, :1, :1])  # first of all, refuse images that do not suit the model
    size, tiling = batch.shape[1:3], tiling_of(model, batch.shape[:3], batch.nbytes + more, tta, limit)
    if tiling is None:
        use(slice(None), Region(0, size[0], 0, size[1]), scores(model, images, tta).data)
        return
    for n, image in enumerate(batch):
        tiles.each(model, tiling, partial(_window, image), partial(use, slice(n, n + 1)))


def tiling_of(
    model: Any, shape: Sequence[int], kept: int, tta: bool = False, limit: Memory = None
) -> tiles.Tiling | None:  # fmt: skip
    """The tiles in which images are computed; None if they are computed whole.

    Parameters
    ----------
    model : FCN
    shape : (int, int, int)
        The number of images, their height and width.
    kept : int
        The bytes of arrays that the caller keeps meanwhile.
    tta, limit
        As in :func:`each`.

    Raises
    ------
    UserError
        If the limit is too low.
    """
    (count, *size), weights = shape, model.parameters()
    if model.preprocessing.size is not None:  # images are resized to what the model was trained on, which fits
        return None
    if prod(shape) <= SMALL or (limit is None and backend.device(weights[0].data) != "cpu"):
        return None
    budget = memory.allowed(limit) - tiles.BASE - kept - sum(p.data.nbytes for p in weights)
    # test-time augmentation keeps the largest maps of a larger image, and the sums
    if tiles.survey(model, size, count).bytes * (2 if tta else 1) <= budget:
        return None
    if tta:
        raise UserError(
            f"test-time augmentation of images of {size[0]}x{size[1]} pixels (height x width) needs more than "
            f"{memory.shown(memory.allowed(limit))}: leave it out, or allow more memory"
        )
    return tiles.plan(model, (size[0], size[1]), budget)


def _window(image, region):
    return image[region.index[1:]]


def _columns(x, order):
    """The columns of (N, C, H, W) in their order (1) or reversed (-1)."""
    return x if order == 1 else Tensor(backend.of(x.data).ascontiguousarray(x.data[..., ::-1]))
