"""The findings that matter before a training, from the labels that it has read anyway."""

from ..masks import histogram
from .finding import WARNING, Finding
from .splits import about_classes, name_classes
from .values import about_ids


def before_training(train, val, counts=None):
    """Findings about the labels of two splits.

    Parameters
    ----------
    train, val : data set
        The masks of `minifcn.data.Folder` have been read by its constructor.  Other data sets have not read those of
        `val` yet, and they are not read twice: only classes without a training pixel are found then.
    counts : ndarray of int, (n, C), optional
        The pixels of each class in each training image.

    Returns
    -------
    list of Finding
    """
    if hasattr(train, "pairs") and hasattr(val, "pairs"):
        counted = {mask: histogram(mask) for data in (train, val) for _, mask in data.pairs}
        samples = [
            (image.relative_to(data.root).as_posix(), split, counted[mask])
            for split, data in (("train", train), ("val", val))
            for image, mask in data.pairs
        ]
        named = about_classes(samples, train.classes)
        return [
            *about_ids(counted, train.classes),
            *(f for f in named if "no mask" not in f.what),
        ]  # Folder names those
    absent = [] if counts is None else (counts.sum(axis=0) == 0).nonzero()[0].tolist()
    if not absent:
        return []
    what = f"no training image has a pixel of {name_classes(absent, train.classes)}"
    return [Finding(WARNING, what, "it cannot be learned", advice="choose other images for training, or label more")]
