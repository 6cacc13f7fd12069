"""Scores of an image of any size in bounded memory: tile by tile, each with all pixels that its scores depend on.

A tile reads a *window* of the image and keeps the scores of its *core*.  Two facts make them the scores of the whole
image, and both are derived from the positions that every tensor carries (``geometry``):

- A pixel's scores depend on an interval of rows and one of columns.  A pixel belongs to a core only if the window holds
  both, up to the border of the image.  Then no score of the core depends on the padding at the window's own border.
- A window begins at a multiple of the net's overall stride, so every layer's cells lie where they lie in the whole
  image: poolings and strided convolutions sample the same cells, and upsampling has the same phase.

So each score of a core is the same expression of the same numbers as in the whole image.  In floating point the two can
still differ by rounding, because the convolution algorithm and the order of its sums depend on the size of a map.
:attr:`Tiling.certified` is the map of the pixels for which both facts hold.
"""

import sys
import warnings
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, lcm, prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import backend, buffers, memory
from ..arrays.types import Array
from ..engine.core import Tensor, no_grad, watch
from ..errors import GeometryError, Note, UserError
from ..geometry import Region, region
from ..kernels import override, shapes_only
from ..kernels.compiled.compiler import available
from ..kernels.shapes import stand_in
from ..nn.module import evaluating
from ..ops.interpolate import Interpolate, linear_weights, wide
from ..ops.shape import Crop, GetItem, Reshape, Transpose

MUCH = 4.0  # times the pixels of the image; tiles that read more are named as slow
BASE = 2 * 10**8 + buffers.SPARE + (11 * 10**7 if available() else 0)
"""Bytes of Python and its libraries, of blocks that are kept for later arrays, and of Numba if it is used."""


class Piece(NamedTuple):
    """The rows, or the columns, of a tile: it reads ``begin … end − 1`` and keeps ``first … last − 1``."""

    begin: int
    end: int
    first: int
    last: int


class Tile(NamedTuple):
    """A tile: the pixels that are read, those whose scores are kept, and the latter relative to the former."""

    window: Region
    core: Region
    inner: Region


class Survey(NamedTuple):
    """What a run of a net for its shapes alone says.

    Attributes
    ----------
    image, scores : Tensor
        Without values.
    stride : (int, int)
        The overall stride: a map's cells lie where they lie in a larger image if the image is cut at multiples of it.
    resized : list of (Interpolate, (int, int))
        The interpolations in the order they ran, and the steps (h, w) of their inputs' cells in pixels.
    bytes : int
        The estimated peak memory of the maps.
    """

    image: Tensor
    scores: Tensor
    stride: tuple[int, int]
    resized: list[tuple[Interpolate, tuple[Any, ...]]]
    bytes: int


@dataclass(frozen=True)
class Tiling:
    """The tiles that cover an image.

    Attributes
    ----------
    size : (int, int)
        Of the image.
    rows, columns : sequence of Piece
        Each tile is one of `rows` and one of `columns`.
    survey : Survey
        Of the whole image.
    """

    size: tuple[int, int]
    rows: Sequence[Piece]
    columns: Sequence[Piece]
    survey: Survey

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        for r in self.rows:
            for c in self.columns:
                yield Tile(
                    Region(r.begin, r.end, c.begin, c.end),
                    Region(r.first, r.last, c.first, c.last),
                    Region(r.first - r.begin, r.last - r.begin, c.first - c.begin, c.last - c.begin),
                )

    @property
    def work(self) -> float:
        """How many times the tiles together read as many pixels as the image has."""
        rows, columns = (sum(piece.end - piece.begin for piece in axis) for axis in (self.rows, self.columns))
        return rows * columns / prod(self.size)

    @property
    def certified_axes(self) -> tuple[Array, Array]:
        """The certified rows (H,) and columns (W,): a pixel is certified if its row and its column are."""
        reach = _reach(self.survey, 0), _reach(self.survey, 1)
        rows, columns = map(_certified, self.size, (self.rows, self.columns), self.survey.stride, reach)
        return rows, columns

    @property
    def certified(self) -> Array:
        """The pixels whose scores are the same expression of the same pixels as in the whole image: (H, W) of bool.

        It follows from the positions and the windows alone, not from how the windows were chosen.
        """
        rows, columns = self.certified_axes
        return rows[:, None] & columns[None, :]


def _certified(n, pieces, stride, reach):
    """Which of n rows (or columns) are computed in a window that begins in phase and holds all that they depend on."""
    least, most = reach
    certified = np.zeros(n, bool)
    for p in pieces:
        complete = (least >= p.begin) | (p.begin == 0)
        complete &= (most < p.end) | (p.end == n)
        certified[p.first : p.last] = complete[p.first : p.last] & (p.begin % stride == 0)
    return certified


def survey(model: Any, size: Sequence[int], count: int = 1) -> Survey:
    """Run the model for its shapes alone, on `count` images of `size`."""
    like = model.parameters()[0].data
    live: dict[int, int] = {}
    jumps: tuple[list[int], list[int]] = ([1], [1])
    resized, peak = [], 0

    def note(node, inputs, out):
        nonlocal peak
        maps = [x for x in inputs if x.ndim == 4 and x.where]
        is_view = isinstance(node, Crop | GetItem | Reshape | Transpose)  # it keeps all of its input
        new = max(map(_bytes, maps), default=0) if is_view else _bytes(out)
        # most operations make a second array like their output, and a convolution a padded copy of its input
        peak = max(peak, sum(live.values()) + (0 if is_view else 2 * new + sum(map(_bytes, maps))))
        live[id(out)] = new
        weakref.finalize(out, live.pop, id(out), None)
        if isinstance(node, Interpolate):
            resized.append((node, tuple(m.jump for m in maps[0].where[image._root])))
        else:
            for axis, found in enumerate(jumps):
                found += [m[axis].jump.numerator for m in out.where.values()]

    with evaluating(model), no_grad(), shapes_only():
        image = Tensor(stand_in(like, (count, model.in_channels, *size)), name="the image").mark()
        live[id(image)] = _bytes(image)
        with watch(note):
            scores = model(image)
    return Survey(image, scores, (lcm(*jumps[0]), lcm(*jumps[1])), resized, peak)


def _bytes(tensor):
    return tensor.size * tensor.dtype.itemsize


def plan(model: Any, size: tuple[int, int], budget: float) -> Tiling:
    """The largest tiles whose maps take at most `budget` bytes: one tile if the whole image fits.

    Parameters
    ----------
    model : FCN
    size : (int, int)
        Height and width of the image.
    budget : number

    Raises
    ------
    UserError
        If not even the smallest tile fits, which holds one cell of the coarsest map and all that it depends on.
    GeometryError
        If the scores have no position on the image, or depend on all of it.
    """
    whole = survey(model, size)
    if whole.bytes <= budget:
        return Tiling(size, [Piece(0, size[0], 0, size[0])], [Piece(0, size[1], 0, size[1])], whole)
    reach = [_reach(whole, axis) for axis in (0, 1)]

    def tiling(side):
        rows, columns = (_pieces(n, side * s, s, r) for n, s, r in zip(size, whole.stride, reach))
        return Tiling(size, rows, columns, whole) if rows and columns else None

    def cost(side):
        return max(_cost(model, window) for window in {t.window.size for t in tiling(side)})

    sides = range(1, max(-(-n // s) for n, s in zip(size, whole.stride)) + 1)
    sides = sides[bisect_left(sides, True, key=lambda side: tiling(side) is not None) :]
    fitting = sides[: bisect_right(sides, budget, key=cost)]
    if not fitting:
        height, width = next(iter(tiling(sides[0]))).window.size
        raise UserError(
            f"the smallest tile of this model has {height}x{width} pixels (height x width) and takes "
            f"{memory.shown(cost(sides[0]))}, but {memory.shown(max(budget, 0))} are left for it: allow "
            f"{memory.shown(cost(sides[0]) - budget)} more (--memory)"
        )
    largest = tiling(fitting[-1])
    both = zip((largest.rows, largest.columns), size, whole.stride, reach)
    rows, columns = (_balanced(*arguments) for arguments in both)
    return Tiling(size, rows, columns, whole)


def _reach(whole, axis):
    """The first and the last row (or column) that the scores of each row depend on; they may lie outside."""
    units = np.zeros((whole.scores.shape[2 + axis], 2), int)
    units[:, axis] = np.arange(len(units))
    regions = [region(whole.scores, whole.image, unit, clip=False) for unit in units.tolist()]
    return np.array([r[2 * axis] for r in regions]), np.array([r[2 * axis + 1] for r in regions]) - 1


def _pieces(n, window, stride, reach):
    """n rows (or columns) in pieces that read at most `window`, a multiple of the stride; [] if `window` is too small.

    All windows but those of a small image have about the same size, so that the maps of one tile fit the memory of the
    last.
    """
    least = np.minimum.accumulate(reach[0][::-1])[::-1]  # over this row and all later ones
    most = np.maximum.accumulate(reach[1])
    pieces, first = [], 0
    while first < n:
        begin = min(int(least[first]), n - window + stride - 1)  # the last window reaches back for its full size
        begin = max(begin, 0) // stride * stride
        end = min(begin + window, n)
        last = n if end == n else int(np.searchsorted(most, end))
        if last <= first:
            return []
        pieces.append(Piece(begin, end, first, last))
        first = last
    return pieces


def _balanced(pieces, n, stride, reach):
    """As many pieces, with the smallest windows."""
    for window in range(stride, n, stride):
        smaller = _pieces(n, window, stride, reach)
        if smaller and len(smaller) <= len(pieces):
            return smaller
    return pieces


def _cost(model, window):
    try:
        return survey(model, window).bytes
    except GeometryError:  # its first layer was padded for images of another size
        return inf


def each(model: Any, tiling: Tiling, read: Callable[[Region], Array], use: Callable[[Region, Array], None]) -> None:
    """Call ``use(core, scores)`` for every tile of an image.

    Parameters
    ----------
    model : FCN
    tiling : Tiling
        From :func:`plan`.
    read : callable
        ``read(window)`` gives the model's input for a window of the image, (1, C, h, w).
    use : callable
        Takes the pixels of a tile's core, and their scores (1, num_classes, h, w) on the model's device.  The cores of
        all tiles cover the image.
    """
    from tqdm import tqdm  # imported here, because it slows `import minifcn`

    device = backend.device(model.parameters()[0].data)
    if tiling.work > MUCH:
        warnings.warn(
            f"{len(tiling)} tiles read {tiling.work:.0f} times as many pixels as the image has, because each sees the "
            "surroundings of its pixels; with more memory (--memory) they are larger, and take less time",
            Note,
            stacklevel=2,
        )
    for tile in tqdm(tiling, "tiles", len(tiling), leave=False, disable=None, file=sys.stderr):
        buffers.release()  # the blocks of the last tile, which may have had another size
        with evaluating(model), no_grad(), override(Interpolate=_interpolation(tiling, tile.window)):
            image = Tensor(backend.to_device(read(tile.window), device))
            use(tile.core, model(image).data[tile.inner.index])


def _interpolation(tiling, window):
    """The operation that interpolates a tile's maps as those of the whole image.

    An interpolation to the size of the image has the step n/m, which is not the same in an image and in its tile if the
    stride does not divide the size.  Here it takes its weights from the matrices of the whole image.
    """
    resized = iter(tiling.survey.resized)

    def matrices(node, x):
        whole, jumps = next(resized)
        for axis, begin in enumerate((window.top, window.left)):
            n, m, jump = whole.in_shapes[0][2 + axis], whole.size[axis], jumps[axis]
            inputs = begin / jump
            outputs = Fraction(begin) if m == tiling.size[axis] else inputs * m / n
            if inputs.denominator != 1 or outputs.denominator != 1:
                raise GeometryError(
                    f"{whole.name} interpolates {n} cells to {m}, which a tile cannot repeat: give a size that the "
                    "factor divides, or allow the memory for the whole image"
                )
            outputs = slice(int(outputs), int(outputs) + node.size[axis])
            inputs = slice(int(inputs), int(inputs) + x.shape[2 + axis])
            yield linear_weights(backend.of(x), n, m, wide(x).dtype, outputs, inputs)

    return type("Interpolate", (Interpolate,), dict(matrices=matrices))
