"""The effective receptive field: how much each pixel in the field of a unit influences it (Luo et al., NIPS 2016).

The receptive field says which pixels *can* influence a unit.  Their influence falls off from the centre like a
Gaussian.  n layers of k×k at stride 1 with equal weights give ``σ = √(n(k² − 1)/12)`` in a field of ``n(k − 1) + 1``
cells, so the effective share of the field shrinks as 1/√n.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np

from ..arrays import backend
from ..arrays.types import Array
from ..engine.core import Tensor, no_grad, watch
from ..kernels.registry import overridden, override, shapes_only
from ..kernels.shapes import stand_in

TWO_SIGMA = 1 - 0.9545  # the share of the centre's value below which a pixel does not count, as in Luo et al.


def effective_receptive_field(
    function: Callable[[Tensor], Tensor], images: Tensor | Array, unit: Sequence[int] | None = None
) -> Array:
    """The map ``E_x |∂y_centre/∂x|``, from one backward pass that starts at one unit.

    Parameters
    ----------
    function : callable
        Tensor (N, C, H, W) -> Tensor (N, K, h, w): a model, or a part of one.  Put a model in evaluation mode first:
        in training, dropout hides units at random, and batch normalisation makes the images of a batch depend on each
        other.
    images : array or Tensor
        (N, C, H, W), floating point.
    unit : (int, int), optional
        Row and column in the output; None: the central unit.  The gradient is that of the sum over its channels.

    Returns
    -------
    ndarray of float64
        (H, W): the absolute gradient, averaged over the images and summed over their channels.  It is not normalised,
        so that maps for several random weights can be averaged; divide it by its maximum to plot it.

    Raises
    ------
    ValueError
        If the output has no such unit.

    Notes
    -----
    Only the gradient of the images is computed, and those of the parameters stay as they are.  Meanwhile
    ``requires_grad`` of the parameters is False in all threads: no other thread may train the model.

    The map is zero everywhere if the unit is dead (a ReLU that passes nothing) or its weights are zero, as those of the
    score layers of a new FCN are.
    """
    x = Tensor(images.data if isinstance(images, Tensor) else images, requires_grad=True)
    learned = _parameters_of(function, x)
    for p in learned:
        p.requires_grad = False
    try:
        with _only_the_cells_of_a_window():
            y = function(x)
            at = tuple(n // 2 for n in y.shape[2:]) if unit is None else tuple(unit)
            if len(at) != 2 or not all(0 <= i < n for i, n in zip(at, y.shape[2:])):
                raise ValueError(f"there is no unit {at} in an output of {y.shape[2:]} cells: count from 0")
            gy = backend.of(y.data).zeros(y.shape, y.dtype)
            gy[:, :, at[0], at[1]] = 1
            y.backward(gy)
    finally:
        for p in learned:
            p.requires_grad = True
    return np.abs(backend.asnumpy(x.grad).astype(np.float64)).mean(0).sum(0)


def _only_the_cells_of_a_window():
    """Inside this context, a convolution reads no cell outside its windows, unless the caller chose another kernel.

    With Winograd's algorithm, rounding makes each output of a tile depend a little on all inputs of the tile, and
    pixels outside the receptive field would have an influence.
    """
    chosen = any(overridden(kernel, None) for kernel in ("conv2d", "conv2d_grad_input", "im2col", "col2im"))
    return nullcontext() if chosen else override(conv2d="banded")


class Extent(NamedTuple):
    """The size of an effective receptive field.

    Attributes
    ----------
    sigma : (float, float)
        Standard deviations along h and w, each of the map summed over the other axis.
    width : (int, int)
        The number of pixels above 4.55 % of the centre's value, in the column and in the row through the centre.
    pixels : int
        The number of all pixels above 4.55 % of the centre's value.  Luo et al. call its root the size of the field.
    """

    sigma: tuple[float, ...]
    width: tuple[int, int]
    pixels: int


def extent(field: Array) -> Extent:
    """The size of a map from :func:`effective_receptive_field`, around its largest value.

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
        raise ValueError("the map is zero everywhere: the unit is dead, or its weights are zero (as in a new FCN)")
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
    """The leaves besides x that require gradients, found by running the function once for its shapes."""
    found = {}

    def note(node, inputs, output):
        found.update({id(t): t for t in inputs if t.creator is None and t.requires_grad and t is not probe})

    probe = Tensor(stand_in(x.data, x.shape))
    with no_grad(), shapes_only(), watch(note):
        function(probe)
    return list(found.values())
