"""Convolution as the definition has it, for few channels: a sum over the taps of all input channels.

The planes lie in one long row (``flat.py``).  A loop over it computes three taps of four outputs: what it reads serves
four outputs, and what it adds to serves three taps.  No columns are made, which would take as long as the products if
there are few channels.
"""

from functools import lru_cache, partial
from math import prod

import numpy as np

from ...arrays import buffers
from ..cpu import workers
from .compiler import Read, Write, helper, loops
from .flat import block_of, collect, deal, forward, taps_of

OUTPUTS, TAPS = 4, 3  # that a loop computes at once
CELLS = 1 << 16  # of the planes of all inputs and four outputs: they fit the second cache, but for very wide maps
ADD, CELL, LOOP = 1.1, 22, 1600  # the costs of a multiply-add, of moving an output, of a loop; choice.py has the unit
MOST_STRIDE = 4  # along h times along w; at larger strides a number is in few windows, and NumPy's ways are faster


@loops
def correlate(
    x: Read[4], w: Read[1], y: Write[4], offsets: Read[1, np.int64], places: Read[1, np.uint64], filter: int,
    in_h: int, in_w: int, top: int, left: int, span_h: int, span_w: int, deep: int, high: int, first: int, last: int,
):  # fmt: skip
    """y[o] = Σ_t w[o·filter + places[t]] · cells, from ``offsets[t]`` on, over the taps t of all channels.

    For the blocks first … last − 1, of `deep` samples and `high` rows of y.
    """
    (N, O, OH, OW), C = y.shape, x.shape[1]
    R, P, across = high + span_h, OW + span_w, -(-OH // high)
    phase, size = deep * R * P, ((deep - 1) * R + high - 1) * P + OW
    wanted = y.reshape(-1)
    cells, sums = np.zeros(C * in_h * in_w * phase, x.dtype), np.zeros((OUTPUTS, size), x.dtype)
    for block in range(first, last):
        n, j = block // across * deep, block % across * high
        here = min(deep, N - n)
        deal_channels(x, n, here, j + top, left, cells, phase, R, P, in_h, in_w)
        for o in range(0, O, OUTPUTS):
            # at the end, a group may have less than four outputs; its other sums are not copied to y
            b, c, d = min(o + 1, O - 1), min(o + 2, O - 1), min(o + 3, O - 1)
            sum_taps(cells, w[o * filter :], w[b * filter :], w[c * filter :], w[d * filter :], places, offsets, sums)
            for e in range(min(OUTPUTS, O - o)):
                for k in range(here):
                    plane = ((n + k) * O + o + e) * OH * OW
                    collect(sums[e], k * R * P, 0, P, wanted, plane, OH, OW, j, min(high, OH - j), 1, 1)


@helper
def deal_channels(x, first, count, top, left, cells, phase, R, P, step_h, step_w):
    """Deal `count` samples of x, from sample `first` on, into the phases of their channels, with zeros around them."""
    C, H, W = x.shape[1:]
    flat = x.reshape(-1)
    cells[:] = 0
    for c in range(C):
        for k in range(count):
            plane, at = ((first + k) * C + c) * H * W, c * step_h * step_w * phase + k * R * P
            deal(flat, plane, H, W, top, left, cells, at, phase, R, P, step_h, step_w)


@helper
def sum_taps(cells, a, b, c, d, places, offsets, sums):
    """sums[o, q] = Σ_t w[places[t]] · cells[offsets[t] + q] for four outputs o, whose weights w are a, b, c and d."""
    s0, s1, s2, s3 = sums[0], sums[1], sums[2], sums[3]
    sums[:] = 0
    whole = len(offsets) // TAPS * TAPS
    for t in range(0, whole, TAPS):
        x0, x1, x2 = cells[offsets[t] :], cells[offsets[t + 1] :], cells[offsets[t + 2] :]
        i, j, k = places[t], places[t + 1], places[t + 2]
        a0, a1, a2, b0, b1, b2 = a[i], a[j], a[k], b[i], b[j], b[k]
        c0, c1, c2, d0, d1, d2 = c[i], c[j], c[k], d[i], d[j], d[k]
        for q in range(len(s0)):
            p, r, s = x0[q], x1[q], x2[q]
            s0[q] += a0 * p + a1 * r + a2 * s
            s1[q] += b0 * p + b1 * r + b2 * s
            s2[q] += c0 * p + c1 * r + c2 * s
            s3[q] += d0 * p + d1 * r + d2 * s
    for t in range(whole, len(offsets)):
        i, x0 = places[t], cells[offsets[t] :]
        a0, b0, c0, d0 = a[i], b[i], c[i], d[i]
        for q in range(len(s0)):
            p = x0[q]
            s0[q] += a0 * p
            s1[q] += b0 * p
            s2[q] += c0 * p
            s3[q] += d0 * p


@loops
def summed_products(
    x: Read[4], gy: Read[4], gw: Write[2], offsets: Read[1, np.int64], places: Read[1, np.uint64],
    in_h: int, in_w: int, top: int, left: int, span_h: int, span_w: int, deep: int, high: int, first: int, last: int,
):  # fmt: skip
    """gw[o, places[t]] = Σ gy[o] · cells, from ``offsets[t]`` on, over the blocks first … last − 1."""
    (N, O, OH, OW), C = gy.shape, x.shape[1]
    R, P, across = high + span_h, OW + span_w, -(-OH // high)
    phase, size = deep * R * P, ((deep - 1) * R + high - 1) * P + OW
    outputs = gy.reshape(-1)
    cells, factors = np.zeros(C * in_h * in_w * phase, x.dtype), np.zeros((OUTPUTS, phase), x.dtype)
    gw[:] = 0
    for block in range(first, last):
        n, j = block // across * deep, block % across * high
        here = min(deep, N - n)
        deal_channels(x, n, here, j + top, left, cells, phase, R, P, in_h, in_w)
        for o in range(0, O, OUTPUTS):
            factors[:] = 0
            for e in range(min(OUTPUTS, O - o)):
                for k in range(here):
                    plane = ((n + k) * O + o + e) * OH * OW
                    deal(outputs, plane, OH, OW, j, 0, factors[e], k * R * P, phase, high, P, 1, 1)
            for t in range(0, len(offsets), TAPS):
                add_products(factors, cells, offsets, places, t, size, gw[o : o + OUTPUTS])


@helper
def add_products(factors, cells, offsets, places, t, size, gw):
    """gw[e, places[t + i]] += Σ_q factors[e, q] · cells[offsets[t + i] + q] for four outputs e and three taps i."""
    last = len(offsets) - 1
    f0, f1, f2, f3 = factors[0], factors[1], factors[2], factors[3]
    x0, x1, x2 = cells[offsets[t] :], cells[offsets[min(t + 1, last)] :], cells[offsets[min(t + 2, last)] :]
    a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = cells.dtype.type(0)
    for q in range(size):
        p, r, s = x0[q], x1[q], x2[q]
        f = f0[q]
        a0, a1, a2 = a0 + f * p, a1 + f * r, a2 + f * s
        f = f1[q]
        b0, b1, b2 = b0 + f * p, b1 + f * r, b2 + f * s
        f = f2[q]
        c0, c1, c2 = c0 + f * p, c1 + f * r, c2 + f * s
        f = f3[q]
        d0, d1, d2 = d0 + f * p, d1 + f * r, d2 + f * s
    add(gw, 0, places, t, a0, a1, a2)
    add(gw, 1, places, t, b0, b1, b2)
    add(gw, 2, places, t, c0, c1, c2)
    add(gw, 3, places, t, d0, d1, d2)


@helper
def add(gw, e, places, t, a, b, c):
    """Add the sums of an output and three taps to its weights, as far as there are such outputs and taps."""
    if e < len(gw):
        gw[e, places[t]] += a
        if t + 1 < len(places):
            gw[e, places[t + 1]] += b
        if t + 2 < len(places):
            gw[e, places[t + 2]] += c


def conv2d(x, w, window):
    O, C = w.shape[:2]
    return _correlate(x, w, (len(x), O, *window.out_size(x.shape)), window, C * window.taps, window.taps, 1)


def conv2d_grad_input(gy, w, x_shape, window):
    """A convolution of gy with the flipped filters, and with inputs and outputs exchanged."""
    return _correlate(gy, w, x_shape, window.adjoint(), window.taps, x_shape[1] * window.taps, -1)


def _correlate(x, w, y_shape, window, filter, channel, along):
    """The convolution whose weight for output o, input c and tap t is ``w[o·filter + c·channel + t]``; the taps are
    counted from the last one if `along` is −1."""
    y = buffers.empty(y_shape, x.dtype)
    blocks, offsets, places, cuts = _plan(window, x.shape[1], y_shape, workers.threads(), channel, along)
    work = partial(correlate, x, w.reshape(-1), y, offsets, places, filter, *cuts)
    workers.divide(blocks, work, moved=y.size * len(offsets))
    return y


def conv2d_grad_weight(gy, x, w_shape, window):
    O, C = w_shape[:2]
    blocks, offsets, places, cuts = _plan(window, C, gy.shape, workers.threads(), window.taps, 1)

    def part(share):
        gw = np.empty(w_shape, x.dtype)
        summed_products(x, gy, gw.reshape(O, -1), offsets, places, *cuts, *share)
        return gw

    gw, *others = workers.run(part, workers.shares(blocks), moved=gy.size * len(places), multiplies=False)
    for other in others:
        gw += other
    return gw


def applies(window, C, cells):
    """Whether the algorithm serves C input channels and (N, OH, OW) output cells: it has no groups and small strides,
    and one row of the inputs must not need far more memory than a block has."""
    if window.groups != 1 or window.taps == 1 or prod(window.stride) > MOST_STRIDE:
        return False
    span = taps_of(window, cells[2], forward).span
    return C * prod(window.stride) * (1 + span[0]) * (cells[2] + span[1]) <= 4 * CELLS


def cost(window, C, O, cells, threads):
    """The cost for C input and O output channels of (N, OH, OW) cells, in the unit of ``cpu/conv/choice.py``."""
    N, OH, OW = cells
    taps, (deep, high), blocks = _blocks(window, C, cells, threads)
    size, idle = deep * (high + taps.span[0]) * taps.row, threads / min(threads, blocks)
    loops = C * window.taps * _up(O, OUTPUTS) * blocks
    return idle * (loops * (ADD * size + LOOP / (OUTPUTS * TAPS)) + CELL * O * N * OH * OW)


@lru_cache(maxsize=1024)
def _blocks(window, C, cells, threads):
    """The taps, (samples, rows) of a block, and the number of blocks, for an output of (N, OH, OW) cells."""
    N, OH, OW = cells
    taps = taps_of(window, OW, forward)
    most = CELLS // (C * prod(window.stride) + OUTPUTS)
    deep, high = block_of(N, OH, OW, taps.span, most, threads)
    return taps, (deep, high), -(-N // deep) * -(-OH // high)


@lru_cache(maxsize=1024)
def _plan(window, C, y_shape, threads, channel, along):
    """The number of blocks; where the first cell and the weight of each tap are, those of the first channel first, then
    of the second, …; and how the maps are cut."""
    taps, block, blocks = _blocks(window, C, (y_shape[0], *y_shape[2:]), threads)
    phases = prod(window.stride) * block[0] * (block[1] + taps.span[0]) * taps.row
    offsets = (phases * np.arange(C)[:, None] + taps.offsets(block)).reshape(-1)
    places = (channel * np.arange(C)[:, None] + np.arange(window.taps)[::along][taps.order]).reshape(-1)
    # the places are unsigned: see deal() in flat.py
    return blocks, offsets, places.astype(np.uint64), (*window.stride, *taps.start, *taps.span, *block)


def _up(n, step):
    return -(-n // step) * step
