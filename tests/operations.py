"""Every operation: its call, arrays to call it on, its value in plain NumPy, and a wrong version that must be caught.

The tests of gradients, of values, of positions and of the GPU take their cases from here, so a new operation needs one
entry in `OPERATIONS`.  Its definition is one line of NumPy, or the loops of a kernel.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from strategies import distinct, normal

import minifcn as mf
from minifcn import kernels as K
from minifcn import ops
from minifcn.arrays import backend
from minifcn.ops.activation import ReLU, ReLU6, Sigmoid
from minifcn.ops.arithmetic import Linear


class Operation(NamedTuple):
    """One call of an operation.

    `definition` takes the same arrays as `fn` and returns the right value.  `sabotaged` is a wrong version of the
    operation's class, made by :func:`wrong`, which the gradient check or the definition must catch.  The operations
    without one have their wrong versions in ``mutants.py``.
    """

    fn: Callable
    arrays: tuple
    definition: Callable
    sabotaged: type | None = None

    def check_value(self):
        """AssertionError if the call does not return what the definition says."""
        got, expected = self.fn(*map(mf.Tensor, self.arrays)).numpy(), self.definition(*self.arrays)
        assert got.shape == np.shape(expected), f"shape {got.shape}, by definition {np.shape(expected)}"
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def wrong(operation, **methods):
    """A version of the class `operation` with other methods: ``wrong(Exp, backward=lambda self, gy: gy)``."""
    return type(operation.__name__, (operation,), methods)


X = normal((2, 4, 5, 6), 1)
UP = (1, 1)
LABELS = np.random.default_rng(0).integers(0, 4, (2, 5, 6))
LABELS[0, 0] = 255
LOOPS = {name: kernel.everywhere["reference"] for name, kernel in K.KERNELS.items()}


def beside(t, constant):
    """A constant array where tensor t is; fractions in t's precision."""
    return backend.of(t.data).asarray(constant, dtype=t.dtype if constant.dtype.kind == "f" else None)


def seeded_dropout(x):
    mf.manual_seed(3)
    return ops.dropout(x, 0.4)


def dropped(x):
    mf.manual_seed(3)
    return x * (mf.backend.rng().random(x.shape, dtype="float32") >= 0.4) / 0.6


def cross_entropy(mask=None, **options):
    return lambda s: ops.cross_entropy(s, beside(s, LABELS), mask=None if mask is None else beside(s, mask), **options)


def softmax(x, axis=1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def response_norm(x, n, alpha):
    """y_c = x_c / (1 + α/n Σ x²)^¾ over n channels around c, of which n // 2 come before it."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(c - n // 2, 0) : c + (n - n // 2 - 1) + 1]
        y[:, c] = x[:, c] / (1 + alpha / n * (near**2).sum(axis=1)) ** 0.75
    return y


def normalised(x, gamma, beta, mean=None, var=None):
    mean = x.mean(axis=(0, 2, 3)) if mean is None else mean
    var = x.var(axis=(0, 2, 3)) if var is None else var
    gamma, beta, mean, var = (a[:, None, None] for a in (gamma, beta, mean, var))
    return gamma * (x - mean) / np.sqrt(var + 1e-5) + beta


def interpolated(x, h, w):
    """Linear along h, then along w; np.interp holds the border, as half-pixel centres want."""
    for axis, m in ((2, h), (3, w)):
        n = x.shape[axis]
        at = (np.arange(m) + 0.5) * n / m - 0.5
        x = np.apply_along_axis(lambda line, at=at, n=n: np.interp(at, np.arange(n), line), axis, x)
    return x


def losses(scores, labels=LABELS, weight=None, mask=None):
    """The (N, H, W) map of cross-entropy."""
    out, p = np.zeros(labels.shape), softmax(scores)
    for n, i, j in np.ndindex(labels.shape):
        y = labels[n, i, j]
        if y != 255 and (mask is None or mask[n, i, j]):
            out[n, i, j] = -(1 if weight is None else weight[y]) * np.log(p[n, y, i, j])
    return out


def conv(x, w, b=None, stride=UP, padding=(0, 0), dilation=UP, groups=1):
    y = LOOPS["conv2d"](x, w, stride, padding, dilation, groups)
    return y if b is None else y + b[:, None, None]


def conv_transpose(x, w, b):
    size = [2 * (n - 1) + k for n, k in zip(x.shape[2:], w.shape[2:])]
    y = np.zeros((len(x), w.shape[1], *size))
    for i, j in np.ndindex(*x.shape[2:]):
        y[:, :, 2 * i : 2 * i + w.shape[2], 2 * j : 2 * j + w.shape[3]] += np.einsum("nc,cokl->nokl", x[:, :, i, j], w)
    return y + b[:, None, None]


OPERATIONS = {
    "add": Operation(ops.add, (X, normal((4, 1, 6), 2)), np.add),
    "sub": Operation(ops.sub, (X, normal((5, 6), 2)), np.subtract),
    "mul": Operation(ops.mul, (X, normal((4, 1, 1), 2)), np.multiply),
    "mul of equal shapes": Operation(ops.mul, (X, normal(X.shape, 2)), np.multiply),
    "div": Operation(ops.div, (X, distinct((2, 1, 5, 6))), np.divide),
    "neg": Operation(ops.neg, (X,), np.negative),
    "pow": Operation(ops.pow, (np.abs(X) + 0.5, normal((5, 6), 2)), np.power),
    "square": Operation(lambda x: x**2, (X,), np.square),
    "scalar on the left": Operation(lambda x: 2 - 3 / (x + 9), (X,), lambda x: 2 - 3 / (x + 9)),
    "exp": Operation(ops.exp, (X,), np.exp),
    "log": Operation(ops.log, (np.abs(X) + 0.5,), np.log),
    "sum": Operation(ops.sum, (X,), np.sum),
    "sum over axes": Operation(lambda x: x.sum(axis=(0, -1)), (X,), lambda x: x.sum(axis=(0, -1))),
    "mean": Operation(lambda x: x.mean(axis=1, keepdims=True), (X,), lambda x: x.mean(axis=1, keepdims=True)),
    "min": Operation(lambda x: x.min(axis=(2, 3)), (distinct(X.shape),), lambda x: x.min(axis=(2, 3))),
    "abs": Operation(abs, (distinct(X.shape) - 0.5,), np.abs),
    "max": Operation(lambda x: x.max(axis=(2, 3)), (distinct(X.shape),), lambda x: x.max(axis=(2, 3))),
    "matmul": Operation(ops.matmul, (normal((3, 5), 1), normal((5, 4), 2)), np.matmul),
    "matmul, batched and broadcast": Operation(ops.matmul, (normal((2, 3, 5), 1), normal((5, 4), 2)), np.matmul),
    "linear": Operation(
        ops.linear,
        (normal((3, 5), 1), normal((4, 5), 2), normal(4, 3)),
        lambda x, w, b: np.einsum("nc,oc->no", x, w) + b,
        wrong(Linear, backward=lambda self, gy: (gy @ self.saved[1], gy.T @ self.saved[0], gy.mean(0))),
    ),
    "linear without bias, of one row": Operation(
        ops.linear, (normal((1, 2, 1, 5), 1), normal((4, 5), 2)), lambda x, w: np.einsum("abnc,oc->abno", x, w)
    ),
    "reshape": Operation(lambda x: ops.reshape(x, 4, -1), (X,), lambda x: x.reshape(4, -1)),
    "transpose": Operation(lambda x: ops.transpose(x, 2, 0, 3, 1), (X,), lambda x: x.transpose(2, 0, 3, 1)),
    "slice": Operation(lambda x: x[:, 1:3, ::2, 1], (X,), lambda x: x[:, 1:3, ::2, 1]),
    "index array with repeats": Operation(
        lambda x: x[:, np.array([0, 2, 0])], (X,), lambda x: np.stack([x[:, 0], x[:, 2], x[:, 0]], axis=1)
    ),
    "crop": Operation(lambda x: ops.crop(x, offset=(1, 2), size=(3, 3)), (X,), lambda x: x[:, :, 1:4, 2:5]),
    "pad": Operation(lambda x: ops.pad(x, (1, 0, 2, 3)), (X,), lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 3)))),
    "concat": Operation(
        lambda a, b: ops.concat([a, b]), (X, normal((2, 3, 5, 6), 2)), lambda a, b: np.concatenate([a, b], axis=1)
    ),
    "relu": Operation(ops.relu, (distinct(X.shape),), lambda x: np.maximum(x, 0)),
    "relu6": Operation(
        ops.relu6,
        (10 * distinct(X.shape),),
        lambda x: np.clip(x, 0, 6),
        sabotaged=wrong(ReLU6, forward=lambda self, x: ReLU.forward(self, x)),
    ),
    "leaky relu": Operation(
        lambda x: ops.leaky_relu(x, 0.2), (distinct(X.shape),), lambda x: np.where(x > 0, x, 0.2 * x)
    ),
    "prelu": Operation(ops.prelu, (distinct(X.shape), normal((4, 1, 1), 2)), lambda x, a: np.where(x > 0, x, a * x)),
    "sigmoid": Operation(
        ops.sigmoid, (5 * X,), lambda x: 1 / (1 + np.exp(-x)), wrong(Sigmoid, backward=lambda self, gy: gy)
    ),
    "softmax": Operation(ops.softmax, (X,), softmax),
    "log_softmax": Operation(lambda x: ops.log_softmax(x, axis=3), (X,), lambda x: np.log(softmax(x, axis=3))),
    "dropout": Operation(seeded_dropout, (X,), dropped),
    "interpolate up": Operation(lambda x: ops.interpolate(x, (11, 12)), (X,), lambda x: interpolated(x, 11, 12)),
    "interpolate down": Operation(lambda x: ops.interpolate(x, (3, 4)), (X,), lambda x: interpolated(x, 3, 4)),
    "local response norm": Operation(
        lambda x: ops.local_response_norm(x, 3, 0.5), (X,), lambda x: response_norm(x, 3, 0.5)
    ),
    "local response norm, even": Operation(
        lambda x: ops.local_response_norm(x, 4, 0.5), (X,), lambda x: response_norm(x, 4, 0.5)
    ),
    "batch norm": Operation(ops.batch_norm, (X, normal(4, 2), normal(4, 3)), normalised),
    "batch norm, frozen": Operation(
        lambda x, g, b: ops.batch_norm(x, g, b, beside(x, np.arange(4.0)), beside(x, np.arange(4.0) + 1)),
        (X, normal(4, 2), normal(4, 3)),
        lambda x, g, b: normalised(x, g, b, np.arange(4.0), np.arange(4.0) + 1),
    ),
    "batch norm and relu": Operation(
        lambda x, g, b: ops.norm.BatchNormReLU2d.apply(x, g, b, most=0.8),
        (X, normal(4, 2), normal(4, 3)),
        lambda x, g, b: np.clip(normalised(x, g, b), 0, 0.8),
        wrong(ops.norm.BatchNormReLU2d, backward=lambda self, gy: K.batch_norm_grad(gy, self.saved[1:])),
    ),
    "batch norm of all ranks": Operation(ops.norm.SyncBatchNorm2d.apply, (X, normal(4, 2), normal(4, 3)), normalised),
    "conv2d": Operation(
        lambda *t: ops.conv2d(*t, padding=1, groups=2),
        (X, normal((4, 2, 3, 3), 2), normal(4, 3)),
        lambda *a: conv(*a, padding=(1, 1), groups=2),
    ),
    "conv2d, strided and dilated": Operation(
        lambda *t: ops.conv2d(*t, stride=2, dilation=2),
        (X, normal((3, 4, 2, 3), 2)),
        lambda *a: conv(*a, stride=(2, 2), dilation=(2, 2)),
    ),
    "conv2d and relu": Operation(
        lambda *t: ops.conv.ConvReLU2d.apply(*t, padding=1, groups=2, most=3.0),
        (X, normal((4, 2, 3, 3), 2), normal(4, 3)),
        lambda *a: np.clip(conv(*a, padding=(1, 1), groups=2), 0, 3),
        wrong(ops.conv.ConvReLU2d, _finish=lambda self, y, x, w, b: ops.conv.ConvReLU2d._finish(self, y, x, w, -b)),
    ),
    "conv_transpose2d": Operation(
        lambda *t: ops.conv_transpose2d(*t, stride=2), (X, normal((4, 2, 4, 4), 2), normal(2, 3)), conv_transpose
    ),
    "max_pool2d": Operation(
        lambda x: ops.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        (distinct(X.shape),),
        lambda x: LOOPS["max_pool2d"](x, (3, 3), (2, 2), (1, 1), UP, True)[0],
    ),
    "avg_pool2d": Operation(
        lambda x: ops.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        (X,),
        lambda x: LOOPS["avg_pool2d"](x, (3, 3), (2, 2), (1, 1), True, True, UP),
    ),
    "avg_pool2d of four": Operation(
        lambda x: ops.avg_pool2d(x, 2), (X,), lambda x: LOOPS["avg_pool2d"](x, (2, 2), (2, 2), (0, 0), False, True, UP)
    ),
    "im2col": Operation(
        lambda x: ops.im2col(x, (3, 2), 2, 1), (X,), lambda x: LOOPS["im2col"](x, (3, 2), (2, 2), (1, 1), UP)
    ),
    "col2im": Operation(
        lambda c: ops.col2im(c, (5, 6), (3, 2), 2, 1),
        (normal((2, 12, 12), 1),),
        lambda c: LOOPS["col2im"](c, (2, 2, 5, 6), (3, 2), (2, 2), (1, 1), UP),
    ),
    "cross entropy, sum": Operation(cross_entropy(), (X,), lambda s: losses(s).sum()),
    "cross entropy, valid": Operation(
        cross_entropy(LABELS > 0, reduction="valid"),
        (X,),
        lambda s: losses(s, mask=LABELS > 0).sum() / ((LABELS > 0) & (LABELS < 4)).sum(),
    ),
    "cross entropy, batch": Operation(
        cross_entropy(reduction="batch", weight=[1, 2, 3, 0]),
        (X,),
        lambda s: losses(s, weight=[1, 2, 3, 0]).sum() / len(s),
    ),
    "cross entropy, map": Operation(cross_entropy(reduction="none"), (X,), losses),
}
