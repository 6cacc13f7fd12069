"""Data sets, the joint transforms of image and label, and the loader that makes batches.

A data set is anything with ``len(d)``, ``d[i] -> (image uint8 (H, W, 3), label uint8 (H, W); 255 = void)``,
``d.classes`` (names), ``d.palette`` (uint8 (n, 3)) and ``d.num_classes``: a user's own needs no base class.
Optional: ``d.manifest()`` names the samples, so that a run recognises them (`minifcn.data.manifest`); ``d.sizes`` says
the (height, width) of each, so that nobody has to look (`minifcn.data.statistics`).
`MNIST`, for classifiers, has a label for each image.
"""

from inspect import signature

from ..errors import UserError
from .earth import Earth, MissingExtra
from .folder import Folder
from .loader import Loader
from .mnist import MNIST
from .shapes import Shapes
from .transforms import Augment, Preprocessing

__all__ = [
    "DATASETS", "MNIST", "Augment", "Earth", "Folder", "Loader", "MissingExtra", "Preprocessing", "Shapes",
    "open_dataset",
]  # fmt: skip

DATASETS = {"earth": Earth, "shapes": Shapes, "folder": Folder}
"""The data sets by their names on the command line."""


def open_dataset(name, split, root=None, **options):
    """Open a data set by its name on the command line.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    split : str or None
        "train" or "val"; some data sets have more.
    root : path-like, optional
        Where the files are, for data sets that lie in a folder.
    **options
        Further arguments of the data set's class.

    Raises
    ------
    UserError
        For an unknown name or option, and for a root that is missing or not wanted.
    """
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}; choose one of {', '.join(DATASETS)}")
    accepted = signature(DATASETS[name]).parameters
    if root is not None:
        options["root"] = root
    elif "root" in accepted:
        raise UserError(f"data set {name!r} lies in a folder; say which with root (--root DIR)")
    for option in options:
        if option not in accepted:
            raise UserError(f"data set {name!r} has no option {option!r}; it accepts {', '.join(accepted)}")
    return DATASETS[name](split=split, **options)
