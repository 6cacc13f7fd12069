"""Transforms of raw images: `Augment` changes samples in training, `Preprocessing` makes every network input."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..arrays.types import Array
from ..errors import UserError
from .bands import RGB, bands_of
from .images import FILL, VOID
from .protocol import DataSet
from .samples import called, sample

MEASURED = 100  # images from which a preprocessing is derived


@dataclass(frozen=True)
class Preprocessing:
    """Conversion of raw images to a model's input: channel order, and ``(x − mean) · scale`` for each channel.

    It belongs to the model: every checkpoint stores it, so that training and prediction convert images alike.

    Parameters
    ----------
    order : {"RGB", "BGR"}
        "BGR" reverses three channels; "RGB" keeps the order of the images' channels, of any number.
    mean, scale : as many floats as the model has channels
        In the model's channel order; the mean on the scale of the images: 0..255 or 0..65535.
    bits : {8, 16}
        Of a value of the raw images: uint8 or uint16.

    Raises
    ------
    UserError
        If `order` or `bits` is another value, or `mean` and `scale` are not finite numbers, one for each channel.
    """

    order: str = "RGB"
    mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    scale: tuple[float, ...] = (1 / 64, 1 / 64, 1 / 64)
    bits: int = 8

    def __post_init__(self):
        if self.order not in ("RGB", "BGR"):
            raise UserError(f"preprocessing order is {self.order!r}; it must be 'RGB' or 'BGR'")
        if type(self.bits) is not int or self.bits not in (8, 16):
            raise UserError(f"preprocessing bits are {self.bits!r}; they must be 8 or 16")
        for name in ("mean", "scale"):
            given = getattr(self, name)
            try:
                values = tuple(float(value) for value in given)
            except (TypeError, ValueError, OverflowError):
                values = ()
            if not values or not np.all(np.abs(values) < 1e30):  # below the float32 limit; false for NaN
                raise UserError(f"preprocessing {name} is {given!r}; it must be finite numbers, one for each channel")
            object.__setattr__(self, name, values)  # a list from JSON becomes a tuple
        if len(self.mean) != len(self.scale) or (self.order == "BGR" and self.channels != 3):
            raise UserError(
                f"preprocessing has {len(self.mean)} means and {len(self.scale)} scales for {self.order}; it must have "
                "one of each for each channel, and BGR has three channels"
            )

    @property
    def channels(self) -> int:
        """The number of channels."""
        return len(self.mean)

    def __call__(self, images: Array) -> Array:
        """Turn raw images into a network's input.

        Parameters
        ----------
        images : ndarray of uint8 (uint16 with 16 bits), shape (N, H, W, C) or (H, W, C)
            RGB, or the bands of the data set.

        Returns
        -------
        ndarray of float32, shape (N, C, H, W)
            A single image becomes a batch of one.

        Raises
        ------
        UserError
            If the dtype or the shape is another.
        """
        images = np.asarray(images)
        kind, n = f"uint{self.bits}", self.channels
        if (images.dtype != kind and images.size) or images.ndim not in (3, 4) or images.shape[-1] != n:
            raise UserError(
                f"images are {images.dtype} of shape {images.shape}; "
                f"expected raw {kind}{' RGB' if n == 3 else ''} of shape (N, H, W, {n}) or (H, W, {n})"
            )
        if images.ndim == 3:
            images = images[None]
        if self.order == "BGR":
            images = images[..., ::-1]
        x = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)  # (N, C, H, W)
        x -= np.array(self.mean, np.float32)[:, None, None]
        x *= np.array(self.scale, np.float32)[:, None, None]
        return x

    @classmethod
    def of(cls, dataset: DataSet) -> "Preprocessing":
        """The preprocessing that suits the images of a data set.

        For red, green and blue in 8 bits it is the default.  For any other bands it is measured over up to 100 images,
        evenly spaced: the mean of each band, and 1 / its standard deviation.

        Raises
        ------
        UserError
            If some images are uint8 and others uint16.
        """
        if not hasattr(dataset, "bands"):
            return cls()
        bands, kinds = bands_of(dataset), set()
        count, total, squares = 0, np.zeros(len(bands)), np.zeros(len(bands))
        for i in np.unique(np.linspace(0, len(dataset) - 1, MEASURED).astype(int)).tolist():
            image = sample(dataset, i)[0]
            kinds.add(8 * image.dtype.itemsize)
            if bands == RGB and kinds == {8}:
                return cls()
            values = image.reshape(-1, len(bands)).astype(np.float64)
            count, total, squares = count + len(values), total + values.sum(axis=0), squares + (values**2).sum(axis=0)
        if len(kinds) > 1:
            raise UserError(f"{called(dataset)} has images of 8 and of 16 bits; convert all to one of them")
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return cls(mean=tuple(mean), scale=tuple(1 / np.maximum(deviation, 1)), bits=kinds.pop())

    @property
    def fill(self) -> tuple[int, ...]:
        """The raw colour nearest to the mean, which becomes about 0 in the network's input; used for padding."""
        red_first = self.mean if self.order == "RGB" else self.mean[::-1]
        return tuple(int(np.clip(round(value), 0, 2**self.bits - 1)) for value in red_first)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self) | {"mean": list(self.mean), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, fields: Any) -> "Preprocessing":
        """The Preprocessing whose `to_dict` is `fields`; UserError if fields are unknown or invalid."""
        try:
            return cls(**fields)
        except TypeError:
            raise UserError(f"preprocessing is {fields!r}; expected the fields order, mean, scale and bits") from None


CAFFE = Preprocessing("BGR", (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0))
"""The preprocessing of the paper's Caffe networks: BGR minus the mean colour of ILSVRC."""


@dataclass(frozen=True)
class Augment:
    """Random mirroring, translation and zoom, applied to image and label together; the size does not change.

    Parameters
    ----------
    mirror : bool
        Swap left and right with probability ½.
    jitter : int
        Translate by up to this many pixels in each direction (the paper: 32).
    zoom : float
        Magnify by a factor from 1/(1 + zoom) to 1 + zoom: the image bilinear, the label by nearest neighbour, because
        class ids cannot be interpolated.
    fill : ints, one for each band
        The colour of pixels that the image does not cover; their label is void.

    Raises
    ------
    UserError
        If `jitter` or `zoom` is negative or not finite.
    """

    mirror: bool = True
    jitter: int = 32
    zoom: float = 0.0
    fill: tuple[int, ...] = FILL

    def __post_init__(self):
        for name in ("jitter", "zoom"):
            if not 0 <= getattr(self, name) < np.inf:
                raise UserError(f"augmentation {name} is {getattr(self, name)!r}; it must be finite and not negative")

    def __call__(
        self, image: Array, label: Array, rng: np.random.Generator, window: Callable | None = None
    ) -> tuple[Array, Array]:
        """The image and label of one sample after a random change.

        Parameters
        ----------
        image : ndarray of uint8 or uint16, shape (H, W, C)
        label : ndarray of uint8, shape (H, W)
        rng : numpy.random.Generator
            The only source of random numbers.
        window : callable, optional
            ``window(top, left, height, width) -> (image, label)`` of a rectangle, relative to the top left corner of
            the image.  It may lie outside the image, and the data set may shift it.  A data set that knows the real
            surroundings of its images shows them in place of the fill colour.

        Returns
        -------
        image, label : arrays of the same shapes and dtypes
        """
        height, width = label.shape
        top, left = (int(step) for step in rng.integers(-self.jitter, self.jitter + 1, 2))
        limit = np.log1p(self.zoom)
        factor = float(np.exp(rng.uniform(-limit, limit)))
        h, w = max(round(height / factor), 1), max(round(width / factor), 1)
        top, left = top + (height - h) // 2, left + (width - w) // 2
        if window is None:
            image, label = cut(image, top, left, h, w, self.fill), cut(label, top, left, h, w, VOID)
        else:
            image, label = window(top, left, h, w)
        image = resize(image, height, width, Image.Resampling.BILINEAR)
        label = resize(label, height, width, Image.Resampling.NEAREST)
        if self.mirror and rng.integers(2):
            image, label = image[:, ::-1], label[:, ::-1]
        return image, label


def cut(array, top, left, height, width, fill):
    """A rectangle of an image, relative to its top left corner, filled with `fill` outside the image."""
    out = np.empty((height, width, *array.shape[2:]), array.dtype)
    out[...] = fill
    y0, y1 = max(top, 0), min(top + height, array.shape[0])
    x0, x1 = max(left, 0), min(left + width, array.shape[1])
    if y0 < y1 and x0 < x1:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = array[y0:y1, x0:x1]
    return out


def resize(array, height, width, resample):
    """The image resized to (height, width) with a Pillow resampling filter."""
    if array.shape[:2] == (height, width):
        return array
    # band by band: Pillow has no pictures with several 16-bit channels, and would take a fourth band for transparency
    if array.ndim == 3 and (array.shape[2] != 3 or array.dtype != np.uint8):
        return np.stack([resize(array[..., k], height, width, resample) for k in range(array.shape[2])], axis=-1)
    picture = np.ascontiguousarray(array, array.dtype if array.dtype == np.uint8 else np.float32)
    resized = np.asarray(Image.fromarray(picture).resize((width, height), resample))
    return resized if array.dtype == np.uint8 else np.rint(resized).astype(array.dtype)
