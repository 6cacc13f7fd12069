"""The images that ``python -m minifcn.predict`` labels: files, folders, patterns, and the frames of animations."""

import glob
import os
import re
import sys
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from ..data.folder import SUFFIXES, images_in
from ..data.images import image_header
from ..data.rasters import is_map
from ..errors import UserError


@dataclass(frozen=True)
class Picture:
    """An image to label.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        The path of its results below the folder of results, without ``-labels.png`` and the like.
    page : int or None
        The page or frame of the file; None if only the first is labelled.
    is_map : bool
        Whether it is a map, whose results are GeoTIFFs: see `minifcn.data.rasters`.
    """

    path: Path
    name: str
    page: int | None = None
    is_map: bool = False

    def file(self, out, end):
        """The file of a result in the folder `out`; of a map, a ``.tif`` in place of a ``.png``."""
        return out / f"{self.name}{end.replace('.png', '.tif') if self.is_map else end}"

    def __str__(self):
        return str(self.path) if self.page is None else f"{self.path} (frame {self.page})"


def run_and_pictures(paths, recursive=False, frames=False, out=None):
    """The path of the run folder or checkpoint (None: use the package's model), and the images to label.

    The first path is a run folder, a checkpoint, an image, a folder of images or a pattern.  Any other path is an
    error, because a misspelt path must not select the default model.

    Parameters
    ----------
    paths : sequence of str
        A pattern (``"photos/*.jpg"``, ``"photos/**/*.jpg"``) is a path with ``*``, ``?`` or ``[...]`` that is not the
        name of a file.
    recursive : bool
        Whether to label the images in sub-folders, too.
    frames : bool
        Whether to label every page or frame of a file, not only the first.
    out : Path, optional
        The folder for the results, whose files are no images to label.

    Returns
    -------
    run : Path or None
    pictures : list of Picture
        The images of a folder or a pattern in natural order of name: frame2 before frame10.

    Raises
    ------
    UserError
        If a path is neither of these, if a folder or a pattern has no image, or if only a model is given.
    """
    first, *rest = paths = [Path(path) for path in paths]
    run = None
    if _is_model(first):
        if not rest:
            raise UserError(f"{first} is a model, and no image is given; name the images to label after it")
        run, paths = first, rest
    elif first.suffix.lower() not in SUFFIXES and not first.is_dir() and not _is_pattern(first):
        if not first.exists():
            raise UserError(f"there is no run folder and no image {first}; check the path")
        try:
            image_header(first)
        except UserError as error:
            raise UserError(
                f"{first} is not a run folder, a .safetensors checkpoint or an image ({error}); give one of these"
            ) from None
    found = [picture for path in paths for picture in _found(path, first, recursive, out)]
    found = list({picture.path: picture for picture in found}.values())
    if frames:
        return run, [frame for picture in found for frame in _frames(picture)]
    return run, [replace(picture, is_map=is_map(picture.path)) for picture in found]


def _is_model(path):
    """Whether a path is a checkpoint or a run folder, even a damaged one: its figures are no images to label."""
    if path.is_dir():
        return (path / "config.json").exists() or any(path.glob("*.safetensors"))
    return path.suffix.lower() == ".safetensors"


def _is_pattern(path):
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def _found(path, first, recursive, out):
    """The images at a path of the command line."""
    if _is_model(path):
        raise UserError(f"{path} is a model; give only one model, before the images")
    if _is_pattern(path):
        files, base = [Path(file) for file in glob.glob(str(path), recursive=True)], _fixed_part(path)
        files = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
        missing = f"no image has a path like {path}"
    elif not path.is_dir():
        return [Picture(path, path.stem)]
    else:
        files, base = _inside(path, recursive), path
        kind = "is not a run folder (it has no config.json), and holds no image" if path == first else "holds no image"
        missing = f"{path} {kind}"
    results = out.resolve() if out else None
    files = [file for file in files if results is None or results not in file.resolve().parents or results == path]
    if not files:
        raise UserError(f"{missing} with one of the suffixes {', '.join(sorted(SUFFIXES))}; give another path")
    names = [(file, file.relative_to(base).with_suffix("").as_posix()) for file in files]
    return [Picture(file, name) for file, name in sorted(names, key=lambda pair: _natural(pair[1]))]


def _fixed_part(pattern):
    """The folder before the first part of a pattern that has a wildcard."""
    parts = pattern.parts
    return Path(*parts[: next(k for k, part in enumerate(parts) if glob.has_magic(part))])


def _inside(folder, recursive):
    if recursive:
        files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        return [path for path in files if not any(p.startswith(".") for p in path.relative_to(folder).parts)]
    found = images_in(folder, notes := [])
    for note in notes:
        print(f"note: {note} (--recursive labels the images in sub-folders, too)", file=sys.stderr)
    return found


def _natural(name):
    """A key for sorting: numbers in a name count as numbers."""
    parts = re.split(r"(\d+)", unicodedata.normalize("NFC", name))
    return [(int(part), "") if k % 2 else (0, part) for k, part in enumerate(parts)], name


def _frames(picture):
    """A picture for each page or frame of a file."""
    pages = image_header(picture.path).pages
    if pages == 1:
        return [picture]
    digits = len(str(pages - 1))
    return [Picture(picture.path, f"{picture.name}-{page:0{digits}}", page) for page in range(pages)]


def targets_for(pictures, out, kinds, tables=(), overwrite=False):
    """The files of the results of each picture.

    Parameters
    ----------
    pictures : list of Picture
    out : Path
    kinds : sequence of str
        The ends of the names of the results: ``-labels.png``.
    tables : sequence of path-like
        Further files that will be written.
    overwrite : bool
        Whether existing results may be replaced.

    Returns
    -------
    dict of {Picture: list of Path}
        In the order of `kinds`.

    Raises
    ------
    UserError
        If two images would have the same result files, or if a result would replace an input image, an existing file
        (unless `overwrite`), or something that is not a regular file.
    """
    targets, taken = {}, {}
    for picture in pictures:
        # On file systems that ignore case or normalise accents, names that differ only in these are the same file.
        other = taken.setdefault(unicodedata.normalize("NFC", picture.name).casefold(), picture)
        if other != picture:
            raise UserError(
                f"{other} and {picture} would both be written as {PurePath(picture.name).name}{kinds[0]}: label them "
                "in separate calls, with different folders for the results (--out)"
            )
        targets[picture] = [picture.file(out, kind) for kind in kinds]
    inputs = {picture.path.resolve() for picture in pictures}
    files = [target for those in targets.values() for target in those] + [Path(table) for table in tables]
    for target in filter(os.path.lexists, files):
        if target.resolve() in inputs:
            raise UserError(
                f"{target} is one of the input images, and a result would overwrite it: give another folder (--out)"
            )
        if target.exists() and not target.is_file():
            raise UserError(
                f"{target} is not a regular file, so a result cannot replace it: give another folder (--out)"
            )
        if not overwrite:
            raise UserError(
                f"{target} already exists: give another folder (--out), or replace existing results (--overwrite)"
            )
    return targets
