"""Protects the arrays of a graph until ``backward()``: an edit in place would silently make its gradients wrong.

An array that an operation made is read-only until ``backward()`` has run or the graph is deleted; NumPy refuses to
write into it.  An array that the user gave (an image, a weight) stays writeable, because other code may use it;
``backward()`` compares its checksum and refuses if it changed.  Device arrays have neither protection.
"""

import weakref

import numpy as np

from .. import kernels as K
from ..arrays.buffers import Block

SMALL = 1 << 16  # bytes up to which a copy takes less time than sums, and little memory
PERIOD = 2039  # 8-byte words; a prime, so that swapped rows, samples or channels change the sums


def freeze(array, inputs):
    """Make an operation's output read-only; return it and a weak reference for :func:`thaw`.

    The reference is None if there is nothing to undo.  If the output is one of the `inputs`, a view of it is returned,
    so that the input itself stays writeable.
    """
    if not isinstance(array, np.ndarray):
        return array, None
    for a in inputs:
        if a is array:
            array = array.view()
    flags = array.flags
    was_read_only = not flags.writeable and owner(array).flags.writeable  # the user made this view read-only
    flags.writeable = False
    return array, None if was_read_only else weakref.ref(array)


def thaw(reference):
    """Undo :func:`freeze` for an array that still exists; return the reference if the array cannot be thawed yet, since
    it is a view of an array that is read-only, else None."""
    array = reference and reference()
    if array is None:
        return None
    if array.base is not None and (base := owner(array)) is not array and not base.flags.writeable:
        return reference
    array.flags.writeable = True
    return None


def is_frozen(tensor):
    """Whether a tensor's array cannot be written: an operation made it, and it is not a view of a writeable array."""
    return tensor.creator is not None and not (
        isinstance(tensor.data, np.ndarray) and owner(tensor.data).flags.writeable
    )


def checksums(saved, given):
    """The checksum of each saved array that shares memory with an array `given` by the user; None for the others.  No
    checksums at all if the user gave none."""
    given = [a for a in given if isinstance(a, np.ndarray)]
    if not given:
        return ()
    return [checksum(s) if isinstance(s, np.ndarray) and _shares_memory(s, given) else None for s in saved]


def _shares_memory(array, others):
    return any([array is other or np.may_share_memory(array, other) for other in others])


def changed(saved, sums):
    """Whether a saved array no longer has the checksum in `sums`, which was taken when it was saved."""
    return bool(sums) and any(old is not None and checksum(s) != old for s, old in zip(saved, sums))


def owner(array):
    """The array that `array` is a view of, or `array` itself."""
    while isinstance(array.base, np.ndarray) and type(array.base) is not Block:
        array = array.base
    return array


def checksum(array):
    """The bytes of a small array.  For a larger one 2039 sums of its 8-byte words, and its last bytes: sum k adds
    every 2039th word, from word k on.  Equal sums hide an edit."""
    if array.nbytes <= SMALL:
        return array.tobytes()
    array = np.ascontiguousarray(array)
    rows, rest = divmod(array.nbytes, 8 * PERIOD)
    words = np.ndarray((rows, PERIOD), np.uint64, array)
    last = np.ndarray(rest, np.uint8, array, array.nbytes - rest)
    return K.word_sums(words).tobytes() + last.tobytes()
