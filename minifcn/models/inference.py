"""From an image or its file to the scores of every pixel: the one place where an image is prepared for a model."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..arrays import backend, memory
from ..arrays.types import Array
from ..data.bands import RGB
from ..data.images import read_bands, read_image
from ..data.transforms import resized_shape
from ..engine.core import Tensor, no_grad
from ..errors import Note
from ..geometry import Region
from ..nn.module import Module, evaluating
from ..ops.interpolate import in_blocks
from . import tiles

Memory = str | float | None
SMALL = 1 << 18  # pixels up to which images are never cut: their maps are small
SCALES = (0.75, 1.0, 1.25)
"""The sizes of an image, relative to its own, over which test-time augmentation averages."""
MUCH = 3  # times the side of the pictures of the training; by default, training magnifies things up to 2 times
TINIEST = np.finfo(np.float32).tiny  # instead of 0, whose logarithm is not finite


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
    pixels = read_image(image, page) if reads_photographs(model) else read_bands(image, model.in_channels)
    if text := too_large(model, pixels.shape[:2]):
        warnings.warn(text, Note, stacklevel=2)
    return pixels


def too_large(model: Any, size: Sequence[int]) -> str:
    """A sentence if an image of `size` (h, w) is much larger than those that the model was trained on, else ""."""
    if model.side is None or model.preprocessing.size is not None or min(size) < MUCH * model.side:
        return ""
    return (
        f"a picture of {size[0]}x{size[1]} pixels (height x width) is {min(size) / model.side:.1f} times as large as "
        "those that the model was trained on; if the things in it are as much larger, the net does not recognise them: "
        f"with --size {model.side} the net sees the picture smaller"
    )


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
        return ops.log(Tensor((total / (2 * len(SCALES))).clip(TINIEST)))


class View(NamedTuple):
    """One way in which a model sees an image: resized to `size`, mirrored if `order` is -1, computed in tiles."""

    size: tuple[int, int]
    order: int
    tiling: tiles.Tiling


def each(
    model: Any, images: Array, use: Callable[[slice, Region, Array], None], tta: bool = False, limit: Memory = None,
    more: int = 0,
) -> None:  # fmt: skip
    """Call ``use(images, pixels, scores)`` until every pixel has its scores: once, or for each part of each image.

    Parameters
    ----------
    model : FCN
    images : ndarray (N, H, W, C) or (H, W, C)
        Raw.
    use : callable
        Takes the slice of the images, the region of their pixels, and the scores (n, num_classes, h, w) as an array on
        the model's device.
    tta : bool
        Test-time augmentation.
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
    size = batch.shape[1:3]
    whole, views = Region(0, size[0], 0, size[1]), views_of(model, batch.shape[:3], batch.nbytes + more, tta, limit)
    if views is None:
        use(slice(None), whole, scores(model, images, tta).data)
        return
    for n, image in enumerate(batch):
        part = slice(n, n + 1)
        if not tta and views[0].size == size:
            tiles.each(model, views[0].tiling, partial(_window, model, image), partial(use, part))
            continue
        x = backend.to_device(model.preprocessing(model.preprocessing.resized(image)), model.parameters()[0].device)
        total: Any = 0
        for view in views:
            parts = in_blocks(_seen(model, view, x, tta), size)
            if not tta:
                for region, values in parts:
                    use(part, region, values)
            elif view is views[0]:
                total = _joined(parts, (1, model.num_classes, *size), x)
            else:
                for region, values in parts:
                    total[region.index] += values
        if tta:
            total /= len(views)
            use(part, whole, backend.of(total).log(total.clip(TINIEST, out=total), out=total))


def _seen(model, view, x, tta):
    """The scores of a prepared image (1, C, h, w) as a view shows it, or their softmax; mirrored back."""
    if x.shape[2:] != view.size:
        x = _joined(in_blocks(x, view.size), (*x.shape[:2], *view.size), x)
    x = x[..., :: view.order]
    found = backend.of(x).empty((1, model.num_classes, *view.size), np.float32)

    def keep(core, values):
        found[core.index] = ops.softmax(Tensor(values)).data if tta else values

    tiles.each(model, view.tiling, lambda window: x[window.index], keep)
    return found[..., :: view.order]


def _joined(parts, shape, like):
    """The array of which the (region, values) are given."""
    whole = backend.of(like).empty(shape, like.dtype)
    for region, values in parts:
        whole[region.index] = values
    return whole


def views_of(
    model: Any, shape: Sequence[int], kept: int, tta: bool = False, limit: Memory = None
) -> list[View] | None:  # fmt: skip
    """How images are computed in tiles: one view, or all of test-time augmentation; None if they are computed whole.

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
    ValueError
        If the images have no pixels.
    """
    (count, *size), weights = shape, model.parameters()
    if min(size) < 1:
        raise ValueError(f"there is nothing to predict: the images have {size[0]}x{size[1]} pixels (height x width)")
    seen = resized_shape((size[0], size[1]), model.preprocessing.size or min(size))
    sizes = [(max(1, round(s * seen[0])), max(1, round(s * seen[1]))) for s in (SCALES if tta else (1,))]
    if max(prod(size), prod(sizes[-1])) * count <= SMALL or (limit is None and weights[0].device != "cpu"):
        return None
    budget = memory.allowed(limit) - tiles.BASE - kept - sum(p.data.nbytes for p in weights)
    image, resized = 4 * model.num_classes * prod(size), tta or seen != tuple(size)
    # besides the maps of the net: the sum over the views and two of its terms, of all images
    if tiles.survey(model, sizes[-1], count).bytes + 3 * image * count * resized <= budget:
        return None
    if resized:  # one image at a time: the sum, the maps of one view, the inputs
        budget -= image * tta + 4 * (model.num_classes + 3 * model.in_channels) * prod(sizes[-1])
    return [View(s, order, tiles.plan(model, s, budget)) for s in sizes for order in ((1, -1) if tta else (1,))]


def certified(
    model: Any, size: Sequence[int], kept: int, tta: bool = False, limit: Memory = None
) -> tuple[Array, Array]:  # fmt: skip
    """The rows (H,) and the columns (W,) of an image that :func:`each` computes with all that they depend on.

    Parameters
    ----------
    model : FCN
    size : (int, int)
    kept, tta, limit
        As in :func:`views_of`.

    Returns
    -------
    (ndarray of bool, ndarray of bool)
        A pixel is certified if its row and its column are: see :attr:`minifcn.models.tiles.Tiling.certified_axes`.
    """
    axes = [np.ones(n, bool) for n in size]
    for view in views_of(model, (1, *size), kept, tta, limit) or ():
        for axis, sure, order in zip(axes, view.tiling.certified_axes, (1, view.order)):
            lost = (~sure[::order]).astype(np.float32)[None, None, :, None]
            axis &= _joined(in_blocks(lost, (len(axis), 1)), (1, 1, len(axis), 1), lost).ravel() == 0
    return axes[0], axes[1]


def _window(model, image, region):
    return model.preprocessing(image[region.index[1:]])


def _columns(x, order):
    """The columns of (N, C, H, W) in their order (1) or reversed (-1)."""
    return x if order == 1 else Tensor(backend.of(x.data).ascontiguousarray(x.data[..., ::-1]))
