"""Convolution: depthwise ones and Winograd's transforms are compiled; the rest spends its time in BLAS."""

from ..cpu.conv import choice
from ..cpu.conv import winograd as algorithm
from ..cpu.conv.window import Window
from . import depthwise, winograd


def conv2d(x, w, stride, padding, dilation, groups):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if depthwise.pays(window, w.shape):
        return depthwise.conv2d(x, w, window)
    if winograd.pays(window, w.shape, x.dtype, (len(x), *window.out_size(x.shape))):
        return algorithm.conv2d(x, w, window, winograd)
    return choice.conv2d(x, w, stride, padding, dilation, groups, None)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if depthwise.pays(window, w.shape):
        return depthwise.conv2d_grad_input(gy, w, x_shape, window)
    if winograd.pays(window, w.shape, gy.dtype, (len(gy), *gy.shape[2:])):
        return algorithm.conv2d_grad_input(gy, w, x_shape, window, winograd)
    return choice.conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups, None)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    window = Window(w_shape[2:], stride, padding, dilation, groups)
    if depthwise.pays(window, w_shape):
        return depthwise.conv2d_grad_weight(gy, x, w_shape, window)
    if winograd.pays(window, w_shape, gy.dtype, (len(gy), *gy.shape[2:])):
        return algorithm.conv2d_grad_weight(gy, x, w_shape, window, winograd)
    return choice.conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups, None)
