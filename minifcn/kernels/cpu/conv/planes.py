"""Depthwise convolution of large maps: one small matrix product per channel, over whole planes.

The padded planes of several samples lie one after the other as a single vector of cells.  On this vector the tap (u, v)
is a shift by ``u · columns + v``.  Copies of it, shifted by v, are the rows of a matrix; the product with the filter's
rows gives, for each u, a vector of partial sums, and these are shifted by ``u · columns`` and added.  So the cells are
copied kw times, not kh·kw times as for columns.  The cells at the end of each row of the grid hold no output.

At stride s the phases of the image (`phases`) take the place of the planes, with ⌈k/s⌉ taps each.
"""

import numpy as np

from ....arrays import buffers
from ... import environment
from .. import scratch, workers
from ..products import product, summed_product
from . import depthwise
from .phases import by_phase

BLOCK_BYTES = 1 << 19  # the shifted copies of one block
LEAST = 200  # cells of a map from which on this is faster than ``depthwise``


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: one filter per channel, not dilated, without gaps."""
    dense = tuple(window.dilation) == (1, 1) and all(k >= s for k, s in zip(window.kernel_size, window.stride))
    return dense and depthwise.applies(window, w_shape)


def pays(w_shape, out, window):
    """Whether the algorithm is faster than ``depthwise``: the maps are large."""
    return applies(window, w_shape) and depthwise.pays(w_shape, window) and out[1] * out[2] >= LEAST


def conv2d(x, w, window):
    N, C = x.shape[:2]
    OH, OW = window.out_size(x.shape)
    kernel, (U, V) = _filters(w, window.stride)
    kernel = kernel.transpose(0, 1, 2, 4, 3).reshape(C, U, -1)  # (C, U, sh·sw·V)
    y = buffers.empty((N, C, OH, OW), x.dtype)
    grid = OH + U - 1, OW + V - 1

    def block_of_output(block):
        samples, channels = block
        cells, sums = _cells(x[block], grid, V, window.stride, window.padding, U)
        product(kernel[channels], cells, sums)
        _add_shifted(sums, grid[1])
        planes = sums[:, 0].reshape(len(sums), -1, *grid)[..., :OH, :OW]
        y[samples, channels] = planes.swapaxes(0, 1)

    workers.run(block_of_output, _blocks(N, C, grid, kernel.shape[2] * x.itemsize), moved=y.size * window.taps)
    return y


def conv2d_grad_weight(gy, x, w_shape, window):
    (N, C), (OH, OW), (sh, sw) = x.shape[:2], gy.shape[2:], window.stride
    U, V = -(-w_shape[2] // sh), -(-w_shape[3] // sw)
    grid = OH + U - 1, OW + V - 1
    blocks = _blocks(N, C, grid, sh * sw * V * x.itemsize)

    def share_of_sum(share):
        total = np.zeros((C, U, sh * sw * V), x.dtype)
        for samples, channels in blocks[slice(*share)]:
            cells, outer = _cells(x[samples, channels], grid, V, window.stride, window.padding, U)
            outer.fill(0)
            planes = outer[:, 0].reshape(len(outer), -1, *grid)
            planes[..., :OH, :OW] = gy[samples, channels].swapaxes(0, 1)
            for u in range(1, U):
                outer[:, u, u * grid[1] :] = outer[:, 0, : -u * grid[1]]
            total[channels] += summed_product(outer, cells)
        return total

    total, *others = workers.run(share_of_sum, workers.shares(len(blocks)), moved=gy.size * window.taps)
    for other in others:
        total += other
    whole = total.reshape(C, U, sh, sw, V).transpose(0, 1, 2, 4, 3).reshape(C, 1, U * sh, V * sw)
    return np.ascontiguousarray(whole[..., : w_shape[2], : w_shape[3]])


def conv2d_grad_input(gy, w, x_shape, window):
    (N, C, H, W), (sh, sw), (ph, pw) = x_shape, window.stride, window.padding
    kernel, (U, V) = _filters(w, window.stride)
    kernel = kernel[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3).reshape(C, sh * sw * U, V)
    rows, columns = -(-(ph + H) // sh), -(-(pw + W) // sw)  # cells of a phase
    grid = rows + U - 1, columns + V - 1
    gx = buffers.empty(x_shape, gy.dtype)

    def block_of_input(block):
        samples, channels = block
        cells, sums = _cells(gy[block], grid, V, (1, 1), (U - 1, V - 1), sh * sw * U)
        product(kernel[channels], cells, sums)
        sums = sums.reshape(len(sums), sh * sw, U, -1)
        _add_shifted(sums, grid[1])
        planes = sums[:, :, 0].reshape(len(sums), sh, sw, -1, *grid).swapaxes(0, 3)  # (n, sh, sw, c, …)
        for a in range(sh):
            for b in range(sw):
                (inner, i), (outer, r) = _phase(a, sh, ph, H, rows), _phase(b, sw, pw, W, columns)
                gx[samples, channels, i, r] = planes[:, a, b, :, inner, outer]

    workers.run(block_of_input, _blocks(N, C, grid, sh * sw * U * gy.itemsize), moved=gx.size * window.taps)
    return gx


def _filters(w, stride):
    """w by phase, (C, U, sh, V, sw), and the numbers of taps (U, V) of a phase."""
    kernel = by_phase(w, stride, len(w))[:, 0, 0]
    return kernel, (kernel.shape[1], kernel.shape[3])


def _cells(x, grid, V, stride, padding, depth):
    """The phases of x, (n, c, H, W), as the rows of a matrix for each channel, and an array for its products.

    Returns
    -------
    cells : (c, sh·sw·V, n·rows·columns)
        Phase by phase, the vector of cells and its copies shifted by 1 … V − 1.
    sums : (c, depth, n·rows·columns)
    """
    (n, c, H, W), (rows, columns), (sh, sw) = x.shape, grid, stride
    size = n * rows * columns
    cells, sums = scratch.arrays((x.dtype, (c, sh, sw, V, size)), (x.dtype, (c, depth, size)))
    cells[:, :, :, 0] = 0
    planes = cells[:, :, :, 0].reshape(c, sh, sw, n, rows, columns)
    for a in range(sh):
        for b in range(sw):
            (i, r), (j, q) = _phase(a, sh, padding[0], H, rows), _phase(b, sw, padding[1], W, columns)
            planes[:, a, b, :, i, j] = x[:, :, r, q].swapaxes(0, 1)
    for v in range(1, V):
        cells[:, :, :, v, :-v] = cells[:, :, :, 0, v:]
        cells[:, :, :, v, -v:] = 0
    return cells.reshape(c, -1, size), sums


def _phase(a, stride, padding, size, count):
    """The cells of phase `a` inside the image: their places among the phase's `count`, and their rows, two slices.

    Cell i of the phase is row ``stride · i + a − padding`` of the image.
    """
    first = max(0, -((a - padding) // stride))
    last = max(first, min(count, (size - 1 + padding - a) // stride + 1))
    row = stride * first + a - padding
    return slice(first, last), slice(row, row + stride * (last - first), stride)


def _add_shifted(sums, columns):
    """Add to the first vector of partial sums, (…, U, cells), the others, each shifted by another row of the grid."""
    for u in range(1, sums.shape[-2]):
        sums[..., 0, : -u * columns] += sums[..., u, u * columns :]


def _blocks(N, C, grid, cell_bytes):
    """The blocks (samples, channels), which cover all samples and channels."""
    planes = max(environment.band_bytes(BLOCK_BYTES) // (grid[0] * grid[1] * cell_bytes), 1)
    wide, deep = min(C, planes), max(min(N, planes // C), 1)
    return [
        (slice(n, min(n + deep, N)), slice(c, min(c + wide, C))) for n in range(0, N, deep) for c in range(0, C, wide)
    ]
