"""Convolution: the compiled algorithms, and the rule that chooses one of them, or one of NumPy's."""

from functools import lru_cache
from math import prod

import numpy as np

from ..cpu import workers
from ..cpu.conv import banded, channels_last, choice
from ..cpu.conv import winograd as numpys
from ..cpu.conv.few_tiles import pays
from ..cpu.conv.window import Window
from ..cpu.conv.winograd_rows import BACK, WEIGHTS
from . import depthwise, direct, few_tiles, many_tiles, winograd, winograd_rows

# What NumPy's algorithms cost beside the products, in the unit of choice.py: copying a cell to the columns, the same
# for a gradient of the weights, and on small maps; a row of cells; bringing a weight into another order; and a call.
COLUMN, GRADIENT, SMALL, RUN, WEIGHT, CALL = 25, 80, 30, 500, 60, 3_000_000


def conv2d(x, w, stride, padding, dilation, groups):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if form := _forward(window, x.shape, w.shape, x.dtype, workers.threads()):
        return form.conv2d(x, w, window)
    return choice.conv2d(x, w, stride, padding, dilation, groups, None)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    window, x_shape = Window(w.shape[2:], stride, padding, dilation, groups), tuple(x_shape)
    if form := _for_input(window, gy.shape, w.shape, x_shape, gy.dtype, workers.threads()):
        return form.conv2d_grad_input(gy, w, x_shape, window)
    return choice.conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups, None)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    w_shape, algorithm = tuple(w_shape), None
    window = Window(w_shape[2:], stride, padding, dilation, groups)
    if form := _for_weight(window, gy.shape, x.shape, w_shape, gy.dtype, workers.threads()):
        gw = form.conv2d_grad_weight(gy, x, w_shape, window)
        if form is winograd_rows or np.isfinite(gw).all():  # winograd_rows looks at x and gy itself
            return gw
        algorithm = banded  # the loops, and Winograd's tiles, spread ∞ and NaN of x to weights that do not meet them
    return choice.conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups, algorithm)


@lru_cache(maxsize=1024)
def _forward(window, x_shape, w_shape, dtype, threads):
    """The algorithm for arrays of these shapes; ValueError if they are not those of one convolution."""
    (O, C), cells = w_shape[:2], (x_shape[0], *window.out_size(x_shape))
    _require_shapes(x_shape, w_shape, (cells[0], O, *cells[1:]), window)
    if winograd_rows.pays(window, w_shape, cells, dtype):
        return winograd_rows
    return _form(window, w_shape, window, C, O, dtype, cells, threads)


@lru_cache(maxsize=1024)
def _for_input(window, y_shape, w_shape, x_shape, dtype, threads):
    """The same for the gradient of the input."""
    _require_shapes(x_shape, w_shape, y_shape, window)
    if winograd_rows.pays(window, w_shape, (y_shape[0], *y_shape[2:]), dtype, BACK):
        return winograd_rows
    (O, C), cells = w_shape[:2], (y_shape[0], *x_shape[2:])
    return _form(window, w_shape, window.adjoint(), O, C, dtype, cells, threads)


@lru_cache(maxsize=1024)
def _for_weight(window, y_shape, x_shape, w_shape, dtype, threads):
    """The same for the gradient of the weights."""
    _require_shapes(x_shape, w_shape, y_shape, window)
    (O, C), cells = w_shape[:2], (y_shape[0], *y_shape[2:])
    if winograd_rows.pays(window, w_shape, cells, dtype, WEIGHTS):
        return winograd_rows
    return _form(window, w_shape, window, C, O, dtype, cells, threads, GRADIENT)


def _require_shapes(x_shape, w_shape, y_shape, window):
    """Raise ValueError unless the shapes are those of one convolution; else the loops would use foreign memory."""
    (N, C), (O, Cg), groups = x_shape[:2], w_shape[:2], window.groups
    if Cg * groups != C or O % groups or y_shape != (N, O, *window.out_size(x_shape)):
        raise ValueError(
            f"a convolution of {x_shape} with kernels {w_shape} in {groups} groups does not give {y_shape}"
        )


def _form(window, w_shape, dense, C, O, dtype, cells, threads, column=COLUMN):
    """The cheapest compiled algorithm, or None if NumPy's way with columns costs less.

    `dense` is the window of the same convolution from C to O channels of (N, OH, OW) `cells`, which for the gradient of
    the input is the adjoint window; None if there is none.
    """
    if depthwise.pays(window, w_shape):
        return depthwise
    if dense is None or not direct.applies(dense, C, cells):
        return None
    small = channels_last.pays((O, C, *dense.kernel_size), cells, dense, dtype.itemsize)
    column = SMALL if small else column * dense.stride[1] + RUN / cells[2]
    numpy = CALL + C * dense.taps * (prod(cells) * (O + column) + small * WEIGHT * O)
    costs = {None: numpy, direct: direct.cost(dense, C, O, cells, threads)}
    if winograd.applies(dense, C, O, dtype):
        T = numpys.tiles(*cells)
        costs[few_tiles if pays(C, O, T) else many_tiles] = winograd.cost(C, O, T)
    return min(costs, key=costs.get)
