"""Measurements: alternating times, the speed limit of the machine, and the memory of a fresh process."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ..arrays import backend
from ..kernels.cpu import workers

SAMPLE = 0.03  # least duration of a sample in seconds; shorter work is repeated
PAUSE = 0.02
"""Seconds between two samples.

After a sample, the idle worker threads of one side (OpenMP, BLAS) spin for some milliseconds.  Without the pause they
would take the cores from the other side.
"""


def in_turns(ways, rounds, wait=lambda: None):
    """Time several functions in turn: each round takes one sample of every function.

    Parameters
    ----------
    ways : sequence of callable
        The functions, called without arguments.
    rounds : int
        The number of samples of each function.  The order of the functions is reversed in every other round.
    wait : callable
        ``wait()`` waits until a device has finished.

    Returns
    -------
    (rounds, ways) array
        Seconds per call.
    """
    for way in ways:
        _seconds(way, 1, wait)  # the first call also compiles kernels and starts threads
    repeats = [max(1, round(SAMPLE / max(_seconds(way, 1, wait), 1e-6))) for way in ways]
    for way, count in zip(ways, repeats):  # warm up: caches, thread pools, reusable memory
        _seconds(way, max(1, count // 2), wait)
    table = np.empty((rounds, len(ways)))
    for i in range(rounds):
        for k in range(len(ways))[:: 1 if i % 2 else -1]:
            time.sleep(PAUSE)
            table[i, k] = _seconds(ways[k], repeats[k], wait)
    return table


def _seconds(way, repeats, wait):
    start = time.perf_counter()
    for _ in range(repeats):
        way()
    wait()
    return (time.perf_counter() - start) / repeats


def summary(table):
    """The median times of the first and second way, and the median, smallest and largest ratio of their samples."""
    row = dict(ms=1e3 * float(np.median(table[:, 0])))
    if table.shape[1] > 1:
        ratios = table[:, 0] / table[:, 1]
        row |= dict(other_ms=1e3 * float(np.median(table[:, 1])), ratio=float(np.median(ratios)))
        row |= dict(ratio_least=float(ratios.min()), ratio_most=float(ratios.max()))
    return row


def sgemm_peak(size=1024, rounds=9):
    """GFLOP/s of a large matrix product on all threads: the upper limit for kernels that multiply."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    out = np.empty((size, size), np.float32)
    shares = workers.shares(size)

    def multiply():
        workers.run(lambda share: np.matmul(a[slice(*share)], b, out=out[slice(*share)]), shares)

    return 2 * size**3 / in_turns([multiply], rounds).min() / 1e9


def device_roof(wait, rounds=9):
    """The limits of the CuPy device: (GFLOP/s of matrix products, GB/s of copies)."""
    cupy = backend.cupy()

    def seconds(size):
        a = cupy.ones((size, size), "float32")
        out = a.copy()
        ways = (lambda: a.dot(a, out=out), lambda: cupy.copyto(out, a))
        return [in_turns([way], rounds, wait).min() for way in ways]

    small, _ = seconds(256)
    size = 4096 if small < 1e-4 else 256  # a GPU takes 20 µs; the emulation takes 1 ms, and minutes for 4096
    multiply, copy = seconds(size)
    return 2 * size**3 / multiply / 1e9, 8 * size**2 / copy / 1e9


def resident():
    """The memory of this process on Linux, (bytes now, peak in bytes); None on other systems."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}
    return sizes["VmRSS"], sizes["VmHWM"]


def memory_of(case, side):
    """Bytes of peak memory that three steps of `case` add to the imports of a fresh process; None if unknown."""
    if resident() is None:
        return None
    command = [sys.executable, "-m", "minifcn.bench", case, "--memory-of", side, "--json", "-"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"measuring the memory of {case} failed: {answer.stderr.strip()[-500:]}")
    return json.loads(answer.stdout)["bytes"]
