"""A legend as pixels, which can be put below a picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ..arrays.types import Array
from ..engine.tables import letters
from .figures import swatches
from .fonts import use_fonts
from .style import styled

WIDTH = 640  # pixels of the picture at which the text has 100 dots an inch; larger pictures get larger text


@styled()
def with_legend(picture: Array, names: Sequence[str], colours: Sequence[Sequence[int]]) -> Array:
    """Put a legend below a picture: a swatch and a name for each class.

    Parameters
    ----------
    picture : (H, W, 3) uint8 array
    names : sequence of str
    colours : sequence of RGB, 0..255
        One for each name.

    Returns
    -------
    (H + height of the legend, W or more, 3) uint8 array
        The picture is at the top left, unchanged.  If it is narrower than a name, the rest is white.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from .page import Figure

    use_fonts(names)
    dots = 100 * max(1.0, picture.shape[1] / WIDTH)
    entry, line, margin = 0.45 + 0.075 * max(map(letters, names)), 0.2, 0.08  # inches
    width = max(picture.shape[1] / dots, entry + 2 * margin)
    across = max(1, int((width - 2 * margin) // entry))
    figure = Figure(figsize=(width, line * -(-len(names) // across) + 2 * margin), dpi=dots)
    figure.legend(
        handles=swatches(names, colours), loc="upper left", bbox_to_anchor=(margin / width, 1), borderaxespad=0.3,
        borderpad=0, handlelength=1.4, ncols=across,
    )  # fmt: skip
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():  # a font may lack characters of class names, whose colours are then still shown
        warnings.filterwarnings("ignore", "Glyph .* missing")
        canvas.draw()
    legend = np.asarray(canvas.buffer_rgba())[..., :3]
    size = len(picture) + len(legend), max(picture.shape[1], legend.shape[1])
    whole = np.full((*size, 3), 255, np.uint8)
    whole[: len(picture), : picture.shape[1]] = picture
    whole[len(picture) :, : legend.shape[1]] = legend
    return whole
