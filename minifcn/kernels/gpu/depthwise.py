"""Depthwise convolution on CuPy, with one thread for each cell; the CUDA source is ``depthwise.cu``.

Arrays must be C-contiguous and of one type.
"""

from ...arrays import backend
from ..shapes import conv_sizes
from .launch import launch, launch_blocks


def applies(w_shape, groups):
    """Whether each channel has one filter."""
    return groups == w_shape[0] and w_shape[1] == 1


def conv2d(x, w, stride, padding, dilation):
    window = (*w.shape[2:], *stride, *padding, *dilation)
    out = conv_sizes(x.shape, w.shape[2:], stride, padding, dilation)
    y = backend.of(x).empty((*x.shape[:2], *out), x.dtype)
    launch("depthwise.cu", "depthwise", y.size, x, w, y, *x.shape[1:], *out, *window)
    return y


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation):
    window = (*w.shape[2:], *stride, *padding, *dilation)
    gx = backend.of(gy).empty(x_shape, gy.dtype)
    launch("depthwise.cu", "depthwise_grad_input", gx.size, gy, w, gx, *x_shape[1:], *gy.shape[2:], *window)
    return gx


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation):
    window = (*w_shape[2:], *stride, *padding, *dilation)
    gw = backend.of(gy).empty(w_shape, gy.dtype)
    launch_blocks("depthwise.cu", "depthwise_grad_weight", gw.size, gy, x, gw, *x.shape, *gy.shape[2:], *window)
    return gw
