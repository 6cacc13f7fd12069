"""Data sets, the joint transforms of image and label, and the loader that makes batches.

A data set is any object with ``len(d)``, ``d[i] -> (image uint8 (H, W, 3), label uint8 (H, W); 255 = void)``,
``d.classes`` (names), ``d.palette`` (uint8 (n, 3)) and ``d.num_classes``; it needs no base class.
Four members are optional: ``d.bands`` names the channels of images (H, W, C) of uint8 or uint16
(`minifcn.data.bands`); ``d.heads`` names the kinds of labels (H, W, kinds) (`minifcn.data.heads`); ``d.manifest()``
names the samples, so that a run notices when they change (`minifcn.data.manifest`); ``d.sizes`` lists the (height,
width) of every sample, so that no sample has to be loaded to find its size (`minifcn.data.statistics`).  `MNIST` is for
classifiers: it has one label for each image.
"""

from inspect import signature
from pathlib import Path
from typing import Any

from ..errors import UserError
from .earth import Earth, MissingExtra
from .folder import Folder
from .layouts import (
    COCO,
    CVAT,
    LAYOUTS,
    NYUD,
    SBD,
    VOC,
    CamVid,
    Context,
    LabelMe,
    LabelStudio,
    Masks,
    Pairs,
    Pet,
    SIFTFlow,
    SIFTFlowGeo,
    recognise,
)  # fmt: skip
from .loader import Loader
from .mnist import MNIST
from .protocol import DataSet
from .shapes import Shapes
from .transforms import Augment, Preprocessing

DATASETS: dict[str, type[Any]] = {cls.__name__.lower(): cls for cls in (Earth, Shapes, Folder)} | LAYOUTS
"""The data sets by their names on the command line."""

__all__ = [
    "COCO", "CVAT", "DATASETS", "MNIST", "NYUD", "SBD", "VOC", "Augment", "CamVid", "Context", "DataSet", "Earth",
    "Folder", "LabelMe", "LabelStudio", "Loader", "Masks", "MissingExtra", "Pairs", "Pet", "Preprocessing", "SIFTFlow",
    "SIFTFlowGeo", "Shapes", "open_dataset", "recognise",
]  # fmt: skip


def open_dataset(name: str, split: str | None, root: str | Path | None = None, **options: Any) -> DataSet:
    """Open a data set by its name on the command line.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    split : str or None
        "train" or "val"; some data sets have more.
    root : path-like, optional
        The folder with the files, for data sets that are read from one.
    **options
        Further arguments of the data set's class.

    Raises
    ------
    UserError
        If the name or an option is unknown, if `root` is missing, or if the data set does not take one.
    """
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}; choose one of {', '.join(DATASETS)}")
    accepted = signature(DATASETS[name]).parameters
    if root is not None:
        options["root"] = root
    elif "root" in accepted:
        raise UserError(f"data set {name!r} is read from a folder; give that folder as root (--root DIR)")
    for option in options:
        if option not in accepted:
            raise UserError(f"data set {name!r} has no option {option!r}; it accepts {', '.join(accepted)}")
    return DATASETS[name](split=split, **options)
