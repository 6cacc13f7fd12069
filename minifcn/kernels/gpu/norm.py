"""Normalisations on CuPy: ``lrn.cu`` sums over neighbouring channels, ``batch_norm.cu`` over each channel."""

from math import prod

from ...arrays import backend
from .elementwise import elementwise
from .launch import launch, launch_blocks


def local_response_norm(x, size, alpha, beta, k):
    xp = backend.of(x)
    x = xp.ascontiguousarray(x)
    y, s = xp.empty_like(x), xp.empty_like(x)
    _, C, *pixels = x.shape
    launch("lrn.cu", "local_response_norm", x.size, x, y, s, C, prod(pixels), size, alpha, beta, k)
    return y, (x, s, size, alpha, beta)


def local_response_norm_grad(gy, saved):
    x, s, size, alpha, beta = saved
    xp, (_, C, *pixels) = backend.of(gy), x.shape
    gy, gx = xp.ascontiguousarray(gy), xp.empty_like(x)
    launch("lrn.cu", "local_response_norm_grad", gx.size, gy, x, s, gx, C, prod(pixels), size, alpha, beta)
    return gx


def batch_norm(x, gamma, beta, eps):
    xp, (N, C, *pixels) = backend.of(x), x.shape
    x, gamma, beta = xp.ascontiguousarray(x), gamma.astype(x.dtype, copy=False), beta.astype(x.dtype, copy=False)
    mean, var = xp.empty(C, x.dtype), xp.empty(C, x.dtype)
    launch_blocks("batch_norm.cu", "channel_moments", C, x, mean, var, N, C, prod(pixels))
    y = elementwise("batch_norm")(x, *map(_each, (mean, var, gamma, beta)), eps)
    return y, (mean, var, x, gamma, eps)


def batch_norm_grad(gy, saved):
    mean, var, x, gamma, eps = saved
    xp, (N, C, *pixels) = backend.of(gy), x.shape
    gy = xp.ascontiguousarray(gy)
    ggamma, gbeta = xp.empty(C, gy.dtype), xp.empty(C, gy.dtype)
    launch_blocks("batch_norm.cu", "channel_gradients", C, gy, x, mean, var, ggamma, gbeta, N, C, prod(pixels), eps)
    channels = map(_each, (mean, var, gamma, ggamma, gbeta))
    return elementwise("batch_norm_grad")(gy, x, *channels, eps, float(N * prod(pixels))), ggamma, gbeta


def _each(v):
    """(C,) as (C, 1, 1), which broadcasts with (N, C, H, W)."""
    return v[:, None, None]
