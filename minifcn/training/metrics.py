"""The paper's four measures of a segmentation (section 5), all read off one confusion matrix.

The matrix is summed over the *whole* set and the measures are taken once, at the end: averaging the measures
of single images gives other numbers.  Two label maps to measure with: the band along boundaries, and what a
coarse output could reach at best.
"""

from itertools import product

import numpy as np

from ..arrays import backend
from ..arrays.types import Array
from ..data.images import VOID


class ConfusionMatrix:
    """Count how many pixels of each true class were predicted as each class.

    With ``n_ij`` the number of pixels of class *i* predicted as *j*, and ``t_i = Σ_j n_ij``.

    Parameters
    ----------
    num_classes : int
        Classes are 0 .. num_classes-1; any other label (255 = void) is left out.
    present_only : bool
        Which classes :attr:`mean_iu` averages.  False: all that occur among labels *or* predictions, so a
        class that is predicted but never true counts as 0.  True: only those among the labels (the rule
        used for SIFT Flow).

    Attributes
    ----------
    matrix : ndarray of int64, shape (num_classes, num_classes)
        ``n_ij``; rows are the truth.  Matrices of several processes may simply be added.

    Examples
    --------
    >>> import numpy as np, minifcn as mf
    >>> truth, prediction = np.array([0, 0, 0, 1, 255]), np.array([0, 0, 1, 1, 1])
    >>> confusion = mf.metrics.ConfusionMatrix(2).update(truth, prediction)
    >>> confusion.matrix.tolist()
    [[2, 1], [0, 1]]
    >>> confusion.pixel_accuracy, round(confusion.mean_iu, 3)
    (0.75, 0.583)
    """

    def __init__(self, num_classes: int, present_only: bool = False) -> None:
        self.num_classes = num_classes
        self.present_only = present_only
        self.matrix = np.zeros((num_classes, num_classes), np.int64)

    def update(self, labels: Array, predictions: Array) -> "ConfusionMatrix":
        """Count one more image or batch.

        Parameters
        ----------
        labels, predictions : integer arrays of the same shape, whatever it is
            What is predicted where the label is void does not matter.

        Returns
        -------
        ConfusionMatrix
            Itself, so that calls can be chained.

        Raises
        ------
        ValueError
            For different shapes, fractions, or a prediction outside 0 .. num_classes-1.
        """
        labels, predictions = backend.asnumpy(labels), backend.asnumpy(predictions)
        if labels.shape != predictions.shape:
            raise ValueError(
                f"labels have shape {labels.shape} and predictions {predictions.shape}; they must be the same"
            )
        for name, array in (("labels", labels), ("predictions", predictions)):
            if array.dtype.kind not in "iub":
                raise ValueError(f"{name} must be integers, not {array.dtype}; take the argmax of scores first")
        n = self.num_classes
        known = (labels >= 0) & (labels < n)
        truth = labels[known].astype(np.int64)  # n * uint8 would overflow
        predicted = predictions[known].astype(np.int64)
        if predicted.size and not 0 <= predicted.min() <= predicted.max() < n:
            raise ValueError(
                f"predictions reach from {predicted.min()} to {predicted.max()}; "
                f"with {n} classes they must lie in 0..{n - 1}"
            )
        self.matrix += np.bincount(n * truth + predicted, minlength=n * n).reshape(n, n)
        return self

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if other.num_classes != self.num_classes:
            raise ValueError(f"cannot add confusion matrices of {self.num_classes} and {other.num_classes} classes")
        total = ConfusionMatrix(self.num_classes, self.present_only)
        total.matrix = self.matrix + other.matrix
        return total

    @property
    def pixel_accuracy(self) -> float:
        """``Σ_i n_ii / Σ_i t_i`` (NaN before the first labelled pixel)."""
        return float(_divide(np.trace(self.matrix), self.matrix.sum()))

    @property
    def mean_accuracy(self) -> float:
        """``(1/n_cl) Σ_i n_ii / t_i``, over the classes with ``t_i > 0``."""
        accuracy, _ = self.per_class()
        return _mean(accuracy)

    @property
    def mean_iu(self) -> float:
        """``(1/n_cl) Σ_i n_ii / (t_i + Σ_j n_ji − n_ii)``; `present_only` says over which classes."""
        _, iu = self.per_class()
        return _mean(iu[self.matrix.sum(1) > 0] if self.present_only else iu)

    @property
    def fw_iu(self) -> float:
        """``(Σ_k t_k)⁻¹ Σ_i t_i n_ii / (t_i + Σ_j n_ji − n_ii)``: the IU weighted by frequency."""
        _, iu = self.per_class()
        true = self.matrix.sum(1)
        present = true > 0
        return float(_divide((true[present] * iu[present]).sum(), true.sum()))

    def per_class(self) -> tuple[Array, Array]:
        """Accuracy ``n_ii / t_i`` and IU ``n_ii / (t_i + Σ_j n_ji − n_ii)`` of every class.

        Returns
        -------
        accuracy, iu : float64 arrays, shape (num_classes,)
            NaN where a class does not occur (0/0).
        """
        hit = np.diag(self.matrix)
        true, predicted = self.matrix.sum(1), self.matrix.sum(0)
        return _divide(hit, true), _divide(hit, true + predicted - hit)

    def __repr__(self) -> str:
        return f"ConfusionMatrix({self.num_classes} classes, {self.matrix.sum()} pixels, mean IU {self.mean_iu:.4f})"


def boundary_band(label: Array, width: int) -> Array:
    """The labels near boundaries, everything else void: a trimap, for the measures along outlines.

    A pixel stays if a pixel of *another* class lies at most `width` rows and columns away (Chebyshev distance):
    where two classes touch, `width` pixels on either side.  Void is no class and never in the band, but does not
    end it either: a void border v pixels wide takes up v of the width (VOC's is about 5: take more).

    Parameters
    ----------
    label : integer array (..., H, W)
        255 is void.
    width : int

    Returns
    -------
    array
        A new one of `label`'s shape and dtype.
    """
    label = _labels(label)
    if label.ndim < 2:
        raise ValueError(f"boundary_band takes label maps (..., H, W), got {label.shape}")
    if width < 1:
        raise ValueError(f"a band along boundaries is at least 1 pixel wide, not {width}")
    known = label != VOID
    classes = label.astype(np.int64)
    bounds = np.iinfo(np.int64)
    highest = _over_window(np.where(known, classes, bounds.min), width, np.maximum)
    lowest = _over_window(np.where(known, classes, bounds.max), width, np.minimum)
    return np.where(highest != lowest, label, label.dtype.type(VOID))


def _over_window(a, width, extreme):
    """The extreme over the square of 2·width + 1 pixels around each; rows, then columns."""
    for axis in (-2, -1):
        a = np.moveaxis(a, axis, 0)
        out = a.copy()
        for d in range(1, min(width, len(a) - 1) + 1):
            extreme(out[:-d], a[d:], out=out[:-d])
            extreme(out[d:], a[:-d], out=out[d:])
        a = np.moveaxis(out, 0, axis)
    return a


def upper_bound(label: Array, factor: int) -> Array:
    """The best prediction of a net whose output is `factor` times coarser: the truth, sampled and enlarged again.

    Appendix A: pixel i takes the label at ``min(⌊i/f⌋·f + ⌊f/2⌋, H − 1)``, the centre of its f×f cell, along each axis.
    Scored against `label` it bounds the mean IU: 96.4 % at factor 8, 86.1 % at 32 on VOC.  A prediction cannot be void:
    a cell whose centre is takes its nearest pixel that is not, if there is one.

    Parameters
    ----------
    label : integer array (H, W)
        255 is void.
    factor : int

    Returns
    -------
    array
        Of `label`'s shape and dtype; void only in cells that are void altogether.
    """
    label = _labels(label)
    if label.ndim != 2 or factor < 1:
        raise ValueError(f"upper_bound takes one label map (H, W) and a factor from 1; got {label.shape}, {factor}")
    first = [np.arange(0, n, factor) for n in label.shape]
    last = [np.minimum(f + factor, n) - 1 for f, n in zip(first, label.shape)]
    steps = range(-(factor // 2), factor - factor // 2)
    coarse = np.full([len(f) for f in first], VOID, label.dtype)
    for offset in sorted(product(steps, steps), key=lambda o: o[0] ** 2 + o[1] ** 2):
        # every cell at once: its centre, then ever farther from it
        at = [np.clip(f + factor // 2 + o, f, n) for f, n, o in zip(first, last, offset)]
        coarse = np.where(coarse == VOID, label[np.ix_(*at)], coarse)
        if (coarse != VOID).all():
            break
    rows, columns = (np.arange(n) // factor for n in label.shape)
    return coarse[np.ix_(rows, columns)]


def _labels(label):
    label = backend.asnumpy(label)
    if label.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, not {label.dtype}")
    if np.iinfo(label.dtype).max < VOID:
        raise ValueError(f"labels of {label.dtype} cannot be {VOID}, which means void: take uint8, or a wider type")
    return label


def _divide(a, b):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(a, b)


def _mean(values):
    """The mean of what is not NaN; NaN, and no warning, if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
