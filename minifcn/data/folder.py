"""The user's images and masks, read from a folder.

root/images/*.jpg   root/masks/*.png                        one set; `Folder` divides it into train and val
root/train/images   root/train/masks   root/val/images ...  or one folder for each split
root/train.txt      root/val.txt                            optional: lists of names that divide one set
root/classes.txt                                            optional: one class name a line
root/colours.txt                                            optional: "128 64 0 road", a colour and a name a line
root/bands.txt                                              optional: one band name a line, for images of any channels
"""

import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ..arrays.types import Array
from ..errors import Note, UserError
from .bands import choose
from .colours import read_table
from .divide import listed_splits, unlisted
from .images import VOID, band_bits, image_header, mask_header, read_bands, read_image, read_mask
from .manifest import differences, fingerprint, some
from .masks import count_classes, histogram, require_labels
from .names import read_classes
from .palette import voc_colour_map

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
MASKS = {".png", ".tif", ".tiff", ".bmp", ".gif"}  # formats that store every value unchanged


class Folder:
    """Images with masks of the same name (``images/cat.jpg``, ``masks/cat.png``).

    A mask is a palette or greyscale PNG, TIFF, BMP or GIF whose pixel values are class ids; 255 is void.  The
    constructor checks names, sizes and the ids of all masks; the pixels of an image are read when the sample is
    requested.  A warning names the files that are not used: images in sub-folders, masks without an image, files of
    other kinds.  If there is a ``bands.txt``, images have its bands, and their values of 8 or 16 bits
    are used as stored.

    Parameters
    ----------
    root : path-like
    split : str, optional
        If `root` has split folders, or lists of names such as ``train.txt``, the name of one.  If it has none, "val"
        is every fifth image (in order of name) and "train" the others.  None means all samples.
    samples : dict of {str: str}, optional
        A manifest: use exactly these samples, even if `split` would now select others.
    bands : sequence of str, or text with commas, optional
        Some of the bands in ``bands.txt``, in any order; by default all.
    classes : sequence of str, optional
        The names of the classes if there is no ``classes.txt``; by default the ids in the masks are counted.

    Attributes
    ----------
    splits : dict of {str: list of str}
        The names of the samples in each split folder or list; empty if there are none.

    Raises
    ------
    UserError
        If a mask is missing, damaged, in colours, of another size than its image, or holds a class that
        ``classes.txt`` does not name (the message names the file); if there are no images, or only one class; if
        a sample of `samples` is missing or has changed.
    """

    def __init__(
        self, root: str | Path, split: str | None = None, samples: Mapping[str, str] | None = None,
        bands: Sequence[str] | str | None = None, classes: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.root, self.split = Path(root), split
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root}; give the folder that holds images/ and masks/")
        self.notes: list[str] = []
        self.pairs = self._find_pairs(split if samples is None else None)
        if samples is not None:
            self._keep(samples)
        if not self.pairs:
            raise UserError(f"{self.root} has no images for split {split!r}; add some to its images/ folder")
        if (self.root / "bands.txt").exists():
            self.stored = read_classes(self.root / "bands.txt", ("band", "bands"), least=1)
            self.bands = choose(bands or self.stored, self.stored)
            self._require_same_bits()
        elif bands:
            raise UserError(f"{self.root} has no bands.txt; write the names of its images' channels there, one a line")
        self.sizes = [_matching_size(image, mask) for image, mask in self.pairs]
        self.classes = self._find_classes(classes)
        self.num_classes = len(self.classes)
        self.palette = self._find_palette()
        for note in self.notes:
            warnings.warn(note, Note, stacklevel=2)

    def _find_pairs(self, split):
        if (self.root / "images").is_dir():
            pairs = _pair(self.root, self.notes)
            names = [_name(image, self.root) for image, _ in pairs]
            self.splits = listed_splits(self.root, names)
            self.notes += unlisted(self.root, names, self.splits)
            if split is None:
                return pairs
            if split not in (self.splits or ("train", "val")):
                choices = " or ".join(self.splits or ("train", "val"))
                raise UserError(f"{self.root} has no split {split!r}; choose {choices}")
            if self.splits:
                return [pair for name, pair in zip(names, pairs) if name in set(self.splits[split])]
            return [pair for k, pair in enumerate(pairs) if (k % 5 == 0) == (split == "val")]
        splits = self._split_folders()
        if not splits:
            raise UserError(f"{self.root} has no images/ folder; put images in images/ and masks in masks/")
        found = {folder.name: _pair(folder) for folder in splits}
        self.splits = {name: [_name(image, self.root) for image, _ in pairs] for name, pairs in found.items()}
        if split is None:
            return [pair for folder in splits for pair in _pair(folder, self.notes)]
        if self.root / split not in splits:
            names = ", ".join(folder.name for folder in splits)
            raise UserError(f"{self.root} has no split {split!r}; choose one of {names}")
        return _pair(self.root / split, self.notes)

    def _keep(self, samples):
        """Keep only the pairs that the manifest `samples` names; UserError if one is missing or has changed."""
        self.pairs = [pair for name, pair in zip(self.names, self.pairs) if name in samples]
        if changes := differences(samples, self.manifest()):
            raise UserError(f"the images in {self.root} are not those that the run used: {'; '.join(changes)}")

    def _require_same_bits(self):
        """Raise UserError unless all images have the bands of bands.txt, with the same number of bits."""
        bits = {image: band_bits(image, len(self.stored)) for image, _ in self.pairs}
        first = next(iter(bits))
        if others := [image for image in bits if bits[image] != bits[first]]:
            raise UserError(f"{first} has {bits[first]} bits a band, but {others[0]} {bits[others[0]]}; save all alike")

    @property
    def names(self) -> list[str]:
        """The paths of the images below the root, with slashes."""
        return [_name(image, self.root) for image, _ in self.pairs]

    @property
    def files(self) -> list[Path]:
        """The files of the images."""
        return [image for image, _ in self.pairs]

    def manifest(self) -> dict[str, str]:
        """{path of the image, relative to the root: fingerprint of image and mask}: see `minifcn.data.manifest`."""
        return dict(self._manifest)

    @cached_property
    def _manifest(self):
        return {name: fingerprint(*pair) for name, pair in zip(self.names, self.pairs)}

    def _find_classes(self, given):
        listing, table = self.root / "classes.txt", self.root / "colours.txt"
        if given or listing.exists() or table.exists():
            listed = read_classes(listing) if listing.exists() else None
            names = listed or (read_table(table).classes if table.exists() else tuple(given))
            self._require_ids(names)
            return names
        # count over the masks of all splits, so that train and val have the same number of classes
        folders = [self.root] if (self.root / "images").is_dir() else self._split_folders()
        masks = [mask for folder in folders for _, mask in _pair(folder)]
        n, absent = count_classes({mask: histogram(mask) for mask in masks}, self.root)
        if absent:
            self.notes.append(
                f"no mask of {self.root} holds class {', '.join(map(str, absent))}; the largest class is {n - 1}, so "
                f"there are {n} classes"
            )
        return tuple(f"class {k}" for k in range(n))

    def _find_palette(self):
        """The colours of ``colours.txt``, or those of VOC; UserError if it names other classes than ``classes.txt``."""
        path = self.root / "colours.txt"
        if not path.exists():
            return voc_colour_map(self.num_classes)
        table = read_table(path)
        if table.classes != self.classes:
            raise UserError(f"{path} and classes.txt beside it name different classes; name the same, in one order")
        return table.palette

    def _split_folders(self):
        found = sorted(images.parent for images in self.root.glob("*/images"))
        return [folder for folder in found if not folder.name.startswith((".", "__MACOSX"))]

    def _require_ids(self, names):
        """Raise UserError if a mask holds an id beyond `names`; note the names that no pixel has."""
        total = 0
        for _, mask in self.pairs:
            counts = histogram(mask)
            if unknown := counts[len(names) : VOID].nonzero()[0].tolist():
                _refuse_class(mask, unknown[-1] + len(names), len(names))
            total = total + counts
        part = f"{self.root}" + (f", split {self.split!r}," if self.split else "")
        require_labels(total, part)
        absent = [name for k, name in enumerate(names) if not total[k]]
        if len(names) - len(absent) == 1 and total[0] and total[VOID]:
            raise UserError(
                f"the masks of {part} hold only class 0 ({names[0]}) and {VOID}, which means void; in the masks, give "
                "each class the number of its line in classes.txt, counted from 0"
            )
        if absent:
            self.notes.append(f"no pixel in the masks of {part} has the class {some(absent)}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        image_path, mask_path = self.pairs[i]
        if hasattr(self, "bands"):
            image = read_bands(image_path, len(self.stored))[..., [self.stored.index(band) for band in self.bands]]
        else:
            image = read_image(image_path)
        label = read_mask(mask_path)
        _require_same_size(image_path, image.shape[:2], mask_path, label.shape)
        unknown = label[(label >= self.num_classes) & (label != VOID)]
        if unknown.size:
            _refuse_class(mask_path, unknown.max(), self.num_classes)
        return image, label

    def __repr__(self) -> str:
        return f"Folder({str(self.root)!r}, {self.split!r}, {len(self)} images, {self.num_classes} classes)"


def _name(image, root):
    """The path of an image below the root, with slashes."""
    return image.relative_to(root).as_posix()


def _pair(folder, notes=None):
    """The (image, mask) paths of one folder, in order of name; sentences about unused files are added to `notes`.

    Without `notes`, for the folder of another split, an image that has no usable mask is skipped, not an error.
    """
    strict = notes is not None
    images, masks = images_in(folder / "images", notes), _masks(folder / "masks")
    pairs = {}
    for image in images:
        name = _plain(image.stem)
        if name in pairs:
            raise UserError(f"{image} and {pairs[name][0].name} share one mask; rename or remove one of them")
        found = masks.pop(name, [])
        exact = [mask for mask in found if mask.suffix.lower() in MASKS]
        if len(exact) == 1:
            pairs[name] = (image, exact[0])
        elif strict and exact:
            raise UserError(f"image {image} has several masks: {', '.join(m.name for m in exact)}; keep only one")
        elif strict and found:
            raise UserError(f"mask {found[0]} is in a format that may change class ids; save it as PNG")
        elif strict:
            raise UserError(f"image {image} has no mask; expected {folder / 'masks' / image.stem}.png")
    if strict and masks:
        left = [mask.name for found in masks.values() for mask in found]
        notes.append(f"{folder / 'masks'}: {len(left)} not used, for lack of an image ({some(left)})")
    return list(pairs.values())


def images_in(folder, notes=None):
    """The paths of the images in a folder, in order of name; a sentence about other files is added to `notes`."""
    images, unused = [], []
    for path in sorted(folder.iterdir(), key=lambda path: _plain(path.name)):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            images.append(path)
        elif not path.is_dir() or any(inside.suffix.lower() in SUFFIXES for inside in path.rglob("*")):
            unused.append(path.name + "/" * path.is_dir())
    if unused and notes is not None:
        kinds = ", ".join(sorted(SUFFIXES))
        notes.append(f"{folder}: {some(unused)} not used: only files named {kinds} are read, and no sub-folders")
    return images


def _masks(folder):
    """{name without suffix: files} of all files that may be masks."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in MASKS | SUFFIXES and not path.name.startswith("."):
            found.setdefault(_plain(path.stem), []).append(path)
    return found


def _plain(name):
    """A name in Unicode's composed form: macOS stores "é" as e and an accent, other systems as one character."""
    return unicodedata.normalize("NFC", name)


def _refuse_class(mask, unknown, count):
    raise UserError(
        f"mask {mask} holds class {unknown}; with {count} classes, ids must lie in 0..{count - 1}, or be {VOID} (void)"
    )


def _matching_size(image, mask):
    """(height, width) of an image and its mask; UserError if their sizes or their orientations differ."""
    picture = image_header(image)
    require_matching(image, picture, mask, mask_header(mask))
    return picture.size


def require_matching(image, picture, mask, labels):
    """Raise UserError if the sizes or the orientations of an image and its mask differ.

    Parameters
    ----------
    image : path-like
    picture : Header
        That of the image.
    mask : path-like
    labels : Header
        That of the mask.
    """
    _require_same_size(image, picture.size, mask, labels.size, picture.orientation)
    square = picture.size[0] == picture.size[1]
    if picture.orientation in (range(2, 9) if square else range(2, 5)) and labels.orientation == 1:
        raise UserError(
            f"image {image} has the EXIF orientation {picture.orientation}, mask {mask} has none, and their sizes do "
            "not show whether the mask is already turned; save both upright without an EXIF orientation"
        )


def _require_same_size(image, image_shape, mask, mask_shape, orientation=1):
    if image_shape != mask_shape:
        turned = f", turned by its EXIF orientation {orientation}" if orientation != 1 else ""
        raise UserError(
            f"mask {mask} is {mask_shape[0]}x{mask_shape[1]} but image {image} is "
            f"{image_shape[0]}x{image_shape[1]} (height x width{turned}); they must be of the same size"
        )
