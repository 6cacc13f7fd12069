"""Pooling.  For a maximum, each output compares the cells of its window, and keeps the number of the first largest one.

Averages have loops for windows of 2×2 at stride 2 alone; NumPy adds larger windows as fast.
"""

from functools import lru_cache, partial

import numpy as np

from ...arrays import buffers
from .. import textbook
from ..cpu import pooling, workers
from ..shapes import pool_sizes
from .compiler import Read, Write, loops

OF_FOUR = (2, 2, 2, 2, 0, 0, 1, 1)  # the window, stride, padding and dilation of the paper's nets
ROW = 12  # outputs in a row from which on `largest_in_rows` is faster than `largest`
VECTOR = 32  # outputs in a row from which on the loops of `largest_of_four_grad` use vectors


@loops
def largest(
    x: Read[3], kh: int, kw: int, stride_h: int, stride_w: int, top: int, left: int, dil_h: int, dil_w: int,
    y: Write[3], index: Write[3, np.uint8], done: int, first: int, last: int,
):  # fmt: skip
    """y = max over the window, with its tap u·kw + v, for the planes first … last − 1 of x, (N·C, H, W).

    The first `done` rows are already there.
    """
    H, W = x.shape[1:]
    for plane in range(first, last):
        for i in range(done, y.shape[1]):
            for j in range(y.shape[2]):
                best, tap, found = -np.inf, 0, False
                for u in range(kh):
                    p = stride_h * i - top + dil_h * u
                    if 0 <= p < H:
                        for v in range(kw):
                            q = stride_w * j - left + dil_w * v
                            if 0 <= q < W:
                                value = x[plane, p, q]
                                if not found or value > best or np.isnan(value):
                                    best, tap, found = value, u * kw + v, True
                y[plane, i, j], index[plane, i, j] = best, tap


@loops
def largest_in_rows(
    x: Read[3], kh: int, kw: int, stride_h: int, stride_w: int, top: int, left: int, dil_h: int, dil_w: int,
    y: Write[3], index: Write[3, np.uint8], done: int, first: int, last: int,
):  # fmt: skip
    """The same; a tap is compared for a whole row of outputs at a time.

    For that, a row of x is dealt into `stride_w` phases, in which the cells of one tap lie side by side.
    """
    H, W = x.shape[1:]
    width = -(-W // stride_w)
    phases = np.empty((stride_w, width), x.dtype)
    begin, end, at = np.empty(kw, np.int64), np.empty(kw, np.int64), np.empty(kw, np.int64)
    for v in range(kw):  # tap v of the outputs from begin[v] to end[v] − 1 is on the image, from the cell at[v] on
        shift = dil_w * v - left
        begin[v] = min(max(0, -(shift // stride_w)), y.shape[2])
        end[v] = max(begin[v], min(y.shape[2], (W - 1 - shift) // stride_w + 1))
        at[v] = shift % stride_w * width + begin[v] + shift // stride_w
    for plane in range(first, last):
        for i in range(done, y.shape[1]):
            best, tap, outside = y[plane, i], index[plane, i], True
            best[:], tap[:] = -np.inf, 0
            for u in range(kh):
                p = stride_h * i - top + dil_h * u
                if p < 0 or p >= H:
                    continue
                for f in range(stride_w):
                    phase, cells = phases[f], x[plane, p, f:]
                    for q in range((W - f + stride_w - 1) // stride_w):
                        phase[q] = cells[stride_w * q]
                if outside:  # an output whose cells are all −∞ has its first tap on the image
                    for v in range(kw - 1, -1, -1):
                        tap[begin[v] : end[v]] = u * kw + v
                    outside = False
                for v in range(kw):
                    number, cells = np.uint8(u * kw + v), phases.reshape(-1)[at[v] :]
                    m, k = best[begin[v] : end[v]], tap[begin[v] : end[v]]
                    for j in range(len(m)):
                        better = (cells[j] > m[j]) | (cells[j] != cells[j])
                        m[j], k[j] = (cells[j], number) if better else (m[j], k[j])


@loops
def largest_of_four(x: Read[3], y: Write[3], index: Write[3, np.uint8], first: int, last: int):
    """Windows of 2×2 at stride 2 without a branch, but for those that end below the image."""
    columns = x.shape[2] // 2
    for plane in range(first, last):
        for i in range(x.shape[1] // 2):
            above, below, best, tap = x[plane, 2 * i], x[plane, 2 * i + 1], y[plane, i], index[plane, i]
            for j in range(columns):
                a, b, c, d = above[2 * j], above[2 * j + 1], below[2 * j], below[2 * j + 1]
                m, k = a, 0
                m, k = (b, 1) if b > m or b != b else (m, k)
                m, k = (c, 2) if c > m or c != c else (m, k)
                m, k = (d, 3) if d > m or d != d else (m, k)
                best[j], tap[j] = m, k
            for j in range(columns, y.shape[2]):  # at most one; with `if`, the loop above would be half as fast
                a, c = above[2 * j], below[2 * j]
                best[j], tap[j] = (c, 2) if c > a or c != c else (a, 0)


@loops
def largest_grad(
    gy: Read[3], index: Read[3, np.uint8], kw: int, stride_h: int, stride_w: int, top: int, left: int,
    dil_h: int, dil_w: int, gx: Write[3], done: int, first: int, last: int,
):  # fmt: skip
    """Add each output's gradient to the cell that its maximum came from, but for the first `done` rows of outputs."""
    down, right = np.empty(256, np.int64), np.empty(256, np.int64)
    for tap in range(256):
        down[tap], right[tap] = dil_h * (tap // kw) - top, dil_w * (tap % kw) - left
    for plane in range(first, last):
        if done == 0:
            gx[plane] = 0
        for i in range(done, gy.shape[1]):
            for j in range(gy.shape[2]):
                tap = index[plane, i, j]
                p, q = stride_h * i + down[tap], stride_w * j + right[tap]
                if 0 <= p < gx.shape[1] and 0 <= q < gx.shape[2]:  # a window may have no cell on the image
                    gx[plane, p, q] += gy[plane, i, j]


@loops
def largest_of_four_grad(gy: Read[3], index: Read[3, np.uint8], gx: Write[3], first: int, last: int):
    """The same windows; every cell is written once, in order.  Two loops, because four interleaved writes are slow."""
    zero, rows, columns = gy.dtype.type(0), gx.shape[1] // 2, gx.shape[2] // 2
    for plane in range(first, last):
        for i in range(rows):
            g, tap, above, below = gy[plane, i], index[plane, i], gx[plane, 2 * i], gx[plane, 2 * i + 1]
            for j in range(columns):
                above[2 * j] = g[j] if tap[j] == 0 else zero
                above[2 * j + 1] = g[j] if tap[j] == 1 else zero
            for j in range(columns):
                below[2 * j] = g[j] if tap[j] == 2 else zero
                below[2 * j + 1] = g[j] if tap[j] == 3 else zero
            for j in range(2 * columns, gx.shape[2]):
                above[j] = g[columns] if columns < gy.shape[2] and tap[columns] == 0 else zero
                below[j] = g[columns] if columns < gy.shape[2] and tap[columns] == 2 else zero
        gx[plane, 2 * rows :] = zero


@loops
def mean_of_four(x: Read[3], y: Write[3], first: int, last: int):
    """The mean of each window of 2×2 at stride 2, for the planes first … last − 1 of x, (N·C, H, W)."""
    four = x.dtype.type(4)
    for plane in range(first, last):
        for i in range(y.shape[1]):
            above, below, mean = x[plane, 2 * i], x[plane, 2 * i + 1], y[plane, i]
            for j in range(y.shape[2]):
                mean[j] = (above[2 * j] + above[2 * j + 1] + below[2 * j] + below[2 * j + 1]) / four


@loops
def mean_of_four_grad(gy: Read[3], gx: Write[3], first: int, last: int):
    """A quarter of each output's gradient goes to each of its four cells."""
    zero, four, rows, columns = gy.dtype.type(0), gy.dtype.type(4), 2 * gy.shape[1], 2 * gy.shape[2]
    for plane in range(first, last):
        for i in range(gy.shape[1]):
            g, above, below = gy[plane, i], gx[plane, 2 * i], gx[plane, 2 * i + 1]
            for j in range(gy.shape[2]):
                above[2 * j] = above[2 * j + 1] = g[j] / four
            above[columns:] = zero
            below[:] = above
        gx[plane, rows:] = zero


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    if textbook.index_type(kernel_size) != "uint8":  # a window of more than 256 cells
        return pooling.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
    shape = _out_shape(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y, index = buffers.empty(shape, x.dtype), buffers.empty(shape, np.uint8)
    window, planes, done = (*kernel_size, *stride, *padding, *dilation), (_planes(x), _planes(y), _planes(index)), 0
    if window == OF_FOUR:
        done = x.shape[2] // 2
        _by_plane(largest_of_four, *planes, moved=x.size)
    if done < shape[2]:
        moved = y[:, :, done:].size * kernel_size[0] * kernel_size[1]
        in_rows = shape[3] >= ROW and stride[1] <= kernel_size[1]
        _by_plane(largest_in_rows if in_rows else largest, planes[0], *window, *planes[1:], done, moved=moved)
    return y, index


def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    _require_shapes((gy, index), x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    gx = buffers.empty(x_shape, gy.dtype)
    planes, window, done = (_planes(gy), _planes(np.ascontiguousarray(index))), (*stride, *padding, *dilation), 0
    if (*kernel_size, *window) == OF_FOUR and gy.shape[3] >= VECTOR:
        done = x_shape[2] // 2
        _by_plane(largest_of_four_grad, *planes, _planes(gx), moved=gx.size)
    if done < gy.shape[2]:
        moved = gy[:, :, done:].size
        _by_plane(largest_grad, *planes, kernel_size[1], *window, _planes(gx), done, moved=moved)
    return gx


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    shape = _out_shape(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    if not _are_inside((*kernel_size, *stride, *padding, *dilation), shape, x.shape):
        return textbook.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation)
    y = buffers.empty(shape, x.dtype)
    _by_plane(mean_of_four, _planes(x), _planes(y), moved=x.size)
    return y


def avg_pool2d_grad(gy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    _require_shapes((gy,), x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    if not _are_inside((*kernel_size, *stride, *padding, *dilation), gy.shape, x_shape):
        return textbook.avg_pool2d_grad(
            gy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation
        )
    gx = buffers.empty(x_shape, gy.dtype)
    _by_plane(mean_of_four_grad, _planes(gy), _planes(gx), moved=gx.size)
    return gx


def _out_shape(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    return _shape_of(tuple(x_shape), *map(tuple, (kernel_size, stride, padding, dilation)), ceil_mode)


@lru_cache(maxsize=1024)
def _shape_of(x_shape, *window):
    return *x_shape[:2], *pool_sizes(x_shape, *window)


def _require_shapes(arrays, x_shape, *window):
    """Raise ValueError unless all arrays have the shape of the output; else the loops would use foreign memory."""
    shape = _out_shape(x_shape, *window)
    for a in arrays:
        if a.shape != shape:
            raise ValueError(f"pooling of {tuple(x_shape)} has outputs of {shape}, and not of {a.shape}")


def _are_inside(window, shape, x_shape):
    """Whether all windows of an output of that shape are 2×2 at stride 2 and lie inside the image."""
    return window == OF_FOUR and 2 * shape[2] <= x_shape[2] and 2 * shape[3] <= x_shape[3]


def _planes(x):
    """(N, C, H, W) as (N·C, H, W)."""
    return x.reshape(-1, *x.shape[2:])


def _by_plane(function, x, *rest, moved):
    workers.divide(len(x), partial(function, x, *rest), moved)
