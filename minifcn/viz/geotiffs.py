"""Labels a map window by window, and writes GeoTIFFs of its place: labels, overlay, confidence, certificate."""

import json
from contextlib import ExitStack

import numpy as np

from ..arrays import backend
from ..arrays.memory import allowed
from ..data.bands import RGB, false_colour
from ..data.images import VOID
from ..data.rasters import CACHE_MB, opened, polygons, strips, window, write_geojson
from ..engine.core import Tensor
from ..errors import UserError
from ..io import atomic
from ..models import tiles
from ..models.inference import certified, each, image_of, reads_photographs
from ..ops import softmax
from ..training.prediction import counted, shared
from .figures import overlay

ON_DEVICE = "4GB"  # the default limit for a model on a GPU, whose memory is not the machine's


def label_map(model, path, files, classes, palette, alpha=0.5, memory=None, tta=False):
    """Label a map, and write the results.

    The map is read and the results are written in windows.  Only a map whose values Pillow must convert, test-time
    augmentation, and a size at which the model sees pictures, need the whole picture in memory.

    Parameters
    ----------
    model : FCN
    path : Path
    files : dict of {str: Path}
        The file of each kind of result: ``labels``, ``overlay``, ``confidence``, ``geojson``, ``certify``.
    classes : sequence of str
    palette : array (n, 3)
    alpha : float
        Opacity of the labels in the overlay.
    memory : number, optional
        The bytes that the process may take.
    tta : bool
        Test-time augmentation.

    Returns
    -------
    size : (int, int)
    found : dict
        {class: (its number of pixels, its share of the pixels with data)}.

    Raises
    ------
    UserError
        If the map cannot be read, or `memory` is too little.
    """
    files["labels"].parent.mkdir(parents=True, exist_ok=True)
    photographs, bits = reads_photographs(model), model.preprocessing.bits
    with ExitStack() as stack:
        source = stack.enter_context(opened(path, photographs, model.in_channels, bits))
        partial = {kind: stack.enter_context(atomic(file)) for kind, file in files.items()}
        names = {f"class {i}": name for i, name in enumerate(classes)}
        with ExitStack() as written:
            colours = {i: (*map(int, colour), 255) for i, colour in enumerate(palette)}
            labels = written.enter_context(source.create(partial["labels"], nodata=VOID))
            labels.write_colormap(1, colours)
            labels.update_tags(classes=json.dumps(list(classes), ensure_ascii=False), **names)
            sure = written.enter_context(source.create(partial["confidence"])) if "confidence" in files else None
            counts = np.zeros(len(classes), np.int64)

            def use(region, scores):
                label = backend.asnumpy(scores.argmax(axis=1))[0].astype(np.uint8)
                known = source.known(region)
                label[~known] = VOID
                counts[:] += counted(label, len(classes))
                labels.write(label, 1, window=window(region))
                if sure is not None:
                    best = backend.asnumpy(softmax(Tensor(scores)).data.max(axis=1))[0]
                    sure.write(np.rint(255 * best).astype(np.uint8) * known, 1, window=window(region))

            rows, columns, image = _label(model, source, use, memory, tta)
            _write_overlay(source, labels, partial["overlay"], image, model, palette, alpha)
            if "certify" in files:
                _write_certificate(source, partial["certify"], rows, columns)
            if "geojson" in files:
                write_geojson(partial["geojson"], polygons(labels, classes), labels.crs)
        return source.size, shared(counts, max(int(counts.sum()), 1), classes)


def _label(model, source, use, memory, tta):
    """Call ``use(region, scores)`` for all of the map: the certified rows and columns, the image if read whole."""
    if source.bands is None or tta or model.preprocessing.size is not None:
        image = image_of(model, source.path)
        if image.shape[:2] != source.size:
            raise UserError(f"{source.path} has {source.size} pixels for GDAL and {image.shape[:2]} for Pillow")
        axes = certified(model, source.size, image.nbytes, tta, memory)
        each(model, image, lambda _, region, scores: use(region, scores), tta, memory)
    else:
        image = None
        kept = CACHE_MB * 10**6 + sum(p.data.nbytes for p in model.parameters())
        limit = allowed(ON_DEVICE if memory is None and model.parameters()[0].device != "cpu" else memory)
        tiling = tiles.plan(model, source.size, limit - tiles.BASE - kept)
        axes = tiling.certified_axes
        tiles.each(model, tiling, lambda window: model.preprocessing(source.read(window)), use)
    return (*axes, image)


def _write_overlay(source, labels, file, image, model, palette, alpha):
    with source.create(file, 3, photometric="RGB") as out:
        for part in strips(source.size):
            raw = source.read(part) if image is None else image[part.index[1:]]
            picture = overlay(
                false_colour(raw, model.bands or RGB), labels.read(1, window=window(part)), palette, alpha
            )
            out.write(picture.transpose(2, 0, 1), window=window(part))


def _write_certificate(source, file, rows, columns):
    with source.create(file) as out:
        for part in strips(source.size):
            out.write(255 * (rows[part.top : part.bottom, None] & columns).astype(np.uint8), 1, window=window(part))
