"""The layout of SIFT Flow: images with two kinds of labels, semantic and geometric, in MATLAB files."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np

from ...errors import UserError
from ..bands import choose
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
GEOMETRIC = ("sky", "horizontal", "vertical")
HEADS = {"sem": ("SemanticLabels", SEMANTIC), "geo": ("GeoLabels", GEOMETRIC)}
"""{name of a head: (folder of its labels, its classes)}."""
Kinds: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
LISTS = {"train": "trainval.txt", "val": "test.txt"}


class SIFTFlow(Layout):
    """The 33 semantic classes of SIFT Flow, or both kinds of its labels.

    ``Images/``, ``SemanticLabels/`` and ``GeoLabels/`` hold folders of the same name; the labels are MATLAB files (key
    ``S``), in which 0 is void, and -1 in the geometric ones.  "train" is the list ``trainval.txt``, "val" the list
    ``test.txt``.

    Parameters
    ----------
    root, split, samples
        See `Layout`.
    heads : sequence of str, or text with commas, optional
        "sem", "geo" or both: the labels are (H, W, heads) then, for a net with a head for each kind (§5); see
        `minifcn.data.heads`.
    """

    looks_for = "Images/ and SemanticLabels/ with MATLAB files"
    labels: ClassVar[str] = "SemanticLabels"
    kinds: Kinds = (HEADS["sem"],)

    def __init__(
        self, root: str | Path, split: str | None = None, samples: Mapping[str, str] | None = None,
        heads: Sequence[str] | str | None = None,
    ) -> None:  # fmt: skip
        if heads is not None:
            chosen = choose(heads, tuple(HEADS), "heads")
            self.kinds = tuple(HEADS[name] for name in chosen)
            self.heads = {name: HEADS[name][1] for name in chosen}
        super().__init__(root, split, samples)

    @classmethod
    def recognise(cls, folder: Path) -> str:
        found = (folder / "Images").is_dir() and next((folder / cls.labels).rglob("*.mat"), None)
        return f"it has Images/ and {cls.labels}/ with MATLAB files" if found else ""

    def read(self, folder: Path) -> Contents:
        images = {path.stem: path for path in images_below(folder / "Images")}
        found = [_files(folder / place) for place, _ in self.kinds]
        if empty := [place for (place, _), files in zip(self.kinds, found) if not files]:
            raise UserError(f"{folder} has no MATLAB files in {empty[0]}/: put them there, or leave out their head")
        used = sorted(images.keys() & set.intersection(*map(set, found)))
        notes = []
        if left := sorted({*images, *(stem for files in found for stem in files)}.difference(used)):
            notes.append(f"{folder}: {len(left)} names lack an image or a label, and are not used ({some(left)})")
        samples = {}
        for stem in used:
            paths = tuple(files[stem] for files in found)
            samples[stem] = Sample(relative(images[stem], folder), images[stem], partial(self._draw, paths), paths)
        splits = {}
        for split, name in LISTS.items():
            if (folder / name).exists():
                stems = [line.removesuffix(".jpg") for line in read_lines(folder / name) if line]
                if lost := [stem for stem in stems if stem not in samples]:
                    raise UserError(f"{folder / name} names images that are not there ({some(lost)})")
                splits[split] = [samples[stem].name for stem in stems]
        return Contents(list(samples.values()), self.kinds[0][1], splits, notes=notes)

    def _draw(self, paths, size):
        labels = [_label(path, size, len(classes)) for path, (_, classes) in zip(paths, self.kinds)]
        return np.stack(labels, axis=-1) if hasattr(self, "heads") else labels[0]


class SIFTFlowGeo(SIFTFlow):
    """The three geometric classes of SIFT Flow: sky, horizontal and vertical; -1 is void.  See `SIFTFlow`."""

    labels = "GeoLabels"
    kinds = (HEADS["geo"],)


def _files(folder):
    """{name without suffix: path} of the MATLAB files below a folder."""
    return {path.stem: path for path in sorted(folder.rglob("*.mat")) if path.name[0] != "."}


def _label(path, size, count):
    """The label of `size` in a MATLAB file with `count` classes."""
    numbers = label_of_mat(path, size, "S")
    if numbers.min(initial=1) < -1 or numbers.max(initial=1) > count:
        raise UserError(f"{path} holds values {numbers.min()}..{numbers.max()}; expected 0..{count}, or -1 for void")
    return np.where(numbers < 1, VOID, numbers - 1).astype(np.uint8)
