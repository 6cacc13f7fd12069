"""The algorithms of convolution by name, and the rule that chooses the cheapest.

The costs below are for C input and O output channels, a kernel of k² cells, stride s and n output cells in all.  The
unit is a multiply-add in a fast matrix product, about 0.02 ns on one core.  Moving one number costs 15 of them.

- ``pointwise``   C·O·n.  For k = 1: the image already is its columns.
- ``banded``      k²·C·O·n + 15·k²·C·n: the products, and the copying of the columns.
- ``channels_last``  the same; copying is cheaper if a window's row has more numbers than a row of the output.
- ``stationary``  the same, but reads the weights once instead of once for each band.
- ``winograd``    2¼·C·O·n + 115·(C + O)·n + 1200·C·O: a quarter of the products; the transforms of tiles and kernels.
- ``winograd_rows``  2½·k·C·O·n + k·C·O·320 + (120·k·C + 500·O)·n: the products of rows of a 7×7 kernel; their
  transform, less what other algorithms take to order them; and the transforms of the inputs and the outputs.
- ``depthwise``   10·k²·C·n, for a small filter per channel and many channels: multiply-adds outside matrix products.
- ``planes``      the same convolutions on large maps, as one small product per channel.
- ``phases``      k²·C·O·n + 15·(s²·C + 2·⌈k/s⌉²·O)·n, for strides: no columns, but partial sums of the outputs.

Examples: ``winograd`` is chosen for 64 channels at 128² cells.  It is not for three channels, because the transforms
cost more than they save, nor for few cells, because they do not repay the transform of the kernels.
``channels_last`` is chosen for small maps of several samples, whose tiles are too few to fill Winograd's 36 products.
``stationary`` is chosen for 512×7×7 → 4096 at 8×8 cells, where reading the 411 MB of weights is the main cost;
``winograd_rows`` at 16×16 cells, where the products are.

Winograd's rounding error is ten times that of the definition, so the rule never chooses it, or ``winograd_rows``, for
float64.
"""

from functools import wraps
from math import prod

import numpy as np

from ... import shapes
from . import banded, channels_last, depthwise, phases, planes, pointwise, stationary, winograd, winograd_rows
from .window import Window

ALGORITHMS = dict(
    banded=banded, channels_last=channels_last, pointwise=pointwise, winograd=winograd, stationary=stationary,
    phases=phases, depthwise=depthwise, planes=planes, winograd_rows=winograd_rows,
)  # fmt: skip
TRANSFORM, KERNEL, COLUMN = 115, 1200, 15  # the cost of transforming a cell and a kernel, and of moving a number
HEAVY = 1 << 20  # bytes of weights from which on it matters how often they are read


def conv2d(x, w, stride, padding, dilation, groups, algorithm):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if algorithm is not None:
        algorithm = _applicable(algorithm, window, w.shape)
    elif not depthwise.pays(w.shape, window) and phases.applies(window, w.shape) and _few_outputs(w.shape, window):
        algorithm = phases
    else:
        algorithm = _cheapest(w.shape, x.dtype, (len(x), *window.out_size(x.shape)), window, winograd_rows.FORWARD)
    return algorithm.conv2d(x, w, window)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups, algorithm):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if algorithm is not None:
        algorithm = _applicable(algorithm, window, w.shape)
    elif winograd_rows.pays(window, w.shape, (len(gy), *gy.shape[2:]), gy.dtype, winograd_rows.BACK):
        algorithm = winograd_rows
    else:
        adjoint, (O, C) = window.adjoint(), w.shape[:2]
        if groups == 1 and adjoint is not None:  # a convolution of gy, from O to C channels
            algorithm = _of_the_others((C, O, *w.shape[2:]), gy.dtype, (len(gy), *x_shape[2:]), adjoint)
        else:
            algorithm = _of_the_others(w.shape, gy.dtype, (len(gy), *gy.shape[2:]), window)
        if algorithm in (banded, channels_last) and phases.applies(window, w.shape):
            algorithm = phases
    return algorithm.conv2d_grad_input(gy, w, x_shape, window)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups, algorithm):
    window = Window(w_shape[2:], stride, padding, dilation, groups)
    if algorithm is not None:
        algorithm = _applicable(algorithm, window, w_shape)
    else:
        algorithm = _cheapest(w_shape, gy.dtype, (len(gy), *gy.shape[2:]), window, winograd_rows.WEIGHTS)
    return algorithm.conv2d_grad_weight(gy, x, w_shape, window)


def _applicable(algorithm, window, w_shape):
    """The algorithm that the caller named, or ``banded`` if it does not apply."""
    return algorithm if algorithm.applies(window, w_shape) else banded


def _cheapest(w_shape, dtype, out, window, column):
    """The cheapest algorithm for an output of (N, OH, OW) cells, of those that serve all three kernels; `column` is the
    cost of a number of V in ``winograd_rows``."""
    if winograd_rows.pays(window, w_shape, out, dtype, column):
        return winograd_rows
    return _of_the_others(w_shape, dtype, out, window)


def _of_the_others(w_shape, dtype, out, window):
    """The same without ``winograd_rows``, which computes the gradient of an input as no convolution of gy."""
    (O, C), n = w_shape[:2], prod(out)
    if depthwise.pays(w_shape, window):
        return planes if planes.pays(w_shape, out, window) else depthwise
    if O // window.groups > n and prod(w_shape) * dtype.itemsize > HEAVY:
        return stationary
    if pointwise.applies(window, w_shape):
        return pointwise
    small = channels_last.pays(w_shape, out, window, dtype.itemsize)
    few = winograd.tiles(*out) < winograd.FEWEST
    if winograd.applies(window, w_shape) and dtype == np.float32 and not (small and few):
        cost = C * O * (2.25 * n + KERNEL) + TRANSFORM * (C + O) * n
        if cost < 9 * C * n * (O + COLUMN):
            return winograd
    return channels_last if small else banded


def _few_outputs(w_shape, window):
    """Whether the partial sums of all outputs are fewer numbers than the columns of all inputs."""
    (O, C, kh, kw), (sh, sw) = w_shape, window.stride
    U, V = -(-kh // sh), -(-kw // sw)
    return sh * sw * C + 2 * U * V * O // window.groups < kh * kw * C


def implementations(kernel):
    """{name: function} for a kernel: ``auto``, which follows the rule, then each algorithm by its name."""
    return {name: _on_any_arrays(kernel, algorithm) for name, algorithm in {"auto": None, **ALGORITHMS}.items()}


def _on_any_arrays(kernel, algorithm):
    """The kernel for arrays of any two floating-point types and byte orders, and for empty arrays.

    It computes in the wider of the two types, and in float32 for two of half precision: sums of float16 overflow.  The
    result for empty arrays is zeros.
    """
    function = dict(conv2d=conv2d, conv2d_grad_input=conv2d_grad_input, conv2d_grad_weight=conv2d_grad_weight)[kernel]
    stand_in = getattr(shapes, kernel)

    @wraps(function)
    def call(first, second, *rest):
        dtype = np.result_type(first, second).newbyteorder("=")
        if dtype.itemsize < 4:
            return call(first.astype(np.float32), second.astype(np.float32), *rest).astype(dtype)
        first, second = first.astype(dtype, copy=False), second.astype(dtype, copy=False)
        if not (first.size and second.size):
            return np.zeros(stand_in(first, second, *rest).shape, dtype)
        return function(first, second, *rest, algorithm)

    return call
