"""BLAS on one thread while our own workers compute: the workers are the parallelism.

Once BLAS has used a second thread, that thread spins for a while on the core where a worker should run, so the limit
holds for the smallest job, too.  It also makes results repeatable: a product on one thread has the same bits whatever
else the process does.

threadpoolctl finds the libraries.  The limit itself is set by the library's own function, because threadpoolctl (from
3.8) obeys only the first Python thread that sets a limit and ignores all others without a word.
"""

import os
import threading
from ctypes import c_int
from functools import cache
from weakref import WeakSet

from threadpoolctl import ThreadpoolController, threadpool_info

SYMBOLS = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")]
"""What OpenBLAS's functions are called; NumPy's wheels carry a build with a prefix and a suffix of its own."""


class Library:
    """How to read and set the number of threads of one BLAS.

    Attributes
    ----------
    per_thread : bool
        Whether the number belongs to the calling thread (OpenBLAS on OpenMP) or to the process (all others).
    """

    def __init__(self, controller):
        self.per_thread = controller.internal_api == "openblas" and controller.threading_layer == "openmp"
        self.get, self.set = controller.get_num_threads, controller.set_num_threads
        if self.per_thread:
            self._call(controller.dynlib, "omp_get_max_threads", "omp_set_num_threads")
        elif controller.internal_api == "openblas":
            for symbol in SYMBOLS:
                if hasattr(controller.dynlib, symbol.format("set")):
                    self._call(controller.dynlib, symbol.format("get"), symbol.format("set"))

    def _call(self, library, get, set):
        self.get, self.set = getattr(library, get), getattr(library, set)
        self.get.restype, self.set.restype, self.set.argtypes = c_int, None, [c_int]


@cache
def libraries():
    """NumPy's BLAS, and every other BLAS that is loaded."""
    return [Library(controller) for controller in ThreadpoolController().select(user_api="blas").lib_controllers]


def description():
    """What threadpoolctl knows of the first BLAS that is loaded (its name, version, threads, ...); {} without one."""
    return next((library for library in threadpool_info() if library["user_api"] == "blas"), {})


def at_most(threads):
    """Limit BLAS to `threads` threads from now on, also where NumPy calls it by itself."""
    for library in libraries():
        library.set(min(library.get(), threads))


class SingleThread:
    """BLAS on one thread while any job is at work: the first job sets the limit, the last one restores what was.

    Any thread may begin and end jobs.  A job must end on the thread that began it.  Jobs are held weakly: one that an
    interrupt (Ctrl-C) kept from ending no longer counts once it is gone.
    """

    def __init__(self):
        # reentrant: garbage collection may run a kernel on this thread while it is inside
        self.lock, self.jobs, self.before = threading.RLock(), WeakSet(), ()

    def begin(self, job):
        """Limit BLAS to one thread for `job`, any object that can be referred to weakly."""
        with self.lock:
            self.jobs.add(job)
            if not self.before:
                self.before = [(library, library.get()) for library in libraries() if not library.per_thread]
            for library, _ in self.before:  # again for every job: other code of this process may have raised it
                library.set(1)
        job.blas_threads = [(library, library.get()) for library in libraries() if library.per_thread]
        limit_this_thread()

    def end(self, job):
        """Restore what was before, if `job` is the last one."""
        for library, threads in getattr(job, "blas_threads", ()):  # none if an interrupt came first
            library.set(threads)
        with self.lock:
            self.jobs.discard(job)
            if not self.jobs:
                self.restore()

    def restore(self):
        """Set the numbers of threads to what they were before the first job."""
        for library, threads in self.before:
            library.set(threads)
        self.before = ()


def limit_this_thread():
    """Set a BLAS whose number of threads belongs to the calling thread to one thread."""
    for library in libraries():
        if library.per_thread:
            library.set(1)


single_thread = SingleThread()


def _after_fork():
    """In a forked child: no other thread exists there, so nobody would lift the limit."""
    global single_thread
    single_thread.restore()
    single_thread = SingleThread()


if hasattr(os, "register_at_fork"):
    # no thread may be inside OpenBLAS's set function while the process is copied: the child would inherit its lock
    os.register_at_fork(
        before=lambda: single_thread.lock.acquire(),
        after_in_parent=lambda: single_thread.lock.release(),
        after_in_child=_after_fork,
    )
