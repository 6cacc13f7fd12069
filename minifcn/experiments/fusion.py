"""Fusion (§5, NYUDv2): colour alone, height alone, both fused early in one trunk, and late as the mean of two nets.

The paper adds depth to colour.  Here the heights of a relief are added to satellite images of the Earth.  All four nets
are trained from scratch with the same settings and for as many steps.
"""

from . import variants
from .lab import BAND

EPOCHS = 12
MODEL = "fcn8s_mini"
COLOUR, HEIGHT = "red,green,blue", "height"
VARIANTS = {  # the bands, and further flags
    "colour": (COLOUR, []),
    "height": (HEIGHT, []),
    "early fusion": (f"{COLOUR},{HEIGHT}", []),
    "late fusion": (f"{COLOUR},{HEIGHT}", ["--fusion", "late"]),
}
CONSTANTS = dict(epochs=EPOCHS, model=MODEL)


def run(lab):
    """Train every variant with every seed."""
    epochs, rows = 1 if lab.short else EPOCHS, []
    for seed in lab.seeds:
        for variant, (bands, flags) in VARIANTS.items():
            _, val, of_data = lab.data(bands)
            name = f"seed{seed}-{variant.replace(' ', '-')}"
            folder = lab.train(name, *of_data, *flags, "--model", MODEL, "--epochs", epochs, "--seed", seed)
            rows.append(dict(variant=variant, seed=seed, epochs=epochs, **lab.judge(folder, val)))
    return dict(data=repr(val), band=BAND, epochs=epochs, rows=rows)


def summary(results):
    """One line per variant: mean ± standard deviation over seeds."""
    return variants.lines(results, VARIANTS)


def draw(results):
    """Draw one dot per seed and one row per variant: mean IU on the left, along borders on the right."""
    return variants.dots(results, VARIANTS)
