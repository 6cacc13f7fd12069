"""Makes the parts of a training from its settings: data, model, loaders, optimiser, and a header that describes them.

The settings are the attributes of a namespace, with the names of the flags of ``minifcn.train`` (``s.batch_size``).
Only `assemble` changes them: it fills in the defaults that depend on the data.
"""

import os
import sys
import time
from argparse import Namespace
from dataclasses import dataclass, replace
from importlib.util import find_spec
from inspect import signature

import numpy as np

from .. import models, nn
from ..arrays import backend, parallel
from ..data import DATASETS, Augment, Folder, Loader, open_dataset, recognise
from ..data.bands import RGB, bands_of
from ..data.check import before_training
from ..data.divide import divide
from ..data.earth import MissingExtra
from ..data.heads import heads_of
from ..data.images import VOID
from ..data.manifest import require_same_names
from ..data.samples import sample
from ..data.statistics import balanced, label_counts, pixels_per_batch, sizes, typical_side
from ..data.transforms import CAFFE, Preprocessing
from ..data.views import OneHead, Repeated, Resized
from ..errors import UserError
from ..geometry import minimal_padding
from ..io import load_record
from ..models.donors import PREPROCESSINGS
from ..models.efficientnet import imagenet_file
from ..models.presets import HEADS
from ..models.store import describe, load_start
from ..nn import optim
from ..nn.losses import LOSSES, Loss
from ..nn.surgery import transplant
from .header import conversion, header
from .loop import lonely_batch_norm
from .recipes import EPOCHS, OWN_EPOCHS, STEPS, suited_to
from .run_folder import find_checkpoint

PLACES = (
    "config",
    "resume",
    "out",
    "json",
    "find_lr",
)  # flags that name files and folders to read or write; no settings of a run
PATHS = ("root", "init")  # settings that are paths
IMAGENET = "imagenet"  # the value of --init for the weights of an installed package


@dataclass
class Parts:
    """Everything that a training needs."""

    settings: Namespace  # with the defaults filled in
    model: object
    train: Loader
    val: Loader
    optimizer: object
    loss: Loss
    weight: object  # (C,) class weights, {head: such weights}, or None
    header: dict  # the description of the run: {topic: one line}
    start: str = ""  # what became of each tensor of --init

    @property
    def config(self):
        """The settings that repeat this run.  Paths are absolute, so it can be repeated from any folder."""
        config = {name: value for name, value in vars(self.settings).items() if name not in PLACES}
        paths = {name: config[name] for name in PATHS if config[name] and config[name] != IMAGENET}
        return config | {name: os.path.abspath(path) for name, path in paths.items()}

    @property
    def folder(self):
        """The run folder for a new run."""
        s = self.settings
        return s.out or os.path.join("runs", f"{s.dataset}-{s.model}-{time.strftime('%Y%m%d-%H%M%S')}")


def assemble(settings, run=None):
    """Make the parts of a new training, or of the training of `run`, which is to be continued."""
    s = Namespace(**vars(settings))
    if s.tensorboard and find_spec("tensorboardX") is None:
        raise UserError("--tensorboard needs tensorboardX: pip install 'minifcn[tb]'")
    loss = LOSSES[s.loss]()
    try:
        s.reduction = loss.reduction(s.reduction)
    except ValueError as error:
        raise UserError(f"--reduction: {error}") from None
    if s.balance is None:  # a mean over classes gives rare classes their weight already
        s.balance = 0.5 if loss.adds else 0.0
    loss.require_parts(s.accumulate, parallel.world().size)
    backend.manual_seed(s.seed)
    s.dataset, train_data, val_data = splits(s)
    if run:
        run.require_same_data(train_data, val_data)
    if s.size:
        train_data = Resized(train_data, s.size)
    s.pad, model = network(s, train_data, val_data)
    start, outcomes = None, ""
    if run and run.last.is_file():
        take_preprocessing(model, load_record(run.last))
    elif s.init:
        start, outcomes = initialise(s, model)
    if s.freeze:
        freeze(model, s.freeze)
    suit(s, train_data)
    model.preprocessing, model.side = replace(model.preprocessing, size=s.size), typical_side(train_data)
    train, val = loaders(s, model.preprocessing.fill, train_data, val_data)
    if lone := lonely_batch_norm(model, train):
        print(f"note        {lone}", file=sys.stderr)
    kinds = {kind: OneHead(train_data, kind) for kind in model.kinds} or {"": train_data}
    counted = {kind: labels(s, data) for kind, data in kinds.items()}
    for kind, data in kinds.items():
        for finding in before_training(data, val_data, counted[kind]):
            print(f"note        {finding.sentence(getattr(train_data, 'root', ''))}", file=sys.stderr)
    counts = counted[next(iter(kinds))]
    pixels = max(round(pixels_per_batch(train, None if counts is None else counts.sum(axis=1)) * s.sampling), 1)
    s.lr, s.weight_decay = rates(s, pixels, min(s.batch_size, len(train_data)))
    optimizer = make_optimizer(s, model.parameters())
    weight = None
    if counts is not None:
        weights = {kind: balanced(pixels, s.balance) for kind, pixels in counted.items()}
        weight = weights if model.kinds else weights[""]
    lines = header(s, model, optimizer, train, val, weight, pixels)
    if start:
        lines["start"] = f"{s.init}: {start}"
    return Parts(s, model, train, val, optimizer, loss, weight, lines, outcomes)


def splits(s):
    """The name of the data set, its training split and its validation split.

    Without --dataset, it is what the folder of --root is recognised as; without --root earth, or shapes if the extra
    for earth is missing.
    """
    if s.dataset or s.root is not None:
        return _splits(s.dataset or recognise(s.root).name, s)
    try:
        return _splits("earth", s)
    except MissingExtra as error:
        print(f"note        {error}; training on generated shapes instead", file=sys.stderr)
    return _splits("shapes", s)


def _splits(name, s):
    takes_heads = "heads" in signature(DATASETS.get(name, Folder)).parameters
    if s.heads is None and takes_heads and s.model in HEADS:
        s.heads = ",".join(HEADS[s.model])
    options = {flag: value for flag in ("bands", "heads") if (value := getattr(s, flag))}
    if s.val is None:
        train, val = (open_dataset(name, split, s.root, **options) for split in (s.train_split, s.val_split))
    else:
        train, val = divided(name, s, options)
    if tuple(val.classes) != tuple(train.classes):
        raise UserError(
            f"split {s.train_split} has the classes {', '.join(train.classes)}, but split {s.val_split} has "
            f"{', '.join(val.classes)}: both must have the same"
        )
    return name, train, val


def divided(name, s, options):
    """The training and the validation samples of a folder that has no splits: --val of them are for validation."""
    if (s.train_split, s.val_split) != ("train", "val"):
        raise UserError(
            "--val divides the pictures at random, and --train-split and --val-split name splits: leave out one"
        )
    if "samples" not in signature(DATASETS.get(name, Folder)).parameters:
        raise UserError(f"--val divides the pictures of a folder (--root); {name} has splits of its own: leave it out")
    whole = open_dataset(name, None, s.root, **options)
    if whole.splits:
        raise UserError(
            f"{s.root} is divided already ({', '.join(whole.splits)}): leave out --val, or divide all pictures anew: "
            f"python -m minifcn.data convert {s.root} NEW --val {s.val:g}"
        )
    kept = whole.manifest()
    for split, names in divide(list(kept), s.val, s.seed).items():
        yield open_dataset(name, split, s.root, samples={n: kept[n] for n in names}, **options)


def network(s, data, val):
    """Return the padding and the model; "minimal" padding is made large enough for all images of `data` and `val`."""
    names = ("width", "batch_norm", "dropout", "learn_upsampling", "auxiliary")
    given = {name: value for name in names if (value := getattr(s, name)) is not None}
    heads = heads_of(data)
    given["num_classes"] = {head: len(names) for head, names in heads.items()} or data.num_classes
    given |= channels(s, bands_of(data))
    pad = s.pad
    if pad == "minimal":
        sides = np.unique(np.concatenate([sizes(data), sizes(val)])).tolist()
        pad = minimal_padding(lambda pad: models.build(s.model, pad=pad, **given), *sides)
    if pad is not None:
        given["pad"] = pad
    model = models.build(s.model, **given)
    count = len(bands_of(data))
    if model.in_channels != count:
        raise UserError(
            f"{s.model} takes {model.in_channels} channels, but the images of {data!r} have {count}: choose another "
            "--model"
        )
    model.classes, model.palette, model.bands = data.classes, data.palette, bands_of(data)
    for head, names in heads.items():
        model.heads[head].classes = names
    model.preprocessing = Preprocessing.of(data)
    if s.preprocessing:
        model.preprocessing = PREPROCESSINGS[s.preprocessing]
    elif s.recipe and model.preprocessing == Preprocessing():
        model.preprocessing = CAFFE
    return pad, model.to(s.device)


def channels(s, bands):
    """The options of a model that reads `bands`, with early or late fusion."""
    if s.fusion == "late":
        if bands[:3] != RGB or len(bands) == 3:
            raise UserError(
                f"--fusion late is for red, green and blue followed by other bands, not for {', '.join(bands)}: leave "
                "it out"
            )
        return dict(streams={"color": 3, "other": len(bands) - 3})
    return {} if len(bands) == 3 else dict(in_channels=len(bands))


def initialise(s, model):
    """Copy the weights of a run or a file into the model by name (§4.2: 16s from 32s).

    Names and axes of other frameworks are translated (`minifcn.models.recognise`).  The preprocessing is copied, too,
    because the weights were learned with it.  The score layers are copied only if the classes are the same, or, for a
    file without names of classes, as many.  Fixed interpolation weights are never copied.

    Returns
    -------
    str, str
        A summary in one line, and the outcome of each tensor in one line each.

    Raises
    ------
    UserError
        If fewer than half of the trunk's kernels are found by name and size, because the model would start almost from
        zero.  Or if the classes are the model's in another order, because each score would get another meaning.
    """
    path = imagenet_file() if s.init == IMAGENET else find_checkpoint(s.init)[0]
    arrays, record = load_start(path)
    theirs = tuple(record.get("bands") or model.bands[:3])  # a file of another framework: the first three bands
    if theirs != model.bands[: len(theirs)]:
        raise UserError(
            f"--init {s.init} was trained on the bands {', '.join(theirs)}, but the data have "
            f"{', '.join(model.bands)}: put the same bands first"
        )
    donor = None if record else models.recognise(arrays)
    if donor and "batch norm" in donor.net and not any("running" in name for name in model.trunk.state_dict()):
        raise UserError(f"--init {s.init} is {donor}, but {s.model} has no batch norm: give --batch-norm, too")
    classes = list(record.get("classes") or model.classes)
    ours = describe(model)["heads"]
    known = classes == list(model.classes) and (record.get("heads") or ours) == ours
    if not known and sorted(classes) == sorted(model.classes):
        require_same_names(classes, model.classes, f"--init {s.init} was trained", "the data have")
    excluded = {name for name, p in model.named_parameters() if not p.requires_grad}
    if not known:
        excluded |= {name for head in model.heads.values() for name in head.state_dict()}
    source = donor or Source(arrays, record.get("preprocessing"))
    done = transplant(source, model, lambda name: None if name in excluded else name, widen=True)
    kernels = {name for name, array in model.trunk.state_dict().items() if array.ndim == 4}
    found = len(kernels.difference(done.left))
    if 2 * found < len(kernels):
        raise UserError(
            f"--init {s.init} has only {found} of the {len(kernels)} kernels of {s.model}'s trunk by name and size: "
            f"give a net with the same trunk and --width (python -m minifcn.weights lists what is in the file)"
        )
    if s.preprocessing:
        model.preprocessing = PREPROCESSINGS[s.preprocessing]
    elif "preprocessing" not in record and (donor is None or donor.preprocessing is None):
        print(
            f"note        --init {s.init} does not say how images were converted for its weights: if not by "
            f"{conversion(model)}, they give poor scores (--preprocessing)",
            file=sys.stderr,
        )
    summary = "; ".join(" ".join(row.split()) for row in str(done).splitlines()) + f"; images: {conversion(model)}"
    if not known:
        summary += f"; it has other classes ({', '.join(classes)}), so scores are learned from zero"
    return f"{donor}: {summary}" if donor else summary, "\n".join(done.lines()) + "\n"


class Source:
    """The arrays of a checkpoint with their preprocessing, for `transplant`."""

    def __init__(self, arrays, preprocessing):
        self.state_dict = lambda: arrays
        self.preprocessing = preprocessing and Preprocessing.from_dict(preprocessing)


def freeze(model, last):
    """Freeze the trunk's layers up to `last` ("trunk": all of them): weights, and the statistics of batch norm."""
    layers = dict(model.trunk.children())
    names = list(layers)
    if last != "trunk" and last not in names:
        raise UserError(f"--freeze {last}: the trunk has no such layer; give trunk, or one of {', '.join(names)}")
    for name in names if last == "trunk" else names[: names.index(last) + 1]:
        for p in layers[name].parameters():
            p.freeze()
        for m in layers[name].modules():
            if isinstance(m, nn.BatchNorm2d):
                m.frozen = True


def take_preprocessing(model, record):
    """Set the model's preprocessing to that of a checkpoint's record, if it has one."""
    if "preprocessing" in record:
        model.preprocessing = Preprocessing.from_dict(record["preprocessing"])


def suit(s, train):
    """Fill in the settings that depend on the pictures: augmentation, crops, passes per epoch, averaging of weights."""
    suited = suited_to(train)
    if (bands_of(train), sample(train, 0)[0].dtype) != (RGB, np.uint8):
        if s.colour:
            raise UserError(f"--colour changes red, green and blue of 8 bits, not {', '.join(bands_of(train))}")
        suited["colour"] = 0.0
    for name, value in suited.items():
        if getattr(s, name) is None:
            setattr(s, name, value)
    if s.scale[0] > s.scale[1]:
        raise UserError(f"--scale {s.scale[0]:g} {s.scale[1]:g}: give the least factor first")
    if s.epochs is None:
        s.epochs = EPOCHS if s.root is None else OWN_EPOCHS
    if s.repeat is None:
        s.repeat = -(-STEPS // max(len(train) // s.batch_size, 1))


def loaders(s, fill, train, val):
    """The loaders for training (shuffled, with augmentation) and validation; padding has the colour `fill`."""
    if s.repeat > 1:
        train = Repeated(train, s.repeat)
    whole = len(train) >= s.batch_size  # drop a smaller last batch: its statistics would be poor for batch norm
    crop = tuple(s.crop) if s.crop else None
    augment = Augment(s.mirror, s.jitter, tuple(s.scale), crop, s.colour, fill)
    return (
        Loader(train, s.batch_size, shuffle=True, seed=s.seed, augment=augment, drop_last=whole, fill=fill),
        Loader(val, s.batch_size, fill=fill),
    )


def labels(s, train):
    """Count the pixels of each class in each training image, (n, C); without --balance None, and no mask is read.

    Raises UserError if no pixel is labelled.
    """
    if not s.balance:
        return None
    counts = label_counts(train)
    if not counts.any():
        raise UserError(f"not one pixel of {train!r} is labelled: every label is {VOID} (void); label some pixels")
    return counts


def rates(s, pixels, batch_size):
    """The learning rate and the weight decay.

    The defaults suit a mean loss.  A sum over N pixels has N times the gradient, so it needs 1/N of the learning rate,
    and N times the weight decay to keep the ratio of penalty and loss.
    """
    # the size of Adam's steps does not depend on the size of the gradient
    factor = 1 if s.optimizer == "adam" else optim.step_factor(s.reduction, pixels, batch_size, s.accumulate)
    suited = float(f"{(1e-3 if s.optimizer == 'adam' else optim.MEAN_RATE) / factor:.2g}")
    if s.lr is not None and not s.recipe and not 1e-3 <= s.lr / suited <= 100:
        effect = "the loss will probably become NaN" if s.lr > suited else "the net will learn almost nothing"
        print(
            f"note        --lr {s.lr:g} is {s.lr / suited:.2g} times the rate that suits these settings ({suited:g}): "
            f"{effect}", file=sys.stderr,
        )  # fmt: skip
    return (
        suited if s.lr is None else s.lr,
        float(f"{2e-3 * factor:.3g}") if s.weight_decay is None else s.weight_decay,
    )


def make_optimizer(s, parameters):
    """The optimiser of the settings, SGD or Adam."""
    if s.optimizer == "adam":
        return optim.Adam(parameters, s.lr, weight_decay=s.weight_decay)
    return optim.SGD(parameters, s.lr, s.momentum, s.weight_decay)
