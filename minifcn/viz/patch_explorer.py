"""An explorer of a whole image against its patches: their overlap, and the multiply-adds that both take."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..arrays.types import Array
from ..engine.core import Tensor, no_grad
from ..geometry import Region, receptive_field, region
from ..kernels.registry import shapes_only
from ..nn.module import Module, evaluating
from .stepper import Explorer
from .style import CYCLE


class PatchExplorer(Explorer):
    """An explorer of patches: one more patch per step, with the overlap so far and the work so far.

    The multiply-adds of the backward pass are those of the gradients of the weights and of the maps: each takes as
    many as the layer's forward pass.  The first layer needs no gradient of its input, the image.

    Parameters
    ----------
    model : Module
        A net without padding.
    picture : (H, W, 3) uint8 array

    Raises
    ------
    ValueError
        If the net pads: then a patch alone does not give the output of the whole image.
    """

    size = (5.8, 4.9)
    hint = "Move the slider, click an output or the picture, or focus the picture (Tab) and press the arrow keys."

    def __init__(self, model: Module, picture: Array) -> None:
        self.model, self.picture = model, np.asarray(picture)
        like = model.parameters()[0].data
        self.image = Tensor(np.broadcast_to(np.zeros(1, like.dtype), (1, 3, *self.picture.shape[:2])), name="image")
        with no_grad(), shapes_only(), evaluating(model):
            self.scores = model(self.image)
        self.field = receptive_field(self.scores, self.image)
        if any(self.field.padding):
            raise ValueError(f"the net pads the image by {self.field.padding}: a patch alone gives another output")
        self.grid = self.scores.shape[2:]
        self.whole, self.one = self.work(self.picture.shape[:2]), self.work(self.field.size)

    def work(self, size: tuple[int, ...]) -> tuple[int, int]:
        """The multiply-adds of a forward and of a backward pass over an image of `size`."""
        first, *others = [row["macs"] for row in nn.summary(self.model, size, 3) if row["macs"]]  # type: ignore[arg-type]
        return first + sum(others), first + 2 * sum(others)

    def controls(self) -> dict[str, Any]:
        return {"patch": range(1, self.grid[0] * self.grid[1] + 1)}

    def unit(self, patch: int) -> tuple[int, int]:
        """The output (row, column) of a patch, counted from 1."""
        row, column = divmod(patch - 1, self.grid[1])
        return row, column

    def patch(self, patch: int) -> Region:
        """The pixels of a patch, counted from 1."""
        return region(self.scores, self.image, self.unit(patch))

    def overlap(self, patch: int) -> Array:
        """How many of the patches 1 … `patch` see each pixel, (H, W)."""
        counts = np.zeros(self.picture.shape[:2], int)
        for k in range(1, patch + 1):
            counts[self.patch(k).index] += 1
        return counts

    def title(self, patch: int) -> str:
        seen, total = self.patch(patch), self.grid[0] * self.grid[1]
        says = f"patch {patch} of {total}: rows {seen.top} … {seen.bottom - 1}, columns {seen.left} … {seen.right - 1}"
        times = [f"{patch * one / whole:.2f}" for one, whole in zip(self.one, self.whole)]
        return "\n".join([says, f"the work of the whole image: forward {times[0]} times, backward {times[1]} times"])

    def draw(self, figure: Any, patch: int) -> None:
        from matplotlib.patches import Rectangle

        (h, w), seen, unit = self.picture.shape[:2], self.patch(patch), self.unit(patch)
        counts = self.overlap(patch)
        image, cover, outputs = (
            figure.add_axes(box, xticks=[], yticks=[])
            for box in ((0.015, 0.47, 0.4, 0.36), (0.435, 0.47, 0.3, 0.36), (0.755, 0.47, 0.23, 0.36))
        )
        image.imshow(self.picture)
        image.set_title("the patch")
        cover.imshow(np.where(counts, counts, np.nan), cmap="viridis", vmin=0, vmax=max(self._most, 1))
        cover.set_title(f"seen up to {counts.max()} times", fontsize=9)
        cover.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
        for axes in (image, cover):
            for ink, width in (("white", 3.5), (CYCLE[1], 2)):
                box = (seen.left - 0.5, seen.top - 0.5), seen.size[1], seen.size[0]
                axes.add_patch(Rectangle(*box, fill=False, ec=ink, lw=width, clip_on=False))
        done = np.arange(self.grid[0] * self.grid[1]).reshape(self.grid) < patch
        outputs.imshow(done, cmap="Blues", vmin=0, vmax=1.8)
        outputs.set_xticks(np.arange(self.grid[1] + 1) - 0.5, minor=True)
        outputs.set_yticks(np.arange(self.grid[0] + 1) - 0.5, minor=True)
        outputs.grid(which="minor", color="#8a8f94", lw=0.7)
        outputs.tick_params(which="minor", length=0)
        outputs.add_patch(Rectangle((unit[1] - 0.5, unit[0] - 0.5), 1, 1, fill=False, ec=CYCLE[1], lw=2, clip_on=False))
        outputs.set_title(f"outputs: {self.grid[0]}×{self.grid[1]}", fontsize=9)
        for axes, name in ((image, "picture"), (cover, "cover"), (outputs, "outputs")):
            axes.set_label(name)

        bars = figure.add_axes((0.2, 0.1, 0.66, 0.27))
        total, scale = self.grid[0] * self.grid[1], 1e6
        for k, (name, ink) in enumerate((("forward", CYCLE[0]), ("backward", CYCLE[1]))):
            left = np.array([patch * sum(self.one[:k]), sum(self.whole[:k])]) / scale
            wide = np.array([patch * self.one[k], self.whole[k]]) / scale
            bars.barh((0, 1), wide, left=left, color=ink, height=0.6, label=name)
        for k, work in enumerate((patch * sum(self.one), sum(self.whole))):
            bars.text(work / scale, k, f" {work / scale:.3g}", va="center", fontsize=8)
        patches = f"{patch} patch" if patch == 1 else f"{patch} patches"
        bars.set_yticks((0, 1), [patches, "whole image"], fontsize=9)
        bars.set(xlim=(0, 1.12 * max(total * sum(self.one), sum(self.whole)) / scale), ylim=(1.5, -0.5))
        bars.set_title("million multiply-adds")
        bars.legend(loc="lower right", fontsize=8)

    @property
    def _most(self):
        """The largest overlap of all patches."""
        return int(self.overlap(self.grid[0] * self.grid[1]).max())

    def touched(self, place: str, points: list[tuple[float, float]], **choice: Any) -> dict[str, Any]:
        at = points[-1]
        if place != "outputs":  # the output whose patch has its middle nearest to the pixel
            at = tuple(float((x - start) / jump) for x, start, jump in zip(at, self.field.start, self.field.jump))  # type: ignore[assignment]
        return self._at([round(x) for x in at])

    def moved(self, rows: int, columns: int, **choice: Any) -> dict[str, Any]:
        row, column = self.unit(choice["patch"])
        return self._at((row + rows, column + columns))

    def _at(self, unit):
        row, column = (min(max(i, 0), n - 1) for i, n in zip(unit, self.grid))
        return {"patch": row * self.grid[1] + column + 1}
