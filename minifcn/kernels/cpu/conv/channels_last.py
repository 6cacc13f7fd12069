"""Convolution of small maps with many channels: im2col with the channels last, for several samples at once.

Columns are copied in runs of adjacent numbers.  In the order (C, H, W) a run is a row of the map; on a map 8 wide it is
8 numbers, and copying takes as long as the product.  In the order (H, W, C) a run is one row of a window with all its
channels, kw·C numbers.  So the samples of a band are first copied into that order, with their padding; a column is then
kh runs.  Several samples share one product, because the product of one small map would be too small to be fast.
"""

import numpy as np

from ....arrays import buffers
from ... import environment
from .. import scratch, workers
from ..products import product
from . import banded


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: any without groups."""
    return window.groups == 1


def pays(w_shape, out, window, itemsize):
    """Whether the algorithm is faster than ``banded``.

    A row of a window must be a longer run than a row of the output, and each worker must have a whole sample to do.
    """
    (_, C, kh, kw), (N, OH, OW) = w_shape, out
    fits = OH * OW * kh * kw * C * itemsize <= environment.band_bytes(banded.BAND_BYTES)
    return window.groups == 1 and kw * C > OW and fits and workers.threads() <= N


def conv2d(x, w, window):
    (N, C), (O, _, kh, kw) = x.shape[:2], w.shape
    OH, OW = window.out_size(x.shape)
    kernel = np.ascontiguousarray(w.transpose(0, 2, 3, 1)).reshape(O, -1)  # (O, kh·kw·C)
    y = buffers.empty((N, O, OH, OW), x.dtype)

    def band_of_output(band):
        (n0, n1), (top, bottom) = band
        cols, out = _columns(x, band, OW, O, window)
        product(kernel, cols.T, out.reshape(O, -1))
        y[n0:n1, :, top:bottom] = out.swapaxes(0, 1)

    bands = banded.bands(N, OH, kh * kw * C * OW * x.itemsize)
    workers.run(band_of_output, bands, moved=N * OH * OW * kh * kw * C)
    return y


def conv2d_grad_weight(gy, x, w_shape, window):
    O, C, kh, kw = w_shape
    N, _, OH, OW = gy.shape
    bands = banded.bands(N, OH, kh * kw * C * OW * x.itemsize)

    def share_of_sum(share):
        total = np.zeros((O, kh * kw * C), x.dtype)
        for band in bands[slice(*share)]:
            (n0, n1), (top, bottom) = band
            cols, out = _columns(x, band, OW, O, window)
            np.copyto(out, gy[n0:n1, :, top:bottom].swapaxes(0, 1))
            total += out.reshape(O, -1) @ cols
        return total

    total, *others = workers.run(share_of_sum, workers.shares(len(bands)), moved=N * OH * OW * kh * kw * C)
    for other in others:
        total += other
    return np.ascontiguousarray(total.reshape(O, kh, kw, C).transpose(0, 3, 1, 2))


def conv2d_grad_input(gy, w, x_shape, window):
    adjoint = window.adjoint()
    if adjoint is None:
        return banded.conv2d_grad_input(gy, w, x_shape, window)
    return conv2d(gy, w[:, :, ::-1, ::-1].swapaxes(0, 1), adjoint)


def _columns(x, band, OW, O, window):
    """The columns of a band, (samples·rows·OW, kh·kw·C), and an array for its outputs, (O, samples, rows, OW)."""
    (kernel_size, stride, padding, dilation, _), (kh, kw) = window, window.kernel_size
    ((n0, n1), (top, bottom)), (C, H, W) = band, x.shape[1:]
    samples, rows = n1 - n0, bottom - top
    height, width = ((n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip((rows, OW), stride, dilation, kernel_size))
    shapes = (samples, height, width, C), (samples, rows, OW, kh, kw, C), (O, samples, rows, OW)
    image, cols, out = scratch.arrays(*((x.dtype, shape) for shape in shapes))

    above, left = top * stride[0] - padding[0], padding[1]  # the band's origin on the image, which zeros surround
    first, right = max(above, 0), max(min(width - left, W), 0)
    last = max(min(above + height, H), first)
    if (last - first, right) != (height, width):
        image.fill(0)
    image[:, first - above : last - above, left : left + right] = x[n0:n1, :, first:last, :right].transpose(0, 2, 3, 1)

    sn, sh, sw, sc = image.strides
    strides = sn, stride[0] * sh, stride[1] * sw, dilation[0] * sh, dilation[1] * sw, sc
    np.copyto(cols, np.ndarray(cols.shape, x.dtype, image, strides=strides))
    return cols.reshape(samples * rows * OW, -1), out
