"""Winograd's algorithm F(4×4, 3×3): convolution with a 3×3 kernel at stride 1 in a quarter of the multiplications.

A tile of 4×4 outputs y is computed from the 6×6 inputs d under it and the kernel g as (Lavin & Gray 2016)::

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

These are 36 products, where the definition takes 16 · 9 = 144.  Summed over the input channels, the ⊙ of all tiles is
36 matrix products, one for each place in a tile.  The gradient for x is the same with the kernel turned by 180°; the
gradient for g is

    gg = Gᵀ [Σ over tiles of (A gy Aᵀ) ⊙ (Bᵀ d B)] G

The matrices come from a fast product of two polynomials: both are evaluated at 0, ±1, ±2 and ∞ (G and A, up to constant
factors), the values are multiplied, and the coefficients of the product are interpolated from them (B).  A convolution
is the transpose of such a product, so Bᵀ is applied to the inputs and Aᵀ to the products.

The cost is rounding: about 1e-5 of the largest value in float32, ten times that of the definition.  The error spreads
over a tile: an output depends a little on inputs outside its 3×3 cells, and one infinite input makes up to all 4×4
outputs of a tile NaN or infinite.  To see exact receptive fields, compute in float64, for which this algorithm is never
chosen by default.

The tiles are computed band by band, in scratch memory that stays in the cache; few tiles as ``few_tiles.py`` says.  The
transforms are in ``tiles.py``, as matrix products; ``compiled/winograd.py`` has them as loops.
"""

from math import prod

import numpy as np

from ....arrays import buffers
from ... import environment
from .. import scratch, workers
from ..products import product
from . import few_tiles
from .tiles import gradients, grid, inputs, kernels, kernels_back, number, outputs, view

BAND_BYTES = 4 << 20  # the transformed tiles of one band
FEWEST, MOST = 96, 1024  # tiles in a band: with fewer the products are too small to be fast, more exceed the cache
LARGE = 192  # tiles of a band that exceeds the cache: more take more memory and no less time


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: 3×3, stride 1, no dilation or groups, padding ≤ 2."""
    is_dense_3x3 = (*window.kernel_size, *window.stride, *window.dilation, window.groups) == (3, 3, 1, 1, 1, 1, 1)
    return is_dense_3x3 and max(window.padding) <= 2


def tiles(N, OH, OW):
    """The number of tiles of N output maps."""
    return N * prod(grid(OH, OW))


def conv2d(x, w, window):
    return _convolve(x, w, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    return _convolve(gy, w[:, :, ::-1, ::-1].swapaxes(0, 1), window.adjoint().padding)


def conv2d_grad_weight(gy, x, w_shape, window):
    (N, C), (O, OH, OW) = x.shape[:2], gy.shape[1:]
    rows, columns = grid(OH, OW)
    if few_tiles.pays(C, O, N * rows * columns):
        return few_tiles.grad_weight(gy, x, w_shape, window.padding)
    all_bands = bands(N, rows, columns, C + O, x.itemsize)

    def share_of_sum(share):
        total = None
        for band in all_bands[slice(*share)]:
            p, q, spare = scratch.arrays(*[(x.dtype, (36 * max(C, O) * number(band, columns),))] * 3)
            v = inputs(x, band, columns, window.padding, p, spare).swapaxes(1, 2)  # (36, T, C)
            u = gradients(gy, band, columns, q, spare)  # (36, O, T)
            if total is None:
                total = np.matmul(u, v, out=buffers.empty((36, O, C), x.dtype))
            else:
                total += u @ v
        return total

    sums = workers.run(share_of_sum, workers.shares(len(all_bands)), moved=N * rows * columns * 36 * (C + O))
    gw = buffers.empty(w_shape, gy.dtype)

    def back(piece):
        first, last = piece
        A, B, S = scratch.arrays(*[(gy.dtype, (36 * (last - first) * C,))] * 3)
        total = np.sum([s[:, first:last] for s in sums], axis=0, out=view(S, 36, last - first, C))
        kernels_back(total, gw[first:last], A, B)

    workers.run(back, _pieces(O, C), moved=36 * O * C)
    return gw


def _convolve(x, w, padding):
    """y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, band by band."""
    (N, C, H, W), O = x.shape, len(w)
    OH, OW = H + 2 * padding[0] - 2, W + 2 * padding[1] - 2
    rows, columns = grid(OH, OW)
    if few_tiles.pays(C, O, N * rows * columns):
        return few_tiles.convolve(x, w, padding)
    kernel = _transformed(w)  # (36, O, C)
    y = buffers.empty((N, O, OH, OW), x.dtype)

    def band_of_tiles(band):
        T = number(band, columns)
        A, B = scratch.arrays(*[(x.dtype, (36 * max(C, O) * T,))] * 2)
        v = inputs(x, band, columns, padding, A, B)  # (36, C, T)
        m = product(kernel, v, view(B, 36, O, T))
        outputs(m, y, band, columns, A)

    all_bands = bands(N, rows, columns, C + O, x.itemsize)
    workers.run(band_of_tiles, all_bands, moved=N * rows * columns * 36 * (C + O))
    return y


def bands(N, rows, columns, channels, itemsize):
    """The bands of tiles: ((first sample, last + 1), (first row of tiles, last + 1))."""
    threads, tiles = workers.threads(), tiles_of_band(channels, itemsize)
    if rows * columns <= tiles and threads <= N:
        return [(samples, (0, rows)) for samples in _ranges(N, N * rows * columns / tiles, threads)]
    ranges = _ranges(rows, rows * columns / tiles, 1 if N % threads == 0 else threads)
    return [((n, n + 1), band) for n in range(N) for band in ranges]


def tiles_of_band(channels, itemsize):
    """The number of tiles of `channels` in and out together that a band should have.

    As many as fit the cache, but at least half as many as channels (`FEWEST` to `LARGE`): the products need them.
    """
    fewest = min(max(FEWEST, channels // 2), LARGE)
    return min(max(environment.band_bytes(BAND_BYTES) // (36 * channels * itemsize), fewest), MOST)


def _ranges(n, count, threads):
    """0 … n − 1 cut into about `count` ranges; their number is a multiple of `threads`."""
    return workers.ranges(n, min(n, max(1, round(count / threads)) * threads))


def _transformed(w):
    """G g Gᵀ for every kernel: (O, C, 3, 3) -> (36, O, C)."""
    O, C = w.shape[:2]
    kernel = buffers.empty((36, O, C), w.dtype)

    def piece(o):
        first, last = o
        A, B = scratch.arrays(*[(w.dtype, (36 * (last - first) * C,))] * 2)
        kernels(w[first:last], kernel.reshape(6, 6, O * C)[:, :, first * C : last * C], A, B)

    workers.run(piece, _pieces(O, C), moved=36 * O * C)
    return kernel


def _pieces(O, C):
    """Ranges of output channels whose kernels fit the cache, at least one for each worker."""
    return workers.ranges(O, min(O, max(workers.threads(), -(-O * C // 16384))))
