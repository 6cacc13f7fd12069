"""Data sets made from another one.

`Resized` has smaller or larger pictures, `Repeated` several passes in one, `ByName` the ids of other classes, `OneHead`
one kind of labels of several.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..arrays.types import Array
from .heads import heads_of
from .images import VOID
from .palette import voc_colour_map
from .protocol import DataSet
from .samples import sample
from .statistics import sizes
from .transforms import resize, resized_shape

KEPT = 2**28  # bytes of resized samples that are kept in memory


class View:
    """The base of data sets made from another one: it has everything that they do not change."""

    hidden: tuple[str, ...] = ()  # optional members that the view does not have

    def __init__(self, dataset: DataSet) -> None:
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in self.hidden or "dataset" not in vars(self):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        return repr(self.dataset)


class Resized(View):
    """A data set whose pictures are resized until their shorter side has a given number of pixels.

    Images are interpolated bilinearly; labels take the nearest pixel, because class ids cannot be interpolated.  If all
    resized samples fit into `KEPT` bytes, each is made only once.  Surroundings (``window``) are not available.

    Parameters
    ----------
    dataset : data set
    size : int
        The shorter side in pixels.
    """

    hidden = ("window",)

    def __init__(self, dataset: DataSet, size: int) -> None:
        super().__init__(dataset)
        self.sizes = [resized_shape(shape, size) for shape in sizes(dataset).tolist()]
        few = sum(h * w for h, w in self.sizes) * 4 <= KEPT
        self._kept: dict[int, tuple[Array, Array]] | None = {} if few else None

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        if self._kept is not None and i in self._kept:
            return self._kept[i]
        image, label = sample(self.dataset, i)
        pair = (
            resize(image, *self.sizes[i], Image.Resampling.BILINEAR),
            resize(label, *self.sizes[i], Image.Resampling.NEAREST),
        )
        if self._kept is not None:
            self._kept[i] = pair
        return pair


class Repeated(View):
    """A data set with each sample several times, so that an epoch has enough steps.

    Parameters
    ----------
    dataset : data set
    times : int
    """

    def __init__(self, dataset: DataSet, times: int) -> None:
        super().__init__(dataset)
        self.times, self.sizes = times, [tuple(shape) for shape in np.tile(sizes(dataset), (times, 1)).tolist()]

    def __len__(self) -> int:
        return self.times * len(self.dataset)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.dataset[i % len(self.dataset)]

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if name != "window":
            return value
        return lambda i, *place: value(i % len(self.dataset), *place)


class ByName(View):
    """A data set whose labels are the ids of the classes of the same names in another list.

    Parameters
    ----------
    dataset : data set
    classes : sequence of str
        The names of all classes of the data set are among them.
    palette : array (n, 3), optional
        The colours of `classes`; by default the data set's.
    names : sequence of str, optional
        The names of the data set's own classes; by default its ``classes``.
    """

    hidden = ("window",)  # its labels would have the ids of the data set

    def __init__(
        self, dataset: DataSet, classes: Sequence[str], palette: Array | None = None, names: Sequence[str] | None = None
    ) -> None:  # fmt: skip
        super().__init__(dataset)
        self.classes, self.num_classes = tuple(classes), len(classes)
        self.palette = dataset.palette if palette is None else palette
        names = dataset.classes if names is None else names
        self.ids = np.full(VOID + 1, VOID, np.uint8)
        self.ids[: len(names)] = [self.classes.index(name) for name in names]

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        image, label = sample(self.dataset, i)
        return image, self.ids[label]


class OneHead(View):
    """A data set with the labels (H, W) of one of its ``heads``.

    Parameters
    ----------
    dataset : data set
        With ``heads``: see `minifcn.data.heads`.
    head : str
    """

    hidden = ("window", "heads")

    def __init__(self, dataset: DataSet, head: str) -> None:
        super().__init__(dataset)
        heads = heads_of(dataset)
        self.channel, self.classes = list(heads).index(head), heads[head]
        self.num_classes = len(self.classes)
        palette = None if self.channel else getattr(dataset, "palette", None)
        self.palette = voc_colour_map(self.num_classes) if palette is None else palette

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        image, label = sample(self.dataset, i)
        return image, label[..., self.channel]


def first_head(dataset: Any) -> Any:
    """The data set with the labels of its first head alone; itself if it has one kind of labels."""
    return OneHead(dataset, next(iter(heads))) if (heads := heads_of(dataset)) else dataset
