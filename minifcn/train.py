"""``python -m minifcn.train``: train a network for segmentation, from scratch, into a run folder."""

import argparse
import os
import sys
import time
from contextlib import suppress

from threadpoolctl import threadpool_info

from . import backend, models, optim, training
from .cli import Parser, at_least, command, write_json
from .data import DATASETS, Augment, Loader, open_dataset
from .data.earth import MissingExtra
from .errors import UserError
from .geometry import receptive_field
from .kernels import shapes_only
from .kernels.cpu import workers
from .kernels.shapes import stand_in
from .runs import Recorder, Run, illustrate

DESCRIPTION = """Train a fully convolutional network from scratch.  Without arguments: a small FCN-8s learns to tell
ocean, lakes and five climate zones apart on NASA's Blue Marble, in about five minutes on two cores."""


def parser():
    p = Parser("train", DESCRIPTION)
    data = p.add_argument_group("data")
    data.add_argument(
        "--dataset", help=f"one of {', '.join(DATASETS)} (default: earth, or shapes without its extra)"
    )
    data.add_argument("--root", metavar="DIR", help="where the data set lies (folder)")
    data.add_argument("--train-split", default="train", help="what to learn from")
    data.add_argument("--val-split", default="val", help="what to measure on, every epoch")
    data.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, default=True, help="mirror at random"
    )
    data.add_argument(
        "--jitter", type=at_least(0), default=32, help="translate at random by up to this many pixels"
    )
    data.add_argument(
        "--zoom", type=at_least(0, float), default=0.0, help="zoom at random by up to 1 + this factor"
    )

    net = p.add_argument_group("model")
    net.add_argument("--model", default="fcn8s_mini", help=f"one of {', '.join(models.MODELS)}")
    net.add_argument(
        "--width", type=at_least(0.01, float), default=1.0, help="factor on all numbers of channels"
    )
    net.add_argument(
        "--dropout", type=at_least(0, float), default=0.5, help="after the last layer of the trunk"
    )
    net.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="normalise after convolutions",
    )
    net.add_argument(
        "--learn-upsampling",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="train interpolation layers",
    )

    step = p.add_argument_group("optimisation")
    step.add_argument("--epochs", type=at_least(1), default=30, help="passes over the training split")
    step.add_argument("--batch-size", type=at_least(1), default=8, help="images a batch")
    step.add_argument("--accumulate", type=at_least(1), default=1, metavar="K", help="batches a step")
    step.add_argument(
        "--optimizer", choices=("sgd", "adam"), default="sgd", help="how gradients become steps"
    )
    step.add_argument(
        "--lr", type=at_least(0, float), default=None, help="learning rate (default: see the header)"
    )
    step.add_argument("--momentum", type=at_least(0, float), default=0.9, help="of sgd")
    step.add_argument(
        "--weight-decay", type=at_least(0, float), default=5e-4, help="of the weights, not the biases"
    )
    step.add_argument(
        "--schedule", choices=tuple(optim.SCHEDULES), default="poly", help="of the learning rate"
    )
    step.add_argument(
        "--reduction", choices=("sum", "valid", "batch"), default="sum",
        help="the loss: the paper's sum over pixels, its mean over labelled pixels, or the sum per image",
    )  # fmt: skip
    step.add_argument(
        "--balance",
        type=at_least(0, float),
        default=0.5,
        metavar="POWER",
        help="class weights ∝ frequency^-POWER",
    )

    run = p.add_argument_group("run")
    run.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    run.add_argument(
        "--seed", type=at_least(0), default=0, help="of weights, order, augmentation and dropout"
    )
    run.add_argument(
        "--out", metavar="DIR", help="run folder, new or empty (default: runs/DATASET-MODEL-TIME)"
    )
    run.add_argument(
        "--resume", metavar="RUN", help="continue this run exactly; other flags are its own, but --epochs"
    )
    run.add_argument("--json", metavar="OUT", help='write the final measures there ("-": standard output)')
    return p


@command
def main(argv=None):
    """Train, from the command line."""
    p = parser()
    args = p.parse(argv)
    if args.resume:
        given = p.parse_args([*(sys.argv[1:] if argv is None else argv), "--seed", "0"])
        run, args = _resumed(p, given, argv)
    else:
        run = None
    train_data, val_data = _open_data(args)
    backend.manual_seed(args.seed)
    model = _build(args, train_data)
    train, val = _loaders(args, model, train_data, val_data)
    weight = training.class_weights(train_data, args.balance) if args.balance else None
    optimizer = _optimizer(args, model, train_data)
    fresh = run is None
    if fresh:
        name = f"{args.dataset}-{args.model}-{time.strftime('%Y%m%d-%H%M%S')}"
        run = Run.create(args.out or os.path.join("runs", name), _settings(args))
    out = sys.stderr if args.json == "-" else sys.stdout
    for line in header(args, model, optimizer, train, val, weight):
        print(line, file=out)
    print(f"run         {run.folder}", file=out, flush=True)

    t = training.fit(
        model, train, val, optimizer, args.epochs, args.reduction, weight, args.accumulate,
        optim.SCHEDULES[args.schedule],
        callbacks=[training.StopOnSignal(), training.Progress(out), Recorder(run)],
        resume=None if fresh else run.restore,
    )  # fmt: skip
    if t.epoch < t.epochs:
        print(
            f"stopped at step {t.step} of {t.total_steps}; continue with: python -m minifcn.train --resume {run.folder}"
        )
        return 130
    floors = getattr(val_data, "floors", ())
    metrics = illustrate(run, model, val_data, t.rows, floors)
    for line in outcome(metrics, floors):
        print(line, file=out)
    print(f"report      {run.folder / 'report.html'}", file=out)
    if args.json:
        write_json(args.json, metrics)
    return 0


def _resumed(p, given, argv):
    """The run to continue, and its settings; ``--epochs`` and ``--json`` may be given anew."""
    run = Run.open(given.resume)
    args = p.parse([])
    for key, value in run.config.items():
        if hasattr(args, key):
            setattr(args, key, value)
    asked = list(sys.argv[1:] if argv is None else argv)
    if "--epochs" in asked:
        args.epochs = run.config["epochs"] = given.epochs
    args.json, args.resume = given.json, given.resume
    if not run.last.is_file():
        raise UserError(
            f"{run.folder} has no last.safetensors yet: it was stopped before its first epoch; start anew"
        )
    return run, args


def _settings(args):
    return {k: v for k, v in vars(args).items() if k not in ("config", "resume", "json", "out")}


def _open_data(args):
    """The two splits; without ``--dataset``, earth or, when its extra is absent, shapes."""
    if args.dataset is None:
        args.dataset = "earth"
        try:
            return _splits(args)
        except MissingExtra as error:
            print(f"note        {error}; training on generated shapes instead", file=sys.stderr)
            args.dataset = "shapes"
    return _splits(args)


def _splits(args):
    train = open_dataset(args.dataset, args.train_split, args.root)
    val = open_dataset(args.dataset, args.val_split, args.root)
    if val.num_classes != train.num_classes:
        raise UserError(
            f"{args.train_split} has {train.num_classes} classes and {args.val_split} {val.num_classes}: name them all in "
            "classes.txt"
        )
    return train, val


def _build(args, data):
    if args.device != "cpu":
        try:
            backend.to_device(backend.from_python([0]), args.device)
        except (RuntimeError, ValueError) as error:
            raise UserError(str(error)) from None
    model = models.build(
        args.model, num_classes=data.num_classes, width=args.width, batch_norm=args.batch_norm,
        dropout=args.dropout, learn_upsampling=args.learn_upsampling,
    )  # fmt: skip
    model.classes, model.palette = data.classes, data.palette
    return model.to(args.device)


def _loaders(args, model, train_data, val_data):
    fill = model.preprocessing.fill
    augment = Augment(mirror=args.mirror, jitter=args.jitter, scale=args.zoom, fill=fill)
    train = Loader(train_data, args.batch_size, shuffle=True, seed=args.seed, augment=augment, fill=fill)
    return train, Loader(val_data, args.batch_size, fill=fill)


def _optimizer(args, model, data):
    """SGD or Adam.  The default rate suits a mean loss, divided by what the reduction multiplies it by."""
    pixels = data[0][1].size
    if args.lr is None:
        factor = {"sum": pixels * args.batch_size, "batch": pixels, "valid": 1}[args.reduction]
        args.lr = 1e-3 if args.optimizer == "adam" else float(f"{0.01 / factor:.2g}")
    if args.optimizer == "adam":
        return optim.Adam(model.parameters(), args.lr, weight_decay=args.weight_decay)
    if args.momentum >= 1:
        raise UserError(f"--momentum {args.momentum}: momentum must be below 1")
    return optim.SGD(model.parameters(), args.lr, args.momentum, args.weight_decay)


def header(args, model, optimizer, train, val, weight):
    """What is about to happen, in a few lines."""
    images = len(train.dataset)
    pixels = train.dataset[0][1].size
    image = backend.of(model.parameters()[0].data)
    field = _field(model, train.dataset[0][0].shape[:2])
    blas = next((f"{b['internal_api']} {b['version']} {b.get('architecture', '')}" for b in threadpool_info()
                 if b["user_api"] == "blas"), "unknown")  # fmt: skip
    step = training.effective_step(optimizer, args.reduction, pixels * args.batch_size, args.batch_size)
    yield f"arrays      {image.__name__} {image.__version__}, BLAS {blas.strip()}, {workers.threads()} worker threads"
    yield f"data        {args.dataset}: {images} training images, {len(val.dataset)} for validation, " + (
        f"{train.dataset.num_classes} classes"
    )
    yield f"model       {args.model}: {model.num_parameters():,} parameters; a pixel sees {field[0]}×{field[1]} pixels"
    yield (
        f"loss        cross-entropy, reduction {args.reduction}"
        + (f"; class weights {' '.join(f'{w:.2g}' for w in weight)}" if weight is not None else "")
    )
    yield (
        f"optimiser   {args.optimizer}, lr {optimizer.lr:g}, schedule {args.schedule}; effective step {step:.3g}"
        + (
            f" = lr · N / (1 − momentum) with N = {pixels * args.batch_size:,} pixels"
            if args.reduction == "sum"
            else ""
        )
    )
    yield f"length      {args.epochs} epochs of {len(train)} batches of {args.batch_size}, seed {args.seed}"


def _field(model, size):
    """The receptive field of a pixel's scores."""
    from .core import Tensor, no_grad

    with no_grad(), shapes_only():
        image = Tensor(stand_in(model.parameters()[0].data, (1, 3, *size)))
        return receptive_field(model(image), image).size


def outcome(metrics, floors):
    """The final measures, beside the figures to beat."""
    if not metrics:
        return
    rows = [("this run", metrics["pixel_accuracy"], metrics["mean_iu"])]
    rows += [(f["name"], f["pixel_accuracy"], f["mean_iu"]) for f in floors]
    yield f"{'on the validation split':<52} pixel acc  mean IU"
    for name, accuracy, iu in rows:
        yield f"  {name:<50} {accuracy:9.3f}  {iu:7.3f}"
    yield "  IU by class: " + ", ".join(
        f"{c['name']} {'–' if c['iu'] is None else format(c['iu'], '.2f')}" for c in metrics["per_class"]
    )


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
