"""CUDA on the CPU: write CUDA kernels, and run them and CuPy itself, on a computer without a GPU.

``python -m minifcn.cuda_on_cpu setup`` builds, in about half a minute, replacements for the CUDA libraries below CuPy:

- ``runtime``, ``driver``  memory, copies and launches; the "device" is host memory that is tracked separately
- ``nvrtc``                NVIDIA's compiler, replaced by g++ with CUDA's built-ins from ``cuda.h``
- ``cublas``, ``curand``   matrix products, random numbers

``python -m minifcn.cuda_on_cpu run CMD`` then runs a command with these libraries.  CuPy itself is the real one, with
its front end and its generated kernels.  ``host`` runs a ``.cu`` file on NumPy arrays, without CuPy.  The page
docs/gpu.md says what this proves and what it cannot prove; it says nothing about the speed of a GPU.
"""

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path


def folder():
    """The folder of the emulation and of compiled kernels: ``MINIFCN_CUDA_ON_CPU``, or one in the user's cache."""
    if given := os.environ.get("MINIFCN_CUDA_ON_CPU"):
        return Path(given).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "minifcn" / "cuda_on_cpu"


def counters():
    """Counts so far: ``launches`` of kernels, matrix ``products``, copies ``to_device`` and ``to_host``.

    Works only inside ``python -m minifcn.cuda_on_cpu run``.
    """
    from cupy_backends.cuda.api import runtime

    libraries = dict(
        launches="libcuda.so.1", products="libcublas.so.13", to_device=runtime.__file__, to_host=runtime.__file__
    )
    return {n: ctypes.c_long.in_dll(ctypes.CDLL(file), f"minifcn_{n}").value for n, file in libraries.items()}


@contextmanager
def order(number):
    """Set the order of blocks and threads inside: 0 ascending, 1 descending, above that the seed of a shuffle."""
    setting = ctypes.c_int.in_dll(ctypes.CDLL("libcuda.so.1"), "minifcn_order")
    before, setting.value = setting.value, number
    try:
        yield
    finally:
        setting.value = before
