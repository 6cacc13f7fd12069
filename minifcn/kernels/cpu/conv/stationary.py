"""Convolution with more weights than columns: fc6 of VGG16 has 411 MB of weights, and 6 MB of columns at 8×8 cells.

All columns are made once and stay in the cache.  The weights are read once, divided among the worker threads: by
output channels in the forward pass and in the weight gradient, by input channels in the input gradient.
"""

import numpy as np

from ....arrays import buffers
from ...textbook import tap_slices
from .. import workers
from .banded import windows_of


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: it can compute any."""
    return True


def conv2d(x, w, window):
    windows, groups = windows_of(x, window), window.groups
    cols, (OH, OW) = _columns(windows, groups), windows.shape[4:]
    kernel = w.reshape(groups, w.shape[0] // groups, -1)
    y = buffers.empty((groups, kernel.shape[1], cols.shape[2]), w.dtype)  # (G, O/G, N·OH·OW)

    def outputs(share):
        np.matmul(kernel[:, slice(*share)], cols, out=y[:, slice(*share)])

    workers.run(outputs, workers.shares(kernel.shape[1], 8))
    return np.ascontiguousarray(y.reshape(len(w), len(x), OH, OW).swapaxes(0, 1))


def conv2d_grad_weight(gy, x, w_shape, window):
    groups = window.groups
    cols = _columns(windows_of(x, window), groups)
    gy = _outputs(gy, groups)
    gw = buffers.empty(w_shape, gy.dtype)
    rows = gw.reshape(groups, gy.shape[1], -1)

    def outputs(share):
        np.matmul(gy[:, slice(*share)], cols.swapaxes(1, 2), out=rows[:, slice(*share)])

    workers.run(outputs, workers.shares(gy.shape[1], 8))
    return gw


def conv2d_grad_input(gy, w, x_shape, window):
    (N, C, H, W), (O, Cg, kh, kw), (OH, OW), groups = x_shape, w.shape, gy.shape[2:], window.groups
    size = window.extent((H, W), (OH, OW))
    kernel, gy = w.reshape(groups, O // groups, Cg, kh * kw), _outputs(gy, groups)
    gx = buffers.zeros((N, C, *size), gy.dtype)
    by_group = gx.reshape(N, groups, Cg, *size)

    def inputs(share):
        c = slice(*share)
        cols = np.empty((groups, len(range(*share)), kh * kw, N, OH, OW), gy.dtype)
        for g in range(groups):
            part = kernel[g, :, c].reshape(O // groups, -1)  # a view, with gaps between the rows
            np.matmul(part.T, gy[g], out=cols[g].reshape(part.shape[1], -1))
        for tap, cells in enumerate(tap_slices((kh, kw), window.stride, window.dilation, (OH, OW))):
            by_group[:, :, c][cells] += cols[:, :, tap].transpose(2, 0, 1, 3, 4)

    workers.run(inputs, workers.shares(Cg, 8))
    padding = window.padding
    return gx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]


def _columns(windows, groups):
    """The columns of all windows, (G, C/G·kh·kw, N·OH·OW)."""
    N, C, kh, kw, OH, OW = windows.shape
    cols = buffers.empty((C, kh, kw, N, OH, OW), windows.dtype)

    def channels(share):
        c = slice(*share)
        np.copyto(cols[c], windows[:, c].transpose(1, 2, 3, 0, 4, 5))

    workers.run(channels, workers.shares(C, 8))
    return cols.reshape(groups, C // groups * kh * kw, N * OH * OW)


def _outputs(gy, groups):
    """(N, O, OH, OW) as (G, O/G, N·OH·OW)."""
    return np.ascontiguousarray(gy.swapaxes(0, 1)).reshape(groups, gy.shape[1] // groups, -1)
