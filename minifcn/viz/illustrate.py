"""Writes the results of a training into the run folder: measures, figures and the report."""

import time
import warnings
from contextlib import suppress

import numpy as np

from ..arrays import parallel
from ..data.bands import bands_of, false_colour
from ..io import atomic
from ..training.evaluation import by_kind, evaluate
from ..training.results import data_facts, joined, measures
from ..training.state import Callback, columns, of_head
from .figures import confusion as confusion_figure
from .figures import curves, samples
from .report import write_report
from .tensorboard import TensorBoard

DRAWN = 1024  # most pixels of a side of an example
MOST_PIXELS = 4 * 10**7  # of the images among which examples are chosen
SECONDS = 5.0  # least time between two drawings of the curves
REFRESH = 20  # seconds after which a browser reads the report of a run in progress again


def illustrate(run, model, val, rows, header=None, loss=None):
    """Evaluate a trained model on its validation split, and write the measures, the figures and the report.

    Parameters
    ----------
    run : Run
    model : FCN
    val : Loader
    rows : list of dict
        The log.
    header : dict of {str: str}, optional
        The description of the run, for the top of the report.
    loss : Loss, optional
        The loss that was minimised; by default cross-entropy.

    Returns
    -------
    dict
        The content of metrics.json: see :func:`measures` and :func:`joined`.
    """
    begins, found = columns(model), {}
    for head, (net, data) in by_kind(model, val).items():
        own = [of_head(row, begins[head]) for row in rows]
        found[head] = _head(run, net, data, own, f"-{head}" if begins[head] else "", loss)
    metrics = joined(found)
    if parallel.world().rank == 0:
        run.write_json("metrics.json", metrics | dict(header=header or {}))
        write_report(run.folder)
    return metrics


def _head(run, model, val, rows, end, loss):
    """The measures of a net with one head; its figures are written, with `end` in their names."""
    confusion, loss = evaluate(model, val, progress=True, loss=loss)
    data = val.dataset
    metrics = measures(confusion, data.classes) | data_facts(data, loss)
    if parallel.world().rank:
        return metrics
    rows_shown = []
    for i in varied_examples(model, data, 4):
        image, label = data[i]
        shown = false_colour(image, bands_of(data)), label, model.predict(image)
        rows_shown.append([array[:: _step(label), :: _step(label)] for array in shown])
    figures = {
        f"curves{end}.png": curves(rows),
        f"samples{end}.png": samples(*zip(*rows_shown), data.classes, data.palette),
        f"confusion{end}.png": confusion_figure(confusion.matrix, data.classes),
    }
    for name, figure in figures.items():
        _save(figure, run.folder / name)
    return metrics


def _step(label):
    """Every how many pixels are drawn: a large photo has more than its place in the figure."""
    return -(-max(label.shape) // DRAWN)


def _save(figure, path):
    with warnings.catch_warnings():
        # no font may have the characters of a class name; the report also shows the names as text
        warnings.filterwarnings("ignore", "Glyph .* missing")
        with atomic(path) as partial:
            figure.savefig(partial, format="png")


class LiveReport(Callback):
    """Rewrites the report in the run folder after every epoch, so that the run can be watched in a browser.

    The scores, the settings and the log are always written.  The curves are drawn at most every `SECONDS`, so that
    drawing does not slow down a run of short epochs.

    Parameters
    ----------
    run : Run
    header : dict of {str: str}
        The description of the run.
    """

    def __init__(self, run, header):
        self.run, self.header, self.drawn = run, header, 0.0

    def started(self, t):
        self.drawn = time.monotonic()

    def epoch_ended(self, t):
        if t.ranks.rank:
            return
        with suppress(OSError):  # a full disk must not stop the training
            if time.monotonic() - self.drawn >= SECONDS:
                for head, begin in columns(t.model).items():
                    end = f"-{head}" if begin else ""
                    _save(curves([of_head(row, begin) for row in t.rows]), self.run.folder / f"curves{end}.png")
                self.drawn = time.monotonic()
            write_report(self.run.folder, self.header, again=REFRESH)


def observers(run, parts):
    """The callbacks that draw a run while it trains.

    Parameters
    ----------
    run : Run
    parts : Parts
        Of the training, with its settings and its header.

    Returns
    -------
    list of Callback
    """
    live = LiveReport(run, parts.header)
    return [live, TensorBoard(run.folder / "tensorboard")] if parts.settings.tensorboard else [live]


def varied_examples(model, data, count, tried=100):
    """The indices of `count` images, from good to poor: evenly spaced in a ranking of `tried` images by accuracy.

    The `tried` images, fewer if they are large, are spread over the data set.  Images with labels of a single class are
    left out, unless there are no others.

    Returns
    -------
    list of int
    """
    tried = min(len(data), tried, max(count, MOST_PIXELS // max(data[0][1].size, 1)))
    varied, others = {}, {}  # {index: accuracy}
    for i in np.unique(np.linspace(0, len(data) - 1, tried).astype(int)).tolist():
        image, label = data[i]
        known = label < model.num_classes
        accuracy = float((model.predict(image) == label)[known].mean()) if known.any() else 0.0
        (varied if len(np.unique(label[known])) > 1 else others)[i] = accuracy
    accuracy = varied or others
    ranked = sorted(accuracy, key=accuracy.get, reverse=True)
    return [ranked[int((k + 0.5) / count * len(ranked))] for k in range(min(count, len(ranked)))]
