"""Which samples a run learned from and was measured on: a name and a fingerprint of each, kept in the run folder.

A data set tells them by an optional method, ``manifest() -> {name: fingerprint}``, both text, in the order of its
samples.  Without it nothing is kept, and a change of the data goes unnoticed.
"""

from hashlib import blake2b
from pathlib import Path, PurePosixPath

from ..errors import UserError

SHOWN = 3  # names in a sentence
SPLITS = ("train", "val")


def fingerprint(*paths):
    """A text that changes with the contents of files, and with nothing else."""
    digest = blake2b(digest_size=16)
    for path in paths:
        content = Path(path).read_bytes()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def splits(train, val=None, trouble=""):
    """What a run keeps of its data: {"classes": names, "train": manifest or None, "val": the same, "trouble": text}.

    `trouble` is the sentence in which the data set stopped the run: the file that it names may be mended.
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
    if not isinstance(value["classes"], list) or not all(isinstance(manifest, dict) for manifest in manifests):
        return False
    texts = [value["trouble"], *value["classes"], *(text for manifest in manifests for text in manifest.values())]
    return all(isinstance(text, str) for text in texts)


def require_same_splits(kept, now, run):
    """Raise UserError, saying what changed, unless a run's data are what they were when it began.

    Parameters
    ----------
    kept, now : dict
        As :func:`splits` gives them.  A split without a manifest on either side is not compared.
    run : str or Path
        For the sentence.
    """
    require_same_names(kept["classes"], now["classes"], f"{run} was begun", "its data now have")
    sides = [name for name in SPLITS if kept[name] and now[name]]
    then, there = ({k: v for name in sides for k, v in side[name].items()} for side in (kept, now))
    for name in then:
        if name in there and any(f"{slash}{PurePosixPath(name).stem}." in kept["trouble"] for slash in "/\\"):
            then[name] = there[name]  # mended
    changes = differences(then, there)
    if len(sides) == len(SPLITS):
        for old, new, kind in (("train", "val", "training"), ("val", "train", "validation")):
            crossed = [name for name in now[new] if name in kept[old] and name not in kept[new]]
            if crossed:
                changes.append(f"{len(crossed)} of the {kind} pictures would go to the other split ({_shown(crossed)})")
    if not changes and any(list(kept[name]) != list(now[name]) for name in sides):
        changes = ["they come in another order"]
    if changes:
        raise UserError(
            f"the pictures are not those that {run} was begun with: {'; '.join(changes)}; undo that, or start a new run"
        )


def differences(then, now):
    """What became of the samples `then`, {name: fingerprint}, in those of `now`: a list of phrases."""
    kinds = {
        "added": [name for name in now if name not in then],
        "missing": [name for name in then if name not in now],
        "changed": [name for name in then if name in now and then[name] != now[name]],
    }
    return [f"{len(names)} {kind} ({_shown(names)})" for kind, names in kinds.items() if names]


def require_same_names(then, now, before, after, remedy="put the old names back, or start a new run"):
    """Raise UserError if classes are called differently, or stand in another order.

    Where nobody named the classes ("class 0"), any names will do.

    Parameters
    ----------
    then, now : sequence of str
    before, after : str
        How the sentence says whose they are: "the model was trained", "the data have".
    remedy : str
        What to do, the end of the sentence.
    """
    then, now = list(then), list(now)
    if then == now or any(names == [f"class {k}" for k in range(len(names))] for names in (then, now)):
        return
    others = "the same classes in another order" if sorted(then) == sorted(now) else "other classes"
    raise UserError(f"{before} with the classes {', '.join(then)}, but {after} {others}: {', '.join(now)}; {remedy}")


def _shown(names):
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
