"""CamVid's two layouts: SegNet's, with 11 classes as ids, and the original, with 32 classes in colours."""

from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..colours import read_table
from ..divide import divide
from ..images import VOID, read_mask
from ..manifest import some
from .base import Contents, Layout, Sample
from .files import images_below, relative, visible

SEGNET = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128),
    "pavement": (60, 40, 222), "tree": (128, 128, 0), "signsymbol": (192, 128, 128), "fence": (64, 64, 128),
    "car": (64, 0, 128), "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}  # fmt: skip
"""The classes of the SegNet tutorial, in the order of their ids, with their colours; 11 is unlabelled."""
TABLE = "label_colors.txt"
BLOCK = 30  # successive frames


class CamVid(Layout):
    """Street scenes of the Cambridge-driving Labeled Video Database.

    SegNet's layout has ``train/``, ``trainannot/``, ``val/``, ``valannot/`` and so on, with ids 0 to 10; 11 is void.
    The original has masks in colours, named ``*_L.png``, and their table ``label_colors.txt``; the colour of Void is
    void.  It has no splits: "val" is a fifth of the frames, in blocks of 30 successive ones.
    """

    looks_for = f"trainannot/ beside train/, or {TABLE} and masks named *_L.png"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        if (folder / "trainannot").is_dir() and (folder / "train").is_dir():
            return "it has train/ and trainannot/"
        if (folder / TABLE).is_file() and next(folder.rglob("*_L.png"), None):
            return f"it has {TABLE} and masks named *_L.png"
        return ""

    def read(self, folder: Path) -> Contents:
        return _segnet(folder) if (folder / "trainannot").is_dir() else _original(folder)


def _segnet(folder):
    samples, splits = [], {}
    for split in ("train", "val", "test"):
        images = {path.stem: path for path in visible(folder / split)}
        for mask in visible(folder / f"{split}annot", "*.png"):
            if mask.stem not in images:
                raise UserError(f"{mask} has no image; expected {folder / split / mask.name}")
            image = images[mask.stem]
            samples.append(Sample(relative(image, folder), image, partial(_eleven, mask), (mask,), mask))
            splits.setdefault(split, []).append(samples[-1].name)
    return Contents(samples, tuple(SEGNET), splits, np.array([*SEGNET.values()], np.uint8))


def _eleven(mask, size):
    ids = read_mask(mask)
    return np.where(ids == len(SEGNET), np.uint8(VOID), ids)


def _original(folder):
    table = read_table(folder / TABLE)
    files = images_below(folder)
    images = {path.stem: path for path in files if not path.stem.endswith("_L")}
    masks = {path.stem.removesuffix("_L"): path for path in files if path.stem.endswith("_L")}
    if lost := sorted(masks.keys() - images.keys()):
        raise UserError(f"{folder} lacks the images of {len(lost)} masks ({some(lost)})")
    samples = [
        Sample(relative(images[stem], folder), images[stem], partial(_coloured, table, mask), (mask,), mask)
        for stem, mask in sorted(masks.items())
    ]
    names = [sample.name for sample in samples]
    note = f"{folder} has no splits: a fifth of the frames, in blocks of {BLOCK} successive ones, is for validation"
    splits = divide(names, 0.2, block=BLOCK) if len(names) > BLOCK else {}
    return Contents(samples, table.classes, splits, table.palette, [note] if splits else [])


def _coloured(table, mask, size):
    return table.ids(mask)
