"""``minifcn.train --find-lr``: search a learning rate, draw the search, and print the rate."""

import sys

from ..arrays import parallel
from ..errors import UserError
from ..io import atomic
from ..training.rates import find_rate
from .style import CYCLE, styled


def search(parts, path):
    """Find a learning rate for the parts of a run, draw the search to a PNG file, and print the rate.

    Parameters
    ----------
    parts : Parts
    path : path-like

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    UserError
        If the loss is not finite from the beginning, or the file cannot be written.
    """
    for topic, line in parts.header.items():
        print(f"{topic:<11} {line}", flush=True)
    finder = find_rate(parts, progress=sys.stderr.isatty())
    if not finder.losses:
        raise UserError("the loss is not finite even at the smallest rate: check the images and the weights (--init)")
    if parallel.world().rank == 0:
        try:
            with atomic(path) as partial:
                rates(finder).savefig(partial, format="png")
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): give another --find-lr") from None
    rate = finder.suggested
    found = "the loss did not fall at any rate" if rate is None else f"try --lr {rate:.2g}, a tenth of the best"
    print(f"rate        {found}; {path}")
    return 0


@styled()
def rates(finder):
    """Draw the averaged loss after each step against the step's learning rate, and the rate that is suggested.

    Parameters
    ----------
    finder : RateFinder

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .page import Figure

    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(finder.rates, finder.losses, color=CYCLE[0])
    axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel="loss per pixel, averaged", title="The loss while the rate rises")
    least, first = min(finder.losses), finder.losses[0]
    axes.set_ylim(least - 0.1 * (first - least), max(1.5 * first - 0.5 * least, 1.05 * first))
    if (rate := finder.suggested) is not None:
        axes.axvline(rate, color=CYCLE[1], linestyle="--")
        axes.annotate(f" --lr {rate:.2g}", (rate, 0.97), xycoords=("data", "axes fraction"), color=CYCLE[1], va="top")
    axes.grid(axis="y")
    return figure
