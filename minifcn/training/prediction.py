"""The inputs and outputs of ``python -m minifcn.predict``: find the model, the images, and the paths of the results."""

import os
import sys
import unicodedata
from pathlib import Path

from ..data.bands import RGB, false_colour
from ..data.folder import SUFFIXES, images_in
from ..data.images import image_header
from ..data.palette import voc_colour_map
from ..errors import UserError
from ..models.inference import image_of, reads_photographs


def labels_of(model, image, path):
    """The labels that a model predicts for an image; UserError if there is not enough memory."""
    try:
        return model.predict(image)
    except MemoryError:
        height, width = image.shape[:2]
        raise UserError(
            f"{path} is {height}x{width} (height x width), which is too large for the memory; cut it into tiles or "
            "make it smaller"
        ) from None


def run_and_images(paths):
    """The path of the run folder or checkpoint (None: use the package's model), and the paths of the images.

    The first path is a run folder, a checkpoint, an image or a folder of images.  Any other path is an error, because
    a misspelt path must not select the default model.
    """
    first, *rest = paths = [Path(path) for path in paths]
    run = None
    if _is_model(first):
        if not rest:
            raise UserError(f"{first} is a model, and no image is given; name the images to label after it")
        run, paths = first, rest
    elif first.suffix.lower() not in SUFFIXES and not first.is_dir():
        if not first.exists():
            raise UserError(f"there is no run folder and no image {first}; check the path")
        try:
            image_header(first)
        except UserError as error:
            raise UserError(
                f"{first} is not a run folder, a .safetensors checkpoint or an image ({error}); give one of these"
            ) from None
    images = [image for path in paths for image in _images(path, first)]
    return run, list(dict.fromkeys(images))


def _is_model(path):
    """Whether a path is a checkpoint or a run folder, even a damaged one: its figures are no images to label."""
    if path.is_dir():
        return (path / "config.json").exists() or any(path.glob("*.safetensors"))
    return path.suffix.lower() == ".safetensors"


def _images(path, first):
    """The images at a path of the command line, which is an image or a folder of images."""
    if _is_model(path):
        raise UserError(f"{path} is a model; give only one model, before the images")
    if not path.is_dir():
        return [path]
    found = images_in(path, notes := [])
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if found:
        return found
    kind = "is not a run folder (it has no config.json), and holds no image" if path == first else "holds no image"
    raise UserError(f"{path} {kind} with one of the suffixes {', '.join(sorted(SUFFIXES))}; give another path")


def targets_for(images, out, overwrite=False):
    """{path of an image: [path of its labels, path of its overlay]}.

    Raises
    ------
    UserError
        If two images would have the same result files, or if a result would replace an input image, an existing file
        (unless `overwrite`), or something that is not a regular file.
    """
    targets, taken = {}, {}
    for path in images:
        # On file systems that ignore case or normalise accents, names that differ only in these are the same file.
        other = taken.setdefault(unicodedata.normalize("NFC", path.stem).casefold(), path)
        if other != path:
            raise UserError(
                f"{other} and {path} would both be written as {path.stem}-labels.png: label them in separate calls, "
                "with different folders for the results (--out)"
            )
        targets[path] = [out / f"{path.stem}-{kind}.png" for kind in ("labels", "overlay")]
    inputs = {path.resolve(): path for path in images}
    for target in (target for pair in targets.values() for target in pair if os.path.lexists(target)):
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


def labelled(model, path, note):
    """The picture of an image file, uint8 (H, W, 3), and its labels; ``note(text)`` says which pages are left out."""
    if (pages := image_header(path).pages) > 1 and reads_photographs(model):
        note(f"note: {path} has {pages} pages or frames; only the first is labelled")
    image = image_of(model, path)
    return false_colour(image, model.bands or RGB), labels_of(model, image, path)


def names_and_colours(model):
    """The names and the colours of a model's classes; numbers and Pascal VOC's colours if it has seen no data set."""
    names = model.classes or [f"class {i}" for i in range(model.num_classes)]
    return names, voc_colour_map(model.num_classes) if model.palette is None else model.palette


def shares(label, classes):
    """The share of each class in an image as text, the largest first; shares below 0.5 % are left out."""
    found = sorted((((label == i).mean(), name) for i, name in enumerate(classes)), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in found if share >= 0.005)
