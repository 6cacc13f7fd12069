"""Planes laid one after the other, so that a tap of all windows is one long row of cells.

The planes of several samples lie in a buffer, with their zero padding, each row followed by the next.  A tap (u, v) of
all windows is then the whole buffer, moved by some rows and cells, so one long loop over the buffer computes
``w[u, v] · cells[q + offset]`` for all outputs at once.  The loop also computes what lies at the ends of rows, which is
not copied to the output; leaving it out would cost more, because short loops are slow.

At a stride s, a plane is dealt into s² phases: phase (a, b) holds the cells (s·i + a, s·j + b).  A tap then reads one
phase, moved.  The gradient for x has the phases on the other side: each tap adds to one phase of gx.
"""

from functools import lru_cache
from math import prod

import numpy as np

from .compiler import helper


@helper
def deal(flat, plane, H, W, top, left, cells, at, phase, R, P, step_h, step_w):
    """cells[(a·step_w + b)·phase + at + i·P + q] = x[step_h·(i + top) + a, step_w·(q + left) + b], where such a cell
    exists, for R rows i of P cells; x is the map that begins at flat[plane]."""
    # unsigned numbers: an index that could be negative counts from the end, and such a loop is not turned into vectors
    begin = max(0, -left)
    for a in range(step_h):
        for i in range(max(0, -top), min((H - 1 - a) // step_h + 1 - top, R)):
            to = np.uint64(at + a * step_w * phase + i * P + begin)
            of = np.uint64(plane + (step_h * (i + top) + a) * W + step_w * (begin + left))
            if step_w == 1:
                for q in range(np.uint64(min(W - left, P) - begin)):
                    cells[to + q] = flat[of + q]
            elif step_w == 2:  # one loop for both phases reads the row once
                pairs = np.uint64(min(W // 2 - left, P) - begin)
                odd, two, one = to + np.uint64(phase), np.uint64(2), np.uint64(1)
                for q in range(pairs):
                    cells[to + q], cells[odd + q] = flat[of + two * q], flat[of + two * q + one]
                if W % 2 and W // 2 - left < P:
                    cells[to + pairs] = flat[of + two * pairs]
            else:
                for b in range(step_w):
                    here, step = to + np.uint64(b * phase), np.uint64(step_w)
                    for q in range(np.uint64(max(min((W - 1 - b) // step_w + 1 - left, P) - begin, 0))):
                        cells[here + q] = flat[of + step * q + np.uint64(b)]


@helper
def collect(sums, at, phase, P, flat, plane, H, W, top, rows, step_h, step_w):
    """y[step_h·(i + top) + a, step_w·q + b] = sums[(a·step_w + b)·phase + at + i·P + q] for `rows` rows i; y is the
    map that begins at flat[plane]."""
    for a in range(step_h):
        for i in range(min(rows, (H - 1 - a) // step_h + 1 - top)):
            to, of = np.uint64(plane + (step_h * (i + top) + a) * W), np.uint64(at + a * step_w * phase + i * P)
            if step_w == 1:
                for q in range(np.uint64(W)):
                    flat[to + q] = sums[of + q]
            elif step_w == 2:
                pairs = np.uint64(W // 2)
                odd, two, one = of + np.uint64(phase), np.uint64(2), np.uint64(1)
                for q in range(pairs):
                    flat[to + two * q], flat[to + two * q + one] = sums[of + q], sums[odd + q]
                if W % 2:
                    flat[to + two * pairs] = sums[of + pairs]
            else:
                for b in range(min(step_w, W)):
                    here, step = of + np.uint64(b * phase), np.uint64(step_w)
                    for q in range(np.uint64((W - 1 - b) // step_w + 1)):
                        flat[to + step * q + np.uint64(b)] = sums[here + q]


def forward(k, s, p, d):
    """Along one axis, (u, phase of the source, phase of the target, shift) of each tap."""
    return [(u, (d * u - p) % s, 0, (d * u - p) // s) for u in range(k)]


def backward(k, s, p, d):
    return [(u, 0, a, (a + p - d * u) // s) for a in range(s) for u in range(k) if (a + p - d * u) % s == 0]


class Taps:
    """The taps of a window, those that add to one phase of the target one after the other.

    Attributes
    ----------
    order : the index u·kw + v of each tap in its filter; a slice of all if the taps are in that order
    ends : for each phase of the target, the number of taps up to its last
    start, span : the least shifts along h and w, and how much larger the greatest are
    """

    def __init__(self, window, columns, shifts):
        along = [shifts(*axis) for axis in zip(window.kernel_size, window.stride, window.padding, window.dilation)]
        self.start = tuple(min(t for *_, t in taps) for taps in along)
        self.span = tuple(max(t for *_, t in taps) - least for taps, least in zip(along, self.start))
        self.row = columns + self.span[1]
        in_w, out_w = (window.stride[1], 1) if shifts is forward else (1, window.stride[1])
        table = [
            (e * out_w + f, a * in_w + b, t - self.start[0], r - self.start[1], u * window.kernel_size[1] + v)
            for u, a, e, t in along[0]
            for v, b, f, r in along[1]
        ]
        table.sort(key=lambda tap: tap[0])
        target, self.phase, self.down, self.right, order = np.array(table).T
        self.order = slice(None) if (order == np.arange(len(order))).all() else order
        self.ends = np.searchsorted(target, np.arange(prod(window.stride)), side="right")

    def offsets(self, block):
        """Where the first cell of each tap is, if a phase has so many samples and rows."""
        deep, high = block
        return (self.phase * deep * (high + self.span[0]) + self.down) * self.row + self.right


@lru_cache(maxsize=1024)
def taps_of(window, columns, shifts):
    return Taps(window, columns, shifts)


def block_of(N, rows, columns, span, cells, share=1):
    """How many samples and how many rows are computed at a time, if a plane in memory has at most so many cells.

    The number of such blocks is a multiple of `share` where N is not, so that so many workers end together.
    """
    width = columns + span[1]
    high = _even(rows, max(cells // width - span[0], 1), share if N % share else 1)
    deep = cells // ((high + span[0]) * width) if high == rows else 1
    return _even(N, max(deep, 1)), high


def _even(n, most, times=1):
    """The size of the parts, at most `most`, into which n is cut: as few parts as possible, all of about one size, and
    a multiple of `times` if they are several."""
    parts = -(-n // most)
    return -(-n // (-(-parts // times) * times)) if parts > 1 else n
