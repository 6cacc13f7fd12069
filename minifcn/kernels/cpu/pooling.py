"""Max pooling of a few channels at a time: one comparison for each tap, and one byte for the index of each output."""

import numpy as np

from ...arrays import buffers
from .. import textbook
from ..shapes import pool_sizes, reach
from ..textbook import first_taps, index_type, tap_slices
from . import scratch, workers
from .conv.banded import padded

CHUNK_BYTES = 1 << 18  # the results of one group of channels


def _chunks(planes):
    """Slices of the planes: a few channels at a time, and about two slices or more for each worker."""
    size = max(1, CHUNK_BYTES // max(planes[0].nbytes if planes.size else 1, 1))
    size = min(size, max(1, -(-len(planes) // (2 * workers.threads()))))
    return [slice(first, first + size) for first in range(0, len(planes), size)]


def _planes(x):
    """(N, C, H, W) as (N·C, H, W); a copy if x is not contiguous."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    out = pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    first = first_taps(np, x.shape[2:], kernel_size, stride, padding, dilation, out).astype(index_type(kernel_size))
    size = reach(x.shape[2:], out, kernel_size, stride, padding, dilation)
    if tuple(size) != x.shape[2:]:
        x = padded(x, padding, size, value=-np.inf)
    y = buffers.empty((*x.shape[:2], *out), x.dtype)
    index = buffers.empty(y.shape, index_type(kernel_size))
    taps = list(tap_slices(kernel_size, stride, dilation, out))
    planes = [_planes(a) for a in (index, x, y)]

    def channels(task):
        winners, source, best = (a[task] for a in planes)
        value, better, improved = scratch.arrays(*((t, best.shape) for t in (x.dtype, bool, index.dtype)))
        winners.fill(0)
        np.copyto(best, source[taps[0]])
        for tap, cells in enumerate(taps[1:], start=1):
            np.copyto(value, source[cells])
            np.greater(value, best, out=better)
            # The tap of the last improvement has the largest number so far, so a maximum is enough to keep it.
            np.multiply(better.view(np.uint8), index.dtype.type(tap), out=improved)
            np.maximum(winners, improved, out=winners)
            np.maximum(best, value, out=best)
        if not best.min() > -np.inf:  # comparisons miss a NaN, and cannot tell −∞ on the image from padding
            np.copyto(winners, first, where=best == -np.inf)
            for tap, cells in enumerate(taps):
                winners[np.isnan(source[cells])] = tap

    workers.run(channels, _chunks(planes[-1]), moved=x.size)
    return y, index


def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    if gy.itemsize > 8:
        window = kernel_size, stride, padding, dilation, ceil_mode
        return textbook.max_pool2d_grad(gy, index, x_shape, *window)
    out, bits = gy.shape[2:], f"i{gy.itemsize}"
    size = reach(x_shape[2:], out, kernel_size, stride, padding, dilation)
    gx = buffers.empty((*x_shape[:2], *size), gy.dtype)
    taps = list(tap_slices(kernel_size, stride, dilation, out))
    apart = all(s > d * (k - 1) for s, d, k in zip(stride, dilation, kernel_size))  # no cell is in two windows
    tiled = apart and all(k * m == n for k, m, n in zip(kernel_size, out, size)) and tuple(dilation) == (1, 1)
    planes = [_planes(a) for a in (index, np.ascontiguousarray(gy).view(bits), gx)]

    def channels(task):
        winners, source, target = (a[task] for a in planes)
        chosen, factor, part = scratch.arrays(*((t, winners.shape) for t in (bool, bits, bits)))
        if not tiled:  # some cells are in no window
            target.fill(0)
        for tap, cells in enumerate(taps):
            np.equal(winners, tap, out=chosen)
            np.copyto(factor, chosen)
            np.multiply(source, factor, out=part)  # multiplies the bits, as integers: ∞ · 0 would be NaN
            if apart:
                target[cells] = part.view(gy.dtype)
            else:
                target[cells] += part.view(gy.dtype)

    workers.run(channels, _chunks(planes[1]), moved=gx.size)
    return gx[:, :, padding[0] : padding[0] + x_shape[2], padding[1] : padding[1] + x_shape[3]]
