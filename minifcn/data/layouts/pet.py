"""The layout of the Oxford-IIIT Pet data set: images/ and annotations/trimaps/."""

from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..images import VOID, read_mask
from ..manifest import some
from ..names import read_lines
from .base import Contents, Layout, Sample
from .files import relative, visible

LISTS = {"train": "trainval.txt", "val": "test.txt"}
VALUES = np.full(256, 254, np.uint8)  # 254 is no class, and so refused
VALUES[[1, 2, 3]] = 1, 0, VOID


class Pet(Layout):
    """Photos of cats and dogs with a trimap: the pet, the background, and between them a border, which is void.

    "train" is the list ``annotations/trainval.txt``, "val" the list ``annotations/test.txt``.
    """

    looks_for = "images/ and annotations/trimaps/"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        found = (folder / "annotations/trimaps").is_dir() and (folder / "images").is_dir()
        return "it has images/ and annotations/trimaps/" if found else ""

    def read(self, folder: Path) -> Contents:
        images = {path.stem: path for path in visible(folder / "images", "*.jpg")}
        masks = {path.stem: path for path in visible(folder / "annotations/trimaps", "*.png")}
        if lost := sorted(masks.keys() - images.keys()):
            raise UserError(f"{folder / 'images'} lacks the images of {len(lost)} trimaps ({some(lost)})")
        samples = [
            Sample(relative(images[stem], folder), images[stem], partial(_trimap, mask), (mask,), mask)
            for stem, mask in masks.items()
        ]
        splits = {}
        for split, name in LISTS.items():
            path = folder / "annotations" / name
            if path.exists():
                stems = [line.split()[0] for line in read_lines(path) if line and not line.startswith("#")]
                if lost := [stem for stem in stems if stem not in masks]:
                    raise UserError(f"{path} names {len(lost)} images without a trimap ({some(lost)})")
                splits[split] = [relative(images[stem], folder) for stem in stems]
        return Contents(samples, ("background", "pet"), splits)


def _trimap(mask, size):
    return VALUES[read_mask(mask)]
