"""Images and masks as pictures, in any folders: ids, colours, levels of grey, or a foreground."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...errors import UserError
from ..colours import TABLES, Colours, infer, read_table
from ..divide import listed_splits
from ..folder import MASKS
from ..images import VOID, file_header, read_colours, read_mask
from ..manifest import some
from ..masks import count_classes, histogram
from ..names import read_classes
from .base import Contents, Layout, Sample, folder_splits
from .files import images_below, relative

IMAGE_FOLDERS = {"image", "images", "img", "imgs", "jpegimages", "photos", "pictures", "rgb", "leftimg8bit"}
MASK_FOLDERS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "annot", "gt", "groundtruth", "ground_truth",
    "segmentation", "segmentations", "segmentationclass", "gtfine", "labeled", "labelled",
}  # fmt: skip
BEGINNINGS = ("mask", "label", "annot", "gt", "groundtruth", "ground_truth", "seg")
"""Folders that begin so hold masks if no folder of `MASK_FOLDERS` holds the masks of images: ``masks_colour``."""
IMAGE_SUFFIX = re.compile(r"[_-](image|img|rgb|leftimg8bit)$", re.I)
MASK_SUFFIX = re.compile(r"[_-](l|masks?|labels?|labelids|annot|annotation|gt|seg|segmentation|groundtruth)$", re.I)
COLOURED = ("RGB", "RGBA", "LA", "PA", "CMYK")


class Masks(Layout):
    """Images with masks of the same name, in folders of any depth and name.

    A mask stands in a folder such as ``masks/``, ``labels/`` or ``Annotations/`` in capitals or not, or its name ends
    in ``_mask``, ``_L``, ``_label`` or ``_gt``.  Folders named train, val and test are splits, and so are lists of
    names ``train.txt`` and ``val.txt``.  Masks are class ids, or colours: ``colours.txt`` names them (``128 64 0 road``
    on each line); without it the colours are classes in order of their numbers, which a note shows.

    Parameters
    ----------
    root, split, samples
        See `Layout`.
    ids : str, optional
        The values in the masks that are classes 0, 1, 2 …, with commas: "0,50,200".  Others are an error.
    binary : int, optional
        Values from here on are class 1, the others class 0.
    void : int, optional
        The value in the masks that means void, besides 255.
    """

    options: dict[str, Any] = dict(ids=None, binary=None, void=None)  # noqa: RUF012  (each object has its own)
    looks_for = "images with masks of the same name, in folders such as images/ and masks/ or named such as a_mask.png"

    def __init__(
        self, root: str | Path, split: str | None = None, samples: Mapping[str, str] | None = None,
        ids: str | None = None, binary: int | None = None, void: int | None = None,
    ) -> None:  # fmt: skip
        if ids is not None and binary is not None:
            raise UserError("ids and binary exclude each other; give one of them")
        self.options = dict(ids=None if ids is None else _numbers(ids), binary=binary, void=void)
        super().__init__(root, split, samples)

    @classmethod
    def recognise(cls, folder: Path) -> str:
        found = pairs(folder)
        if not found:
            return ""
        image, mask = (relative(path, folder) for path in next(iter(found.values())))
        return f"{mask} is the mask of {image}, and there are {len(found)} such pairs"

    def read(self, folder: Path) -> Contents:
        notes: list[str] = []
        found = pairs(folder, notes)
        if not found:
            raise UserError(f"{folder} has no images with masks of the same name")
        classes, palette, read = self._classes(folder, [mask for _, mask in found.values()], notes)
        samples = [
            Sample(relative(image, folder), image, partial(draw_mask, read, mask), (mask,), mask)
            for image, mask in found.values()
        ]
        names = [sample.name for sample in samples]
        splits = listed_splits(folder, names) or folder_splits(names)
        return Contents(samples, classes, splits, palette, notes)

    def _classes(self, folder, masks, notes):
        """The names of the classes, their palette or None, and the function that reads a mask."""
        listing = folder / "classes.txt"
        named = read_classes(listing) if listing.exists() else None
        table = next((folder / name for name in TABLES if (folder / name).exists()), None)
        given = {name: value for name, value in self.options.items() if value is not None}
        if file_header(masks[0]).mode in COLOURED and not given:
            colours = read_table(table) if table else infer(masks)
            if not table:
                notes.append(
                    f"{folder} has no {TABLES[0]}: the {len(colours.classes)} colours of the masks are the classes "
                    f"{', '.join(colours.classes)}, in this order"
                )
            if named and len(named) == len(colours.classes) and not table:
                colours = Colours(named, colours.palette, colours.void)
            return colours.classes, colours.palette, colours.ids
        if self.options["binary"] is not None:
            return named or ("background", "foreground"), None, partial(_binary, self.options)
        read = partial(_renumbered, self.options) if given else read_mask
        if self.options["ids"]:
            return named or tuple(f"class {k}" for k in range(len(self.options["ids"]))), None, read
        if named is None:
            count = (lambda mask: np.bincount(read(mask).ravel(), minlength=256)) if given else histogram
            n, _ = count_classes({mask: count(mask) for mask in masks}, folder)
            named = tuple(f"class {k}" for k in range(n))
        return named, None, read


def pairs(folder, notes=None):
    """{key: (image, mask)} of a folder: names without what marks a file as image or mask, in folders likewise.

    With `notes`, an image without a mask is an error, and sentences about files that are not used are added.
    """
    images, masks = partners(folder)
    if notes is not None and masks:
        lone = [path for key, found in images.items() if key not in masks for path in found]
        if lone:
            raise UserError(f"{len(lone)} images in {folder} have no mask ({some(relative(p, folder) for p in lone)})")
        left = [path for key, found in masks.items() if key not in images for path in found]
        if left:
            notes.append(f"{folder}: {len(left)} masks have no image, and are not used ({some(p.name for p in left)})")
    for key in images.keys() & masks.keys():
        for found in (images[key], masks[key]):
            if len(found) > 1 and notes is not None:
                raise UserError(f"{' and '.join(map(str, found[:2]))} belong to one image; keep one of them")
    return {key: (images[key][0], masks[key][0]) for key in sorted(images.keys() & masks.keys())}


def partners(folder):
    """The images and the masks below a folder, each as {key: files}; a mask has the key of its image."""
    files = images_below(folder)
    images, masks = _divided(folder, files, _is_mask_folder)
    if not images.keys() & masks.keys():
        others = _divided(folder, files, _begins_as_masks)
        if others[0].keys() & others[1].keys():
            return others
    return images, masks


def _divided(folder, files, of_masks):
    """The images and the masks among files; `of_masks` says of the name of a folder whether it is for masks."""
    images, masks = {}, {}
    for path in files:
        key, kind = _key(relative(path, folder), of_masks)
        if kind == "mask" and path.suffix.lower() in MASKS | {".jpg", ".jpeg"}:
            masks.setdefault(key, []).append(path)
        else:
            images.setdefault(key, []).append(path)
    for key, found in {k: v for k, v in masks.items() if k not in images}.items():
        others = [path for path in found if not MASK_SUFFIX.search(path.stem)]
        if len(found) == 2 and len(others) == 1:  # a.png and a_mask.png in one folder that is named like masks
            images[key], masks[key] = others, [path for path in found if path not in others]
    return images, masks


def _is_mask_folder(name):
    return name in MASK_FOLDERS


def _begins_as_masks(name):
    return name.startswith(BEGINNINGS)


def _key(name, of_masks):
    """What an image and its mask have in common, and whether a name is that of a mask."""
    path = PurePosixPath(name)
    folders = [part.lower() for part in path.parts[:-1]]
    stem = MASK_SUFFIX.sub("", path.stem)
    masked = stem != path.stem or any(of_masks(part) for part in folders)
    kept = [part for part in folders if not (part in IMAGE_FOLDERS or of_masks(part))]
    return (*kept, IMAGE_SUFFIX.sub("", stem)), "mask" if masked else "image"


def draw_mask(read, mask, size):
    """The label in a mask that `read` reads; its size is checked elsewhere."""
    return read(mask)


def _values(mask):
    """The values of a mask; of one in colours whose channels agree, those of a channel."""
    if file_header(mask).mode not in COLOURED:
        return read_mask(mask)
    rgb = read_colours(mask)
    if (rgb != rgb[..., :1]).any():
        raise UserError(f"mask {mask} is in colours, not in levels of grey; leave out ids, binary and void")
    return rgb[..., 0]


def _binary(options, mask):
    values = _values(mask)
    label = (values >= options["binary"]).astype(np.uint8)
    return label if options["void"] is None else np.where(values == options["void"], np.uint8(VOID), label)


def _renumbered(options, mask):
    values, ids = _values(mask), options["ids"]
    table = np.arange(256)
    if ids:
        table[:] = -1
        table[list(ids)] = range(len(ids))
        table[VOID] = VOID if VOID not in ids else table[VOID]
    if options["void"] is not None:
        table[options["void"]] = VOID
    label = table[values]
    if (unknown := np.unique(values[label < 0])).size:
        raise UserError(
            f"mask {mask} holds the values {some(map(str, unknown))}, which are not among the ids "
            f"{','.join(map(str, ids))}; add them, or name one of them as void"
        )
    return label.astype(np.uint8)


def _numbers(text):
    """Different whole numbers in 0..255 from a text with commas."""
    words = [word.strip() for word in str(text).split(",")]
    if not all(re.fullmatch(r"\d{1,3}", word) and int(word) <= VOID for word in words) or len(set(words)) < len(words):
        raise UserError(f"ids are {text!r}; expected different whole numbers from 0 to {VOID}, such as 0,50,200")
    return tuple(map(int, words))
