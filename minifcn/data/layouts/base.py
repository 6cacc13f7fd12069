"""What all layouts share: a folder that another program wrote is read in place, as a data set."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from ...arrays.types import Array
from ...errors import Note, UserError, on_one_line
from ..divide import unlisted
from ..folder import require_matching
from ..images import VOID, file_header, image_header, read_image
from ..manifest import differences, fingerprint, some
from ..palette import voc_colour_map

EVERY = 5  # without splits in the layout, every fifth image is for validation, as in the library's own layout
SPLITS = {
    "train": "train", "training": "train", "train2014": "train", "train2017": "train", "val": "val", "valid": "val",
    "validation": "val", "val2014": "val", "val2017": "val", "test": "test", "testing": "test", "trainval": "trainval",
}  # fmt: skip
"""The splits by the names that programs give to their folders and lists, in lower case."""


@dataclass(frozen=True)
class Sample:
    """One image with its label.

    Attributes
    ----------
    name : str
        The path of the image below the data set's folder, with slashes; no two samples share one.
    image : Path
    draw : callable
        ``draw((H, W))`` returns the label, uint8 (H, W), of the image with this upright size.
    evidence : tuple of Path or bytes
        Everything in which the label is written, for the fingerprint.
    mask : Path, optional
        The picture that holds the label; its size and orientation must suit the image's.
    size : (int, int), optional
        The (H, W) that the annotations state; it must be the image's.
    pixels : callable, optional
        ``pixels()`` returns the image, if `image` is a file that holds many.
    """

    name: str
    image: Path
    draw: Callable[[tuple[int, int]], Array]
    evidence: tuple[Path | bytes, ...]
    mask: Path | None = None
    size: tuple[int, int] | None = None
    pixels: Callable[[], Array] | None = None

    def fingerprint(self):
        """A hash of image and label."""
        if self.pixels:
            return fingerprint(self.pixels().tobytes(), self.draw(self.size).tobytes())
        return fingerprint(self.image, *self.evidence)


@dataclass
class Contents:
    """All that a folder holds: the samples of all splits, the names of the classes, and the splits, if it has any."""

    samples: list[Sample]
    classes: tuple[str, ...]
    splits: dict[str, list[str]] = field(default_factory=dict)  # {name of the split: names of its samples}
    palette: Array | None = None  # uint8 (classes, 3)
    notes: list[str] = field(default_factory=list)  # sentences about what is not used, or was chosen


class Layout(ABC):
    """A data set that is read in place from a folder in the layout of another program.

    Parameters
    ----------
    root : path-like
        The folder, or a folder that holds nothing but it.
    split : str, optional
        One of the layout's splits.  If it has none, "val" is every fifth image (in order of name) and "train" the
        others.  None means all samples.
    samples : dict of {str: str}, optional
        A manifest: use exactly these samples, even if `split` would now select others.

    Raises
    ------
    UserError
        If the folder has another layout, if an image, a mask or an annotation is missing, damaged or of another size
        (the message names the file), if there is no such split, or if a sample of `samples` is missing or has changed.
    """

    looks_for: ClassVar[str]  # what the folder must hold, for messages

    def __init__(self, root: str | Path, split: str | None = None, samples: Mapping[str, str] | None = None) -> None:
        self.root, self.split = Path(root), split
        folder, self.why = self.locate(self.root)
        contents = self.read(folder)
        require_contents(contents, self.root)
        self.samples = sorted(contents.samples, key=lambda sample: sample.name)
        self.classes, self.notes, self.splits = contents.classes, contents.notes, contents.splits
        self.num_classes = len(self.classes)
        self.notes += unlisted(self.root, self.names, self.splits)
        palette = contents.palette
        distinct = palette is not None and len(np.unique(palette, axis=0)) == self.num_classes
        self.palette = palette if distinct else voc_colour_map(self.num_classes)
        if samples is None:
            self._keep_split()
        else:
            self._keep(samples)
        self.sizes = [_matching_size(sample) for sample in self.samples]
        for note in self.notes:
            warnings.warn(note, Note, stacklevel=2)

    @classmethod
    @abstractmethod
    def recognise(cls, folder: Path) -> str:
        """Why `folder` has this layout, as a phrase; empty if it has not.  Only names and beginnings of files count."""

    @abstractmethod
    def read(self, folder: Path) -> Contents:
        """All that a folder in this layout holds."""

    @classmethod
    def locate(cls, root: Path) -> tuple[Path, str]:
        """The folder at `root`, or alone inside it, that has this layout, and why; UserError if there is none."""
        for folder in chain(root):
            if why := cls.recognise(folder):
                return folder, why
        raise UserError(f"{root} is not in the layout {cls.__name__.lower()!r}: expected {cls.looks_for}")

    def _keep_split(self):
        if self.split is None:
            return
        if self.splits:
            if self.split not in self.splits:
                raise UserError(f"{self.root} has no split {self.split!r}; choose one of {', '.join(self.splits)}")
            names = set(self.splits[self.split])
        elif self.split in ("train", "val"):
            names = {s.name for k, s in enumerate(self.samples) if (k % EVERY == 0) == (self.split == "val")}
        else:
            raise UserError(f"{self.root} has no split {self.split!r}; choose train or val")
        self.samples = [sample for sample in self.samples if sample.name in names]
        if not self.samples:
            raise UserError(f"{self.root} has no images for split {self.split!r}")

    def _keep(self, samples):
        """Keep only what the manifest `samples` names; UserError if something is missing or has changed."""
        self.samples = [sample for sample in self.samples if sample.name in samples]
        if changes := differences(samples, self.manifest()):
            raise UserError(f"the images in {self.root} are not those that the run used: {'; '.join(changes)}")

    @property
    def names(self) -> list[str]:
        """The paths of the images below the folder, with slashes."""
        return [sample.name for sample in self.samples]

    @property
    def files(self) -> list[Path]:
        """The files of the images."""
        return [sample.image for sample in self.samples]

    def manifest(self) -> dict[str, str]:
        """{name of the sample: fingerprint of image and label}: see `minifcn.data.manifest`."""
        return dict(self._manifest)

    @cached_property
    def _manifest(self):
        return {sample.name: sample.fingerprint() for sample in self.samples}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        sample = self.samples[i]
        image = sample.pixels() if sample.pixels else read_image(sample.image)
        label = sample.draw(image.shape[:2])
        kinds = [len(names) for names in self.heads.values()] if hasattr(self, "heads") else [self.num_classes]
        for ids, count in zip(np.moveaxis(label, -1, 0) if label.ndim == 3 else [label], kinds, strict=True):
            unknown = ids[(ids >= count) & (ids != VOID)]
            if unknown.size:
                raise UserError(
                    f"mask {sample.mask or sample.name} holds class {unknown.max()}; with {count} classes, ids must "
                    f"lie in 0..{count - 1}, or be {VOID} (void)"
                )
        return image, label

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}({str(self.root)!r}, {self.split!r}, {len(self)} images, {self.num_classes} classes)"


def chain(root):
    """`root`, and the folders below it that stand alone: an unpacked archive often holds nothing but one folder."""
    yield root
    for _ in range(3):
        found = root.iterdir() if root.is_dir() else ()
        inside = [path for path in found if not path.name.startswith((".", "__MACOSX"))]
        if len(inside) != 1 or not inside[0].is_dir():
            return
        root = inside[0]
        yield root


def require_contents(contents, root):
    """Raise UserError unless there are samples with different names, and 2 to 255 different classes."""
    names = [sample.name for sample in contents.samples]
    if not names:
        raise UserError(f"{root} has no images with labels")
    if twice := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise UserError(f"{root} has several labels for {some(twice)}; keep one for each image")
    classes = contents.classes
    if len(set(classes)) < len(classes):
        twice = sorted({name for name in classes if classes.count(name) > 1})
        raise UserError(f"{root} has several classes named {some(twice)}; give each class another name")
    if not 2 <= len(classes) <= VOID:
        raise UserError(f"{root} has {len(classes)} classes ({some(classes)}); expected 2 to {VOID}")


def folder_splits(names):
    """{split: names} of samples that stand in folders named such as train and val; empty unless there are several."""
    splits = {}
    for name in names:
        found = [SPLITS[part.lower()] for part in PurePosixPath(name).parts[:-1] if part.lower() in SPLITS]
        if found:
            splits.setdefault(found[0], []).append(name)
    return splits if len(splits) > 1 else {}


def as_names(names):
    """Names from a file of another program, each on one line."""
    return tuple(on_one_line(" ".join(str(name).split())) for name in names)


def _matching_size(sample):
    """The upright (height, width) of a sample's image; UserError if mask or annotations have another one."""
    if sample.pixels:
        return sample.size
    picture = image_header(sample.image)
    if sample.mask:
        require_matching(sample.image, picture, sample.mask, file_header(sample.mask))
    elif sample.size and tuple(sample.size) != picture.size:
        h, w = picture.size
        turned = f", turned by its EXIF orientation {picture.orientation}" if picture.orientation != 1 else ""
        raise UserError(
            f"image {sample.image} is {h}x{w} (height x width{turned}), but its annotations are for "
            f"{sample.size[0]}x{sample.size[1]}; put back the image that was annotated, or annotate this one"
        )
    return picture.size


def blank(size):
    """A label of this (height, width) whose pixels are all class 0."""
    return np.zeros(size, np.uint8)
