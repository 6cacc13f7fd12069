"""Batch normalisation a few channels at a time: what a channel needs stays in the cache between its passes."""

import numpy as np

from ... import memory
from . import workers

CHUNK_BYTES = 1 << 21  # the values of one group of channels


def _chunks(x):
    """Groups of channels, as slices."""
    size = max(1, CHUNK_BYTES // max(x.nbytes // x.shape[1], 1))
    return [slice(first, first + size) for first in range(0, x.shape[1], size)]


def _rows(x):
    """(N, C, H, W) as (N, C, H·W)."""
    return x.reshape(*x.shape[:2], -1)


def _each(v):
    """(C,) beside (N, C, H·W)."""
    return v[:, None]


def batch_norm(x, gamma, beta, eps):
    y = memory.empty(x.shape, x.dtype)
    mean, var = np.empty((2, x.shape[1]), x.dtype)
    xs, ys, m = _rows(x), _rows(y), x.size // x.shape[1]
    ones = np.ones(xs.shape[2], x.dtype)

    def channels(c):
        y = ys[:, c]
        mean[c] = (xs[:, c] @ ones).sum(axis=0) / m
        np.subtract(xs[:, c], _each(mean[c]), out=y)
        var[c] = np.vecdot(y, y).sum(axis=0) / m
        y *= _each(gamma[c] / np.sqrt(var[c] + eps))
        y += _each(beta[c])

    workers.run(channels, _chunks(x))
    return y, (mean, var, x, gamma, eps)


def batch_norm_grad(gy, saved):
    mean, var, x, gamma, eps = saved
    gx = memory.empty(x.shape, gy.dtype)
    ggamma, gbeta = np.empty((2, x.shape[1]), gy.dtype)
    rstd = 1 / np.sqrt(var + eps)
    xs, gys, gxs, m = _rows(x), _rows(gy), _rows(gx), x.size // x.shape[1]
    ones = np.ones(xs.shape[2], gy.dtype)

    def channels(c):
        gx, gy = gxs[:, c], gys[:, c]
        np.subtract(xs[:, c], _each(mean[c]), out=gx)
        gbeta[c] = (gy @ ones).sum(axis=0)
        ggamma[c] = np.vecdot(gy, gx).sum(axis=0) * rstd[c]
        scale = gamma[c] * rstd[c]
        # γ/σ · (gy − gβ/m − x̂·gγ/m), the factors of each array taken together
        gx *= _each(-scale * rstd[c] * ggamma[c] / m)
        gx -= _each(scale * gbeta[c] / m)
        (scaled,) = workers.workspace(gy.dtype, gy.shape)
        gx += np.multiply(gy, _each(scale), out=scaled)

    workers.run(channels, _chunks(x))
    return gx, ggamma, gbeta
