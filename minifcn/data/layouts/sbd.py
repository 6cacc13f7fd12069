"""The layout of the Semantic Boundaries Dataset: img/ and cls/ with MATLAB files, alone or beside PASCAL VOC."""

from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..images import read_mask
from ..manifest import some
from ..names import read_lines
from .base import Contents, Layout, Sample
from .files import relative, visible
from .mat import label_of_mat
from .voc import CLASSES

PLACES = ("", "dataset", "benchmark_RELEASE/dataset", "sbdd/dataset", "benchmark/benchmark_RELEASE/dataset")
YEARS = ("VOC2011", "VOC2012", "VOCdevkit/VOC2011", "VOCdevkit/VOC2012", "TrainVal/VOCdevkit/VOC2011")


class SBD(Layout):
    """PASCAL VOC images with the labels of Hariharan et al. 2011: VOC's 21 classes, and no void.

    The folder holds SBD alone, with its lists train and val, or PASCAL VOC, too (`VOC2011` or `VOCdevkit` beside
    `benchmark_RELEASE` or `sbdd`).  SBD's training images overlap VOC's validation images.  With VOC beside it, "val"
    is therefore VOC's validation list without SBD's training images, with VOC's labels: for VOC 2011 the 736 images
    that the paper measures on.
    """

    looks_for = "dataset/img/ and dataset/cls/ with MATLAB files"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        home = _home(folder)
        return f"it has {relative(home / 'cls', folder)}/ with MATLAB files, and img/" if home else ""

    def read(self, folder: Path) -> Contents:
        home = _home(folder)
        masks = {path.stem: path for path in visible(home / "cls", "*.mat")}
        lists = {name: [line for line in read_lines(home / f"{name}.txt") if line] for name in ("train", "val")}
        for name, stems in lists.items():
            if lost := [stem for stem in stems if stem not in masks or not (home / f"img/{stem}.jpg").is_file()]:
                raise UserError(f"{home}: {len(lost)} names in {name}.txt lack an image or a label ({some(lost)})")
        voc = next((folder / year for year in YEARS if (folder / year / "SegmentationClass").is_dir()), None)
        train = [_sample(folder, home / f"img/{stem}.jpg", masks[stem]) for stem in lists["train"]]
        if not voc:
            val = [_sample(folder, home / f"img/{stem}.jpg", masks[stem]) for stem in lists["val"]]
            notes = [f"{folder} has no VOC beside SBD: val is SBD's; do not measure on VOC's, which overlaps train"]
        else:
            listed = [line.split()[0] for line in read_lines(voc / "ImageSets/Segmentation/val.txt") if line]
            kept = [stem for stem in listed if stem not in set(lists["train"])]
            val = [_sample(folder, voc / f"JPEGImages/{s}.jpg", voc / f"SegmentationClass/{s}.png") for s in kept]
            notes = [
                f"val is the list of {voc.name}, with its labels, without the {len(listed) - len(kept)} of its "
                f"{len(listed)} images that SBD trains on"
            ]
        if both := {s.image.stem for s in train} & {s.image.stem for s in val}:
            raise UserError(f"{home}: {len(both)} images are in both lists ({some(sorted(both))}); correct the lists")
        splits = {"train": [sample.name for sample in train], "val": [sample.name for sample in val]}
        return Contents(train + val, CLASSES, splits, notes=notes)


def _home(folder):
    """The folder with img/ and cls/, or None."""
    for place in PLACES:
        if (folder / place / "img").is_dir() and next((folder / place / "cls").glob("*.mat"), None):
            return folder / place
    return None


def _sample(folder, image, label):
    name = relative(image, folder)
    if label.suffix == ".png":
        return Sample(name, image, partial(_mask, label), (label,), label)
    return Sample(name, image, partial(_segmentation, label), (label,))


def _mask(path, size):
    return read_mask(path)


def _segmentation(path, size):
    numbers = label_of_mat(path, size, "GTcls", "Segmentation")
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= len(CLASSES):
        raise UserError(f"{path} holds values {numbers.min()}..{numbers.max()}; expected 0..{len(CLASSES) - 1}")
    return numbers.astype(np.uint8)
