"""Batch normalisation a few channels at a time: what a channel needs stays in the cache between its passes."""

import numpy as np

from ..textbook import batch_norm as textbook_forward
from ..textbook import batch_norm_grad as textbook_backward
from . import workers

CHUNK_BYTES = 1 << 19  # the values of one group of channels: about a core's own cache


def _chunks(x):
    """Groups of channels, as slices."""
    size = max(1, CHUNK_BYTES // max(x.nbytes // x.shape[1], 1))
    return [slice(first, first + size) for first in range(0, x.shape[1], size)]


def batch_norm(x, gamma, beta, eps):
    y = np.empty(x.shape, x.dtype)
    mean, var = np.empty((2, x.shape[1]), x.dtype)

    def channels(c):
        y[:, c], (mean[c], var[c], *_) = textbook_forward(x[:, c], gamma[c], beta[c], eps)

    workers.run(channels, _chunks(x))
    return y, (mean, var, x, gamma, eps)


def batch_norm_grad(gy, saved):
    mean, var, x, gamma, eps = saved
    gx = np.empty(x.shape, gy.dtype)
    ggamma, gbeta = np.empty((2, x.shape[1]), gy.dtype)

    def channels(c):
        part = mean[c], var[c], x[:, c], gamma[c], eps
        gx[:, c], ggamma[c], gbeta[c] = textbook_backward(gy[:, c], part)

    workers.run(channels, _chunks(x))
    return gx, ggamma, gbeta
