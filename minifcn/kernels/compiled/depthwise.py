"""Depthwise convolution: one filter for each channel.

The planes of several samples lie one after the other in a buffer, with their zero padding, each row followed by the
next.  A tap (u, v) of all windows is then the whole buffer, moved by some rows and cells, so one long loop over the
buffer adds ``w[u, v] · cells[q + offset]`` for all outputs at once.  The loop also computes sums at the ends of rows,
which are not copied to the output; leaving them out would cost more, because short loops are slow.

At a stride s, a plane is dealt into s² phases: phase (a, b) holds the cells (s·i + a, s·j + b).  A tap then reads one
phase, moved.  The gradient for x has the phases on the other side: each tap adds to one phase of gx.
"""

from functools import lru_cache, partial
from math import prod

import numpy as np

from ...arrays import buffers
from ..cpu import workers
from .compiler import Read, Write, helper, loops

CELLS = 1 << 14  # of all phases of the source and the target: they fit the first or the second cache
MOST_TAPS = 49
MOST_STRIDE = 4  # along h times along w


@loops
def correlate(
    source: Read[4], w: Read[4], target: Write[4], taps: Read[2, np.int64],
    in_h: int, in_w: int, out_h: int, out_w: int, top: int, left: int, span_h: int, span_w: int,
    deep: int, high: int, first: int, last: int,
):  # fmt: skip
    """Add each of the `taps`, the rows (u, v, phase of the source, phase of the target, offset), for all its outputs.

    The source has in_h·in_w phases, the target out_h·out_w.  For the channels first … last − 1, `deep` samples and
    `high` rows of the target's phases at a time.
    """
    N, H, W = target.shape[0], target.shape[2], target.shape[3]
    rows, columns = (H + out_h - 1) // out_h, (W + out_w - 1) // out_w  # of a phase of the target
    R, P = high + span_h, columns + span_w
    phases = np.zeros((in_h * in_w, deep, R, P), source.dtype)
    sums = np.zeros((out_h * out_w, deep, R, P), source.dtype)
    cells, totals, phase = phases.reshape(-1), sums.reshape(-1), deep * R * P
    size = ((deep - 1) * R + high - 1) * P + columns
    for c in range(first, last):
        for n in range(0, N, deep):
            for j in range(0, rows, high):
                here = min(deep, N - n)
                cells[:] = 0
                for k in range(here):
                    deal(source[n + k, c], phases, k, in_h, in_w, j + top, left)
                totals[:] = 0
                for tap in range(len(taps)):
                    weight = w[c, 0, taps[tap, 0], taps[tap, 1]]
                    moved, total = cells[taps[tap, 2] * phase + taps[tap, 4] :], totals[taps[tap, 3] * phase :]
                    for q in range(size):
                        total[q] += weight * moved[q]
                for k in range(here):
                    collect(sums, k, target[n + k, c], out_h, out_w, j, min(high, rows - j))


@loops
def summed_products(
    source: Read[4], outer: Read[4], result: Write[4], taps: Read[2, np.int64],
    in_h: int, in_w: int, top: int, left: int, span_h: int, span_w: int, deep: int, high: int, first: int, last: int,
):  # fmt: skip
    """result[u, v] = Σ outer · phase, moved by the tap's offset: the gradient of the filters."""
    N, OH, OW = outer.shape[0], outer.shape[2], outer.shape[3]
    R, P = high + span_h, OW + span_w
    phases, factors = np.zeros((in_h * in_w, deep, R, P), source.dtype), np.zeros((1, deep, R, P), source.dtype)
    cells, factor, phase = phases.reshape(-1), factors.reshape(-1), deep * R * P
    size = ((deep - 1) * R + high - 1) * P + OW
    for c in range(first, last):
        result[c] = 0
        for n in range(0, N, deep):
            for j in range(0, OH, high):
                cells[:] = 0
                factors[:] = 0
                for k in range(min(deep, N - n)):
                    deal(source[n + k, c], phases, k, in_h, in_w, j + top, left)
                    deal(outer[n + k, c, j : min(j + high, OH)], factors, k, 1, 1, 0, 0)
                for tap in range(len(taps)):
                    total, moved = source.dtype.type(0), cells[taps[tap, 2] * phase + taps[tap, 4] :]
                    for q in range(size):
                        total += factor[q] * moved[q]
                    result[c, 0, taps[tap, 0], taps[tap, 1]] += total


@helper
def deal(plane, phases, k, step_h, step_w, top, left):
    """phases[a·step_w + b, k, i, q] = plane[step_h·(i + top) + a, step_w·(q + left) + b], where such a cell exists."""
    (H, W), (_, _, R, P) = plane.shape, phases.shape
    for a in range(step_h):
        for b in range(step_w):
            begin = max(0, -left)
            cells = min((W - 1 - b) // step_w + 1 - left, P) - begin
            for i in range(max(0, -top), min((H - 1 - a) // step_h + 1 - top, R)):
                row = phases[a * step_w + b, k, i, begin:]
                values = plane[step_h * (i + top) + a, step_w * (begin + left) + b :]
                if step_w == 1:  # the compiler makes this loop faster than the other
                    for q in range(cells):
                        row[q] = values[q]
                else:
                    for q in range(cells):
                        row[q] = values[step_w * q]


@helper
def collect(sums, k, plane, step_h, step_w, top, rows):
    """plane[step_h·(i + top) + a, step_w·q + b] = sums[a·step_w + b, k, i, q] for the first `rows` rows of a phase."""
    H, W = plane.shape
    for a in range(step_h):
        for i in range(min(rows, (H - 1 - a) // step_h + 1 - top)):
            for b in range(min(step_w, W)):
                row, found = plane[step_h * (i + top) + a, b:], sums[a * step_w + b, k, i]
                if step_w == 1:
                    for q in range(W):
                        row[q] = found[q]
                else:
                    for q in range((W - 1 - b) // step_w + 1):
                        row[step_w * q] = found[q]


def pays(window, w_shape):
    """Whether a convolution is depthwise, and of few taps and a small stride, where this is faster than NumPy."""
    applies = window.groups == w_shape[0] and w_shape[1] == 1
    return applies and window.taps <= MOST_TAPS and window.stride[0] * window.stride[1] <= MOST_STRIDE


def conv2d(x, w, window):
    """y[j] = Σ_u w[u] · x[s·j + d·u − p], and s·j + d·u − p = s·(j + t) + a: phase a, moved by t."""
    y = buffers.empty((*x.shape[:2], *window.out_size(x.shape)), x.dtype)
    return _correlate(x, w, y, window, window.stride, (1, 1), _forward)


def conv2d_grad_input(gy, w, x_shape, window):
    """gx[s·i + a] = Σ w[u] · gy[i + t] over the taps u for which t = (a + p − d·u)/s is whole."""
    return _correlate(gy, w, buffers.empty(x_shape, gy.dtype), window, (1, 1), window.stride, _backward)


def conv2d_grad_weight(gy, x, w_shape, window):
    x, gy, gw = np.ascontiguousarray(x), np.ascontiguousarray(gy), np.empty(w_shape, x.dtype)
    taps, start, span = _taps(window, gy.shape[3], _forward)
    block = _block(len(gy), *gy.shape[2:], *span, prod(window.stride))
    work = partial(summed_products, x, gy, gw, taps, *window.stride, *start, *span, *block)
    workers.divide(len(gw), work, moved=gy.size * window.taps)
    return gw


def _correlate(source, w, target, window, step_in, step_out, shifts):
    source, w = np.ascontiguousarray(source), np.ascontiguousarray(w)
    rows, columns = (-(-n // s) for n, s in zip(target.shape[2:], step_out))
    taps, start, span = _taps(window, columns, shifts)
    block = _block(len(target), rows, columns, *span, prod(window.stride))
    work = partial(correlate, source, w, target, taps, *step_in, *step_out, *start, *span, *block)
    workers.divide(len(w), work, moved=target.size * window.taps)
    return target


def _forward(k, s, p, d):
    """Along one axis, (u, phase of the source, phase of the target, shift) of each tap."""
    return [(u, (d * u - p) % s, 0, (d * u - p) // s) for u in range(k)]


def _backward(k, s, p, d):
    return [(u, 0, a, (a + p - d * u) // s) for a in range(s) for u in range(k) if (a + p - d * u) % s == 0]


@lru_cache(maxsize=1024)
def _taps(window, columns, shifts):
    """The table of taps for :func:`correlate`, the least shifts along h and w, and how much larger the greatest are."""
    along = [shifts(*axis) for axis in zip(window.kernel_size, window.stride, window.padding, window.dilation)]
    start = tuple(min(t for *_, t in taps) for taps in along)
    span = tuple(max(t for *_, t in taps) - least for taps, least in zip(along, start))
    in_w, out_w = (window.stride[1], 1) if shifts is _forward else (1, window.stride[1])
    table = [
        (u, v, a * in_w + b, e * out_w + f, (t - start[0]) * (columns + span[1]) + r - start[1])
        for u, a, e, t in along[0]
        for v, b, f, r in along[1]
    ]
    return np.array(table, np.int64), start, span


def _block(N, rows, columns, span_h, span_w, phases):
    """How many samples and how many rows of their phases are computed at a time; one side has so many phases."""
    width, cells = columns + span_w, CELLS // (1 + phases)
    high = _even(rows, max(cells // width - span_h, 1))
    deep = cells // ((high + span_h) * width) if high == rows else 1
    return _even(N, max(deep, 1)), high


def _even(n, most):
    """The size of the parts, at most `most`, into which n is cut: as few parts as possible, all of about one size."""
    return -(-n // -(-n // most))
