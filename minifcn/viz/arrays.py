"""Pictures of small arrays: a grid of cells with their numbers, coloured by sign and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import backend
from ..arrays.types import Array
from ..engine.tables import letters
from .language import translated
from .style import CYCLE, GREY, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled()
def arrays(
    maps: Mapping[str, Array], marked: Mapping[str, Sequence[tuple[int, int]]] | None = None, cell: float = 0.42
) -> Figure:
    """Draw small arrays side by side, with their numbers.

    Parameters
    ----------
    maps : dict of {str: array}
        The arrays by name: (H, W), or (W,) for one row.  NaN cells stay empty.
    marked : dict of {str: sequence of (int, int)}, optional
        The cells (row, column) to outline, by the name of the array.
    cell : float
        The side of a cell, in inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If an array has more than two axes.
    """
    from .page import Figure

    maps = {name: as_map(values, name) for name, values in maps.items()}
    # All lengths are inches, from the left.  A map is as wide as its cells or its title, whichever is wider.
    gap, head, foot = 0.3, 0.32, 0.08
    titles = {name: heading(name, values.shape) for name, values in maps.items()}
    wides = [max(cell * v.shape[1], 0.085 * letters(titles[n])) for n, v in maps.items()]
    tall = cell * max(v.shape[0] for v in maps.values())
    width, height = sum(wides) + gap * (len(maps) + 1), head + tall + foot
    figure = Figure(figsize=(width, height))
    left = gap
    for (name, values), wide in zip(maps.items(), wides):
        h, w = values.shape
        box = (left / width, (foot + tall - cell * h) / height, cell * w / width, cell * h / height)
        draw_map(figure.add_axes(box), titles[name], values, (marked or {}).get(name, ()), CYCLE[1])
        left += wide + gap
    return translated(figure)


def as_map(array, name):
    """`array` as a float64 NumPy array (h, w); `name` is for the error message."""
    array = np.atleast_2d(np.asarray(backend.asnumpy(getattr(array, "data", array)), dtype=np.float64))
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}, but is drawn as one map: give an array (h, w)")
    return array


def heading(name, shape, padding=(0, 0)):
    """The title of a map: its name, and after three blanks its size and its padding."""
    (ph, pw), (h, w) = padding, shape
    return f"{name}   " + (f"{h}×{w}, padding {ph}" if ph == pw and ph else f"{h}×{w}")


def draw_map(axes, title, values, marked=(), colour=CYCLE[1], padding=(0, 0), numbers=True):
    """Draw a map with its numbers, the padding around it, and outlines around the marked cells."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Rectangle

    (h, w), (ph, pw), finite = values.shape, padding, values[np.isfinite(values)]
    limit = max(np.abs(finite).max(), 1e-12) if finite.size else 1
    axes.imshow(values, cmap="RdBu_r", vmin=-2.2 * limit, vmax=2.2 * limit)
    axes.set_xlim(-pw - 0.55, w + pw - 0.45)
    axes.set_ylim(h + ph - 0.45, -ph - 0.55)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    size = 8 if max(h + 2 * ph, w + 2 * pw) <= 10 else 6
    longest = max((len(short(value)) for value in finite.flat), default=1)
    size *= min(1, 4.5 / longest)  # a cell is 4.5 characters wide
    cells = [(row, column) for row in range(-ph, h + ph) for column in range(-pw, w + pw)]
    inside = [0 <= row < h and 0 <= column < w for row, column in cells]
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    for which, ink, line in ((True, "#c9ccd0", "-"), (False, "#e3e5e8", ":")):
        squares = [corners + np.array([column, row]) for (row, column), there in zip(cells, inside) if there == which]
        style = dict(facecolors="none", edgecolors=ink, linewidths=0.8, linestyles=line)
        # One artist draws all cells: one patch per cell is slow.
        axes.add_collection(PolyCollection(squares, **style), autolim=False)
    for (row, column), there in zip(cells, inside):
        value = values[row, column] if there else 0.0
        if numbers and not np.isnan(value):
            ink = "black" if there else GREY
            axes.text(column, row, short(value), ha="center", va="center", fontsize=size, color=ink)
    for row, column in marked:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, lw=2.4))


def short(value):
    """A number with three significant digits, or with two if three need more than five characters."""
    text = f"{value:.3g}" if abs(value) < 1000 or not np.isfinite(value) else f"{value:.4g}"
    text = text if len(text) <= 5 else f"{value:.2g}" if abs(value) < 1000 else text
    return text.replace("-", "−").replace("inf", "∞")
