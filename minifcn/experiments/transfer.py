"""Transfer (§4.1): what weights learned on ImageNet are worth, by mean IU and along borders, at equal steps.

The net is FCN-4s over EfficientNet-Lite0, with the settings of the default command.  Every variant trains for the same
number of steps, and a step takes the same time from ImageNet and from scratch; only the frozen trunk is faster.  The
stages are the paper's: 32s, then 16s and 8s and 4s, each from the weights of the stage before.  The second half repeats
the comparison with a few dozen pictures, taken from the training split at equal intervals.
"""

import numpy as np
from PIL import Image

from ..data.palette import save_mask
from ..training.recipes import FROM_IMAGENET
from . import variants
from .lab import BAND

NET = "efficientnet_lite0"
EPOCHS, FEW_EPOCHS, FEW = 12, 24, 30  # the few pictures are seen more often, in fewer steps
STAGES = {"fcn32s": 5, "fcn16s": 3, "fcn8s": 2, "fcn4s": 2}  # epochs
CONSTANTS = dict(epochs=EPOCHS, few_epochs=FEW_EPOCHS, few=FEW, stages=STAGES)
ALL, PART = "all tiles", f"{FEW} tiles"
VARIANTS = {  # the data, and the flags of its start
    f"from ImageNet, {ALL}": (ALL, ["--init", "imagenet"]),
    f"from scratch, {ALL}": (ALL, []),
    f"trunk frozen, {ALL}": (ALL, ["--init", "imagenet", "--freeze", "trunk"]),
    f"in stages, {ALL}": (ALL, None),
    f"from ImageNet, {PART}": (PART, ["--init", "imagenet"]),
    f"from scratch, {PART}": (PART, []),
}


def run(lab):
    """Train every variant with every seed."""
    train, val, of_data = lab.data()
    data = {ALL: of_data, PART: _few(lab, train, val)}
    rows = []
    for seed in lab.seeds:
        for variant, (kind, start) in VARIANTS.items():
            name = f"seed{seed}-{variant.replace(' ', '-').replace(',', '')}"
            common = [*data[kind], "--optimizer", FROM_IMAGENET["optimizer"], "--seed", seed]
            if start is None:
                folder = _in_stages(lab, name, common)
            else:
                epochs = 1 if lab.short else EPOCHS if kind == ALL else FEW_EPOCHS
                if lab.short:
                    start = [flag for flag in start if flag in ("--freeze", "trunk")]
                folder = lab.train(name, *common, "--model", f"fcn4s_{NET}", "--epochs", epochs, *start)
            rows.append(dict(variant=variant, seed=seed, **lab.judge(folder, val)))
    return dict(data=repr(val), band=BAND, epochs=EPOCHS, few_epochs=FEW_EPOCHS, rows=rows)


def _in_stages(lab, name, common):
    """Train 32s, 16s, 8s and 4s one after the other; the run folder of the last."""
    start = None if lab.short else "imagenet"
    for stage, epochs in STAGES.items():
        flags = [*common, "--model", f"{stage}_{NET}", "--epochs", 1 if lab.short else epochs]
        start = lab.train(f"{name}-{stage}", *flags, *(["--init", start] if start else []))
    return start


def _few(lab, train, val):
    """A folder with `FEW` pictures of the training split, and all of the validation split; the flags to train on it."""
    root = lab.folder / "few"
    if not root.is_dir():
        partial = root.with_name("few.partial")  # renamed only when complete
        chosen = np.unique(np.linspace(0, len(train) - 1, FEW).astype(int)).tolist()
        for split, pairs in (("train", [train[i] for i in chosen]), ("val", [val[i] for i in range(len(val))])):
            for i, (image, label) in enumerate(pairs):
                for kind in ("images", "masks"):
                    (partial / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(partial / split / "images" / f"{i:03}.png")
                save_mask(partial / split / "masks" / f"{i:03}.png", label)
        (partial / "classes.txt").write_text("\n".join(val.classes) + "\n", encoding="utf-8")
        partial.rename(root)
    return ["--dataset", "folder", "--root", root, *(["--width", 0.25] if lab.short else [])]


def summary(results):
    """One line per variant: mean ± standard deviation over seeds."""
    return variants.lines(results, VARIANTS)


def draw(results):
    """Draw one dot per seed and one row per variant: mean IU on the left, along borders on the right."""
    return variants.dots(results, VARIANTS)
