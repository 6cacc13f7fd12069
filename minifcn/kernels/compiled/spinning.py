"""Waits for another thread without sleeping.

A thread that sleeps takes about 50 µs to wake up, as long as many a kernel takes.  So a worker thread that has nothing
to do looks at a number in memory for some time, and sleeps only if it has not changed.  It must not hold Python's lock
meanwhile; so the loop is compiled.
"""

import numpy as np

from .compiler import Read, Write, loops

TURNS = 100_000  # turns of the loop before the thread sleeps; a turn takes about a nanosecond
SETTLE = 10_000  # turns after the number has changed, in which the thread that changed it gives back Python's lock


@loops
def until_changed(number: Read[1, np.int64], seen: int, turns: int, settle: int, spare: Write[1]):
    """Return `settle` turns after number[0] is not `seen` any more, but after `turns` turns at the latest."""
    n, changed = 0, -1
    while n < turns and (changed < 0 or n < changed + settle):
        if changed < 0 and number[0] != seen:
            changed = n
        spare[0] = n  # might be the memory of number[0], so the compiler reads that again in each turn
        n += 1


def spin(number, seen):
    """Return soon after ``number[0]``, an int64, is not `seen` any more, but after about 100 µs at the latest."""
    until_changed(number, seen, TURNS, SETTLE, np.empty(1, np.float32))
