"""Winograd's algorithm for few tiles, such as those of a deep layer: the workers share the channels, not the tiles.

With few tiles, the transformed kernels are most of the memory that is moved.  So all tiles are transformed at first,
into 2¼ times as many numbers as the image has.  Then each worker does the rest for some output channels at a time: it
transforms their kernels, multiplies, and transforms the products back, in a few megabytes of scratch memory.

If the tiles are very few, each worker transforms all of them for itself: that takes less time than to share them, to
wait for the other workers, and to read what these have in their caches.
"""

import numpy as np

from ...arrays import buffers
from ..cpu import scratch, workers
from ..cpu.conv import tiles
from ..cpu.conv.few_tiles import parts
from ..cpu.products import product
from .winograd import Matrices, kernels, kernels_back, transform, transform_back


def conv2d(x, w, window):
    return _convolve(x, w, False, window.padding)


def conv2d_grad_input(gy, w, x_shape, window):
    return _convolve(gy, w, True, window.adjoint().padding)


def conv2d_grad_weight(gy, x, w_shape, window):
    (O, C), gw = w_shape[:2], buffers.empty(w_shape, gy.dtype)
    v, u = _Tiles(x, 1, gy.shape[2:], window.padding), _Tiles(gy, 0, gy.shape[2:], (0, 0))
    shared = _shared(v, u)

    def channels(part):
        first, last = part
        each = last - first
        if shared:
            (memory,) = scratch.arrays((gy.dtype, (Matrices.size(each, C),)))
            given, wanted = shared[0].matrices, shared[1].matrices[:, :, first:last]
        else:
            own = _Tiles(np.ascontiguousarray(gy[:, first:last]), 0, gy.shape[2:], (0, 0))
            sizes = Matrices.size(each, C), v.size, own.size
            memory, V, U = scratch.arrays(*((gy.dtype, (size,)) for size in sizes))
            given, wanted = v.transformed(V).matrices, own.transformed(U).matrices
        total = Matrices(memory, each, C)
        np.matmul(wanted.swapaxes(1, 2), given, out=total.matrices)
        kernels_back(total, gw[first:last])

    workers.run(channels, parts(O, C, v.T), moved=36 * O * C)
    return gw


def _convolve(x, w, adjoint, padding):
    """y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A for some output channels at a time."""
    (N, C, H, W), O = x.shape, w.shape[1 if adjoint else 0]
    y = buffers.empty((N, O, H + 2 * padding[0] - 2, W + 2 * padding[1] - 2), x.dtype)
    v = _Tiles(x, 1, y.shape[2:], padding)
    shared = _shared(v)

    def channels(part):
        first, last = part
        each = last - first
        sizes = Matrices.size(C, each), Matrices.size(v.T, each), *(() if shared else (v.size,))
        K, M, *V = scratch.arrays(*((w.dtype, (size,)) for size in sizes))
        weights, m, (given,) = Matrices(K, C, each), Matrices(M, v.T, each), shared or [v.transformed(*V)]
        kernels(weights, w[:, first:last] if adjoint else w[first:last], not adjoint, adjoint)
        product(*(some.matrices.swapaxes(1, 2) for some in (weights, given, m)))
        transform_back(m.all, y, v.rows, v.columns, 0, v.lines, first, each)

    workers.run(channels, parts(O, C, v.T), moved=36 * O * (C + v.T))
    return y


class _Tiles:
    """The T tiles of all C channels of a map, which are transformed into 36 matrices of (T, C) numbers.

    Attributes
    ----------
    lines, rows, columns : lines of tiles in all samples; rows and columns of tiles in one
    size : the numbers that the matrices have in memory
    """

    def __init__(self, x, overlap, cells, padding):
        self.x, self.overlap, self.padding = x, overlap, padding
        self.rows, self.columns = tiles.grid(*cells)
        self.lines = len(x) * self.rows
        self.T, self.C = self.lines * self.columns, x.shape[1]
        self.size = Matrices.size(self.T, self.C)

    def transform(self, matrices, first, last):
        transform(self.x, matrices.all, self.overlap, self.rows, self.columns, *self.padding, 0, first, last)

    def transformed(self, memory):
        """The matrices of all tiles, computed by the calling thread in the given memory."""
        matrices = Matrices(memory, self.T, self.C)
        self.transform(matrices, 0, self.lines)
        return matrices


def _shared(*maps):
    """The matrices of the tiles of each map, transformed by all workers; None if each worker is to do that itself."""
    if maps[0].size < workers.WORTH:
        return None
    found = [Matrices(buffers.empty((some.size,), some.x.dtype), some.T, some.C) for some in maps]
    tasks = [(some, matrices, part) for some, matrices in zip(maps, found) for part in workers.shares(some.lines)]
    workers.run(lambda task: task[0].transform(task[1], *task[2]), tasks, moved=maps[0].size, multiplies=False)
    return found
