"""Convolution by im2col in bands: the columns of a few output rows at a time, never those of a whole image.

The columns of an image are k² times the image: 1.12 GB for conv1_2 of VGG16 on one 500×500 picture padded by 100.
Here they are made under a fixed workspace a worker, multiplied while they are still in the cache, and forgotten.
Bands are shared out over worker threads; the partition depends on the shapes and the thread count alone, so the same
call gives the same bits.
"""

from itertools import pairwise

import numpy as np

from ..shapes import conv_sizes
from ..textbook import pad_to_windows, sliding_windows, tap_slices, zeros_under_windows
from . import workers

BAND_BYTES = 2 << 20  # the columns of one band: about what a core's share of the last cache level holds


def _bands(rows, row_bytes):
    """Cut `rows` into ranges whose columns fit the workspace."""
    height = max(1, min(rows, BAND_BYTES // max(row_bytes, 1)))
    count = -(-rows // height)
    edges = [rows * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def _columns(windows, n, channels, band):
    """The columns of one band of sample n, (C·kh·kw, rows·OW): a view where the kernel is one cell, else a copy."""
    part = windows[n, channels, :, :, band[0] : band[1]]  # (C, kh, kw, rows, OW)
    shape = (part.shape[0] * part.shape[1] * part.shape[2], part.shape[3] * part.shape[4])
    if part.shape[1:3] == (1, 1) and part[:, 0, 0].flags.c_contiguous:
        return part.reshape(shape)
    cols = workers.workspace(part.shape, part.dtype)
    np.copyto(cols, part)
    return cols.reshape(shape)


def _windows(x, kernel_size, stride, padding, dilation):
    out = conv_sizes(x.shape, kernel_size, stride, padding, dilation)
    x = pad_to_windows(x, kernel_size, stride, padding, dilation, out)
    return sliding_windows(x, kernel_size, stride, dilation, out)  # (N, C, kh, kw, OH, OW), nothing copied


def _tasks(windows, groups, itemsize):
    """(sample, group, band of output rows), in order."""
    N, C, kh, kw, OH, OW = windows.shape
    bands = _bands(OH, C // groups * kh * kw * OW * itemsize)
    return [(n, g, band) for n in range(N) for g in range(groups) for band in bands]


def _group(g, size):
    return slice(g * size, (g + 1) * size)


def conv2d(x, w, stride, padding, dilation, groups):
    windows = _windows(x, w.shape[2:], stride, padding, dilation)
    O, Cg = w.shape[0] // groups, w.shape[1]
    w = w.reshape(groups, O, -1)
    y = np.empty((len(x), groups * O, *windows.shape[4:]), np.result_type(x, w))

    def band_of_output(task):
        n, g, band = task
        cols = _columns(windows, n, _group(g, Cg), band)
        np.matmul(w[g], cols, out=y[n, _group(g, O), band[0] : band[1]].reshape(O, -1))

    workers.run(band_of_output, _tasks(windows, groups, x.itemsize))
    return y


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    windows = _windows(x, w_shape[2:], stride, padding, dilation)
    O, Cg = w_shape[0] // groups, w_shape[1]
    gy = np.ascontiguousarray(gy)

    def share_of_sum(tasks):
        gw = np.zeros((groups, O, windows[0, :Cg, :, :, 0, 0].size), gy.dtype)
        for n, g, band in tasks:
            cols = _columns(windows, n, _group(g, Cg), band)
            gw[g] += gy[n, _group(g, O), band[0] : band[1]].reshape(O, -1) @ cols.T
        return gw

    tasks = _tasks(windows, groups, x.itemsize)
    shares = min(workers.threads(), len(tasks))
    parts = [tasks[len(tasks) * i // shares : len(tasks) * (i + 1) // shares] for i in range(shares)]
    return sum(workers.run(share_of_sum, parts)).reshape(w_shape)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    reach = tuple(d * (k - 1) - p for d, k, p in zip(dilation, w.shape[2:], padding))
    if tuple(stride) == (1, 1) and min(reach) >= 0:
        return conv2d(gy, _flipped(w, groups), stride, reach, dilation, groups)
    if max(stride) > 1 and tuple(dilation) == (1, 1) and all(k >= s for k, s in zip(w.shape[2:], stride)):
        return _by_phase(gy, w, x_shape, stride, padding, groups)
    return _scatter(gy, w, x_shape, stride, padding, dilation, groups)


def _flipped(w, groups):
    """The kernel of the adjoint at stride 1: taps reversed, input and output channels exchanged in each group."""
    O, Cg, kh, kw = w.shape
    w = w.reshape(groups, O // groups, Cg, kh, kw)[..., ::-1, ::-1].swapaxes(1, 2)
    return np.ascontiguousarray(w).reshape(groups * Cg, O // groups, kh, kw)


def _by_phase(gy, w, x_shape, stride, padding, groups):
    """The adjoint at a stride s: s² convolutions of gy, one for each phase of the larger grid, in one product.

    Output cell ``t = s·i + a`` of the adjoint (padding not yet cropped) gathers ``Σ_u w[a + s·u] · gy[i − u]``: phase a
    has its own small kernel, the taps a, a + s, a + 2s … of w.  Nothing is added twice, so bands need no owner.
    """
    (sh, sw), (ph, pw) = stride, padding
    N, _, H, W = x_shape
    O, Cg, (kh, kw) = w.shape[0] // groups, w.shape[1], w.shape[2:]
    U, V = -(-kh // sh), -(-kw // sw)  # taps a phase
    rows, columns = -(-(ph + H) // sh), -(-(pw + W) // sw)  # cells a phase

    whole = np.zeros((groups, O, Cg, U * sh, V * sw), w.dtype)  # the kernel, completed to whole phases by zeros
    whole[..., :kh, :kw] = w.reshape(groups, O, Cg, kh, kw)
    taps = whole.reshape(groups, O, Cg, U, sh, V, sw)[:, :, :, ::-1, :, ::-1]
    kernel = taps.transpose(0, 2, 4, 6, 1, 3, 5).reshape(groups, Cg * sh * sw, O * U * V)

    source = np.zeros((N, groups * O, rows + U - 1, columns + V - 1), gy.dtype)
    h, w_ = min(gy.shape[2], rows), min(gy.shape[3], columns)
    source[:, :, U - 1 : U - 1 + h, V - 1 : V - 1 + w_] = gy[:, :, :h, :w_]
    windows = sliding_windows(source, (U, V), (1, 1), (1, 1), (rows, columns))
    gx = np.empty((N, groups * Cg, rows, sh, columns, sw), gy.dtype)

    def band_of_phases(task):
        n, g, (top, bottom) = task
        cols = np.ascontiguousarray(windows[n, _group(g, O), :, :, top:bottom]).reshape(O * U * V, -1)
        phases = kernel[g] @ cols  # (Cg·sh·sw, rows·columns)
        phases = phases.reshape(Cg, sh, sw, bottom - top, columns)
        gx[n, _group(g, Cg), top:bottom] = phases.transpose(0, 3, 1, 4, 2)

    bands = _bands(rows, Cg * sh * sw * columns * gy.itemsize)
    workers.run(band_of_phases, [(n, g, band) for n in range(N) for g in range(groups) for band in bands])
    gx = gx.reshape(N, groups * Cg, rows * sh, columns * sw)
    return gx[:, :, ph : ph + H, pw : pw + W]


def _scatter(gy, w, x_shape, stride, padding, dilation, groups):
    """The adjoint in general (dilated and strided): the columns of a band, added back tap by tap.

    Bands of one image overlap, so a worker owns whole channels instead: a share of one sample's group.
    """
    N, _, H, W = x_shape
    O, Cg, (kh, kw) = w.shape[0] // groups, w.shape[1], w.shape[2:]
    OH, OW = gy.shape[2:]
    gy = np.ascontiguousarray(gy)
    w = w.reshape(groups, O, Cg, kh * kw)
    gx = zeros_under_windows(gy, x_shape, (kh, kw), stride, padding, dilation)
    shares = min(Cg, max(1, -(-2 * workers.threads() // max(N * groups, 1))))
    edges = [Cg * i // shares for i in range(shares + 1)]

    def share_of_channels(task):
        n, g, first, last = task
        kernel = w[g, :, first:last].reshape(O, -1)  # (O, c·kh·kw)
        target = gx[n, g * Cg + first : g * Cg + last]
        for top, bottom in _bands(OH, kernel.shape[1] * OW * gy.itemsize):
            part = gy[n, _group(g, O), top:bottom].reshape(O, -1)
            cols = workers.workspace((last - first, kh * kw, bottom - top, OW), gx.dtype)
            np.matmul(kernel.T, part, out=cols.reshape(kernel.shape[1], -1))
            rows = target[:, top * stride[0] :]
            for tap, where in enumerate(tap_slices((kh, kw), stride, dilation, (bottom - top, OW))):
                rows[where] += cols[:, tap]

    tasks = [(n, g, *edge) for n in range(N) for g in range(groups) for edge in pairwise(edges)]
    workers.run(share_of_channels, tasks)
    return gx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]
