"""CUDA kernels on NumPy arrays: no CuPy, no GPU, only g++.

``Module(source).get_function(name)(grid, block, arguments)`` is called as CuPy's ``RawModule`` is.  With
:func:`on_numpy` the kernels of ``minifcn.kernels.gpu`` run on NumPy arrays, ``.cu`` files and launches alike.
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
    """Kernels that were compiled for the host, by ``compiler.compile_cuda``.

    Parameters
    ----------
    file : path
    order : int
        The order in which blocks and threads run: 0 ascending, 1 descending, beyond: shuffled by this seed.
    """

    def __init__(self, file, order=0):
        self.library, self.order = ctypes.CDLL(str(file)), order
        self.library.cuda_launch.restype = ctypes.c_char_p

    def get_function(self, name):
        """The kernel of that name, to be called with (grid, block, arguments, shared_mem=0)."""
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
        ``-D`` and ``-I`` as for NVRTC.
    sanitize : sequence of str
        Further flags for g++, such as ``-fsanitize=address,undefined``.
    order : int
        See :class:`Library`.
    """

    def __init__(self, code, options=(), sanitize=(), order=0):
        if not shutil.which("g++"):
            raise UserError("running CUDA kernels on the CPU takes g++: install it (Debian, Ubuntu: apt install g++)")
        key = (code, *options, *sanitize, (ROOM / "cuda.h").read_text(encoding="utf-8"))
        kernels = folder() / "kernels"
        kernels.mkdir(parents=True, exist_ok=True)
        library = kernels / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.so"
        if not library.exists():
            compile_cuda(code, options, library, sanitize=sanitize)
        super().__init__(library, order)


@contextmanager
def on_numpy(order=0, sanitize=(), change=None):
    """Inside, the CUDA kernels of minifcn run on NumPy arrays.

    Parameters
    ----------
    order, sanitize
        See :class:`Module`.
    change : callable, optional
        From the text of a source to another, to see what a mistake in it does.
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
