"""Calibration: whether pixels that a model predicts with a probability of .8 are right in 80 % of the cases."""

import numpy as np

from ..arrays.types import Array

BINS = 15
"""The number of bins of equal width, as in Guo et al. (2017)."""


def calibration_counts(confidence: Array, right: Array) -> Array:
    """The pixels of each bin of confidence.

    Parameters
    ----------
    confidence : array of floats in 0..1
        The probability of the predicted class at each labelled pixel.
    right : bool array of the same shape
        Whether the prediction is the label.

    Returns
    -------
    ndarray of float64, shape (BINS, 3)
        Of the bin ``[b/BINS, (b+1)/BINS)`` (the last includes 1): the number of pixels, the sum of their confidences,
        and the number of right ones.  The counts of several images add up.
    """
    confidence = np.asarray(confidence, np.float64).ravel()
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    weights = (None, confidence, np.asarray(right).ravel())
    return np.stack([np.bincount(bins, w, minlength=BINS) for w in weights], axis=1).astype(np.float64)


def reliability(counts: Array) -> tuple[Array, Array]:
    """The mean confidence and the accuracy of each bin, (BINS,); NaN for a bin without pixels.

    Parameters
    ----------
    counts : array (BINS, 3)
        From :func:`calibration_counts`.
    """
    with np.errstate(invalid="ignore"):
        return counts[:, 1] / counts[:, 0], counts[:, 2] / counts[:, 0]


def expected_calibration_error(counts: Array) -> float:
    """``ECE = Σ_b (n_b/n) |accuracy_b − confidence_b|`` (Guo et al. 2017, equation 3); NaN without pixels.

    Parameters
    ----------
    counts : array (BINS, 3)
        From :func:`calibration_counts`.
    """
    total = counts[:, 0].sum()
    return float(np.abs(counts[:, 2] - counts[:, 1]).sum() / total) if total else float("nan")
