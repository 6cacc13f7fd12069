"""Memory that is used again: a step of training makes the arrays that the step before it made.

Fresh memory is dear: the system hands it out page by page and clears each (for the 411 MB gradient of fc6 that takes
longer than computing it).  So a block that no array looks into any more serves the next array of its size.  Blocks are
kept up to what the program has needed at once and a little more, so that its peak is about that of one that gives
everything back.
"""

import mmap
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


_NOBODY = _references([Block(1, np.uint8)], 0)  # how many references a block has that no array looks into
_blocks = {}  # by size, the size used last at the end
_lock = threading.Lock()
_held = _peak = 0  # bytes in blocks; the most that arrays looked into at once


def empty(shape, dtype):
    """An uninitialised array, in memory that was used before if some is free."""
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if size < LEAST:
        return np.empty(shape, dtype)
    with _lock:
        blocks = _blocks[size] = _blocks.pop(size, [])
        i = next((i for i in range(len(blocks)) if _references(blocks, i) <= _NOBODY), None)
        block = _new(size) if i is None else blocks[i]
        return np.ndarray(shape, dtype, buffer=block)


def zeros(shape, dtype):
    """As :func:`empty`, filled with zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def is_own(array):
    """Whether no other array shares the memory of `array`."""
    return array.base is None or type(array.base) is Block


def release():
    """Give back all memory that no array looks into."""
    with _lock:
        _drop(lambda: True)


def _new(size):
    """A new block; free ones of other sizes make room for it."""
    global _held, _peak
    used = sum(s for s, blocks in _blocks.items() for i in range(len(blocks)) if _references(blocks, i) > _NOBODY)
    _peak = max(_peak, used + size)
    _drop(lambda: _held + size > _peak + SPARE)
    pages = mmap.mmap(-1, size)  # of its own: the system has it back at once, whatever lies around it
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    block = Block(size, np.uint8, buffer=pages)
    _blocks[size].append(block)
    _held += size
    return block


def _drop(more):
    """Forget free blocks while ``more()``, the sizes used last first: a step that repeats needs them last again."""
    global _held
    for size, blocks in reversed(_blocks.items()):
        for i in reversed(range(len(blocks))):
            if not more():
                return
            if _references(blocks, i) <= _NOBODY:
                del blocks[i]
                _held -= size
