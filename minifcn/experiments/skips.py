"""Skips (§4.2): 32s → 16s → 8s in stages, against 8s at once and 32s trained as long; mean IU, and along borders.

Every net is trained from scratch by the same settings; a stage starts from the weights of the one before.  The paper
gives a stage a hundredth of the rate before it; from scratch, on the splits fit and tune, FCN-16s reached a mean IU of
.436, .445 and .453 with a tenth, 0.3 and all of it, so a stage has the whole rate here.  The two controls have as many
epochs as the three stages together, so that what they lack is not time.
"""

from ..viz.experiments import dots_by_variant
from .lab import BAND, mean_and_spread

EPOCHS = {"32s": 30, "16s": 15, "8s": 15}
CONSTANTS = dict(epochs=EPOCHS)
VARIANTS = {  # the model, and the run that it starts from
    "32s": ("fcn32s_mini", None),
    "16s": ("fcn16s_mini", "32s"),
    "8s": ("fcn8s_mini", "16s"),
    "32s as long": ("fcn32s_mini", None),
    "8s at once": ("fcn8s_mini", None),
}


def run(lab):
    """Train every variant with every seed."""
    _, val, of_data = lab.data()
    epochs = dict.fromkeys(EPOCHS, 1) if lab.short else EPOCHS
    rows = []
    for seed in lab.seeds:
        runs = {}
        for variant, (model, start) in VARIANTS.items():
            count = epochs.get(variant, sum(epochs.values()))
            flags = [*of_data, "--model", model, "--epochs", count, "--seed", seed]
            flags += ["--init", runs[start]] if start else []
            runs[variant] = lab.train(f"seed{seed}-{variant.replace(' ', '-')}", *flags)
            rows.append(dict(variant=variant, seed=seed, epochs=count, **lab.judge(runs[variant], val)))
    return dict(data=repr(val), band=BAND, epochs=epochs, rows=rows)


def summary(results):
    """One line a variant: mean ± standard deviation over seeds."""
    yield f"{'':<12} {'mean IU':>15} {'boundary IU':>15} {'pixel acc':>15}"
    for variant in VARIANTS:
        rows = [r for r in results["rows"] if r["variant"] == variant]
        cells = (mean_and_spread([r[k] for r in rows]) for k in ("mean_iu", "boundary_iu", "pixel_accuracy"))
        yield f"{variant:<12} " + " ".join(f"{m:8.4f} ±{s:6.4f}" for m, s in cells)


def draw(results):
    """Each seed a dot, each variant a row; mean IU on the left, along borders on the right."""
    panels = {"mean_iu": "mean IU, all pixels", "boundary_iu": f"mean IU within {results['band']} px of a border"}
    return dots_by_variant(results["rows"], VARIANTS, panels)
