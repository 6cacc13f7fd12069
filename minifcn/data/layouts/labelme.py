"""labelme's layout: a JSON file with shapes beside each image."""

import base64
import binascii
import io
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...errors import UserError
from .base import Contents, Layout, Sample, as_names, blank, folder_splits
from .files import beginning, find_image, points_of, read_json, relative, require
from .names import order_of

CORNERS = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "point": 1, "oriented_rectangle": 4}
"""The least number of points of each kind of shape."""
LINE, POINT = 10, 5  # width of a line and radius of a point, in pixels, as labelme draws them


class LabelMe(Layout):
    """Polygons and other shapes, as labelme writes them: ``a.json`` beside ``a.jpg``.

    Pixels outside all shapes are the class ``_background_``, and ``__ignore__`` is void.  Where shapes overlap, the
    later one counts.  Shapes are drawn with Pillow, exactly as labelme does.  ``labels.txt`` gives the classes and
    their order (``__ignore__``, ``_background_``, and the others); without it they are the labels in alphabetical
    order.
    """

    looks_for = "JSON files of labelme, with shapes and imagePath"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        found = _files(folder, enough=1)
        return f"{relative(found[0], folder)} is a JSON file of labelme" if found else ""

    def read(self, folder: Path) -> Contents:
        found, shapes, notes = [], {}, list[str]()
        for path in _files(folder):
            content = require(read_json(path), dict, path)
            image = find_image(folder, content.get("imagePath"), [path.parent, folder], path)
            shapes[path] = [_shape(shape, path) for shape in require(content.get("shapes"), list, f"{path}: shapes")]
            size = tuple(content.get(key) for key in ("imageHeight", "imageWidth"))
            found.append((path, image, size if all(isinstance(side, int) for side in size) else None))
        names = [shape["label"] for drawn in shapes.values() for shape in drawn]
        ids, classes = order_of(folder, names, ("_background_", "background"), notes)
        samples = []
        for path, image, stated in found:
            drawn = [(ids[shape["label"]], shape) for shape in shapes[path]]
            evidence = json.dumps(drawn, sort_keys=True).encode()
            draw = partial(_draw, drawn, path)
            samples.append(Sample(relative(image, folder), image, draw, (evidence,), size=stated))
        return Contents(samples, classes, folder_splits(sample.name for sample in samples), notes=notes)


def _files(folder, enough=None):
    """The JSON files of labelme below a folder; only the first ones, if `enough` says how many."""
    found = []
    for path in sorted(folder.rglob("*.json")):
        if not path.name.startswith("._") and '"shapes"' in beginning(path):
            found.append(path)
            if len(found) == enough:
                break
    return found


def _shape(shape, path):
    """The parts of a shape that are drawn; UserError if one is missing or wrong."""
    require(shape, dict, f"{path}: a shape")
    label = as_names([require(shape.get("label"), str, f"{path}: the label of a shape")])[0]
    kind = shape.get("shape_type") or "polygon"
    what = f"{path}: the shape of {label!r}"
    points = points_of(shape.get("points"), what)
    if np.abs(points).max() > 1e6:
        raise UserError(f"{what} has a point at {np.abs(points).max():.3g} pixels; correct it in labelme")
    if kind == "mask":
        return dict(label=label, kind=kind, points=points.tolist(), mask=require(shape.get("mask"), str, what))
    if kind not in CORNERS:
        raise UserError(f"{what} is of the kind {str(kind)[:40]!r}; known are {', '.join(CORNERS)} and mask")
    if len(points) < CORNERS[kind]:
        raise UserError(f"{what}, a {kind}, has {len(points)} points; expected at least {CORNERS[kind]}")
    return dict(label=label, kind=kind, points=points.tolist())


def _draw(shapes, path, size):
    picture = Image.fromarray(blank(size))
    draw = ImageDraw.Draw(picture)
    for number, shape in shapes:
        if shape["kind"] == "mask":
            _paste(picture, number, shape, f"{path}: the mask of {shape['label']!r}")
        else:
            _outline(draw, number, shape["kind"], shape["points"])
    return np.array(picture)


def _outline(draw, number, kind, points):
    """Draw a shape as labelme does (``shape_to_mask`` in its utils/shape.py)."""
    points = [tuple(point) for point in points]
    if kind == "circle":
        (x, y), (px, py) = points[:2]
        r = math.hypot(x - px, y - py)
        draw.ellipse(((x - r, y - r), (x + r, y + r)), number, number)
    elif kind == "rectangle":
        (x, y), (px, py) = points[:2]
        draw.rectangle(((min(x, px), min(y, py)), (max(x, px), max(y, py))), number, number)
    elif kind in ("line", "linestrip"):
        draw.line(points, number, LINE)
    elif kind == "point":
        x, y = points[0]
        draw.ellipse(((x - POINT, y - POINT), (x + POINT, y + POINT)), number, number)
    else:
        draw.polygon(points, number, number)


def _paste(picture, number, shape, what):
    """Set the pixels of a mask shape: a PNG in base64, whose corners are the two points."""
    (left, top), (right, bottom) = (map(int, point) for point in shape["points"][:2])
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True)), formats=["PNG"]) as stored:
            expected = (right - left + 1, bottom - top + 1)
            if stored.size != expected:
                raise UserError(f"{what} is {stored.size}, but its corners say {expected} (width, height)")
            mask = np.asarray(stored.convert("L"), bool)
    except UserError:
        raise
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{what} is damaged ({error})") from None
    w, h = picture.size
    if left < 0 or top < 0 or right >= w or bottom >= h:
        raise UserError(f"{what} reaches beyond the image of {h}x{w} (height x width)")
    picture.paste(number, (left, top), Image.fromarray(mask))


def as_png(mask):
    """A mask as labelme stores it: a PNG of one bit a pixel, in base64."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(mask, bool)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")
