"""One pool of worker threads for the CPU kernels.

Threads compute at the same time because NumPy releases Python's lock (the GIL) in its loops and BLAS calls.  The
caller of :func:`run` works on the items too, and the pool's threads help.  BLAS runs on one thread while tasks multiply
matrices (``blas.py``).
"""

import os
import threading
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache, partial
from itertools import count, pairwise
from queue import SimpleQueue

import numpy as np

from .. import environment
from . import blas

WORTH = 1 << 17  # numbers to move from which on a helper pays: waking it takes about 50 µs

_limit = ContextVar("limit", default=None)  # the number of workers inside alone()
_thread = threading.local()  # `working`: whether the calling thread is inside a job; `limited`: one that limits BLAS
_queue, _creating = None, threading.Lock()
_news = np.zeros(1, np.int64)  # changes when a job is put into the queue


def spin(number, seen):
    """Wait some time until ``number[0]`` is not `seen` any more, without sleeping and without Python's lock.

    This version returns at once; the first compiled kernel that runs replaces it.
    """


def threads():
    """The number of worker threads that :func:`run` uses, the caller included."""
    return _limit.get() or environment.threads()


@contextmanager
def alone():
    """Use one worker thread, and one thread in BLAS, inside a ``with`` block, to measure what more threads gain."""
    token, job = _limit.set(1), _Caller()
    blas.single_thread.begin(job)
    try:
        yield
    finally:
        blas.single_thread.end(job)
        _limit.reset(token)


def run(task, items, moved=WORTH, multiplies=True):
    """The results of ``task(item)`` for all items, in order, computed by the worker threads.

    Parameters
    ----------
    task : callable
    items : iterable
    moved : int
        About how many numbers all calls together read and write.  If there are few, the caller computes alone.
    multiplies : bool
        Whether the task calls BLAS, which is then limited to one thread.
    """
    items = list(items)
    # inside a job, waiting here for other workers could deadlock
    if len(items) < 2 or moved < WORTH or getattr(_thread, "working", False):
        return [task(item) for item in items] if not multiplies else call(lambda: [task(item) for item in items])
    job = _Job(task, items, multiplies)
    try:
        if multiplies:
            blas.single_thread.begin(job)
        for _ in range(min(threads(), len(items)) - 1):
            _helpers().put(partial(copy_context().run, job.work))  # so np.errstate, no_grad ... apply in helpers too
        _news[0] += 1
        job.work()
        job.wait()
        if job.error is not None:
            raise job.error
        return job.results
    finally:
        if multiplies:
            blas.single_thread.end(job)
        job.forget()
        del job  # the traceback of an error holds this frame: it must not keep the arrays alive


def call(function, *args):
    """``function(*args)`` on the calling thread, with BLAS on one thread."""
    if getattr(_thread, "limited", False):
        return function(*args)  # the job has set the limit
    caller = _Caller()
    try:
        blas.single_thread.begin(caller)
        return function(*args)
    finally:
        blas.single_thread.end(caller)


def divide(n, task, moved):
    """Call ``task(first, last)`` for ranges that cover 0 … n − 1: one for each worker, or one if `moved` is small.

    The task must not call BLAS, which is not limited to one thread here.
    """
    if n < 2 or moved < WORTH:
        task(0, n)
    else:
        run(lambda share: task(*share), shares(n), moved, multiplies=False)


def shares(n, least=1):
    """The ranges that `n` cells are cut into: one for each worker, fewer if they would hold under `least` cells."""
    return ranges(n, max(1, min(threads(), n // max(least, 1))))


def ranges(n, count):
    """0 … n − 1 cut into `count` even ranges (first, last + 1)."""
    count = max(count, 1)
    return list(pairwise(n * i // count for i in range(count + 1)))


class _Caller:
    """Stands for a caller that computes alone, so that BLAS stays on one thread until it is done."""


class _Job:
    """Items that several threads take one by one.

    A helper that begins late finds no item and leaves at once, so nothing waits for it.
    """

    def __init__(self, task, items, limited=True):
        self.task, self.items, self.results, self.error = task, items, [None] * len(items), None
        self.limited = limited  # whether BLAS runs on one thread meanwhile
        self.waiting, self.done, self.total = deque(range(len(items))), count(1), len(items)
        # when the last item is done, `over` becomes 1, and the lock is released
        self.over, self.finished = np.zeros(1, np.int64), threading.Lock()
        self.finished.acquire()

    def work(self):
        """Compute items until none is left."""
        _thread.working, _thread.limited = True, self.limited
        try:
            while self.waiting:
                self._take()
        except IndexError:  # another thread took the last item
            pass
        finally:
            _thread.working = _thread.limited = False

    def wait(self):
        """Wait until the last item is done."""
        if not self.over[0] and _may_spin():
            spin(self.over, 0)
        self.finished.acquire()

    def forget(self):
        """Drop all arrays: a helper that begins late still holds the job."""
        self.task = self.items = self.results = None

    def _take(self):
        i = self.waiting.popleft()
        try:
            if self.error is None:
                self.results[i] = self.task(self.items[i])
        except BaseException as error:
            self.error = error
        if next(self.done) == self.total:
            self.over[0] = 1
            self.finished.release()


@cache
def _may_spin():
    """Whether there is a core for each worker thread: otherwise a thread that waits would take one from another."""
    return environment.threads() <= environment.cores()


def _helpers():
    """The queue of the pool's threads, which are one fewer than the workers: the caller is a worker too."""
    global _queue
    with _creating:
        if _queue is None:
            _queue = SimpleQueue()
            for i in range(environment.threads() - 1):
                threading.Thread(target=_serve, args=(_queue,), name=f"minifcn-{i}", daemon=True).start()
    return _queue


def _serve(queue):
    blas.limit_this_thread()
    while True:
        seen = _news[0]
        if queue.empty() and _may_spin():
            spin(_news, seen)
        queue.get()()


def _after_fork():
    """Forget the pool in a forked child, which inherits the queue but not the threads that serve it."""
    global _queue, _creating
    _queue, _creating, _thread.working, _thread.limited = None, threading.Lock(), False, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

if environment.local_ranks() > 1:
    # NumPy also calls BLAS outside run().  If every rank then used all cores, the ranks would slow each other down.
    blas.at_most(threads())
