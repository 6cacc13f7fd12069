"""The report of ``python -m minifcn.gpucheck``: the device, the result of the test suite on it, and the times."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .. import __version__
from ..arrays import backend
from .__main__ import COLUMNS, line
from .twin import torch

SUITE = Path(__file__).parent.parent.parent / "tests" / "gpu"


def device():
    """The device, its driver, and the versions of CUDA, minifcn, CuPy and NumPy, in one line."""
    cupy = backend.cupy()
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    return (
        f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}, "
        f"driver {driver}, CUDA {runtime}; minifcn {__version__}, CuPy {cupy.__version__}, NumPy {np.__version__}"
    )


def suite():
    """Run the test suite on the device; one line that begins with "passed", "failed" or "not run"."""
    if not SUITE.is_dir() or find_spec("pytest") is None:
        return "not run: the suite needs a checkout of minifcn, and pip install 'minifcn[test]'"
    say("running the suite on the device; this takes a minute or two")
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
    against = f'\n\nThe column "other" is {results["against"]} on the same device.' if results["against"] else ""
    return f"""# gpucheck

{results["device"]}

Suite: {results["suite"]}

Matrix products reach {peak:,.0f} GFLOP/s here (the "peak" of the last column), copies {copies:,.0f} GB/s.{against}

```
{rows}
```
"""


def torch_on_device():
    """PyTorch's name and version; None if it is not installed or cannot use the device."""
    return f"PyTorch {torch.__version__}" if torch is not None and torch.cuda.is_available() else None


def wait():
    """Wait until the device has finished all work that was submitted to it."""
    backend.cupy().cuda.get_current_stream().synchronize()
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def say(text):
    """Print a line on stderr and flush it."""
    print(text, file=sys.stderr, flush=True)
