"""A stepper through a convolution, a transposed convolution or a pooling, cell by cell, forward or backward."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import kernels as K
from ..arrays.types import Array, Pair
from ..kernels.shapes import deconv_size, pair
from .arrays import as_map, draw_map, heading, short
from .stepper import Stepper
from .style import CYCLE

WINDOW, CELL = CYCLE[1], CYCLE[2]  # orange: cells that are read; green: cells that are computed
OPERATIONS = ("conv2d", "conv_transpose2d", "max_pool2d")


class ConvStepper(Stepper):
    """Step through an operation, one cell per step.

    A forward step shows the window of the cell, the products and their sum; a backward step shows what the gradient of
    the cell adds to other cells.

    Parameters
    ----------
    x : array
        The map (H, W); it must be small enough for its numbers to be legible.
    w : array
        The kernel (kh, kw); for "max_pool2d" only its size matters.
    operation : {"conv2d", "conv_transpose2d", "max_pool2d"}
    direction : {"forward", "backward"}
    stride, padding, dilation : int or (h, w)
    gy : array, optional
        For "backward": the gradient that arrives at the output; ones by default.

    Raises
    ------
    ValueError
        If the sizes do not fit, or there is no such operation or direction.
    """

    def __init__(
        self, x: Array, w: Array, operation: str = "conv2d", direction: str = "forward", stride: Pair = 1,
        padding: Pair = 0, dilation: Pair = 1, gy: Array | None = None,
    ) -> None:  # fmt: skip
        if operation not in OPERATIONS:
            raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}, got {operation!r}")
        if direction not in ("forward", "backward"):
            raise ValueError(f"direction must be 'forward' or 'backward', got {direction!r}")
        self.x, self.w = as_map(x, "x"), as_map(w, "w")
        self.operation, self.direction = operation, direction
        self.where = (pair(stride, 1, "stride"), pair(padding, 0, "padding"), pair(dilation, 1, "dilation"))
        x, w, kernel = self.x[None, None], self.w[None, None], self.w.shape
        self.spreads = operation == "conv_transpose2d"
        if operation == "conv2d":
            y = K.conv2d(x, w, *self.where, 1)
        elif operation == "max_pool2d":
            y, self.index = K.max_pool2d(x, kernel, *self.where, False)
        else:
            shape = (
                1,
                1,
                *(deconv_size(*s) for s in zip(self.x.shape, kernel, *self.where[:2], (0, 0), self.where[2])),
            )
            y = K.conv2d_grad_input(x, w, shape, *self.where, 1)
        self.y = y[0, 0]
        self.gy = np.ones_like(self.y) if gy is None else as_map(gy, "gy")
        if self.gy.shape != self.y.shape:
            raise ValueError(f"gy has shape {self.gy.shape}; it must have the shape of the output, {self.y.shape}")
        self.size = (9.6, 3.2 if direction == "forward" and operation != "conv2d" else 5.6)

    def __len__(self) -> int:
        return prod(self._grid)

    @property
    def _grid(self):
        """The shape of the map with one step per cell: y or, for a transposed convolution, x."""
        return self.x.shape if self.spreads else self.y.shape

    def _taps(self, i):
        """The window of step i as [(tap, cell of the map under it)]; cells may lie outside the map."""
        (s, p, d), (at_h, at_w) = self.where, divmod(i, self._grid[1])
        return [
            ((u, v), (s[0] * at_h - p[0] + d[0] * u, s[1] * at_w - p[1] + d[1] * v))
            for u in range(self.w.shape[0])
            for v in range(self.w.shape[1])
        ]

    def terms(self, i: int) -> list[tuple[Any, Any, float | None]]:
        """What step i reads or writes, as [(tap, cell, value of the map)]; the value is None outside the map."""
        plane = self.y if self.spreads else self.x
        inside = [all(0 <= c < n for c, n in zip(cell, plane.shape)) for _, cell in self._taps(i)]
        return [(tap, cell, float(plane[cell]) if there else None) for (tap, cell), there in zip(self._taps(i), inside)]

    def so_far(self, i: int) -> dict[str, Array]:
        """The results of steps 0 … i by name: y; or gx and gw; or, for the gradient of pooling, gx alone."""
        made = {"y": np.zeros_like(self.y)}
        if self.direction == "backward":
            made = {"gx": np.zeros_like(self.x), "gw": np.zeros_like(self.w)}
            if self.operation == "max_pool2d":
                del made["gw"]
        for step in range(i + 1):
            self._add(made, step)
        return made

    def _add(self, made, step):
        """Add the contribution of one step to the maps `made`."""
        cell = divmod(step, self._grid[1])
        reached = [(tap, at) for tap, at, value in self.terms(step) if value is not None]
        if self.operation == "max_pool2d":
            best = divmod(int(self.index[0, 0][cell]), self.w.shape[1])
            for tap, at in reached:
                if tap == best and self.direction == "forward":
                    made["y"][cell] = self.x[at]
                elif tap == best:
                    made["gx"][at] += self.gy[cell]
            return
        for tap, at in reached:
            # In a convolution the window lies on x and the cell is in y; in its transpose the window lies on y.
            in_x, in_y = (cell, at) if self.spreads else (at, cell)
            if self.direction == "forward":
                made["y"][in_y] += self.w[tap] * self.x[in_x]
            else:
                made["gx"][in_x] += self.w[tap] * self.gy[in_y]
                made["gw"][tap] += self.x[in_x] * self.gy[in_y]

    def title(self, step: int) -> str:
        i = step
        cell = "{}, {}".format(*divmod(i, self._grid[1]))
        read = [(self.w[tap], value) for tap, _, value in self.terms(i) if value is not None]
        if self.direction == "backward":
            if self.operation == "max_pool2d":
                return f"gy[{cell}] = {short(self.gy.flat[i])} goes to the window's first maximum"
            if self.spreads:
                return f"gx[{cell}] = Σ w·gy over the window;  gw += x[{cell}]·gy"
            return f"gy[{cell}] = {short(self.gy.flat[i])}:  gx += w·gy,  gw += x·gy  in the window"
        if self.operation == "max_pool2d":
            return f"y[{cell}] = max({', '.join(short(v) for _, v in read)}) = {short(self.y.flat[i])}"
        if self.spreads:
            return f"x[{cell}] = {short(self.x.flat[i])} times w is added to the window in y"
        products = " + ".join(f"{short(w)}·{short(v)}" for w, v in read)
        return f"y[{cell}] = {products} = {short(self.y.flat[i])}"

    # ---- drawing ----

    def draw(self, figure: Any, step: int) -> None:
        i = step
        made, window = self.so_far(i), [at for _, at, _ in self.terms(i)]
        cell = [divmod(i, self._grid[1])]
        pad = self.where[1]
        under, over = (cell, window) if self.spreads else (window, cell)
        kernel: tuple = ("w", self.w, [], (0, 0))
        if self.operation == "max_pool2d":
            # A pooling has no weights: show only the size of its window.
            kernel = ("window", np.full(self.w.shape, np.nan), [], (0, 0))
        planes = [("x", self.x, under, (0, 0) if self.spreads else pad), kernel]
        if self.direction == "forward":
            planes.append(("y", np.where(self._done(i), made["y"], np.nan), over, pad if self.spreads else (0, 0)))
        else:
            planes.append(("gy", self.gy, over, pad if self.spreads else (0, 0)))
        columns = self.direction == "forward" and self.operation == "conv2d"
        rows = 2 if self.direction == "backward" or columns else 1
        grid = figure.add_gridspec(rows, 3, height_ratios=[1, 1.15][:rows], hspace=0.45, wspace=0.25)
        grid.update(left=0.03, right=0.97, top=0.88, bottom=0.04)
        for k, (name, values, marked, margin) in enumerate(planes):
            colour = CELL if name == "y" else WINDOW
            title = heading(name, values.shape, margin)
            draw_map(figure.add_subplot(grid[0, k]), title, values, marked, colour, margin)
        if columns:
            self._draw_columns(figure.add_subplot(grid[1, :]), i)
        if self.direction == "backward":
            for k, name in enumerate(n for n in ("gx", "gw") if n in made):
                marked = under if name == "gx" else [tap for tap, _, value in self.terms(i) if value is not None]
                title = heading(f"{name} so far", made[name].shape)
                draw_map(figure.add_subplot(grid[1, k]), title, made[name], marked, CELL)

    def _done(self, i):
        """A boolean map of the cells of y that steps 0 … i have reached."""
        if self.spreads:
            return np.ones(self.y.shape, bool)
        return np.arange(self.y.size).reshape(self.y.shape) <= i

    def _draw_columns(self, axes, i):
        s, p, d = self.where
        cols = K.im2col(self.x[None, None], self.w.shape, s, p, d)[0]  # (kh·kw, OH·OW)
        title = "im2col(x): one column per window; y = (w as a row) · this matrix"
        column = [(r, i) for r in range(len(cols))]
        draw_map(axes, heading(title, cols.shape), cols, column, WINDOW, numbers=cols.size <= 250)
