"""What every operation of test_gradients.py is by definition: its value in plain NumPy, one line or the kernel's loops.

The keys are those of ``OPERATIONS``, and so are the arguments.
"""

import numpy as np

import minifcn as mf
from minifcn import kernels as K

UP = (1, 1)


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


def losses(scores, labels, weight=None, mask=None):
    """The (N, H, W) map of cross-entropy."""
    out, p = np.zeros(labels.shape), softmax(scores)
    for n, i, j in np.ndindex(labels.shape):
        y = labels[n, i, j]
        if y != 255 and (mask is None or mask[n, i, j]):
            out[n, i, j] = -(1 if weight is None else weight[y]) * np.log(p[n, y, i, j])
    return out


def dropped(x):
    mf.manual_seed(3)
    return x * (mf.backend.rng().random(x.shape, dtype="float32") >= 0.4) / 0.6


def conv(x, w, b=None, stride=UP, padding=(0, 0), dilation=UP, groups=1):
    y = K.conv2d.everywhere["reference"](x, w, stride, padding, dilation, groups)
    return y if b is None else y + b[:, None, None]


def conv_transpose(x, w, b):
    size = [2 * (n - 1) + k for n, k in zip(x.shape[2:], w.shape[2:])]
    y = np.zeros((len(x), w.shape[1], *size))
    for i, j in np.ndindex(*x.shape[2:]):
        y[:, :, 2 * i : 2 * i + w.shape[2], 2 * j : 2 * j + w.shape[3]] += np.einsum("nc,cokl->nokl", x[:, :, i, j], w)
    return y + b[:, None, None]


def definitions(labels):
    """{name of OPERATIONS: function of its arrays}."""
    loops = {name: kernel.everywhere["reference"] for name, kernel in K.KERNELS.items()}
    return {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "mul of equal shapes": np.multiply,
        "div": np.divide,
        "neg": np.negative,
        "pow": np.power,
        "square": np.square,
        "scalar on the left": lambda x: 2 - 3 / (x + 9),
        "exp": np.exp,
        "log": np.log,
        "sum": np.sum,
        "sum over axes": lambda x: x.sum(axis=(0, -1)),
        "mean": lambda x: x.mean(axis=1, keepdims=True),
        "min": lambda x: x.min(axis=(2, 3)),
        "abs": np.abs,
        "max": lambda x: x.max(axis=(2, 3)),
        "matmul": np.matmul,
        "matmul, batched and broadcast": np.matmul,
        "reshape": lambda x: x.reshape(4, -1),
        "transpose": lambda x: x.transpose(2, 0, 3, 1),
        "slice": lambda x: x[:, 1:3, ::2, 1],
        "index array with repeats": lambda x: np.stack([x[:, 0], x[:, 2], x[:, 0]], axis=1),
        "crop": lambda x: x[:, :, 1:4, 2:5],
        "pad": lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 3))),
        "concat": lambda a, b: np.concatenate([a, b], axis=1),
        "relu": lambda x: np.maximum(x, 0),
        "leaky relu": lambda x: np.where(x > 0, x, 0.2 * x),
        "prelu": lambda x, a: np.where(x > 0, x, a * x),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "softmax": softmax,
        "log_softmax": lambda x: np.log(softmax(x, axis=3)),
        "dropout": dropped,
        "interpolate up": lambda x: interpolated(x, 11, 12),
        "interpolate down": lambda x: interpolated(x, 3, 4),
        "local response norm": lambda x: response_norm(x, 3, 0.5),
        "local response norm, even": lambda x: response_norm(x, 4, 0.5),
        "batch norm": normalised,
        "batch norm, frozen": lambda x, g, b: normalised(x, g, b, np.arange(4.0), np.arange(4.0) + 1),
        "batch norm of all ranks": normalised,
        "conv2d": lambda x, w, b: conv(x, w, b, padding=(1, 1), groups=2),
        "conv2d, strided and dilated": lambda x, w: conv(x, w, stride=(2, 2), dilation=(2, 2)),
        "conv_transpose2d": conv_transpose,
        "max_pool2d": lambda x: loops["max_pool2d"](x, (3, 3), (2, 2), (1, 1), UP, True)[0],
        "avg_pool2d": lambda x: loops["avg_pool2d"](x, (3, 3), (2, 2), (1, 1), True, True, UP),
        "im2col": lambda x: loops["im2col"](x, (3, 2), (2, 2), (1, 1), UP),
        "col2im": lambda c: loops["col2im"](c, (2, 2, 5, 6), (3, 2), (2, 2), (1, 1), UP),
        "cross entropy, sum": lambda s: losses(s, labels).sum(),
        "cross entropy, valid": lambda s: (
            losses(s, labels, mask=labels > 0).sum() / ((labels > 0) & (labels < 4)).sum()
        ),
        "cross entropy, batch": lambda s: losses(s, labels, weight=[1, 2, 3, 0]).sum() / len(s),
        "cross entropy, map": lambda s: losses(s, labels),
    }
