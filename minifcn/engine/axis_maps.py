"""The exact position of one grid on another along an axis, and how operations change it.

Cell ``i`` of a feature map is centred at ``jump·i + start`` on its *root* (the image, say) and sees the root's cells
``lo … hi``.  The unit is a cell of the root, and the centre of the root's cell 0 is at 0.  Each operation of a network
computes the map of its output from that of its input:

===================  ==================================  ==========================================
operation            jump'                               start'
===================  ==================================  ==========================================
convolution, pool    jump · s                            start + ((k_d − 1)/2 − p) · jump
transposed conv      jump / s                            start − ((k_d − 1)/2 − p) · jump'
crop by o            jump                                start + o · jump
resize n → m         jump · n/m                          start + (n/m − 1)/2 · jump
===================  ==================================  ==========================================

with ``k_d = d(k − 1) + 1``.  After a transposed convolution, neighbouring cells can see different numbers of cells (a
pixel that was upsampled 32-fold sees one coarse cell or two), so the intervals are stored for each *phase*
``i mod period``.  All numbers are exact fractions.

Sources: Caffe's ``coord_map.py`` for (jump, start); Araujo et al., "Computing Receptive Fields of CNNs", Distill 2019,
for the intervals.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

from ..errors import GeometryError, shown

LONGEST = 4096  # the longest period of intervals that is stored


class Root:
    """A grid that positions refer to: the image, or a tensor that was marked."""

    __slots__ = ("name", "size")

    def __init__(self, name, size):
        self.name, self.size = name, size

    def __str__(self):
        return shown(f"{self.name or 'the image'} ({self.size[0]}×{self.size[1]})")

    def __repr__(self):
        return shown(f"Root({self.name or 'unnamed'}, {self.size[0]}×{self.size[1]})")


@dataclass(frozen=True)
class AxisMap:
    """The position of a grid's cells on their root, along one axis.

    Attributes
    ----------
    jump, start : Fraction
        Cell ``i`` is centred at ``jump·i + start``.
    sees : tuple of ((lo, hi) or None)
        The root's cells lo … hi, both included, that cell ``i`` sees, for ``0 ≤ i < len(sees)``.  Each period further
        on, they lie ``jump · len(sees)`` cells further.  None: the cell sees nothing.  An empty tuple: the intervals
        are not stored, because they repeat only after more than `LONGEST` cells (interpolation between odd sizes).
    fault : str or None
        A sentence that says why the grid has no single position (two misaligned paths met), or None if it has one.
    everything : str or None
        A sentence that says why a cell depends on more than an interval of the root (on the statistics of a whole
        batch), or None.  If there is one, `sees` is empty.

    Examples
    --------
    A 3×3 convolution with padding 1, then a pooling of 2:

    >>> place = AxisMap().window(3, 1, 1).window(2, 2, 0)
    >>> str(place), place.interval(0), place.interval(5)
    ('2·i + 1/2', (-1, 2), (9, 12))
    """

    jump: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    sees: tuple = ((0, 0),)
    fault: str | None = None
    everything: str | None = None

    def __hash__(self):  # computed once, because maps are the keys of the caches below
        cached = self.__dict__.get("_hash")
        if cached is None:
            cached = hash((self.jump, self.start, self.sees, self.fault, self.everything))
            object.__setattr__(self, "_hash", cached)
        return cached

    def __str__(self):
        return shown(f"{self.jump}·i {'−' if self.start < 0 else '+'} {abs(self.start)}")

    @property
    def is_nowhere(self):
        """Whether :func:`nowhere` made the map."""
        return self.fault is not None and self.fault == self.everything

    def interval(self, i):
        """The root's cells ``(lo, hi)`` that cell `i` sees; None if it sees nothing.

        Raises
        ------
        GeometryError
            If the intervals are not stored.
        """
        if self.everything:
            raise GeometryError(self.everything)
        if not self.sees:
            raise GeometryError(
                f"what the cells see here repeats only after more than {LONGEST} cells and is not stored: interpolate "
                "between sizes with a common divisor"
            )
        periods, phase = divmod(i, len(self.sees))
        seen = self.sees[phase]
        if seen is None:
            return None
        shift = int(periods * len(self.sees) * self.jump)
        return seen[0] + shift, seen[1] + shift

    @lru_cache(maxsize=4096)  # noqa: B019  maps are small values that all networks share
    def window(self, kernel, stride, padding, dilation=1):
        """The map after a sliding window (convolution, pooling); ``kernel=1`` with a negative padding slices."""
        period = len(self.sees) // gcd(len(self.sees), stride) if self.sees else 0
        sees = (
            _hull(self.interval(stride * i - padding + dilation * tap) for tap in range(kernel)) for i in range(period)
        )
        reach = Fraction(dilation * (kernel - 1), 2) - padding
        return _reduced(self.jump * stride, self.start + reach * self.jump, tuple(sees), self.fault, self.everything)

    @lru_cache(maxsize=4096)  # noqa: B019
    def spread(self, kernel, stride, padding, dilation=1):
        """The map after a transposed convolution: cell u has (u + p − d·m)/s under tap m, if whole."""
        period = len(self.sees) * stride if len(self.sees) * stride <= LONGEST else 0
        sees = (
            _hull(
                self.interval((i + padding - dilation * tap) // stride)
                for tap in range(kernel)
                if (i + padding - dilation * tap) % stride == 0
            )
            for i in range(period)
        )
        jump = self.jump / stride
        reach = Fraction(dilation * (kernel - 1), 2) - padding
        return _reduced(jump, self.start - reach * jump, tuple(sees), self.fault, self.everything)

    @lru_cache(maxsize=4096)  # noqa: B019
    def resize(self, n, m):
        """The map after linear interpolation of n cells to m with half-pixel centres, apart from the clamped border."""
        period = m * len(self.sees) // gcd(m * len(self.sees), n)
        period = period if period <= max(LONGEST, m) else 0  # a large image is interpolated to its own size
        sources = (Fraction((2 * i + 1) * n, 2 * m) - Fraction(1, 2) for i in range(period))
        sees = (
            _hull(self.interval(j) for j in range(s.numerator // s.denominator, -(-s.numerator // s.denominator) + 1))
            for s in sources
        )
        ratio = Fraction(n, m)
        return _reduced(
            self.jump * ratio, self.start + (ratio - 1) / 2 * self.jump, tuple(sees), self.fault, self.everything
        )

    def shift(self, offset):
        """The map after a crop whose cell 0 is this grid's cell `offset`; a negative offset is a pad."""
        return self.window(1, 1, -offset)

    @lru_cache(maxsize=4096)  # noqa: B019
    def union(self, other):
        """The map of a sum or concatenation of two grids: a cell sees what either sees.

        If the grids do not coincide, the result has a fault.
        """
        if self.fault or other.fault:
            return self if self.fault else other
        if (self.jump, self.start) != (other.jump, other.start):
            why = f"two paths meet and do not coincide: cell i of one lies at {self}, cell i of the other at {other}"
            return AxisMap(self.jump, self.start, self.sees, why)
        everything = self.everything or other.everything
        period = lcm(len(self.sees), len(other.sees))
        period = period if period <= LONGEST else 0
        sees = (_hull((self.interval(i), other.interval(i))) for i in range(period))
        return _reduced(self.jump, self.start, tuple(sees), None, everything)

    @lru_cache(maxsize=4096)  # noqa: B019
    def seeing_everything(self, why):
        """A copy that records that each cell depends on the whole root, so that no interval says what it sees."""
        return replace(self, sees=(), everything=self.everything or why)


HERE = AxisMap()  # the position of a root on itself


def nowhere(why):
    """The map of a tensor without rows and columns of the root (after flattening, say): it has no position."""
    return AxisMap(sees=(), fault=why, everything=why)


def called(tensor):
    """The name of a tensor for a message."""
    return tensor.name or "a tensor without a name"


def blamed(place, axis, paths, meeting, root):
    """`place` with a fault that names both inputs, if two misaligned paths met in this operation.

    Parameters
    ----------
    place : AxisMap
        The map of the operation's output, which has a fault.
    axis : int
        0: h, 1: w.
    paths : list of (Tensor, (AxisMap, AxisMap))
        The operation's inputs and their maps.
    meeting : str
        The name of the operation.
    root : Root
    """
    maps = [(called(x), m[axis]) for x, m in paths]
    if any(m.fault for _, m in maps):
        return place
    one, first = maps[0]
    other, second = next((name, m) for name, m in maps if (m.jump, m.start) != (first.jump, first.start))
    why = (
        f"{one} and {other} meet in {meeting} and do not coincide: along {'hw'[axis]} of {root}, cell i of {one} lies "
        f"at {first}, cell i of {other} at {second}"
    )
    return replace(place, fault=why)


def _hull(intervals):
    """The smallest interval that contains all `intervals`; None if all of them are None."""
    seen = [s for s in intervals if s is not None]
    return (min(lo for lo, _ in seen), max(hi for _, hi in seen)) if seen else None


def _reduced(jump, start, sees, fault, everything=None):
    """The map with these values and the shortest period that gives the same intervals."""
    n = len(sees)
    for period in range(1, n):
        step = jump * period
        if n % period or step.denominator != 1:
            continue
        if all(sees[i] == _moved(sees[i - period], int(step)) for i in range(period, n)):
            sees = sees[:period]
            break
    return AxisMap(jump, start, sees, fault, everything)


def _moved(interval, by):
    return None if interval is None else (interval[0] + by, interval[1] + by)
