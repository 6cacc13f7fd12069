"""Winograd's algorithm for few tiles, such as those of a deep layer: the workers share the channels, not the tiles.

With few tiles, the transformed kernels are most of the memory that is moved.  So all tiles are transformed at first,
into 2¼ times as many numbers as the image has.  Then each worker does the rest for some output channels at a time: it
transforms their kernels, multiplies, and transforms the products back, in a few megabytes of scratch memory.
"""

import numpy as np

from ...arrays import buffers
from ..cpu import scratch, workers
from ..cpu.conv import tiles, winograd
from .winograd import A, transform, transform_back

FEWEST, MOST = 32, 1024  # tiles; fewer do not repay the transforms of the kernels, more are shared by the workers
EACH = 8  # tiles for each channel; with more, they are more memory than the kernels
KERNELS = 1 << 13  # kernels from which on moving them matters
PART = 1 << 20  # numbers in 36 matrices that a worker has at a time


def pays(w_shape, cells):
    """Whether this form is the better one for an output of (N, OH, OW) cells."""
    (O, C), T = w_shape[:2], winograd.tiles(*cells)
    return FEWEST <= T <= min(MOST, EACH * min(O, C)) and O * C >= KERNELS


def conv2d(x, w, window):
    return _convolve(x, w, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    return _convolve(gy, w[:, :, ::-1, ::-1].swapaxes(0, 1), window.adjoint().padding)


def conv2d_grad_weight(gy, x, w_shape, window):
    (O, C), gw = w_shape[:2], buffers.empty(w_shape, gy.dtype)
    v = _Tiles(x, tiles.BT, 1, gy.shape[2:], window.padding)
    u = _Tiles(gy, A, 0, gy.shape[2:], (0, 0))
    workers.run(
        lambda task: task[0].transform(task[1]),
        [*((v, share) for share in workers.shares(C)), *((u, share) for share in workers.shares(O))],
        moved=36 * v.T * (C + O),
    )
    by_tile = v.matrices.swapaxes(1, 2)  # (36, T, C)

    def channels(part):
        first, last = part
        total, P, Q = scratch.arrays(*((gy.dtype, (size, last - first, C)) for size in (36, 18, 9)))
        np.matmul(u.matrices[:, first:last], by_tile, out=total)
        winograd.kernels_back(total, gw[first:last], P.reshape(-1), Q.reshape(-1))

    workers.run(channels, _parts(O, C), moved=36 * O * C)
    return gw


def _convolve(x, w, padding):
    (N, C, H, W), O = x.shape, len(w)
    y = buffers.empty((N, O, H + 2 * padding[0] - 2, W + 2 * padding[1] - 2), x.dtype)
    v = _Tiles(x, tiles.BT, 1, y.shape[2:], padding)
    workers.run(v.transform, workers.shares(C), moved=36 * v.T * C)
    back = np.ascontiguousarray(tiles.AT, y.dtype)

    def channels(part):
        first, last = part
        each = last - first
        sizes = 36 * each * C, 36 * each * max(C, v.T), 18 * each * C
        kernel, P, Q = scratch.arrays(*((w.dtype, (size,)) for size in sizes))
        kernel = kernel.reshape(6, 6, -1)
        winograd.kernels(w[first:last], kernel, P, Q)
        m = tiles.view(P, 36, each, v.T)
        np.matmul(kernel.reshape(36, each, C), v.matrices, out=m)
        transform_back(m.reshape(36, -1), back, y, *v.band[0], *v.band[1], v.columns, first, each)

    workers.run(channels, _parts(O, max(C, v.T)), moved=36 * O * (C + v.T))
    return y


class _Tiles:
    """All tiles of a map, and what they become: ``matrices`` of (36, C, T), filled by :meth:`transform`."""

    def __init__(self, x, matrix, overlap, cells, padding):
        self.x, self.matrix = np.ascontiguousarray(x), np.ascontiguousarray(matrix, x.dtype)
        self.overlap, self.padding = overlap, padding
        rows, self.columns = (-(-n // tiles.TILE) for n in cells)
        self.band = (0, len(x)), (0, rows)
        self.T = tiles.number(self.band, self.columns)
        self.memory = buffers.empty((36, x.shape[1] * self.T), x.dtype)
        self.matrices = self.memory.reshape(36, x.shape[1], self.T)

    def transform(self, channels):
        (samples, rows), columns = self.band, self.columns
        transform(self.x, self.matrix, self.memory, self.overlap, *samples, *rows, columns, *self.padding, *channels)


def _parts(O, numbers):
    """Ranges of the O output channels, of which each has `numbers` in each matrix: as many ranges as the workers, or a
    multiple of them."""
    threads = workers.threads()
    return workers.ranges(O, min(O, -(-36 * O * numbers // (PART * threads)) * threads))
