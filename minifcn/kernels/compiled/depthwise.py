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
    source: Read[4], w: Read[2], target: Write[4], offsets: Read[1, np.int64], ends: Read[1, np.int64],
    in_h: int, in_w: int, out_h: int, out_w: int, top: int, left: int, span_h: int, span_w: int,
    deep: int, high: int, first: int, last: int,
):  # fmt: skip
    """Sum the taps of w, (C, taps), for all outputs; tap number t reads the cells from ``offsets[t]`` on.

    The source has in_h·in_w phases, the target out_h·out_w; the taps up to ``ends[e]`` belong to its phases up to e.
    For the channels first … last − 1, `deep` samples and `high` rows of the target's phases at a time.
    """
    (N, C, H, W), (SH, SW) = target.shape, source.shape[2:]
    rows, columns = (H + out_h - 1) // out_h, (W + out_w - 1) // out_w  # of a phase of the target
    R, P = high + span_h, columns + span_w
    phase, size = deep * R * P, ((deep - 1) * R + high - 1) * P + columns
    given, wanted = source.reshape(-1), target.reshape(-1)
    cells, sums = np.zeros(in_h * in_w * phase, source.dtype), np.zeros(out_h * out_w * phase, source.dtype)
    for c in range(first, last):
        for n in range(0, N, deep):
            for j in range(0, rows, high):
                here = min(deep, N - n)
                cells[:] = 0
                for k in range(here):
                    plane = ((n + k) * C + c) * SH * SW
                    deal(given, plane, SH, SW, j + top, left, cells, k * R * P, phase, R, P, in_h, in_w)
                begin = 0
                for e in range(out_h * out_w):
                    sum_taps(cells, w, c, offsets, begin, ends[e], sums, e * phase, size)
                    begin = ends[e]
                for k in range(here):
                    plane = ((n + k) * C + c) * H * W
                    collect(sums, k * R * P, phase, P, wanted, plane, H, W, j, min(high, rows - j), out_h, out_w)


@helper
def sum_taps(cells, w, c, offsets, first, last, sums, to, size):
    """sums[to + q] = Σ_t w[c, t] · cells[offsets[t] + q] over the taps t from first to last − 1, for q < size."""
    out = sums[to:]
    if first == last:
        out[:size] = 0
        return
    # several taps in a loop read and write the sums once: at first one to four taps, then four at a time
    t = first + (last - first - 1) % 4 + 1
    w0, x0 = w[c, first], cells[offsets[first] :]
    if t == first + 1:
        for q in range(size):
            out[q] = w0 * x0[q]
    else:
        w1, x1 = w[c, first + 1], cells[offsets[first + 1] :]
        wt, xt = w[c, t - 1], cells[offsets[t - 1] :]  # the last of them
        if t == first + 2:
            for q in range(size):
                out[q] = w0 * x0[q] + w1 * x1[q]
        elif t == first + 3:
            for q in range(size):
                out[q] = w0 * x0[q] + w1 * x1[q] + wt * xt[q]
        else:
            w2, x2 = w[c, first + 2], cells[offsets[first + 2] :]
            for q in range(size):
                out[q] = w0 * x0[q] + w1 * x1[q] + w2 * x2[q] + wt * xt[q]
    while t < last:
        w0, w1, w2, w3 = w[c, t], w[c, t + 1], w[c, t + 2], w[c, t + 3]
        x0, x1 = cells[offsets[t] :], cells[offsets[t + 1] :]
        x2, x3 = cells[offsets[t + 2] :], cells[offsets[t + 3] :]
        for q in range(size):
            out[q] += w0 * x0[q] + w1 * x1[q] + w2 * x2[q] + w3 * x3[q]
        t += 4


@loops
def summed_products(
    source: Read[4], outer: Read[4], result: Write[2], offsets: Read[1, np.int64],
    in_h: int, in_w: int, top: int, left: int, span_h: int, span_w: int, deep: int, high: int, first: int, last: int,
):  # fmt: skip
    """result[c, t] = Σ outer · cells, from ``offsets[t]`` on: the gradient of the filters."""
    (N, C, OH, OW), (H, W) = outer.shape, source.shape[2:]
    R, P = high + span_h, OW + span_w
    phase, given, outputs, zero = deep * R * P, source.reshape(-1), outer.reshape(-1), source.dtype.type(0)
    cells, factor = np.zeros(in_h * in_w * phase, source.dtype), np.zeros(phase, source.dtype)
    size, taps = ((deep - 1) * R + high - 1) * P + OW, len(offsets)
    for c in range(first, last):
        for t in range(taps):
            result[c, t] = 0
        for n in range(0, N, deep):
            for j in range(0, OH, high):
                cells[:] = 0
                factor[:] = 0
                for k in range(min(deep, N - n)):
                    plane = (n + k) * C + c
                    deal(given, plane * H * W, H, W, j + top, left, cells, k * R * P, phase, R, P, in_h, in_w)
                    deal(outputs, plane * OH * OW, OH, OW, j, 0, factor, k * R * P, phase, high, P, 1, 1)
                for t in range(taps):
                    total, moved = zero, cells[offsets[t] :]
                    for q in range(size):
                        total += factor[q] * moved[q]
                    result[c, t] += total


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
    x, gy = np.ascontiguousarray(x), np.ascontiguousarray(gy)
    taps = _taps(window, gy.shape[3], _forward)
    block = _block(len(gy), *gy.shape[2:], *taps.span, prod(window.stride))
    result = np.empty((w_shape[0], len(taps.order)), x.dtype)
    work = partial(summed_products, x, gy, result, taps.offsets(block), *window.stride, *taps.start, *taps.span, *block)
    workers.divide(len(result), work, moved=gy.size * window.taps)
    gw = np.empty(w_shape, x.dtype)
    gw.reshape(result.shape)[:, taps.order] = result
    return gw


def _correlate(source, w, target, window, step_in, step_out, shifts):
    source = np.ascontiguousarray(source)
    rows, columns = (-(-n // s) for n, s in zip(target.shape[2:], step_out))
    taps = _taps(window, columns, shifts)
    block = _block(len(target), rows, columns, *taps.span, prod(window.stride))
    w = np.ascontiguousarray(w.reshape(len(w), -1)[:, taps.order])
    places = *step_in, *step_out, *taps.start, *taps.span, *block
    work = partial(correlate, source, w, target, taps.offsets(block), taps.ends, *places)
    workers.divide(len(w), work, moved=target.size * window.taps)
    return target


def _forward(k, s, p, d):
    """Along one axis, (u, phase of the source, phase of the target, shift) of each tap."""
    return [(u, (d * u - p) % s, 0, (d * u - p) // s) for u in range(k)]


def _backward(k, s, p, d):
    return [(u, 0, a, (a + p - d * u) // s) for a in range(s) for u in range(k) if (a + p - d * u) % s == 0]


class _Taps:
    """The taps of a window, those that add to one phase of the target one after the other.

    Attributes
    ----------
    order : the index u·kw + v of each tap in its filter
    ends : for each phase of the target, the number of taps up to its last
    start, span : the least shifts along h and w, and how much larger the greatest are
    """

    def __init__(self, window, columns, shifts):
        along = [shifts(*axis) for axis in zip(window.kernel_size, window.stride, window.padding, window.dilation)]
        self.start = tuple(min(t for *_, t in taps) for taps in along)
        self.span = tuple(max(t for *_, t in taps) - least for taps, least in zip(along, self.start))
        self.row = columns + self.span[1]
        in_w, out_w = (window.stride[1], 1) if shifts is _forward else (1, window.stride[1])
        table = [
            (e * out_w + f, a * in_w + b, t - self.start[0], r - self.start[1], u * window.kernel_size[1] + v)
            for u, a, e, t in along[0]
            for v, b, f, r in along[1]
        ]
        table.sort(key=lambda tap: tap[0])
        target, self.phase, self.down, self.right, self.order = np.array(table).T
        self.ends = np.searchsorted(target, np.arange(prod(window.stride)), side="right")

    def offsets(self, block):
        """Where the first cell of each tap is, if a phase has so many samples and rows."""
        deep, high = block
        return (self.phase * deep * (high + self.span[0]) + self.down) * self.row + self.right


@lru_cache(maxsize=1024)
def _taps(window, columns, shifts):
    return _Taps(window, columns, shifts)


def _block(N, rows, columns, span_h, span_w, phases):
    """How many samples and how many rows of their phases are computed at a time; one side has so many phases."""
    width, cells = columns + span_w, CELLS // (1 + phases)
    high = _even(rows, max(cells // width - span_h, 1))
    deep = cells // ((high + span_h) * width) if high == rows else 1
    return _even(N, max(deep, 1)), high


def _even(n, most):
    """The size of the parts, at most `most`, into which n is cut: as few parts as possible, all of about one size."""
    return -(-n // -(-n // most))
