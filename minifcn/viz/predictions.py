"""Writes the results of ``python -m minifcn.predict`` for one image: pictures, and probabilities."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..data.palette import save_mask
from ..data.rasters import polygons, write_geojson
from ..io import atomic
from ..training.prediction import areas, names_and_colours, predicted, shares, titled
from .figures import overlay
from .geotiffs import label_map
from .legend import with_legend

RESULTS = {
    "labels": "-labels.png", "overlay": "-overlay.png", "probabilities": "-probabilities.npz",
    "confidence": "-confidence.png", "geojson": "-regions.geojson", "certify": "-certified.png",
}  # fmt: skip
"""The kinds of results, and the ends of the names of their files."""


def end_of(head, kind):
    """The end of the names of a kind of results of a head; of a further head: ``-labels-geo.png``."""
    end = Path(RESULTS[kind])
    return f"{end.stem}{head and f'-{head}'}{end.suffix}"


def label_picture(nets, picture, files, args, note):
    """Label an image or a map with each head, and write the results.

    Parameters
    ----------
    nets : dict of {str: FCN}
        The nets with one head by its name, which is "" for the first.
    picture : Picture
    files : dict of {(str, str): Path}
        The file of each head and kind of `RESULTS` that is wanted.
    args : argparse.Namespace
        The flags of ``predict``.
    note : callable
        ``note(text)`` says what is left out.

    Returns
    -------
    size : (int, int)
    found : dict of {str: (int, float)}
        The area of each class; see :func:`minifcn.training.prediction.titled`.
    lines : list of str
        What was found and written, a line for each head.
    """
    found, lines = {}, []
    for head, net in nets.items():
        own = {kind: path for (of, kind), path in files.items() if of == head}
        size, area = _label(net, picture, own, args, (lambda text: None) if head else note)
        found |= {titled(head, name): value for name, value in area.items()}
        others = ", ".join(path.name.removeprefix(Path(picture.name).name) for path in list(own.values())[1:])
        lines.append(f"{picture}: {titled(head, shares(area))} -> {own['labels']}, {others}")
    return size, found, lines


def _label(model, picture, files, args, note):
    """The size of a picture, and the areas of its classes; the results of a net with one head are written."""
    classes, palette = names_and_colours(model)
    if picture.is_map:
        return label_map(model, picture.path, files, classes, palette, args.alpha, args.memory, args.tta)
    wanted = args.probabilities or args.confidence
    prediction = predicted(model, picture, note, wanted, args.tta, args.memory, args.certify)
    write_results(files, prediction, classes, palette, args.alpha, args.legend)
    return prediction.label.shape, areas(prediction.label, classes)


def write_results(files, prediction, classes, palette, alpha=0.5, legend=False):
    """Write the results for one image.

    Parameters
    ----------
    files : dict of {str: Path}
        The file of each kind of `RESULTS` that is wanted.
    prediction : Prediction
    classes : sequence of str
    palette : array (n, 3)
    alpha : float
        Opacity of the labels in the overlay.
    legend : bool
        Whether to put the names and colours of the classes in the image below the overlay.
    """
    for kind, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            if kind == "labels":
                save_mask(file, prediction.label, palette)
            elif kind == "overlay":
                _overlay(prediction, classes, palette, alpha, legend).save(file, format="PNG")
            elif kind == "confidence":
                _confidence(prediction.probabilities).save(file, format="PNG")
            elif kind == "geojson":
                write_geojson(file, polygons(prediction.label, classes))
            elif kind == "certify":
                Image.fromarray(prediction.certified).save(file, format="PNG")
            else:
                _save_probabilities(file, prediction.probabilities, classes)


def _overlay(prediction, classes, palette, alpha, legend):
    picture = overlay(prediction.shown, prediction.label, palette, alpha)
    if legend:
        there = np.unique(prediction.label)
        picture = with_legend(picture, [classes[k] for k in there], [palette[k] for k in there])
    return Image.fromarray(picture)


def _confidence(probabilities):
    """The largest probability of each pixel, in grey: 255 is 1."""
    return Image.fromarray(np.rint(255 * probabilities.max(0)).astype(np.uint8))


def _save_probabilities(file, probabilities, classes):
    with open(file, "wb") as stream:  # given a path, NumPy would add ".npz" to its name
        np.savez_compressed(stream, probabilities=probabilities.astype(np.float16), classes=np.array(classes, np.str_))
