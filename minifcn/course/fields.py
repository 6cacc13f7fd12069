"""A6's last task: pictures of fields, whose furrows' direction is the class, and the net that learns them."""

import numpy as np

from .. import models
from ..arrays import backend
from ..data.images import VOID

CLASSES = 5
NOISE = 8.0  # standard deviation of a pixel's value


def directions(rng):
    """An angle for each class: a fifth of 180° apart, from a random start, in random order."""
    return rng.permutation((np.arange(CLASSES) + rng.random()) * np.pi / CLASSES)


def fields(rng, angles, count, size=48):
    """Pictures of three to five fields, and their labels.

    Colour, contrast and the distance of the furrows (4 to 6 pixels) are random for each field, with the same
    distribution in all classes.  A pixel less than about two pixels from another field is void.

    Parameters
    ----------
    rng : numpy.random.Generator
    angles : array (C,)
        The direction across the furrows of each class, in radians.
    count : int
    size : int
        Height and width in pixels.

    Returns
    -------
    images : array (count, size, size, 3) of uint8
    labels : array (count, size, size) of uint8
        A class 0 … C − 1, or 255.
    """
    images = np.empty((count, size, size, 3), np.uint8)
    labels = np.empty((count, size, size), np.uint8)
    y, x = np.mgrid[:size, :size]
    for image, label in zip(images, labels):
        centres = rng.uniform(0, size, (rng.integers(3, 6), 2, 1, 1))
        distance = np.hypot(y - centres[:, 0], x - centres[:, 1])  # a pixel belongs to the nearest centre
        nearest = np.sort(distance, axis=0)
        values = rng.normal(0, NOISE, image.shape)
        for field in range(len(centres)):
            here, kind = distance.argmin(axis=0) == field, rng.integers(len(angles))
            angle, period = angles[kind] + rng.uniform(-0.06, 0.06), rng.uniform(4, 6)
            across = np.cos(angle) * x[here] + np.sin(angle) * y[here]
            wave = np.sin(2 * np.pi * (across / period + rng.random()))
            contrast = rng.uniform(25, 50) * rng.choice([-1, 1], 3)
            values[here] += rng.uniform(60, 195, 3) + wave[:, None] * contrast
            label[here] = kind
        label[nearest[1] - nearest[0] < 2] = VOID
        image[...] = values.clip(0, 255)
    return images, labels


def drawn_net(net, num_classes, seed):
    """A small FCN with the options in `net`, and weights that are drawn with `seed`.

    Raises
    ------
    ValueError
        If an option is unknown, or has another type or size than :data:`NETS` allows.
    """
    for name, value in net.items():
        if name not in NETS:
            raise ValueError(f"NET has the option {name!r}; it may have {', '.join(NETS)}")
        kind, allowed = NETS[name]
        if type(value) not in kind or not allowed(value):
            raise ValueError(f"NET has {name} = {value!r}, which is not allowed")
    backend.manual_seed(seed)
    return models.fcn("mini", num_classes=num_classes, **{"dropout": 0.0, **net})


NETS = {
    "stride": ((int,), (32, 16, 8).__contains__),
    "width": ((int, float), lambda width: 0.1 <= width <= 1),
    "batch_norm": ((bool,), lambda _: True),
    "dropout": ((int, float), lambda dropout: 0 <= dropout < 1),
}
"""The options of a net that A6's last task may choose: {name: (types, whether a value is allowed)}."""
