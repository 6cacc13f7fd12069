"""Generated scenes of simple shapes: a data set of any size that needs no files.

Only the outline determines the class.  Colours and textures have the same distribution for all shapes, and the
background is greyish: the colour of one pixel can show that it belongs to a shape, but not to which kind.
"""

from collections.abc import Sequence

import numpy as np

from ..arrays.types import Array
from ..errors import UserError
from .images import VOID
from .palette import voc_colour_map

SPLITS = ("train", "val")
BORDER = 1.5  # half the width in pixels of the void band around objects, VOC's "difficult" border


def _disc(x, y):
    return np.hypot(x, y) - 1


def _rectangle(x, y):
    return np.maximum(abs(x) - 1, abs(y) - 0.6)


def _triangle(x, y):
    return np.maximum(y, 0.866 * abs(x) - 0.5 * y) - 0.55


def _ring(x, y):
    return abs(np.hypot(x, y) - 0.75) - 0.25


def _cross(x, y):
    return np.minimum(np.maximum(abs(x) - 1, abs(y) - 0.3), np.maximum(abs(x) - 0.3, abs(y) - 1))


# Distance from (x, y) to the outline of a shape of radius 1: negative inside.
OUTLINES = {"disc": _disc, "rectangle": _rectangle, "triangle": _triangle, "ring": _ring, "cross": _cross}


class Shapes:
    """Scenes with three to six shapes on a textured background, generated from a seed and an index.

    Rotation, size and colour of a shape are random; shapes may cover each other; a thin band around each is void.

    Parameters
    ----------
    split : {"train", "val"}
        The splits use different random streams, so they share no scene.
    length : int
        Number of scenes.
    size : (int, int)
        Height and width in pixels.
    seed : int
        The same seed, split, size and index give the same scene.
    num_classes : int
        2 to 6: background, then disc, rectangle, triangle, ring and cross.

    Raises
    ------
    UserError
        If the split is unknown, or a number is out of range.
    """

    def __init__(
        self, split: str = "train", length: int = 200, size: Sequence[int] = (96, 128), seed: int = 0,
        num_classes: int = 6,
    ) -> None:  # fmt: skip
        if split not in SPLITS:
            raise UserError(f"Shapes has no split {split!r}; choose one of {', '.join(SPLITS)}")
        if not 2 <= num_classes <= 1 + len(OUTLINES):
            raise UserError(f"Shapes has 2 to {1 + len(OUTLINES)} classes, not {num_classes}")
        if length < 1 or len(size) != 2 or min(size) < 1 or seed < 0:
            raise UserError(
                f"Shapes needs a positive length and size and a seed that is not negative; got length {length}, "
                f"size {tuple(size)}, seed {seed}"
            )
        self.split, self.length, self.size, self.seed = split, length, tuple(size), seed
        self.classes = ("background", *OUTLINES)[:num_classes]
        self.num_classes = num_classes
        self.palette = voc_colour_map(num_classes)

    def __len__(self) -> int:
        return self.length

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """The (height, width) of every scene."""
        return [self.size] * self.length

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        if not -self.length <= i < self.length:
            raise IndexError(f"there is no scene {i} among {self.length}")
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), i % self.length])
        height, width = self.size
        ground = rng.uniform(60, 195) + rng.uniform(-25, 25, 3)  # greyish
        image = self._texture(rng, ground)
        label = np.zeros(self.size, np.uint8)
        y, x = np.mgrid[:height, :width]
        for _ in range(rng.integers(3, 7)):
            kind = rng.integers(1, self.num_classes)
            radius = rng.uniform(0.12, 0.25) * min(self.size)
            angle = rng.uniform(0, 2 * np.pi)
            dy, dx = (
                (y - rng.uniform(0.1, 0.9) * height) / radius,
                (x - rng.uniform(0.1, 0.9) * width) / radius,
            )
            along = np.cos(angle) * dx + np.sin(angle) * dy
            across = np.cos(angle) * dy - np.sin(angle) * dx
            distance = radius * OUTLINES[self.classes[kind]](along, across)  # in pixels
            candidates = rng.uniform(30, 225, (4, 3))
            colour = candidates[abs(candidates - ground).sum(1).argmax()]  # the most different from the background
            cover = (0.5 - distance).clip(0, 1)[..., None]  # opacity; falls over one pixel, as in a photograph
            image = cover * self._texture(rng, colour) + (1 - cover) * image
            label[distance < BORDER] = VOID
            label[distance < -BORDER] = kind
        image += rng.normal(0, 6, image.shape)
        return image.clip(0, 255).astype(np.uint8), label

    def _texture(self, rng, colour):
        """Stripes of a random direction, period and contrast around `colour`; float64 (H, W, 3)."""
        y, x = np.ogrid[: self.size[0], : self.size[1]]
        period, angle, phase = rng.uniform(6, 24), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        wave = np.sin(2 * np.pi / period * (np.cos(angle) * x + np.sin(angle) * y) + phase)
        return colour + wave[..., None] * rng.uniform(-15, 15, 3)

    def __repr__(self) -> str:
        return f"Shapes({self.split!r}, {self.length} scenes, {self.num_classes} classes)"
