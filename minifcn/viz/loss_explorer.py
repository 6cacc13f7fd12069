"""An explorer of the loss over space: a pixel's patch, loss, gradient and share of the sum; void changes the sum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .. import ops
from ..arrays.types import Array
from ..data.images import VOID
from ..engine.core import Tensor
from ..geometry import region
from .figures import colour
from .stepper import Explorer
from .style import CYCLE

LOOK, PAINT, ERASE = "look", "paint void", "restore"


class LossExplorer(Explorer):
    """An explorer of the loss of each pixel: choose a pixel, paint pixels void and see the sum change.

    Parameters
    ----------
    image, scores : Tensor
        The input of a small net, and the scores (1, K, H, W) that the net computed from it.
    picture : (H, W, 3) uint8 array
        Small, so that a pixel can be clicked.
    label : (H, W) integer array
        Classes; 255 is void.
    classes : sequence of K str
    palette : (K, 3) sequence of 0..255

    Raises
    ------
    ValueError
        If scores and labels differ in size.
    """

    size = (5.8, 5.4)
    hint = (
        "Click a pixel, or focus the picture (Tab) and press the arrow keys. "
        "To paint pixels void, choose it with the slider and draw on a map."
    )

    def __init__(
        self, image: Tensor, scores: Tensor, picture: Array, label: Array, classes: Sequence[str], palette: Any
    ) -> None:
        self.image, self.scores, self.picture, self.label = image, scores, np.asarray(picture), np.asarray(label)
        self.classes, self.palette = classes, palette
        if scores.shape[2:] != self.label.shape:
            raise ValueError(
                f"the scores have size {scores.shape[2:]} and the labels {self.label.shape}: give equal sizes"
            )

    def controls(self) -> dict[str, Any]:
        return dict(brush=(LOOK, PAINT, ERASE))

    def start(self) -> dict[str, Any]:
        """The pixel with the largest loss."""
        row, column = np.unravel_index(self.losses(frozenset()).argmax(), self.label.shape)
        return dict(brush=LOOK, row=int(row), column=int(column), void=frozenset())

    def scenes(self) -> list[dict[str, Any]]:
        """Pixels from the largest loss to the smallest; then more and more of the picture becomes void."""
        first, (h, w) = self.start(), self.label.shape
        ranks = np.argsort(-self.losses(frozenset()), axis=None)
        judged = np.count_nonzero(self.label != VOID)
        pixels = [divmod(int(ranks[(judged - 1) * k // 7]), w) for k in range(8)]
        strips = [frozenset((i, j) for i in range(h) for j in range(w * k // 8)) for k in range(1, 8)]
        return [first | dict(row=i, column=j) for i, j in pixels] + [first | dict(void=strip) for strip in strips]

    def labels(self, void: frozenset) -> Array:
        """The labels, (H, W), with the pixels `void` set to 255."""
        labels = self.label.astype(np.int64)
        for pixel in void:
            labels[pixel] = VOID
        return labels

    def losses(self, void: frozenset) -> Array:
        """The loss of each pixel, (H, W); that of void pixels is 0."""
        return self._judged(void)[0]

    def gradient(self, void: frozenset) -> Array:
        """The gradient of the summed loss with respect to the scores, (K, H, W)."""
        return self._judged(void)[1]

    @lru_cache(maxsize=8)  # noqa: B019  the cache may keep the explorer alive: it lives as long as its notebook
    def _judged(self, void):
        labels, scores = self.labels(void)[None], Tensor(self.scores.data, requires_grad=True)
        ops.cross_entropy(scores, labels).backward()
        return ops.cross_entropy(self.scores, labels, reduction="none").numpy()[0], scores.grad[0]  # type: ignore[index]

    def title(self, row: int, column: int, void: frozenset, brush: str) -> str:
        losses, label = self.losses(void), self.labels(void)[row, column]
        total, judged = losses.sum(), np.count_nonzero(self.labels(void) != VOID)
        if label == VOID:
            says = f"pixel ({row}, {column}) is void: no loss, no gradient"
        else:
            share = f"{losses[row, column] / total:.2%} of the sum" if total else "the sum is 0"
            says = f"pixel ({row}, {column}), {self.classes[label]}: loss {losses[row, column]:.3f}, {share}"
        total = f"{total:.1f}; {self.losses(frozenset()).sum():.1f} before painting" if void else f"{total:.1f}"
        return "\n".join([says, f"sum over {judged} pixels: {total}; brush: {brush}"])

    def draw(self, figure: Any, row: int, column: int, void: frozenset, brush: str) -> None:
        from matplotlib.patches import Rectangle

        label = self.labels(void)[row, column]
        boxes = [(left, bottom, 0.47, 0.36) for bottom in (0.47, 0.02) for left in (0.015, 0.515)]
        image, truth, losses = (figure.add_axes(box, xticks=[], yticks=[]) for box in boxes[:3])
        seen = region(self.scores, self.image, (row, column), clip=False)
        image.imshow(self.picture)
        image.set_title(f"its patch: {seen.size[0]}×{seen.size[1]} pixels")
        image.add_patch(
            Rectangle((seen.left - 0.5, seen.top - 0.5), seen.size[1], seen.size[0], fill=False, ec=CYCLE[1], lw=2)
        )
        truth.imshow(colour(self.labels(void), self.palette), interpolation="nearest")
        truth.set_title(f"truth; brush: {brush}")
        limit = max(self.losses(frozenset()).max(), 1e-6)
        losses.imshow(self.losses(void), cmap="magma", vmin=0, vmax=limit)
        losses.set_title(f"loss of each pixel, 0 … {limit:.1f}")
        for axes, name in ((image, "image"), (truth, "truth"), (losses, "losses")):
            axes.set_label(name)
            for ink, width in (("white", 3.5), (CYCLE[1], 1.5)):
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=ink, lw=width))

        bars = figure.add_axes((0.7, 0.07, 0.27, 0.31))
        gradient = self.gradient(void)[:, row, column]
        inks = [CYCLE[0] if value < 0 else CYCLE[1] for value in gradient]
        bars.barh(range(len(gradient)), gradient, color=inks)
        for k, value in enumerate(gradient):
            side = dict(x=0.02, ha="left") if value <= 0 else dict(x=-0.02, ha="right")
            bars.text(y=k, s=f"{value:+.2f}".replace("-", "−"), va="center", fontsize=8, **side)
        names = [f"▸ {name}" if k == label else name for k, name in enumerate(self.classes)]
        bars.set_yticks(range(len(gradient)), names, fontsize=8)
        bars.set(xlim=(-1.05, 1.05), xticks=(-1, 0, 1), ylim=(len(gradient) - 0.4, -0.6))
        bars.set_title("gradient: p − [c = t]")
        bars.axvline(0, color="black", lw=0.8)

    def touched(self, place: str, points: list[tuple[float, float]], **choice: Any) -> dict[str, Any]:
        h, w = self.label.shape
        pixels = [(min(max(round(y), 0), h - 1), min(max(round(x), 0), w - 1)) for y, x in points]
        return self._brushed(pixels, choice)

    def moved(self, rows: int, columns: int, **choice: Any) -> dict[str, Any]:
        h, w = self.label.shape
        pixel = min(max(choice["row"] + rows, 0), h - 1), min(max(choice["column"] + columns, 0), w - 1)
        return self._brushed([pixel], choice)

    def _brushed(self, pixels, choice):
        """Choose the last of the pixels, after the brush has gone over all of them."""
        void = {LOOK: choice["void"], PAINT: choice["void"].union(pixels), ERASE: choice["void"].difference(pixels)}
        return choice | dict(row=pixels[-1][0], column=pixels[-1][1], void=void[choice["brush"]])
