"""An explorer of a fully connected layer that became a convolution: the weights of one output slide over the map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays.types import Array
from ..engine.core import Tensor, no_grad, watch
from ..geometry import region
from ..nn.module import Module, evaluating
from .maps import mosaic
from .stepper import Explorer
from .style import CYCLE


class FullyConnectedExplorer(Explorer):
    """An explorer of a converted layer: choose the image's size, an output and a position of its kernel.

    Parameters
    ----------
    model : Module
        A classifier after :func:`minifcn.nn.surgery.convolutionalize`.
    layer : str
        The name of its first converted layer, whose kernel has more than one cell.
    inputs : (1, C, H, W) array
        An image; its upper left corner is used, with each of the `sizes`.
    sizes : sequence of int
        The first is the size for which the classifier was made, and gives one position.
    """

    size = (5.8, 5.4)
    hint = "Move the sliders, click a cell of the output, or focus the picture (Tab) and press the arrow keys."

    def __init__(self, model: Module, layer: str, inputs: Array, sizes: Sequence[int]) -> None:
        self.model, self.layer, self.inputs, self.sizes = model, layer, np.asarray(inputs), list(sizes)
        converted = dict(model.named_modules())[layer]
        self.weight, self.bias = converted.weight.numpy(), converted.bias.numpy()  # type: ignore[attr-defined]

    def controls(self) -> dict[str, Any]:
        return dict(image=self.sizes, output=range(len(self.weight)), channel=range(self.weight.shape[1]))

    def start(self) -> dict[str, Any]:
        return dict(image=self.sizes[0], output=0, channel=0, row=0, column=0)

    def scenes(self) -> list[dict[str, Any]]:
        found = []
        for size in self.sizes:
            h, w = self.maps(size)[2].shape[2:]
            cells = [divmod(k, w) for k in range(0, h * w, max(1, h * w // 12))]
            found += [self.start() | dict(image=size, row=i, column=j) for i, j in cells]
        return found

    @lru_cache(maxsize=16)  # noqa: B019  the cache may keep the explorer alive: it lives as long as its notebook
    def maps(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """The image of a size, the map that the layer reads and the map that it computes."""
        image = Tensor(self.inputs[:, :, :size, :size], name="image")
        found: list[Tensor] = []

        def note(node, inputs, output):
            if node.name == self.layer and not found:
                found.extend((inputs[0], output))

        with no_grad(), evaluating(self.model), watch(note):
            self.model(image)
        return image, found[0], found[1]

    def cell(self, image: int, row: int, column: int, **choice: Any) -> tuple[int, int]:
        """The chosen cell of the output, or the nearest that exists."""
        h, w = self.maps(image)[2].shape[2:]
        return min(row, h - 1), min(column, w - 1)

    def connected(self, **choice: Any) -> float:
        """What the fully connected layer computes from the window: the row of weights times the numbers, as vectors."""
        (i, j), (kh, kw), o = self.cell(**choice), self.weight.shape[2:], choice["output"]
        window = self.maps(choice["image"])[1].numpy()[0, :, i : i + kh, j : j + kw]
        return float(self.weight[o].ravel() @ window.ravel() + self.bias[o])

    def title(self, **choice: Any) -> str:
        image, x, y = self.maps(choice["image"])
        (i, j), o, (c, kh, kw) = self.cell(**choice), choice["output"], self.weight.shape[1:]
        sizes = " → ".join(f"{m.shape[2]}×{m.shape[3]}" for m in (image, x, y))
        value, same = y.numpy()[0, o, i, j], self.connected(**choice)
        says = f"y[{o}, {i}, {j}] = {value:.3f}; as a vector of {c * kh * kw} numbers: {same:.3f}"
        return "\n".join([f"image → map → output: {sizes}; channel {choice['channel']}", says])

    def draw(self, figure: Any, **choice: Any) -> None:
        from matplotlib.patches import Rectangle

        image, x, y = self.maps(choice["image"])
        (i, j), o, k, kernel = self.cell(**choice), choice["output"], choice["channel"], self.weight.shape[2:]
        weight, area = self.weight[o], kernel[0] * kernel[1]

        def frame(axes, top, left, size):
            for ink, width in (("white", 3.5), (CYCLE[1], 2)):
                corner = left - 0.5, top - 0.5
                axes.add_patch(Rectangle(corner, size[1], size[0], fill=False, ec=ink, lw=width, clip_on=False))

        def show(box, values, title, name="", **style):
            axes = figure.add_axes(box, xticks=[], yticks=[], label=name)
            axes.imshow(values, **style)
            axes.set_title(title, fontsize=9)
            return axes

        limit = np.abs(weight).max()
        diverging = dict(cmap="RdBu_r", vmin=-limit, vmax=limit)
        strip = show((0.015, 0.75, 0.97, 0.05), weight.reshape(1, -1), "", aspect="auto", **diverging)
        strip.set_title(f"{weight.size} weights of output {o}; framed: those of channel {k}", fontsize=9)
        frame(strip, 0, k * area, (1, area))
        show((0.015, 0.43, 0.45, 0.25), mosaic(weight, len(weight)), f"unravelled: {len(weight)} kernels", **diverging)
        show((0.515, 0.43, 0.45, 0.25), weight[k], f"of channel {k}: {kernel[0]}×{kernel[1]}", **diverging)

        boxes = [(0.015 + 0.33 * n, 0.02, 0.31, 0.32) for n in range(3)]
        seen = region(y, image, (i, j), clip=False)
        picture = image.numpy()[0].mean(0)
        frame(show(boxes[0], picture, "image", cmap="gray"), seen.top, seen.left, seen.size)
        feature = show(boxes[1], x.numpy()[0, k], f"map {x.shape[2]}×{x.shape[3]}, channel {k}", cmap="viridis")
        frame(feature, i, j, kernel)
        result = show(boxes[2], y.numpy()[0, o], f"output {o}: {y.shape[2]}×{y.shape[3]}", "output", cmap="viridis")
        frame(result, i, j, (1, 1))

    def touched(self, place: str, points: list[tuple[float, float]], **choice: Any) -> dict[str, Any]:
        return self._at(choice, *(round(x) for x in points[-1]))

    def moved(self, rows: int, columns: int, **choice: Any) -> dict[str, Any]:
        i, j = self.cell(**choice)
        return self._at(choice, i + rows, j + columns)

    def _at(self, choice, row, column):
        i, j = self.cell(choice["image"], max(row, 0), max(column, 0))
        return choice | dict(row=i, column=j)
