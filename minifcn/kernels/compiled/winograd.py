"""The transforms of Winograd's tiles in loops; ``cpu/conv/winograd.py`` has the algorithm.

The planes of a channel, one for each sample of a band, are dealt into 4×6 phases: phase (a, b) holds the cells
(4r + a, 4t + b) for all rows r and columns t of tiles.  All cells at one place of a tile are then one long row of
numbers, and a transform is a sum of such rows: the loops run over many tiles, whatever their place in the plane.  The
order is: rows of tiles, samples, columns.  A tile's cells in rows 4 and 5 are the cells in rows 0 and 1 of the tile
below: the same phases, read one row of tiles of all samples further on.
"""

from math import prod

import numpy as np

from ..cpu.conv import choice, tiles, winograd
from .compiler import Read, Write, helper, loops

A = np.pad(tiles.AT.T, ((0, 0), (0, 2)))  # as a matrix of six columns
TRANSFORM = 50  # multiply-adds of a fast matrix product that transforming a cell takes as long as; see choice.py


@loops
def transform(
    x: Read[4], matrix: Read[2], v: Write[2], overlap: int,
    n0: int, n1: int, top: int, bottom: int, columns: int, pad_h: int, pad_w: int, first: int, last: int,
):  # fmt: skip
    """v[6i + j] = (M d Mᵀ)[i, j] for the T tiles d of a band of x, in the order (C, T); channels first … last − 1.

    M is `matrix`.  If it has four columns, the tiles are 4×4 and do not overlap: `overlap` is 0 and not 1, and zeros
    stand in for the columns 4 and 5.
    """
    S, below = n1 - n0, overlap * (n1 - n0) * columns  # from a tile to the one below it
    T = (bottom - top) * S * columns
    lines = np.zeros((bottom - top + overlap, S, 4 * columns), x.dtype)
    phases, half = np.empty((4, 6, T + below), x.dtype), np.empty((4, 6, T + below), x.dtype)
    b4 = 4 * overlap  # the phases that the fifth and the sixth factor belong to are b4 and b4 + 1
    for c in range(first, last):
        deal(x[n0:n1, c], lines, phases, overlap, 4 * top - pad_h, pad_w)
        for a in range(4):
            k = T + below if a < 2 else T  # a tile reads two rows of cells of the tile below it
            for j in range(6):
                combine(
                    matrix[j], phases[a, 0, :k], phases[a, 1, :k], phases[a, 2, :k], phases[a, 3, :k],
                    phases[a, b4, :k], phases[a, b4 + 1, :k], half[a, j, :k],
                )  # fmt: skip
        for i in range(6):
            for j in range(6):
                combine(
                    matrix[i], half[0, j, :T], half[1, j, :T], half[2, j, :T], half[3, j, :T],
                    half[0, j, below:], half[1, j, below:], v[6 * i + j, c * T : (c + 1) * T],
                )  # fmt: skip


@loops
def transform_back(
    m: Read[2], matrix: Read[2], y: Write[4],
    n0: int, n1: int, top: int, bottom: int, columns: int, channel: int, channels: int,
):  # fmt: skip
    """y = M m Mᵀ for the tiles of a band, written to their places in y; M is `matrix`, 4×6.

    m has the tiles of the `channels` channels of y from `channel` on.
    """
    S, OH, OW = n1 - n0, y.shape[2], y.shape[3]
    T = (bottom - top) * S * columns
    half, phases = np.empty((4, 6, T), y.dtype), np.empty((4, 4, T), y.dtype)
    for o in range(channels):
        first, last = o * T, (o + 1) * T
        for i in range(4):
            for j in range(6):
                combine(
                    matrix[i], m[j, first:last], m[6 + j, first:last], m[12 + j, first:last], m[18 + j, first:last],
                    m[24 + j, first:last], m[30 + j, first:last], half[i, j],
                )  # fmt: skip
            for j in range(4):
                combine(
                    matrix[j], half[i, 0], half[i, 1], half[i, 2], half[i, 3], half[i, 4], half[i, 5],
                    phases[i, j],
                )  # fmt: skip
        for r in range(bottom - top):
            for s in range(S):
                at = (r * S + s) * columns
                for i in range(min(4, OH - 4 * (top + r))):
                    row = y[n0 + s, channel + o, 4 * (top + r) + i]
                    p0, p1, p2, p3 = phases[i, 0, at:], phases[i, 1, at:], phases[i, 2, at:], phases[i, 3, at:]
                    for t in range(OW // 4):
                        row[4 * t], row[4 * t + 1], row[4 * t + 2], row[4 * t + 3] = p0[t], p1[t], p2[t], p3[t]
                    for k in range(OW // 4 * 4, OW):
                        row[k] = phases[i, k % 4, at + k // 4]


@helper
def deal(planes, lines, phases, overlap, above, left):
    """phases[a, b, (r·S + s)·columns + t] = planes[s, above + 4r + a, 4t + b − left], 0 outside, for all r; b = 4 and 5
    only if the tiles overlap.

    ``lines[r, s]`` has room for a row of a plane with `left` zeros before it and perhaps zeros after it.
    """
    H, W = planes.shape[1:]
    rows, S, width = lines.shape
    columns, flat, beyond = width // 4, lines.reshape(-1), width - left  # the first column that no line holds
    for a in range(4):
        for r in range(rows):
            h = above + 4 * r + a
            for s in range(S):
                line = lines[r, s, left : left + min(W, beyond)]
                if 0 <= h < H:
                    row = planes[s, h]
                    for i in range(len(line)):
                        line[i] = row[i]
                else:
                    for i in range(len(line)):
                        line[i] = 0
        for b in range(0, 4, 2):
            cells, even, odd = flat[b:], phases[a, b], phases[a, b + 1]
            for i in range(len(even)):
                even[i], odd[i] = cells[4 * i], cells[4 * i + 1]
        for b in range(2 * overlap):  # cells 4 and 5 of a tile are cells 0 and 1 of the next, which the last one lacks
            out, following = phases[a, 4 + b], phases[a, b, 1:]
            for i in range(len(following)):
                out[i] = following[i]
            for r in range(rows):
                h = above + 4 * r + a
                for s in range(S):
                    inside = 0 <= h < H and beyond + b < W
                    out[(r * S + s + 1) * columns - 1] = planes[s, h, beyond + b] if inside else 0


@helper
def combine(c, r0, r1, r2, r3, r4, r5, out):
    """out = c₀·r₀ + … + c₅·r₅"""
    c0, c1, c2, c3, c4, c5 = c[0], c[1], c[2], c[3], c[4], c[5]
    for i in range(len(out)):
        out[i] = c0 * r0[i] + c1 * r1[i] + c2 * r2[i] + c3 * r3[i] + c4 * r4[i] + c5 * r5[i]


def inputs(x, band, columns, padding, out, spare):
    """Bᵀ d B for the tiles of a band of x: (36, C, T), in the memory of `out`."""
    return _transformed(np.ascontiguousarray(x), tiles.BT, 1, band, columns, padding, out)


def gradients(gy, band, columns, out, spare):
    """A gy Aᵀ for the tiles of a band of gy: (36, O, T), in the memory of `out`."""
    return _transformed(np.ascontiguousarray(gy), A, 0, band, columns, (0, 0), out)


def _transformed(x, matrix, overlap, band, columns, padding, out):
    (samples, rows), C, T = band, x.shape[1], tiles.number(band, columns)
    v = tiles.view(out, 36, C * T)
    transform(x, np.ascontiguousarray(matrix, x.dtype), v, overlap, *samples, *rows, columns, *padding, 0, C)
    return v.reshape(36, C, T)


def outputs(m, y, band, columns, spare):
    """Write Aᵀ m A for the tiles of a band, m of (36, O, T), into y."""
    back = np.ascontiguousarray(tiles.AT, y.dtype)
    transform_back(m.reshape(36, -1), back, y, *band[0], *band[1], columns, 0, y.shape[1])


def pays(window, w_shape, dtype, cells):
    """Whether the algorithm applies and is the cheapest for an output of (N, OH, OW) cells."""
    if not (winograd.applies(window, w_shape) and dtype == np.float32):
        return False
    (O, C), n = w_shape[:2], prod(cells)
    cost = C * O * (2.25 * n + choice.KERNEL) + TRANSFORM * (C + O) * n
    return cost < 9 * C * n * (O + choice.COLUMN)
