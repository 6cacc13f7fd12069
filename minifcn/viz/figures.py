"""The figures of a segmentation run: example predictions, learning curves, the confusion matrix.

Every function takes plain NumPy arrays. `colour`, `errors` and `overlay` return uint8 RGB pictures. `samples`, `curves`
and `confusion` return a `matplotlib.figure.Figure` that is not registered with pyplot: they need no display and leave
no global state. Save it with ``figure.savefig("samples.png")``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.types import Array
from ..data.images import VOID
from ..engine.tables import letters
from .fonts import use_fonts
from .language import translated
from .style import CYCLE, GREY, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOID_COLOUR = (224, 224, 192)  # the cream of Pascal VOC

# Wrong pixels are not drawn in the predicted class's colour, which may be almost the light grey of CORRECT.
CORRECT, WRONG, UNJUDGED = (232, 232, 232), (204, 30, 40), (72, 72, 72)

# Column of log.csv, name in the legend, style of the line.  The best epoch is the one with the highest mean IU.
SCORES = (
    ("pixel_accuracy", "pixel accuracy", {"color": CYCLE[0], "linestyle": "--"}),
    ("mean_accuracy", "mean accuracy", {"color": CYCLE[2], "linestyle": "-."}),
    ("mean_iu", "mean IU", {"color": CYCLE[1], "linewidth": 2.4}),
    ("fw_iu", "f.w. IU", {"color": CYCLE[3], "linestyle": ":", "linewidth": 2}),
)


def colour(label: Array, palette: Array | Sequence[Sequence[int]]) -> Array:
    """Convert a label map to an RGB picture.

    Parameters
    ----------
    label : (H, W) integer array
        Classes; 255 is void.
    palette : (K, 3) sequence of 0..255
        The colour of each class.

    Returns
    -------
    (H, W, 3) uint8 array
        Void, and any label without a colour in the palette, becomes (224, 224, 192), as in VOC.
    """
    lookup = np.full((VOID + 1, 3), VOID_COLOUR, np.uint8)
    lookup[: len(palette)] = palette
    return lookup[label]


def overlay(image: Array, label: Array, palette: Array | Sequence[Sequence[int]], alpha: float = 0.5) -> Array:
    """Blend a label map with its image; void pixels show the image alone.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    label : (H, W) integer array
    palette : (K, 3) sequence of 0..255
    alpha : float
        Weight of the label's colour, from 0 (the image alone) to 1 (the label alone).

    Returns
    -------
    (H, W, 3) uint8 array
    """
    out = np.empty(image.shape, np.uint8)
    for top in range(0, len(image), 256):  # in bands: floating-point numbers take eight times the memory
        part = slice(top, top + 256)
        mixed = np.rint((1 - alpha) * image[part] + alpha * colour(label[part], palette))
        out[part] = np.where((label[part] == VOID)[..., None], image[part], mixed)
    return out


def errors(label: Array, prediction: Array) -> Array:
    """Draw where a prediction is right (light grey) or wrong (red), and where the label is void (dark grey).

    Parameters
    ----------
    label, prediction : (H, W) integer arrays

    Returns
    -------
    (H, W, 3) uint8 array
    """
    picture = np.where((label == prediction)[..., None], CORRECT, WRONG)
    picture[label == VOID] = UNJUDGED
    return picture.astype(np.uint8)


@styled()
def samples(
    images: Sequence[Array], labels: Sequence[Array], predictions: Sequence[Array], classes: Sequence[str],
    palette: Array | Sequence[Sequence[int]],
) -> Figure:  # fmt: skip
    """Draw examples, one per row: image, true labels, prediction and errors.

    Parameters
    ----------
    images : sequence of (H, W, 3) uint8 arrays
        Sizes may differ from row to row.
    labels, predictions : sequences of (H, W) integer arrays
    classes : sequence of K str
    palette : (K, 3) sequence of 0..255

    Returns
    -------
    matplotlib.figure.Figure
        Its height depends on the heights of the images.
    """
    from .page import Figure

    use_fonts(classes)

    # All lengths are inches, from the top.  The proportions of the images set the height.
    side, gap, margin, head, line = 2.2, 0.1, 0.15, 0.22, 0.21
    heights = [side * len(image) / len(image[0]) for image in images]
    any_void = any((label == VOID).any() for label in labels)
    names = [*classes, "void"] if any_void else list(classes)
    colours = [*palette[: len(classes)], VOID_COLOUR]
    entry = 0.5 + 0.08 * max(map(letters, names))  # the width of a swatch and the longest name
    across = max(1, int((3 * side + 2 * gap) // entry))
    lines = max(2 + any_void, -(-len(names) // across))  # of the errors' key or of the palette's, whichever is longer
    width = 2 * margin + 4 * side + 3 * gap
    height = margin + head + sum(heights) + line * len(heights) + line * lines + margin
    figure = Figure(figsize=(width, height))

    top = height - margin - head
    for row, (image, label, prediction, tall) in enumerate(zip(images, labels, predictions, heights)):
        pictures = {
            "image": image,
            "truth": colour(label, palette),
            "prediction": colour(prediction, palette),
            "error": errors(label, prediction),
        }
        for column, (title, picture) in enumerate(pictures.items()):
            left = margin + column * (side + gap)
            axes = figure.add_axes((left / width, (top - tall) / height, side / width, tall / height))
            # Only the photograph may be smoothed: blended label colours would look like other classes.
            axes.imshow(picture, aspect="auto", interpolation="antialiased" if column == 0 else "nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, linewidth=0.5)
            if row == 0:
                axes.set_title(title)
        hits = (label == prediction)[label != VOID]
        note = f"{100 * hits.mean():.1f} % correct" if hits.size else "only void pixels"
        axes.text(1, -0.04 / tall, note, transform=axes.transAxes, ha="right", va="top", color=GREY, size=8)
        top -= tall + line

    def key(left, names, colours, **options):
        figure.legend(
            handles=swatches(names, colours),
            loc="upper left",
            bbox_to_anchor=(left / width, (top - 0.04) / height),
            borderaxespad=0,
            borderpad=0,
            handlelength=1.4,
            **options,
        )

    key(margin, names, colours, ncols=across)
    key(margin + 3 * (side + gap), ["correct", "wrong", "void"][: 2 + any_void], [CORRECT, WRONG, UNJUDGED])
    return translated(figure)


def swatches(names, colours):
    """The handles of a legend: a coloured square for each name; `colours` are RGB, 0..255."""
    from matplotlib.patches import Patch

    return [
        Patch(label=name, facecolor=np.divide(rgb, 255), edgecolor=GREY, linewidth=0.5)
        for name, rgb in zip(names, colours)
    ]


@styled()
def curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot a training log: the loss on the left, the four scores on the right with a ring at the best mean IU.

    Parameters
    ----------
    rows : sequence of dict
        The rows of log.csv, values as numbers or text: epoch, loss and, if they were measured, val_loss,
        pixel_accuracy, mean_accuracy, mean_iu and fw_iu (fractions). Missing and empty values are skipped.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.ticker import MaxNLocator

    from .page import Figure

    figure = Figure(figsize=(10, 3.9), layout="constrained")
    losses, scores = figure.subplots(1, 2, sharex=True)
    epoch = _column(rows, "epoch")
    mark = "o" if len(rows) <= 25 else None  # a line through one point is invisible without its dot

    losses.set_title("loss")
    losses.yaxis.set_major_formatter("{x:,.10g}")  # without a common factor "1e6", which would overlap the title
    for name, legend in (("loss", "training"), ("val_loss", "validation")):
        values = _column(rows, name)
        if np.isfinite(values).any():
            losses.plot(epoch, values, marker=mark, label=legend)

    scores.set_title("scores, %")
    for name, legend, line in SCORES:
        values = 100 * _column(rows, name)
        if not np.isfinite(values).any():
            continue
        scores.plot(epoch, values, marker=mark, label=legend, **line)
        if name == "mean_iu":
            best = np.nanargmax(values)
            scores.plot(epoch[best], values[best], "o", ms=10, mfc="none", mec=line["color"], mew=1.6)
            best_at = f"best mean IU {values[best]:.1f} %, epoch {epoch[best]:g}"
            scores.set_title(best_at, loc="right", color=line["color"], fontweight="normal")
    scores.set_ylim(0, 100)
    if len(rows):
        scores.set_xlim(epoch[0] - 0.5, epoch[-1] + 0.5)

    for axes in (losses, scores):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y")
        if axes.lines:
            axes.set_ylim(bottom=0)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=4)
        else:
            axes.text(0.5, 0.5, "nothing logged", transform=axes.transAxes, ha="center", color=GREY)
    return translated(figure)


def _column(rows, name):
    """One column of the log as float64 (epochs,); NaN for a value that is missing or not finite."""
    values = [row.get(name) for row in rows]
    values = np.array([np.nan if value in (None, "") else float(value) for value in values])
    return np.where(np.isfinite(values), values, np.nan)


@styled()
def confusion(matrix: Array, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: each row in percent of its class's pixels, with the number of pixels and the IU.

    Parameters
    ----------
    matrix : (K, K) integer array
        Pixel counts: true class down, predicted class across (the paper's n_ij).
    classes : sequence of K str

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .page import Figure

    use_fonts(classes)

    matrix, count = np.asarray(matrix), len(classes)
    hits, total = np.diagonal(matrix), matrix.sum(1)
    with np.errstate(invalid="ignore"):  # a class without pixels has no percentages: NaN
        share = 100 * matrix / total[:, None]
        iu = 100 * hits / (total + matrix.sum(0) - hits)

    wide, tall, digits = (0.62, 0.45, 1) if count <= 12 else (0.4, 0.32, 0)
    wide = max(wide * count, 2)  # width of the matrix in inches: at least that of its title
    name = 0.08 * max(map(letters, classes))  # width of the longest class name in inches
    figure = Figure(figsize=(wide + name + 3.2, tall * count + 0.7 * name + 1.2), layout="constrained")
    cells, bars = figure.subplots(1, 2, width_ratios=(wide, 1.7))

    # The colour map ends at 150, so that black text is legible even on a cell of 100 %.
    cells.imshow(share, cmap="Blues", vmin=0, vmax=150, aspect="auto")
    for (i, j), value in np.ndenumerate(share):
        cells.text(j, i, _number(value, digits), ha="center", va="center", size=8)
    cells.set_title("% of the true class")
    cells.set(xlabel="predicted class", ylabel="true class")
    cells.set_xticks(range(count), classes, rotation=45, ha="right", rotation_mode="anchor")
    cells.set_yticks(range(count), classes)

    bars.barh(range(count), 100, height=0.6, color="#eceef0")
    bars.barh(range(count), np.nan_to_num(iu), height=0.6, color=CYCLE[0])
    for i, value in enumerate(iu):
        bars.text(128, i, _number(value, 1), ha="right", va="center", size=8)
    bars.set(xlim=(0, 130), ylim=cells.get_ylim(), xticks=[])
    bars.set_title("IU, %")
    bars.set_yticks(range(count), [f"{pixels:,}" for pixels in total], size=8)
    over_totals = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "color": GREY}
    bars.annotate("pixels", xy=(0, 1), xytext=(-3.5, 6), **over_totals)
    for axes in (cells, bars):
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return translated(figure)


def _number(value, digits):
    return "–" if np.isnan(value) else f"{value:.{digits}f}"
