"""Layouts of data sets that other programs write, and which of them a folder has.

Each file is one layout: a data set that reads the folder in place.  :func:`recognise` looks at the names of files, and
at the beginnings of JSON and XML files, and says which layout it is.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..folder import MASKS, Folder
from ..images import file_header
from .base import Layout, chain
from .camvid import CamVid
from .coco import COCO
from .context import Context
from .cvat import CVAT
from .files import namesakes, visible
from .labelme import LabelMe
from .labelstudio import LabelStudio
from .masks import COLOURED, Masks
from .nyud import NYUD
from .pairs import Pairs
from .pet import Pet
from .sbd import SBD
from .siftflow import SIFTFlow, SIFTFlowGeo
from .voc import VOC

LAYOUTS: dict[str, type[Layout]] = {
    cls.__name__.lower(): cls
    for cls in (
        VOC, COCO, LabelMe, CVAT, LabelStudio, CamVid, Pet, SBD, Context, NYUD, SIFTFlow, SIFTFlowGeo, Pairs,
        Masks
    )
}  # fmt: skip
"""The layouts by their names on the command line."""
READERS: dict[str, Any] = {"folder": Folder} | LAYOUTS
"""The data set of each layout, with the library's own."""
NAMES = [name for name, cls in LAYOUTS.items() if cls not in (Pairs, Masks, SIFTFlowGeo)]
"""The layouts that are recognised.  Pairs and Masks suit all pairs of pictures, so they are recognised only if there is
no other; SIFT Flow's geometric labels never, because its semantic ones lie beside them."""

__all__ = ["LAYOUTS", "Layout", "Recognised", "recognise", *(cls.__name__ for cls in LAYOUTS.values())]


@dataclass(frozen=True)
class Recognised:
    """The layout of a folder.

    Attributes
    ----------
    name : str
        "folder", the library's own layout, or one of `LAYOUTS`.
    why : str
        What says so, as one sentence without its full stop.
    root : Path
        The folder that was given.
    """

    name: str
    why: str
    root: Path

    def open(self, split: str | None = None, **options: Any) -> Any:
        """The data set, or one split of it."""
        return READERS[self.name](self.root, split=split, **options)


def recognise(root: str | Path) -> Recognised:
    """Say which layout a folder has.

    Parameters
    ----------
    root : path-like
        The folder, or a folder that holds nothing but it.

    Returns
    -------
    Recognised

    Raises
    ------
    UserError
        If there is no such folder, if it has none of the layouts, or if it has several.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder of a data set")
    for folder in chain(root):
        found = {name: why for name in NAMES if (why := LAYOUTS[name].recognise(folder))}
        if folder == root and _is_own(root):
            found["folder"] = "it has images/ and masks/ of class ids"
        if len(found) > 1:
            reasons = "; ".join(f"{name}, because {why}" for name, why in found.items())
            raise UserError(f"{folder} may have several layouts ({reasons}); choose one with --dataset")
        for name, why in found.items():
            where = "" if folder == root else f", in {folder.relative_to(root).as_posix()}/"
            return Recognised(name, f"{why}{where}", root)
    for cls in (Pairs, Masks):
        if why := cls.recognise(root):
            return Recognised(cls.__name__.lower(), why, root)
    if _parts(root):
        return Recognised("folder", "it has images/", root)  # its data set says which masks are missing
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if others := namesakes(folder):
            raise UserError(
                f"{root} has no layout that is known, but {folder.name}/ and {others[0].name}/ hold files of the same "
                "names; rename the folder of the images to images and that of the masks to masks"
            )
    wanted = "; ".join(f"{name}: {LAYOUTS[name].looks_for}" for name in (*NAMES, "pairs", "masks"))
    raise UserError(
        f"{root} has no layout that is known; expected images/ and masks/, or one of these: {wanted}; see docs/data.md"
    )


def _parts(root):
    """The folders with images/ in the library's own layout."""
    return [root] if (root / "images").is_dir() else [images.parent for images in sorted(root.glob("[!._]*/images"))]


def _is_own(root):
    """Whether a folder has the library's own layout: images/ and masks/ with the same names, and no colours."""
    for part in _parts(root):
        images = {path.stem for path in visible(part / "images")}
        masks = [path for path in visible(part / "masks") if path.stem in images and path.suffix.lower() in MASKS]
        for mask in masks:
            with suppress(UserError):  # a damaged mask says nothing about the others
                return file_header(mask).mode not in COLOURED
    return False
