"""Reuses the memory of large arrays, because each training step allocates arrays of the same sizes as the step before.

New memory is slow: the system provides it page by page and clears each page.  For the 411 MB gradient of fc6 that takes
longer than computing the gradient.  So a block of memory that no array uses any more serves the next array of its size,
or a smaller one.  Free blocks are kept up to the program's peak use and a little more.  At this limit an array rather
takes a much larger free block than a new one, as long as at most half of the peak is wasted in blocks that are larger
than their arrays.  So a program holds at most about twice what one holds that frees everything; a training step of
FCN-8s-VGG16 holds 6 % more.  :func:`release` gives all free blocks back.
"""

import mmap
import os
import sys
import threading
from math import prod

import numpy as np

LEAST = 1 << 18  # bytes of the smallest block; the C library may return memory of larger arrays to the system
WASTE = 1.5  # times the size of an array that a block for it may have, if no block of its size is free
SPARE = 1 << 26  # bytes kept above the peak, because different sizes peak at different times of a step
HUGE = 1 << 22  # bytes from which on huge pages pay: there are fewer pages to request and to look up


class Block(np.ndarray):
    """A block of memory, as bytes.  It is the ``base`` of the array made on it, which is the base of its own views.

    Its `used` bytes are those of that array.
    """

    used = 0


def _references(blocks, i):
    return sys.getrefcount(blocks[i])


def _references_when_free():
    """The number of references to a block that no array uses; −1 if this Python does not count them reliably.

    With −1 nothing is reused: a wrong count would give the memory of a live array to another one.
    """
    if not hasattr(sys, "getrefcount") or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return -1
    blocks = [Block(1, np.uint8)]
    free = _references(blocks, 0)
    array = np.ndarray(1, np.uint8, buffer=blocks[0])
    return free if _references(blocks, 0) > free and array.base is blocks[0] else -1


_FREE = _references_when_free()
_blocks: dict = {}  # lists of blocks by size; the size used last is at the end
_lock, _busy = threading.RLock(), False  # _busy: the thread that holds the lock is inside empty()
_peak = 0  # the most bytes in blocks that arrays used at the same time


def empty(shape, dtype):
    """An uninitialised array, in reused memory if a block of its size or a larger one is free."""
    global _busy
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if size < LEAST or _FREE < 0:
        return np.empty(shape, dtype)
    with _lock:  # `with` releases the lock even if Ctrl-C interrupts the block
        # Garbage collection can run a finalizer on this thread in the middle of this block, and the finalizer can call
        # empty().  The lock is reentrant, so that this does not deadlock; but the lists are then half changed.
        if _busy:
            return np.empty(shape, dtype)
        _busy = True
        try:
            block = _free(size)
            if block is None:
                block = _new(size)
            if block is None:
                return np.empty(shape, dtype)
            block.used = size
            return np.ndarray(shape, dtype, buffer=block)
        finally:
            _busy = False


def zeros(shape, dtype):
    """An array of zeros, in reused memory like those of :func:`empty`."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def is_whole(array):
    """Whether `array` is not a view of another array: it owns its memory, or was made on a whole block."""
    return array.base is None or type(array.base) is Block


def release():
    """Free all blocks that no array uses, and forget the peak."""
    global _peak
    with _lock:
        if not _busy:  # busy: a finalizer called this from inside empty(), and the lists are half changed
            _drop(lambda: True)
            _peak = 0


def _free(size):
    """The smallest free block of `size` bytes or a little more, or much more at the limit; None if there is none."""
    found = _free_of(size)
    if found is None and held() + size > _peak + SPARE:
        used, free = _sorted_out()
        wasted = sum(block.size - block.used for block in used)
        most = size + max((WASTE - 1) * size, _peak // 2 - wasted)
        return min((block for block in free if size < block.size <= most), key=len, default=None)
    if found is None:
        for larger in sorted(s for s in _blocks if size < s <= WASTE * size):
            found = _free_of(larger)
            if found is not None:
                break
    return found


def _sorted_out():
    """The blocks that arrays use, and the free ones."""
    used, free = [], []
    for blocks in _blocks.values():
        for i in range(len(blocks)):
            (used if _references(blocks, i) > _FREE else free).append(blocks[i])
    return used, free


def _free_of(size):
    """A free block of exactly `size` bytes, or None."""
    blocks = _blocks.get(size, [])
    for i in range(len(blocks)):
        if _references(blocks, i) <= _FREE:
            _blocks[size] = _blocks.pop(size)  # moves it to the end, where the size used last is
            return blocks[i]
    return None


def _new(size):
    """A new block, or None if this process may not request memory itself.

    Free blocks of other sizes are dropped if the total would exceed the peak.
    """
    global _peak
    if held() + size > _peak:
        _peak = max(_peak, sum(block.size for block in _sorted_out()[0]) + size)
    _drop(lambda: held() + size > _peak + SPARE)
    try:
        pages = _pages(size)
    except PermissionError:  # an audit hook refuses it, as for a submission that is graded
        return None
    except OSError:
        _drop(lambda: True)
        try:
            pages = _pages(size)
        except OSError:
            raise MemoryError(f"no memory for an array of {size / 1e6:,.0f} MB: give fewer or smaller images") from None
    block = Block(size, np.uint8, buffer=pages)
    _blocks.setdefault(size, []).append(block)
    return block


def held():
    """The bytes in all blocks, in use or free.  Counted each time: Ctrl-C could leave a running total wrong."""
    return sum(size * len(blocks) for size, blocks in list(_blocks.items()))


def _pages(size):
    """New pages of memory from the system, which gets all of them back as soon as the block is dropped."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    # MAP_PRIVATE: otherwise a forked child would write into its parent's arrays
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _drop(too_much):
    """Drop free blocks while ``too_much()`` is true.

    Sizes used last are dropped first: the next step repeats the order of this one, and needs them last.
    """
    for size, blocks in list(reversed(_blocks.items())):
        for i in reversed(range(len(blocks))):
            if not too_much():
                return
            if _references(blocks, i) <= _FREE:
                del blocks[i]
        if not blocks:
            del _blocks[size]


def _start_over():
    """Make a new lock in a forked child: a thread that held the old one does not exist there and cannot release it."""
    global _lock, _busy
    _lock, _busy = threading.RLock(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)
