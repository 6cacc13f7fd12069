"""Read images and masks from disk, whatever a user's folder holds, and say kindly what cannot be read."""

from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError

VOID = 255  # the label of pixels that are neither trained on nor counted
FILL = (127, 127, 127)  # RGB of pixels that no image covers


def read_image(path):
    """Read an image as RGB, turned upright as its EXIF orientation says.

    Grey, palette and CMYK images become RGB; transparency is dropped; 16-bit grey keeps its upper 8 bits.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    UserError
        If the file is missing, damaged, too large to be safe, or holds floating-point pixels.
    """
    with _opened(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise UserError(f"{path} holds floating-point pixels; save it with 8 or 16 bits per channel")
        if image.mode.startswith("I"):  # 16-bit grey, which Pillow opens as 16 or 32 bits
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        return np.array(image.convert("RGB"))


def read_mask(path):
    """Read a mask of class ids, exactly as they are stored: a palette is never turned into colours.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ndarray of uint8, shape (H, W)

    Raises
    ------
    UserError
        If the file is missing or damaged, has colour channels, or holds values outside 0..255.
    """
    with _opened(path) as image:
        require_ids(path, image)
        ids = np.asarray(image)
    if ids.size and not 0 <= ids.min() <= ids.max() <= 255:
        raise UserError(f"mask {path} holds values {ids.min()}..{ids.max()}; class ids must lie in 0..255")
    return ids.astype(np.uint8)


def image_size(path):
    """The upright (height, width) of an image, from its header alone."""
    with _opened(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5..8 swap the sides
        return (width, height) if turned else (height, width)


def mask_size(path):
    """The (height, width) of a mask, from its header alone; UserError if it has colour channels."""
    with _opened(path) as image:
        require_ids(path, image)
        return image.height, image.width


def require_ids(path, image):
    """Raise UserError unless a Pillow image has one channel of integers."""
    if image.mode not in ("P", "L", "1", "I") and not image.mode.startswith("I;16"):
        raise UserError(
            f"mask {path} has mode {image.mode!r}; "
            "save one class id per pixel as a palette or greyscale PNG, not as colours"
        )


@contextmanager
def _opened(path):
    """Open with Pillow; any trouble until the block ends is the file's, and becomes a UserError."""
    try:
        with Image.open(path) as image:
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is not an image of a known format; save it as PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path} has too many pixels to be opened safely; cut it into tiles") from None
    except Exception as error:  # a damaged file may raise nearly anything in Pillow's decoders
        raise UserError(f"cannot read image {path}: it is damaged or of an unknown format ({error})") from error
