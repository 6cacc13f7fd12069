"""The layouts of NYUDv2: pictures with MATLAB files for 40 classes, or the one labelled file of version 7.3."""

from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..images import VOID
from ..manifest import some
from ..names import read_lines
from .base import Contents, Layout, Sample
from .files import relative, visible
from .mat import label_of_mat, read_mat

NAMES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
LABELLED, MAPPING, SPLITS_FILE = "nyu_depth_v2_labeled.mat", "classMapping40.mat", "splits.mat"


class NYUD(Layout):
    """Rooms of NYU Depth v2 with 40 classes; 0 is void.

    In the layout of Gupta et al. there are ``data/images/*.png``, ``segmentation/*.mat`` (key ``segmentation``), and
    lists of numbers ``train.txt``, ``val.txt`` and ``test.txt``.  Or the folder holds the file
    ``nyu_depth_v2_labeled.mat``, with ``classMapping40.mat``, which maps its 894 classes to 40, and ``splits.mat``,
    whose training images are "train" and whose test images are "val".
    """

    looks_for = f"data/images/ and segmentation/*.mat, or {LABELLED} with {MAPPING}"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        if (folder / LABELLED).is_file():
            return f"it has {LABELLED}"
        found = (folder / "data/images").is_dir() and next((folder / "segmentation").glob("*.mat"), None)
        return "it has data/images/ and segmentation/ with MATLAB files" if found else ""

    def read(self, folder: Path) -> Contents:
        return _labelled(folder) if (folder / LABELLED).is_file() else _pictures(folder)


def _pictures(folder):
    images = {path.stem: path for path in visible(folder / "data/images", "*.png")}
    samples = {}
    for path in visible(folder / "segmentation", "*.mat"):
        if path.stem not in images:
            raise UserError(f"{path} has no image; expected {folder / 'data/images' / path.stem}.png")
        image = images[path.stem]
        samples[path.stem.removeprefix("img_")] = Sample(relative(image, folder), image, partial(_forty, path), (path,))
    splits = {}
    for split in ("train", "val", "test"):
        if (folder / f"{split}.txt").exists():
            numbers = [line.removeprefix("img_") for line in read_lines(folder / f"{split}.txt") if line]
            if lost := [number for number in numbers if number not in samples]:
                raise UserError(f"{folder / f'{split}.txt'} names images without a label ({some(lost)})")
            splits[split] = [samples[number].name for number in numbers]
    return Contents(list(samples.values()), NAMES, splits)


def _forty(path, size):
    return _shifted(label_of_mat(path, size, "segmentation"), path)


def _shifted(numbers, path):
    """Class ids from 0 on, and void for 0."""
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) > len(NAMES):
        raise UserError(f"{path} holds values {numbers.min()}..{numbers.max()}; expected 0..{len(NAMES)}")
    return np.where(numbers == 0, VOID, numbers - 1).astype(np.uint8)


def _labelled(folder):
    path = folder / LABELLED
    if not (folder / MAPPING).is_file():
        raise UserError(f"{path} has 894 classes, more than 255; put {MAPPING} beside it, which maps them to 40")
    table = np.concatenate([[0], read_mat(folder / MAPPING, "mapClass").ravel().astype(np.int64)])
    with _opened(path) as file:
        images, labels = file["images"].shape, file["labels"].shape  # (N, 3, W, H) and (N, W, H)
        if len(images) != 4 or images[1] != 3 or labels != (images[0], *images[2:]) or file["labels"].dtype.kind != "u":
            raise UserError(
                f"{path} has images of {images} and labels of {labels}; expected (N, 3, W, H) and (N, W, H)"
            )
    samples = [
        Sample(f"{k + 1:04}.png", path, partial(_label, path, k, table), (), size=images[:1:-1],
               pixels=partial(_image, path, k))
        for k in range(images[0])
    ]  # fmt: skip
    splits = {}
    if (folder / SPLITS_FILE).is_file():
        for split, key in (("train", "trainNdxs"), ("val", "testNdxs")):
            numbers = read_mat(folder / SPLITS_FILE, key).ravel().astype(int)
            if numbers.min(initial=1) < 1 or numbers.max(initial=1) > len(samples):
                raise UserError(f"{folder / SPLITS_FILE} names image {numbers.max()}; there are {len(samples)}")
            splits[split] = [samples[k - 1].name for k in numbers]
    return Contents(samples, NAMES, splits)


def _opened(path):
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path} is read with h5py, which is not installed: pip install 'minifcn[weights]'") from None
    try:
        file = h5py.File(path, "r")
        assert {"images", "labels"} <= file.keys()
        return file
    except (OSError, AssertionError) as error:
        raise UserError(f"{path} is not the labelled file of NYUDv2, which has images and labels ({error})") from None


def _image(path, k):
    """Image `k`, uint8 (H, W, 3); MATLAB stores the columns of an image first."""
    with _opened(path) as file:
        return np.ascontiguousarray(file["images"][k].transpose(2, 1, 0).astype(np.uint8))


def _label(path, k, table, size):
    with _opened(path) as file:
        numbers = file["labels"][k].T.astype(np.int64)
    if numbers.max(initial=0) >= len(table):
        raise UserError(f"{path} holds class {numbers.max()}, but {MAPPING} maps {len(table) - 1} classes")
    return _shifted(table[numbers], path)
