"""Sabotaged operations, each with the check that must catch it; they show what a gradient check can and cannot find.

A wrong *backward* is caught by ``gradcheck``.  A wrong *function* whose gradient is consistent with it passes
``gradcheck``; only a comparison with the definition (conformance) or the adjoint identity catches it.
``python tests/mutants.py`` prints the table.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from strategies import distinct, normal

import minifcn as mf
from minifcn import kernels as K
from minifcn import ops
from minifcn.course.sabotage_layers import SABOTAGES
from minifcn.engine.tables import Table
from minifcn.kernels import reference
from minifcn.ops.activation import Dropout, PReLU, Softmax
from minifcn.ops.arithmetic import Abs, Div, Exp, Log, Max, Min, Mul, Neg, Pow, Sum
from minifcn.ops.conv import Col2im, Conv2d, ConvTranspose2d, Im2col
from minifcn.ops.interpolate import Interpolate
from minifcn.ops.loss import CrossEntropy
from minifcn.ops.norm import BatchNorm2d, FrozenBatchNorm2d, LocalResponseNorm, SyncBatchNorm2d
from minifcn.ops.pool import AvgPool2d, MaxPool2d
from minifcn.ops.shape import Concat, Crop, GetItem, Pad, Reshape, Transpose


@dataclass(frozen=True)
class Mutant:
    """A sabotaged operation.

    ``fn(*tensors)`` uses the operation `op` through ``apply``, so that overriding `op` with `sabotaged` sabotages it.
    For the check "conformance", ``expected`` is the right value of ``fn`` on `arrays`, from the reference loops or from
    a formula.  For the check "adjoint", ``fn`` is linear and ``expected`` is its right adjoint.
    """

    what: str
    check: str
    op: type
    sabotaged: type
    fn: Any
    arrays: tuple
    expected: Any = None

    def run(self, sabotaged):
        """Run the check on the true or the sabotaged operation; raises AssertionError if it finds a mistake."""
        with mf.override(**({self.op.__name__: self.sabotaged} if sabotaged else {})):
            if self.check == "gradcheck":
                mf.gradcheck(self.fn, *self.arrays)
            elif self.check == "adjoint":
                mf.adjoint_check(self.fn, self.expected, self.arrays[0].shape)
            else:
                got = self.fn(*map(mf.Tensor, self.arrays)).numpy()
                assert got.shape == self.expected.shape, f"shape {got.shape}, expected {self.expected.shape}"
                np.testing.assert_allclose(got, self.expected, rtol=1e-10, atol=1e-12)

    def gradient_is_consistent(self):
        """Whether gradcheck accepts the sabotaged operation."""
        with mf.override(**{self.op.__name__: self.sabotaged}):
            return mf.gradcheck(self.fn, *self.arrays)


MUTANTS = []


def wrong_backward(what, op, fn, *arrays):
    """A decorator that registers a mutant of `op`; the function is its ``backward(self, gy, *true_gradients)``."""

    def register(change):
        def backward(self, gy):
            true = op.backward(self, gy.copy())
            return change(self, gy, *(true if isinstance(true, tuple) else (true,)))

        sabotaged = type(op.__name__, (op,), {"backward": backward})
        MUTANTS.append(Mutant(what, "gradcheck", op, sabotaged, fn, arrays))
        return change

    return register


def wrong_function(what, check, op, fn, arrays, expected):
    """A decorator that registers a class as a mutant of `op`: another function, with the right gradient of that."""

    def register(sabotaged):
        MUTANTS.append(Mutant(what, check, op, sabotaged, fn, arrays, expected))
        return sabotaged

    return register


# Wrong gradients.  The bug dojo has some, as the lines of a whole backward pass.

MUTANTS += [Mutant(s.what, "gradcheck", s.op, s.operation(), s.fn, s.arrays) for s in SABOTAGES]

X = normal((2, 4, 6, 7), 1)
W = normal((4, 2, 3, 3), 2)
B = normal(4, 3)
CONV = dict(stride=2, padding=1, dilation=1, groups=2)
LABELS = np.random.default_rng(0).integers(0, 4, (2, 6, 7))
LABELS[:, 0] = 255
TRANSPOSED = (
    lambda x, w: ops.conv_transpose2d(x, w, stride=1, padding=1),
    normal((1, 3, 5, 4), 1),
    normal((3, 3, 3, 3), 2),
)


def conv(**options):
    return lambda x, w, b: ops.conv2d(x, w, b, **(CONV | options))


def nll(**options):
    return lambda s: ops.cross_entropy(s, LABELS, **options)


@wrong_backward("gradient zeroed", Exp, ops.exp, X)
def _(self, gy, gx):
    return gx * 0


@wrong_backward("gradient doubled", Mul, ops.mul, X, X + 1)
def _(self, gy, ga, gb):
    return 2 * ga, 2 * gb


@wrong_backward("quotient rule without its square", Div, ops.div, X, distinct(X.shape))
def _(self, gy, ga, gb):
    return ga, gb * self.saved[1]


@wrong_backward("power rule with the exponent not lowered", Pow, lambda x: x**3, X + 3)
def _(self, gy, ga, gb):
    return ga * self.saved[0], gb


@wrong_backward("sum reaching one element only", Sum, lambda x: x.sum(axis=1), X)
def _(self, gy, gx):
    return gx * (np.arange(4) == 0)[:, None, None]


@wrong_backward("maximum shared by everybody", Max, lambda x: x.max(axis=1), distinct(X.shape))
def _(self, gy, gx):
    return np.broadcast_to(gy[:, None] / 4, gx.shape)


@wrong_backward("negative slope forgotten", PReLU, lambda x: ops.leaky_relu(x, 0.2), distinct(X.shape))
def _(self, gy, gx, ga):
    return gy * (self.saved[0] > 0), ga


@wrong_backward("dropout scaled forward, not back", Dropout, lambda x: (mf.manual_seed(0), ops.dropout(x, 0.4))[1], X)
def _(self, gy, gx):
    return gx * 0.6


@wrong_backward("stride ignored in the weight gradient", Conv2d, conv(), X, W, B)
def _(self, gy, gx, gw, gb):
    x = self.saved[0][:, :, : gy.shape[2], : gy.shape[3]]
    return gx, K.conv2d_grad_weight(gy, x, gw.shape, (1, 1), (1, 1), (1, 1), 2), gb


@wrong_backward("dilation ignored in the weight gradient", Conv2d, conv(stride=1, padding=2, dilation=2), X, W, B)
def _(self, gy, gx, gw, gb):
    return gx, K.conv2d_grad_weight(gy, self.saved[0], gw.shape, (1, 1), (1, 1), (1, 1), 2), gb


@wrong_backward("H and W of the weight gradient swapped", Conv2d, conv(), X, W, B)
def _(self, gy, gx, gw, gb):
    return gx, gw.swapaxes(2, 3).copy(), gb


@wrong_backward("input gradient shifted by one cell", Conv2d, conv(), X, W, B)
def _(self, gy, gx, gw, gb):
    return np.roll(gx, 1, axis=(2, 3)), gw, gb


@wrong_backward("groups mixed", Conv2d, conv(), X, W, B)
def _(self, gy, gx, gw, gb):
    return gx[:, [2, 3, 0, 1]], gw, gb


@wrong_backward("bias summed over the wrong axes", Conv2d, conv(), X, W, B)
def _(self, gy, gx, gw, gb):
    return gx, gw, gy.sum(axis=(0, 3))[:, 0]


@wrong_backward(
    "transposed convolution passing its gradient through itself",
    ConvTranspose2d,
    *TRANSPOSED,
)
def _(self, gy, gx, gw):
    return K.conv2d_grad_input(gy, self.saved[1], gy.shape, (1, 1), (1, 1), (1, 1), 1), gw


@wrong_backward(
    "x and gy exchanged in the weight gradient of the transposed convolution",
    ConvTranspose2d,
    *TRANSPOSED,
)
def _(self, gy, gx, gw):
    return gx, K.conv2d_grad_weight(gy, self.saved[0], gw.shape, (1, 1), (1, 1), (1, 1), 1)


@wrong_backward(
    "ties duplicated: every equal maximum receives the gradient",
    MaxPool2d,
    lambda x: ops.max_pool2d(ops.concat([x, x], axis=3), (2, 4), stride=2),  # ties without a kink: both copies are x
    distinct((1, 2, 4, 4)),
)
def _(self, gy, gx):
    return gx + np.roll(gx, gx.shape[3] // 2, axis=3)


@wrong_backward("maximum one tap off", MaxPool2d, lambda x: ops.max_pool2d(x, 3, stride=2), distinct((1, 2, 7, 7)))
def _(self, gy, gx):
    return np.roll(gx, 1, axis=3)


@wrong_backward(
    "overlapping windows capped at the largest gradient",
    MaxPool2d,
    lambda x: ops.max_pool2d(x, 3, stride=1),
    distinct((1, 1, 5, 5)),
)
def _(self, gy, gx):
    return np.clip(gx, -abs(gy).max(), abs(gy).max()) * (gx != 0)


@wrong_backward(
    "clipped windows divided by the whole window",
    AvgPool2d,
    lambda x: ops.avg_pool2d(x, 3, stride=2, ceil_mode=True),
    normal((1, 2, 6, 6), 1),
)
def _(self, gy, gx):
    return K.avg_pool2d_grad(gy, (1, 2, 7, 7), (3, 3), (2, 2), (0, 0), True, True, (1, 1))[:, :, :6, :6]


@wrong_backward(
    "synchronised batch norm: gradients of γ and β exchanged",
    SyncBatchNorm2d,
    SyncBatchNorm2d.apply,
    X,
    normal(4, 2),
    normal(4, 3),
)
def _(self, gy, gx, ggamma, gbeta):
    return gx, gbeta, ggamma


@wrong_backward(
    "frozen batch norm: γ's gradient from raw x",
    FrozenBatchNorm2d,
    lambda x, g, b: ops.batch_norm(x, g, b, np.arange(4.0), np.arange(4.0) + 1),
    X,
    normal(4, 2),
    normal(4, 3),
)
def _(self, gy, gx, ggamma, gbeta, *_):
    return gx, (gy * self.saved[0]).sum(axis=(0, 2, 3)), gbeta, None, None


@wrong_backward(
    "local response norm: a term missing", LocalResponseNorm, lambda x: ops.local_response_norm(x, 3, 0.9), X
)
def _(self, gy, gx):
    _, s, _, _, beta = self.saved
    return gy * s**-beta


@wrong_backward("cross-entropy: class weights forgotten", CrossEntropy, nll(weight=[1, 2, 3, 4]), X)
def _(self, gy, gs):
    return K.softmax_loss_grad(self.saved[0], self.labels, (self.weights > 0) * gy)


@wrong_backward("cross-entropy: void given a gradient", CrossEntropy, nll(), X)
def _(self, gy, gs):
    return K.softmax_loss_grad(self.saved[0], self.labels, np.ones_like(self.weights) * gy)


@wrong_backward("cross-entropy: mean in the loss, sum in the gradient", CrossEntropy, nll(reduction="valid"), X)
def _(self, gy, gs):
    return gs / self.scale


@wrong_backward("negation without its sign", Neg, lambda x: -x, X)
def _(self, gy, gx):
    return -gx


@wrong_backward("logarithm to the base 10", Log, ops.log, X**2 + 1)
def _(self, gy, gx):
    return gx / np.log(10)


@wrong_backward("absolute value without its sign", Abs, abs, distinct(X.shape))
def _(self, gy, gx):
    return gy


@wrong_backward("gradient of the minimum given to the maximum", Min, lambda x: x.min(axis=1), distinct(X.shape))
def _(self, gy, gx):
    return gx[:, ::-1]


@wrong_backward("reshaped back column by column", Reshape, lambda x: x.reshape(6, 4), normal((4, 6), 1))
def _(self, gy, gx):
    return gy.reshape(gx.shape, order="F")


@wrong_backward("padding cut off at the other end", Pad, lambda x: ops.pad(x, (1, 0, 2, 0)), X)
def _(self, gy, gx):
    return gy[:, :, :-1, :-2]


@wrong_backward("parts of a concatenation exchanged", Concat, lambda a, b: ops.concat([a, b]), X, X + 1)
def _(self, gy, ga, gb):
    return gb, ga


@wrong_backward("crop put back at the corner", Crop, lambda x: ops.crop(x, offset=(1, 2), size=(3, 3)), X)
def _(self, gy, gx):
    return np.roll(gx, (-1, -2), axis=(2, 3))


@wrong_backward("transposition not inverted", Transpose, lambda x: ops.transpose(x, 1, 2, 0), normal((3, 3, 3), 1))
def _(self, gy, gx):
    return gy.transpose(self.axes)


@wrong_backward("repeated index counted once", GetItem, lambda x: x[np.array([0, 0, 1])], normal((3, 2), 1))
def _(self, gy, gx):
    gx = np.zeros_like(gx)
    gx[self.index] = gy
    return gx


@wrong_backward("interpolation given back to the nearest cell", Interpolate, lambda x: ops.interpolate(x, (12, 14)), X)
def _(self, gy, gx):
    return gy[:, :, ::2, ::2] + gy[:, :, 1::2, ::2] + gy[:, :, ::2, 1::2] + gy[:, :, 1::2, 1::2]


@wrong_backward("columns given back one cell off", Im2col, lambda x: ops.im2col(x, 3, 2, 1), X)
def _(self, gy, gx):
    return np.roll(gx, 1, axis=2)


# Wrong functions, with consistent gradients.

NEGATIVE = -abs(normal((1, 2, 5, 5), 1)) - 1
SQUARE = normal((1, 2, 6, 8), 4)
KERNEL = normal((2, 2, 3, 3), 5)


def convolved(x, w, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1):
    return reference.conv2d(x, w, stride, padding, dilation, groups)


@wrong_function(
    "kernel flipped",
    "conformance",
    Conv2d,
    lambda x, w: ops.conv2d(x, w, padding=1),
    (SQUARE, KERNEL),
    convolved(SQUARE, KERNEL),
)
class _(Conv2d):
    def forward(self, x, w):
        return super().forward(x, w[:, :, ::-1, ::-1])

    def backward(self, gy):
        gx, gw = super().backward(gy)
        return gx, gw if gw is None else gw[:, :, ::-1, ::-1]


@wrong_function(
    "kernel flipped, seen without reference",
    "adjoint",
    Conv2d,
    lambda x: ops.conv2d(x, KERNEL, padding=1),
    (SQUARE,),
    lambda y: ops.conv_transpose2d(y, KERNEL, padding=1),
)
class _(MUTANTS[-1].sabotaged):
    pass


@wrong_function(
    "H and W of the stride swapped",
    "conformance",
    Conv2d,
    lambda x, w: ops.conv2d(x, w, stride=(2, 1), padding=1),
    (normal((1, 2, 7, 7), 4), KERNEL),
    convolved(normal((1, 2, 7, 7), 4), KERNEL, (2, 1)),
)
class _(Conv2d):
    def __init__(self, stride=1, padding=0, dilation=1, groups=1):
        super().__init__(stride[::-1], padding, dilation, groups)


@wrong_function(
    "padding forgotten on one side",
    "conformance",
    Conv2d,
    lambda x, w: ops.conv2d(x, w, padding=1),
    (SQUARE, KERNEL),
    convolved(SQUARE, KERNEL),
)
class _(Conv2d):
    def forward(self, x, w):
        self.size = x.shape
        self.padding = (0, 0)
        return super().forward(np.pad(x, [(0, 0), (0, 0), (2, 0), (2, 0)]), w)

    def backward(self, gy):
        gx, gw = super().backward(gy)
        return gx if gx is None else gx[:, :, 2:, 2:], gw


@wrong_function(
    "groups interleaved instead of adjacent",
    "conformance",
    Conv2d,
    lambda x, w: ops.conv2d(x, w, padding=1, groups=2),
    (X, W),
    convolved(X, W, groups=2),
)
class _(Conv2d):
    def forward(self, x, w):
        return super().forward(x[:, [0, 2, 1, 3]], w)

    def backward(self, gy):
        gx, gw = super().backward(gy)
        return gx if gx is None else gx[:, [0, 2, 1, 3]], gw


@wrong_function(
    "transposed convolution shifted by one cell",
    "adjoint",
    ConvTranspose2d,
    lambda y: ops.conv_transpose2d(y, KERNEL, stride=2, padding=1),
    (normal((1, 2, 3, 4), 1),),
    lambda x: ops.conv2d(x, KERNEL, stride=2, padding=1),
)
class _(ConvTranspose2d):
    def forward(self, x, w):
        return np.roll(super().forward(x, w), 1, axis=3)

    def backward(self, gy):
        return super().backward(np.roll(gy, -1, axis=3))


@wrong_function(
    "max pooling padded with zeros",
    "conformance",
    MaxPool2d,
    lambda x: ops.max_pool2d(x, 3, stride=2, padding=1),
    (NEGATIVE,),
    reference.max_pool2d(NEGATIVE, (3, 3), (2, 2), (1, 1), (1, 1), False)[0],
)
class _(MaxPool2d):
    def forward(self, x):
        padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
        y, index = K.max_pool2d(padded, self.kernel_size, self.stride, (0, 0), self.dilation, False)
        self.save(index, padded.shape)
        return y

    def backward(self, gy):
        index, shape = self.saved
        gx = K.max_pool2d_grad(gy, index, shape, self.kernel_size, self.stride, (0, 0), self.dilation, False)
        return gx[:, :, 1:-1, 1:-1]


@wrong_function(
    "floor where Caffe takes the ceiling",
    "conformance",
    MaxPool2d,
    lambda x: ops.max_pool2d(x, 2, ceil_mode=True),
    (distinct((1, 2, 5, 7)),),
    reference.max_pool2d(distinct((1, 2, 5, 7)), (2, 2), (2, 2), (0, 0), (1, 1), True)[0],
)
class _(MaxPool2d):
    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        super().__init__(kernel_size, stride, padding, dilation, False)


@wrong_function(
    "average of a clipped window over the whole window",
    "conformance",
    AvgPool2d,
    lambda x: ops.avg_pool2d(x, 3, stride=2, ceil_mode=True),
    (SQUARE,),
    reference.avg_pool2d(SQUARE, (3, 3), (2, 2), (0, 0), True, True, (1, 1)),
)
class _(AvgPool2d):
    def forward(self, x):
        self.save(x.shape)
        return self.summed(x)

    def summed(self, x):
        padded = np.pad(x, [(0, 0), (0, 0), (0, 1), (0, 1)])
        return K.avg_pool2d(padded, (3, 3), (2, 2), (0, 0), False, True, (1, 1))

    def backward(self, gy):
        n, c, h, w = self.saved[0]
        return K.avg_pool2d_grad(gy, (n, c, h + 1, w + 1), (3, 3), (2, 2), (0, 0), False, True, (1, 1))[:, :, :-1, :-1]


def true_nll(labels):
    weights = (labels != 255).astype(float)
    return reference.softmax_loss(X, np.where(labels == 255, 0, labels), weights)[0].sum()


@wrong_function("void counted as class 0", "conformance", CrossEntropy, nll(), (X,), np.array(true_nll(LABELS)))
class _(CrossEntropy):
    def __init__(self, labels, weights, scale):
        super().__init__(labels, np.ones_like(weights), scale)


@wrong_function("mean for sum", "conformance", CrossEntropy, nll(), (X,), np.array(true_nll(LABELS)))
class _(CrossEntropy):
    def __init__(self, labels, weights, scale):
        super().__init__(labels, weights, scale / weights.sum())


@wrong_function("log to the base 2", "conformance", CrossEntropy, nll(), (X,), np.array(true_nll(LABELS)))
class _(CrossEntropy):
    def __init__(self, labels, weights, scale):
        super().__init__(labels, weights / np.log(2), scale)


@wrong_function(
    "local response norm: α not divided by n",
    "conformance",
    LocalResponseNorm,
    lambda x: ops.local_response_norm(x, 3, 0.9),
    (X,),
    reference.local_response_norm(X, 3, 0.9, 0.75, 1.0)[0],
)
class _(LocalResponseNorm):
    def __init__(self, size, alpha, beta, k):
        super().__init__(size, alpha * size, beta, k)


@wrong_function(
    "batch norm without ε inside the root",
    "conformance",
    BatchNorm2d,
    lambda x, g, b: ops.batch_norm(x, g, b, eps=1e-3),
    (X, normal(4, 2), normal(4, 3)),
    reference.batch_norm(X, normal(4, 2), normal(4, 3), 1e-3)[0],
)
class _(BatchNorm2d):
    def __init__(self, eps):
        super().__init__(0.0)


@wrong_function(
    "softmax over the rows instead of the channels",
    "conformance",
    Softmax,
    ops.softmax,
    (X,),
    np.exp(X) / np.exp(X).sum(axis=1, keepdims=True),
)
class _(Softmax):
    def __init__(self, axis):
        super().__init__(2)


def aligned_corners(xp, n, m, dtype):
    centre = xp.arange(m) * ((n - 1) / max(m - 1, 1))
    return xp.maximum(1 - abs(centre[:, None] - xp.arange(n)[None, :]), 0).astype(dtype)


@wrong_function(
    "interpolation with aligned corners",
    "conformance",
    Interpolate,
    lambda x: ops.interpolate(x, (1, 4)),
    (np.array([[[[0.0, 4.0]]]]),),
    np.array([[[[0.0, 1.0, 3.0, 4.0]]]]),
)
class _(Interpolate):
    def forward(self, x):
        rows, columns = (aligned_corners(np, n, m, x.dtype) for n, m in zip(x.shape[2:], self.size))
        self.save(rows, columns)
        return rows @ x @ columns.T


@wrong_function(
    "columns with the taps before the channels",
    "conformance",
    Im2col,
    lambda x: ops.im2col(x, 3, 1, 1),
    (X,),
    reference.im2col(X, (3, 3), (1, 1), (1, 1), (1, 1)),
)
class _(Im2col):
    def forward(self, x):
        return super().forward(x).reshape(2, 4, 9, -1).swapaxes(1, 2).reshape(2, 36, -1)

    def backward(self, gy):
        return super().backward(gy.reshape(2, 9, 4, -1).swapaxes(1, 2).reshape(2, 36, -1))


@wrong_function(
    "col2im that averages instead of adding",
    "adjoint",
    Col2im,
    lambda c: ops.col2im(c, (6, 7), 3, 1, 1),
    (normal((2, 36, 42), 1),),
    lambda x: ops.im2col(x, 3, 1, 1),
)
class _(Col2im):
    def share(self):
        ones = np.ones((1, 36, 42))
        return 1 / K.col2im(ones, (1, 4, 6, 7), (3, 3), (1, 1), (1, 1), (1, 1))

    def forward(self, cols):
        return super().forward(cols) * self.share()

    def backward(self, gy):
        return super().backward(gy * self.share())


def main():
    """Print the mutants, and the check that catches each."""
    checks = {"gradcheck": "gradcheck", "adjoint": "the adjoint identity", "conformance": "the definition"}
    print(f"{len(MUTANTS)} sabotaged operations\n")
    print(Table({"operation": m.op.__name__, "sabotage": m.what, "caught by": checks[m.check]} for m in MUTANTS))


if __name__ == "__main__":
    main()
