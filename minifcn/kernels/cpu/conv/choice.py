"""The algorithms of convolution by name, and the rule that chooses one by its cost.

For C input and O output channels, a kernel of k² cells, stride s and n output cells in all, the cost of each in
multiply-adds of a good matrix product (0.02 ns on a core; moving one number takes fifteen of them):

- ``pointwise``   C·O·n.  For k = 1: the image is its own columns.
- ``banded``      k²·C·O·n + 15·k²·C·n.  Products, and the columns they need.
- ``channels_last``  the same, with columns for less where the channels of a window are more than the cells of a row.
- ``stationary``  the same, but the weights are read once, not once a band.
- ``winograd``    2¼·C·O·n + 115·(C + O)·n + 1200·C·O.  A quarter of the products; tiles in and out; kernels.
- ``phases``      k²·C·O·n + 15·(s²·C + 2·⌈k/s⌉²·O)·n.  Strided: no columns, but partial sums of the outputs.

So 64 channels at 128² are Winograd's; three are not (their transforms cost more than they save), nor are few cells
(they do not pay for the kernels' transform).  Small maps of several samples, too few tiles to fill Winograd's 36
products, have their channels last.  And 512×7×7 → 4096 at 8×8 cells is a matter of reading 411 MB once.
Winograd's rounding is ten times the definition's: only float32 ever takes it by itself.
"""

from functools import wraps
from math import prod

import numpy as np

from ... import shapes
from . import banded, channels_last, phases, pointwise, stationary, winograd
from .window import Window

ALGORITHMS = dict(
    banded=banded, channels_last=channels_last, pointwise=pointwise, winograd=winograd, stationary=stationary,
    phases=phases,
)  # fmt: skip
TRANSFORM, KERNEL, COLUMN = 115, 1200, 15  # multiply-adds that moving a channel's cell, a kernel, a number cost
HEAVY = 1 << 20  # weights of more than so many bytes are worth reading once


def conv2d(x, w, stride, padding, dilation, groups, algorithm):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if algorithm is not None:
        algorithm = _applicable(algorithm, window)
    elif phases.applies(window) and _few_outputs(w.shape, window):
        algorithm = phases
    else:
        algorithm = _cheapest(w.shape, x.dtype, (len(x), *window.out_size(x.shape)), window)
    return algorithm.conv2d(x, w, window)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups, algorithm):
    window = Window(w.shape[2:], stride, padding, dilation, groups)
    if algorithm is not None:
        algorithm = _applicable(algorithm, window)
    else:
        algorithm = _cheapest(w.shape, gy.dtype, (len(gy), *gy.shape[2:]), window)
        if algorithm in (banded, channels_last) and phases.applies(window):
            algorithm = phases
    return algorithm.conv2d_grad_input(gy, w, x_shape, window)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups, algorithm):
    window = Window(w_shape[2:], stride, padding, dilation, groups)
    if algorithm is not None:
        algorithm = _applicable(algorithm, window)
    else:
        algorithm = _cheapest(w_shape, gy.dtype, (len(gy), *gy.shape[2:]), window)
    return algorithm.conv2d_grad_weight(gy, x, w_shape, window)


def _applicable(algorithm, window):
    """The algorithm that the caller named, or ``banded`` if it does not apply."""
    return algorithm if algorithm.applies(window) else banded


def _cheapest(w_shape, dtype, out, window):
    """The cheapest of the algorithms that serve all three kernels, for an output of (N, OH, OW) cells."""
    (O, C), n = w_shape[:2], prod(out)
    if O // window.groups > n and prod(w_shape) * dtype.itemsize > HEAVY:
        return stationary
    if pointwise.applies(window):
        return pointwise
    small = channels_last.pays(w_shape, out, window, dtype.itemsize)
    few = winograd.tiles(*out) < winograd.FEWEST
    if winograd.applies(window) and dtype == np.float32 and not (small and few):
        cost = C * O * (2.25 * n + KERNEL) + TRANSFORM * (C + O) * n
        if cost < 9 * C * n * (O + COLUMN):
            return winograd
    return channels_last if small else banded


def _few_outputs(w_shape, window):
    """Whether partial sums of all outputs are less to move than columns of all inputs."""
    (O, C, kh, kw), (sh, sw) = w_shape, window.stride
    U, V = -(-kh // sh), -(-kw // sw)
    return sh * sw * C + 2 * U * V * O // window.groups < kh * kw * C


def implementations(kernel):
    """{name: function} of a kernel: ``auto``, by the rule; then each algorithm, by its name."""
    return {name: _on_any_arrays(kernel, algorithm) for name, algorithm in {"auto": None, **ALGORITHMS}.items()}


def _on_any_arrays(kernel, algorithm):
    """The kernel on arrays of any two floating-point types and byte orders, and on empty ones.

    It computes in the wider of the two types, and in float32 at least: sums of float16 overflow.  Where nothing is
    summed the result is zeros.
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
