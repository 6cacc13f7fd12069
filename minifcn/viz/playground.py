"""A playground of receptive fields: three layers on a small picture, map by map and laid over the picture."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .. import ops
from ..arrays.types import Array
from ..engine.core import Tensor, no_grad
from ..errors import GeometryError
from ..geometry import effective_receptive_field, receptive_field, region
from .stepper import Explorer
from .style import CYCLE

COLOURS = ("#56B4E9", "#009E73", "#E69F00", "#CC79A7")  # of the image and of the three maps
FIELD, LINE, NAMES = CYCLE[1], "#8a8f94", ("image", *(f"layer {n}" for n in (1, 2, 3)))
VALUES = dict(k=range(1, 6), s=range(1, 4), p=range(5), d=range(1, 4))


class ReceptiveFieldPlayground(Explorer):
    """An explorer of three layers: choose kernel, stride, padding and dilation of each, and a unit of any map.

    The first row shows the maps as grids, and in each map the cells that the chosen unit depends on.  The second row
    shows the same maps at the size of the picture: each unit at the centre of its receptive field, with the field of
    one of them.  Everything is derived by :mod:`minifcn.geometry` from three convolutions that are really applied.

    Parameters
    ----------
    picture : (H, W, 3) uint8 array
        It is shown with `size` × `size` pixels.
    """

    size = (5.8, 4.5)
    slider = "max(9rem, 24%)"
    hint = (
        "Click a unit, or focus the picture (Tab) and press the arrow keys. "
        "k: kernel, s: stride, p: padding, d: dilation of layers 1, 2 and 3."
    )

    def __init__(self, picture: Array) -> None:
        self.picture = np.asarray(picture)

    def controls(self) -> dict[str, Any]:
        return {f"{name}{layer}": values for layer in (1, 2, 3) for name, values in VALUES.items()} | {
            "pixels": range(3, 18)
        }

    def start(self) -> dict[str, Any]:
        """5×5 pixels, 3×3 and 2×2 units: the example of notebook 04; the third layer changes nothing."""
        layers = (dict(k=3, s=2, p=1, d=1), dict(k=3, s=2, p=1, d=1), dict(k=1, s=1, p=0, d=1))
        values = {f"{name}{layer}": v for layer, given in enumerate(layers, 1) for name, v in given.items()}
        return values | dict(pixels=5, map=2, row=0, column=0)

    def scenes(self) -> list[dict[str, Any]]:
        first = self.start()
        units = [(1, 0, 0), (1, 1, 1), (2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1)]
        plain = first | dict(pixels=15, map=3, row=7, column=7)
        plain |= {f"{name}{k}": v for k in (1, 2, 3) for name, v in dict(k=3, s=1, p=1, d=1).items()}
        changes: list[dict[str, Any]] = [
            {"map": 1}, {"map": 2}, {}, {"k1": 5, "p1": 2}, {"d2": 2, "p2": 2, "d3": 3, "p3": 3},
            {"s1": 2, "row": 3, "column": 3}, {"s1": 2, "s2": 2, "row": 2, "column": 2},
            {"s1": 2, "s2": 2, "s3": 2, "row": 1, "column": 1},
            {"p1": 0, "p2": 0, "p3": 0, "row": 0, "column": 0},
        ]  # fmt: skip
        return [first | dict(zip(("map", "row", "column"), unit)) for unit in units] + [plain | c for c in changes]

    def layer(self, number: int, choice: dict[str, Any]) -> tuple[int, ...]:
        """Kernel size, stride, padding and dilation of a layer."""
        return tuple(choice[f"{name}{number}"] for name in VALUES)

    def maps(self, **choice: Any) -> tuple[list[Tensor], str]:
        """The image and the maps after it, up to the first that is impossible, and the reason why it is, or ""."""
        return _maps(choice["pixels"], tuple(self.layer(n, choice) for n in (1, 2, 3)))

    def unit(self, **choice: Any) -> tuple[int, int, int]:
        """The chosen unit as (map, row, column); the nearest that exists if the settings made the maps smaller."""
        maps, _ = self.maps(**choice)
        number = min(choice["map"], len(maps) - 1)
        n = maps[number].shape[2]
        return number, min(choice["row"], n - 1), min(choice["column"], n - 1)

    def paths(self, below: int, **choice: Any) -> Array:
        """How many paths lead from each cell of the map number `below` to the chosen unit."""
        number, *unit = self.unit(**choice)
        layers = tuple(self.layer(k, choice) for k in range(below + 1, number + 1))
        maps, _ = self.maps(**choice)
        return effective_receptive_field(lambda x: _through(x, layers)[-1], maps[below].data, unit)

    def title(self, **choice: Any) -> str:
        maps, reason = self.maps(**choice)
        number, row, column = self.unit(**choice)
        field = receptive_field(maps[number], maps[0])
        sizes = " → ".join(f"{m.shape[2]}×{m.shape[3]}" for m in maps)
        says = (
            f"{NAMES[number]}, unit ({row}, {column}): field {field.size[0]}×{field.size[1]}, "
            f"jump {field.jump[0]}, start {float(field.start[0]):g}, padding {field.padding[0]}"
        )
        return "\n".join([sizes, says, *([f"{NAMES[len(maps)]}: {reason}"] if reason else [])])

    def draw(self, figure: Any, **choice: Any) -> None:
        maps, _ = self.maps(**choice)
        number, *unit = self.unit(**choice)
        n = choice["pixels"]
        whole = region(maps[number], maps[0], unit, clip=False)
        fields = [receptive_field(m, maps[0]) for m in maps]
        starts = [float(f.start[0]) for f in fields]
        ends = [float(f.start[0] + f.jump[0] * (m.shape[2] - 1)) for f, m in zip(fields, maps)]
        low, high = min(whole.top, whole.left, *starts) - 0.7, max(whole.bottom - 1, whole.right - 1, *ends) + 0.7
        widest = max(m.shape[2] + 2 * p for m, p in zip(maps, [choice[f"p{k}"] for k in (1, 2, 3)] + [0]))
        for k, name in enumerate(NAMES):
            boxes = [(0.01 + 0.2475 * k, bottom, 0.2325, 0.31) for bottom in (0.47, 0.02)]
            grid, over = (figure.add_axes(box, xticks=[], yticks=[], aspect="equal") for box in boxes)
            for axes in (grid, over):
                axes.spines[:].set_visible(False)
            settings = "\n" + "  ".join(f"{n} {v}" for n, v in zip(VALUES, self.layer(k, choice))) if k else "\n"
            if k >= len(maps):
                grid.set_title("".join([name, ": impossible", settings]), fontsize=8)
                continue
            size = maps[k].shape[2]
            grid.set_label(f"grid {k}")
            over.set_label(f"over {k}")
            grid.set_title(f"{name}: {size}×{size}{settings}", fontsize=8)
            counts = self.paths(k, **choice) if k <= number else np.zeros((size, size))
            margin = choice[f"p{k + 1}"] if k < number else 0
            self._grid(grid, counts, COLOURS[k], margin, self.picture_of(n) if k == 0 else None)
            middle = (size - 1) / 2
            grid.set(xlim=(middle - widest / 2 - 0.1, middle + widest / 2 + 0.1))
            grid.set(ylim=(middle + widest / 2 + 0.1, middle - widest / 2 - 0.1))
            if k == number:
                _frame(grid, unit[0] - 0.5, unit[1] - 0.5, (1, 1), lw=2.5)
            over.set(xlim=(low, high), ylim=(high, low))
            self._over(over, maps[k], maps[0], counts, COLOURS[k], unit if k == number else None)
        figure.text(0.01, 0.87, "Map by map; darker: more paths lead to the unit", fontsize=9, weight="bold")
        figure.text(0.01, 0.4, "Laid over the image; dashed: what one unit sees", fontsize=9, weight="bold")

    def picture_of(self, n: int) -> Array:
        """The picture with n×n pixels."""
        rows, columns = ((np.arange(n) + 0.5) * side / n for side in self.picture.shape[:2])
        return self.picture[np.ix_(rows.astype(int), columns.astype(int))]

    def _grid(self, axes, counts, colour, margin, picture):
        """A map as a grid: the cells on which the unit depends are coloured; around it the padding that it gets."""
        from matplotlib.collections import PolyCollection
        from matplotlib.colors import to_rgb

        size, most = len(counts), counts.max() or 1
        if picture is not None:
            axes.imshow(picture, alpha=0.35)
        cells = np.stack(np.meshgrid(*[np.arange(-margin, size + margin)] * 2), axis=-1).reshape(-1, 2)  # (column, row)
        corners = cells[:, None] + np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
        inside = ((cells >= 0) & (cells < size)).all(1)
        axes.add_collection(PolyCollection(corners[~inside], facecolors="none", edgecolors=LINE, lw=0.7, ls=":"))
        shares = np.where(counts > 0, 0.3 + 0.7 * counts / most, 0).ravel()
        faces = [(*to_rgb(colour), share) for share in shares]
        axes.add_collection(PolyCollection(corners[inside], facecolors=faces, edgecolors=LINE, lw=0.7))

    def _over(self, axes, y, image, counts, colour, unit):
        """The units of a map at the centres of their fields, over the picture, and the field of one of them."""
        n = image.shape[2]
        axes.imshow(self.picture_of(n), alpha=0.6, extent=(-0.5, n - 0.5, n - 0.5, -0.5))
        field = receptive_field(y, image)
        seen = np.argwhere(counts)
        centres = [float(field.start[0] + field.jump[0] * i) for i in range(y.shape[2])]
        radius = max(2.0, min(7.0, 40 / (axes.get_xlim()[1] - axes.get_xlim()[0])))
        across, down = np.meshgrid(centres, centres)
        axes.plot(across.ravel(), down.ravel(), "o", ms=radius, mfc="white", mec=LINE, mew=0.7, zorder=3)
        if len(seen):
            rows, columns = np.array(centres)[seen.T]
            axes.plot(columns, rows, "o", ms=radius, mfc=colour, mec="black", mew=0.7, zorder=3)
            one = unit or seen[np.abs(seen - seen.mean(0)).sum(1).argmin()]  # the middle one
            there = region(y, image, [int(i) for i in one], clip=False)
            _frame(axes, there.top - 0.5, there.left - 0.5, there.size, lw=1.8, ls="--")
        sees, jump = f"{field.size[0]}×{field.size[1]}", field.jump[0]
        axes.set_title(f"jump {jump}, sees {sees}" if y is not image else f"{n}×{n} pixels", fontsize=8)

    def touched(self, place: str, points: list[tuple[float, float]], **choice: Any) -> dict[str, Any]:
        number, (y, x) = int(place[-1]), points[-1]
        maps, _ = self.maps(**choice)
        if place.startswith("over"):
            field = receptive_field(maps[number], maps[0])
            y, x = (float((at - start) / jump) for at, start, jump in zip((y, x), field.start, field.jump))
        row, column = (min(max(round(at), 0), n - 1) for at, n in zip((y, x), maps[number].shape[2:]))
        return choice | dict(map=number, row=row, column=column)

    def moved(self, rows: int, columns: int, **choice: Any) -> dict[str, Any]:
        number, row, column = self.unit(**choice)
        n = self.maps(**choice)[0][number].shape[2]
        row, column = (min(max(x, 0), n - 1) for x in (row + rows, column + columns))
        return choice | dict(map=number, row=row, column=column)


def _frame(axes, top, left, size, **style):
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left, top), size[1], size[0], fill=False, ec=FIELD, zorder=4, **style))


def _through(x, layers):
    """x and the maps after it: convolutions (kernel, stride, padding, dilation) whose weights are 1 and keep sums."""
    maps = [x]
    for k, s, p, d in layers:
        maps.append(ops.conv2d(maps[-1], np.ones((1, 1, k, k)), stride=s, padding=p, dilation=d))
    return maps


@lru_cache(maxsize=256)
def _maps(n, layers):
    maps, reason = [Tensor(np.ones((1, 1, n, n)), name="image")], ""
    with no_grad():
        for layer in layers:
            try:
                maps.append(_through(maps[-1], [layer])[-1])
            except GeometryError as error:
                return maps, str(error)
    return maps, reason
