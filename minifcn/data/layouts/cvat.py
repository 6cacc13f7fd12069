"""CVAT's layout: one XML file, "CVAT for images 1.1", beside the images."""

import json
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..colours import unpack as colours_of
from ..palette import voc_colour_map
from .base import SPLITS, Contents, Layout, Sample, as_names, blank
from .drawing import ellipse, polygon, run_lengths, turned
from .files import beginning, find_image, number, points_of, read_xml, relative, visible
from .names import order_of

WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")


class CVAT(Layout):
    """Polygons, masks, boxes and ellipses of CVAT's XML export "CVAT for images 1.1".

    Classes are the labels of the task, in their order and in their colours, after the background.  Shapes are drawn in
    the order of their layers (``z_order``), by COCO's rule, as CVAT exports them.  Subsets are splits.  Polylines,
    points and cuboids have no area; they are not used, and a note counts them.
    """

    looks_for = "CVAT's annotations.xml"

    @classmethod
    def recognise(cls, folder: Path) -> str:
        found = _file(folder)
        return f"{found.name} is CVAT's XML" if found else ""

    def read(self, folder: Path) -> Contents:
        path = _file(folder)
        tree = read_xml(path)
        if tree.find("track") is not None:
            raise UserError(f"{path} holds tracks of a video; export the task as 'CVAT for images 1.1' instead")
        listed = {name: colour for name, colour in map(_label, tree.iterfind("./meta//labels/label")) if name}
        unused: dict[str, int] = {}
        images = [(image, _shapes(image, path, unused)) for image in tree.iterfind("image")]
        notes = [f"{path}: {count} {kind} have no area, and are not used" for kind, count in unused.items()]
        labels = [shape["label"] for _, shapes in images for shape in shapes]
        ids, classes = order_of(folder, labels, ("background",), notes, tuple(listed))
        samples: list[Sample] = []
        splits: dict[str, list[str]] = {}
        for image, shapes in images:
            name, subset = image.get("name", ""), image.get("subset", "")
            bases = [folder / "images" / subset, folder / "images", folder / subset, folder]
            file = find_image(folder, name, bases, path)
            h, w = (int(number(image.get(side), f"{path}: the size of {name}")) for side in ("height", "width"))
            drawn = [(ids[shape["label"]], shape) for shape in shapes]
            evidence = json.dumps(drawn, sort_keys=True).encode()
            draw = partial(_draw, drawn, f"{path}: image {name!r}")
            samples.append(Sample(relative(file, folder), file, draw, (evidence,), size=(h, w)))
            if subset:
                splits.setdefault(SPLITS.get(subset.lower(), subset), []).append(samples[-1].name)
        colours = [listed.get(name) for name in classes]
        default = voc_colour_map(len(classes))
        palette = np.array([c if c is not None else default[k] for k, c in enumerate(colours)], np.uint8)
        return Contents(samples, classes, splits if len(splits) > 1 else {}, palette, notes)


def _file(folder):
    """The XML file of CVAT in a folder, or None."""
    found = (path for path in visible(folder, "*.xml") if "<annotations" in beginning(path))
    return next((path for path in found if "<image" in (head := beginning(path)) or "<meta" in head), None)


def _label(element):
    """The name and the colour (or None) of a label of the task."""
    colour = (element.findtext("color") or "").lstrip("#")
    try:
        return as_names([element.findtext("name") or ""])[0], colours_of([int(colour, 16)])[0]
    except (ValueError, OverflowError):
        return as_names([element.findtext("name") or ""])[0], None


def _shapes(image, path, unused):
    """The shapes of an image as dicts, lowest layer first; those without an area are counted in `unused`."""
    shapes = []
    for element in image:
        what = f"{path}: a {element.tag} in {image.get('name')!r}"
        if element.tag in WITHOUT_AREA:
            unused[f"{element.tag}s".replace("ss", "s")] = unused.get(f"{element.tag}s".replace("ss", "s"), 0) + 1
        elif element.tag in ("polygon", "mask", "box", "ellipse"):
            if not element.get("label"):
                raise UserError(f"{what} has no label; give it one in CVAT")
            shape = _mask(element, what) if element.tag == "mask" else dict(points=_corners(element, what).tolist())
            layer = number(element.get("z_order", 0), f"{what}: z_order")
            shapes.append((layer, shape | dict(label=as_names([element.get("label")])[0])))
    return [shape for _, shape in sorted(shapes, key=lambda pair: pair[0])]


def _corners(element, what):
    """The corners (n, 2) of a polygon, a box or an ellipse."""
    if element.tag == "polygon":
        points = points_of([pair.split(",") for pair in element.get("points", "").split(";")], what)
        if len(points) < 3:
            raise UserError(f"{what} has {len(points)} points; a polygon has at least 3")
        return points
    sides = ("xtl", "ytl", "xbr", "ybr") if element.tag == "box" else ("cx", "cy", "rx", "ry")
    a, b, c, d = (number(element.get(side), f"{what}: {side}") for side in sides)
    degrees = number(element.get("rotation", 0), f"{what}: rotation")
    if element.tag == "ellipse":
        return ellipse(a, b, c, d, degrees)
    return turned(np.array([(a, b), (c, b), (c, d), (a, d)]), ((a + c) / 2, (b + d) / 2), degrees)


def _mask(element, what):
    """The run lengths and the rectangle (left, top, width, height) of a mask."""
    box = [int(number(element.get(side), f"{what}: {side}")) for side in ("left", "top", "width", "height")]
    try:
        counts = [int(word) for word in element.get("rle", "").split(",")]
    except ValueError:
        raise UserError(f"{what} has damaged run lengths; export it again") from None
    return dict(rle=counts, box=box)


def _draw(shapes, what, size):
    label = blank(size)
    for k, shape in shapes:
        if "points" in shape:
            label[polygon(np.array(shape["points"]), size, what)] = k
            continue
        left, top, width, height = shape["box"]
        if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
            raise UserError(f"{what} has a mask that reaches beyond the image of {size[0]}x{size[1]} (height x width)")
        inside = run_lengths(shape["rle"], (height, width), what, by_columns=False)
        label[top : top + height, left : left + width][inside] = k
    return label
