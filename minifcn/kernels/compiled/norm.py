"""Batch normalisation: for each channel one pass for the sums, which are in float64, and one for the output."""

from functools import partial

import numpy as np

from ...arrays import buffers
from ..cpu import workers
from .compiler import Read, Write, loops


@loops
def normalise(
    x: Read[3], gamma: Read[1], beta: Read[1], eps: float, least: float, most: float,
    y: Write[3], mean: Write[1], var: Write[1], first: int, last: int,
):  # fmt: skip
    """y = γ (x − μ)/√(σ² + ε) + β, between `least` and `most`, for the channels first … last − 1 of x, (N, C, H·W)."""
    N, M, kind = x.shape[0], x.shape[2], x.dtype.type
    low, high = kind(least), kind(most)
    for c in range(first, last):
        # One of the m values is the origin, so (origin − μ)² ≤ m·σ²: the difference below loses few digits in float64.
        origin, total, squares = np.float64(x[0, c, 0]), 0.0, 0.0
        for n in range(N):
            row = x[n, c]
            for i in range(M):
                moved = row[i] - origin
                total += moved
                squares += moved * moved
        off = total / (N * M)
        centre, variance = origin + off, max(squares / (N * M) - off**2, 0.0)
        mean[c], var[c] = centre, variance
        factor = gamma[c] / np.sqrt(variance + eps)
        near, scale = kind(centre), kind(factor)
        shift = kind(beta[c] - (centre - near) * factor)  # x − μ is x − near, but for a rounding error
        for n in range(N):
            row, out = x[n, c], y[n, c]
            for i in range(M):
                value = (row[i] - near) * scale + shift
                out[i] = low if value <= low else (high if value > high else value)


@loops
def scale(x: Read[3], factor: Read[1], shift: Read[1], y: Write[3], first: int, last: int):
    """y = x · factor + shift for the channels first … last − 1 of x, (N, C, H·W)."""
    for n in range(x.shape[0]):
        for c in range(first, last):
            row, out, a, b = x[n, c], y[n, c], factor[c], shift[c]
            for i in range(x.shape[2]):
                out[i] = row[i] * a + b


@loops
def gradients(
    gy: Read[3], y: Read[3], x: Read[3], mean: Read[1], var: Read[1], gamma: Read[1], eps: float,
    least: float, most: float, gx: Write[3], ggamma: Write[1], gbeta: Write[1], first: int, last: int,
):  # fmt: skip
    """gβ = Σ g,  gγ = Σ g·x̂,  gx = γ/√(σ² + ε) · (g − gβ/m − x̂·gγ/m), with x̂ = (x − μ)/√(σ² + ε).

    g is gy, but 0 where y is `least` or `most`; NaN, which equals nothing, stands for no limit.
    """
    N, M, kind = x.shape[0], x.shape[2], x.dtype.type
    low, high, zero = kind(least), kind(most), kind(0)
    for c in range(first, last):
        centre, rstd = np.float64(mean[c]), 1 / np.sqrt(np.float64(var[c]) + eps)
        of_beta = of_gamma = 0.0
        for n in range(N):
            row, given, out, g = x[n, c], gy[n, c], y[n, c], gx[n, c]
            for i in range(M):
                g[i] = zero if out[i] == low or out[i] == high else given[i]
            for i in range(M):
                of_beta += g[i]
                of_gamma += g[i] * (row[i] - centre)
        gbeta[c], ggamma[c] = of_beta, of_gamma * rstd
        near, scale, by_one = mean[c], kind(gamma[c] * rstd), kind(of_beta / (N * M))
        by_x = kind(of_gamma * rstd * rstd / (N * M))
        for n in range(N):
            row, g = x[n, c], gx[n, c]
            for i in range(M):
                g[i] = scale * (g[i] - by_one - (row[i] - near) * by_x)


def batch_norm(x, gamma, beta, eps):
    return _normalised(x, gamma, beta, eps, -np.inf, np.inf)


def batch_norm_relu(x, gamma, beta, eps, most):
    return _normalised(x, gamma, beta, eps, 0.0, most)


def _normalised(x, gamma, beta, eps, least, most):
    y = buffers.empty(x.shape, x.dtype)
    mean, var = np.empty((2, x.shape[1]), x.dtype)
    _by_channel(normalise, _rows(x), gamma, beta, eps, least, most, _rows(y), mean, var)
    return y, (mean, var, x, gamma, eps)


def scale_channels(x, factor, shift):
    y = buffers.empty(x.shape, x.dtype)
    _by_channel(scale, _rows(x), factor, shift, _rows(y))
    return y


def batch_norm_grad(gy, saved):
    return _gradients(gy, gy, saved, np.nan, np.nan)


def batch_norm_relu_grad(gy, y, saved, most):
    return _gradients(gy, y, saved, 0.0, most if most < np.inf else np.nan)  # an output may overflow to ∞


def _gradients(gy, y, saved, least, most):
    mean, var, x, gamma, eps = saved
    gx = buffers.empty(x.shape, gy.dtype)
    ggamma, gbeta = np.empty((2, x.shape[1]), gy.dtype)
    _by_channel(
        gradients, _rows(gy), _rows(y), _rows(np.ascontiguousarray(x)), mean, var, gamma, eps, least, most,
        _rows(gx), ggamma, gbeta,
    )  # fmt: skip
    return gx, ggamma, gbeta


def _by_channel(function, x, *rest):
    if any(a.shape != x.shape[1:2] for a in rest if isinstance(a, np.ndarray) and a.ndim == 1):
        raise ValueError(
            f"the numbers for each channel must be of shape ({x.shape[1]},), as x has {x.shape[1]} channels"
        )
    workers.divide(x.shape[1], partial(function, x, *rest), moved=2 * x.size)


def _rows(x):
    """(N, C, H, W) as (N, C, H·W)."""
    return x.reshape(*x.shape[:2], -1)
