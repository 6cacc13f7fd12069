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
over a tile: an output depends a little on inputs outside its 3×3 cells, and one infinite input makes all 4×4 outputs
NaN.  To see exact receptive fields, compute in float64, for which this algorithm is never chosen by default.

The tiles are computed band by band, in scratch memory that stays in the cache.
"""

from math import prod

import numpy as np

from ....arrays import buffers
from ... import environment
from .. import scratch, workers
from ..products import product

TILE = 4  # outputs of a tile along an axis; it reads two inputs more
BAND_BYTES = 4 << 20  # the transformed tiles of one band
FEWEST, MOST = 96, 1024  # tiles in a band: with fewer the products are too small to be fast, more exceed the cache

BT = np.array([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
])  # fmt: skip
G = np.array([
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
])  # fmt: skip
AT = np.array([
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
])  # fmt: skip


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: 3×3, stride 1, no dilation or groups, padding ≤ 2."""
    is_dense_3x3 = (*window.kernel_size, *window.stride, *window.dilation, window.groups) == (3, 3, 1, 1, 1, 1, 1)
    return is_dense_3x3 and max(window.padding) <= 2


def tiles(N, OH, OW):
    """The number of tiles of N output maps."""
    return N * -(-OH // TILE) * -(-OW // TILE)


def conv2d(x, w, window):
    return _convolve(x, w, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    return _convolve(gy, w[:, :, ::-1, ::-1].swapaxes(0, 1), window.adjoint().padding)


def conv2d_grad_weight(gy, x, w_shape, window):
    (N, C), (O, OH, OW) = x.shape[:2], gy.shape[1:]
    rows, columns = -(-OH // TILE), -(-OW // TILE)
    bt, a = BT.astype(x.dtype), np.ascontiguousarray(AT.T, gy.dtype)
    bands = _bands(N, rows, columns, C + O, x.itemsize)

    def share_of_sum(share):
        total = None
        for band in bands[slice(*share)]:
            T = _tiles(band, columns)
            p, q, spare = scratch.arrays(*[(x.dtype, (36 * max(C, O) * T,))] * 3)
            v = _both_sides(bt, _gather(x, band, columns, 6, window.padding, p, spare), spare, p)  # (6, 6, C·T)
            u = _both_sides(a, _gather(gy, band, columns, 4, (0, 0), q, spare), spare, q)  # (6, 6, O·T)
            v, u = v.reshape(36, C, T).swapaxes(1, 2), u.reshape(36, O, T)
            if total is None:
                total = np.matmul(u, v, out=buffers.empty((36, O, C), x.dtype))
            else:
                total += u @ v
        return total

    sums = workers.run(share_of_sum, workers.shares(len(bands)), moved=N * rows * columns * 36 * (C + O))
    gw, gt = buffers.empty(w_shape, gy.dtype), np.ascontiguousarray(G.T, gy.dtype)

    def back(piece):
        first, last = piece
        A, B, S = scratch.arrays(*[(gy.dtype, (36 * (last - first) * C,))] * 3)
        total = np.sum(
            [s.reshape(6, 6, -1)[:, :, first * C : last * C] for s in sums],
            axis=0,
            out=_view(S, 6, 6, (last - first) * C),
        )
        g = _both_sides(gt, total, A, B)
        gw[first:last] = g.reshape(3, 3, last - first, C).transpose(2, 3, 0, 1)

    workers.run(back, _pieces(O, C), moved=36 * O * C)
    return gw


def _convolve(x, w, padding):
    """y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, band by band."""
    (N, C, H, W), O = x.shape, len(w)
    OH, OW = H + 2 * padding[0] - 2, W + 2 * padding[1] - 2
    rows, columns = -(-OH // TILE), -(-OW // TILE)
    kernel = _transformed(w)  # (36, O, C)
    bt, at = BT.astype(x.dtype), AT.astype(x.dtype)
    y = buffers.empty((N, O, OH, OW), x.dtype)

    def band_of_tiles(band):
        T = _tiles(band, columns)
        A, B = scratch.arrays(*[(x.dtype, (36 * max(C, O) * T,))] * 2)
        v = _both_sides(bt, _gather(x, band, columns, 6, padding, A, B), B, A)  # (6, 6, C·T)
        m = product(kernel, v.reshape(36, C, T), _view(B, 36, O, T))
        _scatter(_both_sides(at, m.reshape(6, 6, O * T), A, B), y, band, columns)  # (4, 4, O·T)

    bands = _bands(N, rows, columns, C + O, x.itemsize)
    workers.run(band_of_tiles, bands, moved=N * rows * columns * 36 * (C + O))
    return y


def _bands(N, rows, columns, channels, itemsize):
    """The bands of tiles: ((first sample, last + 1), (first row of tiles, last + 1))."""
    threads = workers.threads()
    tiles = min(max(environment.band_bytes(BAND_BYTES) // (36 * channels * itemsize), FEWEST), MOST)
    if rows * columns <= tiles and threads <= N:
        return [(samples, (0, rows)) for samples in _ranges(N, N * rows * columns / tiles, threads)]
    ranges = _ranges(rows, rows * columns / tiles, 1 if N % threads == 0 else threads)
    return [((n, n + 1), band) for n in range(N) for band in ranges]


def _ranges(n, count, threads):
    """0 … n − 1 cut into about `count` ranges; their number is a multiple of `threads`."""
    return workers.ranges(n, min(n, max(1, round(count / threads)) * threads))


def _tiles(band, columns):
    return len(range(*band[0])) * len(range(*band[1])) * columns


def _view(buffer, *shape):
    return buffer[: prod(shape)].reshape(shape)


def _both_sides(m, x, spare, out):
    """``m X mᵀ`` for every matrix of x, (q, q, cells) -> (p, p, cells), at the start of `out` (which may hold x)."""
    (p, q), cells = m.shape, x.shape[2]
    half = product(m, x.swapaxes(0, 1), _view(spare, q, p, cells))  # [j, i'] = Σ_i m[i', i] x[i, j]
    return product(m, half.swapaxes(0, 1), out if out.ndim == 3 else _view(out, p, p, cells))


def _transformed(w):
    """G g Gᵀ for every kernel: (O, C, 3, 3) -> (36, O, C)."""
    O, C = w.shape[:2]
    g, kernel = G.astype(w.dtype), buffers.empty((36, O, C), w.dtype)

    def piece(o):
        first, last = o
        A, B = scratch.arrays(*[(w.dtype, (36 * (last - first) * C,))] * 2)
        taps = _view(A, 3, 3, last - first, C)
        np.copyto(taps, w[first:last].transpose(2, 3, 0, 1))
        cells = slice(first * C, last * C)
        _both_sides(g, taps.reshape(3, 3, -1), B, kernel.reshape(6, 6, O * C)[:, :, cells])

    workers.run(piece, _pieces(O, C), moved=36 * O * C)
    return kernel


def _pieces(O, C):
    """Ranges of output channels whose kernels fit the cache."""
    return workers.ranges(O, min(O, -(-O * C // 16384)))


def _gather(x, band, columns, size, padding, out, spare):
    """The tiles of a band, each of `size`×`size` inputs, TILE cells apart: (size, size, C·T)."""
    (n0, n1), (top, bottom) = band
    C, H, W = x.shape[1:]
    height, width = TILE * (bottom - top - 1) + size, TILE * (columns - 1) + size
    above, left = TILE * top - padding[0], -padding[1]  # the band's origin on the image, which zeros surround
    first, last, right = max(above, 0), min(above + height, H), min(left + width, W)
    image = _view(spare, n1 - n0, C, height, width)
    if (last - first, right) != (height, width):
        image.fill(0)
    image[:, :, first - above : last - above, -left : right - left] = x[n0:n1, :, first:last, :right]
    sn, sc, sh, sw = image.strides
    shape = (size, size, C, n1 - n0, bottom - top, columns)
    out = _view(out, *shape)
    np.copyto(out, np.ndarray(shape, x.dtype, spare, strides=(sh, sw, sc, sn, TILE * sh, TILE * sw)))
    return out.reshape(size, size, -1)


def _scatter(tiles, y, band, columns):
    """Write the tiles (4, 4, O·T) of a band into y; tiles at the right and lower edges are cut there."""
    (n0, n1), (top, bottom) = band
    tiles = tiles.reshape(TILE, TILE, y.shape[1], n1 - n0, bottom - top, columns).transpose(3, 2, 4, 0, 5, 1)
    whole, rest = divmod(min(TILE * bottom, y.shape[2]) - TILE * top, TILE)  # the last row may be cut
    cells = y[n0:n1, :, TILE * top :]
    rows = cells[:, :, : TILE * whole].reshape(n1 - n0, y.shape[1], whole, TILE, y.shape[3])  # a view
    for j in range(TILE):
        part = rows[..., j::TILE]
        part[...] = tiles[:, :, :whole, :, : part.shape[4], j]  # (samples, O, rows of tiles, 4, columns)
        if rest:
            part = cells[:, :, TILE * whole :, j::TILE]
            part[...] = tiles[:, :, whole, :rest, : part.shape[3], j]
