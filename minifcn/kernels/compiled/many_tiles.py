"""Winograd's algorithm for many tiles: the workers share bands of tiles, whose matrices stay in the cache."""

import numpy as np

from ...arrays import buffers
from ..cpu import scratch, workers
from ..cpu.conv import tiles
from ..cpu.conv.winograd import tiles_of_band
from ..cpu.products import product
from .winograd import Matrices, kernels, kernels_back, transform, transform_back


def conv2d(x, w, window):
    return _convolve(x, w, False, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    return _convolve(gy, w, True, window.adjoint().padding)


def conv2d_grad_weight(gy, x, w_shape, window):
    (O, C), (rows, columns) = w_shape[:2], tiles.grid(*gy.shape[2:])
    bands = _bands(len(x) * rows, columns, C + O, x.itemsize)

    def share_of_sum(share):
        total, products = (Matrices(buffers.empty((Matrices.size(O, C),), x.dtype), O, C) for _ in range(2))
        for n, band in enumerate(bands[slice(*share)]):
            T = _number(band, columns)
            v, u = _scratch(x.dtype, (T, C), (T, O))
            transform(x, v.all, 1, rows, columns, *window.padding, band[0], *band)
            transform(gy, u.all, 0, rows, columns, 0, 0, band[0], *band)
            out = products if n else total
            np.matmul(u.matrices.swapaxes(1, 2), v.matrices, out=out.matrices)
            if n:
                total.matrices += products.matrices
        return total

    total, *others = workers.run(share_of_sum, workers.shares(len(bands)), moved=36 * len(x) * rows * columns * (C + O))
    gw = buffers.empty(w_shape, gy.dtype)
    kernels_back(total, gw, others)
    return gw


def _convolve(x, w, adjoint, padding):
    """y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, band by band."""
    (N, C, H, W), O = x.shape, w.shape[1 if adjoint else 0]
    y = buffers.empty((N, O, H + 2 * padding[0] - 2, W + 2 * padding[1] - 2), x.dtype)
    rows, columns = tiles.grid(*y.shape[2:])
    weights = Matrices(buffers.empty((Matrices.size(C, O),), w.dtype), C, O)
    kernels(weights, w, not adjoint, adjoint)

    def band_of_tiles(band):
        T = _number(band, columns)
        v, m = _scratch(x.dtype, (T, C), (T, O))
        transform(x, v.all, 1, rows, columns, *padding, band[0], *band)
        product(*(some.matrices.swapaxes(1, 2) for some in (weights, v, m)))
        transform_back(m.all, y, rows, columns, *band, 0, O)

    bands = _bands(N * rows, columns, C + O, x.itemsize)
    workers.run(band_of_tiles, bands, moved=36 * N * rows * columns * (C + O))
    return y


def _bands(lines, columns, channels, itemsize):
    """The bands (first line, last + 1) of tiles of `channels` in and out together.

    Their number is a multiple of that of the workers, so that these end together.
    """
    threads = workers.threads()
    count = lines * columns / tiles_of_band(channels, itemsize)
    return workers.ranges(lines, min(lines, max(1, round(count / threads)) * threads))


def _number(band, columns):
    """The number of tiles of a band."""
    return (band[1] - band[0]) * columns


def _scratch(dtype, *shapes):
    """Matrices of these shapes in scratch memory."""
    memory = scratch.arrays(*((dtype, (Matrices.size(*shape),)) for shape in shapes))
    return [Matrices(part, *shape) for part, shape in zip(memory, shapes, strict=True)]
