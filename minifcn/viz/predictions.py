"""Writes the results of ``python -m minifcn.predict`` for one image: pictures, and probabilities."""

import numpy as np
from PIL import Image

from ..data.palette import save_mask
from ..data.rasters import polygons, write_geojson
from ..io import atomic
from ..training.prediction import areas, names_and_colours, predicted
from .figures import overlay
from .geotiffs import label_map
from .legend import with_legend

RESULTS = {
    "labels": "-labels.png", "overlay": "-overlay.png", "probabilities": "-probabilities.npz",
    "confidence": "-confidence.png", "geojson": "-regions.geojson", "certify": "-certified.png",
}  # fmt: skip
"""The kinds of results, and the ends of the names of their files."""


def label_picture(model, picture, files, args, note):
    """Label an image or a map and write its results: its size, and the areas of its classes.

    Parameters
    ----------
    model : FCN
    picture : Picture
    files : dict of {str: Path}
        The file of each kind of `RESULTS` that is wanted.
    args : argparse.Namespace
        The flags of ``predict``.
    note : callable
        ``note(text)`` says what is left out.
    """
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
