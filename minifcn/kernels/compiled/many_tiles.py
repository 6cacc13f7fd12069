"""Winograd's algorithm for many tiles: the workers share bands of tiles, whose matrices stay in the cache."""

import numpy as np

from ...arrays import buffers
from ..cpu import scratch, workers
from ..cpu.conv import tiles, winograd
from ..cpu.products import product
from .winograd import Kernels, Matrices, transform, transform_back

LARGER = 4  # how much larger the bands of the weights' gradient are: fewer and longer sums are faster


def conv2d(x, w, window):
    return _convolve(x, w, False, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    return _convolve(gy, w, True, window.adjoint().padding)


def conv2d_grad_weight(gy, x, w_shape, window):
    (N, C), (O, OH, OW) = x.shape[:2], gy.shape[1:]
    rows, columns = tiles.grid(OH, OW)
    bands = winograd.bands(N, rows, columns, C + O, x.itemsize, LARGER)

    def share_of_sum(share):
        total = Kernels(buffers.empty((Kernels.size(O, C),), x.dtype), O, C)
        for n, (samples, lines) in enumerate(bands[slice(*share)]):
            v, u = _matrices(x.dtype, (C, O), tiles.number((samples, lines), columns))
            transform(x, v.blocks, 1, *samples, *lines, columns, *window.padding, 0, C)
            transform(gy, u.blocks, 0, *samples, *lines, columns, 0, 0, 0, O)
            if n == 0:
                np.matmul(u.matrices, v.matrices.swapaxes(1, 2), out=total.matrices)
            else:
                total.matrices += u.matrices @ v.matrices.swapaxes(1, 2)
        return total

    total, *others = workers.run(share_of_sum, workers.shares(len(bands)), moved=N * rows * columns * 36 * (C + O))
    gw = buffers.empty(w_shape, gy.dtype)
    total.transform_back(gw, others)
    return gw


def _convolve(x, w, adjoint, padding):
    """y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, band by band."""
    (N, C, H, W), O = x.shape, w.shape[1 if adjoint else 0]
    y = buffers.empty((N, O, H + 2 * padding[0] - 2, W + 2 * padding[1] - 2), x.dtype)
    rows, columns = tiles.grid(*y.shape[2:])
    kernels = Kernels(buffers.empty((Kernels.size(O, C),), w.dtype), *w.shape[:2])
    kernels.transform(w, adjoint)
    matrices = kernels.adjoint if adjoint else kernels.matrices

    def band_of_tiles(band):
        samples, lines = band
        v, m = _matrices(x.dtype, (C, O), tiles.number(band, columns))
        transform(x, v.blocks, 1, *samples, *lines, columns, *padding, 0, C)
        product(matrices, v.matrices, m.matrices)
        transform_back(m.blocks, y, *samples, *lines, columns, 0, O)

    bands = winograd.bands(N, rows, columns, C + O, x.itemsize)
    workers.run(band_of_tiles, bands, moved=N * rows * columns * 36 * (C + O))
    return y


def _matrices(dtype, channels, T):
    """Matrices of T columns in scratch memory, for each of the numbers of channels."""
    memory = scratch.arrays(*((dtype, (Matrices.size(n, T),)) for n in channels))
    return [Matrices(part, n, T) for part, n in zip(memory, channels, strict=True)]
