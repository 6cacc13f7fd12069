"""Findings about files: what is missing, damaged, of another size, turned, transparent, tiny, or not used."""

from ..images import CONVERT
from ..layouts.files import namesakes
from .finding import ERROR, NOTE, WARNING, Finding, number

TINY = 32  # pixels; a net of stride 8 has four cells there
SEEN = 0.001  # the share of transparent pixels from which it is a finding
LYING = range(5, 9)  # the EXIF orientations that exchange height and width
COLOURS = {"RGB", "RGBA", "P", "CMYK"}  # modes of images in colours


def about_files(contents, facts):
    """Findings about the files of a folder, with the `facts` of its samples."""
    whole = [f for f in facts if f.picture and f.mask]
    return [
        *_partners(contents.samples),
        *_damaged(facts),
        *_sixteen_bits(facts),
        *_sizes(whole),
        *_stated(facts),
        *_looks(facts),
        *_unused(contents),
    ]


def _partners(samples):
    if lone := [s.image for s in samples if s.image and not (s.mask or s.draw)]:
        what, why = f"{number(len(lone), 'image')} without a mask", "training needs a label for every image"
        beside = [path for path in namesakes(lone[0].parent) if path.name != "masks"]
        if beside and not any(s.whole for s in samples):
            advice = f"if the masks are in {beside[0].name}/, which has files of the same names, rename it to masks"
            yield Finding(ERROR, what, why, tuple(lone), advice=advice)
        else:
            yield Finding(ERROR, what, why, tuple(lone), ("--skip",))
    if lone := [s.mask for s in samples if s.mask and not s.image]:
        what = f"{number(len(lone), 'mask')} without an image"
        yield Finding(NOTE, what, "they are not used", tuple(lone), ("--skip",))
    if several := [path for s in samples if len(s.images) > 1 or len(s.masks) > 1 for path in (*s.images, *s.masks)]:
        why, advice = "nothing says which ones belong together", "keep one image and one mask of each name"
        yield Finding(ERROR, "several images or masks of the same name", why, tuple(several), advice=advice)


def _damaged(facts):
    bad = {f.sample.image: f.picture.trouble for f in facts if f.picture and f.picture.thumb is None}
    bad = {path: trouble for path, trouble in bad.items() if "16-bit values" not in trouble}
    bad |= {
        (f.sample.mask or f.sample.image): f.mask.trouble
        for f in facts
        if f.mask and f.mask.counts is None and not f.mask.others
    }
    if bad:
        what = f"{number(len(bad), 'file')} that cannot be read"
        yield Finding(ERROR, what, f"training would stop there: {next(iter(bad.values()))}", tuple(bad), ("--skip",))


def _sixteen_bits(facts):
    dark = [f for f in facts if f.picture and "16-bit values" in f.picture.trouble]
    if dark:
        known = all(f.picture.white for f in dark)
        yield Finding(
            ERROR, f"{number(len(dark), 'image')} of 16 bits whose values stay below half of white",
            "nothing says whether it holds 10, 12 or 14 bits; read as 16 bits, it would be almost black",
            tuple(f.sample.image for f in dark), ("--white", str(max(f.picture.white for f in dark))) * known,
            "" if known else CONVERT,
        )  # fmt: skip


def _sizes(whole):
    """Pairs of different sizes or orientations."""
    other, scaled, turned, unknown = [], [], [], []
    for f in whole:
        if not (f.picture.header and f.mask.header):
            continue
        size, orientation = f.picture.header.size, f.picture.header.orientation
        if size != f.mask.header.size:
            (h, w), (height, width) = size, f.mask.header.size
            alone = (h, w) == (width, height) and (orientation in LYING) != (f.mask.header.orientation in LYING)
            alike = abs(h * width - w * height) <= max(w, h)  # the same proportions, but for rounding
            (turned if alone else scaled if alike else other).append(f)
        elif f.mask.header.orientation not in range(2, 9) and orientation in (
            range(2, 9) if size[0] == size[1] else range(2, 5)
        ):
            unknown.append(f)
    for those, what, why, flags in (
        (other, "of different proportions", "the mask belongs to another image, or to a part of it", ("--skip",)),
        (scaled, "of different sizes", "pixels and labels do not correspond", ("--fit-masks",)),
        (turned, "of which one has an EXIF orientation, and the sizes show that the other is not turned",
         "the labels would lie on their side", ("--turn-masks",)),
        (unknown, "of which the image has an EXIF orientation, and the mask none",
         "a mask that was drawn on the stored image is upside down, and the sizes do not show it; if the sheet shows "
         "that the mask is upright, give --no-turn-masks", ("--turn-masks",)),
    ):  # fmt: skip
        if those:
            files = tuple(path for f in those for path in (f.sample.image, f.sample.mask) if path)
            yield Finding(ERROR, f"{number(len(those), 'pair')} {what}", why, files, flags)


def _stated(facts):
    """Images of another size than their annotations say."""
    other = [f for f in facts if f.sample.size and f.picture and f.picture.header]
    other = [f.sample.image for f in other if tuple(f.sample.size) != f.picture.header.size]
    if other:
        what = f"{number(len(other), 'image')} of another size than the annotations say"
        why, advice = "the shapes would lie elsewhere", "put back the images that were annotated, or annotate these"
        yield Finding(ERROR, what, why, tuple(other), advice=advice)


def _looks(facts):
    seen = [f for f in facts if f.picture and f.picture.header]
    if tiny := [f.sample.image for f in seen if min(f.picture.header.size) < TINY]:
        what = f"{number(len(tiny), 'image')} with a side of less than {TINY} pixels"
        why = "a network of stride 8 to 32 has only a few cells there"
        yield Finding(WARNING, what, why, tuple(tiny), ("--size", str(4 * TINY)))
    if clear := [f.sample.image for f in seen if f.picture.hidden > SEEN]:
        what, why = f"{number(len(clear), 'image')} with transparent pixels", "colours that nobody sees are learned"
        yield Finding(WARNING, what, why, tuple(clear), ("--background", "ffffff"))
    grey = [f.sample.image for f in seen if f.picture.header.mode not in COLOURS]
    if 0 < len(grey) < len(seen):
        what, why = f"{number(len(grey), 'grey image')} among images in colours", "grey is read as red = green = blue"
        yield Finding(NOTE, what, why, tuple(grey), advice="nothing, if the network is to label grey images, too")


def _unused(contents):
    if contents.unused:
        what = f"{number(len(contents.unused), 'file')} or sub-folders not used"
        why = "only files named as images, in images/ and masks/, are read"
        yield Finding(NOTE, what, why, tuple(contents.unused), advice="move images out of sub-folders")
    if contents.litter:
        what = f"{number(len(contents.litter), 'file')} of an operating system"
        yield Finding(NOTE, what, "they are not read", tuple(contents.litter), advice="nothing; or convert")
