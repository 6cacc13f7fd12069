"""The findings that matter before a training, from the masks that it has read anyway."""

from ..masks import histogram
from .splits import about_classes
from .values import about_ids


def before_training(train, val):
    """Findings about the masks of two splits whose files are known.

    Parameters
    ----------
    train, val : data set
        Of others than `minifcn.data.Folder` nothing is found, because their masks would have to be read again.

    Returns
    -------
    list of Finding
    """
    if not (hasattr(train, "pairs") and hasattr(val, "pairs")):
        return []
    counted = {mask: histogram(mask) for data in (train, val) for _, mask in data.pairs}
    samples = [
        (image.relative_to(data.root).as_posix(), split, counted[mask])
        for split, data in (("train", train), ("val", val))
        for image, mask in data.pairs
    ]
    named = about_classes(samples, train.classes)
    return [*about_ids(counted, train.classes), *(f for f in named if "no mask" not in f.what)]  # `Folder` names those
