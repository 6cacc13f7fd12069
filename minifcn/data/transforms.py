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
LARGEST = 16384  # pixels of the shorter side to which images can be resized


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
    size : int, optional
        Pixels of the shorter side to which images are resized before prediction, because the model was trained on
        pictures of this size; the scores are interpolated back.  None: images keep their size.

    Raises
    ------
    UserError
        If `order`, `bits` or `size` is not valid, or `mean` and `scale` are not finite numbers, one for each channel.
    """

    order: str = "RGB"
    mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    scale: tuple[float, ...] = (1 / 64, 1 / 64, 1 / 64)
    bits: int = 8
    size: int | None = None

    def __post_init__(self):
        if self.size is not None and not (type(self.size) is int and 1 <= self.size <= LARGEST):
            raise UserError(f"preprocessing size is {self.size!r}; it must be a number of pixels from 1 to {LARGEST}")
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

    def resized(self, images: Array) -> Array:
        """Raw images (N, H, W, C) or (H, W, C) so that their shorter side has `size` pixels; `images` if it has."""
        if self.size is None or np.ndim(images) not in (3, 4) or self.size == min(images.shape[-3:-1]):
            return images
        if images.ndim == 4:
            return np.stack([self.resized(image) for image in images])
        return resize(images, *resized_shape(images.shape[:2], self.size), Image.Resampling.BILINEAR)

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
            raise UserError(
                f"preprocessing is {fields!r}; expected the fields order, mean, scale, bits and size"
            ) from None


def resized_shape(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """The (height, width) of a picture of `shape` whose shorter side becomes `size` pixels."""
    height, width = shape
    factor = size / min(height, width)
    return max(round(height * factor), 1), max(round(width * factor), 1)


CAFFE = Preprocessing("BGR", (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0))
"""The preprocessing of the paper's Caffe networks: BGR minus the mean colour of ILSVRC."""


@dataclass(frozen=True)
class Augment:
    """Random zoom, place, mirroring and colour: image and label change together, and colour changes the image alone.

    A rectangle of the sample is magnified to the size of the result.  It lies inside the picture if it is smaller than
    the picture, and contains the picture if it is larger; `jitter` lets it reach beyond that.

    Parameters
    ----------
    mirror : bool
        Swap left and right with probability ½.
    jitter : float
        Share of the picture's height and width by which the rectangle may be displaced, 0 … below 1 (the paper: 32
        pixels of about 500).
    scale : (float, float)
        Least and greatest magnification, drawn so that ½ and 2 are equally likely: the image is interpolated
        bilinearly, the label by nearest neighbour, because class ids cannot be interpolated.
    crop : (int, int), optional
        Height and width of the result; by default those of each picture.
    colour : float
        Strength of changes of brightness, contrast, saturation and hue (`colour_map`), 0 … below 1; for RGB only.
    fill : ints, one for each band
        The colour of pixels that the image does not cover; their label is void.

    Raises
    ------
    UserError
        If a value is out of its range.
    """

    mirror: bool = True
    jitter: float = 0.1
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    colour: float = 0.0
    fill: tuple[int, ...] = FILL

    def __post_init__(self):
        for name in ("jitter", "colour"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"augmentation {name} is {getattr(self, name)!r}; it must be at least 0 and below 1")
        if len(self.scale) != 2 or not 0.01 <= self.scale[0] <= self.scale[1] <= 100:
            raise UserError(f"augmentation scale is {self.scale!r}; it must be two factors from 0.01 to 100, in order")
        if self.crop is not None and (len(self.crop) != 2 or min(self.crop) < 1):
            raise UserError(f"augmentation crop is {self.crop!r}; it must be a height and a width of at least 1 pixel")

    def __call__(
        self, image: Array, label: Array, rng: np.random.Generator, window: Callable | None = None
    ) -> tuple[Array, Array]:
        """The image and label of one sample after a random change.

        Parameters
        ----------
        image : ndarray of uint8 or uint16, shape (H, W, C)
        label : ndarray of uint8, shape (H, W), or (H, W, heads)
        rng : numpy.random.Generator
            The only source of random numbers.
        window : callable, optional
            ``window(top, left, height, width) -> (image, label)`` of a rectangle, relative to the top left corner of
            the image.  It may lie outside the image, and the data set may shift it.  A data set that knows the real
            surroundings of its images shows them in place of the fill colour.

        Returns
        -------
        image, label : arrays of shapes (h, w, C) and (h, w) or (h, w, heads), where (h, w) is `crop`, or (H, W)
        """
        height, width = self.crop or label.shape[:2]
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        place = []  # top, left, and the size of the rectangle
        for size, full in zip((height, width), label.shape):
            part, reach = max(round(size / factor), 1), int(self.jitter * full)
            place.append((int(rng.integers(min(full - part, 0) - reach, max(full - part, 0) + reach + 1)), part))
        (top, h), (left, w) = place
        if window is None:
            image, label = cut(image, top, left, h, w, self.fill), cut(label, top, left, h, w, VOID)
        else:
            image, label = window(top, left, h, w)
        image = resize(image, height, width, Image.Resampling.BILINEAR)
        label = resize(label, height, width, Image.Resampling.NEAREST)
        if self.mirror and rng.integers(2):
            image, label = image[:, ::-1], label[:, ::-1]
        if self.colour:
            image = recoloured(image, *colour_map(self.colour, rng))
        return image, label


HUE = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])  # from RGB to YIQ


def colour_map(strength: float, rng: np.random.Generator) -> tuple[Array, float]:
    """A random change of colours, ``rgb → M·rgb + b``.

    Brightness, contrast (about mid-grey) and saturation are each multiplied by a factor from 1 − `strength` to
    1 + `strength`; the hue turns by up to `strength` · 30°.  Greys stay grey.

    Parameters
    ----------
    strength : float
    rng : numpy.random.Generator

    Returns
    -------
    M : ndarray, (3, 3)
    b : float
    """
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    angle = np.deg2rad(30) * strength * rng.uniform(-1, 1)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    turn[1:] *= saturation  # I and Q are nought for greys, and their length is the saturation
    return brightness * contrast * (np.linalg.inv(HUE) @ turn @ HUE), brightness * (1 - contrast) * 127.5


def recoloured(image: Array, matrix: Array, offset: float) -> Array:
    """The RGB image (H, W, 3) of uint8 with every colour mapped to ``matrix · colour + offset``, clipped to 0…255."""
    colours = image.reshape(-1, 3).astype(np.float32) @ matrix.T.astype(np.float32) + np.float32(offset)
    return np.rint(colours.clip(0, 255)).astype(np.uint8).reshape(image.shape)


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
