"""Label Studio's layout: one JSON file with all tasks, beside or above the images."""

import json
import re
import unicodedata
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np

from ...errors import UserError, on_one_line
from ..manifest import some
from .base import Contents, Layout, Sample, as_names, blank, folder_splits
from .drawing import ellipse, polygon, turned
from .files import beginning, images_below, number, points_of, read_json, relative, require, visible
from .names import order_of

KINDS = ("polygon", "brush", "rectangle", "ellipse")
PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before the name of a file that is uploaded


class LabelStudio(Layout):
    """Polygons, brush strokes, rectangles and ellipses of Label Studio's export "JSON".

    Images are found below the folder by the names of the uploaded files.  Classes are as in labelme's layout:
    ``labels.txt``, or the labels in alphabetical order after the background.  Of several annotations of one task, the
    last that was not cancelled is used.  Polygons are drawn by COCO's rule.
    """

    looks_for = "the JSON file of Label Studio's export 'JSON'"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        found = _file(folder)
        return f"{found.name} is Label Studio's JSON" if found else ""

    def read(self, folder: Path) -> Contents:
        path, notes = _file(folder), list[str]()
        files: dict[str, list[Path]] = {}
        for file in images_below(folder):
            files.setdefault(unicodedata.normalize("NFC", file.name), []).append(file)
        found, several, empty = [], 0, 0
        for task in require(read_json(path), list, path):
            what = f"{path}: task {on_one_line(require(task, dict, f'{path}: a task').get('id'))}"
            done = require(task.get("annotations", task.get("completions")), list, f"{what}: annotations")
            done = [a for a in done if isinstance(a, dict) and not a.get("was_cancelled")]
            several += len(done) > 1
            if not done:
                empty += 1
                continue
            shapes, size = _shapes(require(done[-1].get("result"), list, f"{what}: result"), what)
            found.append((_image(task, files, what), shapes, size, what))
        if empty:
            notes.append(f"{path}: {empty} tasks have no annotation, and are not used")
        if several:
            notes.append(f"{path}: {several} tasks have several annotations; the last of each is used")
        ids, classes = order_of(folder, [s["label"] for _, shapes, *_ in found for s in shapes], ("background",), notes)
        samples = []
        for image, shapes, size, what in found:
            drawn = [(ids[shape["label"]], shape) for shape in shapes]
            evidence = json.dumps(drawn, sort_keys=True).encode()
            samples.append(Sample(relative(image, folder), image, partial(_draw, drawn, what), (evidence,), size=size))
        return Contents(samples, classes, folder_splits(s.name for s in samples), notes=notes)


def _file(folder):
    """The JSON file of Label Studio in a folder, or None."""
    for path in visible(folder, "*.json"):
        head = beginning(path)
        if re.match(r"\s*\[\s*\{", head) and re.search(r'"(annotations|completions)"', head) and '"result"' in head:
            return path
    return None


def _image(task, files, what):
    """The image of a task, found by the name of its file; `files` has all images below the folder by their names."""
    data = require(task.get("data"), dict, f"{what}: data")
    named = data.get("image") or next((v for v in data.values() if isinstance(v, str) and "/" in v), None)
    url = urlsplit(require(named, str, f"{what}: the image"))
    words = [task.get("file_upload"), url.query.removeprefix("d=") if "d=" in url.query else url.path]
    names = [PurePosixPath(unquote(word).replace("\\", "/")).name for word in words if isinstance(word, str)]
    for name in (*names, *(PREFIX.sub("", name) for name in names)):
        here = files.get(unicodedata.normalize("NFC", name), ())
        if len(here) > 1:
            raise UserError(f"{what}: several images are named {name} ({some(map(str, here))}); keep one of them")
        if here:
            return here[0]
    raise UserError(f"{what}: its image {on_one_line(named)!r} is not there; put {names[-1]} beside the JSON file")


def _shapes(results, what):
    """The shapes of a task as dicts in pixels, and the (height, width) of its image, or None without a shape."""
    labels, shapes, sizes = {}, [], set()
    for result in results:
        value, kind = require(result, dict, f"{what}: a result").get("value"), str(result.get("type", ""))
        if kind == "labels" and isinstance(value, dict):
            labels[result.get("id")] = value.get("labels")
    for result in results:
        kind = str(result.get("type", ""))
        if kind.removesuffix("labels") not in KINDS:
            continue
        value = require(result.get("value"), dict, f"{what}: value")
        names = value.get(kind) if kind.endswith("labels") else labels.get(result.get("id"))
        if not isinstance(names, list) or not names:
            raise UserError(f"{what} has a {kind} without a label; give it one in Label Studio")
        if number(result.get("image_rotation", 0), f"{what}: image_rotation"):
            raise UserError(f"{what} was turned in Label Studio, with its shapes; turn it back, and export again")
        size = [require(result.get(f"original_{side}"), int, f"{what}: {side}") for side in ("height", "width")]
        sizes.add(tuple(size))
        shape = _shape(kind.removesuffix("labels"), value, size, f"{what}: a {kind}")
        shapes.append(shape | dict(label=as_names(names)[0]))
    if len(sizes) > 1:
        raise UserError(f"{what} has shapes for images of different sizes; export it again")
    return shapes, next(iter(sizes), None)


def _shape(kind, value, size, what):
    """The corners of a shape in pixels, or the run lengths of a brush; Label Studio gives percent of the image."""
    if kind == "brush":
        rle = require(value.get("rle"), list, f"{what}: rle")
        if not all(type(byte) is int and 0 <= byte < 256 for byte in rle):
            raise UserError(f"{what} has damaged run lengths; export it again")
        return dict(rle=rle)
    scale = np.array([size[1], size[0]]) / 100
    if kind == "polygon":
        points = points_of(value.get("points"), what) * scale
        if len(points) < 3:
            raise UserError(f"{what} has {len(points)} points; a polygon has at least 3")
        return dict(points=points.tolist())
    keys = ("x", "y", "width", "height") if kind == "rectangle" else ("x", "y", "radiusX", "radiusY")
    x, y, a, b = (number(value.get(key), f"{what}: {key}") * scale[k % 2] for k, key in enumerate(keys))
    degrees = number(value.get("rotation", 0), f"{what}: rotation")
    if kind == "ellipse":
        return dict(points=ellipse(x, y, a, b, degrees).tolist())
    corners = np.array([(x, y), (x + a, y), (x + a, y + b), (x, y + b)])
    return dict(points=turned(corners, (x, y), degrees).tolist())


def _draw(shapes, what, size):
    label = blank(size)
    for k, shape in shapes:
        if "rle" in shape:
            label[brush(shape["rle"], size, what)] = k
        else:
            label[polygon(np.array(shape["points"]), size, what)] = k
    return label


def brush(rle, size, what):
    """The pixels of a brush: those whose alpha is not 0 in a picture (H, W, 4), packed by `@thi.ng/rle-pack`.

    The bits are: the number of values (32), their bits less 1 (5), and four lengths of counts less 1 (4 each).  Then
    follow runs: a bit that says whether all values are equal, which of the four lengths (2), the count less 1, and one
    value or as many as the count says.

    Parameters
    ----------
    rle : list of int
        Bytes.
    size : (int, int)
        Height and width.
    what : str
        The name of the mask in an error message.

    Returns
    -------
    ndarray of bool, shape (H, W)
    """
    h, w = size
    bits = np.unpackbits(np.array(rle, np.uint8))
    place = 0

    def read(length):
        nonlocal place
        word = bits[place : place + length]
        if len(word) < length:
            raise UserError(f"{what} has a brush whose run lengths end too early; export it again")
        place += length
        return int("".join(map(str, word)), 2)

    total, width = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    if total != h * w * 4 or width > 16:
        raise UserError(f"{what} has a brush for another size than {h}x{w} (height x width); export it again")
    values, done = np.zeros(total, bool), 0
    while done < total:
        equal, count = read(1), read(lengths[read(2)]) + 1
        if done + count > total:
            raise UserError(f"{what} has a brush whose run lengths overrun the image; export it again")
        if equal:
            values[done : done + count] = read(width) > 0
        else:
            if place + count * width > len(bits):
                raise UserError(f"{what} has a brush whose run lengths end too early; export it again")
            values[done : done + count] = bits[place : place + count * width].reshape(count, width).any(axis=1)
            place += count * width
        done += count
    return values.reshape(h, w, 4)[..., 3]
