"""CUDA on the CPU: write CUDA kernels, and run them and CuPy itself, on a computer without a GPU.

``python -m minifcn.cuda_on_cpu setup`` builds, in about half a minute, what stands in for the libraries below CuPy:

- ``runtime``, ``driver``  memory, copies and launches; a "device" that is this computer's memory, kept apart
- ``nvrtc``                NVIDIA's compiler: g++, with CUDA's built-ins from ``cuda.h``
- ``cublas``, ``curand``   matrix products, random numbers

``python -m minifcn.cuda_on_cpu run CMD`` then runs a command on it: CuPy is the real one, with its own front end and
its generated kernels.  ``host`` runs a ``.cu`` file on NumPy arrays, without CuPy.  What this proves, and what it
cannot, is on the page docs/gpu.md; above all it says nothing about a GPU's speed.
"""

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path


def folder():
    """Where the emulation and compiled kernels are kept: ``MINIFCN_CUDA_ON_CPU``, or below the user's cache."""
    if given := os.environ.get("MINIFCN_CUDA_ON_CPU"):
        return Path(given).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "minifcn" / "cuda_on_cpu"


def counters():
    """What has been done so far: ``launches`` of kernels, matrix ``products``, copies ``to_device`` and ``to_host``.

    Only inside ``python -m minifcn.cuda_on_cpu run``.
    """
    from cupy_backends.cuda.api import runtime

    places = dict(
        launches="libcuda.so.1", products="libcublas.so.13", to_device=runtime.__file__, to_host=runtime.__file__
    )
    return {n: ctypes.c_long.in_dll(ctypes.CDLL(file), f"minifcn_{n}").value for n, file in places.items()}


@contextmanager
def order(number):
    """Inside, blocks and threads run in this order: 0 ascending, 1 descending, beyond: shuffled by this seed."""
    setting = ctypes.c_int.in_dll(ctypes.CDLL("libcuda.so.1"), "minifcn_order")
    before, setting.value = setting.value, number
    try:
        yield
    finally:
        setting.value = before
