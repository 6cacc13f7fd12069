"""Statistics of a data set (sizes, label counts), and settings derived from them (crops, class weights).

Sizes come from the data set's optional attribute ``sizes``; without it every sample is loaded once.
"""

import numpy as np

from .samples import called, label_of

CROP = 320  # pixels of each side of a training crop of large pictures
LARGE = 150_000  # pixels of a picture from which training uses crops: a batch of 8 whole ones needs about 3 GB


def sizes(dataset):
    """The (height, width) of all samples, as an array (n, 2)."""
    if hasattr(dataset, "sizes"):
        return np.array(dataset.sizes, int).reshape(-1, 2)
    return np.array([np.shape(dataset[i][1])[:2] for i in range(len(dataset))])


def typical_pixels(areas, batch_size, labelled=None):
    """The number of pixels in a typical batch: the median over 999 random batches.

    The median is used because one huge image would dominate the mean.

    Parameters
    ----------
    areas : array of int
        Number of pixels of each image.
    batch_size : int
    labelled : array of int, optional
        Number of labelled pixels of each image.  They are counted instead of `areas` if less than half of all pixels
        are labelled.
    """
    areas = np.asarray(areas)
    if labelled is not None and 2 * np.sum(labelled) < areas.sum():
        areas = np.asarray(labelled)
    if batch_size >= len(areas):
        return max(int(areas.sum()), 1)
    drawn = np.random.default_rng(0).integers(0, len(areas), (999, batch_size))
    return max(int(np.median(areas[drawn].sum(axis=1))), 1)


def suitable_crop(dataset):
    """(height, width) of the crops to train on, because whole large pictures need too much memory; None if they fit.

    Pictures are large if one of ten has more than `LARGE` pixels.
    """
    shapes = sizes(dataset)
    return (CROP, CROP) if np.quantile(shapes.prod(axis=1), 0.9) > LARGE else None


def typical_side(dataset):
    """The median of the shorter sides in pixels; None for pieces of a map, which have one scale."""
    return None if hasattr(dataset, "window") else int(np.median(sizes(dataset).min(axis=1)))


def class_weights(dataset, power):
    """Weights ∝ frequency^−power for each class, scaled so that the mean weight over all labelled pixels is 1.

    A class that never occurs has the weight 0.

    Parameters
    ----------
    dataset : data set
    power : float
        0: all weights are 1.  ½: between natural and balanced.  1: every class contributes equally.

    Returns
    -------
    ndarray of float32, (C,)
    """
    return balanced(label_counts(dataset), power)


def label_counts(dataset):
    """The number of pixels of each class in each image, (n, C); void pixels are not counted."""
    counts = np.zeros((len(dataset), dataset.num_classes), int)
    for i in range(len(dataset)):
        label = label_of(f"sample {i} of {called(dataset)}", dataset[i][1])
        counts[i] = np.bincount(label[label < dataset.num_classes], minlength=dataset.num_classes)
    return counts


def balanced(counts, power):
    """:func:`class_weights` computed from the result of :func:`label_counts`."""
    counts = counts.sum(axis=0)
    frequency = counts / max(counts.sum(), 1)
    weights = np.where(counts > 0, np.maximum(frequency, 1e-12) ** -float(power), 0)
    return (weights / max((frequency * weights).sum(), 1e-12)).astype(np.float32)


def pixels_per_batch(loader, labelled=None):
    """The number of pixels in a typical batch of a loader: see :func:`typical_pixels`.  Crops have their own size."""
    areas = sizes(loader.dataset).prod(axis=1)
    if labelled is not None:
        labelled = np.resize(labelled, len(areas))  # the loader may repeat the images (`Repeated`)
    if crop := getattr(loader.augment, "crop", None):
        labelled = None if labelled is None else labelled / np.maximum(areas, 1) * np.prod(crop)
        areas = np.full(len(areas), np.prod(crop))
    return typical_pixels(areas, loader.batch_size, labelled)
