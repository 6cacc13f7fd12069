"""Predictions and gradients in threads, pools, asyncio and forked processes equal the main thread's bit by bit.

Each case runs in a separate process, so that a deadlock ends in a timeout and is reported.
"""

import subprocess
import sys

import pytest
from campaign import campaign

pytestmark = pytest.mark.campaign

PROGRAM = """
import asyncio, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import minifcn as mf

way, seed = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(seed)
image = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
x = rng.standard_normal((2, 3, 64, 64)).astype("f4")
labels = rng.integers(0, 3, (2, 64, 64))

def model():
    mf.manual_seed(seed)
    return mf.models.fcn8s_mini(num_classes=3, width=0.25)

def work(net=None):
    net = net or model()
    net.eval()
    prediction = net.predict(image).tobytes()
    mf.ops.cross_entropy(net(mf.Tensor(x)), labels).backward()
    return prediction, [p.grad.tobytes() for p in net.parameters() if p.grad is not None]

right = work()
nets = [model() for _ in range(4)]
busy = True

def compute():
    a = np.ones((400, 400), "f4")
    net = model()
    while busy:
        mf.ops.matmul(a, a)  # not np.matmul: forking while a multithreaded BLAS runs may hang NumPy itself
        net.predict(image)

if way == "thread":
    got = []
    threads = [threading.Thread(target=lambda n=n: got.append(work(n))) for n in nets[:1]]
elif way == "pool":
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(work, nets))
elif way == "asyncio":
    async def all_of_them():
        return await asyncio.gather(*(asyncio.to_thread(work, n) for n in nets[:2]))
    got = asyncio.run(all_of_them())
else:
    other = threading.Thread(target=compute, daemon=True)
    other.start()
    child = os.fork()
    if child == 0:
        os._exit(0 if work(nets[0]) == right else 3)
    got = [right] if os.waitpid(child, 0)[1] == 0 else []
    busy = False
    other.join()
if way == "thread":
    for t in threads: t.start()
    for t in threads: t.join()
    got.append(work(nets[1]))  # the main thread computes afterwards
assert got, "the forked process computed other bits"
assert all(g == right for g in got), "other bits"
"""
WAYS = ("fork", "thread", "pool", "asyncio")


def check(number, rng, program=PROGRAM):
    argv = [sys.executable, "-c", program, WAYS[number % 4], str(number)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{WAYS[number % 4]}: {done.stderr[-200:]}"


def test_threads_and_forks():
    campaign("threads and forks", 4, 200, check, seconds=90)


def test_a_difference_in_a_thread_is_found():
    """The sabotage: in the threads of a pool, one weight differs."""
    program = PROGRAM.replace(
        "    prediction =", "    net.parameters().__iter__().__next__().data.flat[0] += way == 'pool'\n    prediction ="
    )
    program = program.replace("right = work()", "way, kept = '', way\nright = work()\nway = kept")
    with pytest.raises(AssertionError, match="case 2: "):
        campaign("sabotage of threads", 4, 4, lambda n, rng: check(n, rng, program))
