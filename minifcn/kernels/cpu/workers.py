"""One pool of worker threads for the CPU kernels.  NumPy releases the GIL inside its loops and its BLAS calls.

Whoever calls :func:`run` works along; the pool's threads help.  Meanwhile BLAS runs on one thread (``blas.py``).
"""

import os
import threading
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache, partial
from itertools import accumulate, count, pairwise
from math import prod
from queue import SimpleQueue

import numpy as np

from ...errors import UserError
from . import blas

RANKS = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE")
"""Where MPI launchers say how many ranks share this machine: Open MPI, MPICH (Hydra), older PMI, Slurm."""

MOST_THREADS = 1024


def threads():
    """How many workers: ``MINIFCN_THREADS`` if it is set, else this rank's share of the cores this process may use."""
    return _limit.get() or _threads()


@cache
def _threads():
    given = os.environ.get("MINIFCN_THREADS")
    if given is None:
        cores = _cores()
        if cores < _cores(os.getppid()):  # the launcher has bound this process to its share already
            return cores
        return max(1, cores // _local_ranks())
    number = _whole(given) or 0
    if not 1 <= number <= MOST_THREADS:
        raise UserError(f"MINIFCN_THREADS={given[:20]!r}: give a whole number of threads, 1 to {MOST_THREADS}")
    return number


def _cores(process=0):
    """How many cores a process may use; 0 is this one."""
    try:
        return len(os.sched_getaffinity(process))
    except (AttributeError, OSError):  # there is no such question, or no such process
        return os.cpu_count() or 1


def _local_ranks():
    given = (_whole(os.environ.get(name, "")) for name in RANKS)
    return max(next((number for number in given if number is not None), 1), 1)


def _whole(text):
    """The whole number that a variable of the environment gives in ASCII digits, else None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


@cache
def band_bytes(default):
    """How many bytes a band of a convolution may take: ``MINIFCN_BAND_MB`` if it is set, else the algorithm's own."""
    given = os.environ.get("MINIFCN_BAND_MB")
    if given is None:
        return default
    try:
        size = float(given) * 2**20 if given.isascii() else 0
    except ValueError:
        size = 0
    if not 0 < size < 2**40:
        raise UserError(f"MINIFCN_BAND_MB={given[:20]!r}: give the megabytes of a band, a number above 0")
    return int(size)


_limit = ContextVar("limit", default=None)


@contextmanager
def alone():
    """Inside, one worker, and BLAS on one thread: for measuring what more are worth."""
    token, here = _limit.set(1), _Job(None, ())
    blas.single_thread.begin(here)
    try:
        yield
    finally:
        blas.single_thread.end(here)
        _limit.reset(token)


_queue, _creating = None, threading.Lock()


def _helpers():
    """The queue that the helpers serve: one thread fewer than there are workers."""
    global _queue
    with _creating:
        if _queue is None:
            _queue = SimpleQueue()
            for i in range(_threads() - 1):
                threading.Thread(target=_serve, args=(_queue,), name=f"minifcn-{i}", daemon=True).start()
    return _queue


def _serve(queue):
    blas.limit_this_thread()
    while True:
        queue.get()()


class _Job:
    """Items that several threads take one by one.  A helper that begins late finds none; nobody waits for it."""

    def __init__(self, task, items):
        self.task, self.items, self.results, self.error = task, items, [None] * len(items), None
        self.waiting, self.done, self.total = deque(range(len(items))), count(1), len(items)
        self.finished = threading.Lock()
        self.finished.acquire()

    def work(self):
        _own.working = True
        try:
            while self.waiting:
                self._take()
        except IndexError:  # another thread was faster
            pass
        finally:
            _own.working = False

    def forget(self):
        """Let go of all arrays: a helper that begins late still holds the job."""
        self.task = self.items = self.results = None

    def _take(self):
        i = self.waiting.popleft()
        try:
            if self.error is None:
                self.results[i] = self.task(self.items[i])
        except BaseException as error:
            self.error = error
        if next(self.done) == self.total:
            self.finished.release()


WORTH = 1 << 17  # numbers to move that are worth waking a worker for: it takes some 50 µs to come


def run(task, items, moved=WORTH):
    """Call ``task(item)`` for every item, shared out over the workers; the results in order.

    `moved` says how many numbers all of it moves, about: little work is done by the caller alone.
    """
    items = list(items)
    if getattr(_own, "working", False):  # a worker that waited for workers could wait for itself
        return [task(item) for item in items]
    job = _Job(task, items)
    try:
        blas.single_thread.begin(job)
        if len(items) < 2 or moved < WORTH:
            return [task(item) for item in items]
        for _ in range(min(threads(), len(items)) - 1):
            _helpers().put(partial(copy_context().run, job.work))  # np.errstate, no_grad ... hold there, too
        job.work()
        job.finished.acquire()
        if job.error is not None:
            raise job.error
        return job.results
    finally:
        blas.single_thread.end(job)
        job.forget()
        del job  # an error that is kept must not keep the arrays


def shares(n, least=1):
    """The ranges that `n` cells are cut into: one a worker, fewer if they would hold less than `least` cells."""
    return ranges(n, max(1, min(threads(), n // max(least, 1))))


def ranges(n, count):
    """0 … n − 1 cut into `count` even ranges (first, last + 1)."""
    count = max(count, 1)
    return list(pairwise(n * i // count for i in range(count + 1)))


def _start_over():
    """In a forked child: it inherits the queue, but not the threads that serve it."""
    global _queue, _creating
    _queue, _creating, _own.working = None, threading.Lock(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)

if _local_ranks() > 1:  # also where NumPy calls BLAS by itself: ranks that all use all cores wait for one another
    blas.at_most(threads())

_own = threading.local()  # what each thread has for itself


def workspace(*arrays):
    """Uninitialised arrays, ``(dtype, shape)`` each, in this thread's scratch memory, valid until its next call."""
    sizes = [-(-np.dtype(dtype).itemsize * prod(shape) // 64) * 64 for dtype, shape in arrays]  # whole cache lines
    memory = getattr(_own, "memory", None)
    if memory is None or memory.size < sum(sizes):
        _own.memory = None  # first let go, then ask
        _own.memory = memory = np.empty(sum(sizes), np.uint8)
    places = accumulate(sizes, initial=0)
    return [np.ndarray(shape, dtype, memory, place) for (dtype, shape), place in zip(arrays, places)]
