"""Loss sampling (§4.3, figure 5): the loss of all pixels, or of a random half or quarter with 2 or 4 times the images.

A location is kept with probability p and the batch has 1/p times the images, so the expected number of locations per
step stays the same.  The paper finds the same loss after the same number of steps, and therefore slower convergence in
time, because a step processes more images.
"""

import csv

import numpy as np

from ..viz.experiments import curves_by_variant
from .lab import mean_and_spread

SHARES = (1.0, 0.5, 0.25)
BATCH, STEPS = 8, 300
CONSTANTS = dict(shares=list(SHARES), batch=BATCH, steps=STEPS)


def run(lab):
    """Train with each share and every seed, for the same number of steps."""
    images, _, of_data = lab.data()
    steps, rows = 8 if lab.short else STEPS, []
    for seed in lab.seeds:
        for share in SHARES:
            batch = round(BATCH / share)
            an_epoch = len(images) // batch
            folder = lab.train(
                f"seed{seed}-{share:.0%}".replace("%", ""), *of_data, "--seed", seed, "--sampling", share,
                "--batch-size", batch, "--epochs", round(steps / an_epoch),
            )  # fmt: skip
            with open(folder / "log.csv", encoding="utf-8", newline="") as file:
                log = list(csv.DictReader(file))
            rows.append(
                dict(
                    variant=f"{share:.0%}", seed=seed, batch=batch, steps_an_epoch=an_epoch,
                    **{k: [float(r[k]) for r in log] for k in ("loss", "val_loss", "mean_iu", "seconds")},
                )
            )  # fmt: skip
    return dict(data=repr(images), steps=steps, rows=rows)


def summary(results):
    """One line per share: the measures after all steps, and the training time."""
    yield f"{'kept':<6} {'images a step':>13} {'validation loss':>18} {'mean IU':>15} {'seconds':>9}"
    for share in SHARES:
        rows = [r for r in results["rows"] if r["variant"] == f"{share:.0%}"]
        loss, iu = (mean_and_spread([r[k][-1] for r in rows]) for k in ("val_loss", "mean_iu"))
        seconds = np.mean([sum(r["seconds"]) for r in rows])
        cells = f"{loss[0]:10.4f} ±{loss[1]:6.4f} {iu[0]:7.4f} ±{iu[1]:6.4f} {seconds:9.0f}"
        yield f"{share:<6.0%} {rows[0]['batch']:>13} {cells}"


def draw(results):
    """Draw the validation loss over steps (left) and over time (right), as in the paper's figure 5."""
    lines = []
    for row in results["rows"]:
        steps = np.arange(1, len(row["val_loss"]) + 1) * row["steps_an_epoch"]
        lines.append(dict(variant=row["variant"], steps=steps, seconds=np.cumsum(row["seconds"]), loss=row["val_loss"]))
    return curves_by_variant(lines, {"steps": "steps", "seconds": "seconds of training"}, "loss", "validation loss")
