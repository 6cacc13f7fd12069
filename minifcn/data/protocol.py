"""Protocols that describe a data set to a type checker.  A data set needs no base class.

At run time ``samples.require_dataset`` checks the object and names a missing member.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..arrays.types import Array


class DataSet(Protocol):
    """Images with a label for each pixel.

    An image is uint8 (H, W, 3) and a label uint8 (H, W), 255 for void; :func:`minifcn.data.samples.sample` lists
    the other accepted types.  `DetailedDataSet` has the optional members.
    """

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""

    @property
    def num_classes(self) -> int:
        """How many classes there are, at most 255."""

    @property
    def palette(self) -> Array:
        """A colour for each class, uint8 (n, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> tuple[Any, Any]:
        """Image and label of sample `i`."""


class DetailedDataSet(DataSet, Protocol):
    """A data set with all optional members.  Each is checked for separately, so any of them may be left out."""

    @property
    def bands(self) -> Sequence[str]:
        """The names of the images' channels, which may then be of any number, and uint16: see `minifcn.data.bands`."""

    @property
    def heads(self) -> Mapping[str, Sequence[str]]:
        """Kinds of labels and their classes; a label then has a channel for each kind: see `minifcn.data.heads`."""

    @property
    def sizes(self) -> Sequence[tuple[int, ...]]:
        """The (height, width) of each sample, so that no image has to be read to find its size."""

    def manifest(self) -> Mapping[str, str]:
        """{name: fingerprint} of the samples, in their order: see `minifcn.data.manifest`."""

    def window(self, i: int, top: int, left: int, height: int, width: int, /) -> tuple[Any, Any]:
        """Image and label of a rectangle near sample `i`, which ``Augment`` shows instead of a fill colour."""

    @property
    def split(self) -> str | None:
        """The name of the split, which is written into the results of a run."""

    @property
    def floors(self) -> Sequence[Mapping[str, Any]]:
        """Results to compare with, {name, pixel_accuracy, mean_iu}."""
