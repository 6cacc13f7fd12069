"""The spatial softmax loss on CuPy with one thread for each pixel; the CUDA source is ``loss.cu``."""

from math import prod

from ...arrays import backend
from .launch import launch


def softmax_loss(scores, labels, weights):
    xp, (_, C, *pixels) = backend.of(scores), scores.shape
    scores = xp.ascontiguousarray(scores)
    labels, weights = (xp.ascontiguousarray(a, dtype=t) for a, t in ((labels, "int64"), (weights, scores.dtype)))
    loss, prob = xp.empty(labels.shape, scores.dtype), xp.empty(scores.shape, scores.dtype)
    launch("loss.cu", "softmax_loss", labels.size, scores, labels, weights, loss, prob, C, prod(pixels))
    return loss, prob


def softmax_loss_grad(prob, labels, weights):
    xp, (_, C, *pixels) = backend.of(prob), prob.shape
    prob = xp.ascontiguousarray(prob)
    labels, weights = (xp.ascontiguousarray(a, dtype=t) for a, t in ((labels, "int64"), (weights, prob.dtype)))
    gscores = xp.empty(prob.shape, prob.dtype)
    launch("loss.cu", "softmax_loss_grad", prob.size, prob, labels, weights, gscores, C, prod(pixels))
    return gscores
