"""Memory that is used again: a step of training makes the arrays that the step before it made.

Fresh memory is dear: the system hands it out page by page and clears each (for the 411 MB gradient of fc6 that takes
longer than computing it).  So a block that no array looks into any more serves the next array of its size.  Blocks are
kept up to what the program has needed at once and a little more, so that its peak is about that of one that gives
everything back; :func:`release` gives back what is free.
"""

import mmap
import os
import sys
import threading
from math import prod

import numpy as np

LEAST = 1 << 20  # bytes: below, the C library keeps memory by itself
SPARE = 1 << 27  # bytes that may be kept beyond: sizes have their peaks at different times of a step
HUGE = 1 << 22  # bytes from which on large pages pay: fewer to ask for, fewer to look up


class Block(np.ndarray):
    """Memory, as bytes.  An array made on all of it has it as ``base``; views of that array have that array."""


def _references(blocks, i):
    return sys.getrefcount(blocks[i])


def _nobody():
    """How many references a block has that no array looks into; −1 where they cannot be counted: nothing is reused."""
    if not hasattr(sys, "getrefcount") or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return -1
    blocks = [Block(1, np.uint8)]
    alone = _references(blocks, 0)
    array = np.ndarray(1, np.uint8, buffer=blocks[0])
    return alone if _references(blocks, 0) > alone and array.base is blocks[0] else -1


_NOBODY = _nobody()
_blocks = {}  # by size, the size used last at the end
_lock, _busy = threading.RLock(), False  # who holds the lock, and whether that thread is inside empty()
_peak = 0  # the most bytes that arrays looked into at once


def empty(shape, dtype):
    """An uninitialised array, in memory that was used before if some is free."""
    global _busy
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if size < LEAST or _NOBODY < 0:
        return np.empty(shape, dtype)
    with _lock:  # a plain `with`: an interrupt (Ctrl-C) can come before or after it, but cannot leave the lock taken
        if _busy:  # garbage collection came in between on this thread, and a finalizer wants memory
            return np.empty(shape, dtype)
        _busy = True
        try:
            blocks = _blocks[size] = _blocks.pop(size, [])
            i = next((i for i in range(len(blocks)) if _references(blocks, i) <= _NOBODY), None)
            block = _new(size) if i is None else blocks[i]
            return np.ndarray(shape, dtype, buffer=block)
        finally:
            _busy = False


def zeros(shape, dtype):
    """As :func:`empty`, filled with zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def is_whole(array):
    """Whether `array` is no view: nobody handed it out as a part, or another shape, of an array of theirs."""
    return array.base is None or type(array.base) is Block


def release():
    """Give back all memory that no array looks into, and forget how much was once needed."""
    global _peak
    with _lock:
        if not _busy:  # else a finalizer called, from inside empty(): the lists are half changed
            _drop(lambda: True)
            _peak = 0


def _new(size):
    """A new block; free ones of other sizes make room for it."""
    global _peak
    used = sum(s for s, blocks in _blocks.items() for i in range(len(blocks)) if _references(blocks, i) > _NOBODY)
    _peak = max(_peak, used + size)
    _drop(lambda: held() + size > _peak + SPARE)
    try:
        pages = _pages(size)
    except OSError:
        _drop(lambda: True)
        try:
            pages = _pages(size)
        except OSError:
            raise MemoryError(f"there is no memory for an array of {size / 1e6:,.0f} MB") from None
    block = Block(size, np.uint8, buffer=pages)
    _blocks.setdefault(size, []).append(block)
    return block


def held():
    """Bytes in blocks, those in use included.  They are counted anew: an interrupt could come between two counters."""
    return sum(size * len(blocks) for size, blocks in list(_blocks.items()))


def _pages(size):
    """Memory of its own: the system has it back at once, whatever lies around it."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    # private: a forked child must not write into its parent's arrays
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _drop(too_much):
    """Forget free blocks while it is ``too_much()``, the sizes used last first: a step needs them last again."""
    for size, blocks in list(reversed(_blocks.items())):
        for i in reversed(range(len(blocks))):
            if not too_much():
                return
            if _references(blocks, i) <= _NOBODY:
                del blocks[i]
        if not blocks:
            del _blocks[size]


def _start_over():
    """In a forked child: the lock may have been another thread's, which is not there."""
    global _lock, _busy
    _lock, _busy = threading.RLock(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)
