"""Figures of an evaluation: reliability diagram, mean IU along boundaries, IU of each class with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .fonts import use_fonts
from .style import CYCLE, GREY, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled()
def reliability(bins: Sequence[Mapping[str, Any]], ece: float | None = None) -> Figure:
    """Draw a reliability diagram: the accuracy of the pixels in each bin of confidence, and how many pixels there are.

    Parameters
    ----------
    bins : sequence of dict
        {pixels, confidence, accuracy} of bins of equal width from 0 to 1; confidence and accuracy are None in an empty
        bin.
    ece : float, optional
        The expected calibration error, for the title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .page import Figure

    figure = Figure(figsize=(5.2, 4.8), layout="constrained")
    accuracy, count = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / len(bins)
    centres = (np.arange(len(bins)) + 0.5) * width
    accuracy.bar(centres, [b["accuracy"] or 0 for b in bins], 0.94 * width, color=CYCLE[5])
    full = [b for b in bins if b["pixels"]]
    accuracy.plot([b["confidence"] for b in full], [b["accuracy"] for b in full], "o", color=CYCLE[0])
    accuracy.plot([0, 1], [0, 1], "--", color="black", linewidth=1)
    accuracy.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy of the bin's pixels")
    accuracy.set_title("above the diagonal: not sure enough; below: too sure")
    if ece is not None:
        accuracy.text(0.03, 0.97, f"ECE {ece:.3f}", va="top", transform=accuracy.transAxes)
    total = max(sum(b["pixels"] for b in bins), 1)
    count.bar(centres, [100 * b["pixels"] / total for b in bins], 0.94 * width, color=GREY)
    count.set(xlabel="confidence: the probability of the predicted class", ylabel="% of pixels")
    return figure


@styled()
def boundaries(bands: Mapping[str, float | None], everywhere: float | None) -> Figure:
    """Plot the mean IU in bands along boundaries against the width of the band.

    Parameters
    ----------
    bands : dict of {str: float or None}
        {width in pixels: mean IU}.
    everywhere : float or None
        The mean IU over all pixels.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .page import Figure

    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.subplots()
    found = {int(width): 100 * iu for width, iu in bands.items() if iu is not None}
    axes.plot(list(found), list(found.values()), "o-", color=CYCLE[1], label="in the band")
    if everywhere is not None:
        axes.axhline(100 * everywhere, linestyle="--", color=GREY, label="all pixels")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(found) or [1], [str(width) for width in found] or ["1"])
    axes.minorticks_off()
    axes.set(xlabel="pixels from the boundary, at most", ylabel="mean IU, %")
    axes.set_ylim(0, 1.1 * max([*found.values(), 100 * (everywhere or 0), 1]))
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    return figure


@styled()
def class_intervals(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw the IU of each class with its confidence interval, for one or several runs.

    Parameters
    ----------
    runs : dict of {str: list of dict}
        {name of the run: {name, iu, interval} of each class}; the interval is [low, high] or None.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .page import Figure

    names = [entry["name"] for entry in next(iter(runs.values()))]
    use_fonts([*names, *runs])
    step = 0.8 / len(runs)
    tall = 0.26 * max(1, 0.6 * len(runs))
    figure = Figure(figsize=(6.4, tall * len(names) + 0.9 + 0.2 * len(runs)), layout="constrained")
    axes = figure.subplots()
    for k, (run, entries) in enumerate(runs.items()):
        shift = (k - (len(runs) - 1) / 2) * step
        there = [(i, e) for i, e in enumerate(entries) if e["iu"] is not None]
        colour = CYCLE[k % len(CYCLE)]
        axes.plot(
            [100 * e["iu"] for _, e in there],
            [i + shift for i, _ in there],
            "o",
            color=colour,
            label=run,
            clip_on=False,
        )
        for i, entry in there:
            if entry["interval"] and None not in entry["interval"]:
                axes.plot([100 * bound for bound in entry["interval"]], [i + shift] * 2, color=colour)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5), xlabel="IU, %")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    if len(runs) > 1:
        figure.legend(loc="outside upper left", ncols=2)
    return figure
