"""Scratch memory: one block of memory for each thread, which the kernels use again and again.

A kernel needs arrays for intermediate results, thousands of times a second.  Fresh memory would have to come from the
system each time; the same block stays in the cache.
"""

import threading
from itertools import accumulate
from math import prod

import numpy as np

CACHE_LINE = 64  # bytes

_thread = threading.local()  # the attribute `memory` is the calling thread's block


def arrays(*wanted):
    """Uninitialised arrays in the calling thread's scratch memory.

    They are valid until this thread calls the function again: the next call hands out the same memory.

    Parameters
    ----------
    *wanted : (dtype, shape)
        One pair for each array.

    Returns
    -------
    list of ndarray
    """
    sizes = [-(-np.dtype(dtype).itemsize * prod(shape) // CACHE_LINE) * CACHE_LINE for dtype, shape in wanted]
    memory = getattr(_thread, "memory", None)
    if memory is None or memory.size < sum(sizes):
        _thread.memory = None  # free the old block before the new one is allocated
        memory = np.empty(sum(sizes) + CACHE_LINE, np.uint8)
        _thread.memory = memory = memory[-memory.ctypes.data % CACHE_LINE :]
    offsets = accumulate(sizes, initial=0)
    return [np.ndarray(shape, dtype, memory, offset) for (dtype, shape), offset in zip(wanted, offsets)]
