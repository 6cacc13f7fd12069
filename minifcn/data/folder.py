"""A user's own images and masks, read from a folder.

root/images/*.jpg   root/masks/*.png                        one set, divided into train and val here
root/train/images   root/train/masks   root/val/images ...  or divided by the user
root/classes.txt                                            optional: one class name a line
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import UserError
from .images import VOID, image_size, mask_size, read_image, read_mask
from .manifest import differences, fingerprint
from .palette import voc_colour_map

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


class Folder:
    """Images with masks of the same name (``images/cat.jpg``, ``masks/cat.png``).

    A mask is a palette or greyscale PNG whose pixel values are class ids; 255 is void.  Names and sizes are
    checked at once, from the files' headers; pixels when an image is asked for.

    Parameters
    ----------
    root : path-like
    split : str, optional
        With split folders, the name of one.  Without, "val" is every fifth image (in order of name) and
        "train" the others.  None is everything.
    samples : dict of {str: str}, optional
        A manifest: exactly these pictures, wherever `split` would put them now.

    Raises
    ------
    UserError
        Naming the file, if a mask is missing, damaged, in colours, of another size than its image, or holds
        a class that ``classes.txt`` does not name; if there are no images, or only one class; if a picture of
        `samples` is missing or has changed.
    """

    def __init__(self, root, split=None, samples=None):
        self.root, self.split = Path(root), split
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root}; give the folder that holds images/ and masks/")
        self.pairs = self._find_pairs(split if samples is None else None)
        if samples is not None:
            self._keep(samples)
        if not self.pairs:
            raise UserError(f"{self.root} has no images for split {split!r}; add some to its images/ folder")
        for image, mask in self.pairs:
            _require_same_size(image, image_size(image), mask, mask_size(mask))
        self.classes = self._find_classes()
        self.num_classes = len(self.classes)
        self.palette = voc_colour_map(self.num_classes)

    def _find_pairs(self, split):
        if (self.root / "images").is_dir():
            pairs = _pair(self.root)
            if split is None:
                return pairs
            if split not in ("train", "val"):
                raise UserError(f"{self.root} has no split {split!r}; choose train or val")
            return [pair for k, pair in enumerate(pairs) if (k % 5 == 0) == (split == "val")]
        splits = [images.parent for images in sorted(self.root.glob("*/images"))]
        if not splits:
            raise UserError(f"{self.root} has no images/ folder; put images in images/ and masks in masks/")
        if split is None:
            return [pair for folder in splits for pair in _pair(folder)]
        if self.root / split not in splits:
            names = ", ".join(folder.name for folder in splits)
            raise UserError(f"{self.root} has no split {split!r}; choose one of {names}")
        return _pair(self.root / split)

    def _keep(self, samples):
        """Leave out all pairs but those of a manifest."""
        self.pairs = [pair for name, pair in zip(self._names(), self.pairs) if name in samples]
        if changes := differences(samples, self.manifest()):
            raise UserError(f"the pictures of {self.root} are not those that were to be used: {'; '.join(changes)}")

    def _names(self):
        return [image.relative_to(self.root).as_posix() for image, _ in self.pairs]

    def manifest(self):
        """{path of the image from the root: fingerprint of both files}: see `minifcn.data.manifest`."""
        return dict(self._manifest)

    @cached_property
    def _manifest(self):
        return {name: fingerprint(*pair) for name, pair in zip(self._names(), self.pairs)}

    def _find_classes(self):
        listing = self.root / "classes.txt"
        if listing.is_file():
            names = listing.read_text(encoding="utf-8-sig").strip().splitlines()
            names = tuple(name.strip() for name in names)
            if not all(names) or not 2 <= len(names) <= VOID:
                raise UserError(
                    f"{listing} must name 2 to {VOID} classes, one a line without gaps; it has {len(names)}"
                )
            return names
        # every mask of every split is read, so that train and val agree on the number of classes
        masks = [*self.root.glob("masks/*.png"), *self.root.glob("*/masks/*.png")]
        present = np.zeros(256, bool)
        for mask in masks:
            present[read_mask(mask)] = True
        ids = np.flatnonzero(present[:VOID])
        if not ids.any():
            raise UserError(
                f"the masks of {self.root} hold no class but 0, and {VOID} means void; "
                "a foreground must have the id 1 (or name the classes in classes.txt)"
            )
        return tuple(f"class {k}" for k in range(ids.max() + 1))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        image_path, mask_path = self.pairs[i]
        image, label = read_image(image_path), read_mask(mask_path)
        _require_same_size(image_path, image.shape[:2], mask_path, label.shape)
        unknown = label[(label >= self.num_classes) & (label != VOID)]
        if unknown.size:
            raise UserError(
                f"mask {mask_path} holds class {unknown.max()}; with {self.num_classes} classes "
                f"ids must lie in 0..{self.num_classes - 1}, or be {VOID} for void"
            )
        return image, label

    def __repr__(self):
        return f"Folder({str(self.root)!r}, {self.split!r}, {len(self)} images, {self.num_classes} classes)"


def _pair(folder):
    """The (image, mask) paths of one folder, in order of name."""
    images = [path for path in sorted((folder / "images").iterdir()) if path.suffix.lower() in SUFFIXES]
    pairs = {}
    for image in images:
        if image.stem in pairs:
            raise UserError(f"{image} and {pairs[image.stem][0].name} share one mask; rename or remove one of them")
        mask = folder / "masks" / f"{image.stem}.png"
        if not mask.is_file():
            raise UserError(f"image {image} has no mask; expected {mask}")
        pairs[image.stem] = (image, mask)
    return list(pairs.values())


def _require_same_size(image, image_shape, mask, mask_shape):
    if image_shape != mask_shape:
        raise UserError(
            f"mask {mask} is {mask_shape[0]}x{mask_shape[1]} but image {image} is "
            f"{image_shape[0]}x{image_shape[1]} (height x width); they must be of the same size"
        )
