"""Write a data set as files, in the library's own layout or in that of another program.

Each function takes the new folder, the samples as ``(split, name, picture, label)``, the names of the classes and their
palette.  `split` is empty if the data set is not divided.  `picture` is a :class:`Picture`.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..arrays.types import Array
from .colours import UNLABELLED, write_table
from .images import VOID
from .layouts.coco import BACKGROUND
from .layouts.drawing import count_runs, pack
from .layouts.labelme import as_png
from .palette import save_mask, voc_colour_map

VOID_COLOUR = voc_colour_map()[VOID]


@dataclass(frozen=True)
class Picture:
    """An image: its file, and its pixels if they must be written anew because they were turned or resized."""

    file: Path
    pixels: Array | None = None

    def save(self, folder, name):
        """Write the image into `folder` and return the path; a file that need not change is copied."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.pixels is None:
            path = folder / f"{name}{self.file.suffix.lower()}"
            shutil.copyfile(self.file, path)
        else:
            path = folder / f"{name}.png"
            Image.fromarray(self.pixels).save(path)
        return path


def to_folder(root, samples, classes, palette):
    """The library's own layout: images/, masks/ with palettes, classes.txt and colours.txt."""
    for split, name, picture, label in samples:
        picture.save(root / split / "images", name)
        (root / split / "masks").mkdir(parents=True, exist_ok=True)
        save_mask(root / split / "masks" / f"{name}.png", label, palette)
    _write_names(root / "classes.txt", classes)
    if not any(name.lower() in UNLABELLED for name in classes):  # such a line of colours.txt would mean void
        write_table(root / "colours.txt", classes, palette)


def to_colours(root, samples, classes, palette):
    """Images and masks in colours, with the table colours.txt, in which void has a colour, too."""
    colours = np.tile(VOID_COLOUR, (256, 1))
    colours[: len(palette)] = palette
    for split, name, picture, label in samples:
        picture.save(root / split / "images", name)
        (root / split / "masks").mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours[label]).save(root / split / "masks" / f"{name}.png")
    write_table(root / "colours.txt", classes, palette, VOID_COLOUR)


def to_voc(root, samples, classes, palette):
    """PASCAL VOC's layout: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/, class_names.txt."""
    lists = {}
    for split, name, picture, label in samples:
        picture.save(root / "JPEGImages", name)
        (root / "SegmentationClass").mkdir(exist_ok=True)
        save_mask(root / "SegmentationClass" / f"{name}.png", label, palette)
        lists.setdefault(split, []).append(name)
    for split, names in lists.items():
        if split:
            (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
            _write_names(root / "ImageSets" / "Segmentation" / f"{split}.txt", names)
    _write_names(root / "class_names.txt", classes)


def to_coco(root, samples, classes, palette):
    """COCO's JSON: one annotation, as packed run lengths, for each class in each image; void is a category."""
    ground = classes[0].lower() in BACKGROUND
    categories = [dict(id=k + (not ground), name=name, supercategory="") for k, name in enumerate(classes)]
    numbers = {k: category["id"] for k, category in enumerate(categories) if k or not ground}
    numbers[VOID] = len(classes) + 1
    parts = {}
    for split, name, picture, label in samples:
        part = parts.setdefault(split, dict(images=[], annotations=[]))
        path = picture.save(root / "images" / split, name)
        h, w = label.shape
        part["images"].append(dict(id=len(part["images"]) + 1, file_name=path.name, height=h, width=w))
        for k in np.unique(label).tolist():
            if k in numbers:
                mask = label == k
                ys, xs = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
                box = [int(v) for v in (xs[0], ys[0], xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1)]
                part["annotations"].append(
                    dict(
                        id=len(part["annotations"]) + 1, image_id=len(part["images"]), category_id=numbers[k],
                        segmentation=dict(size=[h, w], counts=pack(count_runs(mask))), iscrowd=0, bbox=box,
                        area=int(mask.sum()),
                    )
                )  # fmt: skip
    if any(a["category_id"] == numbers[VOID] for part in parts.values() for a in part["annotations"]):
        categories.append(dict(id=numbers[VOID], name="void", supercategory=""))
    (root / "annotations").mkdir()
    for split, part in parts.items():
        path = root / "annotations" / f"instances_{split or 'all'}.json"
        path.write_text(json.dumps(part | dict(categories=categories), ensure_ascii=False), encoding="utf-8")


def to_labelme(root, samples, classes, palette):
    """labelme's layout: a JSON file with mask shapes beside each image, and labels.txt."""
    ground = classes[0].lower() in BACKGROUND
    names = {k: name for k, name in enumerate(classes) if k or not ground} | {VOID: "__ignore__"}
    for split, name, picture, label in samples:
        path = picture.save(root / split, name)
        shapes = [_shape(label == k, names[k]) for k in np.unique(label).tolist() if k in names]
        content = dict(version="5.4.1", flags={}, shapes=shapes, imagePath=path.name, imageData=None)
        content |= dict(imageHeight=label.shape[0], imageWidth=label.shape[1])
        path.with_suffix(".json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    _write_names(root / "labels.txt", ["__ignore__", *([] if ground else ["_background_"]), *classes])


def _shape(mask, name):
    """A mask shape of labelme: the smallest rectangle around the mask, and the PNG of its inside."""
    ys, xs = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    inside = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    corners = [[float(xs[0]), float(ys[0])], [float(xs[-1]), float(ys[-1])]]
    return dict(label=name, shape_type="mask", points=corners, mask=as_png(inside), group_id=None, flags={})


def _write_names(path, names):
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


WRITERS = {"folder": to_folder, "voc": to_voc, "coco": to_coco, "labelme": to_labelme, "colours": to_colours}
"""The layouts that can be written, by their names on the command line."""
