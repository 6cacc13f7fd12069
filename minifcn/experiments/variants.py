"""The summary and the figure of an experiment that compares variants of a training over several seeds."""

from ..viz.experiments import dots_by_variant
from .lab import mean_and_spread


def lines(results, variants):
    """One line per variant: mean ± standard deviation over seeds."""
    width = max(map(len, variants))
    yield f"{'':<{width}} {'mean IU':>15} {'boundary IU':>15} {'pixel acc':>15}"
    for variant in variants:
        rows = [r for r in results["rows"] if r["variant"] == variant]
        cells = (mean_and_spread([r[k] for r in rows]) for k in ("mean_iu", "boundary_iu", "pixel_accuracy"))
        yield f"{variant:<{width}} " + " ".join(f"{m:8.4f} ±{s:6.4f}" for m, s in cells)


def dots(results, variants):
    """One dot per seed and one row per variant: mean IU on the left, along borders on the right."""
    panels = {"mean_iu": "mean IU, all pixels", "boundary_iu": f"mean IU within {results['band']} px of a border"}
    return dots_by_variant(results["rows"], variants, panels)
