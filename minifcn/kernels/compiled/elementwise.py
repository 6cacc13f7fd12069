"""Activations, the bias, and the optimisers' steps: each in one pass over memory, which bounds their speed."""

from functools import partial

import numpy as np

from ...arrays import buffers
from ..cpu import workers
from .compiler import Read, Write, loops

LIGHT = 8  # a number takes an eighth of the time that it takes in other kernels, so a helper pays later


@loops
def rectify(x: Read[1], most: float, y: Write[1], first: int, last: int):
    """y = min(max(x, 0), most), without an upper limit if `most` is NaN.  Where x is NaN, y is NaN."""
    x, y = x[first:last], y[first:last]
    zero, top = x.dtype.type(0), x.dtype.type(most)
    for i in range(len(x)):
        y[i] = zero if x[i] <= zero else (top if x[i] > top else x[i])


@loops
def rectify_grad(gy: Read[1], y: Read[1], most: float, gx: Write[1], first: int, last: int):
    """gx = gy where y is neither 0 nor `most`, else 0."""
    gy, y, gx = gy[first:last], y[first:last], gx[first:last]
    zero, top = y.dtype.type(0), y.dtype.type(most)
    for i in range(len(y)):
        gx[i] = zero if y[i] == zero or y[i] == top else gy[i]


@loops
def add_to_channels(y: Write[3], b: Read[1], first: int, last: int):
    """y[n, c] += b[c]: the maps first … last − 1 of the N·C maps of y, (N, C, H·W)."""
    C, M = y.shape[1], y.shape[2]
    for k in range(first, last):
        row, number = y[k // C, k % C], b[k % C]
        for i in range(M):
            row[i] += number


@loops
def add_and_rectify(y: Write[3], b: Read[1], most: float, first: int, last: int):
    """y[n, c] = min(max(y[n, c] + b[c], 0), most) for the maps first … last − 1; no upper limit if `most` is NaN."""
    C, zero, top = y.shape[1], y.dtype.type(0), y.dtype.type(most)
    for k in range(first, last):
        row, number = y[k // C, k % C], b[k % C]
        for i in range(len(row)):
            value = row[i] + number
            row[i] = zero if value <= zero else (top if value > top else value)


@loops
def rectify_and_sum(gy: Read[3], y: Read[3], most: float, gx: Write[3], sums: Write[1], first: int, last: int):
    """gx = gy where y is neither 0 nor `most`, else 0, and sums[c] = Σ gx[:, c], in float64."""
    zero, top = y.dtype.type(0), y.dtype.type(most)
    for c in range(first, last):
        total = 0.0
        for n in range(y.shape[0]):
            given, out, row = gy[n, c], y[n, c], gx[n, c]
            for i in range(len(row)):
                row[i] = zero if out[i] == zero or out[i] == top else given[i]
            for i in range(len(row)):  # a loop of its own, so that the order of the sum is that of sum_channels
                total += row[i]
        sums[c] = total


@loops
def sum_channels(x: Read[3], sums: Write[1], first: int, last: int):
    """sums[c] = Σ x[:, c], in float64."""
    for c in range(first, last):
        total = 0.0
        for n in range(x.shape[0]):
            row = x[n, c]
            for i in range(x.shape[2]):
                total += row[i]
        sums[c] = total


@loops
def sgd_step(
    w: Write[1], g: Read[1], velocity: Write[1], rate: float, decay: float, momentum: float, caffe: int,
    first: int, last: int,
):  # fmt: skip
    """Form "caffe": V ← μV + rate·g, w ← w − V;  form "torch": V ← μV + g, w ← w − rate·V."""
    w, g, velocity = w[first:last], g[first:last], velocity[first:last]
    kind = w.dtype.type
    inner, outer = (kind(rate), kind(1)) if caffe else (kind(1), kind(rate))
    decay, momentum = kind(decay), kind(momentum)
    for i in range(len(w)):
        moved = momentum * velocity[i] + inner * (g[i] + decay * w[i])
        velocity[i] = moved
        w[i] -= outer * moved


@loops
def adam_step(
    w: Write[1], g: Read[1], mean: Write[1], square: Write[1], rate: float, decay: float, b1: float, b2: float,
    eps: float, sum1: float, sum2: float, first: int, last: int,
):  # fmt: skip
    """One step of Adam (AdamW); `sum1` and `sum2` are 1 − β₁ᵗ and 1 − β₂ᵗ."""
    w, g, mean, square = w[first:last], g[first:last], mean[first:last], square[first:last]
    kind = w.dtype.type
    step, shrink, new1, new2 = kind(rate / sum1), kind(rate * decay), kind(1 - b1), kind(1 - b2)
    eps, scale = kind(eps), kind(1 / sum2)
    for i in range(len(w)):
        m = mean[i] + new1 * (g[i] - mean[i])
        v = square[i] + new2 * (g[i] * g[i] - square[i])
        mean[i], square[i] = m, v
        w[i] -= step * m / (np.sqrt(v * scale) + eps) + shrink * w[i]


def relu(x):
    return _elementwise(rectify, (x,), np.nan)


def relu6(x):
    return _elementwise(rectify, (x,), 6.0)


def relu_grad(gy, y):
    return _elementwise(rectify_grad, (gy, y), np.nan)


def relu6_grad(gy, y):
    return _elementwise(rectify_grad, (gy, y), 6.0)


def _elementwise(function, arrays, *numbers):
    """The result of ``function(*arrays, *numbers, result)`` over vectors; each worker thread has a share of them."""
    _require_one_shape(arrays)
    result = buffers.empty(arrays[0].shape, arrays[0].dtype)
    read = [a.reshape(-1) for a in arrays]
    share = partial(function, *read, *numbers, result.reshape(-1))
    workers.divide(result.size, share, moved=(len(read) + 1) * result.size // LIGHT)
    return result


def _require_one_shape(arrays):
    """Raise ValueError unless all arrays have one shape; else the loops would use foreign memory."""
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise ValueError(f"arrays of shapes {' and '.join(map(str, sorted(shapes)))} must have one shape")


def add_bias(y, b):
    return _on_maps(add_to_channels, y, b)


def bias_relu(y, b, most):
    return _on_maps(add_and_rectify, y, b, _top(most))


def _on_maps(function, y, b, *numbers):
    """y after ``function(y, b, *numbers)``, which writes into y; each worker thread has a share of its maps."""
    if b.shape != y.shape[1:2]:
        raise ValueError(f"a bias of shape {b.shape} does not fit maps of shape {y.shape}: give ({y.shape[1]},)")
    rows = _rows(y)
    maps = rows.shape[0] * rows.shape[1]
    workers.divide(maps, partial(function, rows, b, *numbers), moved=2 * y.size // LIGHT)
    return y


def bias_relu_grad(gy, y, most):
    _require_one_shape((gy, y))
    gx, sums = buffers.empty(y.shape, y.dtype), np.empty(y.shape[1], y.dtype)
    share = partial(rectify_and_sum, _rows(gy), _rows(y), _top(most), _rows(gx), sums)
    workers.divide(len(sums), share, moved=3 * y.size // LIGHT)
    return gx, sums


def _top(most):
    """NaN, which equals nothing, for ∞: an output may overflow to ∞."""
    return most if most < np.inf else np.nan


def channel_sums(x):
    rows, sums = _rows(x), np.empty(x.shape[1], x.dtype)
    workers.divide(len(sums), partial(sum_channels, rows, sums), moved=x.size // LIGHT)
    return sums


def _rows(x):
    """(N, C, H, W) as (N, C, H·W)."""
    return x.reshape(*x.shape[:2], -1)


def sgd(w, g, velocity, rate, decay, momentum, form):
    _update(sgd_step, (w, g, velocity), rate, decay, momentum, int(form == "caffe"))


def adam(w, g, mean, square, rate, decay, b1, b2, eps, steps):
    _update(adam_step, (w, g, mean, square), rate, decay, b1, b2, eps, 1 - b1**steps, 1 - b2**steps)


def _update(function, arrays, *numbers):
    """Call ``function(*arrays, *numbers)``, which writes into its arrays, over vectors, shared by the workers."""
    _require_one_shape(arrays)
    size = arrays[0].size
    share = partial(function, *[a.reshape(-1) for a in arrays], *numbers)
    workers.divide(size, share, moved=2 * len(arrays) * size // LIGHT)
