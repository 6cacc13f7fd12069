"""How sure a measure is: confidence intervals by the bootstrap, and paired tests by permutation, both over images.

The unit is the image, not the pixel, because the pixels of an image are not independent.  Neighbouring frames of a
video are not independent either: intervals and p-values over them are too small.  Sources: Efron and Tibshirani, "An
Introduction to the Bootstrap" (1993), chapters 13 and 15; Holm (Scandinavian Journal of Statistics 1979).
"""

from itertools import combinations
from typing import Any

import numpy as np

from ..arrays.types import Array
from .metrics import scores_from

LEVEL = 0.95
DRAWS = 1000
PERMUTATIONS = 10_000


def bootstrap(counts: Array, seed: int = 0) -> Array:
    """The counts of `DRAWS` data sets of n images, drawn from the n images with replacement.

    Parameters
    ----------
    counts : array (n, ...)
        Counts of each image, which add up.
    seed : int
        The same seed and n draw the same images, so that several models can be compared on each draw.

    Returns
    -------
    ndarray of float64, shape (DRAWS, ...)
    """
    n = len(counts)
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS)  # how often each image is drawn
    return (times @ np.asarray(counts, np.float64).reshape(n, -1)).reshape(DRAWS, *counts.shape[1:])


def interval(values: Array) -> tuple[Array, Array]:
    """The percentile interval that holds `LEVEL` of the values along the first axis; NaN values are left out.

    Parameters
    ----------
    values : array (DRAWS, ...)
    """
    outside, nothing = 100 * (1 - LEVEL) / 2, np.isnan(values).all(axis=0)
    low, high = np.nanpercentile(np.where(nothing, 0, values), [outside, 100 - outside], axis=0)
    return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)


def intervals(counts: Array, seed: int = 0) -> dict[str, tuple[Array, Array]]:
    """The confidence interval of each measure of :func:`minifcn.training.metrics.scores_from`, by the bootstrap.

    Parameters
    ----------
    counts : array (n, 3, C)
        The counts of each image.
    seed : int
    """
    return {name: interval(values) for name, values in scores_from(bootstrap(counts, seed)).items()}


def permutation_test(a: Array, b: Array, measure: str = "mean_iu", seed: int = 0) -> tuple[float, float]:
    """The difference of two models on the same images, and its p-value, by a paired permutation test.

    If the models were equally good, their predictions of an image could be exchanged.  The test exchanges those of a
    random half of the images, again and again; ``p`` is the share of these exchanges whose absolute difference is at
    least that of the models.  Up to 13 images, all ``2ⁿ`` exchanges are tried, and `p` is exact.  Otherwise
    `PERMUTATIONS` random ones are drawn, and the models themselves count as one more.

    Parameters
    ----------
    a, b : array (n, 3, C)
        The counts of each image, for each model.
    measure : str
        A measure of :func:`minifcn.training.metrics.scores_from`.
    seed : int

    Returns
    -------
    difference : float
        The measure of `a` minus that of `b`, over all images.
    p : float
    """
    n, exact = len(a), 2 ** len(a) <= PERMUTATIONS
    moves, rng = np.asarray(b - a, np.float64).reshape(n, -1), np.random.default_rng(seed)

    def differences(swapped):
        """The differences after the exchange of the images where `swapped`, (m, n), is 1."""
        moved = (swapped @ moves).reshape(-1, *a.shape[1:])
        return scores_from(a.sum(0) + moved)[measure] - scores_from(b.sum(0) - moved)[measure]

    difference = float(differences(np.zeros((1, n)))[0])
    if exact:
        found = differences(np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:  # in parts, because n may be large
        found = np.concatenate([differences(rng.integers(0, 2, (PERMUTATIONS // 20, n))) for _ in range(20)])
    as_large = int((np.abs(found) >= abs(difference) - 1e-12).sum())
    return difference, as_large / 2**n if exact else (as_large + 1) / (PERMUTATIONS + 1)


def holm(p: Any) -> list[float]:
    """p-values of several tests, corrected so that the probability of any false finding stays below the level (Holm).

    Of m values in increasing order, the k-th becomes the largest of ``(m − j + 1) · p_j`` for j ≤ k, at most 1.

    Parameters
    ----------
    p : sequence of float
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    result = np.empty_like(p)
    result[order] = corrected
    return result.tolist()


def compare(counts: dict[str, Array], measure: str = "mean_iu", seed: int = 0) -> list[dict[str, Any]]:
    """Compare every two of several models on the same images.

    Parameters
    ----------
    counts : dict of {str: array (n, 3, C)}
        The counts of each image, for each model by its name.
    measure : str
    seed : int

    Returns
    -------
    list of dict
        For each pair: ``first``, ``second``; the ``difference`` first − second, with its bootstrap interval ``low``,
        ``high``; ``p`` of the permutation test, and ``p_corrected`` for the number of pairs by :func:`holm`.
    """
    rows = []
    for first, second in combinations(counts, 2):
        difference, p = permutation_test(counts[first], counts[second], measure, seed)
        draws = (scores_from(bootstrap(counts[name], seed))[measure] for name in (first, second))
        low, high = map(float, interval(np.subtract(*draws)))
        rows.append(dict(first=first, second=second, difference=difference, low=low, high=high, p=p))
    for row, corrected in zip(rows, holm([row["p"] for row in rows])):
        row["p_corrected"] = corrected
    return rows
