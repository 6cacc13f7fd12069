"""A model of a training step on more cores, from what one and two threads take here.

    T(p) = S + n·h + max(W / p, M / B)

- W: seconds of one thread in work that is divided among the worker threads; S: in all other work, which is Python and
  small arrays.
- n: how many times a step hands work over; h: the seconds of one hand-over.
- M: the bytes that a step reads and writes if each operation reads its inputs and writes its output once, and each
  gradient moves as many; B: the bytes a second that all threads together copy here.

It leaves out what also grows: that shares are uneven, that cores have other clocks when all of them work, and that a
machine with more cores has a faster memory.
"""

import threading
import time
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

from ..engine.core import watch
from ..kernels.cpu import workers

THREADS = (2, 8, 32, 64)
COPIED = 1 << 27  # bytes, which no cache holds


@dataclass
class Step:
    """The measured parts of the model, in seconds, bytes, and bytes a second."""

    serial: float
    divided: float
    handovers: int
    handover: float
    moved: int
    bandwidth: float

    def seconds(self, threads):
        """T(p)."""
        waiting = self.handovers * self.handover if threads > 1 else 0.0
        return self.serial + waiting + max(self.divided / threads, self.moved / self.bandwidth)


def measure(work, rounds):
    """The parts for a step of `work`: the medians of `rounds` steps on one thread."""
    work.ours()
    with workers.alone():
        totals, inside, counts = zip(*(_one_step(work) for _ in range(rounds)))
    divided = float(np.median(inside))
    return Step(
        float(np.median(totals)) - divided, divided, counts[0], _handover(rounds), _bytes_moved(work), _bandwidth()
    )


def _one_step(work):
    """Seconds of a step, those in jobs that more threads would divide, and the number of these jobs."""
    run, jobs, caller = workers.run, [], threading.current_thread()

    def timed(task, items, moved=workers.WORTH, **rest):
        start = time.perf_counter()
        try:
            return run(task, items, moved, **rest)
        finally:
            if moved >= workers.WORTH and threading.current_thread() is caller:
                jobs.append(time.perf_counter() - start)

    with patch.object(workers, "run", timed):
        start = time.perf_counter()
        work.ours()
        return time.perf_counter() - start, sum(jobs), len(jobs)


def _handover(rounds):
    """How many seconds later than alone all threads are done, if each computes the same product; 0 for one thread."""
    matrix = np.ones((256, 256), np.float32)

    def seconds(threads):
        start = time.perf_counter()
        for _ in range(50):
            workers.run(lambda _: matrix @ matrix, range(threads))
        return (time.perf_counter() - start) / 50

    late = [seconds(workers.threads()) - seconds(1) for _ in range(rounds)]
    return max(float(np.median(late)), 0.0)


def _bytes_moved(work):
    """Bytes of the inputs and outputs of all operations of a step, once forward and once for each gradient."""
    moved = []

    def note(node, inputs, output):
        gradients = sum(x.requires_grad for x in inputs)
        moved.append((sum(x.data.nbytes for x in inputs) + output.data.nbytes) * (1 + gradients))

    with watch(note):
        work.run()
    return sum(moved)


def _bandwidth():
    """Bytes a second that all threads together read and write when they copy."""
    source, target = np.ones(COPIED, np.uint8), np.empty(COPIED, np.uint8)

    def copy(share):
        np.copyto(target[slice(*share)], source[slice(*share)])

    def seconds():
        start = time.perf_counter()
        workers.run(copy, workers.shares(COPIED))
        return time.perf_counter() - start

    return 2 * COPIED / min(seconds() for _ in range(5))
