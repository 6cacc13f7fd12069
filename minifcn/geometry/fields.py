"""What a unit sees: eq. (1) and its composition rule, the receptive field, its region, and its size by phase."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any, NamedTuple

from ..engine.core import Tensor
from ..errors import GeometryError, shown
from ..kernels.shapes import conv_size


@dataclass(frozen=True)
class Filter:
    """The window of a layer as in eq. (1): ``y_ij = f_ks({x_{si+δi, sj+δj}}, 0 ≤ δi, δj < k)``, for any function f.

    ``f @ g`` is f after g, by the paper's rule (§3): ``f_ks ∘ g_k's' = (f∘g)_{k' + (k−1)s', s·s'}``.  So a network of
    such layers is a filter too, and can slide over an image of any size.

    Attributes
    ----------
    k, s : int
        Kernel size and stride.  (A kernel dilated by d has ``d(k − 1) + 1``.)

    Examples
    --------
    >>> conv5, pool2, fc = Filter(5), Filter(2, 2), Filter(5)
    >>> lenet = fc @ pool2 @ conv5 @ pool2 @ conv5
    >>> lenet, lenet.outputs(64)
    (Filter(k=32, s=4), 9)
    """

    k: int
    s: int = 1

    def __post_init__(self):
        for name, value in (("kernel size k", self.k), ("stride s", self.s)):
            if value != int(value) or value < 1:
                raise ValueError(f"the {name} of a filter must be a whole number of at least 1, got {value!r}")

    def __matmul__(self, g: "Filter") -> "Filter":
        if not isinstance(g, Filter):
            return NotImplemented
        return Filter(g.k + (self.k - 1) * g.s, self.s * g.s)

    def outputs(self, n: int) -> int:
        """The outputs over `n` cells without padding, ``⌊(n − k)/s⌋ + 1``.  Raises GeometryError if k > n."""
        return conv_size(n, self.k, self.s, 0)


@dataclass(frozen=True)
class ReceptiveField:
    """What one unit of y sees of x, as (h, w) pairs in cells of x; the centre of cell 0 is at 0.

    Attributes
    ----------
    size : (int, int)
        The cells seen.  After an upsampling the size differs from unit to unit, and this is the largest (see
        `fields_by_phase`).
    jump : (Fraction, Fraction)
        The distance between the centres of neighbouring units: the stride.
    start : (Fraction, Fraction)
        The centre of unit 0.  (Guides that put pixel centres at 0.5 give start + 0.5.)
    padding : (int, int)
        The effective padding: the cells before x that unit 0 sees.  Without upsampling,
        ``start = (size − 1)/2 − padding``.
    """

    size: tuple[int, ...]
    jump: tuple[Fraction, ...]
    start: tuple[Fraction, ...]
    padding: tuple[int, ...]

    def __repr__(self) -> str:
        pairs = (f"{name}=({float(h):.10g}, {float(w):.10g})" for name, (h, w) in vars(self).items())
        return f"ReceptiveField({', '.join(pairs)})"


class Region(NamedTuple):
    """A rectangle of cells: rows ``top … bottom − 1``, columns ``left … right − 1``, in the order of ``ops.pad``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def index(self) -> tuple[Any, slice, slice]:  # type: ignore[override]
        """The index that cuts the rectangle out of a map, ``x.data[region.index]``; for a clipped region only."""
        return ..., slice(self.top, self.bottom), slice(self.left, self.right)


def receptive_field(y: Tensor, x: Tensor) -> ReceptiveField:
    """The receptive field of the units of `y` on `x`.

    Parameters
    ----------
    y : Tensor
        (N, C, h, w), computed from `x`.
    x : Tensor
        The image, or an inner tensor that was marked with ``x.mark()``.

    Returns
    -------
    ReceptiveField

    Raises
    ------
    GeometryError
        If `y` has no position on `x` (it was flattened, say), or two misaligned paths lead to it.

    Examples
    --------
    >>> import numpy as np, minifcn as mf
    >>> image = mf.Tensor(np.zeros((1, 3, 32, 32)))
    >>> hidden = mf.nn.Conv2d(3, 4, 3, padding=1)(image)
    >>> mf.geometry.receptive_field(mf.ops.max_pool2d(hidden, 2), image)
    ReceptiveField(size=(4, 4), jump=(2, 2), start=(0.5, 0.5), padding=(1, 1))
    """
    maps = _maps(y, x)
    seen = [[s for s in _phases(m) if s is not None] for m in maps]
    return ReceptiveField(
        size=tuple(max((hi - lo + 1 for lo, hi in phases), default=0) for phases in seen),
        jump=tuple(m.jump for m in maps),
        start=tuple(m.start for m in maps),
        padding=tuple(-phases[0][0] if phases else 0 for phases in seen),
    )


def fields_by_phase(y: Tensor, x: Tensor) -> tuple[tuple[int, ...], ...]:
    """The numbers of cells of `x` that units 0, 1, … of `y` see, until the pattern repeats.

    After an upsampling, neighbouring units can see different numbers of cells.  In FCN-32s all pixels see 436; in
    FCN-16s half of them see 436 and half 468; in FCN-8s three out of four see 468.

    Parameters
    ----------
    y, x : Tensor
        As in :func:`receptive_field`.

    Returns
    -------
    (tuple of int, tuple of int)
        Along h and w: the size for unit i is entry ``i mod len``.  One entry if all are the same.

    Raises
    ------
    GeometryError
        As :func:`receptive_field`.
    """
    sizes = [[0 if s is None else s[1] - s[0] + 1 for s in _phases(m)] for m in _maps(y, x)]
    return tuple(tuple(s[:1] if len(set(s)) == 1 else s) for s in sizes)


def region(y: Tensor, x: Tensor, unit: Sequence[int], clip: bool = True) -> Region:
    """The region of `x` that one unit of `y` sees.

    Parameters
    ----------
    y, x : Tensor
        As in :func:`receptive_field`.
    unit : (int, int)
        Row and column in `y`.
    clip : bool
        Whether to return only the part that lies on `x`: it is smaller near a border, and empty if the unit sees only
        padding.  Otherwise rows and columns may be negative or beyond `x`.  (If an *inner* layer pads, a unit at the
        border sees zeros in place of a part of this region, but never more.)

    Returns
    -------
    Region
        (top, bottom, left, right), bottom and right exclusive.

    Raises
    ------
    GeometryError
        As :func:`receptive_field`.
    ValueError
        If `y` has no such unit.
    """
    if len(unit) != 2 or not all(0 <= i < n for i, n in zip(unit, y.shape[2:])):
        h, w = y.shape[2:]
        raise ValueError(shown(f"there is no unit {tuple(unit)}: rows are 0 … {h - 1}, columns 0 … {w - 1} of {y!r}"))
    edges = []
    for i, n, m in zip(unit, x.shape[2:], _maps(y, x)):
        seen = m.interval(i)
        if seen is None:  # between the taps of a transposed convolution: an empty region at the unit's place
            seen = floor(m.jump * i + m.start), floor(m.jump * i + m.start) - 1
        first, end = seen[0], seen[1] + 1
        edges += [min(max(first, 0), n), min(max(end, 0), n)] if clip else [first, end]
    return Region(*edges)


def _maps(y, x):
    """The positions of `y` on `x` along h and w.  Raises GeometryError if it has none."""
    if not x.where or x._root is None:
        raise GeometryError(f"{x!r} is not a root: call .mark() on it before you compute from it")
    if x._root not in y.where:
        raise GeometryError(
            f"{y!r} has no position on {x!r}: it was not computed from it, or an operation on the way removed its rows "
            "and columns (reshape, a sum over space), or .mark() was called on an inner tensor only afterwards"
        )
    for m in y.where[x._root]:
        refuse(m)
    return y.where[x._root]


def _phases(m):
    """What units 0, 1, … see, until the pattern repeats.  Raises GeometryError if the map does not keep it."""
    return [m.interval(i) for i in range(len(m.sees) or 1)]


def refuse(m):
    """Raise GeometryError if two misaligned paths met in this map."""
    if m.fault:
        raise GeometryError(m.fault)
