"""Max pooling tap by tap, in place, over worker threads: one comparison a tap, one byte a cell for its origin."""

import numpy as np

from ..shapes import pool_sizes
from ..textbook import index_type, pad_to_windows, tap_slices, zeros_under_windows
from . import workers


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    out = pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    x = pad_to_windows(x, kernel_size, stride, padding, dilation, out, value=-np.inf)
    y = np.empty((*x.shape[:2], *out), x.dtype)
    index = np.zeros(y.shape, index_type(kernel_size))
    taps = list(tap_slices(kernel_size, stride, dilation, out))

    def sample(n):
        np.copyto(y[n], x[n][taps[0]])
        for tap, where in enumerate(taps[1:], start=1):
            value = x[n][where]
            # taps come in ascending order, so the last strict improvement is the largest tap number: no scatter
            improved = np.multiply(value > y[n], tap, dtype=index.dtype)
            np.maximum(index[n], improved, out=index[n])
            np.maximum(y[n], value, out=y[n])

    workers.run(sample, range(len(x)))
    return y, index


def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    gx = zeros_under_windows(gy, x_shape, kernel_size, stride, padding, dilation)
    taps = list(tap_slices(kernel_size, stride, dilation, gy.shape[2:]))
    apart = all(s > d * (k - 1) for s, d, k in zip(stride, dilation, kernel_size))  # no cell in two windows

    def sample(n):
        for tap, where in enumerate(taps):
            if apart:
                np.multiply(gy[n], index[n] == tap, out=gx[n][where])
            else:
                gx[n][where] += gy[n] * (index[n] == tap)

    workers.run(sample, range(len(gy)))
    return gx[:, :, padding[0] : padding[0] + x_shape[2], padding[1] : padding[1] + x_shape[3]]
