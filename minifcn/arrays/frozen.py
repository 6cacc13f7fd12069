"""Arrays of a graph that waits for ``backward()``: an edit in place would make its gradients wrong.

What an operation made is read-only until the graph is walked or gone; NumPy refuses a write.  What a user gave (a
picture, a weight) stays writeable, because other code may hold it; a checksum finds the edit when the graph is walked.
Arrays on a device have neither.
"""

import weakref
import zlib

import numpy as np

from .buffers import Block

PERIOD = 4093  # 8-byte words: a prime, so that swapped rows, samples or channels fall into other sums


def freeze(array, inputs):
    """An operation's output, read-only, and a weak reference for :func:`thaw` (None if there is nothing to undo).

    An output that is one of the `inputs` becomes a view of it: the input's own array stays as it is.
    """
    if not isinstance(array, np.ndarray):
        return array, None
    if any(array is a for a in inputs):
        array = array.view()
    given = not array.flags.writeable and owner(array).flags.writeable  # read-only by the user's own wish
    array.flags.writeable = False
    return array, None if given else weakref.ref(array)


def thaw(*references):
    """Undo :func:`freeze` for arrays that are still there, if the memory that they look into is writeable."""
    for reference in references:
        array = reference and reference()
        if array is not None and (owner(array) is array or owner(array).flags.writeable):
            array.flags.writeable = True


def is_frozen(tensor):
    """Whether nobody can write into a tensor's array: an operation made it, and it looks into no array of a user."""
    return tensor.creator is not None and not (
        isinstance(tensor.data, np.ndarray) and owner(tensor.data).flags.writeable
    )


def checksums(saved, given):
    """The checksum of each saved array that looks into one of the arrays `given` by a user; None for the others."""
    given = [a for a in given if isinstance(a, np.ndarray)]
    return [
        checksum(s) if isinstance(s, np.ndarray) and any(np.may_share_memory(s, a) for a in given) else None
        for s in saved
    ]


def changed(saved, marks):
    """Whether a saved array has another checksum than when it was saved."""
    return any(mark is not None and checksum(s) != mark for s, mark in zip(saved, marks))


def owner(array):
    """The array that an array is a view of, or itself."""
    while isinstance(array.base, np.ndarray) and type(array.base) is not Block:
        array = array.base
    return array


def checksum(array):
    """A number that differs after any edit, but for one that keeps all sums over every 4093rd word of 8 bytes."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(data) // (8 * PERIOD) * (8 * PERIOD)
    sums = data[:whole].view(np.uint64).reshape(-1, PERIOD).sum(axis=0)  # one pass, as fast as memory; it wraps
    return zlib.crc32(data[whole:], zlib.crc32(sums))
