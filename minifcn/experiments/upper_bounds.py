"""Upper bounds on mean IU (CVPR appendix A): evaluate the down-sampled and up-sampled true labels as a prediction.

This bounds what a coarse output can reach: even a factor of 8 costs little if objects are large.
"""

from ..data import open_dataset
from ..training.metrics import ConfusionMatrix, upper_bound
from ..viz.experiments import lines_by_variant

FACTORS = (128, 64, 32, 16, 8, 4, 2, 1)
PAPER = {128: 0.509, 64: 0.733, 32: 0.861, 16: 0.928, 8: 0.964, 4: 0.985}  # on VOC 2011


def run(lab):
    """Compute the bound for every factor and data set; the generated scenes have one fixed seed."""
    names = ("shapes",) if lab.short else ("earth", "shapes")
    bounds = {}
    for name in names:
        data = open_dataset(name, "val")
        labels = [data[i][1] for i in range(20 if lab.short else len(data))]
        bounds[name] = {
            factor: sum(
                (ConfusionMatrix(data.num_classes).update(label, upper_bound(label, factor)) for label in labels),
                ConfusionMatrix(data.num_classes),
            ).mean_iu
            for factor in FACTORS
        }
    return dict(rows=[dict(variant=n, factor=f, mean_iu=iu) for n, row in bounds.items() for f, iu in row.items()])


def summary(results):
    """One line per factor."""
    names = list(dict.fromkeys(r["variant"] for r in results["rows"]))
    yield f"{'factor':>6}" + "".join(f" {n:>8}" for n in (*names, "VOC 2011 (paper)"))
    for factor in FACTORS:
        cells = [r["mean_iu"] for n in names for r in results["rows"] if (r["variant"], r["factor"]) == (n, factor)]
        paper = f"{PAPER[factor]:16.3f}" if factor in PAPER else ""
        yield f"{factor:>6}" + "".join(f" {c:8.3f}" for c in cells) + f" {paper}"


def draw(results):
    """Draw the mean IU over the factor, beside the paper's."""
    paper = [dict(variant="VOC 2011 (paper)", factor=f, mean_iu=iu) for f, iu in PAPER.items()]
    return lines_by_variant([*results["rows"], *paper], "factor", "mean_iu", "down-sampling factor", "mean IU at best")
