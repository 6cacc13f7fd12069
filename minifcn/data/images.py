"""Read images and masks from files of any common format; a UserError names each file that cannot be used.

An image file with several pages or frames gives its first; a mask with several pages is an error.  Transparency is
dropped.  The EXIF orientation is applied to images and to masks.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError
from ..io.files import require_file

VOID = 255  # the label of pixels that are neither trained on nor counted
DECODED = 12  # bytes a pixel that decoding takes at its peak: two copies in Pillow, one array
FILL = (127,)  # the value, in every band, of pixels that no image covers

# Security: EPS and similar formats are not in this list, because Pillow starts an external program to decode them.
FORMATS = {
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP",
}  # fmt: skip
EXACT = {"BMP", "DIB", "GIF", "PNG", "TIFF"}  # formats that store every value of a mask unchanged
LOSSY = {"jpeg", "tiff_jpeg", "webp", "jpeg2000"}  # compressions of a TIFF that change values
CONVERT = "convert it to 8 bits per channel, all images by the same factor"


@dataclass(frozen=True)
class Header:
    """Facts in the header of an image file.

    Upright (height, width); EXIF orientation (1: none); number of pages; Pillow's format and mode; bits of a value.
    """

    size: tuple
    orientation: int
    pages: int
    format: str
    mode: str
    bits: int


def read_image(path, page=0):
    """Read an image as RGB, turned upright as its EXIF orientation says.

    Grey, palette, CMYK and other images become RGB; transparency is dropped.  16-bit values, with black at 0 and white
    at 65535, keep their upper 8 bits, and so do the 9 to 15 bits of a TIFF.  A 16-bit file whose values all lie below
    half of white is an error: it may hold 12-bit or 14-bit data, which would become almost black.

    Parameters
    ----------
    path : path-like
    page : int
        The page or frame of a file that has several.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    UserError
        If the file is missing, damaged, not a regular file, or has so many pixels that Pillow refuses it; if it holds
        floating-point pixels, 32-bit integers, or 16-bit values of an unknown range.
    """
    with opened(path) as image:
        if page:
            image.seek(page)
        return as_rgb(path, image)


def read_bands(path, count):
    """Read the values of `count` bands as the file stores them, turned upright as its EXIF orientation says.

    The bands are the channels of the image (RGBA has four) or, if each page has one channel, the pages of a TIFF.
    Pillow reads several channels of 16 bits only in pages.

    Parameters
    ----------
    path : path-like
    count : int

    Returns
    -------
    ndarray of uint8 or uint16, shape (H, W, count)

    Raises
    ------
    UserError
        If the file is missing, damaged or not a regular file; if it has another number of bands, a palette, or values
        of other than 8 to 16 bits.
    """
    with opened(path) as image:
        require_bands(path, image, count)
        pages = range(count if len(image.getbands()) == 1 else 1)
        planes = [_plane(image, page) for page in pages]
    if len({plane.dtype for plane in planes}) > 1 or len({plane.shape for plane in planes}) > 1:
        raise UserError(f"{path} has pages of different sizes or bits; save all bands alike")
    return np.concatenate(planes, axis=2)


def band_bits(path, count):
    """8 or 16, the bits of a value that :func:`read_bands` returns; UserError if the file has other bands."""
    with opened(path) as image:
        return require_bands(path, image, count)


def require_bands(path, image, count):
    """The bits of a value, 8 or 16; UserError unless a Pillow image stores `count` bands of 8 to 16 bits."""
    channels, pages, bits = len(image.getbands()), getattr(image, "n_frames", 1), _bits(image)
    if image.mode in ("P", "PA", "1", "F") or not 8 <= bits <= 16 or (bits == 8 and image.mode.startswith("I")):
        raise UserError(f"{path} has pixels of mode {image.mode!r} with {bits} bits; a band has 8 or 16, no palette")
    if bits > 8 and channels > 1:
        raise UserError(
            f"{path} has {channels} channels of {bits} bits, of which Pillow reads only the upper 8; save each band "
            "as a grey page of a TIFF"
        )
    if (pages if channels == 1 else channels) != count:
        has = f"{pages} pages of one channel" if channels == 1 else f"{channels} channels"
        raise UserError(f"{path} has {has}; expected {count} band{'s' * (count > 1)}")
    if _white_is_zero(image):
        raise UserError(f"{path} is a TIFF that stores white as 0 (PhotometricInterpretation 0); save black as 0")
    return 16 if bits > 8 else 8


def _plane(image, page):
    """The values on one page of an image, uint8 or uint16 (H, W, channels)."""
    if page:
        image.seek(page)
    values = np.asarray(upright(image))
    values = values if values.dtype == np.uint8 else values.astype(np.uint16)
    return values.reshape(*values.shape[:2], -1)


def read_mask(path):
    """Read a mask as the class ids that the file stores; a palette is ignored, and the EXIF orientation applied.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ndarray of uint8, shape (H, W)

    Raises
    ------
    UserError
        If the file is missing or damaged, has colour channels or several pages, is in a format that changes values, or
        holds values outside 0..255.
    """
    with opened(path) as image:
        return as_ids(path, image)


def read_colours(path):
    """Read a mask whose classes are colours, turned upright as its EXIF orientation says.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    UserError
        If the file is missing or damaged, is in a format that changes colours, or has transparent pixels.
    """
    with opened(path) as image:
        if image.format not in EXACT or image.info.get("compression") in LOSSY:
            raise UserError(f"mask {path} is a {image.format} file, which may change colours; save it as PNG")
        rgba = np.asarray(upright(image).convert("RGBA"))
    if rgba[..., 3].min(initial=255) < 255:
        raise UserError(f"mask {path} has transparent pixels, and nothing says their class; save it without alpha")
    return rgba[..., :3]


def file_header(path):
    """The :class:`Header` of an image or a mask of any kind."""
    with opened(path) as image:
        return header_of(image)


def image_size(path):
    """The upright (height, width) of an image."""
    return image_header(path).size


def mask_size(path):
    """The upright (height, width) of a mask; UserError if the file is not a mask (see :func:`require_ids`)."""
    return mask_header(path).size


def image_header(path):
    """The :class:`Header` of an image, read without its pixels if possible; UserError if the pixel type is unusable."""
    with opened(path) as image:
        _require_range(path, image)
        return header_of(image)


def mask_header(path):
    """The :class:`Header` of a mask; UserError if the file is not a mask (see :func:`require_ids`)."""
    with opened(path) as image:
        require_ids(path, image)
        return header_of(image)


def as_rgb(name, image, white=None):
    """A Pillow image of any mode as an array (H, W, 3) of uint8, upright; UserError if its white value is unknown.

    Parameters
    ----------
    name : str or path
        The name of the image in an error message.
    image : PIL.Image.Image
    white : int, optional
        The value of white in grey of more than 8 bits, such as 4095; by default the largest that the bits can hold.
    """
    _require_range(name, image)
    bits, inverted = _bits(image), _white_is_zero(image)  # before upright: Pillow drops both when it loads the pixels
    image = upright(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min(initial=0) < 0:
            raise UserError(f"{name} holds negative values ({values.min()}); {CONVERT}")
        if white is None:
            _require_bright(name, bits, int(values.max(initial=0)))
        white = white or 2**bits - 1
        values = scaled(white - values if inverted else values, white)
        return np.repeat(values[:, :, None], 3, axis=2)
    if image.mode in ("P", "PA", "La", "RGBa"):  # Pillow cannot convert all of these to RGB directly
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    rgb = np.array(image.convert("RGB"))
    if bits == 16:  # convert() has kept the upper 8 bits
        _require_bright(name, bits, (int(rgb.max(initial=0)) << 8) + 255)
    return rgb


def scaled(values, white):
    """Values from 0 to `white` as 8 bits."""
    return (np.minimum(values.astype(np.int64), white) * 256 // (white + 1)).astype(np.uint8)


def as_ids(name, image):
    """The class ids in a Pillow image, (H, W) of uint8, upright; UserError if it does not hold class ids.

    Parameters
    ----------
    name : str or path
        The name of the mask in an error message.
    image : PIL.Image.Image
    """
    require_ids(name, image)
    # Pillow scales grey of 2 and 4 bits to 0..255: a stored 1 reads as 85 or 17; divide to recover it
    step = 255 // (2 ** _bits(image) - 1) if image.mode == "L" and _bits(image) < 8 else 1
    ids = np.asarray(upright(image))
    if ids.size and not 0 <= ids.min() <= ids.max() <= 255:
        raise UserError(f"mask {name} holds values {ids.min()}..{ids.max()}; class ids must lie in 0..255")
    return ids.astype(np.uint8) // np.uint8(step)


def require_ids(path, image):
    """Raise UserError unless a Pillow image has one page and one channel of losslessly stored integers."""
    if image.format is not None and image.format not in EXACT:
        raise UserError(f"mask {path} is a {image.format} file, which may change class ids; save it as PNG")
    if image.info.get("compression") in LOSSY and image.format == "TIFF":
        raise UserError(f"mask {path} is compressed as {image.info['compression']}, which changes ids; save it as PNG")
    if image.mode == "F":
        raise UserError(f"mask {path} holds floating-point values; save one class id per pixel as an 8-bit PNG")
    if image.mode not in ("P", "L", "1", "I") and not image.mode.startswith("I;16"):
        raise UserError(
            f"mask {path} has mode {image.mode!r}; "
            "save one class id per pixel as a palette or greyscale PNG, not as colours"
        )
    if (pages := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"mask {path} has {pages} pages; save one page with one class id per pixel")
    if _white_is_zero(image):
        raise UserError(
            f"mask {path} is a TIFF that stores white as 0 (PhotometricInterpretation 0), so programs disagree about "
            "its ids; save it as PNG"
        )


@contextmanager
def decoding_within(size):
    """Let Pillow open every image that can be decoded in `size` bytes, in place of its own limit of pixels."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max(1, size // (2 * DECODED))  # it refuses twice as many
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextmanager
def opened(path):
    """Open an image file with Pillow; any exception inside the block becomes a UserError that names the file."""
    require_file(path)
    size = ""
    try:
        # Pass an open file, not the path: Pillow memory-maps a path, and then turns a TIFF of orientation 5..8 wrongly.
        with open(path, "rb") as file, Image.open(file) as image:
            size = f" of {image.width}x{image.height} pixels (width x height)"
            if image.format not in FORMATS:
                raise UserError(f"{path} is a {image.format} file; save it as PNG or JPEG")
            yield image
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{path} is not an image of a known format; save it as PNG or JPEG") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise UserError(
            f"{path} has more than {limit:.3g} million pixels, the limit for opening an image; cut it into tiles, or "
            "raise the limit: predict --memory, in Python PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except MemoryError:
        raise UserError(f"{path}{size} is too large for the memory; cut it into tiles or make it smaller") from None
    except Exception as error:  # Pillow's decoders raise many kinds of exception for a damaged file
        raise UserError(f"cannot read image {path}: it is damaged or of an unknown format ({error})") from error


def header_of(image):
    """The :class:`Header` of an image that Pillow has opened."""
    # MPO is a phone's JPEG: its further pages are previews and depth maps, not images
    pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    facts = pages, image.format, image.mode, _bits(image)  # before upright: Pillow drops the bits with the raw pixels
    orientation = image.getexif().get(0x0112, 1)
    if image.format == "TIFF" and orientation != 1:
        image = upright(image)
    turned = image.format != "TIFF" and orientation in range(5, 9)
    width, height = image.size[::-1] if turned else image.size
    return Header((height, width), orientation, *facts)


def upright(image):
    """The image with its EXIF orientation applied.  Pillow itself applies it to a TIFF, and to no other format."""
    image.load()
    return image if image.format == "TIFF" else ImageOps.exif_transpose(image)


def _bits(image):
    """Bits per value in the file, from the raw mode that Pillow keeps until it loads the pixels."""
    arguments = image.tile[0][3] if getattr(image, "tile", None) else ""
    raw = arguments if isinstance(arguments, str) else next(iter(arguments or ("",)), "")
    stored = re.match(r"(?:1|P|L|LA|RGB|RGBA|RGBX|CMYK|R|I|F);(\d+)", str(raw))
    if stored:
        return int(stored[1])
    return 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I;16") else 8


def _white_is_zero(image):
    return image.format == "TIFF" and image.tag_v2.get(262) == 0


def _require_range(name, image):
    """Raise UserError if a Pillow image has a pixel type for which no value is defined as white."""
    if image.mode == "F" or _bits(image) == 32:
        kind = "floating-point pixels" if image.mode == "F" else "32-bit integers"
        raise UserError(f"{name} holds {kind}, and nothing says which value is white; {CONVERT}")
    if image.format == "TIFF" and image.tile and _bits(image) == 8 and 16 in image.tag_v2.get(258, ()):
        raise UserError(f"{name} stores 16 bits in planes, each channel in its own, which Pillow misreads; {CONVERT}")


def _require_bright(name, bits, largest):
    """Raise UserError if 16-bit values are so small that they may be 12-bit or 14-bit data."""
    if bits == 16 and 0 < largest < 2**15:
        raise UserError(
            f"{name} holds 16-bit values of at most {largest}, and nothing says which value is white (65535, or 4095 "
            f"from a 12-bit camera); {CONVERT}"
        )
