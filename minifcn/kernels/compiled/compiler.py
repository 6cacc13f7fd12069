"""Compiles functions that are plain loops over arrays, with Numba (the extra ``compiled``).

A function's annotations give its types: ``Read[4]`` is an array of four axes that it reads, ``Write[4]`` one that it
writes, ``int`` and ``float`` are numbers.  All arrays are C-contiguous and of one type, float32 or float64, unless the
annotation names another: ``Read[4, np.uint8]``.

Numba compiles a function for each of the two types when it is first needed, which takes about a second, and keeps the
machine code on the disk: beside the source, or in the user's cache folder.
"""

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from ...errors import UserError
from .. import environment

FLAGS = {"contract", "reassoc", "nsz"}
"""What the compiler may change: a·b + c may be one rounding, sums may be in another order, −0 may be 0.  NaN and ∞ keep
their meaning."""

_functions: list["Loops"] = []
_helpers: list[Callable] = []
_lock = threading.RLock()


class _Arrays:
    """``Read[ndim]`` or ``Write[ndim]``, with a dtype if it is not the dtype of the other arrays."""

    def __init__(self, writes):
        self.writes = writes

    def __getitem__(self, key):
        ndim, dtype = key if isinstance(key, tuple) else (key, None)
        return self.writes, ndim, dtype


Read, Write = _Arrays(False), _Arrays(True)


class Loops:
    """A function in loops that is compiled when it is first called with a type of numbers.  It releases the GIL."""

    def __init__(self, function):
        self.function, self.versions = function, {}
        self.types = [value for name, value in function.__annotations__.items() if name != "return"]
        self.first = next(i for i, kind in enumerate(self.types) if isinstance(kind, tuple) and kind[2] is None)
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        _functions.append(self)

    def __call__(self, *args):
        dtype = args[self.first].dtype.char
        return (self.versions.get(dtype) or self.compile(dtype))(*args)

    def compile(self, dtype):
        """The machine code for arrays of `dtype` ("f" or "d"), made now or read from the disk."""
        with _lock:
            if dtype not in self.versions:
                self.versions[dtype] = _compile(self.function, [_numba_type(kind, dtype) for kind in self.types])
            return self.versions[dtype]


def _numba_type(kind, dtype):
    import numpy as np
    from numba import from_dtype, types

    if not isinstance(kind, tuple):
        return {int: types.int64, float: types.float64}[kind]
    writes, ndim, given = kind
    return types.Array(from_dtype(np.dtype(given or dtype)), ndim, "C", readonly=not writes)


def _compile(function, signature):
    import numba
    from numba.extending import register_jitable

    while _helpers:
        register_jitable(inline="never")(_helpers.pop())
    options: Any = dict(nogil=True, fastmath=FLAGS, error_model="numpy")
    try:
        return numba.njit(tuple(signature), cache=True, **options)(function)
    except Exception:  # no folder for the machine code can be written, the disk is full, or a file there is damaged
        return numba.njit(tuple(signature), **options)(function)


def helper(function: Callable) -> Callable:
    """Decorator: a function that compiled functions of the same file call; it has no annotations."""
    _helpers.append(function)
    return function


def loops(function: Callable) -> "Loops":
    """Decorator: compile the function, whose annotations are explained above, when it is first called."""
    return Loops(function)


@cache
def available() -> bool:
    """Whether compiled kernels are offered: Numba is installed, and ``MINIFCN_COMPILED`` is not 0."""
    return environment.compiled() and importlib.util.find_spec("numba") is not None


@cache
def works() -> bool:
    """Whether Numba can be imported; if not, a note says why, once.  A Numba may not know the installed NumPy yet."""
    try:
        import numba  # noqa: F401
    except Exception as error:
        print(f"note: NumPy's kernels run, because Numba cannot be used: {error}", file=sys.stderr)
        return False
    return True


def warm_up(dtype: str = "f") -> float:
    """Compile all kernels for arrays of `dtype` now, or read them from the disk; return the seconds that it took."""
    if not (available() and works()):
        return 0.0
    began = time.perf_counter()
    for function in _functions:
        function.compile(dtype)
    return time.perf_counter() - began


def compiled(kernel: Callable) -> Callable:
    """Compile a kernel that is written in plain loops over NumPy arrays, so that it runs as fast as C.

    The kernel may use numbers, tuples, ``range``, indexing, and NumPy functions such as ``np.zeros``.  It is compiled
    at its first call, which takes a second or more.

    Parameters
    ----------
    kernel : callable
        A function with the parameters of one of the kernels, such as ``conv2d(x, w, stride, padding, dilation,
        groups)``.

    Returns
    -------
    callable
        The compiled kernel, for ``mf.override(conv2d=...)``.

    Raises
    ------
    UserError
        If Numba is not installed.  At the first call, if Numba cannot compile the function.

    Examples
    --------
    ::

        def relu(x):
            y = np.zeros_like(x)
            for n in range(x.size):
                y.flat[n] = max(x.flat[n], 0)
            return y

        with mf.override(relu=mf.compiled(relu)):
            y = model(image)
    """
    try:
        from numba import njit
        from numba.core.errors import NumbaError
    except ImportError:
        raise UserError("mf.compiled needs Numba: pip install 'minifcn[compiled]'") from None
    machine, name = njit(kernel, nogil=True, error_model="numpy"), getattr(kernel, "__name__", "the kernel")

    def call(*args):
        try:
            return machine(*args)
        except NumbaError as error:
            reason = _reason(error)
            raise UserError(
                f"{name} cannot be compiled ({reason}): use numbers, tuples, range, indexing and NumPy functions only"
            ) from error

    call.__name__, call.__doc__ = name, kernel.__doc__
    return call


def _reason(error):
    """The part of Numba's message that says what it refuses, in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [
        line for line in lines if line and not line.startswith(("Failed in", "During:", "[", "-", "File", "<source"))
    ]
    return " ".join(lines)[:200]


def _after_fork():
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
