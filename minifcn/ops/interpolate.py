"""Bilinear interpolation to any size: one small matrix per axis, whose transpose is the gradient."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import floor, prod

from .. import kernels as K
from ..arrays import backend
from ..arrays.types import Array, Pair
from ..engine.core import Function, Operand, Tensor
from ..geometry import Region
from ..kernels.shapes import pair, require_maps
from ..kernels.textbook import wide

BLOCK = 512  # pixels of each side of a block of a result


class Interpolate(Function):
    formula = "Y = R_h X R_wᵀ      (each row of R holds the two weights of one output cell)"

    def __init__(self, size):
        self.size = pair(size, 1, "size")

    def infer(self, shape):
        return (*shape[:2], *self.size)

    def forward(self, x):
        require_maps("interpolate", x)
        rows, columns = self.matrices(x)
        self.save(rows, columns)
        return _weighted(rows, x, columns.T)

    def matrices(self, x):
        """R_h and R_w for the maps x."""
        return [linear_weights(backend.of(x), n, m, wide(x).dtype) for n, m in zip(x.shape[2:], self.size)]

    def backward(self, gy):
        rows, columns = self.saved
        return _weighted(rows.T, gy, columns)

    def count(self, out_shape, x_shape):
        return 8 * prod(out_shape)

    def locate(self, axis, place):
        return place.resize(self.in_shapes[0][axis + 2], self.size[axis])


def _weighted(rows, x, columns):
    """``rows @ x @ columns``, where an infinite or NaN value with a weight of 0 does not count (0 · ∞ would be NaN)."""
    xp = backend.of(x)
    finite = xp.isfinite(x)
    if finite.all():
        return K.matmul(K.matmul(rows, wide(x)), columns).astype(x.dtype, copy=False)
    y = K.matmul(K.matmul(rows, xp.where(finite, wide(x), 0)), columns).astype(x.dtype, copy=False)
    uses = [(w > 0).astype(y.dtype) for w in (rows, columns)]
    kinds = (x == xp.inf, x == -xp.inf, x != x)
    up, down, unknown = (uses[0] @ kind.astype(y.dtype) @ uses[1] > 0 for kind in kinds)
    y[up], y[down] = xp.inf, -xp.inf
    y[unknown | (up & down)] = xp.nan
    return y


def linear_weights(xp, n, m, dtype, outputs=slice(None), inputs=slice(None)):
    """The (m, n) matrix of linear interpolation from n cells to m, with half-pixel centres, clamped at the border.

    Output cell i has its centre at ``(i + ½)·n/m − ½`` of the input.

    Parameters
    ----------
    xp : module
        numpy or cupy.
    n, m : int
    dtype : dtype
    outputs, inputs : slice
        The rows and the columns of the matrix to make.
    """
    centre = (xp.arange(m)[outputs] + 0.5) * (n / m) - 0.5
    centre = xp.clip(centre, 0, n - 1)
    distance = xp.abs(centre[:, None] - xp.arange(n)[inputs][None, :])  # (m, n)
    return xp.maximum(1 - distance, 0).astype(dtype)


def in_blocks(x: Array, size: Sequence[int]) -> Iterator[tuple[Region, Array]]:
    """The maps x (N, C, h, w) interpolated to `size` (H, W), as (region, values) for squares that cover the result.

    Together they are the result of :func:`interpolate`, whose intermediate arrays and matrices are as large as it.
    """
    axes = [list(_spans(backend.of(x), n, m, wide(x).dtype)) for n, m in zip(x.shape[2:], size)]
    for (rows, above, vertical), (columns, before, horizontal) in product(*axes):
        region = Region(rows.start, rows.stop, columns.start, columns.stop)
        yield region, _weighted(vertical, x[:, :, above, before], horizontal.T)


def _spans(xp, n, m, dtype):
    """Up to `BLOCK` of m output cells, the input cells around them, and their weights; until all are done."""
    for begin in range(0, m, BLOCK):
        outputs = slice(begin, min(begin + BLOCK, m))
        first, last = ((i + 0.5) * (n / m) - 0.5 for i in (begin, outputs.stop - 1))
        inputs = slice(max(floor(first), 0), min(floor(last) + 2, n))
        yield outputs, inputs, linear_weights(xp, n, m, dtype, outputs, inputs)


def interpolate(x: Operand, size: Pair) -> Tensor:
    """Resize (N, C, H, W) to `size` (h, w) bilinearly, with half-pixel centres, clamped at the border.

    It computes what PyTorch's ``interpolate(mode="bilinear", align_corners=False)`` does.  For integer factors it
    equals a transposed convolution with a bilinear kernel, except at the border, where that fades to zero.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    size : (int, int)
        Rows and columns of the output.
    """
    return Interpolate.apply(x, size=size)
