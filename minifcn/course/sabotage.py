"""Backward passes with one wrong line, beside the right ones, for the bug dojo and the checks: numbers and channels."""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import ops
from ..engine.core import Function
from ..ops.activation import LogSoftmax, ReLU, Sigmoid, Softmax
from ..ops.arithmetic import Add, MatMul, Mean, Sub
from ..ops.loss import CrossEntropy


@dataclass(frozen=True)
class Sabotage:
    """An operation whose backward pass has one wrong line.

    ``fn(*arrays)`` calls the operation `op`, so that overriding `op` sabotages it.  `right` and `wrong` are the two
    backward passes; `clue` is a hint, and `why` explains the mistake.
    """

    level: int
    what: str
    op: type[Function]
    fn: Callable
    arrays: tuple
    right: Callable
    wrong: Callable
    clue: str
    why: str

    def operation(self, sabotaged=True):
        """The class `op` with the wrong backward pass, or with the right one as it is shown."""
        backward = self.wrong if sabotaged else self.right
        return type(self.op.__name__, (self.op,), {"backward": backward})

    def lines(self, sabotaged=True):
        """The lines of the backward pass, as they are shown."""
        source = textwrap.dedent(inspect.getsource(self.wrong if sabotaged else self.right))
        return source.replace("def wrong", "def backward").replace("def right", "def backward").rstrip().split("\n")

    @property
    def line(self):
        """The number of the wrong line, counted from 1."""
        pairs = zip(self.lines(), self.lines(sabotaged=False), strict=True)
        (number,) = (n for n, (wrong, right) in enumerate(pairs, start=1) if wrong != right)
        return number


SABOTAGES: list[Sabotage] = []


def sabotage(level, what, op, fn, *arrays, clue, why):
    """A decorator for a class with the methods ``right`` and ``wrong``: it enters them into `SABOTAGES`."""

    def register(pair):
        SABOTAGES.append(Sabotage(level, what, op, fn, arrays, pair.right, pair.wrong, clue, why))
        return pair

    return register


def noise(*shape, seed):
    """Normally distributed numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def spaced(*shape):
    """Numbers that differ by at least 0.1, none of them near 0: no ties for a maximum, no kink of ReLU."""
    n = int(np.prod(shape))
    return (np.random.default_rng(0).permutation(n) - n // 2 + 0.5).reshape(shape) / 10


X = noise(2, 4, 6, 7, seed=1)
LABELS = np.random.default_rng(0).integers(0, 4, (2, 6, 7))
LABELS[:, 0] = 255


# Level 1: one number in, one number out.


@sabotage(
    1, "upstream ignored", Sigmoid, ops.sigmoid, X,
    clue="What must happen to a gradient that arrives twice as large?",
    why="The chain rule multiplies the operation's own slope by the gradient that arrives.",
)  # fmt: skip
class _:
    def right(self, gy):
        (y,) = self.saved
        slope = y * (1 - y)
        return gy * slope

    def wrong(self, gy):
        (y,) = self.saved
        slope = y * (1 - y)
        return slope


@sabotage(
    1, "ReLU masked by the sign of the gradient", ReLU, ops.relu, spaced(2, 4, 6, 7),
    clue="Which inputs does ReLU let through? Do these depend on the gradient that arrives?",
    why="ReLU's slope is 1 where its output is positive. A negative gradient passes there, too.",
)  # fmt: skip
class _:
    def right(self, gy):
        passes = self.saved[0] > 0
        return gy * passes

    def wrong(self, gy):
        passes = gy > 0
        return gy * passes


@sabotage(
    1, "sign of the second operand lost", Sub, ops.sub, X, X + 1,
    clue="In which direction does a − b move if b grows?",
    why="∂(a − b)/∂b is −1.",
)  # fmt: skip
class _:
    def right(self, gy):
        ga = gy
        gb = -gy
        return ga, gb

    def wrong(self, gy):
        ga = gy
        gb = gy
        return ga, gb


# Level 2: sums, means and products.


@sabotage(
    2, "gradient transposed", MatMul, ops.matmul, noise(3, 3, seed=1), noise(3, 3, seed=2),
    clue="All matrices here are 3×3, so shapes do not help. Write down one element of the gradient of B.",
    why="Y = AB has gB = Aᵀ·gY. gYᵀ·A is its transpose.",
)  # fmt: skip
class _:
    def right(self, gy):
        a, b = self.saved
        ga = gy @ b.T
        gb = a.T @ gy
        return ga, gb

    def wrong(self, gy):
        a, b = self.saved
        ga = gy @ b.T
        gb = gy.T @ a
        return ga, gb


@sabotage(
    2, "mean without its 1/n", Mean, lambda x: x.mean(axis=(2, 3)), X,
    clue="Divide a number of the report by its neighbour: what is the factor?",
    why="Each of the n numbers moves their mean by 1/n.",
)  # fmt: skip
class _:
    def right(self, gy):
        (shape,) = self.saved
        n = shape[2] * shape[3]
        each = gy[:, :, None, None] / n
        return np.broadcast_to(each, shape)

    def wrong(self, gy):
        (shape,) = self.saved
        n = 1
        each = gy[:, :, None, None] / n
        return np.broadcast_to(each, shape)


@sabotage(
    2, "broadcast averaged instead of summed", Add, ops.add, X, noise(4, 1, 1, seed=2),
    clue="A number of b is added to many numbers of a. What does a change of it do to the sum of all outputs?",
    why="A number that is used many times gets the sum of the gradients of all its uses, not their mean.",
)  # fmt: skip
class _:
    def right(self, gy):
        ga = gy
        gb = gy.sum(axis=(0, 2, 3)).reshape(4, 1, 1)
        return ga, gb

    def wrong(self, gy):
        ga = gy
        gb = gy.mean(axis=(0, 2, 3)).reshape(4, 1, 1)
        return ga, gb


# Level 3: softmax and the loss.


@sabotage(
    3, "softmax without the coupling of channels", Softmax, ops.softmax, X,
    clue="The probabilities of a pixel add up to 1. What must the gradients of its scores add up to?",
    why="Each score moves the probabilities of all classes: the sum runs over the channels.",
)  # fmt: skip
class _:
    def right(self, gy):
        (y,) = self.saved
        shared = (gy * y).sum(axis=1, keepdims=True)
        return y * (gy - shared)

    def wrong(self, gy):
        (y,) = self.saved
        shared = gy * y
        return y * (gy - shared)


@sabotage(
    3, "log-softmax that takes Σ gy for 1", LogSoftmax, ops.log_softmax, X,
    clue="In a loss, the gradient that arrives is −1 in one channel. Here it is any array.",
    why="gx = gy − softmax(x)·Σ gy. The sum is a constant only if a loss with one true class comes next.",
)  # fmt: skip
class _:
    def right(self, gy):
        (y,) = self.saved
        total = gy.sum(axis=1, keepdims=True)
        return gy - np.exp(y) * total

    def wrong(self, gy):
        (y,) = self.saved
        total = 1
        return gy - np.exp(y) * total


@sabotage(
    3, "cross-entropy: one-hot not subtracted", CrossEntropy, lambda s: ops.cross_entropy(s, LABELS), X,
    clue="A step against the gradient must raise the score of the true class.",
    why="∂ℓ/∂s = p − [c = true class]. Without the one-hot vector every score is lowered.",
)  # fmt: skip
class _:
    def right(self, gy):
        prob = self.saved[0]
        true = self.labels[:, None] == np.arange(4)[:, None, None]
        gs = prob - true
        return gs * (self.weights * gy)[:, None]

    def wrong(self, gy):
        prob = self.saved[0]
        true = np.zeros(prob.shape)
        gs = prob - true
        return gs * (self.weights * gy)[:, None]
