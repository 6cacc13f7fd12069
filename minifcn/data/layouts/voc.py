"""PASCAL VOC's layout: JPEGImages/, SegmentationClass/, and lists of names in ImageSets/Segmentation/."""

from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..colours import Colours, read_table
from ..images import file_header, read_mask
from ..manifest import some
from ..masks import count_classes, histogram
from ..names import read_classes, read_lines
from ..palette import voc_colour_map
from .base import SPLITS, Contents, Layout, Sample
from .files import relative, visible

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
NAMES = ("class_names.txt", "classes.txt", "labels.txt")


class VOC(Layout):
    """PASCAL VOC 2007 to 2012, and data sets that other programs export in its layout.

    ``JPEGImages/NAME.jpg``, ``SegmentationClass/NAME.png`` (palette ids; 255 is void), and the splits in
    ``ImageSets/Segmentation/{train,val,trainval,test}.txt``.  ``class_names.txt`` (labelme) and ``labelmap.txt``
    (CVAT, whose masks are in colours) name the classes; otherwise they are VOC's 21, or numbers if masks hold more.
    `root` may be ``VOCdevkit``, if it holds only one year.
    """

    looks_for = "JPEGImages/ and SegmentationClass/"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        homes = _homes(folder)
        if len(homes) > 1:
            raise UserError(f"{folder} holds {some(home.name for home in homes)}; give one of them as the folder")
        subject = "it" if folder in homes else f"{homes[0].name}/" if homes else ""
        return f"{subject} has JPEGImages/ and SegmentationClass/" if homes else ""

    def read(self, folder: Path) -> Contents:
        folder = _homes(folder)[0]
        masks = {path.stem: path for path in visible(folder / "SegmentationClass", "*.png")}
        images = {path.stem: path for path in visible(folder / "JPEGImages")}
        lists = {
            SPLITS.get(path.stem.lower(), path.stem): [
                line if line in masks else line.split()[0] for line in read_lines(path) if line
            ]
            for path in visible(folder / "ImageSets" / "Segmentation", "*.txt")
            if path.stem != "default"  # CVAT's list of a task that is not divided
        }
        notes: list[str] = []
        listed = {name for names in lists.values() for name in names if name in masks}
        for split, names in lists.items():
            lacking = [name for name in names if name not in masks]
            if lacking and split != "test":  # VOC does not publish the masks of its test split
                raise UserError(f"{folder}: {len(lacking)} names in the list {split} have no mask ({some(lacking)})")
        used = sorted(listed or masks)
        if lost := [name for name in used if name not in images]:
            raise UserError(f"{folder / 'JPEGImages'} lacks the images of {len(lost)} masks ({some(lost)})")
        if unlisted := sorted(masks.keys() - listed) if listed else []:
            notes.append(f"{folder}: {len(unlisted)} masks are in no list, and not used ({some(unlisted)})")
        paths = [masks[name] for name in used]
        classes, palette, read = _classes(folder, paths)
        samples = [
            Sample(relative(images[name], folder), images[name], partial(_draw, read, mask), (mask,), mask)
            for name, mask in zip(used, paths)
        ]
        called = {name: sample.name for name, sample in zip(used, samples)}
        splits = {split: [called[n] for n in names if n in called] for split, names in lists.items()}
        return Contents(samples, classes, {k: v for k, v in splits.items() if v}, palette, notes)


def _homes(folder):
    """The folders with JPEGImages/ and SegmentationClass/: `folder` itself, or its years."""
    found = [folder, *sorted(folder.glob("VOC20*"))]
    homes = [home for home in found if (home / "JPEGImages").is_dir() and (home / "SegmentationClass").is_dir()]
    return homes[:1] if folder in homes else homes


def _draw(read, mask, size):
    return read(mask)


def _classes(folder, masks):
    """The names of the classes, their palette, and the function that reads a mask."""
    table = folder / "labelmap.txt"
    coloured = bool(masks) and file_header(masks[0]).mode in ("RGB", "RGBA")
    if table.exists():
        colours = read_table(table)
        return colours.classes, colours.palette, colours.ids if coloured else read_mask
    named = next((read_classes(folder / name) for name in NAMES if (folder / name).exists()), None)
    named = tuple(name for name in named if name != "__ignore__") if named else None
    if coloured:
        names = named or CLASSES
        palette = voc_colour_map()
        return names, palette[: len(names)], Colours(names, palette[: len(names)], palette[255:]).ids
    if named is None:
        total = {path: histogram(path) for path in masks}
        if not np.any([counts[len(CLASSES) : 255] for counts in total.values()]):
            return CLASSES, None, read_mask
        named = tuple(f"class {k}" for k in range(count_classes(total, folder)[0]))
    return named, None, read_mask
