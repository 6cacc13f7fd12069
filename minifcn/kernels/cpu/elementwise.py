"""Elementwise arithmetic in pieces that fit the cache, because memory bounds its speed.

The result of one line of a formula is still in the cache when the next line reads it.
"""

from functools import cache

import numpy as np

from ...arrays import buffers
from .. import textbook
from . import scratch, workers

ROW = 1 << 14  # elements of a vector of zeros
BLOCK = 1 << 9  # elements that are added one after the other; a longer sum is a sum of such sums
WORDS = 1 << 19  # of the smallest share of a checksum: one thread reads a few MB from the cache fast enough
PIECE = 1 << 18  # elements: small enough for a few pieces to fit the cache, large enough to hide the wait for the GIL


def in_pieces(function, *arrays):
    """Call ``function(*pieces)`` for all pieces of arrays of one shape, as vectors; it may write into them.

    Arrays of another library, and arrays that are not C-contiguous, are passed whole in one call.
    """
    if any(a.shape != arrays[0].shape for a in arrays):
        raise ValueError(f"arrays of one shape are needed, got the shapes {', '.join(str(a.shape) for a in arrays)}")
    if not all(isinstance(a, np.ndarray) and a.flags.c_contiguous for a in arrays):
        return function(*arrays)
    flat = [a.reshape(-1) for a in arrays]
    if flat[0].size <= PIECE:
        return function(*flat)

    def share_of_elements(share):
        first, last = share
        for i in range(first, last, PIECE):
            function(*(a[i : min(i + PIECE, last)] for a in flat))

    workers.run(share_of_elements, workers.shares(flat[0].size))


def sgd(w, g, velocity, *rest):
    in_pieces(lambda *pieces: textbook.sgd(*pieces, *rest), w, g, velocity)


def adam(w, g, mean, square, *rest):
    in_pieces(lambda *pieces: textbook.adam(*pieces, *rest), w, g, mean, square)


@cache
def _row(value, dtype):
    return np.full(ROW, value, dtype)


def relu(x):
    if not x.flags.c_contiguous:
        return textbook.relu(x)
    y = buffers.empty(x.shape, x.dtype)
    in_pieces(lambda x, y: _with_number(np.maximum, x, 0, y), x, y)
    return y


def relu6(x):
    if not x.flags.c_contiguous:
        return textbook.relu6(x)
    y = buffers.empty(x.shape, x.dtype)

    def piece(x, y):
        _with_number(np.maximum, x, 0, y)
        _with_number(np.minimum, y, 6, y)

    in_pieces(piece, x, y)
    return y


def _with_number(ufunc, x, number, out):
    """``ufunc(x, number, out=out)`` for vectors: with a vector of the number, maximum is three times as fast."""
    row, whole = _row(number, x.dtype), x.size // ROW * ROW
    ufunc(x[:whole].reshape(-1, ROW), row, out=out[:whole].reshape(-1, ROW))
    ufunc(x[whole:], row[: x.size - whole], out=out[whole:])


def relu_grad(gy, y):
    if gy.itemsize > 8:
        return textbook.relu_grad(gy, y)

    def inside(y, kept, _):
        np.not_equal(y, 0, out=kept)  # y is relu's output and never negative

    return _kept(gy, y, inside)


def relu6_grad(gy, y):
    if gy.itemsize > 8:
        return textbook.relu6_grad(gy, y)
    return _between(gy, y, 6)


def _between(gy, y, most):
    """`gy` where y is neither 0 nor `most`, else 0."""

    def inside(y, kept, below):
        np.not_equal(y, 0, out=kept)
        np.not_equal(y, most, out=below)
        kept &= below

    return _kept(gy, y, inside)


def _kept(gy, y, inside):
    """`gy` where ``inside(y, kept, scratch)`` sets kept, else 0."""
    bits, gx = f"i{gy.itemsize}", buffers.empty(gy.shape, gy.dtype)

    def piece(gy, y, gx):
        kept, other = scratch.arrays((bool, y.shape), (bool, y.shape))
        inside(y, kept, other)
        np.multiply(gy.view(bits), kept, out=gx.view(bits))  # as integers: ∞ · 0 would be NaN

    in_pieces(piece, np.asarray(gy, order="C"), np.asarray(y, order="C"), gx)
    return gx


def add_bias(y, b):
    N, C, H, W = y.shape
    if not y.flags.c_contiguous:
        return textbook.add_bias(y, b)
    rows, b = y.reshape(N * C, H * W), np.tile(b, N)[:, None]

    def share_of_maps(share):
        part = rows[slice(*share)]
        np.add(part, b[slice(*share)], out=part)

    workers.run(share_of_maps, workers.shares(N * C), moved=y.size)
    return y


def bias_relu(y, b, most):
    N, C, H, W = y.shape
    if not y.flags.c_contiguous:
        return textbook.bias_relu(y, b, most)
    rows, b = y.reshape(N * C, H * W), np.tile(b, N)[:, None]
    maps = max(1, PIECE // max(H * W, 1))  # of a piece

    def share_of_maps(share):
        for k in range(*share, maps):
            for i in range(0, H * W, PIECE):
                last = min(k + maps, share[1])
                part = rows[k:last, i : i + PIECE]
                np.add(part, b[k:last], out=part)
                part.clip(0, most, out=part)

    workers.run(share_of_maps, workers.shares(N * C), moved=y.size)
    return y


def bias_relu_grad(gy, y, most):
    if gy.itemsize > 8:
        return textbook.bias_relu_grad(gy, y, most)
    gx = relu_grad(gy, y) if most == np.inf else _between(gy, y, most)
    return gx, channel_sums(gx)


def channel_sums(x):
    N, C, H, W = x.shape
    if x.itemsize < 4 or not x.size:
        return textbook.channel_sums(x)
    rows = np.asarray(x, order="C").reshape(N * C, H * W)
    sums = workers.run(lambda share: dots(rows[slice(*share)]), workers.shares(N * C), moved=x.size)
    return np.concatenate(sums).reshape(N, C).sum(axis=0)


def word_sums(words):
    if words.size < 2 * WORDS:
        return np.add.reduce(words)
    shares = workers.shares(len(words), WORDS // words.shape[1])
    return np.add.reduce(workers.run(lambda s: np.add.reduce(words[slice(*s)]), shares, words.size, multiplies=False))


def dots(a, b=None):
    """Σ a·b along the last axis, or Σ a without b, summed in blocks.

    BLAS would add up a whole map one number after the other, which loses digits.  And NumPy holds Python's lock (the
    GIL) during a product with few outputs, however long it takes; the sums of blocks are many outputs.
    """
    whole = a.shape[-1] // BLOCK * BLOCK
    if a.shape[-1] > BLOCK:
        sums = dots(_in_blocks(a, whole), None if b is None else _in_blocks(b, whole)).sum(axis=-1)
        if whole < a.shape[-1]:
            sums += dots(a[..., whole:], None if b is None else b[..., whole:])
        return sums
    return a @ _ones(a.shape[-1], a.dtype) if b is None else np.vecdot(a, b)


def _in_blocks(x, whole):
    return x[..., :whole].reshape(*x.shape[:-1], -1, BLOCK)


@cache
def _ones(size, dtype):
    return np.ones(size, dtype)
