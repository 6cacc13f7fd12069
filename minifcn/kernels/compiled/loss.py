"""The spatial softmax loss: a pass for the largest score of each pixel, and one for the sums of its exponentials.

The exponentials and logarithms between them are NumPy's, which computes several at once; Numba computes one by one.
If there are few scores, NumPy's calls take longer than single exponentials: then one loop computes pixel by pixel.
"""

import numpy as np

from ...arrays import buffers
from ..cpu import scratch, workers
from .compiler import Read, Write, loops

PIECE = 1 << 17  # scores of a piece, which stay in the cache between the passes
FEW = 1 << 12  # scores up to which the loop over the pixels is faster


@loops
def by_pixel(s: Read[3], labels: Read[2, np.int64], weights: Read[2], loss: Write[2], prob: Write[3]):
    """prob = softmax(s) and loss = −weights · log prob[label] for the scores s, (N, C, pixels)."""
    C, zero = s.shape[1], s.dtype.type(0)
    for n in range(s.shape[0]):
        for i in range(s.shape[2]):
            largest, total = s[n, 0, i], zero
            for c in range(1, C):
                value = s[n, c, i]
                largest = value if value > largest or value != value else largest  # NaN counts as the largest
            for c in range(C):
                prob[n, c, i] = np.exp(s[n, c, i] - largest)
                total += prob[n, c, i]
            for c in range(C):
                prob[n, c, i] /= total
            picked = s[n, min(max(labels[n, i], 0), C - 1), i] - largest
            loss[n, i] = weights[n, i] * (np.log(total) - picked) if weights[n, i] != 0 else zero


@loops
def below_largest(s: Write[2], labels: Read[1, np.int64], largest: Write[1], picked: Write[1]):
    """s − max_c s, in place, for the scores s, (C, pixels); picked: the results at the labels."""
    for c in range(s.shape[0]):
        row = s[c]
        for i in range(len(row)):
            value = row[i]
            # NaN, which differs from itself, counts as the largest
            largest[i] = value if c == 0 or value > largest[i] or value != value else largest[i]
    for c in range(s.shape[0]):
        row = s[c]
        for i in range(len(row)):
            row[i] -= largest[i]
    for i in range(len(picked)):
        picked[i] = s[min(max(labels[i], 0), len(s) - 1), i]


@loops
def shares_of_sum(e: Read[2], total: Write[1], rest: Write[1], prob: Write[3], first: int, last: int):
    """total = Σ_c e, and the pixels first … last − 1 of each sample of prob, (N, C, H·W), are e / total."""
    total[:] = 0
    for c in range(e.shape[0]):
        row = e[c]
        for i in range(len(row)):
            total[i] += row[i]
    for i in range(len(total)):
        rest[i] = 1 / total[i]
    M = last - first
    for n in range(prob.shape[0]):
        share = rest[n * M : (n + 1) * M]
        for c in range(e.shape[0]):
            row, out = e[c, n * M : (n + 1) * M], prob[n, c, first:last]
            for i in range(len(row)):
                out[i] = row[i] * share[i]


@loops
def weighted(log_total: Read[1], picked: Read[1], weights: Read[1], loss: Write[1]):
    """loss = weights · (log Σ_c e − picked), and 0 where the weight is 0, whatever the scores there."""
    zero = loss.dtype.type(0)
    for i in range(len(loss)):
        loss[i] = weights[i] * (log_total[i] - picked[i]) if weights[i] != 0 else zero


@loops
def gradient(prob: Read[3], labels: Read[2, np.int64], weights: Read[2], gs: Write[3], first: int, last: int):
    """gs = weights · (prob − one-hot(label)) at the pixels first … last − 1 of each sample of prob, (N, C, H·W)."""
    one, zero = prob.dtype.type(1), prob.dtype.type(0)
    for n in range(prob.shape[0]):
        label, weight = labels[n, first:last], weights[n, first:last]
        for c in range(prob.shape[1]):
            row, out = prob[n, c, first:last], gs[n, c, first:last]
            for i in range(len(row)):
                out[i] = weight[i] * (row[i] - (one if label[i] == c else zero)) if weight[i] != 0 else zero


def softmax_loss(scores, labels, weights):
    C, W, dtype = scores.shape[1], scores.shape[3], scores.dtype
    _require_pixels(scores, labels, weights)
    loss, prob = np.empty(labels.shape, dtype), buffers.empty(scores.shape, dtype)
    p, label, weight, out = _maps(prob), _pixels(labels), _pixels(weights), _pixels(loss)
    if scores.size <= FEW:
        by_pixel(np.ascontiguousarray(_maps(scores)), label, weight, out, p)
        return loss, prob

    def piece(part):
        samples, (top, bottom) = slice(*part[0]), part[1]
        first, last = top * W, bottom * W
        cells = scores[samples, :, top:bottom].swapaxes(0, 1)  # (C, samples, rows, W)
        M = cells[0].size
        e, largest, picked, total = scratch.arrays((dtype, (C, M)), *[(dtype, (M,))] * 3)
        np.copyto(e.reshape(cells.shape), cells)
        below_largest(e, label[samples, first:last].reshape(-1), largest, picked)
        np.exp(e, out=e)
        shares_of_sum(e, total, largest, p[samples], first, last)
        np.log(total, out=total)
        weights_here, result = weight[samples, first:last], out[samples, first:last]
        weighted(total, picked, weights_here.reshape(-1), result.reshape(-1))

    workers.run(piece, _pieces(scores.shape), moved=2 * scores.size, multiplies=False)
    return loss, prob


def softmax_loss_grad(prob, labels, weights):
    W, gs = prob.shape[3], buffers.empty(prob.shape, prob.dtype)
    _require_pixels(prob, labels, weights)
    p, label, weight, out = _maps(prob), _pixels(labels), _pixels(weights), _maps(gs)
    if prob.size <= FEW:
        gradient(p, label, weight, out, 0, p.shape[2])
        return gs

    def piece(part):
        samples, (top, bottom) = slice(*part[0]), part[1]
        gradient(p[samples], label[samples], weight[samples], out[samples], top * W, bottom * W)

    workers.run(piece, _pieces(prob.shape), moved=2 * prob.size, multiplies=False)
    return gs


def _require_pixels(scores, labels, weights):
    """Raise ValueError unless there is a label and a weight for each pixel: the loops would read foreign memory."""
    N, _, H, W = scores.shape
    if not labels.shape == weights.shape == (N, H, W):
        raise ValueError(f"labels {labels.shape} and weights {weights.shape} must be of shape {(N, H, W)}")


def _maps(x):
    """(N, C, H, W) as (N, C, H·W)."""
    return x.reshape(*x.shape[:2], -1)


def _pixels(x):
    """(N, H, W) as (N, H·W)."""
    return np.ascontiguousarray(x).reshape(len(x), -1)


def _pieces(shape):
    """((first sample, last + 1), (first row, last + 1)) of each piece: rows of one sample, or several small samples."""
    N, C, H, W = shape
    if C * H * W < PIECE and N > 1:
        threads = workers.threads()
        count = -(-N * C * H * W // (PIECE * threads)) * threads
        return [(samples, (0, H)) for samples in workers.ranges(N, min(N, count))]
    count = max(-(-C * H * W // PIECE), -(-workers.threads() // N))
    return [((n, n + 1), rows) for n in range(N) for rows in workers.ranges(H, min(H, count))]
