"""NumPy or CuPy: the module that owns an array computes with it.  There is no global device.

Only this file, ``kernels/gpu`` and ``cuda_on_cpu`` import CuPy, and only when given a CuPy array or the name of a GPU.
"""

import importlib
import sys
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np

from . import buffers
from .types import Array, DType, DTypeLike, Shape


def of(*arrays: Any) -> ModuleType:
    """The array module (``numpy`` or ``cupy``) that owns all of `arrays`.

    Parameters
    ----------
    *arrays : array
        They must belong to one library.

    Raises
    ------
    ValueError
        If they belong to different libraries; the message names both.
    """
    for a in arrays:
        if type(a) is not np.ndarray:
            break
    else:  # the usual case, a hundred times in a step
        return np
    modules = {_owner(a) for a in arrays}
    if len(modules) > 1:
        names = " and ".join(sorted(m.__name__ for m in modules))
        raise ValueError(f"the operands belong to different array libraries ({names}): move one with .to(device)")
    return modules.pop()


def _owner(array):
    # An array's class names its module, so CuPy is found without importing it.
    if isinstance(array, np.ndarray | np.generic):
        return np
    module = sys.modules.get(type(array).__module__.partition(".")[0])
    if module is None or not hasattr(module, "ndarray"):
        raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")
    return module


def is_array(x: object) -> TypeGuard[Array]:
    """Whether `x` is a NumPy or CuPy array."""
    return isinstance(x, np.ndarray) or type(x).__name__ == "ndarray"


def from_python(data: Any) -> Array:
    """A NumPy array of a list or a number: in float32, except that a NumPy scalar keeps its type."""
    if isinstance(data, list | tuple) and any(getattr(x, "requires_grad", False) for x in data):
        raise TypeError("a list of tensors would lose their gradients: join the tensors with mf.ops.concat")
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"cannot make a tensor of {type(data).__name__}: give numbers or an array")
    return array if isinstance(data, np.generic) else array.astype(np.float32)


def floating(dtype: DTypeLike) -> DType:
    """The NumPy dtype of `dtype`.  Raises TypeError unless it is a floating-point type."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind.kind != "f":
        raise TypeError(f"{dtype!r} is not a floating-point type of NumPy: give 'float32' or 'float64'")
    return kind


def device(array: Any) -> str:
    """The device that `array` is on: ``"cpu"`` or ``"cuda:i"``."""
    return "cpu" if of(array) is np else f"cuda:{array.device.id}"


def to_device(array: Array, device: str) -> Array:
    """`array` on `device` (``"cpu"``, ``"cuda"`` or ``"cuda:i"``); the array itself if it is already there.

    Parameters
    ----------
    array : array
    device : str

    Raises
    ------
    RuntimeError
        If `device` is a GPU and CuPy, its driver or that GPU is missing; the message says what to install.
    """
    if device == "cpu":
        return asnumpy(array)
    if not isinstance(device, str):
        raise TypeError(f"a device is 'cpu', 'cuda' or 'cuda:0', not {device!r}; to change the dtype give dtype=...")
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index == "" or (index.isascii() and index.isdigit() and len(index) < 6)):
        raise ValueError(f"unknown device {device!r}: give 'cpu', 'cuda' or 'cuda:0'")
    cupy = _cupy(device)
    count = cupy.cuda.runtime.getDeviceCount()
    if int(index or 0) >= count:
        raise RuntimeError(f"there is no device {device!r}: this computer has {count} GPUs, counted from cuda:0")
    with cupy.cuda.Device(int(index or 0)):
        return cupy.asarray(array)


def _cupy(device):
    """The module CuPy, if it finds a GPU.  Else raises a RuntimeError that says what is missing."""
    try:
        import cupy
    except ImportError:
        raise RuntimeError(
            f"device {device!r} needs CuPy, which is not installed: pip install 'minifcn[gpu]' (for a CUDA 12 driver) "
            "or 'minifcn[gpu-cuda13]' (for CUDA 13), or use device 'cpu'"
        ) from None
    if not cupy.is_available():
        raise RuntimeError(
            f"device {device!r} needs an NVIDIA GPU and its driver, and CuPy finds none: check with nvidia-smi, "
            "or use device 'cpu'"
        )
    return cupy


def cupy() -> ModuleType:
    """The module CuPy, for the properties and streams of a device.  Raises ImportError if it is not installed."""
    return importlib.import_module("cupy")


def beside(array: Array, other: Array) -> Array:
    """`array` on the device of `other`: a host array is copied there, a device array must be there already.

    Parameters
    ----------
    array, other : array

    Raises
    ------
    ValueError
        If `array` is on a device and `other` on the host.
    """
    return to_device(array, device(other)) if of(array) is np else of(array, other) and array  # type: ignore[return-value]


def empty(like: Array, shape: Shape, dtype: DTypeLike) -> Array:
    """An uninitialised array of the library and device of `like`, in reused memory if there is some."""
    return (buffers if isinstance(like, np.ndarray) else of(like)).empty(shape, dtype)


def zeros(like: Array, shape: Shape) -> Array:
    """An array of zeros of the library, device and dtype of `like`, in reused memory if there is some."""
    return (buffers if isinstance(like, np.ndarray) else of(like)).zeros(shape, like.dtype)


def asnumpy(array: Any) -> Array:
    """`array`, a list or a number as a NumPy array; a device array is copied to the host."""
    if isinstance(array, np.ndarray):
        return array
    return array.get() if is_array(array) else np.asarray(array)  # type: ignore[attr-defined]


def gpu_available() -> bool:
    """Whether CuPy can be imported and finds a driver and a GPU."""
    try:
        import cupy
    except ImportError:
        return False
    return cupy.is_available()


# One generator on the host serves initialisers and dropout, so that runs on the CPU and on a GPU draw the same numbers.
_generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Seed the random generator of initialisers and dropout."""
    global _generator
    _generator = np.random.default_rng(seed)


def rng() -> np.random.Generator:
    """The random generator of initialisers and dropout, a ``numpy.random.Generator`` on the host."""
    return _generator
