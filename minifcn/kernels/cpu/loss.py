"""The spatial softmax loss, computed for some rows at a time, which stay in the cache between the passes."""

import numpy as np

from ...arrays import buffers
from .. import textbook
from . import scratch, workers

PIECE = 1 << 19  # scores


def _pieces(shape):
    """Index tuples (samples, all classes, rows) of the pieces: several samples, or some rows of one sample."""
    N, C, H, W = shape
    each = max(C * H * W, 1)
    if workers.threads() <= N and each <= PIECE:
        count = max(-(-N * each // PIECE), workers.threads())
        return [(slice(*samples), slice(None), slice(None)) for samples in workers.ranges(N, max(1, min(N, count)))]
    count = max(-(-each // PIECE), -(-workers.threads() // max(N, 1)))
    parts = workers.ranges(H, min(H, count))
    return [(slice(n, n + 1), slice(None), slice(*rows)) for n in range(N) for rows in parts]


def _at_labels(shape, label):
    """For each pixel, the flat index of its label's score in a C-contiguous array (N, C, H, W); shape (N, H, W)."""
    N, C, H, W = shape
    return (label + C * np.arange(N)[:, None, None]) * (H * W) + np.arange(H * W).reshape(H, W)


def softmax_loss(scores, labels, weights):
    if scores.itemsize < 4:
        return textbook.softmax_loss(scores, labels, weights)
    loss, prob = np.empty(labels.shape, scores.dtype), buffers.empty(scores.shape, scores.dtype)

    def pixels(piece):
        s, out, label, weight = scores[piece], loss[piece[::2]], labels[piece[::2]], weights[piece[::2]]
        e, largest, total, picked = scratch.arrays((s.dtype, s.shape), *[(s.dtype, label.shape)] * 3)
        np.max(s, axis=1, out=largest)
        np.subtract(s, largest[:, None], out=e)  # the largest exponent is 0: no overflow
        np.take(e.reshape(-1), _at_labels(s.shape, label), out=picked, mode="clip")
        np.exp(e, out=e)
        np.sum(e, axis=1, out=total)
        np.multiply(e, np.divide(1, total, out=largest)[:, None], out=prob[piece])
        np.log(total, out=total)
        total -= picked
        np.multiply(total, weight, out=out)
        out[weight == 0] = 0  # the score of a void pixel may be infinite: ∞ · 0 would be NaN

    workers.run(pixels, _pieces(scores.shape), moved=2 * scores.size)
    return loss, prob


def softmax_loss_grad(prob, labels, weights):
    gs = buffers.empty(prob.shape, prob.dtype)
    weights = weights.astype(prob.dtype, copy=False)

    def pixels(piece):
        p, label, weight = prob[piece], labels[piece[::2]], weights[piece[::2]]
        (g,) = scratch.arrays((p.dtype, p.shape))
        np.multiply(p, weight[:, None], out=g)
        g.reshape(-1)[_at_labels(p.shape, label)] -= weight
        void = np.isnan(p[:, 0]) & (weight == 0)
        if void.any():  # an infinite score has made the probabilities NaN
            np.moveaxis(g, 1, -1)[void] = 0
        gs[piece] = g

    workers.run(pixels, _pieces(prob.shape), moved=2 * prob.size)
    return gs
