"""Everything that ``python -m minifcn.evaluate`` reports about a model, counted image by image in one pass."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import backend, parallel
from ..arrays.types import Array
from ..data import Loader
from ..data.protocol import DataSet
from ..engine.core import no_grad
from ..nn.losses import CrossEntropy, Loss
from ..nn.module import Module
from ..ops import softmax
from .calibration import BINS, calibration_counts
from .evaluation import as_loader, scored, summed
from .metrics import ConfusionMatrix, boundary_band, counts

WIDTHS = (1, 2, 4, 8, 16)
"""The widths in pixels of the bands along boundaries."""


@dataclass
class Assessment:
    """What a model did on a data set.

    Attributes
    ----------
    names : list of str
        The images.
    confusion : ConfusionMatrix
        Over all images.
    counts : ndarray of int64, shape (n, 3, C)
        Of each image: see :func:`minifcn.training.metrics.counts`.
    bands : dict of {int: ConfusionMatrix}
        Of the pixels at most so many rows and columns from another class.
    calibration : ndarray, shape (BINS, 3)
        See :func:`minifcn.training.calibration.calibration_counts`.
    loss : float
        Per labelled pixel.
    """

    names: list[str]
    confusion: ConfusionMatrix
    counts: Array
    bands: dict[int, ConfusionMatrix]
    calibration: Array
    loss: float

    def reordered(self, order: list[int]) -> "Assessment":
        """The same with the classes in another order: `order` lists their present ids."""

        def matrix(old):
            new = ConfusionMatrix(old.num_classes, old.present_only)
            new.matrix = old.matrix[np.ix_(order, order)]
            return new

        bands = {width: matrix(band) for width, band in self.bands.items()}
        return replace(self, confusion=matrix(self.confusion), counts=self.counts[..., order], bands=bands)


def names_of(dataset: Any) -> list[str]:
    """The names of the samples of a data set: those in its manifest, or their numbers."""
    if hasattr(dataset, "manifest"):
        return list(dataset.manifest())
    return [f"image {i}" for i in range(len(dataset))]


def assess(
    model: Module, data: Loader | DataSet, loss: Loss | None = None, progress: bool = False, tta: bool = False
) -> Assessment:
    """Measure a model on a data set.

    Under ``mpiexec``, all ranks must call it with the same arguments; all get the result for the whole data set.

    Parameters
    ----------
    model : FCN
    data : Loader or data set
    loss : Loss, optional
        By default cross-entropy.
    progress : bool
        Whether to show a progress bar if stderr is a terminal.
    tta : bool
        Whether to use test-time augmentation: see :func:`minifcn.models.inference.scores`.

    Returns
    -------
    Assessment
    """
    data, loss = as_loader(data), loss or CrossEntropy()
    n, classes = len(data.dataset), model.num_classes
    losses, each = np.zeros(n), np.zeros((n, 3, classes), np.int64)
    bins = np.zeros((n, BINS, 3))  # by image, as the losses: so their sums are the same for any number of ranks
    confusion, bands = ConfusionMatrix(classes), {width: ConfusionMatrix(classes) for width in WIDTHS}
    for indices, labels, scores in scored(model, data, progress, tta):
        with no_grad():
            losses[indices[0]] = summed(loss, scores, labels)
            confidence = backend.asnumpy(softmax(scores).data.max(axis=1))
        predicted, known = backend.asnumpy(scores.data.argmax(axis=1)), labels < classes
        confusion.update(labels, predicted)
        for width in WIDTHS:
            bands[width].update(boundary_band(labels, width), predicted)
        for k, i in enumerate(indices):
            each[i] = counts(labels[k], predicted[k], classes)
            right = (labels[k] == predicted[k])[known[k]]
            bins[i] = calibration_counts(confidence[k][known[k]], right)
    ranks = parallel.world()
    for array in (losses, each, bins, confusion.matrix, *(band.matrix for band in bands.values())):
        ranks.all_reduce(array)
    labelled = int(confusion.matrix.sum())
    value = float(losses.sum()) / labelled if labelled else float("nan")
    return Assessment(names_of(data.dataset), confusion, each, bands, bins.sum(0), value)
