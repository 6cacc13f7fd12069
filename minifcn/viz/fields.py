"""A figure of what one unit of a network sees: nested fields on the image, and the cells below it in every layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .style import GREY, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAP, IMAGE, LINE = "#e9ebee", "#f4f5f7", "#c9ccd1"  # a layer's cells, the image, fine lines
MOST = 44  # largest number of rows in the side view: more would not be legible


@styled()
def receptive_fields(
    image_size: Sequence[int], layers: Sequence[dict[str, Any]], unit: str, padding: Sequence[int] = (0, 0)
) -> Figure:
    """Draw the field of one unit of each layer on the image, and a side view of all cells that one unit sees.

    Parameters
    ----------
    image_size : (int, int)
        Height and width.
    layers : sequence of dict
        The layers in the order they run; the unit belongs to the last one.  Keys: ``name``; ``size`` (h, w) of the map;
        ``jump`` and ``start``, (h, w) in pixels; ``field``, (top, bottom, left, right) in pixels, of the layer's unit
        that is nearest to the drawn one; ``seen``, the first and the last column of its cells that the drawn unit sees.
    unit : str
        The name of the drawn unit.
    padding : (int, int)
        The padding (h, w) of the first layer.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import colormaps

    from .page import Figure

    rows = _thinned(layers)
    ramp = colormaps["viridis_r"]
    colours = {id(row): ramp(0.12 + 0.88 * k / max(len(rows) - 1, 1)) for k, row in enumerate(rows)}
    stages = _stages(rows)

    # All lengths are inches: the names set the widths of their columns, and the number of rows sets the height.
    tall = max(4.2, 0.19 * (len(rows) + 1))
    keys = [f"{row['name']}   {_by(_size(row['field']))}" for row in stages]
    key, name = (0.075 * max(map(len, texts)) + 0.15 for texts in (keys, [row["name"] for row in rows]))
    plane, side, figures, gap, margin, head, foot = min(tall - 0.3, 6.0), 5.0, 1.0, 0.35, 0.15, 0.45, 0.45
    width, height = margin + plane + gap + key + gap + name + side + figures + margin, head + tall + foot
    figure = Figure(figsize=(width, height))

    def panel(left, wide):
        return figure.add_axes((left / width, foot / height, wide / width, tall / height))

    _draw_plane(panel(margin, plane + gap + key), image_size, stages, keys, colours, padding, (plane, gap, key, tall))
    _draw_side(panel(margin + plane + gap + key + gap + name, side), image_size[1], rows, colours, unit, len(layers))
    return figure


def _draw_plane(axes, image_size, stages, keys, colours, padding, inches):
    """Draw the image from above, with one field of each stage, and a key at its right."""
    from matplotlib.patches import Rectangle

    (h, w), (plane, gap, key, tall) = image_size, inches
    ring = -padding[0], h + padding[0], -padding[1], w + padding[1]
    tops, bottoms, lefts, rights = zip(ring, *(row["field"] for row in stages))
    top, bottom, left, right = min(tops), max(bottoms), min(lefts), max(rights)
    scale = 1.02 * max(right - left, bottom - top) / plane  # pixels per inch
    left, top = (left + right - scale * plane) / 2, top - 0.1 * scale
    axes.set(xlim=(left, left + scale * (plane + gap + key)), ylim=(top + scale * tall, top))
    axes.axis("off")

    def rectangle(top, bottom, left, right, **style):
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, **style))

    if max(padding) > 0.02 * max(h, w):
        rectangle(*ring, facecolor="white", edgecolor=LINE, hatch="////", linewidth=0.8)
    rectangle(0, h, 0, w, facecolor=IMAGE, edgecolor=GREY, linewidth=1)
    coarse = max(stages, key=lambda row: row["jump"][1])
    gridded = min(coarse["jump"]) > 0.08 * scale  # a finer grid would look like a grey area
    for lines, axis, n, far in ((axes.hlines, 0, h, w), (axes.vlines, 1, w, h)) if gridded else ():
        jump, start = coarse["jump"][axis], coarse["start"][axis] + 0.5  # positions of corners, not of centres
        edges = [start + (i - 0.5) * jump for i in range(coarse["size"][axis] + 1)]
        lines([e for e in edges if 0 < e < n], 0, far, color=LINE, linewidth=0.5, zorder=1)

    note = f"image {_by(image_size)}" + (f", padding {_one(padding)}" if max(padding) else "")
    note += f"; grid: the cells of {coarse['name']}, {_one(coarse['jump'])} pixels each" if gridded else ""
    axes.text(left, bottom + 0.15 * scale, note, va="top", color=GREY, size=8)

    for row in reversed(stages):
        colour = colours[id(row)]
        rectangle(*row["field"], facecolor=(*colour[:3], 0.16), edgecolor=colour, linewidth=1.3, zorder=1.5)

    # The key lists the fields from the largest to the smallest, and the last entry stands at the height of the smallest
    # field's top edge, so that the leader lines do not cross.
    middle, high = sum(stages[0]["field"][:2]) / 2, stages[-1]["field"][0]
    step = min(0.3 * scale, max(0.19 * scale, (middle - high) / len(stages)))
    first = max(middle - step * (len(stages) - 1), top + 0.15 * scale)
    x, bend = left + scale * (plane + gap), left + scale * (plane + 0.4 * gap)
    for k, (row, text) in enumerate(zip(reversed(stages), reversed(keys))):
        y, (up, down, _, far) = first + step * k, row["field"]
        axes.plot([far, bend, x - 0.05 * scale], [min(max(y, up), down), y, y], color=colours[id(row)], linewidth=0.8)
        axes.text(x, y, text, va="center", size=8)
    axes.set_title("One unit of each layer, on the image")


def _draw_side(axes, w, rows, colours, unit, count):
    """Draw the layers from the side, the image at the bottom: along the columns, all cells below the unit."""
    from matplotlib.ticker import MaxNLocator

    def figures(k, cells, jump):
        for x, text in ((1.07, cells), (1.19, jump)):
            axes.text(x, k, text, transform=axes.get_yaxis_transform(), ha="right", va="center", size=8)

    ends = []  # (left, right) of the seen cells, in pixels
    maps = [(r["start"][1] - r["jump"][1] / 2, r["size"][1] * r["jump"][1]) for r in rows]  # left end, length
    across = max(left + length for left, length in maps) - min(left for left, _ in maps)
    for k, (row, (left, length)) in enumerate(zip(rows, maps), start=1):
        jump, (first, last) = row["jump"][1], row["seen"]
        axes.barh(k, length, left=left, height=0.62, color=MAP)
        ends.append((left + first * jump, left + (last + 1) * jump))
        axes.barh(k, ends[-1][1] - ends[-1][0], left=ends[-1][0], height=0.62, color=colours[id(row)])
        if jump > 0.012 * across:
            between = [left + i * jump for i in range(first + 1, last + 1)]
            axes.vlines(between, k - 0.31, k + 0.31, color="white", linewidth=0.6)
        figures(k, last - first + 1, _by([jump]))
    left, right = rows[-1]["field"][2:]
    axes.barh(0, w, left=-0.5, height=0.62, color=MAP)
    axes.barh(
        0, right - left, left=left - 0.5, height=0.62, facecolor="none", edgecolor=GREY, hatch="/////", linewidth=0.8
    )
    ends.insert(0, (left - 0.5, right - 0.5))
    figures(0, right - left, "")
    axes.fill_betweenx(range(len(ends)), *zip(*ends), color="#440154", alpha=0.07, linewidth=0, zorder=0.5)
    for border in (-0.5, w - 0.5):
        axes.axvline(border, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.6)

    axes.set_yticks(range(len(rows) + 1), ["image", *(row["name"] for row in rows)])
    axes.set_ylim(-0.7, len(rows) + 0.7)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    left_out = f"; {count - len(rows)} layers in between are left out" if count > len(rows) else ""
    axes.set_xlabel(f"column of the image{left_out}", size=8)
    axes.set_title(f"All that {unit} sees")
    above = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "color": GREY, "size": 8}
    for x, text in ((1.07, "cells"), (1.19, "jump")):
        axes.annotate(text, xy=(x, 1), xytext=(0, 6), **above)


def _thinned(layers):
    """At most about `MOST` layers: the first, the last, those at which the jump changes, and evenly chosen others."""
    if len(layers) <= MOST:
        return list(layers)
    changes = {k for k in range(1, len(layers)) if layers[k]["jump"] != layers[k - 1]["jump"]} | {0, len(layers) - 1}
    step = -(-len(layers) // max(MOST - len(changes), 1))
    return [row for k, row in enumerate(layers) if k in changes or k % step == 0]


def _stages(rows):
    """The rows to draw on the image, by size of field.

    These are the first row with each coarser jump, the last row with the coarsest jump, and the unit's row; between two
    fields whose widths differ by more than a factor of 4, one more.
    """
    stages, coarsest = [], 0
    for row in rows:
        if row["jump"][1] > coarsest:
            coarsest = row["jump"][1]
            stages.append(row)
    stages += [[row for row in rows if row["jump"][1] == coarsest][-1], rows[-1]]
    different = {tuple(row["field"]): row for row in stages}
    stages = sorted(different.values(), key=_width)
    for small, large in pairwise(stages[:]):
        if _width(large) > 4 * _width(small):  # in dilated nets the field grows while the jump stays the same
            middle = (_width(small) * _width(large)) ** 0.5
            stages.append(min(rows, key=lambda row: abs(_width(row) - middle)))
    return sorted({tuple(row["field"]): row for row in stages}.values(), key=_width)


def _width(row):
    return _size(row["field"])[1]


def _size(field):
    top, bottom, left, right = field
    return bottom - top, right - left


def _by(pair):
    return "×".join(f"{n:.3g}" if n % 1 else f"{n:.0f}" for n in pair)


def _one(pair):
    return _by(pair[:1] if pair[0] == pair[1] else pair)
