"""More backward passes with one wrong line: pooling, convolution and batch norm, the levels 4 to 6 of the bug dojo."""

import numpy as np

from .. import kernels as K
from .. import ops
from ..ops.conv import Conv2d
from ..ops.norm import BatchNorm2d
from ..ops.pool import AvgPool2d, MaxPool2d
from .sabotage import SABOTAGES, X, noise, sabotage, spaced

__all__ = ["SABOTAGES"]

W, B = noise(4, 2, 3, 3, seed=2), noise(4, seed=3)


def conv(**options):
    """A convolution with two groups, as a function of image, kernel and bias."""
    return lambda x, w, b: ops.conv2d(x, w, b, groups=2, padding=1, **options)


# Level 4: pooling.


@sabotage(
    4, "row and column of the maximum exchanged", MaxPool2d, lambda x: ops.max_pool2d(x, 3, stride=2),
    spaced(1, 2, 7, 7),
    clue="The taps of a window are numbered row by row: 0 1 2, 3 4 5, 6 7 8. In which row is tap 5?",
    why="divmod(tap, 3) gives the row first, then the column.",
)  # fmt: skip
class _:
    def right(self, gy):
        index, shape = self.saved
        gx = np.zeros(shape)
        for n, c, i, j in np.ndindex(gy.shape):
            u, v = divmod(int(index[n, c, i, j]), 3)
            gx[n, c, 2 * i + u, 2 * j + v] += gy[n, c, i, j]
        return gx

    def wrong(self, gy):
        index, shape = self.saved
        gx = np.zeros(shape)
        for n, c, i, j in np.ndindex(gy.shape):
            v, u = divmod(int(index[n, c, i, j]), 3)
            gx[n, c, 2 * i + u, 2 * j + v] += gy[n, c, i, j]
        return gx


@sabotage(
    4, "gradients of overlapping windows overwritten", MaxPool2d, lambda x: ops.max_pool2d(x, 3, stride=1),
    spaced(1, 2, 5, 5),
    clue="A large pixel is the maximum of several windows. Which of their gradients does it get?",
    why="A pixel that is the maximum of several windows gets the sum of their gradients.",
)  # fmt: skip
class _:
    def right(self, gy):
        index, shape = self.saved
        gx = np.zeros(shape)
        for n, c, i, j in np.ndindex(gy.shape):
            u, v = divmod(int(index[n, c, i, j]), 3)
            gx[n, c, i + u, j + v] += gy[n, c, i, j]
        return gx

    def wrong(self, gy):
        index, shape = self.saved
        gx = np.zeros(shape)
        for n, c, i, j in np.ndindex(gy.shape):
            u, v = divmod(int(index[n, c, i, j]), 3)
            gx[n, c, i + u, j + v] = gy[n, c, i, j]
        return gx


@sabotage(
    4, "mean over a window divided by its side", AvgPool2d, lambda x: ops.avg_pool2d(x, 2), noise(1, 2, 4, 6, seed=4),
    clue="How many pixels share the gradient of a window?",
    why="A window of 2×2 has 4 pixels: each gets a quarter.",
)  # fmt: skip
class _:
    def right(self, gy):
        (shape,) = self.saved
        each = gy / 4
        rows = each.repeat(2, axis=2)
        return rows.repeat(2, axis=3).reshape(shape)

    def wrong(self, gy):
        (shape,) = self.saved
        each = gy / 2
        rows = each.repeat(2, axis=2)
        return rows.repeat(2, axis=3).reshape(shape)


# Level 5: convolution.


@sabotage(
    5, "bias of the first image only", Conv2d, conv(stride=2), X, W, B,
    clue="The batch has two images. Does the report name the input x, the kernel or the bias?",
    why="The bias is added at every cell of every image, so its gradient is the sum over all of them.",
)  # fmt: skip
class _:
    def right(self, gy):
        x, w = self.saved
        gx = K.conv2d_grad_input(gy, w, x.shape, *self._where)
        gw = K.conv2d_grad_weight(gy, x, w.shape, *self._where)
        gb = gy.sum(axis=(0, 2, 3))
        return gx, gw, gb

    def wrong(self, gy):
        x, w = self.saved
        gx = K.conv2d_grad_input(gy, w, x.shape, *self._where)
        gw = K.conv2d_grad_weight(gy, x, w.shape, *self._where)
        gb = gy[0].sum(axis=(1, 2))
        return gx, gw, gb


@sabotage(
    5, "kernel not reversed in the input gradient", Conv2d, conv(stride=1), X, W, B,
    clue="`conv2d_grad_input` is the adjoint of the convolution: it turns the kernel by itself.",
    why="`conv2d_grad_input` takes the kernel of the forward pass as it is. Turned twice, it is not turned.",
)  # fmt: skip
class _:
    def right(self, gy):
        x, w = self.saved
        gx = K.conv2d_grad_input(gy, w, x.shape, *self._where)
        gw = K.conv2d_grad_weight(gy, x, w.shape, *self._where)
        gb = gy.sum(axis=(0, 2, 3))
        return gx, gw, gb

    def wrong(self, gy):
        x, w = self.saved
        gx = K.conv2d_grad_input(gy, w[:, :, ::-1, ::-1], x.shape, *self._where)
        gw = K.conv2d_grad_weight(gy, x, w.shape, *self._where)
        gb = gy.sum(axis=(0, 2, 3))
        return gx, gw, gb


# Level 6: batch norm.


@sabotage(
    6, "batch norm: mean taken for a constant", BatchNorm2d, ops.batch_norm, X, noise(4, seed=2), noise(4, seed=3),
    clue="Add a number to all pixels of a channel: the output does not change. What must the gradients add up to?",
    why="A pixel also moves the mean of its channel, and that moves all other pixels: the term Σ gy / m.",
)  # fmt: skip
class _:
    def right(self, gy):
        mean, var, x, gamma, eps = self.saved
        deviation = np.sqrt(var + eps)[:, None, None]
        xhat = (x - mean[:, None, None]) / deviation
        gbeta, ggamma = gy.sum(axis=(0, 2, 3)), (gy * xhat).sum(axis=(0, 2, 3))
        shared = gbeta[:, None, None] + xhat * ggamma[:, None, None]
        gx = gamma[:, None, None] / deviation * (gy - shared / (gy.size // 4))
        return gx, ggamma, gbeta

    def wrong(self, gy):
        mean, var, x, gamma, eps = self.saved
        deviation = np.sqrt(var + eps)[:, None, None]
        xhat = (x - mean[:, None, None]) / deviation
        gbeta, ggamma = gy.sum(axis=(0, 2, 3)), (gy * xhat).sum(axis=(0, 2, 3))
        shared = xhat * ggamma[:, None, None]
        gx = gamma[:, None, None] / deviation * (gy - shared / (gy.size // 4))
        return gx, ggamma, gbeta


@sabotage(
    6, "batch norm: variance taken for a constant", BatchNorm2d, ops.batch_norm, X, noise(4, seed=2), noise(4, seed=3),
    clue="Double all pixels of a channel: the output does not change. In which direction must the gradient be zero?",
    why="A pixel also moves the variance of its channel: the term x̂·Σ(gy·x̂) / m.",
)  # fmt: skip
class _:
    def right(self, gy):
        mean, var, x, gamma, eps = self.saved
        deviation = np.sqrt(var + eps)[:, None, None]
        xhat = (x - mean[:, None, None]) / deviation
        gbeta, ggamma = gy.sum(axis=(0, 2, 3)), (gy * xhat).sum(axis=(0, 2, 3))
        shared = gbeta[:, None, None] + xhat * ggamma[:, None, None]
        gx = gamma[:, None, None] / deviation * (gy - shared / (gy.size // 4))
        return gx, ggamma, gbeta

    def wrong(self, gy):
        mean, var, x, gamma, eps = self.saved
        deviation = np.sqrt(var + eps)[:, None, None]
        xhat = (x - mean[:, None, None]) / deviation
        gbeta, ggamma = gy.sum(axis=(0, 2, 3)), (gy * xhat).sum(axis=(0, 2, 3))
        shared = gbeta[:, None, None]
        gx = gamma[:, None, None] / deviation * (gy - shared / (gy.size // 4))
        return gx, ggamma, gbeta


@sabotage(
    6, "batch norm: mean of the gradients over all channels", BatchNorm2d, ops.batch_norm, X,
    noise(4, seed=2), noise(4, seed=3),
    clue="Over how many pixels does batch norm take the mean of one channel?",
    why="Each channel has its own mean, over N·H·W pixels: the size of gy divided by the number of channels, 4.",
)  # fmt: skip
class _:
    def right(self, gy):
        mean, var, x, gamma, eps = self.saved
        deviation = np.sqrt(var + eps)[:, None, None]
        xhat = (x - mean[:, None, None]) / deviation
        gbeta, ggamma = gy.sum(axis=(0, 2, 3)), (gy * xhat).sum(axis=(0, 2, 3))
        shared = (gbeta[:, None, None] + xhat * ggamma[:, None, None]) / (gy.size // 4)
        return gamma[:, None, None] / deviation * (gy - shared), ggamma, gbeta

    def wrong(self, gy):
        mean, var, x, gamma, eps = self.saved
        deviation = np.sqrt(var + eps)[:, None, None]
        xhat = (x - mean[:, None, None]) / deviation
        gbeta, ggamma = gy.sum(axis=(0, 2, 3)), (gy * xhat).sum(axis=(0, 2, 3))
        shared = (gbeta[:, None, None] + xhat * ggamma[:, None, None]) / gy.size
        return gamma[:, None, None] / deviation * (gy - shared), ggamma, gbeta
