"""Fusion (§5, NYUDv2): colour alone, height alone, both fused early in one trunk, and late as the mean of two nets.

The paper adds depth to colour.  Here the heights of a relief are added to satellite images of the Earth.  All four nets
are trained from scratch with the same settings and for as many steps.
"""

from ..viz.experiments import dots_by_variant
from .lab import BAND, mean_and_spread

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
    yield f"{'':<12} {'mean IU':>15} {'boundary IU':>15} {'pixel acc':>15}"
    for variant in VARIANTS:
        rows = [r for r in results["rows"] if r["variant"] == variant]
        cells = (mean_and_spread([r[k] for r in rows]) for k in ("mean_iu", "boundary_iu", "pixel_accuracy"))
        yield f"{variant:<12} " + " ".join(f"{m:8.4f} ±{s:6.4f}" for m, s in cells)


def draw(results):
    """Draw one dot per seed and one row per variant: mean IU on the left, along borders on the right."""
    panels = {"mean_iu": "mean IU, all pixels", "boundary_iu": f"mean IU within {results['band']} px of a border"}
    return dots_by_variant(results["rows"], VARIANTS, panels)
