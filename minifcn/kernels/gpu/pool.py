"""Pooling on CuPy with one thread for each cell, forward and backward; the CUDA source is ``pool.cu``."""

from ...arrays import backend
from .. import textbook
from ..shapes import pool_sizes
from .launch import launch


def _contiguous(array):
    return backend.of(array).ascontiguousarray(array)


def _many(kernel_size):
    """Whether a window has too many taps for numbers of one byte."""
    return kernel_size[0] * kernel_size[1] > 256


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    if _many(kernel_size):
        return textbook.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
    xp, x = backend.of(x), _contiguous(x)
    out = pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y, taps = xp.empty((*x.shape[:2], *out), x.dtype), xp.empty((*x.shape[:2], *out), "uint8")
    window = (*kernel_size, *stride, *padding, *dilation)
    launch("pool.cu", "max_pool2d", y.size, x, y, taps, *x.shape[2:], *out, *window)
    return y, taps


def max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    if _many(kernel_size):
        return textbook.max_pool2d_grad(gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    gx = backend.of(gy).empty(x_shape, gy.dtype)
    gy, index = _contiguous(gy), _contiguous(index)
    window = (*kernel_size, *stride, *padding, *dilation)
    launch("pool.cu", "max_pool2d_grad", gx.size, gy, index, gx, *x_shape[2:], *gy.shape[2:], *window)
    return gx


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    x = _contiguous(x)
    out = pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = backend.of(x).empty((*x.shape[:2], *out), x.dtype)
    window = (*kernel_size, *stride, *padding, *dilation, count_include_pad)
    launch("pool.cu", "avg_pool2d", y.size, x, y, *x.shape[2:], *out, *window)
    return y


def avg_pool2d_grad(gy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation):
    gx, gy = backend.of(gy).empty(x_shape, gy.dtype), _contiguous(gy)
    window = (*kernel_size, *stride, *padding, *dilation, count_include_pad)
    launch("pool.cu", "avg_pool2d_grad", gx.size, gy, gx, *x_shape[2:], *gy.shape[2:], *window)
    return gx
