"""Matrix products in pieces that BLAS likes.

OpenBLAS multiplies small matrices in place, without first copying both operands into its own order; with few rows that
copy costs as much as the product.  (16×27) by (27×4096) runs at 33 GFLOP/s at once and at 103 in two pieces, its
transpose (16×4096) by (4096×27) at 27 and at 90.  Pieces are a stack of matrices: one call, so that threads do not wait
for each other between them.
"""

import numpy as np

from ...arrays import buffers
from . import workers

SMALL = 10**6  # multiply-adds that OpenBLAS multiplies in place
NARROWEST = 64  # cells of a piece: where the matrix is so large that fewer fit, copying pays


def matmul(a, b):
    """``a @ b``, the columns of b shared out over the workers.

    BLAS is limited to one thread meanwhile, so the bits do not depend on what other threads of the process do.
    """
    columns = b.shape[-1] if min(a.ndim, b.ndim) > 1 else 1
    shares = workers.shares(columns, NARROWEST)
    if len(shares) < 2:
        return workers.run(lambda _: a @ b, [None])[0]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = buffers.empty((*lead, a.shape[-2], columns), np.result_type(a, b))

    def share_of_columns(share):
        np.matmul(a, b[..., slice(*share)], out=y[..., slice(*share)])

    workers.run(share_of_columns, shares, moved=a.size + b.size + y.size)
    return y


def product(a, b, out):
    """``out[...] = a @ b`` for stacks of matrices, b wide: (…, m, k) by (…, k, cells)."""
    cells, pieces, size = _pieces(b.shape[-1], a.shape[-2] * a.shape[-1])
    if pieces == 1:
        return np.matmul(a, b, out=out)
    np.matmul(a[..., None, :, :], _cut(b, pieces, size), out=_cut(out, pieces, size))
    if pieces * size < cells:
        np.matmul(a, b[..., pieces * size :], out=out[..., pieces * size :])
    return out


def summed_product(a, b):
    """``a @ bᵀ``, both wide: (…, m, cells) by (…, n, cells), summed over the cells."""
    if a.shape[-2] < b.shape[-2]:  # the taller one first
        return summed_product(b, a).swapaxes(-1, -2)
    cells, pieces, size = _pieces(a.shape[-1], a.shape[-2] * b.shape[-2])
    if pieces == 1:
        return a @ b.swapaxes(-1, -2)
    sums = (_cut(a, pieces, size) @ _cut(b, pieces, size).swapaxes(-1, -2)).sum(axis=-3)
    if pieces * size < cells:
        sums += a[..., pieces * size :] @ b[..., pieces * size :].swapaxes(-1, -2)
    return sums


def _pieces(cells, each):
    """(cells, pieces, cells of a piece) for `each` multiply-adds a cell."""
    widest = SMALL // max(each, 1)
    if cells <= widest or widest < NARROWEST:
        return cells, 1, cells
    pieces = -(-cells // widest)
    return cells, pieces, cells // pieces


def _cut(x, pieces, size):
    """(…, rows, cells) as (…, pieces, rows, size), a view without the rest."""
    x = x[..., : pieces * size]
    return x.reshape(*x.shape[:-1], pieces, size).swapaxes(-2, -3)
