"""The flags of ``python -m minifcn.train``, and the settings that result from them."""

import argparse
import sys

from .. import models
from ..data import DATASETS
from ..data.transforms import LARGEST
from ..errors import UserError
from ..io.cli import Parser, at_least, device, json_file, seed, share
from ..models.donors import PREPROCESSINGS
from ..nn.losses import LOSSES
from ..nn.optim import SCHEDULES
from .parts import PLACES
from .recipes import RECIPES, STEPS, default_start, recipe
from .run_folder import Run, require_vacant

DESCRIPTION = """Train a fully convolutional network.  Without arguments: a small one learns to tell ocean, lakes and
five climate zones apart on NASA's Blue Marble, in a few minutes on two cores."""

OF_THE_NET = (
    "model", "bands", "heads", "fusion", "width", "pad", "dropout", "batch_norm", "learn_upsampling", "init", "freeze",
    "recipe", "optimizer",
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
    data.add_argument(
        "--heads", metavar="NAMES",
        help="kinds of labels to learn, with commas, each with a head of its own: of siftflow sem,geo (default: both "
        "for fcn16s_siftflow and fcn8s_siftflow, else one kind)",
    )  # fmt: skip
    data.add_argument("--train-split", default="train", help="the split to train on")
    data.add_argument("--val-split", default="val", help="the split to validate on after every epoch")
    data.add_argument(
        "--val", type=share, metavar="SHARE",
        help="in a folder without splits, this share, such as 0.2, is for validation, drawn with --seed (default: "
        "every fifth picture); for frames of a video see python -m minifcn.data convert --block",
    )  # fmt: skip
    data.add_argument(
        "--size", type=at_least(1, below=LARGEST + 1), metavar="PIXELS",
        help="resize pictures until their shorter side has this many pixels; evaluate and predict then do the same "
        "(default: as they are)",
    )  # fmt: skip
    data.add_argument(
        "--repeat", type=at_least(1), metavar="K",
        help=f"passes over the training split in one epoch (default: as many as make {STEPS} steps, for own pictures)",
    )  # fmt: skip

    change = p.add_argument_group("augmentation")
    suits = "(default: depends on the data; the header shows it)"
    change.add_argument("--mirror", action=switch, default=True, help="mirror images at random")
    change.add_argument(
        "--scale", type=at_least(0.01, float, below=100), nargs=2, metavar=("LEAST", "MOST"),
        help=f"shrink and magnify images at random, by factors in this range {suits}",
    )  # fmt: skip
    change.add_argument(
        "--crop", type=at_least(1, below=LARGEST + 1), nargs=2, metavar=("H", "W"),
        help="train on rectangles of H×W pixels, cut out at random (default: whole pictures, or 320×320 of large ones)",
    )  # fmt: skip
    change.add_argument(
        "--jitter", type=at_least(0, float, below=1), metavar="SHARE",
        help=f"displace images at random by up to this share of their sides {suits}",
    )  # fmt: skip
    change.add_argument(
        "--colour", type=at_least(0, float, below=1), metavar="STRENGTH",
        help=f"change brightness, contrast, saturation and hue at random by up to this share {suits}",
    )  # fmt: skip

    net = p.add_argument_group("model")
    net.add_argument(
        "--model",
        help=f"one of {', '.join(models.MODELS)}; or another stride and trunk: fcn16s_vgg11 (default: fcn8s_mini; or, "
        "without another flag about the model, fcn4s_efficientnet_lite0 with --init imagenet, --optimizer adam and "
        "--epochs 20, and without --root with --scale 0.6 1.6, --ema 0.99 and --schedule constant, if its extra is "
        "installed)",
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
        "--auxiliary", type=at_least(0, float, below=100), metavar="WEIGHT",
        help="also train scores of the coarsest map alone, whose loss has this weight, such as 0.4; for fcn_resnet50, "
        "of its third stage (default: 0.5 for fcn_resnet50, else none)",
    )  # fmt: skip
    net.add_argument(
        "--init", metavar="RUN",
        help="start with the weights of a run or a file that fit by name (and their preprocessing), such as 16s from "
        "32s; imagenet: those of the installed package, for nets over efficientnet_lite0",
    )  # fmt: skip
    net.add_argument(
        "--preprocessing", choices=tuple(PREPROCESSINGS),
        help="how images become the net's input, for weights (--init) that do not say it: caffe: BGR − mean; "
        "torchvision: (RGB − mean) / deviation; imagenet: (RGB − 127) / 128 (default: that of --init, else "
        "(RGB − 127.5) / 64)",
    )  # fmt: skip
    net.add_argument(
        "--freeze", metavar="LAYER", help="do not train the trunk up to this layer; trunk: the whole trunk"
    )

    step = p.add_argument_group("optimisation")
    step.add_argument(
        "--recipe", choices=tuple(RECIPES), help="use the paper's settings for its nets (other flags override them)"
    )
    step.add_argument(
        "--epochs", type=at_least(1),
        help="after each, the net is validated (default: 60; 20 on own pictures, --root, and from ImageNet)",
    )  # fmt: skip
    step.add_argument(
        "--stop-after", type=at_least(1), metavar="N",
        help="end when the mean IU has not improved for this many epochs (default: never)",
    )  # fmt: skip
    step.add_argument("--batch-size", type=at_least(1), default=8, help="images per batch, on all ranks together")
    step.add_argument("--accumulate", type=at_least(1), default=1, metavar="K", help="batches per step")
    step.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd", help="the optimiser")
    step.add_argument(
        "--lr", type=at_least(0, float), help="learning rate (default: depends on --reduction; the header shows it)"
    )
    step.add_argument(
        "--find-lr", metavar="FILE",
        help="do not train: raise the learning rate over some steps, draw the losses to this PNG file, suggest a rate",
    )  # fmt: skip
    step.add_argument("--momentum", type=at_least(0, float, below=1), default=0.9, help="momentum of sgd")
    step.add_argument(
        "--weight-decay", type=at_least(0, float),
        help="weight decay, for weights but not biases (default: depends on --reduction)",
    )  # fmt: skip
    step.add_argument(
        "--ema", type=at_least(0, float, below=1), metavar="DECAY",
        help="validate and keep the average of the weights over the last 1/(1 − DECAY) steps, but at most over about "
        f"the last tenth of the steps so far; 0: the weights themselves {suits}",
    )  # fmt: skip
    step.add_argument(
        "--clip", type=at_least(0, float), metavar="NORM",
        help="shorten longer gradients of the mean loss to this norm (default: never)",
    )  # fmt: skip
    step.add_argument(
        "--schedule", choices=tuple(SCHEDULES), default="poly",
        help="schedule of the learning rate (default: poly; without another flag about the model, see --model)",
    )  # fmt: skip
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
        "--tensorboard", action=switch, default=False,
        help="also write scalars, examples and histograms for TensorBoard into the run folder (extra tb)",
    )  # fmt: skip
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
            args = p.parse(argv, under=default_start(own=args.root is not None))
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
