"""Check and convert the samples of any data set: ``sample(dataset, i)`` is ``dataset[i]`` as arrays.

A value with only one possible meaning is converted; any other value is an error that names the sample.
"""

from numbers import Integral

import numpy as np
from PIL import Image

from ..arrays import backend
from ..errors import UserError
from .bands import require_bands
from .heads import heads_of, require_heads
from .images import VOID, as_ids, as_rgb


def sample(dataset, i):
    """``dataset[i]`` as raw image and label.

    An image may be an array of any library or a Pillow image.  Its values may be uint8, wider integers within 0..255,
    or floats within 0..1 (1 is white).  Its shape may be (H, W, 3), (H, W, 4), whose alpha is dropped, (H, W) or
    (H, W, 1) for grey, or channels first, which is recognised by the size of the label.  A label may hold integers,
    booleans, or floats that are whole numbers, in the shape (H, W), (H, W, 1) or (1, H, W).

    If the data set has ``bands`` (see `minifcn.data.bands`), an image has one channel for each band, last or first, and
    its values are kept: uint8, or integers within 0..65535, which become uint16.  If it has ``heads`` (see
    `minifcn.data.heads`), a label has one channel for each of them, last.

    Parameters
    ----------
    dataset : data set
        See `minifcn.data`.
    i : int

    Returns
    -------
    image : ndarray of uint8, shape (H, W, 3), or of uint8 or uint16, (H, W, bands)
    label : ndarray of uint8, shape (H, W), or (H, W, heads)
        Classes, below ``dataset.num_classes`` if the data set has this attribute, and 255 for void.

    Raises
    ------
    UserError
        If ``dataset[i]`` raises an exception, or is not such a pair of image and label.
    """
    try:
        pair = dataset[i]
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the data set is the user's code and may raise anything
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise UserError(f"sample {i} of {called(dataset)} cannot be read ({message})") from error
    return checked(dataset, i, pair)


def checked(dataset, i, pair):
    """The checked image and label of `pair`, which is ``dataset[i]`` or a window of it: see :func:`sample`."""
    name = f"sample {i} of {called(dataset)}"
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        what = f"{len(pair)} values" if isinstance(pair, tuple | list) else f"a {type(pair).__name__}"
        raise UserError(f"{name} is {what}; expected (image, label)")
    heads, named = heads_of(dataset), hasattr(dataset, "bands")
    label = _of_heads(name, pair[1], heads) if heads else label_of(name, pair[1])
    size = label.shape[:2]
    image = _bands(name, pair[0], size, dataset.bands) if named else _image(name, pair[0], size)
    if image.shape[:2] != size:
        (h, w), (height, width) = image.shape[:2], size
        raise UserError(
            f"{name} has an image of {h}x{w} but a label of {height}x{width} (height x width); they must be of the "
            "same size"
        )
    if not label.size:
        raise UserError(f"{name} is {label.shape[0]}x{label.shape[1]} pixels; remove samples without pixels")
    if heads:
        for k, (head, names) in enumerate(heads.items()):
            _require_classes(f"{name} ({head})", label[..., k], len(names))
    else:
        _require_classes(name, label, getattr(dataset, "num_classes", VOID))
    return image, label


def _require_classes(name, label, classes):
    """Raise UserError unless a label (H, W) holds classes below `classes`, and void."""
    if label.max() >= classes:
        unknown = label[(label >= classes) & (label != VOID)]
        if unknown.size:
            raise UserError(
                f"{name} has a pixel labelled {unknown.max()}; with {classes} classes, "
                f"labels must lie in 0..{classes - 1}, or be {VOID} (void)"
            )


def require_dataset(dataset):
    """Raise UserError unless `dataset` has a length, items, and attributes of the right types."""
    if isinstance(dataset, str | bytes) or not hasattr(dataset, "__getitem__"):
        raise UserError(
            f"a {type(dataset).__name__} was given as data set; it must have len(d) and d[i] (see minifcn.data)"
        )
    try:
        len(dataset)
    except Exception as error:  # the data set is the user's code and may raise anything
        raise UserError(f"{called(dataset)} has no length ({error}); a data set needs len(d) and d[i]") from error
    classes = getattr(dataset, "num_classes", None)
    if classes is not None and not (isinstance(classes, Integral) and classes is not True and 1 <= classes <= VOID):
        raise UserError(f"{called(dataset)} has num_classes {classes!r}; it must be a whole number from 1 to {VOID}")
    names = getattr(dataset, "classes", None)
    if names is not None:
        proper = not isinstance(names, str) and hasattr(names, "__len__") and all(isinstance(n, str) for n in names)
        if not proper or (classes is not None and len(names) != classes):
            raise UserError(
                f"{called(dataset)} has classes {_short(names)}; it must have as many names as num_classes ({classes})"
            )
    if hasattr(dataset, "bands"):
        require_bands(dataset.bands, called(dataset))
    if hasattr(dataset, "heads"):
        require_heads(dataset.heads, called(dataset))
        head, first = next(iter(heads_of(dataset).items()))
        if names is not None and tuple(names) != first:
            raise UserError(
                f"{called(dataset)} has the classes {', '.join(names)}, but its first head {head} has "
                f"{', '.join(first)}; both must be the same"
            )
    palette = getattr(dataset, "palette", None)
    if palette is not None:
        colours = _array(f"the palette of {called(dataset)}", palette)
        fits = colours.ndim == 2 and colours.shape[1] == 3 and colours.dtype.kind in "iu"
        if not fits or colours.min(initial=0) < 0 or colours.max(initial=0) > 255 or len(colours) > 256:
            raise UserError(
                f"{called(dataset)} has the palette {_short(palette)}; it must be RGB, (n, 3) whole numbers in 0..255"
            )


def called(dataset):
    """The name of a data set in an error message: its ``repr``, or its type if that is long."""
    text = _short(dataset)
    return text if len(text) <= 120 else f"the {type(dataset).__name__}"


def _short(value):
    if isinstance(value, list | tuple | dict) and len(value) > 10:
        return f"a {type(value).__name__} of {len(value)}"
    try:
        return repr(value)
    except Exception:  # __repr__ is the user's code and may raise anything
        return f"a {type(value).__name__}"


def _image(name, image, size):
    """The image as (H, W, 3) of uint8; `size`, of the label, tells channels first from channels last."""
    if type(image) is np.ndarray and image.dtype == np.uint8 and image.shape == (*size, 3):
        return image
    if isinstance(image, Image.Image):
        return as_rgb(f"the image of {name}", image)
    image = _array(f"the image of {name}", image)
    if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[1:] == size != image.shape[:2]:
        image = image.transpose(1, 2, 0)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise UserError(f"the image of {name} has shape {image.shape}; expected (H, W, 3), or grey (H, W)")
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return _colours(name, image[:, :, :3])


def _bands(name, image, size, bands):
    """The image as (H, W, len(bands)) of uint8 or uint16."""
    count = len(bands)
    if type(image) is np.ndarray and image.dtype in (np.uint8, np.uint16) and image.shape == (*size, count):
        return image
    image = _array(f"the image of {name}", np.asarray(image) if isinstance(image, Image.Image) else image)
    if image.ndim == 3 and image.shape[0] == count and image.shape[1:] == size != image.shape[:2]:
        image = image.transpose(1, 2, 0)
    if image.ndim == 2 and count == 1:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] != count:
        raise UserError(f"the image of {name} has shape {image.shape}; expected (H, W, {count}): {', '.join(bands)}")
    if image.dtype == np.uint8:
        return image
    least, most = (image.min(), image.max()) if image.size else (0, 0)
    if image.dtype.kind not in "iu" or not 0 <= least <= most <= 65535:
        raise UserError(
            f"the image of {name} is of type {image.dtype} and holds values {least:g}..{most:g}; expected uint8 or "
            "uint16 (or whole numbers in 0..65535) in the bands of a data set that names them"
        )
    return image.astype(np.uint16)


def _colours(name, image):
    """The image's values as uint8; UserError if their type or range is not one of :func:`sample`'s."""
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in "iuf":
        raise UserError(f"the image of {name} is of type {image.dtype}; expected uint8")
    least, most = (image.min(), image.max()) if image.size else (0, 0)
    white = 1 if image.dtype.kind == "f" else 255
    if not 0 <= least <= most <= white:  # false for NaN, too
        raise UserError(
            f"the image of {name} is of type {image.dtype} and holds values {least:g}..{most:g}; expected uint8 "
            f"(or whole numbers in 0..255, or floats in 0..1)"
        )
    return np.rint(image.astype(np.float64) * 255).astype(np.uint8) if white == 1 else image.astype(np.uint8)


def label_of(name, label):
    """The label as (H, W) of uint8; UserError if it is not one of the kinds that :func:`sample` takes."""
    if type(label) is np.ndarray and label.dtype == np.uint8 and label.ndim == 2:
        return label
    if isinstance(label, Image.Image):
        return as_ids(f"of {name}", label)
    label = _array(f"the label of {name}", label)
    if label.ndim == 3 and 1 in (label.shape[0], label.shape[2]):
        label = label[:, :, 0] if label.shape[2] == 1 else label[0]
    if label.ndim != 2:
        raise UserError(f"the label of {name} has shape {label.shape}; expected (H, W), a class for each pixel")
    if label.dtype.kind not in "biuf":
        raise UserError(f"the label of {name} is of type {label.dtype}; expected uint8")
    least, most = (label.min(), label.max()) if label.size else (0, 0)
    if label.dtype.kind == "f" and not (np.isfinite([least, most]).all() and (label == np.rint(label)).all()):
        raise UserError(f"the label of {name} holds fractions, NaN or infinity; expected class ids, whole numbers")
    if not 0 <= least <= most <= 255:
        raise UserError(
            f"the label of {name} holds values {least:g}..{most:g}; classes must lie in 0..{VOID - 1}, or be {VOID} "
            "(void)"
        )
    return label.astype(np.uint8)


def _of_heads(name, label, heads):
    """The label as (H, W, len(heads)) of uint8, one channel for each head."""
    label = _array(f"the label of {name}", label)
    if label.ndim != 3 or label.shape[2] != len(heads):
        raise UserError(
            f"the label of {name} has shape {label.shape}; expected (H, W, {len(heads)}), a class for each pixel and "
            f"each of {', '.join(heads)}"
        )
    parts = [label_of(f"{name} ({head})", label[..., k]) for k, head in enumerate(heads)]
    return np.stack(parts, axis=-1)


def _array(name, value):
    """A NumPy array from an array of any library, a tensor, or a nested list of numbers."""
    if isinstance(value, np.ma.MaskedArray):
        raise UserError(f"{name} is a masked array; fill it first (label.filled({VOID}) makes masked pixels void)")
    if isinstance(value, str | bytes | dict) or value is None:
        raise UserError(
            f"{name} is a {type(value).__name__}; expected an array (mf.data.images.read_image reads a file)"
        )
    value = getattr(value, "data", value) if type(value).__module__.startswith("minifcn.") else value  # a Tensor
    try:
        array = np.asarray(backend.asnumpy(value))
    except Exception as error:  # such as a ragged list, or a PyTorch tensor on a device or with a gradient
        raise UserError(f"{name} is a {type(value).__name__} that cannot become a NumPy array ({error})") from error
    if array.dtype.kind not in "biuf":
        raise UserError(f"{name} is a {type(value).__name__} of type {array.dtype}; expected an array of numbers")
    return array
