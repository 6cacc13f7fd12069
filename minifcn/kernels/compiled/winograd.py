"""The transforms of Winograd's tiles in loops; ``cpu/conv/winograd.py`` has the algorithm.

A plane is dealt into 16 phases: phase (a, b) holds the cells (4r + a, 4t + b), for all rows r and columns t of tiles.
All cells at one place of a tile are then one long row of numbers, and a transform is a sum of such rows: the loops run
over many tiles, whatever their place in the plane.  A tile's cells 4 and 5 are the cells 0 and 1 of the next tile: the
same rows, read one tile (or one row of tiles) further on.  So that a row of tiles has a next tile at its end, it gets
one more, whose results are not used.
"""

from math import prod

import numpy as np

from ..cpu.conv import choice, tiles, winograd
from .compiler import Read, Write, helper, loops

TRANSFORM = 50  # multiply-adds of a fast matrix product that transforming a cell takes as long as; see choice.py
BT, A = tiles.BT, np.pad(tiles.AT.T, ((0, 0), (0, 2)))  # as matrices of six columns
NARROWEST = 7  # tiles of a row of outputs: in narrower ones, the tile that is not used costs more than is saved


@loops
def transform(
    x: Read[4], matrix: Read[2], v: Write[3],
    n0: int, n1: int, top: int, bottom: int, columns: int, pad_h: int, pad_w: int,
):  # fmt: skip
    """v[6i + j, c] = (M d Mᵀ)[i, j] for the tiles d of a band of x; M is `matrix`, 6×6 (zeros beyond its columns)."""
    T = (bottom - top) * columns
    n, below = T + 1, columns
    phases = np.zeros((4, 4, T + columns + 1), x.dtype)
    half, rows = np.empty((6, 4, n), x.dtype), np.zeros((4, 4 * (T + columns)), x.dtype)
    for s in range(n1 - n0):
        for c in range(x.shape[1]):
            deal(x[n0 + s, c], rows, phases, 4 * top - pad_h, pad_w, columns)
            for b in range(4):
                for i in range(6):
                    combine(
                        matrix[i], phases[0, b, :n], phases[1, b, :n], phases[2, b, :n], phases[3, b, :n],
                        phases[0, b, below : below + n], phases[1, b, below : below + n], half[i, b],
                    )  # fmt: skip
            for i in range(6):
                for j in range(6):
                    combine(
                        matrix[j], half[i, 0, :T], half[i, 1, :T], half[i, 2, :T], half[i, 3, :T],
                        half[i, 0, 1:], half[i, 1, 1:], v[6 * i + j, c, s * T : (s + 1) * T],
                    )  # fmt: skip


@loops
def transform_back(m: Read[3], matrix: Read[2], y: Write[4], n0: int, n1: int, top: int, bottom: int, columns: int):
    """y = M m Mᵀ for the tiles of a band, written to their places in y; M is `matrix`, 4×6."""
    T, OH, OW = (bottom - top) * columns, y.shape[2], y.shape[3]
    half, phases = np.empty((4, 6, T), y.dtype), np.empty((4, 4, T), y.dtype)
    for s in range(n1 - n0):
        first, last = s * T, (s + 1) * T
        for o in range(y.shape[1]):
            for i in range(4):
                for j in range(6):
                    combine(
                        matrix[i], m[j, o, first:last], m[6 + j, o, first:last], m[12 + j, o, first:last],
                        m[18 + j, o, first:last], m[24 + j, o, first:last], m[30 + j, o, first:last], half[i, j],
                    )  # fmt: skip
                for j in range(4):
                    combine(
                        matrix[j], half[i, 0], half[i, 1], half[i, 2], half[i, 3], half[i, 4], half[i, 5],
                        phases[i, j],
                    )  # fmt: skip
            for r in range(bottom - top):
                for i in range(min(4, OH - 4 * (top + r))):
                    row, at = y[n0 + s, o, 4 * (top + r) + i], r * columns
                    p0, p1, p2, p3 = phases[i, 0, at:], phases[i, 1, at:], phases[i, 2, at:], phases[i, 3, at:]
                    for t in range(OW // 4):
                        row[4 * t], row[4 * t + 1], row[4 * t + 2], row[4 * t + 3] = p0[t], p1[t], p2[t], p3[t]
                    for k in range(OW // 4 * 4, OW):
                        row[k] = phases[i, k % 4, at + k // 4]


@helper
def deal(plane, rows, phases, above, left, columns):
    """phases[a, b, r·columns + t] = plane[above + 4r + a, 4t + b − left], 0 outside, for as many r as there is room.

    ``rows[a]`` gets the rows a, a + 4, a + 8, … one after the other: each phase is every fourth cell of them.
    """
    H, W, width = plane.shape[0], plane.shape[1], 4 * columns
    for a in range(4):
        for r in range(rows.shape[1] // width):
            h, out = above + 4 * r + a, rows[a, r * width + left : r * width + left + W]
            if h < 0 or h >= H:
                for k in range(len(out)):
                    out[k] = 0
            else:
                row = plane[h]
                for k in range(len(out)):
                    out[k] = row[k]
        for b in range(4):
            cells, out = rows[a, b:], phases[a, b, : rows.shape[1] // 4]
            for k in range(len(out)):
                out[k] = cells[4 * k]


@helper
def combine(c, r0, r1, r2, r3, r4, r5, out):
    """out = c₀·r₀ + … + c₅·r₅"""
    c0, c1, c2, c3, c4, c5 = c[0], c[1], c[2], c[3], c[4], c[5]
    for i in range(len(out)):
        out[i] = c0 * r0[i] + c1 * r1[i] + c2 * r2[i] + c3 * r3[i] + c4 * r4[i] + c5 * r5[i]


def columns(width):
    """The tiles of a row of `width` outputs, and one more."""
    return tiles.columns(width) + 1


def inputs(x, band, columns, padding, out, spare):
    """Bᵀ d B for the tiles of a band of x: (36, C, T), in the memory of `out`."""
    return _transformed(np.ascontiguousarray(x), BT, band, columns, padding, out)


def gradients(gy, band, columns, out, spare):
    """A gy Aᵀ for the tiles of a band of gy: (36, O, T), in the memory of `out`."""
    return _transformed(np.ascontiguousarray(gy), A, band, columns, (0, 0), out)


def _transformed(x, matrix, band, columns, padding, out):
    (n0, n1), (top, bottom) = band
    v = tiles.view(out, 36, x.shape[1], (n1 - n0) * (bottom - top) * columns)
    transform(x, np.ascontiguousarray(matrix, x.dtype), v, *band[0], *band[1], columns, *padding)
    return v


def outputs(m, y, band, columns, spare):
    """Write Aᵀ m A for the tiles of a band, m of (36, O, T), into y."""
    transform_back(m, np.ascontiguousarray(tiles.AT, y.dtype), y, *band[0], *band[1], columns)


def pays(window, w_shape, dtype, cells):
    """Whether the algorithm applies and is the cheapest for an output of (N, OH, OW) cells."""
    if not (winograd.applies(window, w_shape) and dtype == np.float32 and tiles.columns(cells[2]) >= NARROWEST):
        return False
    (O, C), n = w_shape[:2], prod(cells)
    cost = C * O * (2.25 * n + choice.KERNEL) + TRANSFORM * (C + O) * n
    return cost < 9 * C * n * (O + choice.COLUMN)
