"""Activation functions of each element, softmax along an axis, and dropout."""

from .. import kernels as K
from ..arrays import backend, parallel
from ..engine.core import Function, Operand, Tensor
from ..kernels.textbook import narrowed, total, wide
from .arithmetic import Elementwise, unbroadcast


class ReLU(Elementwise):
    formula = "y = max(x, 0)"

    def forward(self, x):
        y = K.relu(x)
        self.save(y)  # the next layer saves the same array, so this needs no additional memory
        return y

    def backward(self, gy):
        (y,) = self.saved
        return K.relu_grad(gy, y)


class ReLU6(Elementwise):
    formula = "y = min(max(x, 0), 6)"

    def forward(self, x):
        y = K.relu6(x)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return K.relu6_grad(gy, y)


class PReLU(Elementwise):
    formula = "y = x where x > 0, else a · x"
    located_by = 1

    def forward(self, x, a):
        self.save(x, a)
        return x * backend.of(x).where(x > 0, a.dtype.type(1), a)

    def backward(self, gy):
        x, a = self.saved
        xp, positive = backend.of(x), x > 0
        gx = gy * xp.where(positive, a.dtype.type(1), a)
        # where(), not a multiplication by 0, because x may be infinite and ∞ · 0 is NaN
        ga = unbroadcast(gy * xp.where(positive, x.dtype.type(0), x), a.shape) if self.needs[1] else None
        return gx, ga


class Sigmoid(Elementwise):
    formula = "y = 1 / (1 + e^−x)      ∂y/∂x = y (1 − y)"

    def forward(self, x):
        xp = backend.of(x)
        e = xp.exp(-xp.abs(x))  # never overflows: the exponent is ≤ 0
        y = xp.where(x >= 0, 1, e) / (1 + e)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy * y * (1 - y)


class OverAxis(Function):
    """An operation in which each output depends on all elements along one axis."""

    def __init__(self, axis=1):
        self.axis = axis

    def infer(self, shape):
        return shape

    def _shifted(self, x):
        """`x` minus its maximum along the axis, so that no exponential overflows; an empty `x` stays empty."""
        x = wide(x)
        return x - x.max(axis=self.axis, keepdims=True) if x.size else x.copy()

    def locate(self, axis, place):
        return None if axis + 2 == self.axis % 4 else place  # along h or w, a cell depends on its whole column or row


class Softmax(OverAxis):
    formula = "y_c = e^{x_c} / Σ_c' e^{x_c'}      gx = y (gy − Σ gy·y)"

    def forward(self, x):
        e = backend.of(x).exp(self._shifted(x))
        y = narrowed(e / e.sum(axis=self.axis, keepdims=True), x.dtype)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return y * (gy - total(gy * y, self.axis, keepdims=True))


class LogSoftmax(OverAxis):
    formula = "y_c = x_c − log Σ_c' e^{x_c'}      gx = gy − softmax(x) Σ gy"

    def forward(self, x):
        xp, y = backend.of(x), self._shifted(x)
        if x.size:
            y = y - xp.log(xp.exp(y).sum(axis=self.axis, keepdims=True))
        y = narrowed(y, x.dtype)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy - backend.of(y).exp(y) * total(gy, self.axis, keepdims=True)


class Dropout(Function):
    formula = "y = x · m / (1 − p),  m ~ Bernoulli(1 − p) for each element"
    keeps_place = True

    def __init__(self, p=0.5):
        if not 0 <= p < 1:
            raise ValueError(f"the dropout probability is {p}: it must be at least 0 and below 1")
        self.p = p

    def infer(self, shape):
        return shape

    def forward(self, x):
        # drawn on the host, so that the CPU and a GPU drop the same elements
        kept = parallel.uniform(x.shape, "float32") >= self.p
        mask = backend.of(x).asarray(kept)
        self.save(mask)
        return x * mask * (1 / (1 - self.p))

    def backward(self, gy):
        (mask,) = self.saved
        return gy * mask * (1 / (1 - self.p))


def relu(x: Operand) -> Tensor:
    """max(x, 0).  The gradient at 0 is 0."""
    return ReLU.apply(x)


def relu6(x: Operand) -> Tensor:
    """min(max(x, 0), 6), of MobileNet (Howard et al. 2017).  The gradient at 0 and at 6 is 0."""
    return ReLU6.apply(x)


def leaky_relu(x: Operand, slope: float = 0.01) -> Tensor:
    """x where x is positive, else slope · x."""
    return PReLU.apply(x, slope)


def prelu(x: Operand, a: Operand) -> Tensor:
    """x where x is positive, else a · x.  `a` is learned and broadcasts to x; (C, 1, 1) gives one per channel."""
    return PReLU.apply(x, a)


def sigmoid(x: Operand) -> Tensor:
    """1 / (1 + e^−x), computed without overflow."""
    return Sigmoid.apply(x)


def softmax(x: Operand, axis: int = 1) -> Tensor:
    """Probabilities along `axis` (the channels), computed without overflow."""
    return Softmax.apply(x, axis=axis)


def log_softmax(x: Operand, axis: int = 1) -> Tensor:
    """The logarithm of :func:`softmax`, computed without overflow."""
    return LogSoftmax.apply(x, axis=axis)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each *element* with probability `p` and scale the rest by 1/(1 − p); the identity outside training."""
    return Dropout.apply(x, p=p) if training and p > 0 else x
