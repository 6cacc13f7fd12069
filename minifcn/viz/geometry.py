"""``python -m minifcn.geometry MODEL``: the receptive field and position of every layer, the crops, and a picture."""

import argparse
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..engine.axis_maps import called
from ..engine.core import Function, Tensor, no_grad, watch
from ..engine.tables import Table
from ..errors import GeometryError, UserError
from ..geometry import fields_by_phase, receptive_field, region
from ..io.cli import Parser, command, json_file, write_json
from ..kernels import shapes_only
from ..kernels.shapes import stand_in
from ..models import CLASSIFIERS, MODELS, UNNAMED, build
from ..nn.module import evaluating
from ..nn.surgery import convolutionalize
from . import receptive_fields

WORDS = {
    "Conv2d": "convolution", "ConvTranspose2d": "transposed conv.", "MaxPool2d": "max pooling",
    "AvgPool2d": "average pooling", "Interpolate": "interpolation", "Add": "sum", "Concat": "concatenation",
    "GetItem": "slice",
}  # fmt: skip
PICTURES = (".png", ".pdf", ".svg", ".jpg")


@dataclass(eq=False)
class Layer:
    """One row of the table: an operation that changes the position or the field of units, or that has weights."""

    node: Function
    output: Tensor
    source: str  # the name of its first input

    @property
    def name(self):
        return called(self.output)

    @property
    def window(self):
        """Kernel size, stride, padding and dilation, as (h, w) pairs; None for an operation without a window."""
        node = self.node
        if not hasattr(node, "stride"):
            return None
        return getattr(node, "kernel_size", None) or node.in_shapes[1][2:], node.stride, node.padding, node.dilation

    @property
    def crop(self):
        """The offset (h, w) of a crop; None for any other operation."""
        return getattr(self.node, "offset", None)

    @property
    def operation(self):
        kind = type(self.node).__name__
        word = WORDS.get(kind, kind.lower())
        if self.crop is not None:
            word += f" at {_one(self.crop)}"
        if self.window and max(self.window[3]) > 1:
            word += f", dilation {_one(self.window[3])}"
        return word


def parser():
    """The flags of this command."""
    p = Parser("geometry", "Show the receptive field and position of each layer, the crops, and a picture of one unit.")
    p.add_argument(
        "model",
        metavar="MODEL",
        help=f"one of {', '.join((*MODELS, *CLASSIFIERS))}; or another stride and trunk: fcn16s_vgg11",
    )
    p.add_argument("--input", type=_size, default="500", metavar="SIZE", help="image size: 500, or 500x375 (h x w)")
    p.add_argument("--layer", metavar="NAME", help="the layer of the drawn unit (default: the last with a field)")
    p.add_argument(
        "--unit",
        type=int,
        nargs=2,
        metavar=("I", "J"),
        help="the row and column of the unit in its layer (default: the centre)",
    )
    p.add_argument("--out", type=_picture, metavar="FILE", help="the file of the picture (default: MODEL-geometry.png)")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the numbers to a file ("-": standard output)')
    return p


def _size(text):
    """An argparse type: converts "500" or "500x375" to (h, w)."""
    if not re.fullmatch(r"[1-9]\d{0,5}([x×][1-9]\d{0,5})?", text):
        raise argparse.ArgumentTypeError(f"{text} is not a size; give 500, or 500x375 for height and width")
    sizes = [int(n) for n in re.split("[x×]", text)]
    return sizes[0], sizes[-1]


def _picture(text):
    """An argparse type: the file of a picture; refused here, before the work, if it cannot be written."""
    if Path(text).suffix.lower() not in PICTURES or Path(text).is_dir() or not Path(text).parent.is_dir():
        kinds = ", ".join(PICTURES)
        raise argparse.ArgumentTypeError(f"{text} cannot be written; give a {kinds} file in an existing folder")
    return text


@command
def main(argv=None):
    """Print the geometry of a model and draw it, from the command line."""
    args = parser().parse(argv)
    image, layers = layers_of(args.model, args.input)
    rows = [row_of(layer, image) for layer in layers]
    layer = _chosen(layers, rows, args)
    unit = tuple(args.unit or (n // 2 for n in layer.output.shape[2:]))
    try:
        drawn = [shown(other, layer, unit, image) for other in layers[: layers.index(layer) + 1]]
    except GeometryError:
        raise
    except ValueError as error:
        raise UserError(f"--unit: {error}") from None

    crops = [(layer, layer.crop) for layer in layers if layer.crop is not None]
    last = layers[-1]
    out = sys.stderr if args.json == "-" else sys.stdout
    print(f"{args.model} on an image of {_by(args.input)}; positions in pixels, the first at 0\n", file=out)
    print(table(rows), file=out)
    if crops:
        print("\ncrops, derived:", *(f"  {describe_crop(layer)}" for layer, _ in crops), sep="\n", file=out)
    phases = None if rows[-1]["why"] else fields_by_phase(last.output, image)
    print(f"\na unit of the output sees {by_phase(phases)}" if phases else "", file=out)
    for row in rows:
        if row["why"]:
            print(f"note: {row['layer']}: {row['why']}", file=out)

    target = args.out or f"{args.model}-geometry.png"
    first = layers[0].window
    title = f"unit ({unit[0]}, {unit[1]}) of {'the output' if layer is last else layer.name}"
    figure = receptive_fields(args.input, [d for d in drawn if d], title, first[2] if first else (0, 0))
    figure.savefig(target)
    print(f"-> {target}", file=out)
    if args.json:
        write_json(
            args.json,
            dict(
                model=args.model,
                input=args.input,
                layers=rows,
                crops=[dict(layer=c.name, of=c.source, offset=offset) for c, offset in crops],
                field_by_phase=phases and dict(layer=last.name, rows=phases[0], columns=phases[1]),
                picture=dict(file=target, layer=layer.name, unit=unit),
            ),
        )


def layers_of(name, size):
    """The image and the layers of a model, from a run that computes only shapes.

    A classifier is converted to a fully convolutional net first (§3.1).

    Raises
    ------
    UserError
        If there is no such model, or it does not take an image of this size.
    """
    with no_grad(), shapes_only():
        if name in CLASSIFIERS:
            classifier = CLASSIFIERS[name]()
            channels, model = classifier.in_channels, convolutionalize(classifier)
        elif name in MODELS or name in UNNAMED:
            model = build(name)
            channels = model.in_channels
        else:
            raise UserError(f"there is no model {name!r}; choose one of {', '.join((*MODELS, *CLASSIFIERS))}")
        image = Tensor(stand_in(model.parameters()[0].data, (1, channels, *size)), name="image")
        (root,) = image.where
        layers = []

        def note(node, inputs, output):
            places = [x.where[root] for x in inputs if root in x.where]
            if output.ndim != 4 or root not in output.where or not places:
                return
            moves = output.where[root] != places[0] or output.shape[2:] != inputs[0].shape[2:]
            if moves or len(places) > 1 or node.macs or hasattr(node, "offset"):
                layers.append(Layer(node, output.mark(), called(inputs[0])))

        try:
            with evaluating(model), watch(note):
                model(image)
        except ValueError as error:
            raise UserError(f"{name} does not take an image of {_by(size)}: {error}") from None
    return image, layers


def _chosen(layers, rows, args):
    """The layer that ``--layer`` names; without it, the last layer whose units have a field."""
    if args.layer is None:
        return next((layer for layer, row in zip(layers[::-1], rows[::-1]) if not row["why"]), layers[-1])
    named = [layer for layer in layers if layer.name == args.layer]
    if not named:
        names = ", ".join(dict.fromkeys(layer.name for layer in layers))
        raise UserError(f"{args.model} has no layer {args.layer!r}; its layers are {names}")
    return named[-1]


def row_of(layer, image):
    """The numbers of one layer, as a JSON value; if the layer has no position, `why` holds the reason."""
    kernel, stride, padding, dilation = layer.window or (None,) * 4
    row = dict(
        layer=layer.name, operation=layer.operation, kernel=kernel, stride=stride, pad=padding, dilation=dilation,
        size=layer.output.shape[2:], jump=None, field=None, start=None, padding=None, why=None,
    )  # fmt: skip
    try:
        place = receptive_field(layer.output, image)
    except GeometryError as error:
        return row | dict(why=str(error))
    numbers = {"jump": place.jump, "field": place.size, "start": place.start, "padding": place.padding}
    return row | {name: tuple(map(_plain, values)) for name, values in numbers.items()}


def _plain(number):
    return int(number) if number == int(number) else float(number)


def table(rows):
    """The rows as a :class:`~minifcn.engine.tables.Table` of text."""
    columns = {"k": "kernel", "s": "stride", "p": "pad", "n": "size"}
    columns |= {key: key for key in ("jump", "field", "start", "padding")}
    return Table(
        {"layer": row["layer"], "operation": row["operation"], **{n: _one(row[key]) for n, key in columns.items()}}
        for row in rows
    )


def describe_crop(layer):
    """A crop in words, such as ``score: crop of upscore at 19``."""
    what = f"crop of {layer.source} at {_one(layer.crop)}"
    return what if layer.name.startswith("Crop") else f"{layer.name}: {what}"


def by_phase(phases):
    """The receptive fields of a map's units in words, from their sizes by row and by column."""
    rows, columns = map(_shares, phases)
    return f"{rows}, along h and w alike" if rows == columns else f"{rows} along h; {columns} along w"


def _shares(sizes):
    shares = sorted(Counter(sizes).items())
    if len(shares) == 1:
        return f"{sizes[0]} pixels"
    return " or ".join(f"{size} pixels ({n} of every {len(sizes)})" for size, n in shares)


def shown(other, layer, unit, image):
    """What the picture shows of the layer `other`, below a unit of `layer`; None if the unit does not depend on it."""
    seen = region(layer.output, image, unit, clip=False)  # raises ValueError if there is no such unit
    try:
        cells = region(layer.output, other.output, unit, clip=False)
        place = receptive_field(other.output, image)
    except GeometryError:
        return None
    drawn = receptive_field(layer.output, image)
    nearest = []  # the unit of `other` nearest to the drawn unit
    for i, n, jump, start, j, s in zip(unit, other.output.shape[2:], drawn.jump, drawn.start, place.jump, place.start):
        nearest.append(min(max(round((jump * i + start - s) / j), 0), n - 1))
    return dict(
        name=other.name,
        size=other.output.shape[2:],
        jump=tuple(map(float, place.jump)),
        start=tuple(map(float, place.start)),
        field=seen if other is layer else region(other.output, image, nearest, clip=False),
        seen=(cells.left, cells.right - 1),
    )


def _by(size):
    return "×".join(f"{n:g}" for n in size)


def _one(numbers):
    """(h, w) as text; one number if both are equal, empty text for None."""
    if numbers is None:
        return ""
    texts = [f"{n:g}" for n in numbers]
    return texts[0] if len(set(texts)) == 1 else "×".join(texts)


if __name__ == "__main__":
    sys.exit(main())
