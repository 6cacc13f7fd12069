"""Writes the results of a training into the run folder: measures, figures and the report."""

import warnings

import numpy as np

from ..arrays import parallel
from ..data.bands import bands_of, false_colour
from ..io import atomic
from ..training.evaluation import evaluate
from ..training.results import data_facts, measures
from .figures import confusion as confusion_figure
from .figures import curves, samples
from .report import write_report


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
        The content of metrics.json: see :func:`measures`.
    """
    confusion, loss = evaluate(model, val, progress=True, loss=loss)
    data = val.dataset
    metrics = measures(confusion, data.classes) | data_facts(data, loss)
    if parallel.world().rank:
        return metrics
    images, labels = zip(*(data[i] for i in varied_examples(model, data, 4)))
    predictions = [model.predict(image) for image in images]
    images = [false_colour(image, bands_of(data)) for image in images]
    figures = {
        "curves.png": curves(rows),
        "samples.png": samples(images, labels, predictions, data.classes, data.palette),
        "confusion.png": confusion_figure(confusion.matrix, data.classes),
    }
    run.write_json("metrics.json", metrics | dict(header=header or {}))
    with warnings.catch_warnings():
        # a font may lack characters of class names; the report also shows the names as text
        warnings.filterwarnings("ignore", "Glyph .* missing")
        for name, figure in figures.items():
            with atomic(run.folder / name) as partial:
                figure.savefig(partial, format="png")
    write_report(run.folder)
    return metrics


def varied_examples(model, data, count, tried=100):
    """The indices of `count` images, from good to poor: evenly spaced in a ranking of `tried` images by accuracy.

    The `tried` images are spread over the data set.  Images with labels of a single class are left out, unless there
    are no others.

    Returns
    -------
    list of int
    """
    candidates = np.unique(np.linspace(0, len(data) - 1, min(tried, len(data))).astype(int))
    examples = {int(i): data[int(i)] for i in candidates}
    varied = [i for i, (_, label) in examples.items() if len(np.unique(label[label < model.num_classes])) > 1]
    accuracy = {}
    for i in varied or examples:
        image, label = examples[i]
        known = label < model.num_classes
        accuracy[i] = float((model.predict(image) == label)[known].mean()) if known.any() else 0.0
    ranked = sorted(accuracy, key=accuracy.get, reverse=True)
    return [ranked[int((k + 0.5) / count * len(ranked))] for k in range(min(count, len(ranked)))]
