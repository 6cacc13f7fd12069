"""The samples of a folder, with what a check has found cured: the source of ``minifcn.data convert`` with its flags."""

import re
import warnings

import numpy as np
from PIL import Image, ImageColor

from ...arrays.types import Array
from ...errors import Note, UserError
from ..deep import read_whitened
from ..images import VOID, as_rgb, file_header, opened
from ..layouts import Recognised
from ..layouts.base import as_names
from ..palette import voc_colour_map
from .colours import colours_of
from .files import contents
from .finding import number, some
from .names import about_names, about_table
from .similar import duplicates
from .survey import survey, values_of

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What turns a stored picture upright, by its EXIF orientation."""
BACK = TURNS | {6: TURNS[8], 8: TURNS[6]}
"""What turns an upright picture back into the stored one."""


class Mended:
    """A data set of the samples in a folder of any layout, read as the arguments say.

    Parameters
    ----------
    known : Recognised
        The folder and its layout.
    ids : text, optional
        The values in the masks that are classes 0, 1, 2 …, with commas.  Any other value but 255 is an error.
    nearest : bool
        Whether other values, from soft edges or JPEG, become the nearest of `ids`.
    binary : int, optional
        Values from here on are class 1, the others class 0.
    void : int, optional
        The value in the masks that means void, besides 255.
    names : text, optional
        The names of the classes, with commas.
    white : int, optional
        The value of white in images of 16 bits, such as 4095.
    background : str, optional
        The colour under transparent pixels, such as ``ffffff``.
    turn_masks : bool
        Whether masks without an EXIF orientation are turned as their image is; by default they are upright already.
    fit_masks : bool
        Whether masks of another size are brought to that of their image, each pixel from the nearest one.
    skip : bool
        Whether samples that cannot be used, or teach nothing, are left out; a note names them.
    palettes : bool
        Whether masks with palettes are read by their colours, not by their ids.

    Raises
    ------
    UserError
        If two arguments exclude each other, or if there is no sample.
    """

    def __init__(
        self, known: Recognised, ids: str | None = None, nearest: bool = False, binary: int | None = None,
        void: int | None = None, names: str | None = None, white: int | None = None, background: str | None = None,
        turn_masks: bool = False, fit_masks: bool = False, skip: bool = False, palettes: bool = False,
    ) -> None:  # fmt: skip
        if ids is not None and binary is not None:
            raise UserError("--ids and --binary exclude each other; give one of them")
        if nearest and ids is None:
            raise UserError("--nearest needs --ids: the values that are classes")
        self.ids = None if ids is None else _numbers(ids)
        self.nearest, self.binary, self.void = nearest, binary, void
        self.white, self.turn_masks, self.fit_masks = white, turn_masks, fit_masks
        self.palettes, self.colours = palettes, None
        self.background = None if background is None else _colour(background)
        there = contents(known)
        self.root = there.root
        self.repaints = white is not None or background is not None  # the files of images are not to be copied
        samples = there.samples
        if there.classes is None:
            self.colours = colours_of(there.folder, [s.mask for s in samples if s.mask], palettes)
        if skip:
            samples = self._usable(samples)
        elif alone := [sample for sample in samples if not sample.whole and sample.image]:
            raise UserError(f"image {alone[0].image} has no mask; --skip leaves out samples that cannot be used")
        samples = [sample for sample in samples if sample.whole]
        self.splits = {s: [x.name for x in samples if x.split == s] for s in dict.fromkeys(x.split for x in samples)}
        self.splits = {k: names for k, names in self.splits.items() if k != "unused"} if there.divided else {}
        self.samples = samples
        if not self.samples:
            raise UserError(f"{self.root} has no samples that can be used; python -m minifcn.data check says why")
        self.names = [sample.name for sample in self.samples]
        self.files = [sample.image for sample in self.samples]
        self.classes = tuple(self._named(there) if names is None else as_names(names.split(",")))
        self.num_classes = len(self.classes)
        self.palette = self._coloured(there)

    def _named(self, there):
        """The names of the classes, without those that `ids` leaves out."""
        names = there.classes or (self.colours and self.colours.classes) or about_names(there.folder / "classes.txt")[0]
        if not names and there.name == "folder" and (table := about_table(there.folder / "colours.txt")[0]):
            names = table.classes
        if self.binary is not None:
            return names if names and len(names) == 2 else ("background", "foreground")
        if self.ids is not None:
            return [names[v] if names and v < len(names) else f"class {k}" for k, v in enumerate(self.ids)]
        if names:
            return names
        largest = max(int(label[label != VOID].max(initial=0)) for label in map(self._label, self.samples))
        return [f"class {k}" for k in range(max(largest + 1, 2))]

    def _coloured(self, there):
        """The colours of the classes: those of the source if they are its classes, in their order."""
        table = self.colours or about_table(there.folder / "colours.txt")[0]
        palette = table.palette if table and table.classes == self.classes else None
        return voc_colour_map(self.num_classes) if palette is None else palette

    def _usable(self, samples):
        """The samples that can be used; a note names the others."""
        why = {}
        facts = list(survey(samples))
        twins = duplicates([f.sample.image for f in facts if f.picture and f.picture.header])
        twice = {path for group in twins for path in group[1:]}
        for f in facts:
            if reason := "a copy" * (f.sample.image in twice) or self._trouble(f):
                why.setdefault(reason, []).append(f.sample.name)
        for reason, names in why.items():
            warnings.warn(f"left out {number(len(names), 'sample')}: {reason} ({some(names)})", Note, stacklevel=3)
        left = {name for names in why.values() for name in names}
        return [sample for sample in samples if sample.name not in left]

    def _trouble(self, f):
        """Why a sample cannot be used, or teaches nothing; empty if it can."""
        if not f.sample.whole:
            return "no mask" if f.sample.image else "no image"
        if len(f.sample.images) > 1 or len(f.sample.masks) > 1:
            return "several files of this name"
        if f.picture.trouble and not (self.white and f.picture.white):
            return "the image cannot be read"
        try:
            label = self._label(f.sample)
        except UserError:
            return "the mask cannot be read"
        if label.shape != f.picture.header.size:
            return "image and mask have different sizes"
        return "" if (label != VOID).any() else "nothing but void"

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        sample = self.samples[i]
        return self._image(sample.image), self._label(sample)

    def _image(self, path):
        with opened(path) as image:
            if (
                self.background
                and "A" in image.convert("RGBA" if "transparency" in image.info else image.mode).getbands()
            ):
                under = Image.new("RGBA", image.size, (*self.background, 255))
                under.alpha_composite(image.convert("RGBA"))
                return as_rgb(path, under)
            return read_whitened(path, self.white) if self.white else as_rgb(path, image)

    def _label(self, sample):
        """The label of a sample, uint8 (H, W), in the size of its image if the arguments say so."""
        header = file_header(sample.image)
        if sample.draw:
            return self._renumbered(sample.draw(header.size), sample.name)
        values = values_of(sample.mask)
        if values.ndim == 3 or self.colours is not None:
            if self.colours is None:
                raise UserError(f"mask {sample.mask} is in colours, but others are not; save all alike")
            values = self.colours.ids(sample.mask)
        elif self.turn_masks:
            values = _turned(values, header, file_header(sample.mask))
        if self.fit_masks and values.shape != header.size:
            values = np.asarray(Image.fromarray(values).resize(header.size[::-1], Image.Resampling.NEAREST))
        return self._renumbered(values, sample.mask)

    def _renumbered(self, values, name):
        """The class ids for the values in a mask."""
        if self.binary is not None:
            label = (values >= self.binary).astype(np.uint8)
        elif self.ids is not None:
            meaning = {VOID: VOID} | {value: k for k, value in enumerate(self.ids)}
            if self.void is not None:
                meaning[self.void] = VOID
            known = np.array(sorted(meaning))
            place = np.searchsorted((known[1:] + known[:-1]) / 2, values)
            other = known[place] != values
            if other.any() and not self.nearest:
                raise UserError(
                    f"mask {name} holds {some(np.unique(values[other]).tolist())}, not one of --ids "
                    f"{','.join(map(str, self.ids))}: add it, or give --nearest"
                )
            label = np.array([meaning[value] for value in known], np.uint8)[place]
        else:
            if values.dtype != np.uint8:
                raise UserError(f"mask {name} holds values beyond 255; say with --ids which ones are the classes")
            label = values
        return label if self.void is None else np.where(values == self.void, np.uint8(VOID), label)


def _turned(values, picture, mask):
    """A mask turned as its image is, if only one of the two has an EXIF orientation."""
    turned, mask_turned = picture.orientation in TURNS, mask.orientation in TURNS  # other values mean nothing
    if turned and not mask_turned:
        return np.asarray(Image.fromarray(values).transpose(TURNS[picture.orientation]))
    if mask_turned and not turned:
        return np.asarray(Image.fromarray(values).transpose(BACK[mask.orientation]))
    return values


def _numbers(text):
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"\d{1,5}", word) for word in words) or len(set(words)) < len(words) or len(words) > VOID:
        raise UserError(f"--ids {text} are not up to {VOID} different whole numbers with commas, such as 0,50,200")
    return [int(word) for word in words]


def _colour(text):
    try:
        return ImageColor.getrgb(text if text.isalpha() and len(text) not in (3, 6) else f"#{text.lstrip('#')}")[:3]
    except ValueError:
        raise UserError(f"--background {text} is no colour; give six digits, such as ffffff for white") from None
