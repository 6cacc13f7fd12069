"""A replacement for NVIDIA's ``cuda.pathfinder``, with which CuPy looks for libraries: it finds only the emulation's.

install.py copies it to the folder from which CuPy imports it.  The real one would prefer installed CUDA libraries.
"""

import ctypes
import os
from types import SimpleNamespace


class DynamicLibNotFoundError(RuntimeError):
    """The emulation has no such library."""


def load_nvidia_dynamic_lib(name):
    """Load a library of the emulation, so that later requests for its name find it."""
    folder = os.environ.get("MINIFCN_CUDA_LIBRARIES", "")
    files = [f for f in os.listdir(folder) if f.startswith(f"lib{name}.so")] if folder else []
    if not files:
        raise DynamicLibNotFoundError(f"the emulation of CUDA has no library {name!r}")
    path = os.path.join(folder, files[0])
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    return SimpleNamespace(abs_path=path, found_via="system", _handle_uint=library._handle)


def find_nvidia_header_directory(name):
    """The folder of CUDA's headers in the emulation, whatever `name` is."""
    return os.path.join(os.path.dirname(os.environ["MINIFCN_CUDA_LIBRARIES"]), "nvidia", "cu13", "include")


def find_nvidia_binary_utility(name):
    """Return None: the emulation contains no program of NVIDIA's."""
