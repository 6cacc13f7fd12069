"""Initial values: He, Xavier, zero, and the bilinear filter of the paper's interpolation layers.

Inside ``mf.shapes_only()`` each returns an array with zero strides, so that building a network of any size takes almost
no time and memory.
"""

from collections.abc import Callable
from functools import wraps
from math import prod
from typing import Any

import numpy as np

from ..arrays import backend
from ..arrays.types import Array, Shape
from ..kernels import is_shapes_only
from ..kernels.shapes import stand_in


def _stand_in_if_shapes_only(initialiser: Callable[[Any], Array]) -> Callable[[Any], Array]:
    """Decorator: inside ``shapes_only()`` return an array with zero strides instead of calling the initialiser."""

    @wraps(initialiser)
    def values(shape):
        return stand_in(np.float32(0), shape) if is_shapes_only() else initialiser(shape)

    return values


def _drawn(shape, draw):
    """``draw(shape)`` in float32, one output channel at a time: all of VGG16's fc6 would take 822 MB in float64."""
    values = np.empty(shape, np.float32)
    for row in values.reshape(len(values), -1):
        row[...] = draw(row.shape)
    return values


@_stand_in_if_shapes_only
def he(shape: Shape) -> Array:
    """He initialisation: normal with std √(2/fan_in), which keeps the variance of activations through ReLU layers.

    Parameters
    ----------
    shape : (O, C, kh, kw) or (O, C)
    """
    std = (2 / prod(shape[1:])) ** 0.5
    return _drawn(shape, lambda part: backend.rng().standard_normal(part) * std)


@_stand_in_if_shapes_only
def xavier(shape: Shape) -> Array:
    """Caffe's "xavier" initialisation: uniform in ±√(3/fan_in)."""
    bound = (3 / prod(shape[1:])) ** 0.5
    return _drawn(shape, lambda part: backend.rng().uniform(-bound, bound, part))


@_stand_in_if_shapes_only
def zero(shape: int | Shape) -> Array:
    """Zeros, Caffe's default initialisation, and the paper's for score layers (§4.2)."""
    return np.zeros(shape, np.float32)


def bilinear_filter(size: int) -> Array:
    """The 1-D filter of linear interpolation, (size,): ``w[m] = 1 − |m − c|/F``.

    ``F = ⌈k/2⌉``; ``c = F − 1`` for odd k, else ``F − ½``.  For upsampling by f use ``k = 2f − f mod 2``.

    Parameters
    ----------
    size : int
        k.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    return 1 - abs(np.arange(size) - centre) / factor


@_stand_in_if_shapes_only
def bilinear(shape: Shape) -> Array:
    """Weights of a transposed convolution that interpolates each channel separately (§3.3).

    Parameters
    ----------
    shape : (C, 1, k, k) for ``groups=C``, or (C, C, k, k)
        In (C, C, k, k) only the diagonal holds the filter; the rest is zero, because it would sum the channels.

    Examples
    --------
    >>> from minifcn.nn import init
    >>> init.bilinear((1, 1, 4, 4))[0, 0].tolist()[1]
    [0.1875, 0.5625, 0.5625, 0.1875]
    """
    if len(shape) != 4 or shape[2] != shape[3] or shape[1] not in (1, shape[0]):
        raise ValueError(f"a bilinear filter has shape (C, 1, k, k) or (C, C, k, k), got {tuple(shape)}")
    line = bilinear_filter(shape[2])
    weight = np.zeros(shape, np.float32)
    channels = np.arange(shape[0])
    weight[channels, channels % shape[1]] = np.outer(line, line)
    return weight
