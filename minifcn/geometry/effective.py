"""The effective receptive field: how much of what a unit sees counts (Luo et al., NIPS 2016).

The field says which pixels *can* matter.  How much each does matter falls off like a Gaussian: n layers of k×k at
stride 1 with equal weights give ``σ = √(n(k² − 1)/12)`` in a field of ``n(k − 1) + 1``, a share that shrinks as 1/√n.
"""

from typing import NamedTuple

import numpy as np

from ..arrays import backend
from ..engine.core import Tensor, no_grad, watch
from ..kernels.registry import shapes_only
from ..kernels.shapes import stand_in

TWO_SIGMA = 1 - 0.9545  # of the centre's value: what lies beyond two σ is not counted


def effective_receptive_field(function, images, unit=None):
    """The map ``E_x |∂y_centre/∂x|``: one backward pass from one unit.

    Parameters
    ----------
    function : callable
        Tensor (N, C, H, W) -> Tensor (N, K, h, w): a model, or a part of one.  Put a model in evaluation mode first:
        dropout hides units at random, and batch norm in training lets the images of a batch see each other.
    images : array or Tensor
        (N, C, H, W), floating point.
    unit : (int, int), optional
        Row and column in the output; None: the central one.  All its channels are asked.

    Returns
    -------
    ndarray of float64
        (H, W): the absolute gradient, averaged over the images, summed over their channels.  Not normalised, so that
        maps of several draws of weights can be averaged; divide by the maximum to look at one.

    Raises
    ------
    ValueError
        If the output has no such unit.

    Notes
    -----
    Only the images' gradient is computed; parameters neither lose nor gain one.  They are frozen for all threads
    meanwhile: let no other one train them.

    The map is zero where nothing counts, and everywhere if the unit is dead or its scores have zero weights, as those
    of a new FCN.
    """
    x = Tensor(images.data if isinstance(images, Tensor) else images, requires_grad=True)
    learned = _parameters_of(function, x)
    for p in learned:
        p.requires_grad = False
    try:
        y = function(x)
        at = tuple(n // 2 for n in y.shape[2:]) if unit is None else tuple(unit)
        if len(at) != 2 or not all(0 <= i < n for i, n in zip(at, y.shape[2:])):
            raise ValueError(f"there is no unit {at} in an output of {y.shape[2:]}: count rows and columns from 0")
        gy = backend.of(y.data).zeros(y.shape, y.dtype)
        gy[:, :, at[0], at[1]] = 1
        y.backward(gy)
    finally:
        for p in learned:
            p.requires_grad = True
    return np.abs(backend.asnumpy(x.grad).astype(np.float64)).mean(0).sum(0)


class Extent(NamedTuple):
    """How far an effective receptive field reaches.

    Attributes
    ----------
    sigma : (float, float)
        Standard deviation along h and w, of the sums over the other axis.
    width : (int, int)
        Pixels above 4.55 % of the centre, in the column and the row through it.
    pixels : int
        Pixels above 4.55 % of the centre, in all; Luo et al. call the root of it the field's size.
    """

    sigma: tuple
    width: tuple
    pixels: int


def extent(field):
    """How far a map of :func:`effective_receptive_field` reaches; its centre is where it is largest.

    Parameters
    ----------
    field : (H, W) array

    Returns
    -------
    Extent

    Raises
    ------
    ValueError
        If the map is zero everywhere.
    """
    if not np.any(field):
        raise ValueError("this field is zero everywhere: the unit is dead, or its scores have zero weights at first")
    centre = np.unravel_index(np.argmax(field), field.shape)
    above = field > TWO_SIGMA * field[centre]
    sigma = []
    for axis in (0, 1):
        weight = field.sum(1 - axis) / field.sum()
        cells = np.arange(len(weight))
        sigma.append(float(np.sqrt(weight @ (cells - weight @ cells) ** 2)))
    width = int(above[:, centre[1]].sum()), int(above[centre[0]].sum())
    return Extent(tuple(sigma), width, int(above.sum()))


def _parameters_of(function, x):
    """The leaves besides x that gather gradients: found by running the function once for its shapes."""
    found = {}

    def note(node, inputs, output):
        found.update({id(t): t for t in inputs if t.creator is None and t.requires_grad and t is not probe})

    probe = Tensor(stand_in(x.data, x.shape))
    with no_grad(), shapes_only(), watch(note):
        function(probe)
    return list(found.values())
