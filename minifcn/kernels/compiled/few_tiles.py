"""Winograd's algorithm for few tiles, such as those of a deep layer: the workers share the channels, not the tiles.

With few tiles, the transformed kernels are most of the memory that is moved.  So all tiles are transformed at first,
into 2¼ times as many numbers as the image has.  Then each worker does the rest for some output channels at a time: it
transforms their kernels, multiplies, and transforms the products back, in a few megabytes of scratch memory.
"""

import numpy as np

from ...arrays import buffers
from ..cpu import scratch, workers
from ..cpu.conv import tiles, winograd
from .winograd import Kernels, Matrices, transform, transform_back

FEWEST, MOST = 32, 1024  # tiles; fewer do not repay the transforms of the kernels, more are shared by the workers
EACH = 8  # tiles for each channel; with more, they are more memory than the kernels
KERNELS = 1 << 13  # kernels from which on moving them matters
PART = 1 << 20  # numbers in 36 matrices that a worker has at a time


def pays(w_shape, cells):
    """Whether this form is the better one for an output of (N, OH, OW) cells."""
    (O, C), T = w_shape[:2], winograd.tiles(*cells)
    return FEWEST <= T <= min(MOST, EACH * min(O, C)) and O * C >= KERNELS


def conv2d(x, w, window):
    return _convolve(x, w, False, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    return _convolve(gy, w, True, window.adjoint().padding)


def conv2d_grad_weight(gy, x, w_shape, window):
    (O, C), gw = w_shape[:2], buffers.empty(w_shape, gy.dtype)
    v = _Tiles(x, 1, gy.shape[2:], window.padding)
    u = _Tiles(gy, 0, gy.shape[2:], (0, 0))
    workers.run(
        lambda task: task[0].transform(task[1]),
        [*((v, share) for share in workers.shares(C)), *((u, share) for share in workers.shares(O))],
        moved=36 * v.T * (C + O),
    )
    by_tile, by_channel = v.matrices.swapaxes(1, 2), u.matrices  # (36, T, C), (36, O, T)

    def channels(part):
        first, last = part
        (memory,) = scratch.arrays((gy.dtype, (Kernels.size(last - first, C),)))
        total = Kernels(memory, last - first, C)
        np.matmul(by_channel[:, first:last], by_tile, out=total.matrices)
        total.transform_back(gw[first:last])

    workers.run(channels, _parts(O, C), moved=36 * O * C)
    return gw


def _convolve(x, w, adjoint, padding):
    (N, C, H, W), O = x.shape, w.shape[1 if adjoint else 0]
    y = buffers.empty((N, O, H + 2 * padding[0] - 2, W + 2 * padding[1] - 2), x.dtype)
    v = _Tiles(x, 1, y.shape[2:], padding)
    workers.run(v.transform, workers.shares(C), moved=36 * v.T * C)
    matrices = v.matrices

    def channels(part):
        first, last = part
        each = last - first
        K, M = scratch.arrays((w.dtype, (Kernels.size(each, C),)), (w.dtype, (Matrices.size(each, v.T),)))
        some = np.ascontiguousarray(w[:, first:last]) if adjoint else w[first:last]
        kernels, m = Kernels(K, *some.shape[:2]), Matrices(M, each, v.T)
        kernels.transform(some, adjoint)
        np.matmul(kernels.adjoint if adjoint else kernels.matrices, matrices, out=m.matrices)
        transform_back(m.blocks, y, *v.band[0], *v.band[1], v.columns, first, each)

    workers.run(channels, _parts(O, max(C, v.T)), moved=36 * O * (C + v.T))
    return y


class _Tiles:
    """All tiles of a map, and what they become: ``matrices`` of (36, C, T), filled by :meth:`transform`."""

    def __init__(self, x, overlap, cells, padding):
        self.x, self.overlap, self.padding = x, overlap, padding
        rows, self.columns = tiles.grid(*cells)
        self.band = (0, len(x)), (0, rows)
        self.T = tiles.number(self.band, self.columns)
        all_tiles = Matrices(buffers.empty((Matrices.size(x.shape[1], self.T),), x.dtype), x.shape[1], self.T)
        self.blocks, self.matrices = all_tiles.blocks, all_tiles.matrices

    def transform(self, channels):
        (samples, rows), columns = self.band, self.columns
        transform(self.x, self.blocks, self.overlap, *samples, *rows, columns, *self.padding, *channels)


def _parts(O, numbers):
    """Ranges of the O output channels, of which each has `numbers` in each matrix: as many ranges as the workers, or a
    multiple of them."""
    threads = workers.threads()
    return workers.ranges(O, min(O, -(-36 * O * numbers // (PART * threads)) * threads))
