"""Convolution: depthwise ones are compiled; all others are NumPy's, which spend their time in BLAS."""

from ..cpu.conv import choice
from ..cpu.conv.window import Window
from . import depthwise as loops


def conv2d(x, w, stride, padding, dilation, groups):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if loops.pays(window, w.shape):
        return loops.conv2d(x, w, window)
    return choice.conv2d(x, w, stride, padding, dilation, groups, None)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if loops.pays(window, w.shape):
        return loops.conv2d_grad_input(gy, w, x_shape, window)
    return choice.conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups, None)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    window = Window(w_shape[2:], stride, padding, dilation, groups)
    if loops.pays(window, w_shape):
        return loops.conv2d_grad_weight(gy, x, w_shape, window)
    return choice.conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups, None)
