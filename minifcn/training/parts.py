"""From the settings of a training to its parts: data, model, loaders, optimiser; and what they are, in a few lines.

The settings are attributes (``s.batch_size``), under the names of the flags of ``minifcn.train``.  Only `assemble`
changes them: it fills in what the data decide.
"""

import os
import sys
import time
from argparse import Namespace
from dataclasses import dataclass

import numpy as np

from .. import models
from ..arrays import backend, parallel
from ..data import Augment, Loader, open_dataset
from ..data.earth import MissingExtra
from ..data.images import VOID
from ..data.manifest import require_same_names
from ..data.statistics import balanced, label_counts, pixels_per_batch, sizes, suitable_jitter
from ..data.transforms import CAFFE, Preprocessing
from ..engine.core import Tensor, no_grad
from ..errors import UserError
from ..geometry import minimal_padding, receptive_field
from ..io import load_record
from ..kernels import shapes_only
from ..kernels.cpu import blas, workers
from ..kernels.shapes import stand_in
from ..models.store import load_start
from ..nn import optim
from ..nn.losses import LOSSES, Loss
from ..nn.module import evaluating
from ..nn.surgery import transplant
from .loop import lonely_batch_norm
from .run_folder import find_checkpoint

PLACES = ("config", "resume", "out", "json")  # flags that say where, not what: no settings of a run
PATHS = ("root", "init")  # settings that are paths


@dataclass
class Parts:
    """All that a training takes."""

    settings: Namespace  # with what the data decided
    model: object
    train: Loader
    val: Loader
    optimizer: object
    loss: Loss
    weight: object  # (C,) class weights, or None
    header: dict  # what is about to happen: {topic: one line}

    @property
    def config(self):
        """The settings that make the same run again, from any folder."""
        config = {name: value for name, value in vars(self.settings).items() if name not in PLACES}
        return config | {name: config[name] and os.path.abspath(config[name]) for name in PATHS}

    @property
    def folder(self):
        """Where a new run goes."""
        s = self.settings
        return s.out or os.path.join("runs", f"{s.dataset}-{s.model}-{time.strftime('%Y%m%d-%H%M%S')}")


def assemble(settings, run=None):
    """The parts of a training, or of the `run` that is continued."""
    s = Namespace(**vars(settings))
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
    s.pad, model = network(s, train_data, val_data)
    start = None
    if run and run.last.is_file():
        take_preprocessing(model, load_record(run.last))
    elif s.init:
        start = initialise(s, model)
    if s.jitter is None:
        s.jitter = suitable_jitter(train_data)
    train, val = loaders(s, model.preprocessing.fill, train_data, val_data)
    if lone := lonely_batch_norm(model, train):
        print(f"note        {lone}", file=sys.stderr)
    counts = labels(s, train_data)
    pixels = max(round(pixels_per_batch(train, None if counts is None else counts.sum(axis=1)) * s.sampling), 1)
    s.lr, s.weight_decay = rates(s, pixels, min(s.batch_size, len(train_data)))
    optimizer = make_optimizer(s, model.parameters())
    weight = None if counts is None else balanced(counts, s.balance)
    lines = header(s, model, optimizer, train, val, weight, pixels)
    if start:
        lines["start"] = f"{s.init}: {start}"
    return Parts(s, model, train, val, optimizer, loss, weight, lines)


def splits(s):
    """The name of the data set, and its parts to train and to validate on.

    Without a name: a folder if there is a root, else earth or, when its extra is absent, shapes.
    """
    if s.dataset or s.root is not None:
        return _splits(s.dataset or "folder", s)
    try:
        return _splits("earth", s)
    except MissingExtra as error:
        print(f"note        {error}; training on generated shapes instead", file=sys.stderr)
    return _splits("shapes", s)


def _splits(name, s):
    train, val = (open_dataset(name, split, s.root) for split in (s.train_split, s.val_split))
    if tuple(val.classes) != tuple(train.classes):
        raise UserError(
            f"{s.train_split} has the classes {', '.join(train.classes)}, but {s.val_split} has "
            f"{', '.join(val.classes)}; they must be the same"
        )
    return name, train, val


def network(s, data, val):
    """The padding, and the model: it knows the names of `data`'s classes, and takes all images of `data` and `val`."""
    names = ("width", "batch_norm", "dropout", "learn_upsampling")
    given = {name: value for name in names if (value := getattr(s, name)) is not None}
    given["num_classes"] = data.num_classes
    pad = s.pad
    if pad == "minimal":
        sides = np.unique(np.concatenate([sizes(data), sizes(val)])).tolist()
        pad = minimal_padding(lambda pad: models.build(s.model, pad=pad, **given), *sides)
    if pad is not None:
        given["pad"] = pad
    model = models.build(s.model, **given)
    if model.in_channels != 3:
        raise UserError(f"{s.model} takes {model.in_channels} channels, but pictures of {data!r} have 3")
    model.classes, model.palette = data.classes, data.palette
    if s.recipe:
        model.preprocessing = CAFFE
    return pad, model.to(s.device)


def initialise(s, model):
    """Give the model what a run or file has for it, by name (§4.2: 16s from 32s); what came of it, in a line.

    Of a run also its preprocessing, which the weights were learned with.  Its scores are taken only if its classes are
    the model's; interpolation that is fixed is the model's own.

    Raises
    ------
    UserError
        If most kernels of the trunk are not there in their sizes: such a start is none.  If its classes are the model's
        in another order: somebody changed the order of the data's, and scores would change their meaning.
    """
    path, _ = find_checkpoint(s.init)
    arrays, record = load_start(path)
    take_preprocessing(model, record)
    fixed = {name for name, p in model.named_parameters() if not p.requires_grad}
    scores = {name for head in model.heads.values() for name in head.state_dict()}
    classes = list(record.get("classes") or model.classes)
    known = classes == list(model.classes)
    if not known and sorted(classes) == sorted(model.classes):
        require_same_names(classes, model.classes, f"--init {s.init} was trained", "the data have")
    arrays = {name: array for name, array in arrays.items() if name not in fixed}
    done = transplant(arrays, model, lambda name: name if known or name not in scores else None)
    done.kept = [name for name in done.kept if name not in fixed]
    kernels = {name for name, array in model.trunk.state_dict().items() if array.ndim == 4}
    found = len(kernels.difference(done.kept))
    if 2 * found < len(kernels):
        raise UserError(
            f"--init {s.init}: only {found} of the {len(kernels)} kernels of {s.model}'s trunk are there by name "
            "and size; start from a net of the same trunk and --width"
        )
    what = "" if known else f"; it knows other classes ({', '.join(classes)}), so scores are learned from zero"
    return "; ".join(" ".join(row.split()) for row in str(done).splitlines()) + what


def take_preprocessing(model, record):
    """Give the model the preprocessing that a checkpoint's record names."""
    if "preprocessing" in record:
        model.preprocessing = Preprocessing.from_dict(record["preprocessing"])


def loaders(s, fill, train, val):
    """Batches to train on, shuffled and changed at random, and to validate on; borders have the colour `fill`."""
    whole = len(train) >= s.batch_size  # a last batch of two images would upset the statistics of batch norm
    augment = Augment(mirror=s.mirror, jitter=s.jitter, zoom=s.zoom, fill=fill)
    return (
        Loader(train, s.batch_size, shuffle=True, seed=s.seed, augment=augment, drop_last=whole, fill=fill),
        Loader(val, s.batch_size, fill=fill),
    )


def labels(s, train):
    """How many pixels of each class each training image has, (n, C); None without `balance`: nobody reads masks then.

    Raises UserError if there are none at all.
    """
    if not s.balance:
        return None
    counts = label_counts(train)
    if not counts.any():
        raise UserError(f"not one pixel of {train!r} is labelled: every label is {VOID}, void; label some")
    return counts


def rates(s, pixels, batch_size):
    """The learning rate and the weight decay.

    The defaults suit a mean loss.  A sum over N pixels has N times the gradient: it takes 1/N of the rate and, so that
    the penalty keeps its weight beside the data, N times the decay.
    """
    # Adam's step has the size of the rate, whatever the gradient's
    factor = 1 if s.optimizer == "adam" else optim.step_factor(s.reduction, pixels, batch_size, s.accumulate)
    mean_rate = 1e-3 if s.optimizer == "adam" else optim.MEAN_RATE
    return (
        float(f"{mean_rate / factor:.2g}") if s.lr is None else s.lr,
        float(f"{2e-3 * factor:.3g}") if s.weight_decay is None else s.weight_decay,
    )


def make_optimizer(s, parameters):
    """SGD or Adam."""
    if s.optimizer == "adam":
        return optim.Adam(parameters, s.lr, weight_decay=s.weight_decay)
    return optim.SGD(parameters, s.lr, s.momentum, s.weight_decay)


def header(s, model, optimizer, train, val, weight, pixels):
    """What is about to happen: {topic: one line}; `pixels` of a typical batch count."""
    xp = backend.of(model.parameters()[0].data)
    seen = _field(model, train.dataset[0][0].shape[:2])
    weights = "" if weight is None else f"; class weights {' '.join(f'{w:.2g}' for w in weight)}"
    sampled = "" if s.sampling == 1 else f"; each pixel counts with probability {s.sampling:g}"
    ranks = parallel.world().size
    shared = f"; {ranks} ranks, each on its part of a batch" if ranks > 1 else ""
    images = min(s.batch_size, len(train.dataset))
    changed = f"; jitter {s.jitter} pixels, zoom {s.zoom:g}{', mirrored' if s.mirror else ''}"
    summed = s.reduction == "sum"
    together = pixels * s.accumulate if summed else pixels
    step = f"effective {optim.effective_step(optimizer, s.reduction, together, images):.3g}"
    if s.optimizer == "sgd" and summed:
        step += f" = lr · N / (1 − momentum), with N = {together:,} pixels a {'batch' if s.accumulate == 1 else 'step'}"
    return dict(
        arrays=f"{xp.__name__} {xp.__version__}, BLAS {_blas()}, {workers.threads()} worker threads",
        data=f"{s.dataset}: {len(train.dataset)} images to train on, {len(val.dataset)} to validate on, "
        f"{model.num_classes} classes{changed}",
        model=f"{s.model}: {model.num_parameters():,} parameters; a pixel sees {seen[0]}×{seen[1]} pixels",
        loss=f"{s.loss.replace('_', '-')}, reduction {s.reduction}{sampled}{weights}",
        optimiser=f"{s.optimizer}, lr {optimizer.lr:g} ({s.schedule}), weight decay {s.weight_decay:g}",
        step=step,
        length=f"epochs {s.epochs}, each of {len(train)} batches of {images}; seed {s.seed}{shared}",
    )


def _blas():
    """Name, version and threads of the BLAS that NumPy calls."""
    found = blas.description()
    return f"{found['internal_api']} {found['version']} with {found['num_threads']} threads" if found else "unknown"


def _field(model, size):
    """The receptive field of a pixel's scores."""
    with evaluating(model), no_grad(), shapes_only():
        image = Tensor(stand_in(model.parameters()[0].data, (1, 3, *size)))
        return receptive_field(model(image), image).size
