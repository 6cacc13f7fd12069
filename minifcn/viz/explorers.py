"""Explorers of geometry: what a unit sees on a picture, and where the maps of a network lie on its image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .. import models
from ..arrays.types import Array
from ..engine.core import Tensor, no_grad, watch
from ..engine.tables import letters
from ..errors import GeometryError
from ..geometry import effective_receptive_field, receptive_field, region
from ..kernels.registry import shapes_only
from ..kernels.shapes import stand_in
from ..nn.module import Module, evaluating
from .language import drawn
from .stepper import Explorer
from .style import CYCLE, GREY


def _positioned(model, size):
    """A stand-in image of `size`, and {layer: its output} of the model's layers that have a position on it."""
    image = Tensor(stand_in(model.parameters()[0].data, (1, model.in_channels, *size)), name="image")
    (root,), layers = image.where, {}

    def note(node, inputs, output):
        if root in output.where and not any(m.fault for m in output.where[root]):
            layers[node.name] = output

    with no_grad(), shapes_only(), evaluating(model), watch(note):
        model(image)
    return image, layers


class ReceptiveFieldExplorer(Explorer):
    """An explorer of one unit: choose its layer and position, see its receptive field and the weight of each pixel.

    Parameters
    ----------
    model : Module
        With `effective`, use a small model: each field takes a forward and a backward pass.
    picture : (H, W, 3) uint8 array
    effective : bool
        Also show the effective field: the absolute gradient of the unit with respect to the picture.
    """

    size = (9.6, 4.6)

    def __init__(self, model: Module, picture: Array, effective: bool = True) -> None:
        self.model, self.picture, self.effective = model, np.asarray(picture), effective
        self.image, layers = _positioned(model, self.picture.shape[:2])
        fields = {name: receptive_field(y, self.image) for name, y in layers.items()}
        names, last = [], None
        for name, field in fields.items():  # omit a layer whose field and jump equal those of the layer before
            if (field.size, field.jump) != last:
                names.append(name)
                last = field.size, field.jump
        self.layers = {name: layers[name] for name in names}

    def controls(self) -> dict[str, Any]:
        h, w = self.picture.shape[:2]
        return dict(layer=list(self.layers), row=range(0, h, max(1, h // 16)), column=range(0, w, max(1, w // 16)))

    def start(self) -> dict[str, Any]:
        rows, columns = (list(values) for values in list(self.controls().values())[1:])
        return dict(layer=list(self.layers)[-1], row=rows[len(rows) // 2], column=columns[len(columns) // 2])

    def unit(self, layer: str, row: int, column: int) -> tuple[int, ...]:
        """The unit (i, j) of a layer whose centre is nearest to a pixel."""
        y = self.layers[layer]
        maps = next(iter(y.where.values()))
        nearest = (round(float((at - m.start) / m.jump)) for at, m in zip((row, column), maps))
        return tuple(min(max(i, 0), n - 1) for i, n in zip(nearest, y.shape[2:]))

    def title(self, layer: str, row: int, column: int) -> str:
        unit = self.unit(layer, row, column)
        seen = region(self.layers[layer], self.image, unit, clip=False)
        h, w = self.layers[layer].shape[2:]
        return (
            f"{layer} ({h}×{w} units): unit {unit} sees {seen.size[0]}×{seen.size[1]} pixels, "
            f"rows {seen.top} … {seen.bottom - 1}, columns {seen.left} … {seen.right - 1}"
        )

    def draw(self, figure: Any, layer: str, row: int, column: int) -> None:
        from matplotlib.patches import Rectangle

        unit = self.unit(layer, row, column)
        seen = region(self.layers[layer], self.image, unit, clip=False)
        h, w = self.picture.shape[:2]
        views = ["what it sees"] + ["how much each pixel counts"] * self.effective
        top, left = min(seen.top, 0) - 2, min(seen.left, 0) - 2
        bottom, right = max(seen.bottom, h) + 2, max(seen.right, w) + 2
        for k, view in enumerate(views):
            axes = figure.add_axes((0.02 + 0.5 * k, 0.04, 0.46, 0.82))
            axes.set_facecolor("#eceef0")  # the padding
            if k == 0:
                axes.imshow(self.picture)
            else:
                count = self._effective(layer, unit)
                axes.imshow(self.picture, alpha=0.35)
                axes.imshow(count, cmap="magma", alpha=np.clip(3 * count, 0, 1))
            axes.add_patch(
                Rectangle(
                    (seen.left - 0.5, seen.top - 0.5), seen.size[1], seen.size[0], fill=False, ec=CYCLE[1], lw=2.2
                )
            )
            axes.plot(column, row, "+", color=CYCLE[1], ms=9, mew=2)
            axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
            axes.set_title(view, fontsize=9)

    @lru_cache(maxsize=64)  # noqa: B019  the cache may keep the explorer alive: it lives as long as its notebook
    def _effective(self, layer, unit):
        """The absolute gradient of a unit with respect to the picture, divided by its largest value."""

        def up_to(x):
            found = []
            note = lambda node, inputs, output: found.append(output) if node.name == layer else None  # noqa: E731
            with watch(note):
                self.model(x)
            return found[-1]

        with evaluating(self.model):
            count = effective_receptive_field(up_to, self.model.preprocessing(self.picture[None]), unit)
        return count / max(count.max(), 1e-30)


class CropExplorer(Explorer):
    """An explorer of alignment: choose padding and image size, see the maps and crops, or why they are impossible.

    Each bar shows where a map lies on the image, from the left edge of its first cell to the right edge of its last.

    Parameters
    ----------
    model : str
        The name of a preset of :mod:`minifcn.models`.
    pads, sizes : sequence of int
        The paddings and image sizes to choose from.
    """

    size = (9.6, 5.4)

    def __init__(
        self, model: str = "fcn8s_vgg16", pads: Sequence[int] = (0, 20, 40, 60, 80, 81, 100, 120),
        sizes: Sequence[int] = (96, 160, 224, 320, 500),
    ) -> None:  # fmt: skip
        self.name, self.pads, self.sizes = model, list(pads), list(sizes)

    def controls(self) -> dict[str, Any]:
        return dict(padding=self.pads, size=self.sizes)

    def start(self) -> dict[str, Any]:
        return dict(padding=100 if 100 in self.pads else self.pads[-1], size=self.sizes[-1])

    def layers(self, padding: int, size: int) -> Any:
        """The maps as [(layer, cells, jump, start, crop offset or None)], and the error that ended the run or None."""
        return _crops(self.name, padding, size)

    def title(self, padding: int, size: int) -> str:
        rows, reason = self.layers(padding, size)
        if reason:
            return f"{self.name}, padding {padding}, image {size}: not possible"
        offsets = [str(row[4]) for row in rows if row[4] is not None]
        return f"{self.name}, padding {padding}, image {size}: crops at {', '.join(offsets)}"

    def draw(self, figure: Any, padding: int, size: int) -> None:
        import textwrap

        rows, reason = self.layers(padding, size)
        axes = figure.add_axes((0.14, 0.2 if reason else 0.08, 0.64, 0.68 if reason else 0.82))
        axes.margins(x=0.04)
        axes.axvspan(0, size, color="#e8f1f8", zorder=0)
        for k, (name, cells, jump, start, offset) in enumerate(rows):
            left, width = start - jump / 2 + 0.5, cells * jump
            colour = CYCLE[2] if offset is not None else CYCLE[1] if jump < 1 or "upscore" in name else CYCLE[0]
            axes.barh(k, width, left=left, height=0.62, color=colour, alpha=0.8)
            text = f"{cells} cells, stride {jump:g}"
            if offset is not None:
                text = f"{cells} cells, stride {jump:g}, crop at {offset}"
            axes.annotate(text, (1.01, k), xycoords=("axes fraction", "data"), va="center", fontsize=7, color=GREY)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=7)
        axes.set(ylim=(len(rows) - 0.4, -0.6))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("pixels; the image is shaded", fontsize=8)
        if reason:
            (text,) = drawn([reason])  # before it is cut into lines
            lines = textwrap.fill(text, 130 * len(text) // letters(text))
            figure.text(0.02, 0.02, lines, fontsize=7.5, color=CYCLE[1], va="bottom")


@lru_cache(maxsize=256)
def _crops(name, padding, size):
    rows, reason = [], None
    with no_grad(), shapes_only():
        model = models.build(name, pad=padding)
        image = Tensor(stand_in(model.parameters()[0].data, (1, model.in_channels, size, size)), name="image")
        (root,) = image.where
        rows.append(("image", size, 1.0, 0.0, None))

        def note(node, inputs, output):
            if root not in output.where:
                return
            place = output.where[root][1]
            moved = not rows or (output.shape[3], float(place.jump)) != rows[-1][1:3]
            if not place.fault and (moved or hasattr(node, "offset")):
                rows.append((node.name, output.shape[3], float(place.jump), float(place.start), _offset(node)))

        try:
            with evaluating(model), watch(note):
                model(image)
        except (GeometryError, ValueError) as error:
            reason = str(error)
    return rows, reason


def _offset(node):
    return node.offset[1] if hasattr(node, "offset") else None
