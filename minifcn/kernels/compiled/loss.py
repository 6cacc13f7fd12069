"""The spatial softmax loss: a pass for the largest score of each pixel, and one for the sums of its exponentials.

The exponentials and logarithms between them are NumPy's, which computes several at once; Numba computes one by one.
"""

import numpy as np

from ...arrays import buffers
from ..cpu import scratch, workers
from .compiler import Read, Write, loops

PIECE = 1 << 17  # scores of a piece, which stay in the cache between the passes


@loops
def below_largest(
    s: Read[2], labels: Read[1, np.int64], first: int, last: int, e: Write[2], largest: Write[1], picked: Write[1]
):
    """e = s − max_c s for the pixels first … last − 1 of s, (C, H·W); picked: e at their labels."""
    for c in range(s.shape[0]):
        row = s[c, first:last]
        for i in range(len(row)):
            value = row[i]
            # NaN, which differs from itself, counts as the largest
            largest[i] = value if c == 0 or value > largest[i] or value != value else largest[i]
    for c in range(s.shape[0]):
        row, out = s[c, first:last], e[c]
        for i in range(len(row)):
            out[i] = row[i] - largest[i]
    for i in range(last - first):
        picked[i] = e[min(max(labels[first + i], 0), len(e) - 1), i]


@loops
def shares_of_sum(e: Read[2], first: int, last: int, total: Write[1], rest: Write[1], prob: Write[2]):
    """total = Σ_c e;  prob = e / total, at the pixels first … last − 1."""
    total[:] = 0
    for c in range(e.shape[0]):
        row = e[c]
        for i in range(len(row)):
            total[i] += row[i]
    for i in range(len(total)):
        rest[i] = 1 / total[i]
    for c in range(e.shape[0]):
        row, out = e[c], prob[c, first:last]
        for i in range(len(row)):
            out[i] = row[i] * rest[i]


@loops
def weighted(log_total: Read[1], picked: Read[1], weights: Read[1], first: int, last: int, loss: Write[1]):
    """loss = weights · (log Σ_c e − picked), and 0 where the weight is 0, whatever the scores there."""
    w, out, zero = weights[first:last], loss[first:last], loss.dtype.type(0)
    for i in range(len(w)):
        out[i] = w[i] * (log_total[i] - picked[i]) if w[i] != 0 else zero


@loops
def gradient(
    prob: Read[2], labels: Read[1, np.int64], weights: Read[1], first: int, last: int, gs: Write[2],
):  # fmt: skip
    """gs = weights · (prob − one-hot(label)) at the pixels first … last − 1 of prob, (C, H·W)."""
    one, zero = prob.dtype.type(1), prob.dtype.type(0)
    w, label = weights[first:last], labels[first:last]
    for c in range(prob.shape[0]):
        row, out = prob[c, first:last], gs[c, first:last]
        for i in range(len(row)):
            out[i] = w[i] * (row[i] - (one if label[i] == c else zero)) if w[i] != 0 else zero


def softmax_loss(scores, labels, weights):
    loss, prob = np.empty(labels.shape, scores.dtype), buffers.empty(scores.shape, scores.dtype)
    s, p, label, weight, out = _maps(scores), _maps(prob), _pixels(labels), _pixels(weights), _pixels(loss)

    def piece(part):
        n, (first, last) = part
        size = last - first
        e, largest, picked, total = scratch.arrays((s.dtype, (s.shape[1], size)), *[(s.dtype, (size,))] * 3)
        below_largest(s[n], label[n], first, last, e, largest, picked)
        np.exp(e, out=e)
        shares_of_sum(e, first, last, total, largest, p[n])
        np.log(total, out=total)
        weighted(total, picked, weight[n], first, last, out[n])

    workers.run(piece, _pieces(s.shape), moved=2 * scores.size)
    return loss, prob


def softmax_loss_grad(prob, labels, weights):
    gs = buffers.empty(prob.shape, prob.dtype)
    p, label, weight, out = _maps(prob), _pixels(labels), _pixels(weights), _maps(gs)

    def piece(part):
        n, (first, last) = part
        gradient(p[n], label[n], weight[n], first, last, out[n])

    workers.run(piece, _pieces(p.shape), moved=2 * prob.size)
    return gs


def _maps(x):
    """(N, C, H, W) as (N, C, H·W)."""
    return x.reshape(*x.shape[:2], -1)


def _pixels(x):
    """(N, H, W) as (N, H·W)."""
    return x.reshape(len(x), -1)


def _pieces(shape):
    """(sample, (first pixel, last + 1)) of each piece; a multiple of the workers if there are few samples."""
    N, C, M = shape
    count = max(-(-C * M // PIECE), -(-workers.threads() // N))
    return [(n, part) for n in range(N) for part in workers.ranges(M, min(M, count))]
