"""Operations that move values without changing them: reshape, transpose, slice, crop, pad, concat."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from weakref import ref

from ..arrays import backend
from ..arrays.types import Shape
from ..engine.core import Function, Operand, Tensor
from ..geometry import crop_offset


class Rearrangement(Function):
    """An operation that moves values: it computes nothing and saves only shapes."""

    def count(self, out_shape, *in_shapes):
        return 0

    def locate(self, axis, *maps):
        return None


class Reshape(Rearrangement):
    formula = "the same values in C order, in another shape"

    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self.save(x.shape)
        return x.reshape(self.shape)

    def backward(self, gy):
        (shape,) = self.saved
        return gy.reshape(shape)


class Transpose(Rearrangement):
    formula = "y[…] = x[…] with the axes permuted"

    def __init__(self, axes=None):
        self.axes = axes

    def forward(self, x):
        self.save(x.ndim)
        return x.transpose(self.axes)

    def backward(self, gy):
        (ndim,) = self.saved
        if self.axes is None:
            return gy.transpose()
        inverse = sorted(range(ndim), key=lambda i: self.axes[i] % ndim)
        return gy.transpose(inverse)


class GetItem(Rearrangement):
    formula = "y = x[index]"

    def __init__(self, index):
        self.index = index

    def forward(self, x):
        self.save(x.shape)
        return x[self.index]

    def backward(self, gy):
        (shape,) = self.saved
        xp = backend.of(gy)
        gx = xp.zeros(shape, gy.dtype)
        if self._is_basic():
            gx[self.index] = gy  # integers and slices select each element at most once
        else:
            xp.add.at(gx, self.index, gy)  # an index array can select an element twice; its gradients add up
        return gx

    def _is_basic(self):
        index = self.index if isinstance(self.index, tuple) else (self.index,)
        return all(i is None or i is ... or isinstance(i, int | slice) for i in index)

    def locate(self, axis, place):
        index = self.index if isinstance(self.index, tuple) else (self.index,)
        if any(i is ... for i in index):
            at = next(k for k, i in enumerate(index) if i is ...)
            index = (*index[:at], *[slice(None)] * (5 - len(index)), *index[at + 1 :])
        if not all(isinstance(i, slice) for i in index):
            return None
        along = index[axis + 2] if len(index) > axis + 2 else slice(None)
        start, _, step = along.indices(self.in_shapes[0][axis + 2])
        return place.window(1, step, -start) if step > 0 else None


class Crop(Rearrangement):
    formula = "y[…, i, j] = x[…, i + o_h, j + o_w]"
    like: ref[Tensor] | None = None  # the tensor that gives the size, for a graph of any size (ONNX)

    def __init__(self, offset, size):
        self.offset, self.size = offset, size

    def infer(self, shape):
        return (*shape[:2], *self.size)

    def forward(self, x):
        self.save(x.shape)
        (top, left), (h, w) = self.offset, self.size
        return x[:, :, top : top + h, left : left + w]

    def backward(self, gy):
        (shape,) = self.saved
        (top, left), (h, w) = self.offset, self.size
        gx = backend.zeros(gy, shape)
        gx[:, :, top : top + h, left : left + w] = gy
        return gx

    def locate(self, axis, place):
        return place.shift(self.offset[axis])


class Pad(Rearrangement):
    formula = "y = x, with zeros around it"

    def __init__(self, padding):
        if len(padding) != 4 or min(padding) < 0:
            raise ValueError(f"padding is {padding}: give four numbers (top, bottom, left, right), none negative")
        self.padding = tuple(padding)

    def infer(self, shape):
        top, bottom, left, right = self.padding
        return (*shape[:2], shape[2] + top + bottom, shape[3] + left + right)

    def forward(self, x):
        top, _, left, _ = self.padding
        self.save(x.shape)
        y = backend.zeros(x, self.infer(x.shape))
        y[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
        return y

    def backward(self, gy):
        (shape,) = self.saved
        top, _, left, _ = self.padding
        return gy[:, :, top : top + shape[2], left : left + shape[3]]

    def locate(self, axis, place):
        return place.shift(-self.padding[2 * axis])


class Concat(Rearrangement):
    formula = "y = [x₁; x₂; …] along an axis"
    located_by = None
    keeps_place = True

    def __init__(self, axis=1):
        self.axis = axis

    def infer(self, *shapes):
        axis = self.axis % len(shapes[0])
        return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])

    def forward(self, *xs):
        self.save(*(x.shape[self.axis] for x in xs))
        return backend.of(*xs).concatenate(xs, axis=self.axis)

    def backward(self, gy):
        edges = [0]
        for n in self.saved:
            edges.append(edges[-1] + n)
        index = [slice(None)] * gy.ndim
        parts = []
        for first, last in pairwise(edges):
            index[self.axis] = slice(first, last)
            parts.append(gy[tuple(index)])
        return tuple(parts)

    def locate(self, axis, *maps):
        return Function.locate(self, axis, *maps) if self.axis % 4 < 2 else None


def reshape(x: Operand, *shape: int | Shape) -> Tensor:
    """The same values in C order: ``reshape(x, 2, -1)`` or ``reshape(x, (2, -1))``."""
    shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return Reshape.apply(x, shape=tuple(shape))


def transpose(x: Operand, *axes: int | Shape) -> Tensor:
    """`x` with its axes permuted, or reversed if no `axes` are given."""
    axes = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    return Transpose.apply(x, axes=tuple(axes) if axes else None)


def getitem(x: Operand, index: Any) -> Tensor:
    """``x[index]`` for slices, integers or index arrays.  After slices of h and w, the positions are still known."""
    return GetItem.apply(x, index=index)


def crop(
    x: Operand, like: Tensor | None = None, offset: Sequence[int] | None = None, size: Sequence[int] | None = None
) -> Tensor:
    """Cut a rectangle out of x, (N, C, H, W).

    Parameters
    ----------
    x : Tensor
    like : Tensor
        Cut out the part of x that covers this tensor.  ``mf.geometry.crop_offset`` derives the offset from the
        positions of the two on the image that both were computed from.
    offset, size : (h, w)
        Instead of `like`: the first row and column, and the size.

    Raises
    ------
    GeometryError
        If no offset of whole cells aligns the two, or `like` reaches outside x.  The message says why.
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    if like is not None and offset is None and size is None:
        offset, size = crop_offset(x, like, inside=True), like.shape[2:]
    elif like is not None or offset is None or size is None:
        raise ValueError("give crop either like=z, from which it derives the offset, or offset=(t, l) and size=(h, w)")
    if any(o < 0 or o + n > m for o, n, m in zip(offset, size, x.shape[2:])):
        raise ValueError(f"a crop of {tuple(size)} at {tuple(offset)} reaches outside a map of {x.shape[2:]}")
    node = Crop.make(offset=tuple(offset), size=tuple(size))
    if like is not None:
        node.like = ref(like)
    return node(x)


def pad(x: Operand, padding: Sequence[int]) -> Tensor:
    """Add zeros around x, (N, C, H, W); `padding` is (top, bottom, left, right)."""
    return Pad.apply(x, padding=padding)


def concat(tensors: Sequence[Operand], axis: int = 1) -> Tensor:
    """Join `tensors` along `axis` (by default the channels)."""
    return Concat.apply(*tensors, axis=axis)
