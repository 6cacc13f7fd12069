"""One pool of worker threads for the CPU kernels.  NumPy releases the GIL inside its loops and its BLAS calls.

Whoever calls :func:`run` works along; the pool's threads help.  While they do, BLAS is limited to one thread a call: the
workers are the parallelism, and threads of threads only wait for each other.
"""

import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from itertools import accumulate, pairwise
from math import prod

import numpy as np
from threadpoolctl import ThreadpoolController

from ... import memory
from ...errors import UserError

RANKS = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE")
"""Where MPI launchers say how many ranks share this machine: Open MPI, MPICH (Hydra), older PMI, Slurm."""


def threads():
    """How many workers: ``MINIFCN_THREADS`` if it is set, else this rank's share of the cores this process may use."""
    return _limit.get() or _threads()


@cache
def _threads():
    given = os.environ.get("MINIFCN_THREADS")
    if given is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ranks = next((int(os.environ[name]) for name in RANKS if os.environ.get(name, "").isdigit()), 1)
        return max(1, cores // max(ranks, 1))
    if not given.isdigit() or int(given) < 1:
        raise UserError(f"MINIFCN_THREADS={given!r}: give a whole number of threads, 1 or more")
    return int(given)


_limit = ContextVar("limit", default=None)


@contextmanager
def limited_to(count):
    """Inside, `count` workers at most, and BLAS on as many threads: for measuring what they are worth."""
    token = _limit.set(count)
    try:
        with ThreadpoolController().limit(limits=count, user_api="blas"):
            yield
    finally:
        _limit.reset(token)


@cache
def _pool():
    """The helpers: one thread fewer than there are workers."""
    return ThreadPoolExecutor(max(1, _threads() - 1), thread_name_prefix="minifcn")


def run(task, items):
    """Call ``task(item)`` for every item, shared out over the workers; the results in order."""
    items = list(items)
    if len(items) < 2 or getattr(_own, "working", False):  # a worker that waited for workers could wait for itself
        return [task(item) for item in items]
    results, waiting = [None] * len(items), deque(range(len(items)))

    def work():
        _own.working = True
        try:
            for i in iter(partial(_next, waiting), None):
                results[i] = task(items[i])
        except BaseException:
            waiting.clear()
            raise
        finally:
            _own.working = False

    with _single_threaded_blas:
        helpers = [_pool().submit(work) for _ in range(min(threads(), len(items)) - 1)]
        try:
            work()
        finally:
            for helper in helpers:
                helper.cancel() or helper.exception()  # it never began, or it is waited for
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
    return results


def _next(waiting):
    try:
        return waiting.popleft()
    except IndexError:
        return None


def shares(n, least=1):
    """The ranges that `n` cells are cut into: one a worker, fewer if they would hold less than `least` cells."""
    return ranges(n, max(1, min(threads(), n // max(least, 1))))


def ranges(n, count):
    """0 … n − 1 cut into `count` even ranges (first, last + 1)."""
    return list(pairwise(n * i // count for i in range(count + 1)))


class _SingleThreadedBlas:
    """BLAS on one thread while anyone is inside: the first in sets it, the last out puts back what was."""

    def __init__(self):
        self.lock, self.inside, self.before = threading.Lock(), 0, ()

    def __enter__(self):
        with self.lock:
            if self.inside == 0:
                self.before = [(library, library.get_num_threads()) for library in _blas()]
                for library, _ in self.before:
                    library.set_num_threads(1)
            self.inside += 1

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.restore()

    def restore(self):
        for library, count in self.before:
            library.set_num_threads(count)


_single_threaded_blas = _SingleThreadedBlas()


def _start_over():
    """In a forked child: it inherits the pool, but not its threads, and a limit that nobody there will lift."""
    global _single_threaded_blas
    _pool.cache_clear()
    _own.working = False
    if _single_threaded_blas.inside:
        _single_threaded_blas.restore()
    _single_threaded_blas = _SingleThreadedBlas()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)


@cache
def _blas():
    """NumPy's BLAS, and whatever other BLAS is loaded."""
    return ThreadpoolController().select(user_api="blas").lib_controllers


_own = threading.local()  # what each thread has for itself


def workspace(dtype, *shapes):
    """Uninitialised arrays of `shapes` in this thread's scratch memory, valid until its next call."""
    sizes = [prod(shape) for shape in shapes]
    dtype, total = np.dtype(dtype), max(sum(sizes), 1)
    memory = getattr(_own, "memory", None)
    if memory is None or memory.size < total * dtype.itemsize:
        _own.memory = None  # first let go, then ask
        _own.memory = memory = np.empty(total * dtype.itemsize, np.uint8)
    flat, arrays = memory[: total * dtype.itemsize].view(dtype), []
    for shape, end in zip(shapes, accumulate(sizes)):
        arrays.append(flat[end - prod(shape) : end].reshape(shape))
    return arrays
