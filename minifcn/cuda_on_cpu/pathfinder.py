"""Stands in for NVIDIA's ``cuda.pathfinder``, by which CuPy looks for libraries: it finds those of the emulation.

install.py copies it to where CuPy imports it from.  The real one would prefer real libraries, where some are installed.
"""

import ctypes
import os
from types import SimpleNamespace


class DynamicLibNotFoundError(RuntimeError):
    """There is no such library in the emulation."""


def load_nvidia_dynamic_lib(name):
    """Load a library of the emulation, for all that will ask for it by its name."""
    folder = os.environ.get("MINIFCN_CUDA_LIBRARIES", "")
    files = [f for f in os.listdir(folder) if f.startswith(f"lib{name}.so")] if folder else []
    if not files:
        raise DynamicLibNotFoundError(f"the emulation of CUDA has no {name}")
    path = os.path.join(folder, files[0])
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    return SimpleNamespace(abs_path=path, found_via="system", _handle_uint=library._handle)


def find_nvidia_header_directory(name):
    """Where CUDA's headers are, which the emulation has, whatever of them is asked for."""
    return os.path.join(os.path.dirname(os.environ["MINIFCN_CUDA_LIBRARIES"]), "nvidia", "cu13", "include")


def find_nvidia_binary_utility(name):
    """None: no program of NVIDIA's is part of it."""
