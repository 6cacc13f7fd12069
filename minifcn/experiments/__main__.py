"""``python -m minifcn.experiments [NAME]``: repeat an experiment of the paper; run it again to continue."""

import sys
from contextlib import redirect_stdout

from ..io import atomic
from ..io.cli import Parser, at_least, command, json_file, write_json
from . import EXPERIMENTS
from .lab import Lab, machine


def parser():
    """The flags of this command."""
    p = Parser("experiments", "Repeat an experiment of the paper.  Without a name: list them.")
    p.add_argument("name", nargs="?", choices=tuple(EXPERIMENTS), metavar="NAME", help=", ".join(EXPERIMENTS))
    p.add_argument("--seeds", type=at_least(1), default=3, help="repeat every training with this many seeds")
    p.add_argument("--out", metavar="DIR", help="the folder of the experiment (default: runs/experiment-NAME)")
    p.add_argument("--short", action="store_true", help="run all steps at a toy size; the numbers mean nothing")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the results to a file ("-": standard output)')
    return p


@command
def main(argv=None):
    """Run one experiment, from the command line."""
    args = parser().parse(argv)
    if args.name is None:
        for name, experiment in EXPERIMENTS.items():
            print(f"  {name:<13} {experiment.__doc__.partition(chr(10))[0]}")
        return 0
    out = sys.stderr if args.json == "-" else sys.stdout
    experiment = EXPERIMENTS[args.name]
    constants = getattr(experiment, "CONSTANTS", {})
    lab = Lab(args.out or f"runs/experiment-{args.name}", args.name, args.seeds, args.short, constants)
    try:
        with redirect_stdout(out):  # the progress of the trainings
            results = experiment.run(lab) | dict(machine=machine())
    except KeyboardInterrupt:
        print("stopped; run the same command to continue", file=sys.stderr)
        return 130
    lab.keep(args.name, results)
    picture = lab.folder / f"{args.name}.png"
    with atomic(picture) as partial:
        experiment.draw(results).savefig(partial, format="png")
    print("", *experiment.summary(results), f"picture     {picture}", sep="\n", file=out)
    if args.json:
        write_json(args.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
