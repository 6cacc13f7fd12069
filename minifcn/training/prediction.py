"""What ``python -m minifcn.predict`` is given, and where it writes: the model, the pictures, the files of results."""

import os
import sys
import unicodedata
from pathlib import Path

from ..data.folder import SUFFIXES, pictures_in
from ..data.images import image_header
from ..errors import UserError


def labels_of(model, image, path):
    """The labels of an image; UserError, naming it, if the memory does not hold what that takes."""
    try:
        return model.predict(image)
    except MemoryError:
        height, width = image.shape[:2]
        raise UserError(
            f"{path} is {height}x{width} (height x width), too large to be labelled in this memory; cut it into tiles "
            "or make it smaller"
        ) from None


def run_and_images(paths):
    """What holds the model (None: the package does), and the paths of the images.

    The first path is a run, a checkpoint, a picture or a folder of pictures.  What is none of them is an error: no
    other model takes the place of one that was misspelt.
    """
    first, *rest = paths = [Path(path) for path in paths]
    run = None
    if _is_model(first):
        if not rest:
            raise UserError(f"{first} is a model; name the images to label after it")
        run, paths = first, rest
    elif first.suffix.lower() not in SUFFIXES and not first.is_dir():
        if not first.exists():
            raise UserError(f"there is no run, and no image, {first}; check the path")
        try:
            image_header(first)
        except UserError as error:
            raise UserError(f"{first} is no run folder, no .safetensors checkpoint and no picture ({error})") from None
    images = [image for path in paths for image in _pictures(path, first)]
    return run, list(dict.fromkeys(images))


def _is_model(path):
    """A checkpoint, or a run folder, even a damaged one: its figures are no pictures to label."""
    if path.is_dir():
        return (path / "config.json").exists() or any(path.glob("*.safetensors"))
    return path.suffix.lower() == ".safetensors"


def _pictures(path, first):
    """The pictures that a path of the command line means."""
    if _is_model(path):
        raise UserError(f"{path} is a model; name one, before the pictures")
    if not path.is_dir():
        return [path]
    found = pictures_in(path, notes := [])
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if found:
        return found
    kind = "is not a run (it has no config.json), and holds no picture" if path == first else "holds no picture"
    raise UserError(f"{path} {kind} with one of the suffixes {', '.join(sorted(SUFFIXES))}")


def targets_for(images, out, overwrite=False):
    """{path: where its labels and its overlay are written}.

    Raises
    ------
    UserError
        If two images would be written to the same files, or a result would take the place of an image, of a file that
        is there (unless `overwrite`), or of something that is no file.
    """
    targets, taken = {}, {}
    for path in images:
        # where "A" and "a" are one name, or two spellings of an accent, the second would overwrite the first
        other = taken.setdefault(unicodedata.normalize("NFC", path.stem).casefold(), path)
        if other != path:
            raise UserError(
                f"{other} and {path} would both be written as {path.stem}-labels.png: label them one by one, with "
                "different --out"
            )
        targets[path] = [out / f"{path.stem}-{kind}.png" for kind in ("labels", "overlay")]
    inputs = {path.resolve(): path for path in images}
    for target in (target for pair in targets.values() for target in pair if os.path.lexists(target)):
        if target.resolve() in inputs:
            raise UserError(f"{target} is one of the pictures, and a result would overwrite it: give another --out")
        if target.exists() and not target.is_file():
            raise UserError(f"{target} is in the way of a result, and no regular file: give another --out")
        if not overwrite:
            raise UserError(f"{target} is there already: give another --out, or --overwrite to replace such results")
    return targets


def shares(label, classes):
    """What fills how much of a picture, the largest first."""
    found = sorted((((label == i).mean(), name) for i, name in enumerate(classes)), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in found if share >= 0.005)
