"""Finds the samples of a folder without refusing any of them, and the files that belong to no sample."""

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..folder import MASKS, SUFFIXES
from ..layouts import LAYOUTS
from ..layouts.base import EVERY, folder_splits
from ..layouts.files import relative
from ..layouts.masks import listed_splits, partners
from .finding import ERROR, NOTE, WARNING, Finding, number

LITTER = {"thumbs.db", "desktop.ini", ".ds_store", "__macosx", ".thumbnails", "@eadir"}  # in lower case


@dataclass
class Sample:
    """The images and masks of one name in one split; it can be used if it has one of each."""

    name: str  # the path of the image, or of the mask if there is no image, relative to the root
    split: str
    images: list = field(default_factory=list)
    masks: list = field(default_factory=list)
    draw: Callable | None = None  # draw((H, W)) gives the label, if no mask stores it as it is
    size: tuple | None = None  # the (H, W) that the annotations state

    @property
    def image(self):
        """The image that is used, or None."""
        return self.images[0] if self.images else None

    @property
    def mask(self):
        """The mask that is used, or None."""
        exact = [mask for mask in self.masks if mask.suffix.lower() in MASKS]
        return (exact or self.masks or [None])[0]

    @property
    def whole(self):
        """Whether there are an image and a label."""
        return bool(self.images and (self.masks or self.draw))


@dataclass
class Contents:
    """The samples of a folder, in the order of its data set, and the files in it that belong to none."""

    root: Path
    folder: Path  # the root, or the folder alone inside it that holds everything
    name: str  # of the layout
    why: str  # what says so
    divided: bool  # whether there are splits
    samples: list
    classes: tuple | None = None  # the names of the classes, if the layout gives them
    palette: np.ndarray | None = None  # a colour for each class, if the layout gives them
    litter: list = field(default_factory=list)  # files that operating systems and archive programs leave
    unused: list = field(default_factory=list)  # other files, and sub-folders with images
    findings: list = field(default_factory=list)  # what the layout refuses, or has chosen


def contents(known):
    """List the samples of a folder whose layout is recognised: the result of `minifcn.data.recognise`."""
    list_samples = {"folder": _of_folder, "masks": _of_masks}.get(known.name, _of_annotations)
    found = list_samples(known)
    found.litter = _litter(known.root)
    if not found.divided:
        for k, sample in enumerate(s for s in found.samples if s.images):
            sample.split = "train" if k % EVERY else "val"
    return found


def _of_folder(known):
    """The samples of the library's own layout."""
    root = known.root
    whole = (root / "images").is_dir()
    folders = [root] if whole else [images.parent for images in sorted(root.glob("[!._]*/images"))]
    found = Contents(root, root, known.name, known.why, not whole, [])
    for folder in folders:
        named = {}
        for kind in ("images", "masks"):
            for path in _pictures(folder / kind, SUFFIXES if kind == "images" else SUFFIXES | MASKS, found.unused):
                name = unicodedata.normalize("NFC", path.stem)
                split = "train" if whole else folder.name
                sample = named.setdefault(name, Sample(relative(path, root), split))
                getattr(sample, kind).append(path)
        found.samples += named.values()
    if whole:
        _divide(found, _listed(found, root))
    return found


def _listed(found, folder):
    """The splits in lists of names; a list that cannot be used becomes a finding."""
    try:
        return listed_splits(folder, [sample.name for sample in found.samples])
    except UserError as error:
        found.findings.append(Finding(ERROR, "a list of a split cannot be used", str(error), advice="correct the list"))
        return {}


def _pictures(folder, suffixes, unused):
    """The image files in a folder, in the order of `Folder`; other files are added to `unused`."""
    pictures = []
    inside = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(inside, key=lambda path: unicodedata.normalize("NFC", path.name)):
        if path.name.startswith(".") or _is_litter(path.name):
            continue
        if path.suffix.lower() in suffixes and not path.is_dir():
            pictures.append(path)
        elif not path.is_dir() or any(deep.suffix.lower() in SUFFIXES for deep in path.rglob("*")):
            unused.append(path)
    return pictures


def _of_masks(known):
    """The samples of images with masks in folders of any depth."""
    folder = LAYOUTS["masks"].locate(known.root)[0]
    images, masks = partners(folder)
    files = [(images.get(key, []), masks.get(key, [])) for key in images.keys() | masks.keys()]
    samples = [
        Sample(relative(min(image or mask), folder), "train", sorted(image), sorted(mask)) for image, mask in files
    ]
    samples.sort(key=lambda sample: sample.name)
    found = Contents(known.root, folder, known.name, known.why, False, samples)
    _divide(found, _listed(found, folder) or folder_splits(sample.name for sample in samples))
    return found


def _of_annotations(known):
    """The samples of a layout whose annotations are drawn."""
    layout = LAYOUTS[known.name]
    folder = layout.locate(known.root)[0]
    found = Contents(known.root, folder, known.name, known.why, False, [])
    try:
        there = layout.read(layout.__new__(layout), folder)  # without the checks of its __init__
    except UserError as error:
        found.findings.append(Finding(ERROR, "the annotations cannot be used", str(error), advice="see the reason"))
        return found
    found.classes, found.palette = there.classes, there.palette
    for note in there.notes:
        found.findings.append(
            Finding(NOTE, note, "nothing in the folder says otherwise", advice="nothing, if it suits")
        )
    for s in sorted(there.samples, key=lambda sample: sample.name):
        found.samples.append(Sample(s.name, "train", [s.image], [s.mask] if s.mask else [], s.draw, s.size))
    _divide(found, there.splits)
    return found


def _divide(found, splits):
    """Give each sample its split; one that is in a list such as trainval, too, counts for train or val."""
    found.divided = bool(splits)
    first = ("train", "val", "test")
    order = sorted(splits, key=lambda split: first.index(split) if split in first else len(first))
    split_of = {name: split for split in reversed(order) for name in splits[split]}
    both = sorted(set(splits.get("train", ())) & set(splits.get("val", ())))
    if both:
        what, why = (
            f"{number(len(both), 'sample')} in train and in val",
            "the network is measured on what it has learned",
        )
        advice = "remove these names from one of the lists"
        found.findings.append(Finding(WARNING, what, why, tuple(found.folder / name for name in both), advice=advice))
    if splits:
        for sample in found.samples:
            sample.split = split_of.get(sample.name, "unused")


def _litter(root):
    """The files below a folder that operating systems and archive programs leave."""
    found = []
    for base, folders, files in os.walk(root):
        found += [Path(base, name) for name in (*folders, *files) if _is_litter(name)]
        folders[:] = [name for name in folders if not _is_litter(name) and not name.startswith(".")]
    return sorted(found)


def _is_litter(name):
    return name.startswith("._") or name.lower() in LITTER
