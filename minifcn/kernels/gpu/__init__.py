"""CuPy versions of kernels that are faster than the textbook's: CUDA sources (``*.cu``) and their launches.

For all other kernels, CuPy runs the textbook version.  This folder imports CuPy only when it is given a CuPy array.
Results have the same bits in every run, whatever the order of the threads: one thread computes each sum, so that no two
threads add to one number.
"""

from functools import wraps

from .. import textbook
from . import conv, elementwise, loss, norm, pool


def implementations(name):
    """``{"cuda": function}`` of the kernel `name`, or ``{}``."""
    for module in (conv, pool, loss, norm, elementwise):
        if hasattr(module, name):
            return {"cuda": _for_floats(getattr(module, name), getattr(textbook, name))}
    return {}


def _for_floats(function, otherwise):
    """`function` for float32 and float64, `otherwise` for half precision, which the CUDA kernels do not take."""

    @wraps(function)
    def choose(array, *args):
        return (function if array.dtype.itemsize >= 4 else otherwise)(array, *args)

    return choose
