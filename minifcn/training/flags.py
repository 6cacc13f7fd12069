"""The flags of ``python -m minifcn.train``, and the settings that result from them."""

import argparse
import sys

from .. import models
from ..data import DATASETS
from ..errors import UserError
from ..io.cli import Parser, at_least, device, json_file, seed, share
from ..nn.losses import LOSSES
from ..nn.optim import SCHEDULES
from .parts import PLACES
from .recipes import RECIPES, default_start, recipe
from .run_folder import Run, require_vacant

DESCRIPTION = """Train a fully convolutional network.  Without arguments: a small one learns to tell ocean, lakes and
five climate zones apart on NASA's Blue Marble, in a few minutes on two cores."""

OF_THE_NET = (
    "model", "bands", "fusion", "width", "pad", "dropout", "batch_norm", "learn_upsampling", "init", "freeze", "recipe",
    "optimizer",
)  # fmt: skip
"""The flags without which a run gets the default net."""


def parser():
    """The command-line parser of ``minifcn.train``."""
    p = Parser("train", DESCRIPTION)
    switch = argparse.BooleanOptionalAction

    data = p.add_argument_group("data")
    data.add_argument(
        "--dataset",
        help=f"one of {', '.join(DATASETS)} (default: the layout of --root; else earth, or shapes without its extra)",
    )
    data.add_argument(
        "--root", metavar="DIR", help="the folder of the data set: images/ and masks/, or a layout of docs/data.md"
    )
    data.add_argument(
        "--bands", metavar="NAMES",
        help="bands to use, with commas: of earth red,green,blue,height (default: without height), or of bands.txt",
    )  # fmt: skip
    data.add_argument("--train-split", default="train", help="the split to train on")
    data.add_argument("--val-split", default="val", help="the split to validate on after every epoch")
    data.add_argument("--mirror", action=switch, default=True, help="mirror images at random")
    data.add_argument(
        "--jitter", type=at_least(0), metavar="PIXELS",
        help="translate images at random by up to this many pixels (default: 64, less for small images; the header "
        "shows it)",
    )  # fmt: skip
    data.add_argument(
        "--zoom",
        type=at_least(0, float, below=10),
        default=0.2,
        help="enlarge or shrink images at random by up to 1 + this factor",
    )

    net = p.add_argument_group("model")
    net.add_argument(
        "--model",
        help=f"one of {', '.join(models.MODELS)}; or another stride and trunk: fcn16s_vgg11 (default: fcn8s_mini; or, "
        "without another flag about the model, fcn4s_efficientnet_lite0 with --init imagenet, --optimizer adam and "
        "--epochs 12 if its extra is installed)",
    )
    net.add_argument(
        "--fusion", choices=("early", "late"), default="early",
        help="early: one trunk reads all bands; late: one reads red, green and blue, another the other bands",
    )  # fmt: skip
    net.add_argument(
        "--width", type=at_least(0.01, float, below=100), default=1.0, help="factor on all numbers of channels"
    )
    default = "(default: depends on the model)"
    net.add_argument(
        "--pad", type=padding, metavar="N|minimal",
        help=f"zeros around the image in the first layer; minimal: as few as the images need {default}",
    )  # fmt: skip
    net.add_argument(
        "--dropout", type=at_least(0, float, below=1), help=f"dropout probability at the end of the trunk {default}"
    )
    net.add_argument("--batch-norm", action=switch, help=f"batch norm after convolutions {default}")
    net.add_argument("--learn-upsampling", action=switch, help=f"train all upsampling layers but the last {default}")
    net.add_argument(
        "--init", metavar="RUN",
        help="start with the weights of a run or a file that fit by name (and their preprocessing), such as 16s from "
        "32s; imagenet: those of the installed package, for nets over efficientnet_lite0",
    )  # fmt: skip
    net.add_argument(
        "--freeze", metavar="LAYER", help="do not train the trunk up to this layer; trunk: the whole trunk"
    )

    step = p.add_argument_group("optimisation")
    step.add_argument(
        "--recipe", choices=tuple(RECIPES), help="use the paper's settings for its nets (other flags override them)"
    )
    step.add_argument("--epochs", type=at_least(1), default=60, help="passes over the training split")
    step.add_argument("--batch-size", type=at_least(1), default=8, help="images per batch, on all ranks together")
    step.add_argument("--accumulate", type=at_least(1), default=1, metavar="K", help="batches per step")
    step.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd", help="the optimiser")
    step.add_argument(
        "--lr", type=at_least(0, float), help="learning rate (default: depends on --reduction; the header shows it)"
    )
    step.add_argument("--momentum", type=at_least(0, float, below=1), default=0.9, help="momentum of sgd")
    step.add_argument(
        "--weight-decay", type=at_least(0, float),
        help="weight decay, for weights but not biases (default: depends on --reduction)",
    )  # fmt: skip
    step.add_argument("--schedule", choices=tuple(SCHEDULES), default="poly", help="schedule of the learning rate")
    step.add_argument("--loss", choices=tuple(LOSSES), default="cross_entropy", help="the loss to minimise")
    step.add_argument(
        "--reduction", choices=("sum", "valid", "batch", "classes"),
        help="how the loss is reduced: sum over labelled pixels (the paper's), valid: their mean, batch: the sum per "
        f"image, classes: the mean over classes (default: {_of_each(lambda loss: loss.reductions[0])})",
    )  # fmt: skip
    step.add_argument(
        "--balance",
        type=at_least(0, float, below=10),
        metavar="POWER",
        help=f"class weights ∝ frequency^-POWER (default: {_of_each(lambda loss: 0.5 if loss.adds else 0)})",
    )
    step.add_argument(
        "--sampling", type=share, default=1.0, metavar="P", help="the probability with which each pixel's loss counts"
    )

    run = p.add_argument_group("run")
    run.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1")
    run.add_argument("--seed", type=seed, default=0, help="seed of initial weights, order, augmentation and dropout")
    run.add_argument("--out", metavar="DIR", help="run folder, new or empty (default: runs/DATASET-MODEL-TIME)")
    run.add_argument(
        "--resume", metavar="RUN", help="continue this run exactly, with its settings; --epochs N extends it"
    )
    run.add_argument(
        "--json", type=json_file, metavar="OUT", help='write the final measures to this file ("-": standard output)'
    )
    return p


def _of_each(default):
    """The default of every loss, as text: ``sum for cross_entropy, focal; classes for dice, lovasz``."""
    names = {}
    for name, loss in LOSSES.items():
        names.setdefault(default(loss), []).append(name)
    return "; ".join(f"{value} for {', '.join(those)}" for value, those in names.items())


def padding(text):
    """An argparse type: a number of pixels, or "minimal"."""
    return text if text == "minimal" else at_least(0, below=10_000)(text)


def settings(argv=None):
    """The settings, and the run to continue or None.

    With --resume, the settings are those of the run, except --epochs, --json and --root.
    """
    p = parser()
    args = p.parse(argv)
    if args.resume is None:
        if all(getattr(args, name) == p.get_default(name) for name in OF_THE_NET):
            args = p.parse(argv, under=default_start())
        args.model = args.model or "fcn8s_mini"
        if args.recipe:
            args = p.parse(argv, under=recipe(args.recipe, args.model))
            if args.optimizer != "sgd":
                raise UserError(
                    f"--recipe {args.recipe} has learning rates for sgd, not for --optimizer {args.optimizer}: leave "
                    "out one of the two"
                )
            if args.init is None:
                print(
                    f"note        --recipe {args.recipe} is for fine-tuning: without --init, its learning rates are "
                    "too small to learn much", file=sys.stderr,
                )  # fmt: skip
        if args.out:
            require_vacant(args.out)
        return args, None
    others = sorted(p.given(argv).keys() - {"resume", "epochs", "json", "root"})
    if others:
        flags = ", ".join("--" + name.replace("_", "-") for name in others)
        raise UserError(
            f"--resume continues {args.resume} with the settings it was started with: leave out {flags} "
            "(only --epochs and --json may be given again, and --root if the data have moved)"
        )
    run = Run.open(args.resume)
    if wrong := [name for name in run.config if name.replace("-", "_") in PLACES]:
        raise UserError(f"{run.folder / 'config.json'}: {wrong[0]!r} is not a setting of a run; remove it")
    return p.over(run.config, run.folder / "config.json", argv), run
