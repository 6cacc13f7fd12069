"""``python -m minifcn.gpucheck``: test and time the CuPy paths on a GPU, and write a report.

The tests are those of ``tests/gpu``, which also run on the emulation.  The benchmark is that of ``minifcn.bench``,
compared with the device's own matrix products and copies, and with PyTorch on CUDA if that is installed.
"""

import sys
from pathlib import Path

import numpy as np

from .arrays import backend
from .bench import cases, groups, measure
from .bench.__main__ import COLUMNS, line
from .bench.gpu_report import device, report, say, suite, torch_on_device, wait
from .errors import UserError
from .io.cli import Parser, command, json_file, write_json


def parser():
    """The flags of this command."""
    p = Parser("gpucheck", "Run the test suite and the benchmark on a GPU, and write a report to attach to an issue.")
    p.add_argument("cases", nargs="*", metavar="CASE", help="time only these cases of minifcn.bench (kernels, steps)")
    p.add_argument("--out", metavar="FILE", default="gpucheck.md", help="the file of the report")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the results to a file ("-": standard output)')
    return p


@command
def main(argv=None):
    """Run the tests and the benchmark, from the command line."""
    args = parser().parse(argv)
    known = [*cases.KERNELS, *cases.STEPS]
    if wrong := [case for case in args.cases if case not in known]:
        raise UserError(f"there is no case {wrong[0]!r}; choose from {', '.join(known)}")
    try:
        backend.to_device(np.zeros(1), "cuda")
    except RuntimeError as error:
        raise UserError(f"{error}; python -m minifcn.cuda_on_cpu tests what can be tested without a GPU") from None
    results = dict(device=device(), suite=suite(), against=torch_on_device(), rows=[])
    say(f"{results['device']}\nsuite: {results['suite']}\n{COLUMNS}")
    results["gemm_gflops"], results["copy_gbytes"] = measure.device_roof(wait)
    for case in args.cases or known:
        row = groups.on_device(case, 9, bool(results["against"]), wait)
        results["rows"].append(row)
        say(line(row, results["gemm_gflops"]))
    Path(args.out).write_text(report(results), encoding="utf-8")
    say(f"report      {args.out}: please attach it to an issue")
    if args.json:
        write_json(args.json, results)
    return 0 if results["suite"].startswith("passed") else 1


if __name__ == "__main__":
    sys.exit(main())
