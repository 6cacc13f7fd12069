"""``python -m minifcn.evaluate RUN``: measure trained networks on a data set, and compare them."""

import sys

from .data import DATASETS
from .errors import UserError
from .io.cli import Parser, command, device, json_file, write_csv, write_json
from .training.details import details, run_lines, tables
from .training.measured import measure_runs
from .training.resampling import compare
from .training.results import joined
from .viz.evaluation_page import prepare, write_page


def parser():
    """The flags of this command."""
    p = Parser(
        "evaluate",
        "Measure a trained network: the paper's four measures with confidence intervals, accuracy and IU of each "
        "class, boundaries, calibration, mistakes and the worst images; compare networks on the same images.",
    )
    p.add_argument("run", nargs="?", metavar="RUN", help="a run folder, or a .safetensors checkpoint in one")
    p.add_argument("--weights", choices=("last", "best"), default="last", help="which checkpoint of the run to use")
    p.add_argument("--dataset", help=f"one of {', '.join(DATASETS)} (default: the run's, or what --root holds)")
    p.add_argument("--root", metavar="DIR", help="measure all images of this folder (default: the run's data)")
    p.add_argument(
        "--split", help="a split of the data set, or all (default: the run's validation split; with --root DIR, all)"
    )
    p.add_argument(
        "--compare", nargs="+", default=[], metavar="RUN",
        help="further runs to measure on the same images, with a paired test of each difference in mean IU",
    )  # fmt: skip
    p.add_argument(
        "--tta", action="store_true",
        help="test-time augmentation: average over three sizes of each image and their mirror images (6 x the time)",
    )  # fmt: skip
    p.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:1")
    p.add_argument("--out", metavar="DIR", help="write a report into this folder, new or empty (DIR/HEAD of each head)")
    p.add_argument(
        "--json", type=json_file, metavar="OUT", help='write the measures to this file ("-": standard output)'
    )
    p.add_argument("--csv", type=json_file, metavar="OUT", help='write a row for each image ("-": standard output)')
    return p


@command(ranks=True)
def main(argv=None):
    """Run the command ``evaluate``."""
    args = parser().parse(argv)
    paths = [*([args.run] if args.run else []), *args.compare]
    if not paths:
        parser().error("the following arguments are required: RUN")
    if args.compare and len({*paths}) < max(len(paths), 2):
        raise UserError(f"--compare takes two or more different runs, but {', '.join(paths)} was given")
    if args.csv == args.json == "-":
        raise UserError("--csv and --json cannot both be written to standard output: give one of them a file")
    if args.out:
        prepare(args.out)
    found = measure_runs(paths, args.weights, args.dataset, args.root, args.split, args.device, args.tta)
    results = {head: report(runs, args) for head, runs in found.items()}
    if args.json:
        write_json(args.json, joined(results))
    if args.csv:
        write_csv(args.csv, tables([run for runs in found.values() for run in runs], compared=bool(args.compare)))


def report(runs, args):
    """Print what was measured of one head of some runs, write the page, and return it as a JSON value."""
    metrics = [details(run.found, run.data, run.head) for run in runs]
    pairs = compare({run.path: run.found.counts for run in runs}) if args.compare else []
    out = sys.stderr if "-" in (args.json, args.csv) else sys.stdout
    print(*run_lines(runs, metrics, pairs), sep="\n", file=out)
    if args.out:
        print(f"report      {write_page(args.out, runs, metrics, pairs)}", file=out)
    several = dict(runs=[dict(run=run.path) | values for run, values in zip(runs, metrics)], comparisons=pairs)
    return several if args.compare else metrics[0]


if __name__ == "__main__":
    sys.exit(main())
