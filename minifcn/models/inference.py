"""From an image or its file to the scores of every pixel: the one place where an image is prepared for a model."""

from os import PathLike
from typing import Any

import numpy as np

from .. import ops
from ..arrays import backend
from ..arrays.types import Array
from ..data.bands import RGB
from ..data.images import read_bands, read_image
from ..engine.core import Tensor, no_grad
from ..nn.module import Module, evaluating

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


def _columns(x, order):
    """The columns of (N, C, H, W) in their order (1) or reversed (-1)."""
    return x if order == 1 else Tensor(backend.of(x.data).ascontiguousarray(x.data[..., ::-1]))
