"""What there is in a data set, counted: sizes and labels; and what suits them: a jitter, class weights.

A data set may say so by an optional member, ``sizes``, the (height, width) of every sample: else each is looked at.
"""

import numpy as np

from .samples import called, label_of

MOST_JITTER = 64


def sizes(dataset):
    """Heights and widths of all samples, (n, 2)."""
    if hasattr(dataset, "sizes"):
        return np.array(dataset.sizes, int).reshape(-1, 2)
    return np.array([np.shape(dataset[i][1])[:2] for i in range(len(dataset))])


def typical_pixels(areas, batch_size, labelled=None):
    """Pixels of a typical batch: the median of many that are drawn at random.

    Neither the mean, which one huge picture among many would decide, nor the first picture, which tells nothing.

    Parameters
    ----------
    areas : array of int
        Pixels of each picture.
    batch_size : int
    labelled : array of int, optional
        How many of them are labelled.  They count instead where they are less than half.
    """
    areas = np.asarray(areas)
    if labelled is not None and 2 * np.sum(labelled) < areas.sum():
        areas = np.asarray(labelled)
    if batch_size >= len(areas):
        return max(int(areas.sum()), 1)
    drawn = np.random.default_rng(0).integers(0, len(areas), (999, batch_size))
    return max(int(np.median(areas[drawn].sum(axis=1))), 1)


def suitable_jitter(dataset):
    """How far to translate pictures at random: up to 64 pixels, but a quarter of the smaller side.

    Half of it where the data set has real surroundings (``window``) to show instead of void.  One picture in ten may be
    smaller: a few tiny ones shall not decide.
    """
    smaller = np.quantile(sizes(dataset).min(axis=1), 0.1)
    return int(min(MOST_JITTER, smaller // (2 if hasattr(dataset, "window") else 4)))


def class_weights(dataset, power):
    """Weights ∝ frequency^−power for each class, scaled so that an average pixel weighs 1.

    0: all 1.  ½: between natural and balanced.  1: every class contributes alike.  A class that never occurs weighs 0.

    Parameters
    ----------
    dataset : data set
    power : float

    Returns
    -------
    ndarray of float32, (C,)
    """
    return balanced(label_counts(dataset), power)


def label_counts(dataset):
    """How many pixels of each class each image has, (n, C): void ones are left out."""
    counts = np.zeros((len(dataset), dataset.num_classes), int)
    for i in range(len(dataset)):
        label = label_of(f"sample {i} of {called(dataset)}", dataset[i][1])
        counts[i] = np.bincount(label[label < dataset.num_classes], minlength=dataset.num_classes)
    return counts


def balanced(counts, power):
    """:func:`class_weights` from :func:`label_counts`."""
    counts = counts.sum(axis=0)
    frequency = counts / max(counts.sum(), 1)
    weights = np.where(counts > 0, np.maximum(frequency, 1e-12) ** -float(power), 0)
    return (weights / max((frequency * weights).sum(), 1e-12)).astype(np.float32)


def pixels_per_batch(loader, labelled=None):
    """Pixels of a typical batch; `labelled`, of each image, if it is known."""
    return typical_pixels(sizes(loader.dataset).prod(axis=1), loader.batch_size, labelled)
