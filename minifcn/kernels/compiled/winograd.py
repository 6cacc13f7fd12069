"""Winograd's transforms in loops; ``cpu/conv/winograd.py`` has the algorithm.

The channels are last: all numbers of a step lie side by side, whatever the tile and the channel, so that each step is
one long loop, which becomes instructions on vectors.  A map is brought into that order first, with zeros around it.
A line is a row of tiles of one sample.  The order of tiles is: samples, rows, columns.

The results are 36 matrices, one for each place of a tile; see :class:`Matrices`.
"""

import numpy as np

from ..cpu import workers
from ..cpu.conv import winograd
from ..cpu.conv.tiles import TILE, view
from .compiler import Read, Write, helper, loops

LANES, ROWS = 32, 16  # kernels of a block, and blocks of a part
PIECE = 2048  # numbers of the tiles that are transformed at once, in each place of a tile: they stay in the cache
TWO, FOUR, FIVE, EIGHT = np.float32([2, 4, 5, 8])
TRANSFORM, KERNEL, START = 600, 900, 4_000_000  # the costs of a tile of a channel, a kernel, a call; see choice.py
VECTOR, FEWEST = 12, 8  # channels: fewer take as long; with fewer it never pays


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
def constants(kind):
    """The numbers of G."""
    return kind(1 / 4), kind(1 / 6), kind(1 / 12), kind(1 / 24)


@helper
def kernel_values(k0, k1, k2, G):
    """G k"""
    p, q, r, s = G[1] * (k0 + k2), G[1] * k1, G[3] * k0 + G[1] * k2, G[2] * k1
    return G[0] * k0, -p - q, q - p, r + s, r - s, k2


@helper
def kernel_gradient(t0, t1, t2, t3, t4, t5, G):
    """Gᵀ t"""
    p, q, r, s = G[1] * (t1 + t2), G[1] * (t2 - t1), t3 + t4, t3 - t4
    return G[0] * t0 - p + G[3] * r, q + G[2] * s, G[1] * r - p + t5


@loops
def transform(
    x: Read[4], v: Write[2], overlap: int, rows: int, columns: int, pad_h: int, pad_w: int,
    origin: int, first: int, last: int,
):  # fmt: skip
    """v[6i + j] = (Bᵀ d B)[i, j] for the tiles d of the lines `first` … `last` − 1 of x.

    v[6i + j] are the numbers (tiles, C) of the lines from `origin` on.  If `overlap` is 0, the tiles are of 4×4 cells
    and do not overlap, and v[6i + j] = (A d Aᵀ)[i, j].
    """
    C, H, W = x.shape[1:]
    flat, more, most = x.reshape(-1), 2 * overlap, max(1, min(columns, PIECE // C))
    size, row = TILE + more, (TILE * most + more) * C
    cells, half = np.zeros((size, row), x.dtype), np.zeros((6, row), x.dtype)
    for t in range(0, columns, most):
        n = min(most, columns - t)
        for line in range(first, last):
            s, r = line // rows, line % rows
            known = more if r and line > first else 0  # the last rows of the line before
            for a in range(known):
                cells[a] = cells[TILE + a]
            for a in range(known, size):
                h = TILE * r - pad_h + a
                if 0 <= h < H:
                    start = (s * C * H + h) * W
                    channels_last(flat, start, H * W, W, C, TILE * t - pad_w, TILE * n + more, cells[a])
                else:
                    cells[a] = 0
            down(cells, half, overlap)
            for i in range(6):
                across(half[i], C, n, v[6 * i : 6 * i + 6], ((line - origin) * columns + t) * C, overlap)


@helper
def channels_last(flat, start, plane, W, C, left, width, cells):
    """cells[k, c] = x[c, left + k] for `width` cells of the row that begins at flat[start], of W cells, in maps of
    `plane` cells; zeros outside."""
    # unsigned numbers: an index that could be negative counts from the end, and such a loop is not turned into vectors
    low = min(max(0, -left), width)
    high = max(low, min(width, W - left))
    for k in range(np.uint64(low * C)):
        cells[k] = 0
    for k in range(np.uint64(high * C), np.uint64(width * C)):
        cells[k] = 0
    begin, step, to, channels = np.uint64(start + left + low), np.uint64(plane), np.uint64(low * C), np.uint64(C)
    one, two, three, n = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(high - low)
    four = C // 4 * 4
    for c in range(0, four, 4):  # four channels at once: they are neighbours in `cells`
        x0, cell = begin + np.uint64(c) * step, to + np.uint64(c)
        x1, x2, x3 = x0 + step, x0 + two * step, x0 + three * step
        for k in range(n):
            cells[cell], cells[cell + one] = flat[x0 + k], flat[x1 + k]
            cells[cell + two], cells[cell + three] = flat[x2 + k], flat[x3 + k]
            cell += channels
    for c in range(four, C):
        for k in range(n):
            cells[to + k * channels + np.uint64(c)] = flat[begin + np.uint64(c) * step + k]


@helper
def down(cells, half, overlap):
    """half[i] = Σ_a M[i, a] cells[a] for rows a of cells, where M is Bᵀ or A."""
    h0, h1, h2, h3, h4, h5 = half[0], half[1], half[2], half[3], half[4], half[5]
    c0, c1, c2, c3 = cells[0], cells[1], cells[2], cells[3]
    if overlap:
        c4, c5 = cells[4], cells[5]
        for k in range(len(c0)):
            h0[k], h1[k], h2[k], h3[k], h4[k], h5[k] = input_values(c0[k], c1[k], c2[k], c3[k], c4[k], c5[k])
    else:
        for k in range(len(c0)):
            h0[k], h1[k], h2[k], h3[k], h4[k], h5[k] = gradient_values(c0[k], c1[k], c2[k], c3[k])


@helper
def across(half, C, n, v, start, overlap):
    """v[j] = Σ_b M[j, b] half[b] for the cells b of n tiles, where M is Bᵀ or A."""
    # unsigned numbers: an index that could be negative counts from the end, and such a loop is not turned into vectors
    v0, v1, v2, v3, v4, v5 = v[0], v[1], v[2], v[3], v[4], v[5]
    for t in range(n):
        to, h0, step = np.uint64(start + t * C), np.uint64(TILE * t * C), np.uint64(C)
        h1, h2, h3 = h0 + step, h0 + np.uint64(2) * step, h0 + np.uint64(3) * step
        if overlap:
            h4, h5 = h0 + np.uint64(4) * step, h0 + np.uint64(5) * step
            for k in range(step):
                v0[to + k], v1[to + k], v2[to + k], v3[to + k], v4[to + k], v5[to + k] = input_values(
                    half[h0 + k], half[h1 + k], half[h2 + k], half[h3 + k], half[h4 + k], half[h5 + k]
                )
        else:
            for k in range(step):
                v0[to + k], v1[to + k], v2[to + k], v3[to + k], v4[to + k], v5[to + k] = gradient_values(
                    half[h0 + k], half[h1 + k], half[h2 + k], half[h3 + k]
                )


@loops
def transform_back(
    m: Read[2], y: Write[4], rows: int, columns: int, first: int, last: int, channel: int, channels: int
):
    """y = Aᵀ m A for the tiles of the lines `first` … `last` − 1: `channels` channels of y, from `channel` on."""
    C, OH, OW = y.shape[1:]
    flat, most = y.reshape(-1), max(1, min(columns, PIECE // channels))
    half, cells = np.zeros((4, 6, most * channels), y.dtype), np.zeros((4, most * channels), y.dtype)
    for line in range(first, last):
        s, r = line // rows, line % rows
        for t in range(0, columns, most):
            n = min(most, columns - t)
            at, count = ((line - first) * columns + t) * channels, n * channels
            for j in range(6):
                up(m, j, at, at + count, half)
            for i in range(min(TILE, OH - TILE * r)):
                along(half[i], count, cells)
                to, width = ((s * C + channel) * OH + TILE * r + i) * OW + TILE * t, min(TILE * n, OW - TILE * t)
                channels_first(cells.reshape(-1), most * channels, channels, flat, to, OH * OW, width)


@helper
def up(m, j, first, last, half):
    """half[i, j] = Σ_a Aᵀ[i, a] m[6a + j]"""
    m0, m1, m2 = m[j, first:last], m[6 + j, first:last], m[12 + j, first:last]
    m3, m4, m5 = m[18 + j, first:last], m[24 + j, first:last], m[30 + j, first:last]
    h0, h1, h2, h3 = half[0, j], half[1, j], half[2, j], half[3, j]
    for k in range(len(m0)):
        h0[k], h1[k], h2[k], h3[k] = output_cells(m0[k], m1[k], m2[k], m3[k], m4[k], m5[k])


@helper
def along(half, count, cells):
    """cells[j] = Σ_b Aᵀ[j, b] half[b]"""
    h0, h1, h2, h3, h4, h5 = half[0], half[1], half[2], half[3], half[4], half[5]
    c0, c1, c2, c3 = cells[0], cells[1], cells[2], cells[3]
    for k in range(count):
        c0[k], c1[k], c2[k], c3[k] = output_cells(h0[k], h1[k], h2[k], h3[k], h4[k], h5[k])


@helper
def channels_first(cells, place, C, flat, to, plane, width):
    """y[c, 4t + b] = cells[b, t, c] for `width` cells of the row that begins at flat[to], in maps of `plane` cells."""
    one, two, three, step, whole = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(plane), width // TILE
    p1 = np.uint64(place)
    p2, p3 = p1 + p1, p1 + p1 + p1
    four = C // 4 * 4
    for c in range(0, four, 4):  # four channels and four cells at once: they are neighbours in `cells` and in y
        y0, a = np.uint64(to + c * plane), np.uint64(c)
        y1, y2, y3 = y0 + step, y0 + two * step, y0 + three * step
        for _ in range(whole):
            a0, b0, c0, d0 = cells[a], cells[a + one], cells[a + two], cells[a + three]
            a1, b1, c1, d1 = cells[a + p1], cells[a + p1 + one], cells[a + p1 + two], cells[a + p1 + three]
            a2, b2, c2, d2 = cells[a + p2], cells[a + p2 + one], cells[a + p2 + two], cells[a + p2 + three]
            a3, b3, c3, d3 = cells[a + p3], cells[a + p3 + one], cells[a + p3 + two], cells[a + p3 + three]
            flat[y0], flat[y0 + one], flat[y0 + two], flat[y0 + three] = a0, a1, a2, a3
            flat[y1], flat[y1 + one], flat[y1 + two], flat[y1 + three] = b0, b1, b2, b3
            flat[y2], flat[y2 + one], flat[y2 + two], flat[y2 + three] = c0, c1, c2, c3
            flat[y3], flat[y3 + one], flat[y3 + two], flat[y3 + three] = d0, d1, d2, d3
            a += np.uint64(C)
            y0, y1, y2, y3 = y0 + np.uint64(4), y1 + np.uint64(4), y2 + np.uint64(4), y3 + np.uint64(4)
    for c in range(C):  # what is left: the cells of a tile that is cut, and all of the last channels
        for k in range(TILE * whole if c < four else 0, width):
            flat[to + c * plane + k] = cells[k % TILE * place + k // TILE * C + c]


@loops
def transform_kernels(w: Read[3], v: Write[2], swapped: int, turned: int, first: int, last: int):
    """v[6i + j] = (G g Gᵀ)[i, j] for the kernels g of w, (A, B, 9), turned by 180° if `turned`.

    v[6i + j] are numbers (A, B), or (B, A) if `swapped`; the parts `first` … `last` − 1 of them are written, which are
    of 16 rows and 32 columns, so that kernels which are neighbours in w are read together.
    """
    rows, columns = (w.shape[1], w.shape[0]) if swapped else (w.shape[0], w.shape[1])
    taps, half, step = np.zeros(9 * LANES, w.dtype), np.zeros(18 * LANES, w.dtype), 3 * LANES
    wide, G = -(-columns // LANES), constants(w.dtype.type)
    for part in range(first, last):
        begin = part % wide * LANES
        n = min(LANES, columns - begin)
        for row in range(part // wide * ROWS, min(part // wide * ROWS + ROWS, rows)):
            for k in range(n):
                kernel = w[begin + k, row] if swapped else w[row, begin + k]
                for a in range(9):
                    taps[a * LANES + k] = kernel[8 - a if turned else a]
            for k in range(step):
                (
                    half[k], half[step + k], half[2 * step + k], half[3 * step + k], half[4 * step + k],
                    half[5 * step + k],
                ) = kernel_values(taps[k], taps[step + k], taps[2 * step + k], G)  # fmt: skip
            for i in range(6):
                values(half, i * step, G, v[6 * i : 6 * i + 6], np.uint64(row * columns + begin), np.uint64(n))


@helper
def values(half, at, G, v, to, n):
    """v[j] = Σ_b G[j, b] half[b]"""
    v0, v1, v2, v3, v4, v5 = v[0], v[1], v[2], v[3], v[4], v[5]
    h0, h1, h2 = np.uint64(at), np.uint64(at + LANES), np.uint64(at + 2 * LANES)
    for k in range(n):
        v0[to + k], v1[to + k], v2[to + k], v3[to + k], v4[to + k], v5[to + k] = kernel_values(
            half[h0 + k], half[h1 + k], half[h2 + k], G
        )


@loops
def transform_kernels_back(t: Read[2], gw: Write[2], first: int, last: int):
    """gw = Gᵀ t G for the kernels, (kernels, 9), of the blocks `first` … `last` − 1 of 32 kernels."""
    half, taps, step = np.zeros(18 * LANES, gw.dtype), np.zeros(9 * LANES, gw.dtype), 6 * LANES
    G = constants(gw.dtype.type)
    for block in range(first, last):
        n = min(LANES, len(gw) - block * LANES)
        for j in range(6):
            sums(t, j, np.uint64(block * LANES), np.uint64(n), G, half, np.uint64(j * LANES))
        for i in range(3):
            for k in range(LANES):
                at, to = i * step + k, 3 * i * LANES + k
                taps[to], taps[LANES + to], taps[2 * LANES + to] = kernel_gradient(
                    half[at], half[LANES + at], half[2 * LANES + at],
                    half[3 * LANES + at], half[4 * LANES + at], half[5 * LANES + at], G,
                )  # fmt: skip
        for k in range(n):
            for a in range(9):
                gw[block * LANES + k, a] = taps[a * LANES + k]


@helper
def sums(t, j, at, n, G, half, to):
    """half[i] = Σ_a G[a, i] t[6a + j]"""
    t0, t1, t2, t3, t4, t5 = t[j], t[6 + j], t[12 + j], t[18 + j], t[24 + j], t[30 + j]
    h1, h2 = to + np.uint64(6 * LANES), to + np.uint64(12 * LANES)
    for k in range(n):
        half[to + k], half[h1 + k], half[h2 + k] = kernel_gradient(
            t0[at + k], t1[at + k], t2[at + k], t3[at + k], t4[at + k], t5[at + k], G
        )


class Matrices:
    """36 matrices of (rows, columns) numbers, in the flat array `memory`: of tiles and channels, or of kernels.

    The distance of two matrices is an odd number of blocks of 32: if it were a power of two, the 36 numbers of a tile
    would compete for the same place in the cache.  The numbers between them are never read as part of a matrix.

    Attributes
    ----------
    all : (36, distance)
    matrices : (36, rows, columns)
    """

    def __init__(self, memory, rows, columns):
        self.number = rows * columns
        self.all = view(memory, 36, LANES * (-(-self.number // LANES) | 1))
        self.matrices = self.all[:, : self.number].reshape(36, rows, columns)

    @staticmethod
    def size(rows, columns):
        """How many numbers the memory has."""
        return 36 * LANES * (-(-rows * columns // LANES) | 1)


def kernels(matrices, w, swapped, turned):
    """Fill the matrices, of as many rows and columns as w of kernels, with G g Gᵀ; the workers share them.

    `swapped` exchanges rows and columns, and `turned` turns the kernels by 180°.
    """
    w = np.ascontiguousarray(w).reshape(*w.shape[:2], 9)
    rows, columns = matrices.matrices.shape[1:]
    workers.divide(
        -(-rows // ROWS) * -(-columns // LANES),
        lambda first, last: transform_kernels(w, matrices.all, swapped, turned, first, last), moved=36 * rows * columns,
    )  # fmt: skip


def kernels_back(matrices, gw, others=()):
    """gw = Gᵀ t G for the sums t, each added to the sums of `others` first; the workers share the kernels."""
    gw = gw.reshape(-1, 9)

    def some(first, last):
        numbers = slice(first * LANES, min(last * LANES, len(gw)))
        for other in others:
            matrices.all[:, numbers] += other.all[:, numbers]
        transform_kernels_back(matrices.all, gw, first, last)

    workers.divide(-(-len(gw) // LANES), some, moved=36 * len(gw))


def applies(window, C, O, dtype):
    """Whether the algorithm can compute such a convolution, and has enough channels to pay."""
    return dtype == np.float32 and min(C, O) >= FEWEST and winograd.applies(window, (O, C))


def cost(C, O, T):
    """The cost for C input and O output channels and T tiles, in the unit of ``cpu/conv/choice.py``."""
    return START + C * O * (36 * T + KERNEL) + TRANSFORM * (max(C, VECTOR) + max(O, VECTOR)) * T
