"""Convolution by im2col in bands: the columns of a few output rows at a time, never those of a whole image.

The columns of an image are k² times as large as the image: 1.12 GB for conv1_2 of VGG16 on one 500×500 image padded by
100.  Here each worker thread makes the columns of one band in scratch memory of fixed size, multiplies them while they
are in the cache, and overwrites them with the next band.  The bands depend on the shapes and the number of threads
alone, so the same call gives the same bits.
"""

import numpy as np

from ....arrays import buffers
from ... import environment
from ...textbook import sliding_windows, tap_slices
from .. import scratch, workers
from ..products import product, summed_product

BAND_BYTES = 1 << 20  # the columns of one band: about the size of a core's cache


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: it can compute any."""
    return True


def conv2d(x, w, window):
    windows, groups = windows_of(x, window), window.groups
    kernel = w.reshape(groups, w.shape[0] // groups, -1)  # (G, O/G, C/G·kh·kw)
    y = buffers.empty((len(x), w.shape[0], *windows.shape[4:]), x.dtype)

    def band_of_output(task):
        n, (top, bottom) = task
        cols = _columns(windows, n, top, bottom, groups)
        product(kernel, cols, _group(y[n, :, top:bottom], groups))

    workers.run(band_of_output, _tasks(windows, x.itemsize), moved=windows.size)
    return y


def conv2d_grad_weight(gy, x, w_shape, window):
    windows, groups = windows_of(x, window), window.groups
    gy = np.ascontiguousarray(gy)
    bands = _tasks(windows, x.itemsize)

    def share_of_sum(share):
        gw = buffers.zeros(w_shape, gy.dtype)
        total = gw.reshape(groups, w_shape[0] // groups, -1)
        for n, (top, bottom) in bands[slice(*share)]:
            cols = _columns(windows, n, top, bottom, groups)
            total += summed_product(_group(gy[n, :, top:bottom], groups), cols)
        return gw

    gw, *others = workers.run(share_of_sum, workers.shares(len(bands)), moved=windows.size)
    for other in others:
        gw += other
    return gw


def conv2d_grad_input(gy, w, x_shape, window):
    adjoint = window.adjoint()
    if adjoint is None:
        return _scattered(gy, w, x_shape, window)
    return conv2d(gy, flipped(w, window.groups), adjoint)


def flipped(w, groups):
    """The kernel of the adjoint at stride 1: with taps reversed, and input and output channels of a group exchanged."""
    O, Cg, kh, kw = w.shape
    w = w.reshape(groups, O // groups, Cg, kh, kw)[..., ::-1, ::-1].swapaxes(1, 2)
    return np.ascontiguousarray(w).reshape(groups * Cg, O // groups, kh, kw)


def windows_of(x, window):
    """All windows of x padded by zeros: (N, C, kh, kw, OH, OW), a view of x or of a padded copy."""
    out_size = window.out_size(x.shape)
    size = window.extent(x.shape[2:], out_size)
    if tuple(size) != x.shape[2:]:
        x = padded(x, window.padding, size)
    return sliding_windows(x, window.kernel_size, window.stride, window.dilation, out_size)


def padded(x, before, size, value=0):
    """A map of `size`, filled with `value`, that holds x from row and column `before` on; x is cut at the far edges."""
    (top, left), (H, W) = before, x.shape[2:]
    out = buffers.empty((*x.shape[:2], *size), x.dtype)
    H, W = max(0, min(H, size[0] - top)), max(0, min(W, size[1] - left))

    def channels(first, last):
        part, source = out[:, first:last], x[:, first:last, :H, :W]
        part[:, :, :top], part[:, :, top + H :] = value, value
        part[:, :, top : top + H, :left], part[:, :, top : top + H, left + W :] = value, value
        part[:, :, top : top + H, left : left + W] = source

    workers.divide(x.shape[1], channels, moved=x.size)
    return out


def tasks(N, rows, row_bytes):
    """The tasks (sample, band of rows): a band's columns fit, and each worker has a task if it is worth its while."""
    count, least = -(-rows * row_bytes // environment.band_bytes(BAND_BYTES)), 1
    if N * rows * row_bytes >= 4 * workers.WORTH:
        least = -(-workers.threads() // max(N, 1))
    parts = workers.ranges(rows, min(rows, -(-count // least) * least))  # a multiple: the workers end together
    return [(n, part) for n in range(N) for part in parts]


def bands(N, rows, row_bytes):
    """The bands ((first sample, last + 1), (first row, last + 1)): whole samples, or rows of one if it is large."""
    band, threads = environment.band_bytes(BAND_BYTES), workers.threads()
    if rows * row_bytes <= band and threads <= N:
        count = -(-N * rows * row_bytes // (band * threads)) * threads  # a multiple: the workers end together
        return [(samples, (0, rows)) for samples in workers.ranges(N, min(N, count))]
    return [((n, n + 1), part) for n, part in tasks(N, rows, row_bytes)]


def _tasks(windows, itemsize):
    N, C, kh, kw, OH, OW = windows.shape
    return tasks(N, OH, C * kh * kw * OW * itemsize)


def _columns(windows, n, top, bottom, groups):
    """The columns of a band of sample n, (G, C/G·kh·kw, rows·OW): a copy, but for a 1×1 kernel a view."""
    part = windows[n, :, :, :, top:bottom]  # (C, kh, kw, rows, OW)
    shape = groups, part.shape[0] // groups * part.shape[1] * part.shape[2], part.shape[3] * part.shape[4]
    if part.shape[1:3] == (1, 1) and part[0, 0, 0].flags.c_contiguous:
        return part.reshape(shape)
    (cols,) = scratch.arrays((part.dtype, part.shape))
    np.copyto(cols, part)
    return cols.reshape(shape)


def _group(rows, groups):
    """(C, rows, W) of one sample as (G, C/G, rows·W), a view."""
    return rows.reshape(groups, rows.shape[0] // groups, -1)


def _scattered(gy, w, x_shape, window):
    """The input gradient at any stride and padding: the columns of each band are added back tap by tap.

    The bands of an image overlap, and two threads must not add to one cell.  So a task is not a band but some channels
    of one sample's group.
    """
    (N, _, H, W), groups, padding = x_shape, window.groups, window.padding
    O, Cg, (kh, kw) = w.shape[0] // groups, w.shape[1], w.shape[2:]
    OH, OW = gy.shape[2:]
    gy = np.ascontiguousarray(gy)
    w = w.reshape(groups, O, Cg, kh * kw)
    size = window.extent((H, W), (OH, OW))
    gx = buffers.zeros((N, groups * Cg, *size), gy.dtype)
    shares = workers.ranges(Cg, min(Cg, max(1, -(-2 * workers.threads() // max(N * groups, 1)))))
    bands = tasks(1, OH, -(-Cg // len(shares)) * kh * kw * OW * gy.itemsize)

    def share_of_channels(task):
        n, g, (first, last) = task
        kernel = w[g, :, first:last].reshape(O, -1)  # (O, c·kh·kw)
        target = gx[n, g * Cg + first : g * Cg + last]
        for _, (top, bottom) in bands:
            part = gy[n, g * O : (g + 1) * O, top:bottom].reshape(O, -1)
            (cols,) = scratch.arrays((gx.dtype, (last - first, kh * kw, bottom - top, OW)))
            product(kernel.T, part, cols.reshape(kernel.shape[1], -1))
            rows = target[:, top * window.stride[0] :]
            for tap, cells in enumerate(tap_slices((kh, kw), window.stride, window.dilation, (bottom - top, OW))):
                rows[cells] += cols[:, tap]

    workers.run(share_of_channels, [(n, g, share) for n in range(N) for g in range(groups) for share in shares])
    return gx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]
