"""The manifest of a run's data: name and fingerprint of every training and validation sample, for the run folder.

A data set may have a method ``manifest() -> {name: fingerprint}``, both text, in the order of its samples.  Without
this method nothing is recorded, and a change of the data goes unnoticed.
"""

from hashlib import blake2b
from pathlib import Path, PurePosixPath

from ..errors import UserError

SHOWN = 3  # at most so many names in a message
SPLITS = ("train", "val")


def fingerprint(*parts):
    """A hash of bytes, and of the contents of files; names and times of the files do not matter."""
    digest = blake2b(digest_size=16)
    for part in parts:
        content = part if isinstance(part, bytes) else Path(part).read_bytes()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def splits(train, val=None, trouble=""):
    """The record of a run's data: {"classes": names, "train": manifest or None, "val": the same, "trouble": text}.

    `trouble` is the error message if a sample stopped the run: the user may repair the file that it names, and still
    resume.
    """
    manifests = (data.manifest() if hasattr(data, "manifest") else None for data in (train, val))
    return dict(classes=list(train.classes), **dict(zip(SPLITS, manifests)), trouble=trouble)


def is_splits(value):
    """Whether a JSON value has the form that :func:`splits` gives."""
    if (
        not isinstance(value, dict)
        or value.keys() != {"classes", *SPLITS, "trouble"}
        or not isinstance(value["classes"], list)
    ):
        return False
    manifests = [value[name] for name in SPLITS if value[name] is not None]
    if not all(isinstance(manifest, dict) for manifest in manifests):
        return False
    texts = [value["trouble"], *value["classes"], *(text for manifest in manifests for text in manifest.values())]
    return all(isinstance(text, str) for text in texts)


def require_same_splits(kept, now, run):
    """Raise UserError, naming the changes, if a run's data have changed since it began.

    Parameters
    ----------
    kept, now : dict
        Two results of :func:`splits`: when the run began, and now.  A split that has no manifest in one of them is
        not compared.
    run : str or Path
        The run folder, for the message.
    """
    require_same_names(kept["classes"], now["classes"], f"{run} was begun", "its data now have")
    compared = [name for name in SPLITS if kept[name] and now[name]]
    before, after = ({k: v for name in compared for k, v in record[name].items()} for record in (kept, now))
    for name in before:
        if name in after and any(f"{slash}{PurePosixPath(name).stem}." in kept["trouble"] for slash in "/\\"):
            before[name] = after[name]  # this file stopped the run: the user may have repaired it
    changes = differences(before, after)
    if len(compared) == len(SPLITS):
        for old, new, kind in (("train", "val", "training"), ("val", "train", "validation")):
            crossed = [name for name in now[new] if name in kept[old] and name not in kept[new]]
            if crossed:
                changes.append(f"{len(crossed)} of the {kind} images are now in the other split ({some(crossed)})")
    if not changes and any(list(kept[name]) != list(now[name]) for name in compared):
        changes = ["their order is different"]
    if changes:
        raise UserError(
            f"the images are not those that {run} began with: {'; '.join(changes)}; undo the change, or start a new run"
        )


def differences(then, now):
    """The differences between two manifests {name: fingerprint}, as a list of phrases; empty if there are none."""
    kinds = {
        "added": [name for name in now if name not in then],
        "missing": [name for name in then if name not in now],
        "changed": [name for name in then if name in now and then[name] != now[name]],
    }
    return [f"{len(names)} {kind} ({some(names)})" for kind, names in kinds.items() if names]


def require_same_names(then, now, before, after, remedy="put the old names back, or start a new run"):
    """Raise UserError if two lists of class names differ, in names or in order.

    Default names ("class 0") match any names.

    Parameters
    ----------
    then, now : sequence of str
    before, after : str
        Subject and verb of the message for either list: "the model was trained", "the data have".
    remedy : str
        The end of the message: what to do.
    """
    then, now = list(then), list(now)
    if then == now or any(names == [f"class {k}" for k in range(len(names))] for names in (then, now)):
        return
    others = "the same classes in another order" if sorted(then) == sorted(now) else "other classes"
    raise UserError(f"{before} with the classes {', '.join(then)}, but {after} {others}: {', '.join(now)}; {remedy}")


def some(names):
    """The first names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
