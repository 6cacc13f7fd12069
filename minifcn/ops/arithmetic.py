"""Elementwise arithmetic with NumPy's broadcasting, reductions over axes, the matrix product and the linear map."""

from math import prod

from .. import kernels as K
from ..arrays import backend
from ..arrays.types import Axis
from ..engine.core import Function, Operand, Tensor
from ..kernels.textbook import total


def unbroadcast(g, shape):
    """The adjoint of broadcasting from `shape` to ``g.shape``: the sum over every axis that was added or repeated."""
    if g.shape == shape:
        return g
    g = total(g, tuple(range(g.ndim - len(shape))))
    repeated = tuple(axis for axis, n in enumerate(shape) if n == 1 and g.shape[axis] != 1)
    return total(g, repeated, keepdims=True) if repeated else g


class Elementwise(Function):
    """An operation on each element, after its operands are broadcast to one shape."""

    pointwise = True
    located_by: int | None = None


class Add(Elementwise):
    formula = "y = a + b"

    def forward(self, a, b):
        self.save(a.shape, b.shape)
        return a + b

    def backward(self, gy):
        a_shape, b_shape = self.saved
        return unbroadcast(gy, a_shape), unbroadcast(gy, b_shape)


class Sub(Elementwise):
    formula = "y = a − b"

    def forward(self, a, b):
        self.save(a.shape, b.shape)
        return a - b

    def backward(self, gy):
        a_shape, b_shape = self.saved
        return unbroadcast(gy, a_shape), unbroadcast(-gy, b_shape)


class Mul(Elementwise):
    formula = "y = a · b"

    def forward(self, a, b):
        self.save(a, b)
        return a * b

    def backward(self, gy):
        a, b = self.saved
        return (
            unbroadcast(gy * b, a.shape) if self.needs[0] else None,
            unbroadcast(gy * a, b.shape) if self.needs[1] else None,
        )


class Div(Elementwise):
    formula = "y = a / b"

    def forward(self, a, b):
        self.save(a, b)
        return a / b

    def backward(self, gy):
        a, b = self.saved
        return unbroadcast(gy / b, a.shape), unbroadcast(-gy * (a / b / b), b.shape) if self.needs[1] else None


class Neg(Elementwise):
    formula = "y = −x"

    def forward(self, x):
        return -x

    def backward(self, gy):
        return -gy


class Pow(Elementwise):
    formula = "y = a^b      ∂y/∂a = b·a^(b−1)    ∂y/∂b = a^b · log a"

    def forward(self, a, b):
        self.save(a, b)
        return a**b

    def backward(self, gy):
        a, b = self.saved
        xp = backend.of(a)
        ga = gb = None
        if self.needs[0]:
            flat = b == 0  # x⁰ is constant, so its slope is 0, also at x = 0 and at infinity; b·x^(b−1) gives NaN there
            ga = unbroadcast(gy * b * xp.where(flat, 1, a) ** xp.where(flat, 1, b - 1), a.shape)
        if self.needs[1]:
            flat = (a == 0) & (b >= 0)  # 0^b is 0 for every b > 0, so its slope in b is 0, but 0 · log 0 would be NaN
            log = xp.log(xp.where(flat, 1, a))  # NaN where a < 0, because a^b is defined there only for integers b
            gb = unbroadcast(gy * a**b * log, b.shape)
        return ga, gb


class Exp(Elementwise):
    formula = "y = e^x"

    def forward(self, x):
        y = backend.of(x).exp(x)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy * y


class Log(Elementwise):
    formula = "y = log x"

    def forward(self, x):
        self.save(x)
        return backend.of(x).log(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy / x


class Reduction(Function):
    """A reduction over some axes; the output keeps its position on the image if h and w are not among them."""

    def __init__(self, axis=None, keepdims=False):
        self.axis, self.keepdims = axis, keepdims

    def axes(self, ndim):
        axis = range(ndim) if self.axis is None else self.axis if isinstance(self.axis, tuple) else (self.axis,)
        return tuple(a % (ndim or 1) for a in axis)

    def infer(self, shape):
        axes = self.axes(len(shape))
        kept = [1 if i in axes else n for i, n in enumerate(shape) if self.keepdims or i not in axes]
        return tuple(kept)

    def expand(self, g, shape):
        """`g` with the reduced axes restored, each of length 1."""
        axes = self.axes(len(shape))
        return g.reshape([1 if i in axes else n for i, n in enumerate(shape)])

    def count(self, out_shape, in_shape):
        return prod(in_shape)

    def locate(self, axis, place):
        return None if axis + 2 in self.axes(4) else place


class Sum(Reduction):
    formula = "y = Σ x"

    def forward(self, x):
        self.save(x.shape)
        return total(x, self.axis, self.keepdims)

    def backward(self, gy):
        (shape,) = self.saved
        return backend.of(gy).broadcast_to(self.expand(gy, shape), shape)


class Mean(Reduction):
    formula = "y = Σ x / n"

    def forward(self, x):
        self.save(x.shape)
        return x.mean(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy):
        (shape,) = self.saved
        n = prod(shape[a] for a in self.axes(len(shape)) if shape) or 1
        return backend.of(gy).broadcast_to(self.expand(gy / n, shape), shape)


class Abs(Elementwise):
    formula = "y = |x|      ∂y/∂x = sign x"

    def forward(self, x):
        self.save(x)
        return backend.of(x).abs(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy * backend.of(x).sign(x)


class Max(Reduction):
    formula = "y = max x      (the gradient is shared equally among equal maxima)"
    extreme = "max"

    def forward(self, x):
        y = getattr(x, self.extreme)(axis=self.axis, keepdims=self.keepdims)
        self.save(x, y)
        return y

    def backward(self, gy):
        x, y = self.saved
        largest = (x == self.expand(y, x.shape)) | (x != x)  # if there are NaNs, y is NaN and they share the gradient
        share = gy / largest.sum(axis=self.axis, keepdims=self.keepdims)
        return backend.of(gy).where(largest, self.expand(share.astype(gy.dtype), x.shape), gy.dtype.type(0))


class Min(Max):
    formula = "y = min x      (the gradient is shared equally among equal minima)"
    extreme = "min"


class MatMul(Function):
    formula = "Y = A B      gA = gY Bᵀ    gB = Aᵀ gY"

    def forward(self, a, b):
        self.save(a, b)
        return K.matmul(a, b)

    def backward(self, gy):
        a, b = self.saved
        rows = a[None] if a.ndim == 1 else a
        columns = b[:, None] if b.ndim == 1 else b
        gy = gy[..., None] if b.ndim == 1 else gy
        gy = gy[..., None, :] if a.ndim == 1 else gy
        ga = unbroadcast(K.matmul(gy, columns.swapaxes(-1, -2)), rows.shape).reshape(a.shape) if self.needs[0] else None
        gb = unbroadcast(K.matmul(rows.swapaxes(-1, -2), gy), columns.shape).reshape(b.shape) if self.needs[1] else None
        return ga, gb

    def count_macs(self, out_shape, a_shape, b_shape):
        return prod(out_shape) * a_shape[-1]

    def count(self, out_shape, a_shape, b_shape):
        return 0

    def infer(self, a_shape, b_shape):
        return (*a_shape[:-1], b_shape[-1]) if len(a_shape) == len(b_shape) == 2 else None

    def locate(self, axis, *maps):
        return None


class Linear(Function):
    formula = "Y = X Wᵀ + b      gX = gY W    gW = gYᵀ X    gb = Σ gY"

    def forward(self, x, w, b=None):
        if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[1] or (b is not None and b.shape != w.shape[:1]):
            given = [a.shape for a in (x, w, b) if a is not None]
            raise ValueError(f"linear takes x (…, C), w (O, C) and b (O,), not arrays of shapes {given}")
        self.save(x, w)
        self.biased = b is not None
        y = K.matmul(x, w.T)
        return y + b if self.biased else y

    def backward(self, gy):
        x, w = self.saved
        n, (outputs, inputs) = prod(x.shape[:-1]), w.shape
        rows, g = x.reshape(n, inputs), gy.reshape(n, outputs)
        gx = K.matmul(g, w).reshape(x.shape) if self.needs[0] else None
        gw = K.matmul(g.T, rows) if self.needs[1] else None
        return (gx, gw, total(g, 0) if self.needs[2] else None) if self.biased else (gx, gw)

    def count_macs(self, out_shape, x_shape, w_shape, b_shape=None):
        return prod(out_shape) * x_shape[-1]

    def count(self, out_shape, x_shape, w_shape, b_shape=None):
        return prod(out_shape) if b_shape else 0

    def infer(self, x_shape, w_shape, b_shape=None):
        return (*x_shape[:-1], w_shape[0])


def add(a: Operand, b: Operand) -> Tensor:
    """a + b."""
    return Add.apply(a, b)


def sub(a: Operand, b: Operand) -> Tensor:
    """a − b."""
    return Sub.apply(a, b)


def mul(a: Operand, b: Operand) -> Tensor:
    """a · b, elementwise."""
    return Mul.apply(a, b)


def div(a: Operand, b: Operand) -> Tensor:
    """a / b, elementwise."""
    return Div.apply(a, b)


def neg(x: Operand) -> Tensor:
    """−x."""
    return Neg.apply(x)


def pow(a: Operand, b: Operand) -> Tensor:
    """a^b, elementwise; the gradient with respect to b is NaN where a < 0."""
    return Pow.apply(a, b)


def abs(x: Operand) -> Tensor:
    """``|x|``, element by element.  The gradient at 0 is 0."""
    return Abs.apply(x)


def exp(x: Operand) -> Tensor:
    """e^x."""
    return Exp.apply(x)


def log(x: Operand) -> Tensor:
    """The natural logarithm."""
    return Log.apply(x)


def sum(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis` (an int, a tuple, or None for all)."""
    return Sum.apply(x, axis=axis, keepdims=keepdims)


def mean(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis` (an int, a tuple, or None for all)."""
    return Mean.apply(x, axis=axis, keepdims=keepdims)


def max(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The maximum over `axis` (an int, a tuple, or None for all); equal maxima share the gradient."""
    return Max.apply(x, axis=axis, keepdims=keepdims)


def min(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The minimum over `axis` (an int, a tuple, or None for all); equal minima share the gradient."""
    return Min.apply(x, axis=axis, keepdims=keepdims)


def matmul(a: Operand, b: Operand) -> Tensor:
    """The matrix product over the last two axes; the leading axes are broadcast.  A vector on the left is a row, one on
    the right a column; the result does not have the vector's axis."""
    return MatMul.apply(a, b)


def linear(x: Operand, w: Operand, b: Operand | None = None) -> Tensor:
    """A fully connected layer, y = x Wᵀ + b, over the last axis.

    §3.1 of the paper reads such a layer as a convolution whose kernel covers the whole input.

    Parameters
    ----------
    x : Tensor
        (…, C).
    w : Tensor
        (O, C).
    b : Tensor, optional
        (O,).

    Returns
    -------
    Tensor
        (…, O).

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np, minifcn as mf
    >>> x, w, b = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.0, -1.0]]), np.array([10.0, 0.0])
    >>> mf.ops.linear(x, w, b).numpy().tolist()
    [[21.0, -2.0]]
    """
    return Linear.apply(*((x, w) if b is None else (x, w, b)))
