"""One pool of worker threads for the CPU kernels.  NumPy releases the GIL inside its loops and its BLAS calls.

While the pool works, BLAS is limited to one thread a call: the workers are the parallelism, and threads of threads
only wait for each other.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from ...errors import UserError


@cache
def threads():
    """How many workers: ``MINIFCN_THREADS`` if it is set, else the cores this process may run on."""
    given = os.environ.get("MINIFCN_THREADS")
    if given is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not given.isdigit() or int(given) < 1:
        raise UserError(f"MINIFCN_THREADS={given!r}: give a whole number of threads, 1 or more")
    return int(given)


@cache
def _pool():
    return ThreadPoolExecutor(threads(), thread_name_prefix="minifcn", initializer=_mark_worker)


def _mark_worker():
    _own.is_worker = True


def run(task, items):
    """Call ``task(item)`` for every item, shared out over the workers; the results in order."""
    items = list(items)
    if len(items) < 2 and threads() > 1:  # one piece of work: the threads are better spent inside BLAS
        return [task(item) for item in items]
    if getattr(_own, "is_worker", False):  # a worker that waited for workers could wait for itself
        return [task(item) for item in items]
    with _single_threaded_blas:
        return [task(item) for item in items] if threads() == 1 else list(_pool().map(task, items))


class _SingleThreadedBlas:
    """BLAS on one thread while anyone is inside: the first in sets it, the last out puts back what was."""

    def __init__(self):
        self.lock, self.inside, self.limit = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            if self.inside == 0:
                self.limit = _blas().limit(limits=1)
                self.limit.__enter__()
            self.inside += 1

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.limit.__exit__(*error)


_single_threaded_blas = _SingleThreadedBlas()


def _start_over():
    """In a forked child: it inherits the pool, but not its threads, and a limit that nobody there will lift."""
    global _single_threaded_blas
    _pool.cache_clear()
    if _single_threaded_blas.inside:
        _single_threaded_blas.limit.__exit__(None, None, None)
    _single_threaded_blas = _SingleThreadedBlas()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)


@cache
def _blas():
    return ThreadpoolController().select(user_api="blas")


_own = threading.local()  # what each thread has for itself


def workspace(shape, dtype):
    """An uninitialised array from this thread's scratch memory, valid until its next call."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    if getattr(_own, "memory", None) is None or _own.memory.size < size:
        _own.memory = np.empty(size, np.uint8)
    return _own.memory[:size].view(dtype).reshape(shape)
