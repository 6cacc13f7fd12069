"""The paper's four measures of a segmentation (section 5), computed from one confusion matrix.

The matrix is summed over the whole data set, and the measures are computed once at the end; averaging the measures of
single images would give other numbers.  `scores_from` computes them for many samples of the images at once.  Two
functions make label maps to measure with: the labels near boundaries, and the best prediction of a coarse output.
"""

from itertools import product

import numpy as np

from ..arrays import backend
from ..arrays.types import Array
from ..data.images import VOID


class ConfusionMatrix:
    """Count how many pixels of each true class were predicted as each class.

    ``n_ij`` is the number of pixels of class *i* that were predicted as *j*, and ``t_i = Σ_j n_ij``.

    Parameters
    ----------
    num_classes : int
        Classes are 0 .. num_classes-1; pixels with another label (255 = void) are ignored.
    present_only : bool
        Which classes :attr:`mean_iu` averages.  False: all that occur in labels or predictions, so a class that is
        predicted but occurs in no label has IU 0.  True: only those in the labels (the rule used for SIFT Flow).

    Attributes
    ----------
    matrix : ndarray of int64, shape (num_classes, num_classes)
        ``n_ij``; rows are the labels.  The matrices of parts of a data set add up to the matrix of the whole.

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
        """Count the pixels of an image or a batch.

        Parameters
        ----------
        labels, predictions : integer arrays of the same, arbitrary shape
            Predictions at void pixels are ignored.

        Returns
        -------
        ConfusionMatrix
            This matrix, so that calls can be chained.

        Raises
        ------
        ValueError
            For different shapes, arrays that are not integers, or a prediction outside 0 .. num_classes-1.
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
                f"predictions range from {predicted.min()} to {predicted.max()}; "
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
        """``Σ_i n_ii / Σ_i t_i``; NaN without a labelled pixel."""
        return float(_divide(np.trace(self.matrix), self.matrix.sum()))

    @property
    def mean_accuracy(self) -> float:
        """``(1/n_cl) Σ_i n_ii / t_i``, over the classes with ``t_i > 0``."""
        accuracy, _ = self.per_class()
        return _mean(accuracy)

    @property
    def mean_iu(self) -> float:
        """``(1/n_cl) Σ_i n_ii / (t_i + Σ_j n_ji − n_ii)``, over the classes that `present_only` selects."""
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
            NaN (0/0) for a class that does not occur.
        """
        hit = np.diag(self.matrix)
        true, predicted = self.matrix.sum(1), self.matrix.sum(0)
        return _divide(hit, true), _divide(hit, true + predicted - hit)

    def __repr__(self) -> str:
        return f"ConfusionMatrix({self.num_classes} classes, {self.matrix.sum()} pixels, mean IU {self.mean_iu:.4f})"


def counts(labels: Array, predictions: Array, num_classes: int) -> Array:
    """The number of pixels of each class in an image: right, in the label, and in the prediction; void is ignored.

    Parameters
    ----------
    labels, predictions : integer arrays of the same, arbitrary shape
    num_classes : int

    Returns
    -------
    ndarray of int64, shape (3, num_classes)
        ``n_ii``, ``t_i = Σ_j n_ij`` and ``Σ_j n_ji``, from which :func:`scores_from` computes the measures.
    """
    matrix = ConfusionMatrix(num_classes).update(labels, predictions).matrix
    return np.stack([np.diag(matrix), matrix.sum(1), matrix.sum(0)])


def scores_from(counts: Array) -> dict[str, Array]:
    """The measures of many confusion matrices at once, from the :func:`counts` of each.

    Parameters
    ----------
    counts : array (..., 3, C)

    Returns
    -------
    dict of {str: float64 array}
        ``pixel_accuracy``, ``mean_accuracy``, ``mean_iu``, ``mean_iu_present`` and ``fw_iu``, each (...), and ``iu``
        (..., C), as `ConfusionMatrix` defines them; ``mean_iu_present`` averages over the classes in the labels only.
    """
    hit, true, predicted = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    iu, labelled = _divide(hit, true + predicted - hit), true.sum(-1)
    return dict(
        pixel_accuracy=_divide(hit.sum(-1), labelled),
        mean_accuracy=_means(_divide(hit, true)),
        mean_iu=_means(iu),
        mean_iu_present=_means(np.where(true > 0, iu, np.nan)),
        fw_iu=_divide((true * np.nan_to_num(iu)).sum(-1), labelled),
        iu=iu,
    )


def boundary_band(label: Array, width: int) -> Array:
    """Keep the labels near boundaries and make all others void: a trimap, to measure accuracy along outlines.

    Pixel p is in the band if ``min {‖p − q‖_∞ : l(q) ≠ l(p)} ≤ width``: a pixel q of another class is at most `width`
    rows and columns away.  Measures over such a trimap are due to Kohli, Ladický and Torr (IJCV 2009).
    So if two classes touch, the band has `width` pixels on each side.  Void is not a class and is never in the band.
    If a void border v pixels wide separates two classes, the band has only ``width − v`` pixels on each side; VOC's
    borders are about 5 pixels wide, so `width` must be larger.

    Parameters
    ----------
    label : integer array (..., H, W)
        255 is void.
    width : int

    Returns
    -------
    array
        A new array of the shape and dtype of `label`.
    """
    label = _labels(label)
    if label.ndim < 2:
        raise ValueError(f"label has shape {label.shape}: give label maps (..., H, W)")
    if width < 1:
        raise ValueError(f"width is {width}: a band along boundaries must be at least 1 pixel wide")
    known = label != VOID
    classes = label.astype(np.int64)
    bounds = np.iinfo(np.int64)
    highest = _over_window(np.where(known, classes, bounds.min), width, np.maximum)
    lowest = _over_window(np.where(known, classes, bounds.max), width, np.minimum)
    return np.where(highest != lowest, label, label.dtype.type(VOID))


def _over_window(a, width, extreme):
    """The `extreme` (minimum or maximum) over the square of 2·width + 1 pixels around each pixel, axis by axis."""
    for axis in (-2, -1):
        a = np.moveaxis(a, axis, 0)
        out = a.copy()
        for d in range(1, min(width, len(a) - 1) + 1):
            extreme(out[:-d], a[d:], out=out[:-d])
            extreme(out[d:], a[:-d], out=out[d:])
        a = np.moveaxis(out, 0, axis)
    return a


def upper_bound(label: Array, factor: int) -> Array:
    """The best prediction of a net whose output is `factor` times coarser: `label`, subsampled and enlarged again.

    Along each axis, pixel i gets the label at ``min(⌊i/f⌋·f + ⌊f/2⌋, H − 1)``, the centre of its f×f cell (appendix A).
    The mean IU of this prediction is an upper bound: on VOC, 96.4 % for factor 8 and 86.1 % for 32.  A prediction
    cannot be void, so a cell with a void centre gets the label of its labelled pixel nearest to the centre, if any.

    Parameters
    ----------
    label : integer array (H, W)
        255 is void.
    factor : int

    Returns
    -------
    array
        An array of the shape and dtype of `label`; void only in cells without a labelled pixel.
    """
    label = _labels(label)
    if label.ndim != 2 or factor < 1:
        raise ValueError(
            f"label has shape {label.shape} and factor is {factor}: give one map (H, W) and a factor of at least 1"
        )
    first = [np.arange(0, n, factor) for n in label.shape]
    last = [np.minimum(f + factor, n) - 1 for f, n in zip(first, label.shape)]
    steps = range(-(factor // 2), factor - factor // 2)
    coarse = np.full([len(f) for f in first], VOID, label.dtype)
    for offset in sorted(product(steps, steps), key=lambda o: o[0] ** 2 + o[1] ** 2):
        # for all cells at once: first the centre, then pixels at increasing distances from it
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
        raise ValueError(f"labels of {label.dtype} cannot be {VOID}, which means void: use uint8 or a wider type")
    return label


def _divide(a, b):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(a, b)


def _means(values):
    """The mean over the last axis of the values that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0).sum(-1), known.sum(-1))


def _mean(values):
    """The mean of the values that are not NaN; NaN, without NumPy's warning, if all are."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
