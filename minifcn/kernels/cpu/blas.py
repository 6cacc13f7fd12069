"""Limits BLAS to one thread while the worker threads multiply matrices.

The worker threads already use all cores.  After BLAS has used a second thread, that thread spins for a while and takes
a core from a worker; so the limit holds for small products too.  It also makes results repeatable: a product on one
thread has the same bits, whatever else the process does.

threadpoolctl finds the BLAS libraries.  The limit is set with the library's own function: threadpoolctl (from 3.8)
accepts a limit only from the first Python thread that sets one, and ignores all others without an error.
"""

import os
import threading
from ctypes import c_int
from functools import cache
from weakref import ref

from threadpoolctl import ThreadpoolController, threadpool_info

SYMBOLS = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")]
"""The possible names of OpenBLAS's functions: the build in NumPy's wheels has a prefix and a suffix."""


class Library:
    """The functions that read and set the number of threads of one BLAS library.

    Attributes
    ----------
    per_thread : bool
        Whether the number is one for each calling thread (OpenBLAS on OpenMP) or one for the process (all others).
    """

    def __init__(self, controller):
        self.per_thread = controller.internal_api == "openblas" and controller.threading_layer == "openmp"
        self.get, self.set = controller.get_num_threads, controller.set_num_threads
        if self.per_thread:
            self._use(controller.dynlib, "omp_get_max_threads", "omp_set_num_threads")
        elif controller.internal_api == "openblas":
            for symbol in SYMBOLS:
                if hasattr(controller.dynlib, symbol.format("set")):
                    self._use(controller.dynlib, symbol.format("get"), symbol.format("set"))

    def _use(self, library, get, set):
        self.get, self.set = getattr(library, get), getattr(library, set)
        self.get.restype, self.set.restype, self.set.argtypes = c_int, None, [c_int]


@cache
def libraries():
    """All BLAS libraries that this process has loaded; NumPy's is one of them."""
    return [Library(controller) for controller in ThreadpoolController().select(user_api="blas").lib_controllers]


def description():
    """The name, version, threads, ... of the first BLAS that is loaded, as threadpoolctl gives them; {} without one."""
    return next((library for library in threadpool_info() if library["user_api"] == "blas"), {})


def at_most(threads):
    """Limit BLAS to `threads` threads from now on, outside the jobs of the worker threads too."""
    for library in libraries():
        library.set(min(library.get(), threads))


class SingleThread:
    """Keeps BLAS on one thread while any job multiplies: the first job sets the limit, the last restores the numbers.

    Any thread may begin and end jobs; a job must end on the thread that began it.  Jobs are held by weak references, so
    that a job that never ended (because of Ctrl-C) stops counting when it is garbage-collected.
    """

    def __init__(self):
        # The lock is reentrant: garbage collection can run a finalizer that calls a kernel while this thread holds it.
        self.lock, self.jobs, self.before = threading.RLock(), set(), ()

    def begin(self, job):
        """Limit BLAS to one thread for `job`, an object that allows weak references."""
        with self.lock:
            self.jobs.add(ref(job, self.jobs.discard))  # a WeakSet does the same and takes three times as long
            if not self.before:
                self.before = [(library, library.get()) for library in libraries() if not library.per_thread]
            for library, _ in self.before:  # for every job: other code in this process may have raised the number
                library.set(1)
        if own := [(library, library.get()) for library in libraries() if library.per_thread]:
            job.blas_threads = own
            limit_this_thread()

    def end(self, job):
        """Restore the numbers of threads if `job` is the last one."""
        for library, threads in getattr(job, "blas_threads", ()):  # missing if Ctrl-C interrupted begin()
            library.set(threads)
        with self.lock:
            self.jobs.discard(ref(job))
            if not self.jobs:
                self.restore()

    def restore(self):
        """Set the numbers of threads that the libraries had before the first job."""
        for library, threads in self.before:
            library.set(threads)
        self.before = ()


def limit_this_thread():
    """Limit the calling thread to one BLAS thread, in libraries that keep a number for each thread."""
    for library in libraries():
        if library.per_thread:
            library.set(1)


single_thread = SingleThread()


def _after_fork():
    """Lift the limit in a forked child: the threads whose jobs set it do not exist there and would never lift it."""
    global single_thread
    single_thread.restore()
    single_thread = SingleThread()


if hasattr(os, "register_at_fork"):
    # Hold the lock during a fork.  If another thread were inside OpenBLAS's set function, the child would inherit
    # OpenBLAS's internal lock in the locked state, and its first call would hang.
    os.register_at_fork(
        before=lambda: single_thread.lock.acquire(),
        after_in_parent=lambda: single_thread.lock.release(),
        after_in_child=_after_fork,
    )
