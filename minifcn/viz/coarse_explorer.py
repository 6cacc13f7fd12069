"""An explorer of coarse outputs: a map is subsampled step by step, and upsampled again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..arrays.types import Array
from ..data.images import VOID
from ..engine.core import Tensor, no_grad
from ..geometry import receptive_field, region
from ..nn.init import bilinear
from .figures import colour
from .stepper import Explorer
from .style import CYCLE


class CoarseOutputExplorer(Explorer):
    """An explorer of subsampling: halve a map of scores again and again, then double it back to the picture's size.

    The scores are perfect: 1 for the true class of a pixel and 0 for the others.  Averaging over 2×2 cells halves their
    map; a transposed convolution with the bilinear kernel doubles it.  So everything that differs from the truth at the
    end was lost by the coarse output alone.

    Parameters
    ----------
    picture : (H, W, 3) uint8 array
        H and W are multiples of 2 to the power of `halvings`.
    label : (H, W) integer array
        Classes; 255 is void.
    classes : sequence of K str
    palette : (K, 3) sequence of 0..255
    halvings : int
        The number of halvings; 5 gives the stride of 32 pixels of the paper's nets.

    Raises
    ------
    ValueError
        If the picture cannot be halved so often.
    """

    size = (5.8, 4.6)
    hint = "Move the slider, click a cell of a picture, or focus the picture (Tab) and press the arrow keys."

    def __init__(self, picture: Array, label: Array, classes: Sequence[str], palette: Any, halvings: int = 5) -> None:
        self.picture, self.label, self.classes, self.palette = np.asarray(picture), np.asarray(label), classes, palette
        if any(n % 2**halvings for n in self.label.shape):
            raise ValueError(
                f"a map of {self.label.shape} cannot be halved {halvings} times: give multiples of {2**halvings}"
            )
        scores = (self.label == np.arange(len(classes))[:, None, None])[None].astype(np.float64)
        self.maps = [Tensor(scores, name="scores")]
        up = bilinear((len(classes), 1, 4, 4))
        with no_grad():
            for _ in range(halvings):
                self.maps.append(ops.avg_pool2d(self.maps[-1], 2))
            for _ in range(halvings):
                self.maps.append(ops.conv_transpose2d(self.maps[-1], up, stride=2, padding=1, groups=len(classes)))
        self.halvings = halvings

    def controls(self) -> dict[str, Any]:
        return dict(step=range(len(self.maps)))

    def start(self) -> dict[str, Any]:
        h, w = self.label.shape
        return dict(step=0, row=h // 2, column=w // 2)

    def cell(self, step: int, row: int, column: int) -> tuple[int, int]:
        """The cell of the map of a step that covers a pixel."""
        jump = self.label.shape[0] // self.maps[step].shape[2]
        return row // jump, column // jump

    def says(self, step: int) -> Array:
        """The class that each pixel of the picture gets from the map of a step, (H, W); 255 without any score."""
        scores = self.maps[step].numpy()[0]
        jump = self.label.shape[0] // scores.shape[1]
        best = np.where(scores.max(0) > 0, scores.argmax(0), VOID)
        return best.repeat(jump, 0).repeat(jump, 1)

    def accuracy(self, step: int) -> float:
        """The share of the labelled pixels that get their true class."""
        judged = self.label != VOID
        return float((self.says(step) == self.label)[judged].mean())

    def title(self, step: int, row: int, column: int) -> str:
        y, cell = self.maps[step], self.cell(step, row, column)
        field = receptive_field(y, self.maps[0])
        times = {1: "once", 2: "twice"} | {n: f"{n} times" for n in range(3, step + 1)}
        did = "the labels" if step == 0 else f"halved {times[min(step, self.halvings)]}"
        if step > self.halvings:
            did = f"halved {times[self.halvings]}, doubled {times[step - self.halvings]}"
        apart = f"every {field.jump[0]} pixels" if field.jump[0] > 1 else "for each pixel"
        shares = sorted(zip(y.numpy()[0, :, *cell], self.classes), reverse=True)
        parts = ", ".join(f"{share:.0%} {name}" for share, name in shares[:3] if share > 0.005)
        says = f"{did}: {y.shape[2]}×{y.shape[3]} cells, one {apart}; {self.accuracy(step):.1%} correct"
        return "\n".join([says, f"cell {cell}: {parts or 'void'}"])

    def draw(self, figure: Any, step: int, row: int, column: int) -> None:
        from matplotlib.patches import Rectangle

        y, cell, (h, w) = self.maps[step], self.cell(step, row, column), self.label.shape
        jump = h // y.shape[2]
        seen = region(y, self.maps[0], cell)
        views = {
            "picture": (self.picture, "what the cell sees"), "truth": (colour(self.label, self.palette), "truth"),
            "map": (colour(self.says(step)[::jump, ::jump], self.palette), f"the map: {y.shape[2]}×{y.shape[3]}"),
            "output": (colour(self.says(step), self.palette), "what each pixel gets"),
        }  # fmt: skip
        for k, (name, (view, title)) in enumerate(views.items()):
            box = (0.015 + 0.5 * (k % 2), 0.46 if k < 2 else 0.02, 0.47, 0.36)
            axes = figure.add_axes(box, xticks=[], yticks=[], label=name)
            size = (h / jump, w / jump) if name == "map" else (h, w)
            axes.imshow(view, interpolation="nearest", extent=(0, size[1], size[0], 0))
            if name == "map":  # at its own size, as far as it is legible
                share = max(size[1] / w, 0.12)
                axes.set(xlim=(0, size[1] / share), ylim=(size[0] / share, 0))
                axes.spines[:].set_visible(False)
            axes.set_title(title)
            corner, one = ((cell[1], cell[0]), 1) if name == "map" else ((cell[1] * jump, cell[0] * jump), jump)
            for ink, width in (("white", 3.5), (CYCLE[1], 1.8)):
                axes.add_patch(Rectangle(corner, one, one, fill=False, ec=ink, lw=width, clip_on=False))
            if name == "picture":
                axes.add_patch(
                    Rectangle((seen.left, seen.top), *seen.size[::-1], fill=False, ec=CYCLE[5], lw=1.8, ls="--")
                )

    def touched(self, place: str, points: list[tuple[float, float]], **choice: Any) -> dict[str, Any]:
        jump = self.label.shape[0] // self.maps[choice["step"]].shape[2] if place == "map" else 1
        row, column = (int(min(max(x * jump, 0), n - 1)) for x, n in zip(points[-1], self.label.shape))
        return choice | dict(row=row, column=column)

    def moved(self, rows: int, columns: int, **choice: Any) -> dict[str, Any]:
        jump = self.label.shape[0] // self.maps[choice["step"]].shape[2]
        at = choice["row"] + rows * jump, choice["column"] + columns * jump
        row, column = (min(max(x, 0), n - 1) for x, n in zip(at, self.label.shape))
        return choice | dict(row=row, column=column)
