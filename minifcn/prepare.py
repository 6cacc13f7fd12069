"""From the settings of a training to its parts: data, model, loaders, optimiser; and what they are, in a few lines.

Each function takes the settings as attributes (``args.batch_size``), under the names of the flags of ``minifcn.train``.
"""

import sys

import numpy as np
from threadpoolctl import threadpool_info

from . import backend, models, optim, parallel
from .core import Tensor, no_grad
from .data import Augment, Loader, open_dataset
from .data.earth import MissingExtra
from .data.images import VOID
from .data.manifest import require_same_names
from .data.statistics import label_counts, pixels_per_batch, sizes, suitable_jitter
from .data.transforms import CAFFE, Preprocessing
from .errors import UserError
from .geometry import minimal_padding, receptive_field
from .kernels import shapes_only
from .kernels.cpu import workers
from .kernels.shapes import stand_in
from .models.store import load_start
from .nn.surgery import transplant
from .runs import find_checkpoint


def splits(args):
    """The data sets to train and to validate on.

    Without a name: a folder if there is a root, else earth or, when its extra is absent, shapes.
    """
    if args.dataset is None and args.root is not None:
        args.dataset = "folder"
    if args.dataset is None:
        args.dataset = "earth"
        try:
            return _splits(args)
        except MissingExtra as error:
            print(f"note        {error}; training on generated shapes instead", file=sys.stderr)
            args.dataset = "shapes"
    return _splits(args)


def _splits(args):
    train, val = (open_dataset(args.dataset, split, args.root) for split in (args.train_split, args.val_split))
    if tuple(val.classes) != tuple(train.classes):
        raise UserError(
            f"{args.train_split} has the classes {', '.join(train.classes)}, but {args.val_split} has "
            f"{', '.join(val.classes)}; they must be the same"
        )
    return train, val


def network(args, data, val):
    """The model, which knows what the classes of `data` are called, and takes all images of `data` and `val`."""
    names = ("width", "batch_norm", "dropout", "learn_upsampling")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    given["num_classes"] = data.num_classes
    if args.pad == "minimal":
        sides = np.unique(np.concatenate([sizes(data), sizes(val)])).tolist()
        args.pad = minimal_padding(lambda pad: models.build(args.model, pad=pad, **given), *sides)
    if args.pad is not None:
        given["pad"] = args.pad
    model = models.build(args.model, **given)
    if model.in_channels != 3:
        raise UserError(f"{args.model} takes {model.in_channels} channels, but pictures of {data!r} have 3")
    model.classes, model.palette = data.classes, data.palette
    if args.recipe:
        model.preprocessing = CAFFE
    return model.to(args.device)


def initialise(args, model):
    """Give the model what a run or file has for it, by name (§4.2: 16s from 32s); what came of it, in a line.

    Of a run also its preprocessing, which the weights were learned with.  Its scores are taken only if its classes are
    the model's; interpolation that is fixed is the model's own.

    Raises
    ------
    UserError
        If most kernels of the trunk are not there in their sizes: such a start is none.  If its classes are the model's
        in another order: somebody changed the order of the data's, and scores would change their meaning.
    """
    path, _ = find_checkpoint(args.init)
    arrays, record = load_start(path)
    take_preprocessing(model, record)
    fixed = {name for name, p in model.named_parameters() if not p.requires_grad}
    scores = {name for head in model.heads.values() for name in head.state_dict()}
    classes = list(record.get("classes") or model.classes)
    known = classes == list(model.classes)
    if not known and sorted(classes) == sorted(model.classes):
        require_same_names(classes, model.classes, f"--init {args.init} was trained", "the data have")
    arrays = {name: array for name, array in arrays.items() if name not in fixed}
    done = transplant(arrays, model, lambda name: name if known or name not in scores else None)
    done.kept = [name for name in done.kept if name not in fixed]
    kernels = {name for name, array in model.trunk.state_dict().items() if array.ndim == 4}
    found = len(kernels.difference(done.kept))
    if 2 * found < len(kernels):
        raise UserError(
            f"--init {args.init}: only {found} of the {len(kernels)} kernels of {args.model}'s trunk are there by name "
            "and size; start from a net of the same trunk and --width"
        )
    what = "" if known else f"; it knows other classes ({', '.join(classes)}), so scores are learned from zero"
    return "; ".join(" ".join(row.split()) for row in str(done).splitlines()) + what


def take_preprocessing(model, record):
    """Give the model the preprocessing that a checkpoint's record names."""
    if "preprocessing" in record:
        model.preprocessing = Preprocessing.from_dict(record["preprocessing"])


def loaders(args, model, train, val):
    """Batches to train on, shuffled and changed at random, and batches to validate on."""
    if args.jitter is None:
        args.jitter = suitable_jitter(train)
    fill = model.preprocessing.fill
    whole = len(train) >= args.batch_size  # a last batch of two images would upset the statistics of batch norm
    augment = Augment(mirror=args.mirror, jitter=args.jitter, zoom=args.zoom, fill=fill)
    return (
        Loader(train, args.batch_size, shuffle=True, seed=args.seed, augment=augment, drop_last=whole, fill=fill),
        Loader(val, args.batch_size, fill=fill),
    )


def labels(args, train):
    """How many pixels of each class each training image has, (n, C); None without `balance`: nobody reads masks then.

    Raises UserError if there are none at all.
    """
    if not args.balance:
        return None
    counts = label_counts(train)
    if not counts.any():
        raise UserError(f"not one pixel of {train!r} is labelled: every label is {VOID}, void; label some")
    return counts


def optimizer(args, model, train, counts=None):
    """SGD or Adam.

    The defaults suit a mean loss.  A sum over N pixels has N times the gradient: it takes 1/N of the rate and, so that
    the penalty keeps its weight beside the data, N times the decay.
    """
    pixels, batch_size = _counted(args, train, counts), min(args.batch_size, len(train.dataset))
    # Adam's step has the size of the rate, whatever the gradient's
    factor = 1 if args.optimizer == "adam" else optim.step_factor(args.reduction, pixels, batch_size, args.accumulate)
    if args.lr is None:
        args.lr = float(f"{(1e-3 if args.optimizer == 'adam' else optim.MEAN_RATE) / factor:.2g}")
    if args.weight_decay is None:
        args.weight_decay = float(f"{2e-3 * factor:.3g}")
    if args.optimizer == "adam":
        return optim.Adam(model.parameters(), args.lr, weight_decay=args.weight_decay)
    return optim.SGD(model.parameters(), args.lr, args.momentum, args.weight_decay)


def header(args, model, optimizer, train, val, weight=None, counts=None):
    """What is about to happen: {topic: one line}."""
    pixels = _counted(args, train, counts)
    xp = backend.of(model.parameters()[0].data)
    seen = _field(model, train.dataset[0][0].shape[:2])
    weights = "" if weight is None else f"; class weights {' '.join(f'{w:.2g}' for w in weight)}"
    sampled = "" if args.sampling == 1 else f"; each pixel counts with probability {args.sampling:g}"
    ranks = parallel.world().size
    shared = f"; {ranks} ranks, each on its part of a batch" if ranks > 1 else ""
    images = min(args.batch_size, len(train.dataset))
    changed = f"; jitter {args.jitter} pixels, zoom {args.zoom:g}{', mirrored' if args.mirror else ''}"
    summed = args.reduction == "sum"
    together = pixels * args.accumulate if summed else pixels
    step = f"effective {optim.effective_step(optimizer, args.reduction, together, images):.3g}"
    if args.optimizer == "sgd" and summed:
        step += (
            f" = lr · N / (1 − momentum), with N = {together:,} pixels a {'batch' if args.accumulate == 1 else 'step'}"
        )
    return dict(
        arrays=f"{xp.__name__} {xp.__version__}, BLAS {_blas()}, {workers.threads()} worker threads",
        data=f"{args.dataset}: {len(train.dataset)} images to train on, {len(val.dataset)} to validate on, "
        f"{model.num_classes} classes{changed}",
        model=f"{args.model}: {model.num_parameters():,} parameters; a pixel sees {seen[0]}×{seen[1]} pixels",
        loss=f"cross-entropy, reduction {args.reduction}{sampled}{weights}",
        optimiser=f"{args.optimizer}, lr {optimizer.lr:g} ({args.schedule}), weight decay {args.weight_decay:g}",
        step=step,
        length=f"epochs {args.epochs}, each of {len(train)} batches of {images}; seed {args.seed}{shared}",
    )


def _counted(args, train, counts):
    """Pixels of a typical batch whose loss counts."""
    labelled = None if counts is None else counts.sum(axis=1)
    return max(round(pixels_per_batch(train, labelled) * args.sampling), 1)


def _blas():
    """Name, version and threads of the BLAS that NumPy calls."""
    for library in threadpool_info():
        if library["user_api"] == "blas":
            return f"{library['internal_api']} {library['version']} with {library['num_threads']} threads"
    return "unknown"


def _field(model, size):
    """The receptive field of a pixel's scores."""
    with no_grad(), shapes_only():
        image = Tensor(stand_in(model.parameters()[0].data, (1, 3, *size)))
        return receptive_field(model(image), image).size
