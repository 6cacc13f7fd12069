"""Findings about the splits: classes that are not trained or not measured, and images that are in both."""

import numpy as np

from ...errors import UserError
from ..divide import divide
from .finding import ERROR, NOTE, WARNING, Finding, number, some
from .similar import duplicates, near_duplicates

SHARE, SEEDS = 0.2, 100  # the split that is proposed: its share for validation, and how many are tried
FEW = 5  # validation images; with fewer, scores depend on chance


def about_classes(samples, classes):
    """Findings about classes without pixels in a split.

    Parameters
    ----------
    samples : list of (str, str, ndarray of int)
        Name and split of each sample, and its number of pixels of each class, (C,) or longer.
    classes : sequence of str

    Returns
    -------
    list of Finding
    """
    there = {}
    for _, split, counts in samples:
        there.setdefault(split, set()).update(np.flatnonzero(counts[: len(classes)]).tolist())
    everywhere = set().union(*there.values())
    if not everywhere:
        return []
    found = []
    if absent := set(range(len(classes))) - everywhere:
        what, why = (
            f"no mask has a pixel of {name_classes(absent, classes)}",
            "it cannot be learned, and means over classes leave it out",
        )
        found.append(Finding(WARNING, what, why, flags=("--ids", ",".join(map(str, sorted(everywhere))))))
    train, val = there.get("train"), there.get("val")
    if train is None or val is None:
        return found
    for level, only, one, other, why in (
        (WARNING, val - train, "validation", "training", "it cannot be learned, and its IU of 0 counts in the mean"),
        (NOTE, train - val, "training", "validation", "it is learned, but not measured"),
    ):
        if only:
            flags = _covering([(name, counts[: len(classes)] > 0) for name, _, counts in samples])
            advice = "" if flags else "label more images of it"
            what = f"in the {one} split, but not in the {other} split: {name_classes(only, classes)}"
            found.append(Finding(level, what, why, flags=flags, advice=advice))
    return found


def name_classes(ids, classes):
    """Classes in a message: their ids with their names."""
    return some([classes[k] if classes[k] == f"class {k}" else f"class {k} ({classes[k]})" for k in sorted(ids)])


def _covering(samples):
    """The flags of a random split with every class in both parts, or at least in the training part; () without one."""
    names = [name for name, _ in samples]
    holds = dict(samples)
    everything = np.any([*holds.values()], axis=0)
    fair = ()
    for seed in range(SEEDS):
        try:
            parts = divide(names, SHARE, seed)
        except UserError:  # a single image
            return ()
        covered = [
            (np.any([holds[name] for name in parts[part]], axis=0) == everything).all() for part in ("train", "val")
        ]
        if covered[0] and (covered[1] or not fair):
            fair = ("--val", str(SHARE), "--seed", str(seed))
            if covered[1]:
                break
    return fair


def about_splits(facts, divided):
    """Findings about the images of the training and the validation split.

    Parameters
    ----------
    facts : list of Facts
    divided : bool
        Whether the data set has splits of its own.

    Returns
    -------
    list of Finding
    """
    splits = {}
    for f in facts:
        if f.sample.whole:
            splits.setdefault(f.sample.split, []).append(f)
    found, missing = [], {"train", "val"} - splits.keys()
    several = divided and sum(map(len, splits.values())) > 1
    if missing and splits:
        found.append(
            Finding(
                ERROR, f"there is no split {some(sorted(missing))}, only {some(list(splits))}",
                "a training needs images to learn from, and others to measure with",
                flags=("--val", str(SHARE)) if several else (), advice="" if several else "label more images",
            )
        )  # fmt: skip
    elif splits and len(splits["val"]) < FEW:
        found.append(
            Finding(
                WARNING, f"only {number(len(splits['val']), 'image')} for validation",
                "scores then depend on chance: the next image could change them by several percent",
                advice="label more images, or compare only runs that differ by much",
            )
        )  # fmt: skip
    return [*found, *_same(splits), *_nearly(splits, divided)]


def _same(splits):
    seen = {split: [f for f in those if f.picture.header] for split, those in splits.items()}
    side = {f.sample.image: split for split, those in seen.items() for f in those}
    groups = duplicates(list(side))
    crossing = [path for group in groups if len({side[path] for path in group}) > 1 for path in group]
    if crossing:
        yield Finding(
            WARNING, f"{number(len(crossing), 'image')} of the same content in several splits",
            "the network is measured on images that it has learned", tuple(sorted(crossing)), ("--skip",),
        )  # fmt: skip
    inside = [path for group in groups if len({side[path] for path in group}) == 1 for path in group]
    if inside:
        yield Finding(
            WARNING, f"{number(len(inside), 'image')} of the same content in one split",
            "they count several times; if their masks differ, they contradict each other", tuple(inside), ("--skip",),
        )  # fmt: skip


def _nearly(splits, divided):
    train, val = ([f for f in splits.get(s, ()) if f.picture.thumb is not None] for s in ("train", "val"))
    if not train or not val:
        return
    pairs = near_duplicates(*(np.stack([f.picture.thumb for f in those]) for those in (val, train)))
    files = [(val[i].sample.image, train[j].sample.image) for i, j in pairs]
    files = [pair for pair in files if pair[0].stat().st_size != pair[1].stat().st_size or not duplicates(pair)]
    if files:
        why = "" if divided else " (every fifth image is for validation, which does not suit the frames of a video)"
        yield Finding(
            WARNING, f"{number(len(files), 'validation image')} almost the same as a training image{why}",
            "the network is measured on what it has learned, so its scores are too good",
            tuple(path for pair in files for path in pair), ("--val", str(SHARE), "--together"),
        )  # fmt: skip
