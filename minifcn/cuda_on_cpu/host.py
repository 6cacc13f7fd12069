"""CUDA kernels on NumPy arrays, with g++, without CuPy and without a GPU.

``Module(source).get_function(name)(grid, block, arguments)`` has the interface of CuPy's ``RawModule``.  Inside
:func:`on_numpy`, the launches of ``minifcn.kernels.gpu`` run its ``.cu`` files on NumPy arrays.
"""

import ctypes
import hashlib
import shutil
from contextlib import contextmanager
from functools import cache

import numpy as np

from ..errors import UserError
from ..kernels.gpu import launch
from . import folder
from .compiler import ROOM, compile_cuda


class Library:
    """A shared library of kernels that ``compiler.compile_cuda`` has compiled for the host.

    Parameters
    ----------
    file : path
    order : int
        The order of blocks and threads: 0 ascending, 1 descending, above that the seed of a shuffle.

    Attributes
    ----------
    run_only : callable
        ``run_only(t)`` makes later launches run only the thread t, numbered through all blocks; -1: all threads.  It
        returns 0 if it has no effect, because the kernels have barriers.
    """

    def __init__(self, file, order=0):
        self.library, self.order = ctypes.CDLL(str(file)), order
        self.run_only = self.library.cuda_run_only
        self.library.cuda_launch.restype = ctypes.c_char_p

    def get_function(self, name):
        """The kernel `name` as a function of (grid, block, arguments, shared_mem=0)."""
        function = getattr(self.library, f"cuda_{name}")

        def run(grid, block, arguments, shared_mem=0):
            values = [np.array(a.ctypes.data if isinstance(a, np.ndarray) else a) for a in arguments]
            pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
            sizes = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
            error = self.library.cuda_launch(function, pointers, *sizes, shared_mem, self.order)
            if error:
                raise RuntimeError(f"{name}: {error.decode()}")

        return run


class Module(Library):
    """CUDA C++ compiled for the host.

    Parameters
    ----------
    code : str
    options : sequence of str
        Options of NVRTC; ``-D``, ``-I`` and the language standard have an effect.
    sanitize : sequence of str
        Further flags for g++, such as ``-fsanitize=address,undefined``.
    order : int
        See :class:`Library`.
    """

    def __init__(self, code, options=(), sanitize=(), order=0):
        if not shutil.which("g++"):
            raise UserError("running CUDA kernels on the CPU needs g++; install it (Debian, Ubuntu: apt install g++)")
        ours = [(ROOM / name).read_text(encoding="utf-8") for name in ("cuda.h", "compiler.py")]
        key = (code, *options, *sanitize, *ours)
        kernels = folder() / "kernels"
        kernels.mkdir(parents=True, exist_ok=True)
        library = kernels / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.so"
        if not library.exists():
            compile_cuda(code, options, library, sanitize=sanitize)
        super().__init__(library, order)


@contextmanager
def on_numpy(order=0, sanitize=(), change=None):
    """Make the CUDA kernels of minifcn run on NumPy arrays inside the ``with`` block.

    Parameters
    ----------
    order, sanitize
        See :class:`Module`.
    change : callable, optional
        ``change(source)`` returns the source to compile instead; tests use it to plant mistakes.
    """

    @cache
    def module(file, real, index):
        code = launch.source(file)
        return Module(change(code) if change else code, launch.options(real, index), sanitize, order)

    before = launch.COMPILERS.get("numpy")
    launch.COMPILERS["numpy"] = module
    try:
        yield
    finally:
        launch.COMPILERS["numpy"] = before
