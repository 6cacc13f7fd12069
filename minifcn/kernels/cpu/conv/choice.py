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
from ...shapes import conv_sizes
from . import banded, channels_last, phases, pointwise, stationary, winograd

ALGORITHMS = dict(
    banded=banded, channels_last=channels_last, pointwise=pointwise, winograd=winograd, stationary=stationary,
    phases=phases,
)  # fmt: skip
TRANSFORM, KERNEL, COLUMN = 115, 1200, 15  # multiply-adds that moving a channel's cell, a kernel, a number cost
HEAVY = 1 << 20  # weights of more than so many bytes are worth reading once


def conv2d(x, w, stride, padding, dilation, groups):
    where = stride, padding, dilation, groups
    if phases.applies(w.shape[2:], *where) and _few_outputs(w.shape, stride, groups):
        return phases.conv2d(x, w, *where)
    out = len(x), *conv_sizes(x.shape, w.shape[2:], stride, padding, dilation)
    return _choose(w.shape, x.dtype, out, where).conv2d(x, w, *where)


def conv2d_grad_input(gy, w, x_shape, stride, padding, dilation, groups):
    where = stride, padding, dilation, groups
    chosen = _choose(w.shape, gy.dtype, (len(gy), *gy.shape[2:]), where)
    if chosen in (banded, channels_last) and phases.applies(w.shape[2:], *where):
        chosen = phases
    return chosen.conv2d_grad_input(gy, w, x_shape, *where)


def conv2d_grad_weight(gy, x, w_shape, stride, padding, dilation, groups):
    where = stride, padding, dilation, groups
    chosen = _choose(w_shape, gy.dtype, (len(gy), *gy.shape[2:]), where)
    return chosen.conv2d_grad_weight(gy, x, w_shape, *where)


def _choose(w_shape, dtype, out, where):
    """The cheapest algorithm for outputs on (N, OH, OW) cells, of those that serve all three kernels."""
    (O, C), (kh, kw), groups, n = w_shape[:2], w_shape[2:], where[3], prod(out)
    if O // groups > n and prod(w_shape) * dtype.itemsize > HEAVY:
        return stationary
    if pointwise.applies((kh, kw), *where):
        return pointwise
    small = channels_last.pays(w_shape, out, groups, dtype.itemsize)
    few = winograd.tiles(*out) < winograd.FEWEST
    if winograd.applies((kh, kw), *where) and dtype == np.float32 and not (small and few):
        cost = C * O * (2.25 * n + KERNEL) + TRANSFORM * (C + O) * n
        if cost < 9 * C * n * (O + COLUMN):
            return winograd
    return channels_last if small else banded


def _few_outputs(w_shape, stride, groups):
    """Whether partial sums of all outputs are less to move than columns of all inputs."""
    O, C, kh, kw = w_shape
    U, V = -(-kh // stride[0]), -(-kw // stride[1])
    return stride[0] * stride[1] * C + 2 * U * V * O // groups < kh * kw * C


def implementations(kernel):
    """{name: function} of a kernel: the rule's choice, then every algorithm (banded, where one does not apply)."""
    auto = dict(conv2d=conv2d, conv2d_grad_input=conv2d_grad_input, conv2d_grad_weight=conv2d_grad_weight)[kernel]
    return {"auto": _of_one_kind(auto)} | {
        name: _of_one_kind(_where_it_applies(module, kernel)) for name, module in ALGORITHMS.items()
    }


def _where_it_applies(module, kernel):
    general = getattr(banded, kernel)
    function = getattr(module, kernel, general)  # phases has no way of its own to the weights' gradient
    if not hasattr(module, "applies"):
        return function

    @wraps(function)
    def choose(first, second, *rest):
        *shape, stride, padding, dilation, groups = rest
        kernel_size = (shape[0] if kernel == "conv2d_grad_weight" else second.shape)[2:]
        chosen = function if module.applies(kernel_size, stride, padding, dilation, groups) else general
        return chosen(first, second, *rest)

    return choose


def _of_one_kind(function):
    """The same on arrays of any two dtypes and byte orders, computed in the wider; zeros where nothing is summed."""

    @wraps(function)
    def call(first, second, *rest):
        dtype = np.result_type(first, second).newbyteorder("=")
        if dtype.itemsize < 4:  # sums of float16 overflow
            return call(first.astype(np.float32), second.astype(np.float32), *rest).astype(dtype)
        first, second = first.astype(dtype, copy=False), second.astype(dtype, copy=False)
        if not (first.size and second.size):
            return np.zeros(getattr(shapes, function.__name__)(first, second, *rest).shape, dtype)
        return function(first, second, *rest)

    return call
