"""Batch normalisation of a few channels at a time, so that their values stay in the cache between the passes.

The formulas need few passes: σ² = E[x²] − μ² and Σ gy·(x − μ) = Σ gy·x − μ·Σ gy are each one product of vectors.  Both
lose digits if the mean is much larger than the deviation; x − μ is then computed first.
"""

import numpy as np

from ...arrays import buffers
from .. import textbook
from . import scratch, workers
from .elementwise import dots

CHUNK_BYTES = 1 << 21  # the values of one group of channels
FAR = 4.0  # if μ²/σ² exceeds this, x − μ is computed first


def _in_chunks(channels, x):
    """Call ``channels(c)`` for groups of channels c, as slices; each worker thread has a share of the channels."""
    size = max(1, CHUNK_BYTES // max(x.nbytes // x.shape[1], 1))

    def share_of_channels(share):
        for first in range(*share, size):
            channels(slice(first, min(first + size, share[1])))

    workers.run(share_of_channels, workers.shares(x.shape[1]), moved=2 * x.size)


def _rows(x):
    """(N, C, H, W) as (N, C, H·W)."""
    return x.reshape(*x.shape[:2], -1)


def _each(v):
    """(C,) as (C, 1), which broadcasts with (N, C, H·W)."""
    return v[:, None]


def batch_norm(x, gamma, beta, eps):
    if x.itemsize < 4 or not x.size:
        return textbook.batch_norm(x, gamma, beta, eps)
    y = buffers.empty(x.shape, x.dtype)
    mean, var = np.empty((2, x.shape[1]), x.dtype)
    xs, ys, m = _rows(x), _rows(y), x.size // x.shape[1]

    def channels(c):
        x, y = xs[:, c], ys[:, c]
        mean[c] = centre = dots(x).sum(axis=0) / m
        var[c] = dots(x, x).sum(axis=0) / m - centre**2
        if not (FAR * var[c] >= centre**2).all():
            x = np.subtract(x, _each(centre), out=y)
            centre = dots(x).sum(axis=0) / m  # the rounding error of the mean: x should now have mean 0
            mean[c] += centre
            var[c] = dots(x, x).sum(axis=0) / m - centre**2
        scale = gamma[c] / np.sqrt(var[c] + eps)
        np.multiply(x, _each(scale), out=y)
        y += _each(beta[c] - centre * scale)

    _in_chunks(channels, x)
    return y, (mean, var, x, gamma, eps)


def scale_channels(x, scale, shift):
    if x.itemsize < 4 or not x.size or not x.flags.c_contiguous or not x.dtype == scale.dtype == shift.dtype:
        return textbook.scale_channels(x, scale, shift)
    y = buffers.empty(x.shape, x.dtype)
    xs, ys = _rows(x), _rows(y)

    def channels(c):
        out = np.multiply(xs[:, c], _each(scale[c]), out=ys[:, c])
        out += _each(shift[c])

    _in_chunks(channels, x)
    return y


def batch_norm_grad(gy, saved):
    mean, var, x, gamma, eps = saved
    if gy.itemsize < 4 or not x.size:
        return textbook.batch_norm_grad(gy, saved)
    gx = buffers.empty(x.shape, gy.dtype)
    ggamma, gbeta = np.empty((2, x.shape[1]), gy.dtype)
    rstd = 1 / np.sqrt(var + eps)
    xs, gys, gxs, m = _rows(x), _rows(gy), _rows(gx), x.size // x.shape[1]

    def channels(c):
        x, gx, gy, centre = xs[:, c], gxs[:, c], gys[:, c], mean[c]
        gbeta[c] = dots(gy).sum(axis=0)
        if not (FAR * var[c] >= centre**2).all():
            x, centre = np.subtract(x, _each(centre), out=gx), 0
        ggamma[c] = (dots(gy, x).sum(axis=0) - centre * gbeta[c]) * rstd[c]
        # gx = γ/σ · (gy − gβ/m − (x − μ)/σ · gγ/m), sorted by x, 1 and gy
        scale = gamma[c] * rstd[c]
        x_factor = -scale * rstd[c] * ggamma[c] / m
        np.multiply(x, _each(x_factor), out=gx)
        gx -= _each(scale * gbeta[c] / m + x_factor * centre)
        (scaled,) = scratch.arrays((gy.dtype, gy.shape))
        gx += np.multiply(gy, _each(scale), out=scaled)

    _in_chunks(channels, x)
    return gx, ggamma, gbeta


def sync_batch_norm(x, gamma, beta, eps, total):
    if x.itemsize < 4 or not x.size:
        return textbook.sync_batch_norm(x, gamma, beta, eps, total)
    y = buffers.empty(x.shape, x.dtype)
    mean, var = np.empty((2, x.shape[1]))
    xs, ys, count = _rows(x), _rows(y), x.size // x.shape[1]

    def statistics(c):
        x = xs[:, c]
        mean[c] = centre = dots(x).sum(axis=0) / count
        x = np.subtract(x, _each(centre), out=ys[:, c])
        error = dots(x).sum(axis=0) / count  # the rounding error of the mean: x should now have mean 0
        mean[c] += error
        var[c] = dots(x, x).sum(axis=0) / count - error**2

    _in_chunks(statistics, x)
    sums = total(np.append(count * mean, count))
    m = sums[-1]
    centre = sums[:-1] / m
    # the part's Σ (x − μ)² is that around the part's mean, plus that of the part's mean around μ
    var = total(count * (var + (mean - centre) ** 2)) / m
    near, scale = centre.astype(x.dtype), gamma / np.sqrt(var + eps)
    scale, shift = scale.astype(x.dtype), (beta - (centre - near) * scale).astype(x.dtype)

    def normalise(c):
        y = np.subtract(xs[:, c], _each(near[c]), out=ys[:, c])
        y *= _each(scale[c])
        y += _each(shift[c])

    _in_chunks(normalise, x)
    return y, (near, var.astype(x.dtype), x, gamma, eps, m)


def sync_batch_norm_grad(gy, saved, total):
    mean, var, x, gamma, eps, m = saved
    if gy.itemsize < 4 or not x.size:
        return textbook.sync_batch_norm_grad(gy, saved, total)
    gx = buffers.empty(x.shape, gy.dtype)
    ggamma, gbeta = np.empty((2, x.shape[1]), gy.dtype)
    rstd = 1 / np.sqrt(var + eps)
    xs, gys, gxs = _rows(x), _rows(gy), _rows(gx)

    def sums(c):
        centred = np.subtract(xs[:, c], _each(mean[c]), out=gxs[:, c])
        gbeta[c] = dots(gys[:, c]).sum(axis=0)
        ggamma[c] = dots(gys[:, c], centred).sum(axis=0) * rstd[c]

    _in_chunks(sums, x)
    of_beta, of_gamma = total(np.stack([gbeta, ggamma]).astype(np.float64)) / m
    scale = gamma * rstd
    by_x, by_one = ((-scale * v).astype(gy.dtype) for v in (rstd * of_gamma, of_beta))

    def gradient(c):
        gx, gy = gxs[:, c], gys[:, c]  # gx holds x − μ
        gx *= _each(by_x[c])
        gx += _each(by_one[c])
        (scaled,) = scratch.arrays((gy.dtype, gy.shape))
        gx += np.multiply(gy, _each(scale[c]), out=scaled)

    _in_chunks(gradient, x)
    return gx, ggamma, gbeta
