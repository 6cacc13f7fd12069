"""Matrix products in pieces that are small enough for OpenBLAS's fast path.

OpenBLAS first copies the operands of a large product into an order of its own; for a matrix with few rows that copy
costs as much as the product.  It multiplies small matrices without the copy.  (16×27) by (27×4096) runs at 33 GFLOP/s
as one product and at 103 in two pieces; (16×4096) by (4096×27) at 27 and at 90.  The pieces are a stack of matrices in
one call of NumPy, so that threads do not wait for Python's lock between them.
"""

from math import prod

import numpy as np

from ...arrays import buffers
from . import workers

SMALL = 10**6  # multiply-adds up to which OpenBLAS does not copy
NARROWEST = 64  # columns: if only narrower pieces are small enough, the matrix is so large that copying pays


def matmul(a, b):
    """``a @ b``, with the columns of b divided among the worker threads.

    BLAS runs on one thread meanwhile, so the bits do not depend on what other threads of the process do.
    """
    if min(a.ndim, b.ndim) < 2:
        return workers.call(np.matmul, a, b)
    # BLAS copies a column and a row before it multiplies them, and the copies take longer than the products
    multiply = np.multiply if a.shape[-1] == b.shape[-2] == 1 else np.matmul
    lead = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = *lead, a.shape[-2], b.shape[-1]
    moved = a.size + b.size + prod(shape)
    if moved < workers.WORTH or len(shares := workers.shares(shape[-1], NARROWEST)) < 2:
        return workers.call(multiply, a, b)
    y = buffers.empty(shape, np.result_type(a, b))

    def share_of_columns(share):
        multiply(a, b[..., slice(*share)], out=y[..., slice(*share)])

    workers.run(share_of_columns, shares, moved)
    return y


def product(a, b, out):
    """``a @ b``, written into `out`, for stacks of matrices with a wide b: (…, m, k) by (…, k, cells)."""
    cells, pieces, size = _pieces(b.shape[-1], a.shape[-2] * a.shape[-1])
    if pieces == 1:
        return np.matmul(a, b, out=out)
    np.matmul(a[..., None, :, :], _cut(b, pieces, size), out=_cut(out, pieces, size))
    if pieces * size < cells:
        np.matmul(a, b[..., pieces * size :], out=out[..., pieces * size :])
    return out


def summed_product(a, b):
    """``a @ bᵀ`` for stacks of wide matrices: (…, m, cells) by (…, n, cells), summed over the cells."""
    if a.shape[-2] < b.shape[-2]:  # the matrix with more rows must come first
        return summed_product(b, a).swapaxes(-1, -2)
    return deep_product(a, b.swapaxes(-1, -2))


def deep_product(a, b):
    """``a @ b`` for stacks of matrices with long rows in a: (…, m, cells) by (…, cells, n)."""
    cells, pieces, size = _pieces(a.shape[-1], a.shape[-2] * b.shape[-1])
    if pieces == 1:
        return a @ b
    b = b.swapaxes(-1, -2)
    sums = (_cut(a, pieces, size) @ _cut(b, pieces, size).swapaxes(-1, -2)).sum(axis=-3)
    if pieces * size < cells:
        sums += a[..., pieces * size :] @ b[..., pieces * size :].swapaxes(-1, -2)
    return sums


def _pieces(cells, each):
    """(cells, number of pieces, cells of one piece), where each cell takes `each` multiply-adds."""
    widest = SMALL // max(each, 1)
    if cells <= widest or widest < NARROWEST:
        return cells, 1, cells
    pieces = -(-cells // widest)
    return cells, pieces, cells // pieces


def _cut(x, pieces, size):
    """(…, rows, cells) as (…, pieces, rows, size): a view, without the cells beyond the last whole piece."""
    x = x[..., : pieces * size]
    return x.reshape(*x.shape[:-1], pieces, size).swapaxes(-2, -3)
