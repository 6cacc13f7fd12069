"""Questions asked of tensors: receptive field, crop offset, smallest legal padding.

Every 4-D tensor knows where it lies on the images it came from (``coords.py``), composed as operations were applied.
Nothing here walks a graph, so the answers are the same in training and in prediction, before and after backward.
"""

from dataclasses import dataclass

from .coords import AxisMap, GeometryError
from .core import Tensor, no_grad
from .kernels.shapes import stand_in
from .kernels.table import shapes_only

__all__ = ["GeometryError", "ReceptiveField", "crop_offset", "minimal_padding", "receptive_field"]


@dataclass(frozen=True)
class ReceptiveField:
    """What one unit of y sees of x, each an (h, w) pair, in cells of x (cell 0 has its centre at 0).

    Attributes
    ----------
    size : (int, int)
        Cells seen.  After an upsampling this varies from unit to unit: here the largest.
    jump : (Fraction, Fraction)
        Distance between the centres of neighbouring units: the stride.
    start : (Fraction, Fraction)
        Centre of unit 0.  (Guides that put pixel centres at 0.5 print start + 0.5.)
    padding : (int, int)
        Effective padding: how far unit 0 sees beyond x.  ``start = (size − 1)/2 − padding`` without upsampling.
    """

    size: tuple
    jump: tuple
    start: tuple
    padding: tuple


def receptive_field(y, x):
    """The receptive field of the units of `y` on `x`.

    Parameters
    ----------
    y : Tensor
        (N, C, h, w), computed from `x`.
    x : Tensor
        The image, or a tensor on the way that was marked with ``x.mark()``.

    Returns
    -------
    ReceptiveField

    Raises
    ------
    GeometryError
        If `y` has no position on `x` (it was flattened, say), or two misaligned paths lead to it.
    """
    root = _root_of(x)
    if root not in y.where:
        raise GeometryError(
            f"{y!r} has no position on {x!r}: it was not computed from it, lost its rows and columns on the way "
            "(reshape, a sum over space), or came through an inner tensor that was not marked with .mark()"
        )
    maps = y.where[root]
    for m in maps:
        _refuse(m)
        m.interval(0)  # raises where what a cell sees is not kept
    seen = [[m.interval(i) for i in range(len(m.sees))] for m in maps]
    seen = [[s for s in phases if s is not None] for phases in seen]
    return ReceptiveField(
        size=tuple(max((hi - lo + 1 for lo, hi in phases), default=0) for phases in seen),
        jump=tuple(m.jump for m in maps),
        start=tuple(m.start for m in maps),
        padding=tuple(-phases[0][0] if phases else 0 for phases in seen),
    )


def _root_of(x):
    """The root that stands for x itself: where its map is the identity."""
    identity = (AxisMap(), AxisMap())
    for root, maps in x.where.items():
        if maps == identity and root.size == x.shape[2:]:
            return root
    raise GeometryError(f"{x!r} is not a root: call .mark() on it before computing what comes after")


def _refuse(m):
    if m.fault:
        raise GeometryError(m.fault)


def crop_offset(a, b, inside=False):
    """Where b's cell (0, 0) lies in a, as whole cells (h, w).

    Derived from a root both came from: with cell i of a at ``j·i + s_a`` and of b at ``j·i + s_b``, the offset is
    ``(s_b − s_a)/j``.  For FCN-32s-VGG16 that is the famous 19, for 16s 5 and 27, for 8s 5, 9 and 31 (§4.2).

    Parameters
    ----------
    inside : bool
        Also require that all of b lies over a.

    Raises
    ------
    GeometryError
        If the two share no root, step differently, are a fraction of a cell apart, or (`inside`) b reaches outside a.
    """
    shared = [root for root in a.where if root in b.where]
    if not shared:
        raise GeometryError(f"{a!r} and {b!r} come from no common image: nothing aligns them")
    root = shared[0]
    offset = []
    for axis, ma, mb in zip("hw", a.where[root], b.where[root]):
        _refuse(ma)
        _refuse(mb)
        maps = f"along {axis}, cell i of the first lies at {ma} and of the second at {mb} of {root!r}"
        if ma.jump != mb.jump:
            raise GeometryError(f"cannot crop one map to another of a different step: {maps}")
        shift = (mb.start - ma.start) / ma.jump
        if shift.denominator != 1:
            raise GeometryError(
                f"cannot align by whole cells: {maps}, {shift} cells apart (an odd kernel moves the centre by half a "
                "cell against an even one: FCN-AlexNet needs an upsampling kernel of 63, not 64)"
            )
        offset.append(int(shift))
    if inside and any(o < 0 or o + n > m for o, n, m in zip(offset, b.shape[2:], a.shape[2:])):
        raise GeometryError(
            f"cannot crop a map of {a.shape[2:]} to one of {b.shape[2:]} that lies at {tuple(offset)} in it: it would "
            "reach outside; more padding at the first layer makes the map larger"
        )
    return tuple(offset)


def minimal_padding(build_model, size, largest=200):
    """The smallest padding of the first layer with which a model takes an image of `size`.

    Parameters
    ----------
    build_model : callable
        ``build_model(padding) -> model``; ``model(images)`` is run for its shapes alone.
    size : int or (int, int)
        Height and width of the image.
    largest : int
        Where to stop looking.

    Returns
    -------
    int

    Raises
    ------
    GeometryError
        If no padding up to `largest` works; the message is the last model's own.
    """
    h, w = (size, size) if isinstance(size, int) else size
    for padding in range(largest + 1):
        model = build_model(padding)
        parameter = next(iter(model.parameters()))
        try:
            with no_grad(), shapes_only():
                model(Tensor(stand_in(parameter.data, (1, 3, h, w))))
        except (GeometryError, ValueError) as error:
            reason = error
        else:
            return padding
    raise GeometryError(f"no padding up to {largest} takes an image of {h}×{w}: {reason}")
