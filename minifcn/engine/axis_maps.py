"""One exact affine map between two grids, and its composition.

Along one axis, cell ``i`` of a feature map is centred at ``jump·i + start`` of its *root* (the image, say), in the
root's cells, whose first has its centre at 0; and it sees the root's cells ``lo … hi``.  Every operation of a
network composes the map of its input with its own:

===================  ==================================  ==========================================
operation            jump'                               start'
===================  ==================================  ==========================================
convolution, pool    jump · s                            start + ((k_d − 1)/2 − p) · jump
transposed conv      jump / s                            start − ((k_d − 1)/2 − p) · jump'
crop by o            jump                                start + o · jump
resize n → m         jump · n/m                          start + (n/m − 1)/2 · jump
===================  ==================================  ==========================================

with ``k_d = d(k − 1) + 1``.  After a transposed convolution neighbouring cells differ in what they see (a 32-fold
upsampled pixel sees one coarse cell or two), so what a cell sees is kept once per *phase* ``i mod period``.
Fractions keep everything exact.  Source: Caffe's ``coord_map.py`` states the rule
for (jump, start); the interval recursion is Araujo et al., "Computing Receptive Fields of CNNs", Distill 2019.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

from ..errors import GeometryError, shown

LONGEST = 4096  # the longest pattern of what neighbouring cells see that is kept


class Root:
    """A grid that positions are measured from: the image, or any tensor that was marked."""

    __slots__ = ("name", "size")

    def __init__(self, name, size):
        self.name, self.size = name, size

    def __str__(self):
        return shown(f"{self.name or 'the image'} ({self.size[0]}×{self.size[1]})")

    def __repr__(self):
        return shown(f"Root({self.name or 'unnamed'}, {self.size[0]}×{self.size[1]})")


@dataclass(frozen=True)
class AxisMap:
    """Where the cells of a grid lie on their root, along one axis.

    Attributes
    ----------
    jump, start : Fraction
        Cell ``i`` is centred at ``jump·i + start``.
    sees : tuple of ((lo, hi) or None)
        What cell ``i`` sees, for each phase ``i mod len(sees)``: the root's cells lo … hi, both included, for
        ``0 ≤ i < len(sees)``; a period further on, ``jump · len(sees)`` cells further.  None: it sees nothing.  Empty:
        not kept, because it repeats only after more than `LONGEST` cells (odd sizes, interpolated to odd sizes).
    fault : str or None
        Why this grid has no single position (two misaligned paths were fused, say), in words.
    everything : str or None
        Why a cell depends on more than an interval of the root (batch statistics, say), in words; `sees` is then empty.

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

    def __hash__(self):  # maps are the keys of the caches below: hash once
        cached = self.__dict__.get("_hash")
        if cached is None:
            cached = hash((self.jump, self.start, self.sees, self.fault, self.everything))
            object.__setattr__(self, "_hash", cached)
        return cached

    def __str__(self):
        return shown(f"{self.jump}·i {'−' if self.start < 0 else '+'} {abs(self.start)}")

    def interval(self, i):
        """The root's cells ``(lo, hi)`` that cell `i` sees; None where it sees nothing.

        Raises
        ------
        GeometryError
            If it is not kept.
        """
        if self.everything:
            raise GeometryError(self.everything)
        if not self.sees:
            raise GeometryError(f"what a cell sees repeats only after more than {LONGEST} cells here: it is not kept")
        periods, phase = divmod(i, len(self.sees))
        seen = self.sees[phase]
        if seen is None:
            return None
        shift = int(periods * len(self.sees) * self.jump)
        return seen[0] + shift, seen[1] + shift

    @lru_cache(maxsize=4096)  # noqa: B019  maps are small values, shared by every network that is ever built
    def window(self, kernel, stride, padding, dilation=1):
        """Through a sliding window: convolution or pooling; ``kernel=1`` with a negative padding also slices."""
        period = len(self.sees) // gcd(len(self.sees), stride) if self.sees else 0
        sees = (
            _hull(self.interval(stride * i - padding + dilation * tap) for tap in range(kernel)) for i in range(period)
        )
        reach = Fraction(dilation * (kernel - 1), 2) - padding
        return _reduced(self.jump * stride, self.start + reach * self.jump, tuple(sees), self.fault, self.everything)

    @lru_cache(maxsize=4096)  # noqa: B019
    def spread(self, kernel, stride, padding, dilation=1):
        """Through a transposed convolution: output ``u`` takes tap ``m`` of input ``(u + p − d·m)/s`` where whole."""
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
        """Through linear interpolation of n cells to m with half-pixel centres (the clamped border aside)."""
        period = m * len(self.sees) // gcd(m * len(self.sees), n)
        period = period if period <= LONGEST else 0
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
        """The grid whose cell 0 is this one's cell `offset`: a crop; a negative offset: a pad."""
        return self.window(1, 1, -offset)

    @lru_cache(maxsize=4096)  # noqa: B019
    def union(self, other):
        """The grid of a sum or concatenation of two grids: they must coincide; a cell sees what either sees."""
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

    def seeing_everything(self, why):
        """The same grid, whose cells depend on all of the root: no interval says what they see."""
        return replace(self, sees=(), everything=self.everything or why)


def nowhere(why):
    """The map of what has no rows and columns of the root: it has no position, and depends on all of the root."""
    return AxisMap(sees=(), fault=why, everything=why)


def called(tensor):
    """The name of a tensor, in a message."""
    return tensor.name or "a tensor without a name"


def blamed(place, axis, paths, meeting, root):
    """`place`, with a fault that names both paths if it was here that two misaligned ones met.

    Parameters
    ----------
    place : AxisMap
        Of an operation's output.
    axis : int
        0: h, 1: w.
    paths : list of (str, (AxisMap, AxisMap))
        The operation's inputs: what they are called, and where they lie.
    meeting : str
        What the operation is called.
    root : Root
    """
    maps = [(name, m[axis]) for name, m in paths]
    if not place.fault or any(m.fault for _, m in maps):
        return place
    one, first = maps[0]
    other, second = next((name, m) for name, m in maps if (m.jump, m.start) != (first.jump, first.start))
    why = (
        f"{one} and {other} meet in {meeting} and do not coincide: along {'hw'[axis]} of {root}, cell i of {one} lies "
        f"at {first}, cell i of {other} at {second}"
    )
    return replace(place, fault=why)


def _hull(intervals):
    """The smallest interval that holds all of `intervals`."""
    seen = [s for s in intervals if s is not None]
    return (min(lo for lo, _ in seen), max(hi for _, hi in seen)) if seen else None


def _reduced(jump, start, sees, fault, everything=None):
    """The same map with the shortest period that says the same."""
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
