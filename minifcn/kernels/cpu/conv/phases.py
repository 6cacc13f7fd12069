"""Strided convolutions by phase: at stride s an image is s² interleaved images, the *phases*.

The kernel is padded with zeros to U·s taps along each axis and cut into s² phases of U² taps.  In the input gradient,
cell ``s·i + a`` is ``Σ_u w[a + s·u] · gy[i − u]``: each phase is a small convolution of gy, and all phases together are
one matrix product.  The convolution itself is the transpose.  One product maps the cells ``s·i + a`` of all phases to a
partial sum for each of the outputs i − u, and the U² shifted maps of partial sums are added.
"""

import numpy as np

from ....arrays import buffers
from ...textbook import sliding_windows
from .. import scratch, workers
from ..products import product
from . import banded


def applies(window, w_shape):
    """Whether the algorithm can compute such a convolution: strided, not dilated, without gaps between the windows."""
    if max(window.stride) == 1 or tuple(window.dilation) != (1, 1):
        return False
    return all(k >= s for k, s in zip(window.kernel_size, window.stride))


def by_phase(w, stride, groups):
    """w padded with zeros to whole phases, as (G, O/G, C/G, U, sh, V, sw)."""
    O, Cg, kh, kw = w.shape
    (sh, sw), U, V = stride, -(-kh // stride[0]), -(-kw // stride[1])
    whole = np.zeros((groups, O // groups, Cg, U * sh, V * sw), w.dtype)
    whole[..., :kh, :kw] = w.reshape(groups, O // groups, Cg, kh, kw)
    return whole.reshape(groups, O // groups, Cg, U, sh, V, sw)


def conv2d(x, w, window):
    (sh, sw), groups = window.stride, window.groups
    (N, C), O = x.shape[:2], w.shape[0] // groups
    OH, OW = window.out_size(x.shape)
    kernel = by_phase(w, window.stride, groups)
    U, V = kernel.shape[3], kernel.shape[5]
    kernel = kernel.transpose(0, 3, 5, 1, 2, 4, 6).reshape(groups, U * V * O, C // groups * sh * sw)
    rows, columns = OH + U - 1, OW + V - 1
    x = banded.padded(x, window.padding, (rows * sh, columns * sw))
    phases = x.reshape(N, C, rows, sh, columns, sw).transpose(0, 1, 3, 5, 2, 4)  # (N, C, sh, sw, rows, columns)
    y = buffers.empty((N, groups, O, OH, OW), x.dtype)

    def band_of_output(band):
        (n0, n1), (top, bottom) = band
        samples, height = n1 - n0, bottom - top + U - 1
        depths = kernel.shape[2], kernel.shape[1]
        cells, sums = scratch.arrays(*((x.dtype, (samples, groups, depth, height * columns)) for depth in depths))
        np.copyto(cells.reshape(samples, C, sh, sw, height, columns), phases[n0:n1, :, :, :, top : bottom + U - 1])
        sums = product(kernel, cells, sums).reshape(samples, groups, U, V, O, height, columns)
        out = y[n0:n1, :, :, top:bottom]
        out[...] = sums[:, :, 0, 0, :, : bottom - top, :OW]
        for u in range(U):
            for v in range(V):
                if u or v:
                    out += sums[:, :, u, v, :, u : u + bottom - top, v : v + OW]

    row = (C * sh * sw + groups * U * V * O) * columns  # numbers moved for one row
    workers.run(band_of_output, banded.bands(N, OH, row * x.itemsize), moved=N * OH * row)
    return y.reshape(N, groups * O, OH, OW)


def conv2d_grad_input(gy, w, x_shape, window):
    (sh, sw), (ph, pw), groups = window.stride, window.padding, window.groups
    (N, _, H, W), (O, Cg) = x_shape, (w.shape[0] // groups, w.shape[1])
    kernel = by_phase(w, window.stride, groups)
    U, V = kernel.shape[3], kernel.shape[5]  # taps of a phase
    kernel = kernel[:, :, :, ::-1, :, ::-1].transpose(0, 2, 4, 6, 1, 3, 5).reshape(groups, Cg * sh * sw, O * U * V)
    rows, columns = -(-(ph + H) // sh), -(-(pw + W) // sw)  # cells of a phase
    source = banded.padded(gy, (U - 1, V - 1), (rows + U - 1, columns + V - 1))
    windows = sliding_windows(source, (U, V), (1, 1), (1, 1), (rows, columns))
    gx = buffers.empty((N, groups * Cg, rows, sh, columns, sw), gy.dtype)

    def band_of_phases(band):
        (n0, n1), (top, bottom) = band
        samples, cells = n1 - n0, (bottom - top) * columns
        depths = kernel.shape[2], kernel.shape[1]
        cols, phases = scratch.arrays(*((gy.dtype, (samples, groups, depth, cells)) for depth in depths))
        part = windows[n0:n1, :, :, :, top:bottom]
        np.copyto(cols.reshape(part.shape), part)
        product(kernel, cols, phases)
        phases = phases.reshape(samples, groups * Cg, sh, sw, bottom - top, columns)
        gx[n0:n1, :, top:bottom] = phases.transpose(0, 1, 4, 2, 5, 3)

    row = groups * (kernel.shape[1] + kernel.shape[2]) * columns  # numbers moved for one row
    workers.run(band_of_phases, banded.bands(N, rows, row * gy.itemsize), moved=N * rows * row)
    gx = gx.reshape(N, groups * Cg, rows * sh, columns * sw)
    return gx[:, :, ph : ph + H, pw : pw + W]


conv2d_grad_weight = banded.conv2d_grad_weight  # phases would save nothing here
