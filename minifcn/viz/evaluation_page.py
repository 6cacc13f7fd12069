"""The report of ``python -m minifcn.evaluate --out DIR``: figures, tables, and one self-contained page."""

import warnings
from html import escape
from pathlib import Path

from ..arrays import parallel
from ..data.bands import bands_of, false_colour
from ..data.samples import sample
from ..errors import UserError
from ..io import atomic
from ..io.cli import write_csv, write_json
from ..training.details import MEASURES, comparison_lines, detail_lines, interval_table, table, worst
from ..training.run_folder import require_vacant
from .evaluation import boundaries, class_intervals, reliability
from .figures import confusion, samples
from .report import bars, classes_table, embedded, html_table, score_list, write_html

FIGURES = (
    (
        "classes.png", "IU of each class",
        "The IU of each class as a point, with its interval as a line.",
        "The line is the 95 % interval of the bootstrap over images: with other images of the same kind, the IU would "
        "probably lie on it.",
    ),
    (
        "worst.png", "The worst images",
        "The images with the lowest pixel accuracy, each beside its true labels, the predicted labels and the errors.",
        "In the last column light grey is right and red is wrong; dark pixels are void.",
    ),
    (
        "confusion.png", "Confusion matrix",
        "A table of true classes down and predicted classes across, in percent of each true class's pixels.",
        "Each row shows how the pixels of one true class were classified.",
    ),
    (
        "reliability.png", "Calibration",
        "Bars of the accuracy of pixels against their confidence, and the number of pixels below.",
        "A model is well calibrated if 80 % of the pixels that it predicts with a probability of .8 are right. The "
        "expected calibration error (ECE) is the mean distance from the diagonal, weighted by pixels.",
    ),
    (
        "boundaries.png", "Boundaries",
        "The mean IU in bands of several widths along boundaries between classes.",
        "Most errors lie along outlines. The narrower the band, the more the curve shows how exact they are. If a "
        "border of void separates the classes, narrow bands are empty.",
    ),
)  # fmt: skip


def prepare(folder):
    """Make the folder of a report before the work begins; UserError if it is not empty, or cannot be made."""
    require_vacant(folder, resumable=False)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be created ({error.strerror}): give another --out") from None


def write_page(folder, runs, metrics, pairs):
    """Write the report of an evaluation into a folder, or a head's into one in it; only rank 0 of several does.

    Parameters
    ----------
    folder : path-like
        From :func:`prepare`.
    runs : list of Measured
        Further runs than the first are compared with it.
    metrics : list of dict
        The result of :func:`minifcn.training.details.details` for each run.
    pairs : list of dict
        The result of :func:`minifcn.training.resampling.compare`; empty for a single run.

    Returns
    -------
    pathlib.Path
        The page.
    """
    first, values = runs[0], metrics[0]
    folder = Path(folder) / first.head
    page = folder / "report.html"
    if parallel.world().rank:
        return page
    folder.mkdir(exist_ok=True)  # that of a head
    write_json(folder / "measures.json", dict(runs=metrics, comparisons=pairs) if pairs else values)
    names = [run.path if pairs else None for run in runs]
    write_csv(
        folder / "images.csv", [row for run, n in zip(runs, names) for row in table(run.found, run.data.classes, n)]
    )
    figures = {
        "classes.png": class_intervals({run.path: _with_intervals(m) for run, m in zip(runs, metrics)}),
        "worst.png": _worst(first),
        "confusion.png": confusion(first.found.confusion.matrix, first.data.classes),
        "reliability.png": reliability(values["calibration"]["bins"], values["calibration"]["ece"]),
        "boundaries.png": boundaries(values["boundary"], values["mean_iu"]),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page also shows the names as text
        for name, figure in figures.items():
            if figure is not None:
                with atomic(folder / name) as partial:
                    figure.savefig(partial, format="png")
    sections = [
        _compared(runs, metrics, pairs),
        score_list(values),
        _intervals(values),
        _text("Boundaries, calibration and mistakes", detail_lines(values)),
        classes_table(values["per_class"]),
        *(embedded(folder / file, *words) for file, *words in FIGURES),
        _images(values),
    ]
    header = dict(run=first.checkpoint, data=f"{first.where}, split {values['split']}, {len(first.data)} images")
    header |= dict(head=first.head) if first.head else {}
    return write_html(page, f"Evaluation of {first.path}", header, sections)


def _with_intervals(metrics):
    return [entry | {"interval": metrics["intervals"]["iu"][entry["name"]]} for entry in metrics["per_class"]]


def _worst(run):
    """The figure of the worst images; None if all images are void."""
    indices = worst(run.found)
    if not indices:
        return None
    pairs = [sample(run.data, i) for i in indices]
    predictions = [run.model.predict(image, run.tta) for image, _ in pairs]
    pictures = [false_colour(image, bands_of(run.data)) for image, _ in pairs]
    return samples(pictures, [label for _, label in pairs], predictions, run.data.classes, run.data.palette)


def _intervals(values):
    head, *rows = interval_table(values)
    cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<h2>How sure the measures are</h2>\n{html_table(head, cells)}"


def _text(heading, lines):
    return f"<h2>{heading}</h2>\n" + "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def _compared(runs, metrics, pairs):
    if not pairs:
        return ""
    entries = [dict(m, name=run.path) for run, m in zip(runs, metrics)]
    keys = "pixel_accuracy", "mean_iu"
    head = ["run", *(f"{MEASURES[key]}, %" for key in keys)]
    lines = _text("Comparison", comparison_lines(pairs, len(runs[0].data)))
    rest = f"<p>The measures and tables below are those of {escape(runs[0].path)}.</p>"
    return f"{lines}\n{html_table(head, bars(entries, *keys))}\n{rest}"


def _images(values):
    ordered = sorted(values["images"], key=lambda image: (image["pixel_accuracy"] is None, image["pixel_accuracy"]))
    rows = bars(ordered, "pixel_accuracy", "mean_iu")
    return f"<h2>Image by image</h2>\n{html_table(['image', 'pixel accuracy, %', 'mean IU, %'], rows)}"
