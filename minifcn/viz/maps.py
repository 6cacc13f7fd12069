"""Feature maps, filters and gradients of any shape, drawn as one mosaic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import backend
from ..arrays.types import Array
from ..engine.core import Tensor
from .style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 16  # largest number of maps in a mosaic


def mosaic(array: Array, most: int = MOST) -> Array:
    """A 2-D array that shows `array`: the first maps of its first image, in a grid with gaps of NaN.

    Parameters
    ----------
    array : array
        (N, C, H, W): shows the channels of the first image; (O, C, kh, kw): the first filter's channels or, if there
        are at most three, the first channel of many filters; (C, H, W); (H, W); (C,) becomes a row.
    most : int
        The largest number of maps to show.

    Returns
    -------
    ndarray of float
    """
    array = np.asarray(backend.asnumpy(array), dtype=float)
    if array.ndim < 2:
        return array.reshape(1, -1)
    while array.ndim > 3:
        # Filters with at most 3 input channels: show the first channel of many filters, not all channels of one.
        array = array[:, 0] if array.shape[1] <= 3 < array.shape[0] and array.shape[-1] < 12 else array[0]
    maps = array.reshape(-1, *array.shape[-2:])[:most]
    n, h, w = maps.shape
    across = int(np.ceil(np.sqrt(n * h / w))) if n > 1 else 1
    down, gap = -(-n // across), max(1, max(h, w) // 24) if n > 1 else 0
    grid = np.full((down * (h + gap) - gap, across * (w + gap) - gap), np.nan)
    for k, one in enumerate(maps):
        top, left = k // across * (h + gap), k % across * (w + gap)
        grid[top : top + h, left : left + w] = one
    return grid


def show_array(axes, array, title="", signed=None):
    """Draw an array as a mosaic into axes; the colours of `signed` values diverge from white at 0."""
    picture = mosaic(array)
    finite = picture[np.isfinite(picture)]
    signed = bool(finite.size) and finite.min() < 0 if signed is None else signed
    limit = max(np.abs(finite).max(), 1e-12) if finite.size else 1
    colours = dict(cmap="RdBu_r", vmin=-limit, vmax=limit) if signed else dict(cmap="viridis", vmin=0, vmax=limit)
    axes.imshow(picture, interpolation="nearest", **colours)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8, fontweight="normal")
    for spine in axes.spines.values():
        spine.set_visible(False)


@styled()
def feature_maps(tensors: Mapping[str, Array | Tensor], columns: int = 3) -> Figure:
    """Draw several arrays or tensors, each as a mosaic of its maps.

    Parameters
    ----------
    tensors : dict of {str: array or Tensor}
        The arrays by the name to show.
    columns : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    rows = -(-len(tensors) // columns)
    figure = Figure(figsize=(3.1 * columns, 3.2 * rows), layout="constrained")
    for k, (name, value) in enumerate(tensors.items()):
        array = getattr(value, "data", value) if not isinstance(value, np.ndarray) else value
        shape = "×".join(map(str, array.shape))
        show_array(figure.add_subplot(rows, columns, k + 1), array, f"{name}   {shape}")
    return figure


@styled()
def filters(weight: Array | Tensor, most: int = 64) -> Figure:
    """Draw the kernels of a convolution's weight, (O, C, kh, kw): in colour if C = 3, else their first channel.

    Parameters
    ----------
    weight : Tensor or array
    most : int
        The largest number of kernels to show.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    w = np.asarray(backend.asnumpy(getattr(weight, "data", weight)), dtype=float)[:most]
    across = int(np.ceil(np.sqrt(len(w))))
    figure = Figure(figsize=(5, 5 * -(-len(w) // across) / across))
    limit = max(np.abs(w).max(), 1e-12)
    for k, kernel in enumerate(w):
        axes = figure.add_subplot(-(-len(w) // across), across, k + 1)
        if len(kernel) == 3:
            axes.imshow(0.5 + kernel.transpose(1, 2, 0) / limit / 2)
        else:
            axes.imshow(kernel[0], cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_axis_off()
    figure.subplots_adjust(0.02, 0.02, 0.98, 0.98, 0.08, 0.08)
    return figure
