"""``python -m minifcn.weights FILE``: list the arrays of a weight file, and what of them fits a model."""

import sys
from argparse import BooleanOptionalAction

from . import models
from .errors import UserError, on_one_line, shown
from .io import describe, load_weights
from .io.cli import Parser, at_least, command, json_file, write_json
from .kernels import shapes_only
from .models.store import weights_in
from .nn.surgery import transplant

NOT_IN_JSON = (float("inf"), float("-inf"))


def parser():
    """The flags of this command."""
    p = Parser("weights", "List the arrays of a weight file: names, shapes, types, ranges, and the layout they have.")
    p.add_argument("file", metavar="FILE", help="a weight file of minifcn or of another framework")
    p.add_argument("--model", metavar="NAME", help="also list what of the file fits this classifier or FCN")
    p.add_argument("--width", type=at_least(0.01, float, below=100), default=1.0, help="factor on its channels")
    p.add_argument("--num-classes", type=at_least(1), metavar="N", help="its number of classes (default: the model's)")
    p.add_argument("--batch-norm", action=BooleanOptionalAction, help="its batch norm (default: the model's)")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write all this to a file ("-": standard output)')
    return p


@command
def main(argv=None):
    """Run the command ``weights``."""
    args = parser().parse(argv)
    model = built(args) if args.model else None
    rows, arrays = describe(args.file), load_weights(args.file)
    donor = models.recognise(arrays)
    fits = model and transplant(donor or weights_in(arrays) or arrays, model, dry=True)
    out = sys.stderr if args.json == "-" else sys.stdout
    known = "a checkpoint of minifcn" if weights_in(arrays) else "the layout is not known"
    numbers = sum(array.size for array in arrays.values())
    print(f"{args.file}: {rows.format}, {len(arrays)} arrays, {numbers:,} numbers; {donor or known}", file=out)
    for row in rows:
        values = "" if row["least"] is None else f"{row['least']:11.4g} … {row['greatest']:.4g}"
        print(shown(f"  {on_one_line(row['name']):<40} {row['dtype']:<9} {row['shape']!s:<22}{values}"), file=out)
    if fits:
        print(f"in {args.model}:", *(f"  {line}" for line in fits.lines()), sep="\n", file=out)
    if args.json:
        conversion = donor and donor.preprocessing and donor.preprocessing.to_dict()
        report = dict(file=args.file, format=rows.format, layout=donor and str(donor), preprocessing=conversion)
        plain = [{k: None if v in NOT_IN_JSON or v != v else v for k, v in row.items()} for row in rows]
        write_json(args.json, report | dict(arrays=plain, fits=fits and vars(fits)))


def built(args):
    """The model of the settings, without values."""
    given = dict(width=args.width, num_classes=args.num_classes, batch_norm=args.batch_norm)
    options = {name: value for name, value in given.items() if value is not None}
    with shapes_only():
        if args.model not in models.CLASSIFIERS:
            return models.build(args.model, **options)
        try:
            return models.CLASSIFIERS[args.model](**options)
        except TypeError as error:
            raise UserError(f"{args.model} cannot be built with {options}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
