"""The layout of SIFT Flow: images with two kinds of labels, semantic and geometric, in MATLAB files."""

from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ..images import VOID
from ..manifest import some
from ..names import read_lines
from .base import Contents, Layout, Sample
from .files import images_below, relative
from .mat import label_of_mat

SEMANTIC = (
    "awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk", "desert", "door",
    "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole", "river", "road", "rock", "sand", "sea",
    "sidewalk", "sign", "sky", "staircase", "streetlight", "sun", "tree", "window",
)  # fmt: skip
LISTS = {"train": "trainval.txt", "val": "test.txt"}


class SIFTFlow(Layout):
    """The 33 semantic classes of SIFT Flow.

    ``Images/``, ``SemanticLabels/`` and ``GeoLabels/`` hold folders of the same name; the labels are MATLAB files (key
    ``S``), in which 0 is void.  "train" is the list ``trainval.txt``, "val" the list ``test.txt``.
    """

    looks_for = "Images/ and SemanticLabels/ with MATLAB files"
    labels: ClassVar[str] = "SemanticLabels"
    names_of_classes: ClassVar[tuple[str, ...]] = SEMANTIC

    @classmethod
    def recognise(cls, folder: Path) -> str:
        found = (folder / "Images").is_dir() and next((folder / cls.labels).rglob("*.mat"), None)
        return f"it has Images/ and {cls.labels}/ with MATLAB files" if found else ""

    def read(self, folder: Path) -> Contents:
        images = {path.stem: path for path in images_below(folder / "Images")}
        labels = {path.stem: path for path in sorted((folder / self.labels).rglob("*.mat")) if path.name[0] != "."}
        used = sorted(images.keys() & labels.keys())
        notes = []
        if left := sorted(images.keys() ^ labels.keys()):
            notes.append(f"{folder}: {len(left)} names lack an image or a label, and are not used ({some(left)})")
        samples = {
            stem: Sample(
                relative(images[stem], folder), images[stem], partial(self._draw, labels[stem]), (labels[stem],)
            )
            for stem in used
        }
        splits = {}
        for split, name in LISTS.items():
            if (folder / name).exists():
                stems = [line.removesuffix(".jpg") for line in read_lines(folder / name) if line]
                if lost := [stem for stem in stems if stem not in samples]:
                    raise UserError(f"{folder / name} names images that are not there ({some(lost)})")
                splits[split] = [samples[stem].name for stem in stems]
        return Contents(list(samples.values()), self.names_of_classes, splits, notes=notes)

    def _draw(self, path, size):
        numbers = label_of_mat(path, size, "S")
        count = len(self.names_of_classes)
        if numbers.min(initial=1) < -1 or numbers.max(initial=1) > count:
            raise UserError(
                f"{path} holds values {numbers.min()}..{numbers.max()}; expected 0..{count}, or -1 for void"
            )
        return np.where(numbers < 1, VOID, numbers - 1).astype(np.uint8)


class SIFTFlowGeo(SIFTFlow):
    """The three geometric classes of SIFT Flow: sky, horizontal and vertical; -1 is void.  See `SIFTFlow`."""

    labels = "GeoLabels"
    names_of_classes = ("sky", "horizontal", "vertical")
