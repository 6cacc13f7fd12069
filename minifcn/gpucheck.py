"""``python -m minifcn.gpucheck``: prove and time the CuPy paths on a GPU, and write a report of it.

The suite is that of ``tests/gpu``, which the emulation passes; the benchmark is ``minifcn.bench``'s, against the speed
of the device's own matrix products and copies, and against PyTorch's CUDA where that is installed.
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from . import __version__, backend
from .bench import cases, groups, measure
from .bench.__main__ import COLUMNS, line
from .cli import Parser, command, json_file, write_json
from .errors import UserError

SUITE = Path(__file__).parent.parent / "tests" / "gpu"


def parser():
    """The flags of this command."""
    p = Parser("gpucheck", "Run the test suite and the benchmark on a GPU, and write a report to attach to an issue.")
    p.add_argument("cases", nargs="*", metavar="CASE", help="time only these kernels and steps of minifcn.bench")
    p.add_argument("--out", metavar="FILE", default="gpucheck.md", help="the report")
    p.add_argument("--json", type=json_file, metavar="OUT", help='write the results there ("-": standard output)')
    return p


@command
def main(argv=None):
    """Check, from the command line."""
    args = parser().parse(argv)
    known = [*cases.KERNELS, *cases.STEPS]
    if wrong := [case for case in args.cases if case not in known]:
        raise UserError(f"there is no case {wrong[0]!r}: choose from {', '.join(known)}")
    try:
        backend.to_device(np.zeros(1), "cuda")
    except RuntimeError as error:
        raise UserError(f"{error}; python -m minifcn.cuda_on_cpu proves what can be proven without one") from None
    results = dict(device=device(), suite=suite(), against=_torch(), rows=[])
    _say(f"{results['device']}\nsuite: {results['suite']}\n{COLUMNS}")
    results["gemm_gflops"], results["copy_gbytes"] = measure.device_roof(_wait)
    for case in args.cases or known:
        row = groups.on_device(case, 9, bool(results["against"]), _wait)
        results["rows"].append(row)
        _say(line(row, results["gemm_gflops"]))
    Path(args.out).write_text(report(results), encoding="utf-8")
    _say(f"report      {args.out}: please attach it to an issue")
    if args.json:
        write_json(args.json, results)
    return 0 if results["suite"].startswith("passed") else 1


def device():
    """What computes here: the device, its driver, and the versions of what drives it."""
    cupy = backend.cupy()
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    return (
        f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}, "
        f"driver {driver}, CUDA {runtime}; minifcn {__version__}, CuPy {cupy.__version__}, NumPy {np.__version__}"
    )


def suite():
    """Run the suite on the device; its outcome in a line that begins with "passed", "failed" or "not run"."""
    if not SUITE.is_dir() or find_spec("pytest") is None:
        return "not run: it takes a checkout of minifcn, and pip install 'minifcn[test]'"
    _say("running the suite on the device; a minute or two")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cupy", str(SUITE)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SUITE.parent.parent)
    last = result.stdout.strip().splitlines()[-1:] or [result.stderr.strip()[-300:]]
    if result.returncode:
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.M)
        return f"failed: {last[0].strip('= ')}; {', '.join(failed)}"
    return f"passed: {last[0].strip('= ')}"


def report(results):
    """The report, in Markdown."""
    peak, copies = results["gemm_gflops"], results["copy_gbytes"]
    rows = "\n".join([COLUMNS, *(line(row, peak) for row in results["rows"])])
    against = f"\n\nThe other is {results['against']} on the same device." if results["against"] else ""
    return f"""# gpucheck

{results["device"]}

Suite: {results["suite"]}

Matrix products reach {peak:,.0f} GFLOP/s here ("of peak" is of that), copies {copies:,.0f} GB/s.{against}

```
{rows}
```
"""


def _torch():
    """PyTorch's name and version, if it is there and can use the device."""
    from .bench.twin import torch

    return f"PyTorch {torch.__version__}" if torch is not None and torch.cuda.is_available() else None


def _wait():
    from .bench.twin import torch

    backend.cupy().cuda.get_current_stream().synchronize()
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def _say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
