"""Figures of the experiments; each shows the result of every seed."""

import numpy as np

from .style import CYCLE, GREY, styled


@styled()
def dots_by_variant(rows, variants, panels):
    """Draw one dot per result and one line of dots per variant, with their mean; one panel per measure.

    Parameters
    ----------
    rows : sequence of dict
        The results, with the keys ``variant`` and every measure.
    variants : sequence of str
        The variants from top to bottom.
    panels : dict of {str: str}
        The measures, with their titles.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .page import Figure

    figure = Figure(figsize=(4.2 * len(panels) + 1, 0.42 * len(variants) + 1.1), layout="constrained")
    for axes, (measure, title) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()):
        for line, variant in enumerate(variants):
            values = [row[measure] for row in rows if row["variant"] == variant]
            axes.plot(values, [line] * len(values), "o", color=CYCLE[0], alpha=0.55, ms=6, mew=0)
            axes.plot([np.mean(values)] * 2, [line - 0.28, line + 0.28], color="black", lw=2)
            axes.annotate(
                f"{np.mean(values):.3f}", (np.mean(values), line - 0.3), ha="center", va="bottom", size=8, color=GREY
            )
        axes.set_title(title)
        axes.set_yticks(range(len(variants)), variants)
        axes.set_ylim(len(variants) - 0.5, -0.75)
        axes.margins(x=0.15)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    return figure


@styled()
def curves_by_variant(lines, panels, measure, label):
    """Draw one curve per line, coloured by variant; one panel for each quantity on the horizontal axis.

    Parameters
    ----------
    lines : sequence of dict
        The keys ``variant``, `measure` (a sequence), and one sequence for every panel.
    panels : dict of {str: str}
        The keys of the horizontal quantities, with their axis labels.
    measure, label : str
        The key of the vertical quantity, and its label.
    """
    from .page import Figure

    variants = list(dict.fromkeys(line["variant"] for line in lines))
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    for axes, (over, text) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()):
        for line in lines:
            colour = CYCLE[variants.index(line["variant"])]
            axes.plot(line[over], line[measure], color=colour, alpha=0.7, lw=1.3)
        axes.set_xlabel(text)
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        axes.set_title(f"{label} over {text}")
    axes.legend([_key(i) for i in range(len(variants))], [f"{v} of the pixels" for v in variants], loc="upper right")
    return figure


@styled()
def lines_by_variant(rows, over, measure, over_text, text):
    """Draw one line per variant through its points; the horizontal axis is logarithmic with base 2."""
    from .page import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for i, variant in enumerate(dict.fromkeys(row["variant"] for row in rows)):
        points = sorted((row[over], row[measure]) for row in rows if row["variant"] == variant)
        style = dict(color=GREY, ls="--") if "paper" in variant else dict(color=CYCLE[i])
        axes.plot(*zip(*points), marker="o", label=variant, **style)
    ticks = sorted({row[over] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(over_text)
    axes.set_title(text)
    axes.grid(axis="y")
    axes.legend(loc="lower left")
    return figure


@styled()
def bars_by_variant(bars, title):
    """Draw groups of bars with their values; each bar is a ``dict(group, variant, value)``."""
    from .page import Figure

    groups = list(dict.fromkeys(bar["group"] for bar in bars))
    variants = list(dict.fromkeys(bar["variant"] for bar in bars))
    figure = Figure(figsize=(7.2, 0.9 * len(groups) + 1.2), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(variants)
    for bar in bars:
        g, v = groups.index(bar["group"]), variants.index(bar["variant"])
        y = g + (v - (len(variants) - 1) / 2) * height
        axes.barh(y, bar["value"], height * 0.9, color=CYCLE[v])
        axes.annotate(f" {bar['value']:.2f}", (bar["value"], y), va="center", size=8)
    axes.axvline(1, color=GREY, lw=1)
    axes.set_yticks(range(len(groups)), groups)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_title(title)
    axes.tick_params(axis="y", length=0)
    keys = [_key(i, lw=6) for i in range(len(variants))]
    axes.legend(keys, variants, loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=len(variants))
    return figure


@styled()
def effective_fields(maps, size):
    """Draw effective receptive fields on one logarithmic colour scale, and their sums over rows as profiles.

    Parameters
    ----------
    maps : dict of {str: (H, W) array}
        The fields by name, with a largest value of about 1.
    size : int
        The width of a field in pixels of the image.
    """
    from matplotlib.colors import LogNorm

    from .page import Figure

    figure = Figure(figsize=(3.1 * len(maps) + 4, 3.2), layout="constrained")
    *pictures, profile = figure.subplots(1, len(maps) + 1, width_ratios=[1] * len(maps) + [1.3])
    for i, (axes, (name, values)) in enumerate(zip(pictures, maps.items())):
        shown = axes.imshow(values.clip(1e-4), cmap="viridis", norm=LogNorm(1e-4, 1))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(name)
        line = values.sum(axis=0) / values.sum(axis=0).max()
        profile.plot((np.arange(len(line)) + 0.5) * size / len(line) - size / 2, line, color=CYCLE[i], label=name)
    figure.colorbar(shown, ax=pictures, shrink=0.8, label="mean |gradient|, of the largest")
    profile.set_title("summed over rows")
    profile.set_xlabel("pixels from the unit")
    profile.grid(axis="y")
    profile.legend()
    return figure


def _key(i, lw=1.6):
    from matplotlib.lines import Line2D

    return Line2D([], [], color=CYCLE[i], lw=lw)
