"""The layout of PASCAL-Context: MATLAB files for the images of PASCAL VOC 2010."""

from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..manifest import some
from ..names import read_lines
from .base import Contents, Layout, Sample
from .files import relative, visible
from .mat import label_of_mat, names_of

PLACES = ("", "context", "pascal-context", "pascal_context")
IMAGES = ("", "VOC2010", "VOCdevkit/VOC2010", "pascal/VOC2010")
RENAMED = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
"""The names in 59_labels.txt that labels.txt spells otherwise."""


class Context(Layout):
    """The 59 frequent classes of PASCAL-Context; all others are the class background, as in the paper.

    ``trainval/*.mat`` (key ``LabelMap``), ``labels.txt`` with the names of all 459 classes, ``59_labels.txt``, and the
    images and lists of VOC 2010: ``JPEGImages/``, ``ImageSets/Main/{train,val}.txt``.
    """

    looks_for = "trainval/*.mat, labels.txt and 59_labels.txt, and JPEGImages/ of VOC 2010"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        home = _home(folder)
        return f"it has {relative(home / 'trainval', folder)}/ with MATLAB files, and 59_labels.txt" if home else ""

    def read(self, folder: Path) -> Contents:
        home = _home(folder)
        voc = next((folder / place for place in IMAGES if (folder / place / "JPEGImages").is_dir()), None)
        if voc is None:
            raise UserError(f"{folder} has no JPEGImages/ of VOC 2010; put the folder VOC2010 into it")
        every = {name: number for number, name in names_of(home / "labels.txt").items()}
        frequent = [name for _, name in sorted(names_of(home / "59_labels.txt").items())]
        table = np.zeros(max(every.values()) + 1, np.uint8)
        for k, name in enumerate(frequent, 1):
            known = RENAMED.get(name, name)
            if known not in every:
                raise UserError(f"{home / '59_labels.txt'} names {name!r}, which is not in labels.txt")
            table[every[known]] = k
        labels = {path.stem: path for path in visible(home / "trainval", "*.mat")}
        if lost := [stem for stem in labels if not (voc / f"JPEGImages/{stem}.jpg").is_file()]:
            raise UserError(f"{voc / 'JPEGImages'} lacks the images of {len(lost)} labels ({some(lost)})")
        samples = {}
        for stem, path in labels.items():
            image = voc / f"JPEGImages/{stem}.jpg"
            draw = partial(_draw, path, table)
            samples[stem] = Sample(relative(image, folder), image, draw, (path, table.tobytes()))
        splits = {}
        for split in ("train", "val"):
            path = voc / f"ImageSets/Main/{split}.txt"
            stems = [line.split()[0] for line in read_lines(path) if line] if path.exists() else []
            if named := [samples[stem].name for stem in stems if stem in samples]:
                splits[split] = named
        return Contents(list(samples.values()), ("background", *frequent), splits)


def _home(folder):
    """The folder with trainval/ and the lists of names, or None."""
    for place in PLACES:
        home = folder / place
        if (home / "59_labels.txt").is_file() and next((home / "trainval").glob("*.mat"), None):
            return home
    return None


def _draw(path, table, size):
    numbers = label_of_mat(path, size, "LabelMap")
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= len(table):
        raise UserError(f"{path} holds class {numbers.max()}; labels.txt names {len(table) - 1} classes")
    return table[numbers]
