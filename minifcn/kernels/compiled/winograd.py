"""Winograd's transforms in loops; ``cpu/conv/winograd.py`` has the algorithm.

A loop runs over 32 tiles, one beside the other, so that it becomes instructions on vectors.  The intermediate results
lie in small arrays whose rows have a fixed distance: then the compiler knows that no row overlaps another, and they
stay in the fastest cache.  The order of tiles is: rows of tiles, samples, columns.

The results are 36 matrices, one for each place of a tile, in memory of (36, blocks, 32) numbers; see :class:`Matrices`.
"""

from math import prod

import numpy as np

from ..cpu import workers
from ..cpu.conv import choice, winograd
from ..cpu.conv.tiles import TILE, view
from .compiler import Read, Write, helper, inline, loops

LANES = 32  # tiles, or kernels, of a block
ROW = TILE * LANES + 16  # cells of a row of tiles, and room for two cells of the tile after it
DEALT = ROW // TILE  # the first, second, … cells of all tiles in a row
PLANE = 6 * DEALT  # six such rows
TWO, FOUR, FIVE, EIGHT = np.float32([2, 4, 5, 8])
TRANSFORM = 50  # multiply-adds of a fast matrix product that transforming a cell takes as long as; see choice.py


@helper
def input_values(d0, d1, d2, d3, d4, d5):
    """Bᵀ d"""
    p, q, r, s = d4 - FOUR * d2, d3 - FOUR * d1, d4 - d2, TWO * (d3 - d1)
    return FOUR * d0 - FIVE * d2 + d4, p + q, p - q, r + s, r - s, FOUR * d1 - FIVE * d3 + d5


@helper
def gradient_values(g0, g1, g2, g3):
    """A g"""
    p, q, r, s = g0 + g2, g1 + g3, g0 + FOUR * g2, TWO * g1 + EIGHT * g3
    return g0, p + q, p - q, r + s, r - s, g3


@helper
def output_cells(m0, m1, m2, m3, m4, m5):
    """Aᵀ m"""
    p, q, r, s = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return m0 + p + r, q + TWO * s, p + FOUR * r, q + EIGHT * s + m5


@helper
def kernel_values(k0, k1, k2, G):
    """G k, with the numbers 1/4, 1/6, 1/12 and 1/24 of G."""
    p, q, r, s = G[1] * (k0 + k2), G[1] * k1, G[3] * k0 + G[1] * k2, G[2] * k1
    return G[0] * k0, -p - q, q - p, r + s, r - s, k2


@helper
def kernel_gradient(t0, t1, t2, t3, t4, t5, G):
    """Gᵀ t"""
    p, q, r, s = G[1] * (t1 + t2), G[1] * (t2 - t1), t3 + t4, t3 - t4
    return G[0] * t0 - p + G[3] * r, q + G[2] * s, G[1] * r - p + t5


@loops
def transform(
    x: Read[4], v: Write[3], overlap: int,
    n0: int, n1: int, top: int, bottom: int, columns: int, pad_h: int, pad_w: int, first: int, last: int,
):  # fmt: skip
    """v[6i + j] = (Bᵀ d B)[i, j] for the tiles d of a band of x, of its channels `first` … `last` − 1.

    If `overlap` is 0, the tiles are of 4×4 cells and do not overlap, and v[6i + j] = (A d Aᵀ)[i, j].
    """
    C, H, W = x.shape[1:]
    S, flat = n1 - n0, x.reshape(-1)
    T = (bottom - top) * S * columns
    blocks = -(-T // LANES)
    rows = np.zeros((TILE + 2 * overlap) * W, x.dtype)
    half, cells, values = np.zeros(6 * ROW, x.dtype), np.zeros(6 * PLANE, x.dtype), np.zeros(6 * PLANE, x.dtype)
    ends, beyond = np.zeros(LANES, np.int64), np.zeros((LANES, 6, 2), x.dtype)  # the last tiles of rows; cells 4 and 5
    for block in range(last * blocks):  # from 0, so that the compiler sees that no index is negative; see down()
        if block >= first * blocks:
            c, tile = block // blocks, block % blocks * LANES
            line, t = tile // columns, tile % columns
            r, s = line // S, line % S
            done, count, pieces = 0, min(LANES, T - tile), 0
            while done < count:  # the tiles of a block that lie in one row
                n = min(count - done, columns - t)
                h, left, plane = TILE * (top + r) - pad_h, TILE * t - pad_w, ((n0 + s) * C + c) * H * W
                rows_of_tiles(flat, plane, H, W, h, left, TILE * n, overlap, rows, half, TILE * done)
                done, t = done + n, t + n
                ends[pieces] = done - 1
                for i in range(6):
                    beyond[pieces, i, 0] = half[i * ROW + TILE * done]
                    beyond[pieces, i, 1] = half[i * ROW + TILE * done + 1]
                pieces += 1
                if t == columns:
                    t, s = 0, s + 1
                if s == S:
                    s, r = 0, r + 1
            for i in range(6):
                for k in range(TILE * count, TILE * LANES):
                    half[i * ROW + k] = 0
            for k in range(PLANE):
                cells[k], cells[PLANE + k], cells[2 * PLANE + k], cells[3 * PLANE + k] = (
                    half[4 * k], half[4 * k + 1], half[4 * k + 2], half[4 * k + 3],
                )  # fmt: skip
            if overlap:  # cells 4 and 5 of a tile are cells 0 and 1 of the next, which the last one of a row lacks
                for k in range(PLANE - 1):
                    cells[4 * PLANE + k] = cells[k + 1]
                for k in range(PLANE - 1):
                    cells[5 * PLANE + k] = cells[PLANE + k + 1]
                for e in range(pieces):
                    for i in range(6):
                        cells[4 * PLANE + i * DEALT + ends[e]] = beyond[e, i, 0]
                        cells[5 * PLANE + i * DEALT + ends[e]] = beyond[e, i, 1]
            across(cells, values, overlap)
            spread(values, v, block)


@helper
def rows_of_tiles(flat, plane, H, W, h, left, count, overlap, rows, half, at):
    """half[i, at + k] = Σ_a M[i, a] x[h + a, left + k], where M is Bᵀ or A, for `count` cells, and two more if the
    tiles overlap; x is the map that begins at flat[plane], and zeros around it."""
    size, more = TILE + 2 * overlap, count + 2 * overlap
    low, high = max(-left, 0), min(more, W - left)  # the cells inside
    if h >= 0 and h + size <= H:
        down(flat, plane + h * W + left + low, W, half, at + low, high - low, overlap)
    else:
        with_zeros(flat, plane, H, W, h, size, rows)
        down(rows, left + low, W, half, at + low, high - low, overlap)
    for i in range(6):
        for k in range(low):
            half[i * ROW + at + k] = 0
        for k in range(high, more):
            half[i * ROW + at + k] = 0


@helper
def with_zeros(flat, plane, H, W, h, size, rows):
    """rows = the rows h … h + size − 1 of a plane, of which some lie outside and are zeros."""
    first, last = max(h, 0), min(h + size, H)
    start, above, end = np.uint64(plane + first * W), np.uint64((first - h) * W), np.uint64((last - h) * W)
    for k in range(above):
        rows[k] = 0
    for k in range(end - above):
        rows[above + k] = flat[start + k]
    for k in range(np.uint64(len(rows)) - end):
        rows[end + k] = 0


@helper
def down(x, start, width, half, at, count, overlap):
    """half[i, at + k] = Σ_a M[i, a] x[start + a·width + k], where M is Bᵀ or A."""
    # unsigned numbers: an index that could be negative counts from the end, and such a loop is not turned into vectors
    x0, at, width = np.uint64(start), np.uint64(at), np.uint64(width)
    x1, x2, x3 = x0 + width, x0 + np.uint64(2) * width, x0 + np.uint64(3) * width
    x4, x5 = x0 + np.uint64(4) * width, x0 + np.uint64(5) * width
    h0, h1, h2 = at, at + np.uint64(ROW), at + np.uint64(2 * ROW)
    h3, h4, h5 = at + np.uint64(3 * ROW), at + np.uint64(4 * ROW), at + np.uint64(5 * ROW)
    if overlap:
        for k in range(np.uint64(count)):
            half[h0 + k], half[h1 + k], half[h2 + k], half[h3 + k], half[h4 + k], half[h5 + k] = input_values(
                x[x0 + k], x[x1 + k], x[x2 + k], x[x3 + k], x[x4 + k], x[x5 + k]
            )
    else:
        for k in range(np.uint64(count)):
            half[h0 + k], half[h1 + k], half[h2 + k], half[h3 + k], half[h4 + k], half[h5 + k] = gradient_values(
                x[x0 + k], x[x1 + k], x[x2 + k], x[x3 + k]
            )


@helper
def across(cells, values, overlap):
    """values[j, i] = Σ_b M[j, b] cells[b, i] for six rows i of tiles, where M is Bᵀ or A."""
    if overlap:
        for k in range(PLANE):
            (
                values[k], values[PLANE + k], values[2 * PLANE + k],
                values[3 * PLANE + k], values[4 * PLANE + k], values[5 * PLANE + k],
            ) = input_values(
                cells[k], cells[PLANE + k], cells[2 * PLANE + k],
                cells[3 * PLANE + k], cells[4 * PLANE + k], cells[5 * PLANE + k],
            )  # fmt: skip
    else:
        for k in range(PLANE):
            (
                values[k], values[PLANE + k], values[2 * PLANE + k],
                values[3 * PLANE + k], values[4 * PLANE + k], values[5 * PLANE + k],
            ) = gradient_values(cells[k], cells[PLANE + k], cells[2 * PLANE + k], cells[3 * PLANE + k])  # fmt: skip


@inline
def spread(values, v, block):
    """v[6i + j, block] = values[j, i]"""
    for i in range(6):
        for k in range(LANES):
            v[6 * i, block, k] = values[i * DEALT + k]
            v[6 * i + 1, block, k] = values[PLANE + i * DEALT + k]
            v[6 * i + 2, block, k] = values[2 * PLANE + i * DEALT + k]
            v[6 * i + 3, block, k] = values[3 * PLANE + i * DEALT + k]
            v[6 * i + 4, block, k] = values[4 * PLANE + i * DEALT + k]
            v[6 * i + 5, block, k] = values[5 * PLANE + i * DEALT + k]


@loops
def transform_back(
    m: Read[3], y: Write[4], n0: int, n1: int, top: int, bottom: int, columns: int, channel: int, channels: int
):
    """y = Aᵀ m A for the tiles of a band, written to their places in y, from its channel `channel` on."""
    C, OH, OW = y.shape[1:]
    S, flat, row = n1 - n0, y.reshape(-1), TILE * LANES
    T = (bottom - top) * S * columns
    blocks = -(-T // LANES)
    half, cells = np.zeros(4 * 6 * LANES, y.dtype), np.zeros(4 * row, y.dtype)
    for block in range(channels * blocks):
        c, tile = channel + block // blocks, block % blocks * LANES
        count = min(LANES, T - tile)
        for j in range(6):
            for k in range(count):
                at = j * LANES + k
                half[at], half[6 * LANES + at], half[12 * LANES + at], half[18 * LANES + at] = output_cells(
                    m[j, block, k], m[6 + j, block, k], m[12 + j, block, k],
                    m[18 + j, block, k], m[24 + j, block, k], m[30 + j, block, k],
                )  # fmt: skip
        for i in range(4):
            for k in range(LANES):
                at, to = 6 * i * LANES + k, i * row + TILE * k
                cells[to], cells[to + 1], cells[to + 2], cells[to + 3] = output_cells(
                    half[at], half[LANES + at], half[2 * LANES + at],
                    half[3 * LANES + at], half[4 * LANES + at], half[5 * LANES + at],
                )  # fmt: skip
        line, t = tile // columns, tile % columns
        r, s = line // S, line % S
        done = 0
        while done < count:
            n = min(count - done, columns - t)
            for i in range(min(TILE, OH - TILE * (top + r))):
                to = np.uint64((((n0 + s) * C + c) * OH + TILE * (top + r) + i) * OW + TILE * t)
                at = np.uint64(i * row + TILE * done)
                for k in range(np.uint64(min(TILE * n, OW - TILE * t))):
                    flat[to + k] = cells[at + k]
            done, t = done + n, t + n
            if t == columns:
                t, s = 0, s + 1
            if s == S:
                s, r = 0, r + 1


@loops
def transform_kernels(w: Read[2], G: Read[1], v: Write[3], turned: int, first: int, last: int):
    """v[6i + j] = (G g Gᵀ)[i, j] for all kernels g, (O·C, 9), of the blocks `first` … `last` − 1, turned by 180°."""
    taps, half = np.zeros(9 * LANES, w.dtype), np.zeros(18 * LANES, w.dtype)
    values = np.zeros(6 * PLANE, w.dtype)
    for block in range(last):
        if block >= first:
            for k in range(min(LANES, len(w) - block * LANES)):
                for a in range(9):
                    taps[a * LANES + k] = w[block * LANES + k, 8 - a if turned else a]
            step = 3 * LANES
            for k in range(step):
                (
                    half[k], half[step + k], half[2 * step + k], half[3 * step + k], half[4 * step + k],
                    half[5 * step + k],
                ) = kernel_values(taps[k], taps[step + k], taps[2 * step + k], G)  # fmt: skip
            for i in range(6):
                for k in range(LANES):
                    at, to = i * step + k, i * DEALT + k
                    (
                        values[to], values[PLANE + to], values[2 * PLANE + to],
                        values[3 * PLANE + to], values[4 * PLANE + to], values[5 * PLANE + to],
                    ) = kernel_values(half[at], half[LANES + at], half[2 * LANES + at], G)  # fmt: skip
            spread(values, v, block)


@loops
def transform_kernels_back(t: Read[3], G: Read[1], gw: Write[2], first: int, last: int):
    """gw = Gᵀ t G for the kernels, (O·C, 9), of the blocks `first` … `last` − 1."""
    half, taps, step = np.zeros(18 * LANES, gw.dtype), np.zeros(9 * LANES, gw.dtype), 6 * LANES
    for block in range(first, last):
        for j in range(6):
            for k in range(LANES):
                at = j * LANES + k
                half[at], half[step + at], half[2 * step + at] = kernel_gradient(
                    t[j, block, k], t[6 + j, block, k], t[12 + j, block, k],
                    t[18 + j, block, k], t[24 + j, block, k], t[30 + j, block, k], G,
                )  # fmt: skip
        for i in range(3):
            for k in range(LANES):
                at, to = i * step + k, 3 * i * LANES + k
                taps[to], taps[LANES + to], taps[2 * LANES + to] = kernel_gradient(
                    half[at], half[LANES + at], half[2 * LANES + at],
                    half[3 * LANES + at], half[4 * LANES + at], half[5 * LANES + at], G,
                )  # fmt: skip
        for k in range(min(LANES, len(gw) - block * LANES)):
            for a in range(9):
                gw[block * LANES + k, a] = taps[a * LANES + k]


class Matrices:
    """36 matrices of (rows, columns) numbers, in the flat array `memory`.

    A row takes whole blocks of 32 numbers.  The distance of two matrices is an odd number of blocks: if it were a power
    of two, the 36 numbers of a tile would compete for the same place in the cache.

    Attributes
    ----------
    blocks : (36, blocks, 32)
    matrices : (36, rows, columns)
    """

    def __init__(self, memory, rows, columns):
        each = -(-columns // LANES)
        self.blocks = view(memory, 36, rows * each | 1, LANES)
        places = self.blocks.reshape(36, -1)[:, : rows * each * LANES]
        self.matrices = places.reshape(36, rows, each * LANES)[..., :columns]

    @staticmethod
    def size(rows, columns):
        """How many numbers the memory has."""
        return 36 * LANES * (rows * -(-columns // LANES) | 1)


class Kernels:
    """What O·C kernels become, or the sums that become their gradient, in the flat array `memory`.

    Attributes
    ----------
    matrices : (36, O, C)
    adjoint : (36, C, O)
    flat : (36, O·C)
    blocks : (36, blocks, 32), of which `used` have kernels; the last of these may end with memory that nobody wrote
    """

    def __init__(self, memory, O, C):
        row = Matrices(memory, 1, O * C)
        self.blocks, self.flat, self.used = row.blocks, row.matrices[:, 0], -(-O * C // LANES)
        self.matrices = self.flat.reshape(36, O, C)
        self.adjoint = self.matrices.swapaxes(1, 2)
        self.G = np.array([1 / 4, 1 / 6, 1 / 12, 1 / 24], memory.dtype)

    @staticmethod
    def size(O, C):
        """How many numbers the memory has."""
        return Matrices.size(1, O * C)

    def transform(self, w, turned):
        """G g Gᵀ for the kernels of w, or for the same turned by 180°; the workers share them."""
        w = w.reshape(-1, 9)
        workers.divide(
            self.used, lambda first, last: transform_kernels(w, self.G, self.blocks, turned, first, last),
            moved=self.blocks.size,
        )  # fmt: skip

    def transform_back(self, gw, others=()):
        """gw = Gᵀ t G for the sums t, each added to the sums of `others` first; the workers share them."""
        gw = gw.reshape(-1, 9)

        def some(first, last):
            kernels = slice(first * LANES, last * LANES)
            for other in others:
                self.flat[:, kernels] += other.flat[:, kernels]
            transform_kernels_back(self.blocks, self.G, gw, first, last)

        workers.divide(self.used, some, moved=self.blocks.size)


def pays(window, w_shape, dtype, cells):
    """Whether the algorithm applies and is the cheapest for an output of (N, OH, OW) cells."""
    if not (winograd.applies(window, w_shape) and dtype == np.float32):
        return False
    (O, C), n = w_shape[:2], prod(cells)
    cost = C * O * (2.25 * n + choice.KERNEL) + TRANSFORM * (C + O) * n
    return cost < 9 * C * n * (O + choice.COLUMN)
