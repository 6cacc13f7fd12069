"""``python -m minifcn.bench [CASE]``: measure speed and memory on this machine, optionally against PyTorch."""

import sys

from tqdm import tqdm

from ..errors import UserError
from ..experiments.lab import machine
from ..io import atomic
from ..io.cli import Parser, at_least, command, json_file, write_json
from . import cases, groups, measure


def parser():
    """The flags of this command."""
    p = Parser("bench", "Measure speed and memory.  Without a name: everything (some minutes).")
    listed = "; ".join(f"{group} ({', '.join(names)})" for group, names in groups.NAMES.items())
    p.add_argument("cases", nargs="*", metavar="CASE", help=f"a group or a case: {listed}")
    p.add_argument("--against", choices=("torch",), help="also measure PyTorch on the same computation, alternately")
    p.add_argument("--rounds", type=at_least(1), default=9, help="the number of samples of each side of a case")
    p.add_argument("--figure", metavar="FILE", help="draw the ratios to this PNG file")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the results to a file ("-": standard output)')
    p.add_argument(
        "--memory-of", choices=("minifcn", "torch"), help="internal: measure one step's peak memory in this process"
    )
    return p


@command
def main(argv=None):
    """Run the benchmarks, from the command line."""
    args = parser().parse(argv)
    if wrong := groups.unknown(args.cases):
        raise UserError(
            f"there is no case {wrong[0]!r}; groups are {', '.join(groups.NAMES)}, and --help lists the cases"
        )
    if args.memory_of:
        if len(args.cases) != 1 or args.cases[0] not in cases.STEPS:
            raise UserError(f"--memory-of takes one whole step: {', '.join(cases.STEPS)}")
        write_json(args.json, dict(bytes=groups.peak_memory(args.cases[0], args.memory_of)))
        return 0
    out = sys.stderr if args.json == "-" else sys.stdout
    results = dict(machine=machine(), against=_opponent(args.against), rows=[])
    results["machine"]["sgemm_gflops"] = measure.sgemm_peak()
    print(_heading(results), file=out)
    todo = [(group, case) for group, names in groups.chosen(args.cases).items() for case in names]
    group = None
    with tqdm(todo, file=sys.stderr, leave=False, disable=None) as bar:
        for shown, case in bar:
            bar.set_description(case)
            row = groups.run(shown, case, args.rounds, args.against)
            results["rows"].append(row)
            heading = f"\n{shown}: {cases.GROUPS[shown]}\n{COLUMNS}" if shown != group else None
            group = shown
            with bar.external_write_mode(file=out):
                print(*filter(None, [heading, line(row, results["machine"]["sgemm_gflops"])]), sep="\n", file=out)
    if args.figure:
        _draw(results, args.figure)
        print(f"\nfigure: {args.figure}", file=out)
    if args.json:
        write_json(args.json, results)
    return 0


def _draw(results, path):
    """Draw the ratios to PyTorch; if it was not measured, those between two ways of minifcn."""
    from ..viz.benchmarks import ratios

    beside = [row for row in results["rows"] if row["group"] in groups.BESIDE_TORCH]
    picture = ratios(beside) if results["against"] else ratios(results["rows"], "time, as a multiple of the other's")
    with atomic(path) as partial:
        picture.savefig(partial, format="png")


COLUMNS = f"{'case':<29}{'minifcn':>11}{'other':>11}{'ratio':>8}   {'least … most':<14}{'GFLOP/s':>8}{'of peak':>9}"


def line(row, peak):
    """One result as a line of the table; `peak` is the speed of matrix products in GFLOP/s."""
    if "skipped" in row:
        return f"{row['case']:<29}skipped: {row['skipped']}"
    unit, ours, other = ("MB", "mb", "other_mb") if "mb" in row else ("ms", "ms", "other_ms")

    def number(name):
        value = row.get(name)
        return "–" if value is None else f"{value:,.{0 if value >= 1000 else 1 if value >= 10 else 2}f} {unit}"

    ratio = f"{row['ratio']:.2f}" if "ratio" in row else "–"
    spread = f"{row['ratio_least']:.2f} … {row['ratio_most']:.2f}" if "ratio_least" in row else ""
    speed = f"{row['gflops']:>8.0f}{row['gflops'] / peak:>9.0%}" if "gflops" in row else ""
    return f"{row['case']:<29}{number(ours):>11}{number(other):>11}{ratio:>8}   {spread:<14}{speed}".rstrip()


def _opponent(name):
    if name is None:
        return None
    from .twin import let_it_keep_its_memory, require_torch, torch

    require_torch()
    let_it_keep_its_memory()
    torch.set_num_threads(machine()["threads"])
    return dict(name="PyTorch", version=torch.__version__, threads=torch.get_num_threads())


def _heading(results):
    m, other = results["machine"], results["against"]
    against = f", against PyTorch {other['version']} on {other['threads']} threads" if other else ""
    return (
        f"{m['processor']}, {m['threads']} threads; Python {m['python']}, NumPy {m['numpy']}, {m['blas']}{against}\n"
        f"{m['loops']}; "
        f"matrix products reach {m['sgemm_gflops']:.0f} GFLOP/s here"
    )


if __name__ == "__main__":
    sys.exit(main())
