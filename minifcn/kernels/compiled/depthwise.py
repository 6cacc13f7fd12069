"""Depthwise convolution: one filter for each channel.

The planes of several samples lie one after the other in a buffer, with their zero padding, each row followed by the
next.  A tap (u, v) of all windows is then the whole buffer, moved by u rows and v cells, so one long loop over the
buffer adds ``w[u, v] · cells[q + offset]`` for all outputs at once.  The loop also computes sums between the outputs
(at row ends, and at strides above 1); they cost less than leaving them out, and are not copied to the output.
"""

from functools import partial

import numpy as np

from ...arrays import buffers
from ..cpu import workers
from .compiler import Read, Write, helper, loops

CELLS = 1 << 13  # of a buffer: two buffers fit the first or the second cache
MOST_TAPS = 49
MOST_STRIDE = 4  # along h times along w: so many sums are computed for each output


@loops
def correlate(
    source: Read[4], w: Read[4], target: Write[4],
    in_h: int, in_w: int, out_h: int, out_w: int, top: int, left: int, dil_h: int, dil_w: int,
    deep: int, high: int, first: int, last: int,
):  # fmt: skip
    """target[j] = Σ_u w[u] · grid[out·j + dil·u], where grid[in·i + top] = source[i] and 0 elsewhere, along h and w.

    For the channels first … last − 1, `deep` samples and `high` rows of the target at a time.
    """
    N = source.shape[0]
    OH, OW, kh, kw = target.shape[2], target.shape[3], w.shape[2], w.shape[3]
    P = out_w * (OW - 1) + dil_w * (kw - 1) + 1  # cells of a row of the grid
    R = out_h * (high - 1) + dil_h * (kh - 1) + 1
    grid, sums = np.zeros((deep, R, P), source.dtype), np.zeros((deep, R, P), source.dtype)
    cells, total = grid.reshape(-1), sums.reshape(-1)
    size = ((deep - 1) * R + out_h * (high - 1)) * P + out_w * (OW - 1) + 1
    for c in range(first, last):
        for n in range(0, N, deep):
            for j in range(0, OH, high):
                here, rows = min(deep, N - n), min(high, OH - j)
                cells[:] = 0
                for k in range(here):
                    spread(source[n + k, c], grid[k], in_h, in_w, top - out_h * j, left)
                total[:size] = 0
                for u in range(kh):
                    for v in range(kw):
                        weight, moved = w[c, 0, u, v], cells[dil_h * u * P + dil_w * v :]
                        for q in range(size):
                            total[q] += weight * moved[q]
                for k in range(here):
                    for i in range(rows):
                        row, found = target[n + k, c, j + i], sums[k, out_h * i]
                        if out_w == 1:  # the compiler makes this loop faster than the other
                            for q in range(OW):
                                row[q] = found[q]
                        else:
                            for q in range(OW):
                                row[q] = found[out_w * q]


@loops
def summed_products(
    source: Read[4], outer: Read[4], result: Write[4],
    out_h: int, out_w: int, top: int, left: int, dil_h: int, dil_w: int, deep: int, high: int, first: int, last: int,
):  # fmt: skip
    """result[u] = Σ_j outer[j] · grid[out·j + dil·u], where grid[i + top] = source[i], else 0, along h and w."""
    N, OH, OW = outer.shape[0], outer.shape[2], outer.shape[3]
    kh, kw = result.shape[2], result.shape[3]
    P = out_w * (OW - 1) + dil_w * (kw - 1) + 1
    R = out_h * (high - 1) + dil_h * (kh - 1) + 1
    grid, factors = np.zeros((deep, R, P), source.dtype), np.zeros((deep, R, P), source.dtype)
    cells, factor = grid.reshape(-1), factors.reshape(-1)
    size = ((deep - 1) * R + out_h * (high - 1)) * P + out_w * (OW - 1) + 1
    for c in range(first, last):
        result[c] = 0
        for n in range(0, N, deep):
            for j in range(0, OH, high):
                cells[:] = 0
                factor[:] = 0
                for k in range(min(deep, N - n)):
                    spread(source[n + k, c], grid[k], 1, 1, top - out_h * j, left)
                    spread(outer[n + k, c, j : min(j + high, OH)], factors[k], out_h, out_w, 0, 0)
                for u in range(kh):
                    for v in range(kw):
                        total, moved = source.dtype.type(0), cells[dil_h * u * P + dil_w * v :]
                        for q in range(size):
                            total += factor[q] * moved[q]
                        result[c, 0, u, v] += total


@helper
def spread(plane, grid, step_h, step_w, top, left):
    """grid[step·i + top] = plane[i] along h and w, where that lies on the grid."""
    left_out = max(0, -(left // step_w))  # the first columns, which lie left of the grid
    W = min(plane.shape[1], (grid.shape[1] - 1 - left) // step_w + 1) - left_out
    for i in range(max(0, -(top // step_h)), min(plane.shape[0], (grid.shape[0] - 1 - top) // step_h + 1)):
        row, values = grid[step_h * i + top, step_w * left_out + left :], plane[i, left_out:]
        if step_w == 1:
            for q in range(W):
                row[q] = values[q]
        else:
            for q in range(W):
                row[step_w * q] = values[q]


def pays(window, w_shape):
    """Whether a convolution is depthwise, and of few taps and a small stride, where this is faster than NumPy."""
    applies = window.groups == w_shape[0] and w_shape[1] == 1
    return applies and window.taps <= MOST_TAPS and window.stride[0] * window.stride[1] <= MOST_STRIDE


def conv2d(x, w, window):
    y = buffers.empty((*x.shape[:2], *window.out_size(x.shape)), x.dtype)
    return _correlate(x, w, y, window, (1, 1), window.stride, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    """gx[p] = Σ_u w[u] · gy[j] with s·j + d·u − pad = p: convolution with the flipped filter, gy's cells s apart."""
    gx = buffers.empty(x_shape, gy.dtype)
    start = [d * (k - 1) - p for d, k, p in zip(window.dilation, window.kernel_size, window.padding)]
    return _correlate(gy, w[:, :, ::-1, ::-1], gx, window, window.stride, (1, 1), start)


def conv2d_grad_weight(gy, x, w_shape, window):
    x, gy, gw = np.ascontiguousarray(x), np.ascontiguousarray(gy), np.empty(w_shape, x.dtype)
    numbers = *window.stride, *window.padding, *window.dilation, *_block(gy.shape, window, window.stride)
    workers.divide(len(gw), partial(summed_products, x, gy, gw, *numbers), moved=gy.size * window.taps)
    return gw


def _correlate(source, w, target, window, step_in, step_out, start):
    source, w = np.ascontiguousarray(source), np.ascontiguousarray(w)
    numbers = *step_in, *step_out, *start, *window.dilation, *_block(target.shape, window, step_out)
    workers.divide(len(w), partial(correlate, source, w, target, *numbers), moved=target.size * window.taps)
    return target


def _block(shape, window, step):
    """How many samples and how many rows of an array (N, C, H, W) are computed at a time."""
    N, _, H, W = shape
    (kh, kw), (dh, dw) = window.kernel_size, window.dilation
    width = step[1] * (W - 1) + dw * (kw - 1) + 1
    most = max((CELLS // width - dh * (kh - 1) - 1) // step[0] + 1, 1)
    high = _even(H, most)
    deep = CELLS // ((step[0] * (high - 1) + dh * (kh - 1) + 1) * width) if high == H else 1
    return _even(N, max(deep, 1)), high


def _even(n, most):
    """The size of the parts, at most `most`, into which n is cut: as few parts as possible, all of about one size."""
    return -(-n // -(-n // most))
