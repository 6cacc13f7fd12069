"""All that ``python -m minifcn.evaluate`` says about an assessment: as a JSON value, as text, and as a table."""

import numpy as np

from .calibration import expected_calibration_error, reliability
from .metrics import scores_from
from .resampling import LEVEL, intervals
from .results import data_facts, measures, number, result_lines, text

MEASURES = {
    "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy", "mean_iu": "mean IU", "fw_iu": "f.w. IU",
    "mean_iu_present": "mean IU of classes in labels",
}  # fmt: skip
MISTAKES = 5  # pairs of classes that are named
WORST = 4  # images that are named and drawn
FEW = 10  # below so many images, the interval of the bootstrap holds the truth less often than it says


def details(found, data, head=""):
    """The measures, with intervals, boundary bands, calibration, mistakes and images, as a JSON value.

    Parameters
    ----------
    found : Assessment
    data : data set
    head : str
        The name of the head, of a net with several kinds of labels.

    Returns
    -------
    dict
        The keys of :func:`minifcn.training.results.measures`, and: ``intervals``: {measure: [low, high]}, None for a
        single image, and ``iu``, the same for each class; ``boundary``: {width in pixels: mean IU}; ``calibration``:
        ``ece``, ``mean_confidence`` and ``bins``; ``mistakes``: the most frequent pairs of a true and a predicted
        class; ``images``: the measures of each; ``head``, if it is given.
    """
    classes, counts = list(data.classes), found.counts
    metrics = measures(found.confusion, classes) | data_facts(data, found.loss)
    metrics["split"] = metrics["split"] or "all"
    ranges = intervals(counts) if len(counts) > 1 else {}
    metrics["intervals"] = {name: [number(bound) for bound in ranges[name]] if ranges else None for name in MEASURES}
    metrics["intervals"]["iu"] = {
        name: [number(bound[k]) for bound in ranges["iu"]] if ranges else None for k, name in enumerate(classes)
    }
    metrics["boundary"] = {str(width): number(band.mean_iu) for width, band in found.bands.items()}
    metrics["calibration"] = _calibration(found.calibration)
    metrics["mistakes"] = mistakes(found.confusion.matrix, classes)
    metrics["images"] = images(found)
    return metrics | (dict(head=head) if head else {})


def _calibration(counts):
    confidence, accuracy = reliability(counts)
    bins = [
        dict(pixels=int(n), confidence=number(c), accuracy=number(a))
        for n, c, a in zip(counts[:, 0], confidence, accuracy)
    ]
    total, confident, _ = counts.sum(0)
    mean = confident / total if total else np.nan
    return dict(ece=number(expected_calibration_error(counts)), mean_confidence=number(mean), bins=bins)


def mistakes(matrix, classes):
    """The pairs of classes with the most wrong pixels: {true, predicted, pixels, share of the true class's pixels}.

    Parameters
    ----------
    matrix : (C, C) array
        Rows are the labels.
    classes : sequence of str
    """
    wrong = matrix - np.diag(np.diag(matrix))
    order = [divmod(int(k), len(classes)) for k in np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]]
    return [
        dict(true=classes[i], predicted=classes[j], pixels=int(wrong[i, j]), share=wrong[i, j] / matrix[i].sum())
        for i, j in order
        if wrong[i, j]
    ]


def images(found):
    """The measures of each image, a list of {name, pixels, pixel_accuracy, mean_accuracy, mean_iu, fw_iu}."""
    scores = scores_from(found.counts)
    return [
        dict(name=name, pixels=int(pixels)) | {key: number(scores[key][i]) for key in list(MEASURES)[:4]}
        for i, (name, pixels) in enumerate(zip(found.names, found.counts[:, 1].sum(-1)))
    ]


def worst(found):
    """The indices of the images with the lowest pixel accuracy, the worst first; images of void alone are left out."""
    accuracy = scores_from(found.counts)["pixel_accuracy"]
    return [int(i) for i in np.argsort(accuracy, kind="stable")[:WORST] if not np.isnan(accuracy[i])]


def table(found, classes, run=None):
    """A row for all images together, and one for each image: the measures, and the IU of each class.

    Parameters
    ----------
    found : Assessment
    classes : sequence of str
    run : str, optional
        The run, as the first column.
    """
    counts = np.concatenate([found.counts.sum(0, keepdims=True), found.counts])
    scores = scores_from(counts)
    rows = []
    for i, name in enumerate(["all images", *found.names]):
        row = dict(run=run) if run else {}
        row |= dict(image=name, pixels=int(counts[i, 1].sum()))
        row |= {key: number(scores[key][i]) for key in list(MEASURES)[:4]}
        rows.append(row | {f"IU {c}": number(iu) for c, iu in zip(classes, scores["iu"][i])})
    return rows


def tables(runs, compared=False):
    """The rows of :func:`table` of several runs or heads, all with the same columns.

    Parameters
    ----------
    runs : list of Measured
    compared : bool
        Whether the first column says of which run a row is.
    """
    rows = [
        (dict(head=run.head) if run.head else {}) | row
        for run in runs
        for row in table(run.found, run.data.classes, compared and run.path)
    ]
    columns = dict.fromkeys(name for row in rows for name in row)  # heads have other classes
    return [{name: row.get(name, "") for name in columns} for row in rows]


def interval_table(metrics):
    """The measures with their intervals, as rows of three texts; the first row has the titles.

    Parameters
    ----------
    metrics : dict
        From :func:`details`.
    """
    yield "measure", "value", f"{LEVEL:.0%} interval over {count_of(len(metrics['images']))}"
    for key, name in MEASURES.items():
        low, high = metrics["intervals"][key] or (None, None)
        between = "unknown: it takes several images" if low is None else f"{low:.3f} to {high:.3f}"
        yield name, text(metrics[key], ".3f"), between


def run_lines(runs, metrics, pairs):
    """All lines of text about one head of some runs: the :func:`all_lines` of each, and their comparison.

    Parameters
    ----------
    runs : list of Measured
    metrics : list of dict
        From :func:`details`.
    pairs : list of dict
        From :func:`minifcn.training.resampling.compare`; empty for a single run.
    """
    for run, values in zip(runs, metrics):
        yield f"{run.checkpoint} on {run.where}: {count_of(len(run.data))}{run.head and f', head {run.head}'}"
        yield from all_lines(values)
    if pairs:
        yield from comparison_lines(pairs, len(runs[0].data))


def all_lines(metrics):
    """Everything as lines of text: the measures, their intervals, and :func:`detail_lines`."""
    yield from result_lines(metrics)
    for name, value, between in interval_table(metrics):
        yield f"{name:<28}  {value:>5}  {between}"
    yield from detail_lines(metrics)


def detail_lines(metrics):
    """What the measures do not show, as lines of text.

    Parameters
    ----------
    metrics : dict
        From :func:`details`.
    """
    count, cal = len(metrics["images"]), metrics["calibration"]
    bands = ", ".join(f"{text(iu, '.3f')} within {width} px" for width, iu in metrics["boundary"].items())
    yield f"mean IU along boundaries: {bands}"
    if cal["ece"] is not None:
        excess = cal["mean_confidence"] - metrics["pixel_accuracy"]
        how = "about right" if abs(excess) < 0.01 else "too sure" if excess > 0 else "not sure enough"
        yield (
            f"calibration: error (ECE) {cal['ece']:.3f}; mean confidence {cal['mean_confidence']:.3f}, accuracy "
            f"{metrics['pixel_accuracy']:.3f}: {how}"
        )
    for pair in metrics["mistakes"][:3]:
        yield f"{pair['share']:.0%} of {pair['true']} taken for {pair['predicted']} ({pair['pixels']:,} pixels)"
    ordered = sorted((image for image in metrics["images"] if image["pixels"]), key=lambda i: i["pixel_accuracy"])
    if count > 1:
        yield "worst: " + ", ".join(f"{i['name']} ({i['pixel_accuracy']:.3f})" for i in ordered[:WORST])
    yield in_words(metrics)


def in_words(metrics):
    """One sentence about which differences in mean IU these images can show."""
    count, between = len(metrics["images"]), metrics["intervals"]["mean_iu"]
    if between is None or None in between:
        return "one image says nothing about other images: measure on more"
    low, high = between
    few = " (so few images that this range itself is too narrow)" if count < FEW else ""
    return (
        f"{count} images put the mean IU between {low:.3f} and {high:.3f}{few}: a run whose mean IU lies in this range "
        "may differ by chance alone; --compare tests two runs on the same images"
    )


def comparison_lines(rows, count):
    """The results of :func:`minifcn.training.resampling.compare` as lines of text.

    Parameters
    ----------
    rows : list of dict
    count : int
        The number of images.
    """
    yield f"difference in mean IU over {count_of(count)}, with a permutation test paired by image"
    for row in rows:
        p = row["p_corrected"]
        verdict = "not more than chance" if not p < 1 - LEVEL else "better" if row["difference"] > 0 else "worse"
        yield (
            f"{row['first']} - {row['second']}: {row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}), "
            f"p = {p:.4f}{' (Holm)' * (len(rows) > 1)}: {verdict}"
        )
    least = min(len(rows) * 2 / 2.0**count, 1)  # only the models as they are, and with all images exchanged
    if least >= 1 - LEVEL:
        yield f"{count_of(count)}: too few to show any difference, because p is at least {least:.3f}"


def count_of(images):
    """A number of images as text."""
    return f"{images} image{'s' * (images != 1)}"
