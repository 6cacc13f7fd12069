"""COCO's layout: JSON files with images, categories, and annotations as polygons or run lengths."""

import json
from functools import partial
from pathlib import Path

from ...errors import UserError
from ..colours import UNLABELLED
from ..manifest import some
from .base import SPLITS, Contents, Layout, Sample, as_names, blank
from .drawing import points_of_flat, polygon, run_lengths, unpack
from .files import beginning, find_image, read_json, relative, require, visible

BACKGROUND = {"background", "_background_", "__background__"}
PLACES = ("annotations", "train", "val", "valid", "test", "")  # folders that may hold the JSON files


class COCO(Layout):
    """Objects in COCO's JSON: ``annotations/instances_*.json`` beside folders of images, or one JSON file.

    Several JSON files are splits (``instances_train2017.json``, ``train/_annotations.coco.json``).  Classes are the
    categories in order of their ids, after the background, to which all pixels without an annotation belong.  Where
    annotations overlap, the later one counts.  A crowd has the class of its members.  Polygons are drawn by the rule
    of `pycocotools`.  A category named void or ``__ignore__`` is void.
    """

    looks_for = "a JSON file with images, annotations and categories, in it or in annotations/"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        files = _files(folder)
        return f"{relative(files[0], folder)} is COCO's JSON" if files else ""

    def read(self, folder: Path) -> Contents:
        files = _files(folder)
        parts = {path: _part(path) for path in files}
        categories: dict[int, str] = {}
        for path, (_, found, _) in parts.items():
            for key, name in found.items():
                if categories.setdefault(key, name) != name:
                    raise UserError(f"{path} calls category {key} {name!r}, another file {categories[key]!r}")
        ids, classes = _ids(categories)
        samples: list[Sample] = []
        splits: dict[str, list[str]] = {}
        for path, (images, _, annotations) in parts.items():
            split = _split(path, folder)
            bases = [folder / split[1], folder / "images" / split[1], folder / "images", folder / "JPEGImages", folder]
            for key, image in images.items():
                file = find_image(folder, image.get("file_name"), [path.parent, *bases], path)
                shapes = annotations.get(key, [])
                what = f"{path}: the size of image {key}"
                size = require(image.get("height"), int, what), require(image.get("width"), int, what)
                draw = partial(_draw, [(ids[a["category_id"]], a) for a in shapes], path)
                evidence = json.dumps([shapes, sorted(ids.items())], sort_keys=True).encode()
                samples.append(Sample(relative(file, folder), file, draw, (evidence,), size=size))
                splits.setdefault(split[0], []).append(samples[-1].name)
        return Contents(samples, classes, splits if len(files) > 1 else {})


def _files(folder):
    """The JSON files in COCO's format; those of instances alone, if there are any."""
    found = [path for place in PLACES for path in visible(folder / place, "*.json") if _is_coco(path)]
    return [path for path in found if path.name.startswith("instances_")] or found


def _is_coco(path):
    head = beginning(path)
    if not head.lstrip().startswith("{") or '"shapes"' in head:  # a list, or a file of labelme
        return False
    keys = {key for key in ("images", "annotations", "categories", "licenses", "bbox", "info") if f'"{key}"' in head}
    return "images" in keys or {"info", "licenses"} <= keys or {"annotations", "bbox"} <= keys


def _split(path, folder):
    """The name of the split of a JSON file, and that of its folder of images."""
    place = path.parent.name if path.parent != folder and path.parent.name != "annotations" else ""
    word = place or path.stem.rpartition("_")[2]
    return SPLITS.get(word.lower(), word), word


def _part(path):
    """The images {id: object}, categories {id: name} and annotations {id of the image: objects} of a JSON file."""
    content = require(read_json(path), dict, path)
    lists = [require(content.get(key), list, f"{path}: {key}") for key in ("images", "categories", "annotations")]
    tables = []
    for key, rows in zip(("image", "category"), lists):
        table = {}
        for row in rows:
            number = require(require(row, dict, f"{path}: the {key}").get("id"), int, f"{path}: the {key} id")
            if number in table:
                raise UserError(f"{path} has two entries with the {key} id {number}; export it again")
            table[number] = row
        tables.append(table)
    images, categories = tables[0], {k: as_names([row.get("name")])[0] for k, row in tables[1].items()}
    shapes = {}
    for row in lists[2]:
        require(row, dict, f"{path}: an annotation")
        for key, table in (("image_id", images), ("category_id", categories)):
            if require(row.get(key), int, f"{path}: the {key} of an annotation") not in table:
                raise UserError(f"{path} has an annotation with the {key} {row[key]}, which is not defined")
        if row.get("segmentation"):
            shapes.setdefault(row["image_id"], []).append(
                {key: row.get(key) for key in ("id", "category_id", "segmentation")}
            )
    if not shapes:
        raise UserError(f"{path} has no annotation with a segmentation; boxes alone do not say which pixels are meant")
    return images, categories, shapes


def _ids(categories):
    """{category: class id}, and the names of the classes."""
    order = sorted(categories)
    void_ones = [key for key in order if categories[key].lower() in UNLABELLED]
    ground = [key for key in order if categories[key].lower() in BACKGROUND]
    if len(ground) > 1:
        raise UserError(f"several categories are the background: {some(categories[key] for key in ground)}")
    real = [key for key in order if key not in ground + void_ones]
    ids = {key: k for k, key in enumerate(real, 1)} | dict.fromkeys(ground, 0) | dict.fromkeys(void_ones, 255)
    return ids, (categories[ground[0]] if ground else "background", *(categories[key] for key in real))


def _draw(shapes, path, size):
    label = blank(size)
    for number, annotation in shapes:
        label[_mask(annotation["segmentation"], size, f"{path}: annotation {annotation['id']}")] = number
    return label


def _mask(segmentation, size, what):
    """The pixels of one annotation, in any of COCO's three forms."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if list(segmentation.get("size") or ()) != list(size):
            raise UserError(f"{what} has run lengths for {segmentation.get('size')}, but the image is {list(size)}")
        return run_lengths(unpack(counts, what) if isinstance(counts, str) else require(counts, list, what), size, what)
    mask = blank(size).astype(bool)
    for corners in require(segmentation, list, f"{what}: segmentation"):
        mask |= polygon(points_of_flat(corners, what), size, what)
    return mask
