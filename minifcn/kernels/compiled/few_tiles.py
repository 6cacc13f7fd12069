"""Winograd's algorithm for few tiles, such as those of a deep layer: the workers share the channels, not the tiles.

With few tiles, the transformed kernels are most of the memory that is moved.  So all tiles are transformed at first,
into 2¼ times as many numbers as the image has.  Then each worker does the rest for some output channels at a time: it
transforms their kernels, multiplies, and transforms the products back, in a few megabytes of scratch memory.
"""

import numpy as np

from ...arrays import buffers
from ..cpu import scratch, workers
from ..cpu.conv import tiles
from ..cpu.products import SMALL, product
from .winograd import Matrices, kernels, kernels_back, transform, transform_back

PART = 1 << 19  # numbers in 36 matrices that a worker has at a time
LARGE = 1 << 23  # the same, if OpenBLAS would copy the operands of products of even one GROUP of channels
GROUP = 16  # channels that are computed together: a vector


def pays(C, O, T):
    """Whether this form is the better one: T tiles of C and O channels have fewer numbers than the kernels."""
    return T * (C + O) <= C * O


def conv2d(x, w, window):
    return _convolve(x, w, False, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    return _convolve(gy, w, True, window.adjoint().padding)


def conv2d_grad_weight(gy, x, w_shape, window):
    (O, C), gw = w_shape[:2], buffers.empty(w_shape, gy.dtype)
    v, u = _Tiles(x, 1, gy.shape[2:], window.padding), _Tiles(gy, 0, gy.shape[2:], (0, 0))
    lines = workers.shares(v.lines)
    workers.run(lambda task: task[0].transform(task[1]), [(t, some) for t in (v, u) for some in lines], moved=v.size)
    by_channel = u.matrices.swapaxes(1, 2)  # (36, O, T)

    def channels(part):
        first, last = part
        (memory,) = scratch.arrays((gy.dtype, (Matrices.size(last - first, C),)))
        total = Matrices(memory, last - first, C)
        np.matmul(by_channel[:, first:last], v.matrices, out=total.matrices)
        kernels_back(total, gw[first:last])

    workers.run(channels, _parts(O, C, v.T), moved=36 * O * C)
    return gw


def _convolve(x, w, adjoint, padding):
    """y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A for some output channels at a time."""
    (N, C, H, W), O = x.shape, w.shape[1 if adjoint else 0]
    y = buffers.empty((N, O, H + 2 * padding[0] - 2, W + 2 * padding[1] - 2), x.dtype)
    v = _Tiles(x, 1, y.shape[2:], padding)
    workers.run(v.transform, workers.shares(v.lines), moved=v.size)

    def channels(part):
        first, last = part
        each = last - first
        K, M = scratch.arrays(*((w.dtype, (Matrices.size(rows, each),)) for rows in (C, v.T)))
        weights, m = Matrices(K, C, each), Matrices(M, v.T, each)
        kernels(weights, w[:, first:last] if adjoint else w[first:last], not adjoint, adjoint)
        product(*(some.matrices.swapaxes(1, 2) for some in (weights, v, m)))
        transform_back(m.all, y, v.rows, v.columns, 0, v.lines, first, each)

    workers.run(channels, _parts(O, C, v.T), moved=36 * O * (C + v.T))
    return y


class _Tiles:
    """All T tiles of a map, and what they become: ``matrices`` of (36, T, C), filled by :meth:`transform`."""

    def __init__(self, x, overlap, cells, padding):
        self.x, self.overlap, self.padding = x, overlap, padding
        self.rows, self.columns = tiles.grid(*cells)
        self.lines = len(x) * self.rows
        self.T, C = self.lines * self.columns, x.shape[1]
        all_tiles = Matrices(buffers.empty((Matrices.size(self.T, C),), x.dtype), self.T, C)
        self.all, self.matrices, self.size = all_tiles.all, all_tiles.matrices, all_tiles.matrices.size

    def transform(self, lines):
        transform(self.x, self.all, self.overlap, self.rows, self.columns, *self.padding, 0, *lines)


def _parts(O, C, T):
    """Ranges of the O output channels: as many as the workers, or a multiple of them.  Their lengths are multiples of
    GROUP, but for the last.  BLAS copies no operand of products of one GROUP if these are small."""
    threads, groups = workers.threads(), -(-O // GROUP)
    part = PART if GROUP * C * T <= SMALL else LARGE
    count = min(groups, -(-36 * O * max(C, T) // (part * threads)) * threads)
    return [(first * GROUP, min(last * GROUP, O)) for first, last in workers.ranges(groups, count)]
