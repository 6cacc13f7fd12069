"""Special versions for CuPy, where they pay: CUDA sources (``*.cu``, each to be read on its own) and their launches.

Everything else CuPy does by the textbook's lines.  Nothing here imports CuPy before one of its arrays is there.
Results are the same bits in any order of the threads: what several threads would add up, one thread gathers.
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
    """`function` for float32 and float64; the textbook's lines for half precision, which is untested on hardware."""

    @wraps(function)
    def choose(array, *args):
        return (function if array.dtype.itemsize >= 4 else otherwise)(array, *args)

    return choose
