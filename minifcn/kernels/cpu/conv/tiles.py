"""Winograd's transforms, each as two small matrix products: Bᵀ d B, A gy Aᵀ and Aᵀ m A of tiles, G g Gᵀ of kernels.

A band is ((first sample, last + 1), (first row of tiles, last + 1)); its T tiles are the last axis of all arrays.
"""

from math import prod

import numpy as np

from ..products import product

TILE = 4  # outputs of a tile along an axis; it reads two inputs more

BT = np.array([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
])  # fmt: skip
AT = np.array([
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
])  # fmt: skip
G = np.array([
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
])  # fmt: skip


def inputs(x, band, columns, padding, out, spare):
    """Bᵀ d B for the tiles of a band of x: (36, C, T), in the memory of `out`."""
    v = both_sides(BT.astype(x.dtype), gather(x, band, columns, 6, padding, out, spare), spare, out)
    return v.reshape(36, x.shape[1], -1)


def gradients(gy, band, columns, out, spare):
    """A gy Aᵀ for the tiles of a band of gy: (36, O, T), in the memory of `out`."""
    a = np.ascontiguousarray(AT.T, gy.dtype)
    u = both_sides(a, gather(gy, band, columns, 4, (0, 0), out, spare), spare, out)
    return u.reshape(36, gy.shape[1], -1)


def outputs(m, y, band, columns, spare):
    """Write Aᵀ m A for the tiles of a band, m of (36, O, T), into y; m is overwritten."""
    _scatter(both_sides(AT.astype(y.dtype), m.reshape(6, 6, -1), spare, m.reshape(-1)), y, band, columns)


def kernels(w, out, A, B):
    """G g Gᵀ for every kernel of w, (O, C, 3, 3), into `out`, (6, 6, O·C); A and B are scratch memory."""
    taps = view(A, 3, 3, *w.shape[:2])
    np.copyto(taps, w.transpose(2, 3, 0, 1))
    both_sides(G.astype(w.dtype), taps.reshape(3, 3, -1), B, out)


def kernels_back(total, gw, A, B):
    """Gᵀ t G for every kernel's sum t, (36, O, C), into gw, (O, C, 3, 3); A and B are scratch memory."""
    g = both_sides(np.ascontiguousarray(G.T, gw.dtype), total.reshape(6, 6, -1), A, B)
    gw[:] = g.reshape(3, 3, *gw.shape[:2]).transpose(2, 3, 0, 1)


def grid(OH, OW):
    """The rows and columns of tiles of an output map."""
    return -(-OH // TILE), -(-OW // TILE)


def number(band, columns):
    """The tiles of a band, T."""
    return len(range(*band[0])) * len(range(*band[1])) * columns


def view(buffer, *shape):
    """The start of a flat array as an array of that shape."""
    return buffer[: prod(shape)].reshape(shape)


def both_sides(m, x, spare, out):
    """``m X mᵀ`` for every matrix of x, (q, q, cells) -> (p, p, cells), at the start of `out` (which may hold x)."""
    (p, q), cells = m.shape, x.shape[2]
    half = product(m, x.swapaxes(0, 1), view(spare, q, p, cells))  # [j, i'] = Σ_i m[i', i] x[i, j]
    return product(m, half.swapaxes(0, 1), out if out.ndim == 3 else view(out, p, p, cells))


def gather(x, band, columns, size, padding, out, spare):
    """The tiles of a band, each of `size`×`size` inputs, TILE cells apart: (size, size, C·T)."""
    (n0, n1), (top, bottom) = band
    C, H, W = x.shape[1:]
    height, width = TILE * (bottom - top - 1) + size, TILE * (columns - 1) + size
    above, left = TILE * top - padding[0], -padding[1]  # the band's origin on the image, which zeros surround
    first, last, right = max(above, 0), min(above + height, H), min(left + width, W)
    image = view(spare, n1 - n0, C, height, width)
    if (last - first, right) != (height, width):
        image.fill(0)
    image[:, :, first - above : last - above, -left : right - left] = x[n0:n1, :, first:last, :right]
    sn, sc, sh, sw = image.strides
    shape = (size, size, C, n1 - n0, bottom - top, columns)
    out = view(out, *shape)
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
