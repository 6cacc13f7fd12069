"""Depthwise convolution: one filter for each channel, over planes in one long row (``flat.py``)."""

from functools import partial
from math import prod

import numpy as np

from ...arrays import buffers
from ..cpu import workers
from .compiler import Read, Write, helper, loops
from .flat import backward, block_of, collect, deal, forward, taps_of

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


def pays(window, w_shape):
    """Whether a convolution is depthwise, and of few taps and a small stride, where this is faster than NumPy."""
    applies = window.groups == w_shape[0] and w_shape[1] == 1
    return applies and window.taps <= MOST_TAPS and window.stride[0] * window.stride[1] <= MOST_STRIDE


def conv2d(x, w, window):
    """y[j] = Σ_u w[u] · x[s·j + d·u − p], and s·j + d·u − p = s·(j + t) + a: phase a, moved by t."""
    y = buffers.empty((*x.shape[:2], *window.out_size(x.shape)), x.dtype)
    return _correlate(x, w, y, window, window.stride, (1, 1), forward)


def conv2d_grad_input(gy, w, x_shape, window):
    """gx[s·i + a] = Σ w[u] · gy[i + t] over the taps u for which t = (a + p − d·u)/s is whole."""
    return _correlate(gy, w, buffers.empty(x_shape, gy.dtype), window, (1, 1), window.stride, backward)


def conv2d_grad_weight(gy, x, w_shape, window):
    x, gy = np.ascontiguousarray(x), np.ascontiguousarray(gy)
    taps = taps_of(window, gy.shape[3], forward)
    block = block_of(len(gy), *gy.shape[2:], taps.span, CELLS // (1 + prod(window.stride)))
    result = np.empty((w_shape[0], window.taps), x.dtype)
    work = partial(summed_products, x, gy, result, taps.offsets(block), *window.stride, *taps.start, *taps.span, *block)
    workers.divide(len(result), work, moved=gy.size * window.taps)
    gw = np.empty(w_shape, x.dtype)
    gw.reshape(result.shape)[:, taps.order] = result
    return gw


def _correlate(source, w, target, window, step_in, step_out, shifts):
    source = np.ascontiguousarray(source)
    rows, columns = (-(-n // s) for n, s in zip(target.shape[2:], step_out))
    taps = taps_of(window, columns, shifts)
    block = block_of(len(target), rows, columns, taps.span, CELLS // (1 + prod(window.stride)))
    w = np.ascontiguousarray(w.reshape(len(w), -1)[:, taps.order])
    places = *step_in, *step_out, *taps.start, *taps.span, *block
    work = partial(correlate, source, w, target, taps.offsets(block), taps.ends, *places)
    workers.divide(len(w), work, moved=target.size * window.taps)
    return target
