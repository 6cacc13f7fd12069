"""Matrix products with a vector.  Each number of the matrix is used once, so that loops are as fast as BLAS; their
calls take less time, which counts in small nets at batch size 1."""

from functools import partial

import numpy as np

from ...arrays import buffers
from ..cpu import products, workers
from .compiler import Read, Write, loops


@loops
def row_by_columns(a: Read[1], b: Read[2], y: Write[1], first: int, last: int):
    """y[j] = Σ_k a[k] · b[j, k]."""
    for j in range(first, last):
        column, total = b[j], a.dtype.type(0)
        for k in range(len(a)):
            total += a[k] * column[k]
        y[j] = total


@loops
def row_by_rows(a: Read[1], b: Read[2], y: Write[1], first: int, last: int):
    """y[j] = Σ_k a[k] · b[k, j]."""
    y = y[first:last]
    y[:] = 0
    whole = len(a) // 4 * 4
    for k in range(0, whole, 4):  # four rows at a time, so that y is read and written less often
        a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
        b0, b1, b2, b3 = b[k, first:last], b[k + 1, first:last], b[k + 2, first:last], b[k + 3, first:last]
        for j in range(len(y)):
            y[j] += a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j]
    for k in range(whole, len(a)):
        factor, row = a[k], b[k, first:last]
        for j in range(len(y)):
            y[j] += factor * row[j]


@loops
def column_by_row(a: Read[1], b: Read[1], y: Write[2], first: int, last: int):
    """y[i, j] = a[i] · b[j]."""
    for i in range(first, last):
        factor, row = a[i], y[i]
        for j in range(len(b)):
            row[j] = factor * b[j]


def matmul(a, b):
    if a.ndim == b.ndim == 2 and a.shape[1] == len(b):
        if len(b) == 1:
            return _shared(column_by_row, _vector(a), _vector(b), (len(a), b.shape[1]), len(a))
        if len(a) == 1 and b.T.flags.c_contiguous:
            return _shared(row_by_columns, _vector(a), b.T, (1, b.shape[1]), b.shape[1])
        if len(a) == 1 and b.flags.c_contiguous:
            return _shared(row_by_rows, _vector(a), b, (1, b.shape[1]), b.shape[1])
    return products.matmul(a, b)


def _vector(a):
    """The numbers of a row or a column, side by side.  In `a` they may lie apart, or be one broadcast number."""
    return np.ascontiguousarray(a).reshape(-1)


def _shared(function, a, b, shape, n):
    """The result of ``function(a, b, result)``, whose n outputs or rows the workers share."""
    y = buffers.empty(shape, a.dtype)
    result = y if function is column_by_row else y.reshape(-1)
    workers.divide(n, partial(function, a, b, result), moved=max(b.size, y.size))
    return y
