"""The flags of ``python -m minifcn.predict``."""

import argparse
from importlib.util import find_spec

from ..arrays.memory import allowed
from ..data.transforms import LARGEST
from ..errors import UserError
from ..io.cli import Parser, at_least, device, json_file


def parser():
    """The command-line parser of ``minifcn.predict``."""
    p = Parser(
        "predict", "Label every pixel of images of any size; writes a palette PNG and an overlay for each image."
    )
    p.add_argument(
        "paths", nargs="+", metavar="[RUN] IMAGE",
        help='images, folders of images, or patterns ("photos/*.jpg", in quotes); the first path may be a run folder '
        "or a .safetensors checkpoint (default: the Earth model that comes with the package)",
    )  # fmt: skip
    p.add_argument("--weights", choices=("last", "best"), default="last", help="which checkpoint of the run to use")
    p.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1")
    p.add_argument(
        "--tta", action="store_true",
        help="test-time augmentation: average over three sizes of each image and their mirror images (6 x the time)",
    )  # fmt: skip
    p.add_argument(
        "--size", type=at_least(1, below=LARGEST + 1), metavar="PIXELS",
        help="let the net see pictures with a shorter side of this many pixels; labels have the size of the picture "
        "(default: as in training)",
    )  # fmt: skip
    p.add_argument(
        "--memory", type=memory_size, metavar="SIZE",
        help="the most memory to take: 2GB, 800MB (default: half of the machine's; on a GPU, any); an image that needs "
        "more is computed in tiles, which give the same labels",
    )  # fmt: skip

    images = p.add_argument_group("images")
    images.add_argument("--recursive", action="store_true", help="label the images in sub-folders, too")
    images.add_argument(
        "--frames", action="store_true", help="label every page or frame of a file (TIFF, GIF), not only the first"
    )

    results = p.add_argument_group("results")
    results.add_argument("--out", metavar="DIR", default="predictions", help="the folder for the results")
    results.add_argument("--overwrite", action="store_true", help="replace existing results, but never an input image")
    results.add_argument(
        "--alpha", type=opacity, default=0.5, help="opacity of the labels in the overlay, 0 to 1"
    )  # fmt: skip
    results.add_argument(
        "--legend",
        action="store_true",
        help="put names and colours of the classes below the overlay; not for maps (GeoTIFF)",
    )
    results.add_argument(
        "--probabilities", action="store_true",
        help="also write the probability of each class at each pixel: an .npz file, 16-bit floats (classes, H, W)",
    )  # fmt: skip
    results.add_argument(
        "--confidence", action="store_true",
        help="also write the probability of the predicted class as a grey PNG: 255 is 1",
    )  # fmt: skip
    results.add_argument(
        "--geojson", action="store_true",
        help="also write the regions of each class as polygons, in the coordinates of the map or in pixels (extra geo)",
    )  # fmt: skip
    results.add_argument(
        "--certify", action="store_true",
        help="also write the pixels whose scores are those of the whole image, as a grey image: 255 is certified",
    )  # fmt: skip
    for name, what in (("csv", "a table"), ("json", "JSON")):
        results.add_argument(
            f"--{name}", type=json_file, metavar="OUT",
            help=f'write the pixels and the share of each class in each image as {what} ("-": standard output)',
        )  # fmt: skip
    return p


def memory_size(text):
    """An argparse type: bytes, from a size such as 2GB."""
    try:
        return allowed(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def opacity(text):
    """An argparse type: a number from 0 to 1."""
    value = at_least(0, float)(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is not an opacity from 0 to 1")
    return value


def require_suitable(args, pictures):
    """Raise UserError if a flag cannot be obeyed for these pictures, or needs a package that is not installed."""
    maps = [picture for picture in pictures if picture.is_map]
    for flag, why in (("legend", "changes the size of the overlay"), ("probabilities", "writes no GeoTIFF")):
        if maps and getattr(args, flag):
            raise UserError(f"{maps[0]} is a map, and --{flag} {why}: leave it out, or label the maps in another call")
    if args.geojson and find_spec("rasterio") is None:
        raise UserError("--geojson needs the package rasterio: pip install 'minifcn[geo]'")
