"""The offset of one map in another, and the padding that a model needs: no crop offset is written by hand."""

from collections.abc import Callable
from typing import Any

from ..arrays.types import Pair
from ..engine.axis_maps import called
from ..engine.core import Tensor, no_grad
from ..errors import GeometryError
from ..kernels.registry import shapes_only
from ..kernels.shapes import pair, stand_in
from .fields import refuse


def crop_offset(a: Tensor, b: Tensor, inside: bool = False) -> tuple[int, ...]:
    """The place (h, w) of b's cell (0, 0) in a, in whole cells.

    It follows from the positions of both on a common root (an image, say): with cell i of a at ``j·i + s_a`` and of b
    at ``j·i + s_b``, the offset is ``(s_b − s_a)/j``.  For FCN-32s-VGG16 it is the well-known 19, for 16s 5 and 27, for
    8s 5, 9 and 31 (§4.2).

    Parameters
    ----------
    a, b : Tensor
        (N, C, h, w), computed from the same image.
    inside : bool
        Whether all of b must lie over a.

    Raises
    ------
    GeometryError
        If the two share no root, have different steps, are a fraction of a cell apart, or one of them is the sum of
        misaligned paths; with `inside`, also if b reaches outside a.

    Examples
    --------
    The offset at which to crop an upsampling by two to the image that its input was pooled from:

    >>> import numpy as np, minifcn as mf
    >>> image = mf.Tensor(np.zeros((1, 1, 8, 8)))
    >>> half = mf.ops.max_pool2d(image, 2)
    >>> larger = mf.ops.conv_transpose2d(half, np.ones((1, 1, 4, 4)), stride=2)
    >>> larger.shape, mf.geometry.crop_offset(larger, image)
    ((1, 1, 10, 10), (1, 1))
    """
    shared = [root for root in a.where if root in b.where]
    if not shared:
        raise GeometryError(f"{a!r} and {b!r} come from no common image, so they have no offset: compute both from one")
    root = shared[0]
    for m in (*a.where[root], *b.where[root]):
        refuse(m)
    offset = []
    for axis, ma, mb in zip("hw", a.where[root], b.where[root]):
        maps = f"along {axis} of {root}, cell i of {called(a)} lies at {ma}, cell i of {called(b)} at {mb}"
        if ma.jump != mb.jump:
            raise GeometryError(f"cannot crop one map to another of a different step: {maps}")
        shift = (mb.start - ma.start) / ma.jump
        if shift.denominator != 1:
            raise GeometryError(
                f"cannot align by whole cells: {maps}, which is {shift} cells apart (an odd kernel shifts the centre "
                "by half a cell relative to an even one: FCN-AlexNet needs an upsampling kernel of 63, not 64)"
            )
        offset.append(int(shift))
    if inside and any(o < 0 or o + n > m for o, n, m in zip(offset, b.shape[2:], a.shape[2:])):
        raise GeometryError(
            f"cannot crop {called(a)}, {_by(a.shape[2:])}, to {called(b)}, {_by(b.shape[2:])}, which lies at "
            f"{tuple(offset)} in it and reaches outside: give the first layer more padding"
        )
    return tuple(offset)


def minimal_padding(
    build_model: Callable[[int], Any], size: Pair, *sizes: Pair, largest: int = 200, channels: int | None = None
) -> int:
    """The smallest padding of the first layer with which a model takes images of all given sizes.

    A padding that suits one size need not suit a larger one.  FCN-AlexNet needs 82 at 91 pixels and 83 at 97, but 84
    for 97 and 127 together: its convolution rounds sizes down and its poolings round them up.

    Parameters
    ----------
    build_model : callable
        ``build_model(padding) -> model``.  The model is only run for its shapes.
    size, *sizes : int or (int, int)
        Height and width of the images.
    largest : int
        The largest padding that is tried.
    channels : int, optional
        The channels of the image.  None: the model's ``in_channels``, or 3.

    Returns
    -------
    int

    Raises
    ------
    GeometryError
        If no padding up to `largest` works; the message quotes the last model's error.  Any other error in building
        or running the model ends the search.
    """
    pairs = [pair(size, 1, "size") for size in (size, *sizes)]
    for padding in range(largest + 1):
        try:
            with no_grad(), shapes_only():
                model = build_model(padding)
                like = next(iter(model.parameters())).data
                planes = getattr(model, "in_channels", 3) if channels is None else channels
                for h, w in pairs:
                    model(Tensor(stand_in(like, (1, planes, h, w)), name="the image"))
        except GeometryError as error:  # with this padding a map is too small
            reason = error
        else:
            return padding
    images = f"an image of {_by(pairs[0])}" if len(pairs) == 1 else f"images of all {len(pairs)} sizes"
    raise GeometryError(f"no padding up to {largest} takes {images}: {reason}") from reason


def _by(size):
    return "×".join(map(str, size))
