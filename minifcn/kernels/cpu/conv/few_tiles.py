"""Winograd's algorithm for few tiles, such as those of a deep layer: the workers share the channels, not the tiles.

With few tiles, the transformed kernels are most of the memory that is moved: 38 MB for 512 to 512 channels.  So all
tiles are transformed at first, into 2¼ times as many numbers as the image has.  Then each worker transforms the kernels
of some output channels, multiplies, and transforms the products back, before they leave its cache.
"""

import numpy as np

from ....arrays import buffers
from .. import scratch, workers
from ..products import SMALL, product
from .tiles import AT, BT, both_sides, gather, grid, kernels, kernels_back, outputs, view

PIECE = 1 << 18  # numbers of the tiles that a worker transforms at a time
PART = 1 << 19  # numbers in 36 matrices that a worker has at a time
LARGE = 1 << 23  # the same, if OpenBLAS would copy the operands of products of even one GROUP of channels
GROUP = 16  # channels that are computed together: a vector


def pays(C, O, T):
    """Whether this form is the better one: T tiles of C and O channels have fewer numbers than the kernels."""
    return T * (C + O) <= C * O


def parts(O, C, T, part=None):
    """Ranges of the O output channels: as many as the workers, or a multiple of them.  Their lengths are multiples of
    GROUP, but for the last.

    A range has about `part` numbers in 36 matrices; by default PART, or LARGE if even the products of one GROUP are so
    large that BLAS copies their operands.
    """
    threads, groups = workers.threads(), -(-O // GROUP)
    part = part or (PART if GROUP * C * T <= SMALL else LARGE)
    count = min(groups, -(-36 * O * max(C, T) // (part * threads)) * threads)
    return [(first * GROUP, min(last * GROUP, O)) for first, last in workers.ranges(groups, count)]


def convolve(x, w, padding):
    """y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A for some output channels at a time."""
    (N, C, H, W), O = x.shape, len(w)
    y = buffers.empty((N, O, H + 2 * padding[0] - 2, W + 2 * padding[1] - 2), x.dtype)
    v, band, columns = _transformed(x, BT, y.shape[2:], padding)
    T = v.shape[2]

    def channels(part):
        first, last = part
        cells = last - first
        sizes = 36 * C, 36 * T, max(9 * C, 24 * T), 18 * C  # of the kernels, the products, and of what lies between
        K, M, A, B = scratch.arrays(*((x.dtype, (cells * size,)) for size in sizes))
        kernels(w[first:last], view(K, 6, 6, cells * C), A, B)
        m = product(view(K, 36, cells, C), v, view(M, 36, cells, T))
        outputs(m, y[:, first:last], band, columns, A)

    workers.run(channels, parts(O, C, T), moved=36 * O * (C + T))
    return y


def grad_weight(gy, x, w_shape, padding):
    """Gᵀ [Σ over tiles of (A gy Aᵀ) ⊙ (Bᵀ d B)] G for some output channels at a time."""
    (O, C), gw = w_shape[:2], buffers.empty(w_shape, gy.dtype)
    (v, *_), (u, *_) = _transformed(x, BT, gy.shape[2:], padding), _transformed(gy, AT.T, gy.shape[2:], (0, 0))

    def channels(part):
        first, last = part
        K, A, B = scratch.arrays(*((gy.dtype, (size * (last - first) * C,)) for size in (36, 18, 9)))
        total = np.matmul(u[:, first:last], v.swapaxes(1, 2), out=view(K, 36, last - first, C))
        kernels_back(total, gw[first:last], A, B)

    # few large parts: each one reads all tiles again, which takes longer than to read its sums from memory
    workers.run(channels, parts(O, C, v.shape[2], LARGE), moved=36 * O * C)
    return gw


def _transformed(x, m, cells, padding):
    """``m d mᵀ`` for all tiles d of x, (36, C, T), and the band and the columns of these tiles."""
    (N, C), (rows, columns) = x.shape[:2], grid(*cells)
    band, T, m = ((0, N), (0, rows)), N * rows * columns, np.ascontiguousarray(m, x.dtype)
    v = buffers.empty((36, C, T), x.dtype)

    def channels(part):
        first, last = part
        A, B = scratch.arrays(*[(x.dtype, (36 * (last - first) * T,))] * 2)
        d = gather(x[:, first:last], band, columns, m.shape[1], padding, A, B)
        both_sides(m, d, B, v.reshape(6, 6, C * T)[:, :, first * T : last * T])

    count = max(workers.threads(), -(-36 * C * T // PIECE))
    workers.run(channels, workers.ranges(C, min(C, count)), moved=v.size)
    return v, band, columns
