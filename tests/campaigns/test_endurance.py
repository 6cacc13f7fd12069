"""Ten thousand training steps: memory, file handles, threads and kept blocks do not grow after the first tenth."""

import os
import sys
import threading

import numpy as np
import pytest
from campaign import SECONDS, WHOLE, campaign

import minifcn as mf
from minifcn.arrays import buffers

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the memory and handles of a process"),
]
SIZES = [(64, 64), (80, 96), (200, 180)]  # the last size needs blocks of more than a megabyte
GROWTH = 8 << 20  # bytes


def now():
    """The resources of this process: resident bytes, file handles, threads, and bytes in kept blocks."""
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return resident, len(os.listdir("/proc/self/fd")), threading.active_count(), buffers.held()


def trained(steps, leak=lambda: None):
    """Train a small net; the growth of resident bytes, handles, threads and kept bytes after the first tenth."""
    rng = np.random.default_rng(0)
    conv = [mf.nn.Conv2d(3, 8, 3, padding=1), mf.nn.ReLU(), mf.nn.Conv2d(8, 3, 3, padding=1)]
    net = mf.nn.Sequential(*conv)
    optimizer = mf.optim.SGD(net.parameters(), lr=1e-7, momentum=0.9)
    data = [(rng.standard_normal((1, 3, *s)).astype("f4"), rng.integers(0, 3, (1, *s))) for s in SIZES]
    for step in range(steps):
        if step == steps // 10:
            before = now()
        x, labels = data[step % len(data) if step % 10 == 0 else 0]
        net.zero_grad()
        mf.ops.cross_entropy(net(mf.Tensor(x)), labels).backward()
        optimizer.step()
        leak()
    return [b - a for a, b in zip(before, now())]


def check(steps):
    def check(number, rng):
        resident, handles, threads, held = trained(steps)
        assert resident < GROWTH and handles <= 0 and threads <= 0 and held < GROWTH, (resident, handles, threads, held)
        return steps

    return check


def test_endurance():
    campaign("endurance, comparisons are steps", 1, 1, check(10_000 if WHOLE else 600), seconds=SECONDS)


def test_a_leak_is_seen():
    """The sabotage: each step keeps 800 KB.  Together this exceeds the free memory that earlier tests may have left."""
    kept = []
    assert trained(300, lambda: kept.append(np.ones(100_000)))[0] > GROWTH
