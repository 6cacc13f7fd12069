"""Which images ``python -m minifcn.evaluate`` measures: a split of the run's own data, or a whole folder."""

import sys
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from ..data import DATASETS, open_dataset, recognise
from ..data.by_name import in_classes
from ..data.manifest import require_same_names
from ..data.samples import called
from ..data.views import OneHead
from ..errors import UserError
from ..models import load
from ..nn.losses import LOSSES, CrossEntropy
from .assessment import Assessment, assess
from .run_folder import Run, find_checkpoint

ALL = "all"


def data_to_measure(checkpoint, config, model, dataset=None, root=None, split=None, head=""):
    """The data set to measure, in the model's classes, and a sentence if they had to be mapped by name.

    Without `root`, it is the validation split that the run recorded.  With a `root` that is not the run's, it is all
    images in it, except if they are the run's own that have been moved: then again the validation split.

    Parameters
    ----------
    checkpoint : Path
        Of the run.
    config : dict
        The settings of the run; {} if there is no run folder.
    model : FCN
    dataset, root, split : str, optional
        The flags of the command; the split "all" means all images.
    head : str
        The head of a net with several, of which `model` has this one.

    Raises
    ------
    UserError
        If the data set cannot be opened, if it has other classes, or if images that the run recorded have changed.
    """
    home = root is None or (config.get("root") is not None and _same(root, config["root"]))
    name = dataset or (config.get("dataset") if home else recognise(root).name)
    if name is None:
        raise UserError(f"{checkpoint} does not say on which data set it was trained: give --dataset or --root")
    config = config if name == config.get("dataset") else {}  # else the run's settings belong to another data set
    root = config.get("root") if root is None else root
    in_folder = name in DATASETS and "root" in signature(DATASETS[name]).parameters
    kept = Run(checkpoint.parent, config).splits if config and in_folder else None
    whole = _open(name, ALL, root, config, model, head) if in_folder and (split == ALL or not home) else None
    own = bool(kept) and (home or _holds(whole, kept))
    if split is None:
        split = config.get("val_split", "val") if own or home or not in_folder else ALL
    if split == ALL and not in_folder:
        raise UserError(f"data set {name!r} has no split 'all'; give one of its own (--split)")
    if own and split != ALL:
        data = _open(name, split, root, config, model, head, kept)
        # The masks are unchanged, so other names are a mistake.
        has = f"{called(data)} has"
        require_same_names(model.classes, data.classes, "the model was trained", has, "restore the old names")
        return data, ""
    data = whole if split == ALL else _open(name, split, root, config, model, head)
    return in_classes(data, model.classes or data.classes, model.palette)


@dataclass
class Measured:
    """A run with what was measured.

    Attributes
    ----------
    path : str
        As the user gave it.
    checkpoint : Path
    model : FCN
    data : data set
        In the classes of the first run.
    found : Assessment
        The same.
    tta : bool
        Whether test-time augmentation was used.
    head : str
        The head of a net with several; `model`, `data` and `found` are for this one alone.
    """

    path: str
    checkpoint: Path
    model: Any
    data: Any
    found: Assessment
    tta: bool
    head: str = ""

    @property
    def where(self) -> str:
        """The folder, or the name, of the data set."""
        return str(getattr(self.data, "root", type(self.data).__name__.lower()))


def measure_runs(paths, weights="last", dataset=None, root=None, split=None, device="cpu", tta=False):
    """Measure each head of runs on the same images: those of the first run, as :func:`data_to_measure` finds them.

    Parameters
    ----------
    paths : sequence of str
        Run folders or checkpoints, each once.
    weights : {"last", "best"}
    dataset, root, split : str, optional
    device : str
    tta : bool

    Returns
    -------
    dict of {str: list of Measured}
        By the name of the head; ``""`` if the nets have one kind of labels.

    Raises
    ------
    UserError
        If a run cannot be loaded, or has other heads or classes than the first one.
    """
    checkpoints = [find_checkpoint(path, weights) for path in paths]
    models = [load(checkpoint) for checkpoint, _ in checkpoints]  # all, so that an error comes before the work
    first = models[0].kinds
    for path, model in zip(paths, models):
        if set(model.kinds) != set(first):
            ours, theirs = (", ".join(kinds) or "one kind of labels" for kinds in (model.kinds, first))
            raise UserError(f"{path} has {ours}, but {paths[0]} has {theirs}; compare runs with the same heads")
    by_head = {head: [model.only(head) for model in models] for head in first} or {"": models}
    for nets in by_head.values():
        _require_same_classes(paths, nets)
    where = dict(dataset=dataset, root=root, split=split)
    return {
        head: _measured(paths, checkpoints, [net.to(device) for net in nets], tta, head, where)
        for head, nets in by_head.items()
    }


def _require_same_classes(paths, models):
    first = models[0]
    for path, model in zip(paths, models):
        if sorted(model.classes) != sorted(first.classes):
            raise UserError(
                f"{path} has the classes {', '.join(model.classes)}, but {paths[0]} has {', '.join(first.classes)}; "
                "compare runs with the same classes"
            )


def _measured(paths, checkpoints, models, tta, head, where):
    """Measure runs whose `models` have one head; `where` has the flags of :func:`data_to_measure`."""
    measured = []
    first, (home, settings) = models[0], checkpoints[0]
    for path, model, (checkpoint, config) in zip(paths, models, checkpoints):
        settings = settings | {"bands": config.get("bands")}
        data, said = data_to_measure(home, settings, first, **where, head=head)
        for note in filter(None, (said * (model is first), _seen(path, checkpoint, config, data))):
            print(f"note        {note}", file=sys.stderr)
        loss = LOSSES.get(config.get("loss"), CrossEntropy)()
        found = assess(model, in_classes(data, model.classes)[0], loss, progress=True, tta=tta)
        order = [model.classes.index(name) for name in first.classes]
        measured.append(Measured(str(path), checkpoint, model, data, found.reordered(order), tta, head))
    return measured


def _same(a, b):
    return Path(a).resolve() == Path(b).resolve()


def _open(name, split, root, config, model, head, kept=None):
    """Open a data set, for one of its heads; a split of which `kept` is the record has the images of the record."""
    accepted = signature(DATASETS[name]).parameters if name in DATASETS else {}
    options = {flag: config[flag] for flag in ("bands", "heads") if config.get(flag)}
    if head:
        if accepted and "heads" not in accepted:
            raise UserError(
                f"the net has several heads ({head} is one), but data set {name!r} has one kind of labels: give data "
                "with the labels of each head, such as siftflow"
            )
        options.setdefault("heads", head)
    if "classes" in accepted and model.classes:
        options["classes"] = model.classes  # of a folder that does not name its classes
    recorded = {config.get("train_split"): "train", config.get("val_split"): "val"}
    if kept and "samples" in accepted and (samples := kept.get(recorded.get(split, ""))):
        options["samples"] = samples
    data = open_dataset(name, None if split == ALL else split, root, **options)
    return OneHead(data, head) if head else data


def _holds(data, kept):
    """Whether a data set has at least half of the images that a run recorded: its own, at another place."""
    then = (kept["train"] or {}).items() | (kept["val"] or {}).items()
    return bool(then) and hasattr(data, "manifest") and 2 * len(then & data.manifest().items()) >= len(then)


def _seen(path, checkpoint, config, data):
    """A sentence if a run was trained on some of the images."""
    kept = Run(checkpoint.parent, config).splits if config else None
    if not kept or not kept["train"] or not hasattr(data, "manifest"):
        return ""
    trained = set(kept["train"].values())
    seen = sum(fingerprint in trained for fingerprint in data.manifest().values())
    return f"{path} was trained on {seen} of these {len(data)} images; on new images it may be worse" if seen else ""
