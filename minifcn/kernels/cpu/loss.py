"""The spatial softmax loss, some pixels at a time: scores are read once, probabilities written once."""

import numpy as np

from ... import memory
from .. import textbook
from . import workers

PIECE = 1 << 17  # scores


def _pieces(scores):
    """(sample, all classes, some rows)."""
    N, C, H, W = scores.shape
    count = min(H, max(1, -(-C * H * W // PIECE)))
    return [(n, slice(None), slice(*rows)) for n in range(N) for rows in workers.ranges(H, count)]


def _numbers(a):
    return np.arange(a.size).reshape(a.shape)


def softmax_loss(scores, labels, weights):
    if scores.itemsize < 4:
        return textbook.softmax_loss(scores, labels, weights)
    loss, prob = np.empty(labels.shape, scores.dtype), memory.empty(scores.shape, scores.dtype)

    def pixels(task):
        s, e, label, weight = scores[task], prob[task], labels[task[0], task[2]], weights[task[0], task[2]]
        shifted, picked = workers.workspace(s.dtype, s.shape, label.shape)
        np.subtract(s, s.max(axis=0), out=shifted)  # the largest exponent is 0: no overflow
        np.take(shifted.reshape(-1), label * label.size + _numbers(label), out=picked, mode="clip")
        np.exp(shifted, out=shifted)
        total = shifted.sum(axis=0)
        np.divide(shifted, total, out=e)
        out = loss[task[0], task[2]]
        np.multiply(np.log(total, out=total) - picked, weight, out=out)
        out[weight == 0] = 0  # even where a void score is infinite

    workers.run(pixels, _pieces(prob))
    return loss, prob


def softmax_loss_grad(prob, labels, weights):
    gx = memory.empty(prob.shape, prob.dtype)
    weights = weights.astype(prob.dtype, copy=False)

    def pixels(task):
        p, g, label, weight = prob[task], gx[task], labels[task[0], task[2]], weights[task[0], task[2]]
        np.multiply(p, weight, out=g)
        rows, columns = np.ogrid[: label.shape[0], : label.shape[1]]
        g[label, rows, columns] -= weight
        if np.isnan(p[0]).any():
            g[:, (weight == 0) & np.isnan(p[0])] = 0  # even where a void score is infinite

    workers.run(pixels, _pieces(gx))
    return gx
