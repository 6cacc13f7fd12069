"""``python -m minifcn.data convert SRC DST``: write a data set anew, in this library's layout or another one."""

import argparse
import os
import re
import shutil
import sys
import unicodedata
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from ..io.cli import Parser, at_least, command, seed
from .check.finding import number
from .check.mended import Mended
from .check.similar import looks_alike
from .colours import UNLABELLED
from .divide import divide
from .folder import SUFFIXES
from .images import image_header
from .layouts import READERS, Recognised, recognise
from .layouts.base import SPLITS
from .writers import VOID_COLOUR, WRITERS, Picture

DESCRIPTION = """Write a data set anew in the library's own layout, or in that of another program.  SRC is not changed.
Images are copied as they are, unless they are turned or resized: then they become PNG."""
OPTIONS = (
    "ids", "binary", "void", "nearest", "names", "palettes", "white", "background", "turn_masks", "fit_masks", "skip",
)  # fmt: skip
"""The flags with which the source is read as `Mended`."""
LARGEST = 1 << 16  # pixels of a side


def parser():
    """The flags of this command."""
    p = Parser("data convert", DESCRIPTION)
    p.add_argument("source", metavar="SRC", help="the folder with the data set")
    p.add_argument("target", metavar="DST", help="the new folder, which must not exist or be empty")
    p.add_argument("--dataset", choices=tuple(READERS), help="the layout of SRC (default: it is recognised)")
    p.add_argument("--to", choices=tuple(WRITERS), default="folder", help="the layout of DST")
    p.add_argument(
        "--size", type=size, metavar="PIXELS|HxW",
        help="resize until the shorter side has this many pixels, or to a height and width; labels by nearest pixel",
    )  # fmt: skip
    values = p.add_argument_group("what the values in masks mean")
    values.add_argument("--ids", metavar="LIST", help="the values that are classes 0, 1, 2 …, such as 0,50,200")
    values.add_argument(
        "--binary", type=at_least(1, below=256), metavar="N",
        help="values from N on are class 1, others 0 (layouts folder, masks and pairs)",
    )  # fmt: skip
    values.add_argument(
        "--void", type=at_least(0, below=256), metavar="ID",
        help="the value that is void, besides 255 (layouts folder, masks and pairs)",
    )  # fmt: skip
    cures = p.add_argument_group("cures of what `data check` finds")
    cures.add_argument(
        "--nearest", action="store_const", const=True, help="other values, of soft edges, become the nearest of --ids"
    )
    cures.add_argument("--names", metavar="LIST", help="the names of the classes, with commas")
    cures.add_argument(
        "--palettes", action="store_const", const=True, help="masks with palettes are read by their colours"
    )
    cures.add_argument("--white", type=at_least(255, below=65536), metavar="N", help="white in images of 16 bits: 4095")
    cures.add_argument("--background", metavar="RRGGBB", help="the colour under transparent pixels")
    cures.add_argument(
        "--turn-masks", action=argparse.BooleanOptionalAction,
        help="turn masks by the EXIF orientation of their image; or write both upright, because the mask is already",
    )  # fmt: skip
    cures.add_argument(
        "--fit-masks", action="store_const", const=True, help="resize masks of another size to that of their image"
    )
    cures.add_argument(
        "--skip", action="store_const", const=True, help="leave out copies, and what is unusable or teaches nothing"
    )
    parts = p.add_argument_group("splits (default: those of SRC)")
    parts.add_argument(
        "--val", type=share, metavar="SHARE", help="this share, such as 0.2, is for validation, at random"
    )
    parts.add_argument(
        "--group", metavar="REGEX", help="images with the same match in their names stay in one split: '^[^_]+'"
    )
    parts.add_argument(
        "--block", type=at_least(1), metavar="N", help="N successive frames of a video stay in one split"
    )
    parts.add_argument("--together", action="store_true", help="images that are almost the same stay in one split")
    parts.add_argument("--seed", type=seed, default=0, help="the seed of --val")
    return p


def size(text):
    """An argparse type: the shorter side, such as 240, or a height and a width, such as 240x320."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(re.fullmatch(r"\d{1,5}", side) and 1 <= int(side) <= LARGEST for side in sides):
        raise argparse.ArgumentTypeError(f"{text} is neither a number of pixels nor a height and a width: 240x320")
    return tuple(map(int, sides))


def share(text):
    """An argparse type: a number with ``0 < number < 1``."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


@command
def main(argv=None):
    """Run the command."""
    args = parser().parse(argv)
    ways = [f"--{name}" for name in ("group", "block", "together") if getattr(args, name)]
    if args.val is None and ways:
        raise UserError(f"{' and '.join(ways)} chooses what stays together when --val divides: give --val, too")
    if len(ways) > 1:
        raise UserError(f"{' and '.join(ways)} exclude each other: give one of them")
    name, why, data = open_source(args)
    images = number(len(data), "image")
    print(f"source      {args.source}: {name}{f' ({why})' if why else ''}, {images}, {data.num_classes} classes")
    splits = source_splits(args, data)
    require_writable(args, data)
    with new_folder(args.target) as folder:
        counts = dict.fromkeys(splits, 0)
        WRITERS[args.to](folder, _samples(data, splits, args.size, counts), data.classes, data.palette)
    print(f"classes     {', '.join(data.classes)}")
    for split, count in counts.items():
        print(f"{split or 'images':<11} {number(count, 'image')}")
    print(f"written     {args.target}: {args.to}")


def open_source(args):
    """The name of the layout, the reason why it was recognised, and the data set with all samples."""
    options = {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}
    known = Recognised(args.dataset, "", Path(args.source)) if args.dataset else recognise(args.source)
    if known.name == "pairs" and options.keys() <= {"ids", "binary", "void"}:
        return known.name, known.why, known.open(**options)
    if known.name not in ("folder", "masks") and (useless := [f for f in ("binary", "void") if f in options]):
        raise UserError(f"{args.source} has the layout {known.name}, whose classes are named: leave out --{useless[0]}")
    data = Mended(known, **options) if options else known.open()
    if hasattr(data, "bands"):
        raise UserError(f"{args.source} has a bands.txt; only images in red, green and blue are converted")
    return known.name, known.why, data


def source_splits(args, data):
    """{split: numbers of samples}; one split without a name if the data set is not divided."""
    names = data.names
    number = {name: k for k, name in enumerate(names)}
    if args.val is not None:
        alike = looks_alike(data.files) if args.together else None
        parts = divide(names, args.val, args.seed, args.group, args.block or 1, alike)
        return {split: [number[n] for n in part] for split, part in parts.items()}
    parts, left = {}, set(names)
    for split in sorted(data.splits, key=lambda split: (split not in ("train", "val", "test"), split)):
        part = [n for n in data.splits[split] if n in left]  # trainval holds what train and val hold already
        left -= set(part)
        if part:
            parts[split] = [number[n] for n in part]
    return parts or {"": range(len(names))}


def require_writable(args, data):
    """Raise UserError if the new layout cannot say what `data` say, or if the new folder is inside the old one."""
    source, target = (Path(path).resolve() for path in (args.source, args.target))
    if target.is_relative_to(source):
        raise UserError(f"{args.target} is inside {args.source}, which would mix both; give a folder outside of it")
    nothing = [name for name in data.classes if name.lower() in UNLABELLED]
    if nothing and args.to not in ("folder", "voc"):
        raise UserError(f"the class {nothing[0]!r} would be read as void from {args.to}: give --to folder or voc")
    if args.to == "colours" and (data.palette == VOID_COLOUR).all(axis=1).any():
        raise UserError(f"the class colour {VOID_COLOUR.tolist()} is that of void in the new masks: change colours.txt")


def _samples(data, splits, size, counts):
    """The samples for a writer, with a progress bar; `counts` counts them by split."""
    taken, files = set(), data.files
    shared = os.path.commonpath([PurePosixPath(name).parent for name in data.names])
    names = [os.path.relpath(name, shared or ".") for name in data.names]
    repaints = getattr(data, "repaints", False)  # the pixels are not those in the file
    numbers = [(split, k) for split, part in splits.items() for k in part]
    for split, k in tqdm(numbers, "converting", disable=None, leave=False, file=sys.stderr):
        image, label = data[k]
        h, w = new = _resized(label.shape, size)
        if new != label.shape:
            image = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.LANCZOS))
            label = np.asarray(Image.fromarray(label).resize((w, h), Image.Resampling.NEAREST))
            picture = Picture(files[k], image)
        elif not repaints and files[k].suffix.lower() in SUFFIXES and image_header(files[k]).orientation == 1:
            picture = Picture(files[k])
        else:
            picture = Picture(files[k], image)
        counts[split] += 1
        yield split, unique(names[k], taken), picture, label


def _resized(shape, size):
    """The (height, width) that an image of `shape` gets; `size` is None, (shorter side,) or (height, width)."""
    if size is None or len(size) == 2:
        return size or shape
    return tuple(max(round(side * size[0] / min(shape)), 1) for side in shape)


def unique(name, taken):
    """A file name without suffix for a sample, which differs from those in `taken` on every system; it is added."""
    path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
    folders = [part for part in path.parts[:-1] if part.lower() not in {*SPLITS, "images", "jpegimages", "img"}]
    stem = plain = "_".join([*folders, path.stem])
    k = 1
    while stem.casefold() in taken:
        k += 1
        stem = f"{plain}-{k}"
    taken.add(stem.casefold())
    return stem


@contextmanager
def new_folder(path):
    """A folder that becomes `path` when the block ends without an error; else nothing is left behind.

    Raises
    ------
    UserError
        If `path` exists and is not an empty folder.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"{path} is not empty; give a new folder, so that nothing is overwritten")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give a new folder")
    partial = path.with_name(path.name + ".partial")
    if partial.exists():
        raise UserError(f"{partial} is left of a conversion that was interrupted, or still runs; remove it")
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rmdir()
        partial.rename(path)
    except BaseException:  # also Ctrl-C: a part of a data set must not look like a whole one
        shutil.rmtree(partial, ignore_errors=True)
        raise
