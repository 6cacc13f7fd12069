"""The paper's loss: softmax cross-entropy, summed over locations, so that gradients of parts of a batch add up."""

from math import isfinite, prod
from typing import Any

from .. import kernels as K
from ..arrays import backend
from ..arrays.types import Array, Values
from ..engine.core import Function, Operand, Tensor
from ..errors import shown
from ..kernels.shapes import require_maps

REDUCTIONS = ("sum", "valid", "batch", "none")


class CrossEntropy(Function):
    formula = "ℓ = Σ_{n,i,j} −w_label · log softmax(scores[n,:,i,j])[label]"

    def __init__(self, labels, weights, scale):
        self.labels, self.weights, self.scale = labels, weights, scale

    def forward(self, scores):
        loss, prob = K.softmax_loss(scores, self.labels, self.weights)  # (N, H, W), (N, C, H, W)
        self.save(prob, scores.dtype)
        if self.scale is None:
            return loss
        total = loss.sum()
        return total if self.scale == 1 else (total * self.scale).astype(loss.dtype)

    def backward(self, gy):
        prob, dtype = self.saved
        if self.scale not in (None, 1):
            gy = gy * self.scale
        return K.softmax_loss_grad(prob, self.labels, self._weighted(gy)).astype(dtype, copy=False)

    def _weighted(self, gy):
        """The weights times gy, and 0 where a weight is 0, although gy may be infinite there and ∞ · 0 is NaN."""
        if gy.ndim == 0 and backend.device(gy) == "cpu" and isfinite(gy):  # to read gy on a device would wait for it
            return self.weights if gy == 1 else self.weights * gy
        return self.weights * backend.of(gy).where(self.weights != 0, gy, gy.dtype.type(0))

    def count(self, out_shape, scores_shape):
        return 5 * prod(scores_shape)


def cross_entropy(
    scores: Tensor | Array, labels: Operand, weight: Values | None = None, ignore_index: int = 255,
    reduction: str = "sum", mask: Operand | None = None,
) -> Tensor:  # fmt: skip
    """Softmax cross-entropy at every location, reduced over space.

    A location with label y has the loss ``ℓ' = −w_y · log(e^{s_y} / Σ_c e^{s_c})`` (§3.4).  Void locations, and those
    that `mask` excludes, have neither loss nor gradient.  It is computed without overflow, at least in float32.

    Parameters
    ----------
    scores : Tensor
        (N, C, H, W).
    labels : array
        (N, H, W) of integers: a class 0 … C − 1, or `ignore_index` (void).  For scores on a device, labels on the host
        are faster: they are checked on the host, without waiting for the device.
    weight : array, optional
        (C,) a weight for each class.  It scales loss and gradient; "valid" still divides by the number of locations.
    ignore_index : int
        The label that means void.
    mask : array of bool, optional
        (N, H, W): which locations count.  A random mask samples the loss (§3.4).
    reduction : {"sum", "valid", "batch", "none"}
        "sum": the paper's sum over locations; "valid": the sum divided by the number of locations that count (0 with
        zero gradients if none does); "batch": the sum divided by N; "none": the (N, H, W) map.

    Returns
    -------
    Tensor
        A scalar, or (N, H, W) for "none".

    Raises
    ------
    ValueError
        For labels outside 0 … C − 1 that are not `ignore_index`, shapes that do not fit, or an unknown reduction.

    Examples
    --------
    With all scores 0, the C classes are equally likely, so a pixel's loss is log C; that of the void pixel is 0.

    >>> import math, numpy as np, minifcn as mf
    >>> labels = np.array([[[0, 20, 255]]])
    >>> loss = mf.ops.cross_entropy(np.zeros((1, 21, 1, 3)), labels)
    >>> round(loss.item() / math.log(21), 6)
    2.0
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}: choose from {', '.join(REDUCTIONS)}")
    t = targets(scores, labels, weight, ignore_index, mask)
    scale = None if reduction == "none" else 1 / t.divisor(reduction)
    return CrossEntropy.apply(scores, labels=t.labels, weights=t.weights, scale=scale)


class Targets:
    """The checked labels of a batch, in the memory (host or device) of its scores.

    Attributes
    ----------
    labels : array of int64
        (N, H, W): a class 0 … C − 1; 0 at locations that do not count.
    counted : array of bool
        (N, H, W): whether a location counts: it is not void, and the mask does not exclude it.
    weights : array
        (N, H, W): the weight of each location's class; 0 at locations that do not count.
    """

    def __init__(self, labels: Array, counted: Array, weights: Array, host: Array) -> None:
        self.labels, self.counted, self.weights, self._host = labels, counted, weights, host

    def divisor(self, reduction: str) -> int:
        """The number by which `reduction` divides the sum over locations."""
        if reduction == "valid":
            return max(int(self._host.sum()), 1)
        return {"sum": 1, "batch": max(len(self._host), 1)}[reduction]

    def one_hot(self, classes: int) -> Array:
        """(N, C, H, W) in the dtype of `weights`: 1 for the class of each location that counts, else 0."""
        xp = backend.of(self.labels)
        is_class = xp.arange(classes)[:, None, None] == self.labels[:, None]
        return (is_class & self.counted[:, None]).astype(self.weights.dtype)


def targets(scores: Any, labels: Any, weight: Any = None, ignore_index: int = 255, mask: Any = None) -> Targets:
    """The :class:`Targets` of a loss; parameters and errors are those of :func:`cross_entropy`."""
    array = scores.data if isinstance(scores, Tensor) else scores
    xp = backend.of(array)
    require_maps("a loss", array)
    expected = (array.shape[0], *array.shape[2:])
    labels, mask = _given("labels", labels), None if mask is None else _given("mask", mask)
    for name, given in (("labels", labels), ("mask", mask)):
        if given is not None and given.shape != expected:
            raise ValueError(
                f"{name} of shape {given.shape} cannot be used with scores of shape {array.shape}: expected {expected}"
            )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got {labels.dtype}")

    classes, host = array.shape[1], labels != ignore_index
    _require_classes(labels, host, ignore_index, classes)
    if mask is not None:
        backend.of(labels, mask)
        host = host & (mask != 0)
    safe = backend.empty(labels, labels.shape, "int64")
    backend.of(labels).multiply(labels, host, out=safe)  # a void label (255) is no index into the classes
    counted = host
    if backend.of(labels) is not xp:
        safe, counted = backend.beside(safe, array), backend.beside(host, array)
    weights = backend.empty(array, counted.shape, xp.result_type(array.dtype, xp.float32))
    weights[...] = counted
    if weight is not None:
        weight = xp.asarray(weight, dtype=weights.dtype)
        if weight.shape != (classes,):
            raise ValueError(f"class weights have shape {weight.shape}: for {classes} classes, give ({classes},)")
        weights = weights * weight[safe]
    return Targets(safe, counted, weights, host)


def _given(name, values):
    """The array of labels or of a mask, which can be an array, a list or a tensor; `name` is "labels" or "mask"."""
    values = values.data if isinstance(values, Tensor) else values
    if isinstance(values, list | tuple):
        values = backend.asnumpy(values)
    if not backend.is_array(values):
        numbers = "bool" if name == "mask" else "integers"
        raise TypeError(f"{name} is a {type(values).__name__}; give an array of {numbers} (N, H, W)")
    return values


def _require_classes(labels, is_class, ignore_index, classes):
    """Raise ValueError for labels that are neither a class nor void; `is_class` is False for void ones."""
    if backend.device(labels) == "cpu" and labels.size and labels.min() >= 0 and labels.max() < classes:
        return  # two passes are enough if no label is void; on a device, they would wait for it twice
    unknown = ((labels < 0) | (labels >= classes)) & is_class
    if unknown.any():
        wrong = sorted(set(backend.asnumpy(labels[unknown]).tolist()))
        raise ValueError(
            shown(f"labels {wrong[:5]} are outside 0 … {classes - 1} and are not the void label {ignore_index}")
        )
