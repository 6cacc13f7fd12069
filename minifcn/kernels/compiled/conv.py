"""Convolution: depthwise ones and Winograd's transforms are compiled; the rest spends its time in BLAS."""

from ..cpu.conv import choice
from ..cpu.conv import winograd as algorithm
from ..cpu.conv.window import Window
from . import depthwise, few_tiles, many_tiles, winograd


def conv2d(x, w, stride, padding, dilation, groups):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if form := _compiled(window, w.shape, x.dtype, (len(x), *window.out_size(x.shape))):
        return form.conv2d(x, w, window)
    return choice.conv2d(x, w, stride, padding, dilation, groups, None)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if form := _compiled(window, w.shape, gy.dtype, (len(gy), *gy.shape[2:])):
        return form.conv2d_grad_input(gy, w, x_shape, window)
    return choice.conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups, None)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    window = Window(w_shape[2:], stride, padding, dilation, groups)
    if form := _compiled(window, w_shape, gy.dtype, (len(gy), *gy.shape[2:])):
        return form.conv2d_grad_weight(gy, x, w_shape, window)
    return choice.conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups, None)


def _compiled(window, w_shape, dtype, cells):
    """The compiled algorithm for an output of (N, OH, OW) cells; None if one of NumPy's is as good."""
    if depthwise.pays(window, w_shape):
        return depthwise
    if not winograd.pays(window, w_shape, dtype, cells):
        return None
    if few_tiles.pays(w_shape, cells):
        return few_tiles
    return many_tiles if algorithm.tiles(*cells) >= algorithm.FEWEST else None
