"""Skips (§4.2): 32s → 16s → 8s in stages, against 8s at once and 32s trained as long, by mean IU and along borders.

Every net is trained from scratch with the same settings; a stage starts from the weights of the stage before.  The
paper divides the learning rate by 100 at each stage.  Here every stage keeps the full learning rate: from scratch, on
the splits fit and tune, FCN-16s reached a mean IU of .436, .445 and .453 with 0.1, 0.3 and 1 times the rate.  The two
controls have as many epochs as the three stages together, so that a lower score is not due to a shorter training.
"""

from . import variants
from .lab import BAND

EPOCHS = {"32s": 30, "16s": 15, "8s": 15}
CONSTANTS = dict(epochs=EPOCHS)
VARIANTS = {  # the model, and the variant whose weights it starts from
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
    """One line per variant: mean ± standard deviation over seeds."""
    return variants.lines(results, VARIANTS)


def draw(results):
    """Draw one dot per seed and one row per variant: mean IU on the left, along borders on the right."""
    return variants.dots(results, VARIANTS)
