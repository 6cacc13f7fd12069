"""Which array module owns this array: NumPy or CuPy.  The array decides; there is no global device switch.

CuPy is imported here (and in ``kernels/gpu`` and ``cuda_on_cpu``) and nowhere else, and only once an array or a device
asks for it.
"""

import importlib
import sys

import numpy as np


def of(*arrays):
    """The array module (``numpy`` or ``cupy``) that owns all of `arrays`.

    Parameters
    ----------
    *arrays : array
        All of one library.

    Raises
    ------
    ValueError
        If the arrays live on different devices; the message names both.
    """
    modules = {_owner(a) for a in arrays}
    if len(modules) > 1:
        names = " and ".join(sorted(m.__name__ for m in modules))
        raise ValueError(f"operands live in different array libraries ({names}): move one with .to(device)")
    return modules.pop()


def _owner(array):
    # A foreign array's class names its own module: CuPy's is found without importing CuPy.
    if isinstance(array, np.ndarray | np.generic):
        return np
    module = sys.modules.get(type(array).__module__.partition(".")[0])
    if module is None or not hasattr(module, "ndarray"):
        raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")
    return module


def is_array(x):
    """Whether `x` is an array of a library we can compute with."""
    return isinstance(x, np.ndarray) or type(x).__name__ == "ndarray"


def from_python(data):
    """A host array of lists or Python numbers, in float32; NumPy scalars keep their type."""
    if isinstance(data, list | tuple) and any(getattr(x, "requires_grad", False) for x in data):
        raise TypeError("a list of tensors that require gradients would lose them: join them by mf.ops.concat")
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"cannot make a tensor of {type(data).__name__}: give numbers or an array")
    return array if isinstance(data, np.generic) else array.astype(np.float32)


def floating(dtype):
    """The NumPy type of `dtype`.  TypeError unless it is a floating-point type."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind.kind != "f":
        raise TypeError(f"{dtype!r} is no floating-point type of NumPy: give 'float32' or 'float64'")
    return kind


def device(array):
    """``"cpu"`` or ``"cuda:i"``, where `array` lives."""
    return "cpu" if of(array) is np else f"cuda:{array.device.id}"


def to_device(array, device):
    """`array` on `device` (``"cpu"``, ``"cuda"`` or ``"cuda:i"``); the array itself if it is there already.

    Parameters
    ----------
    array : array
    device : str

    Raises
    ------
    RuntimeError
        If a GPU is asked for and CuPy or a driver is missing; the message says what to install.
    """
    if device == "cpu":
        return asnumpy(array)
    if not isinstance(device, str):
        raise TypeError(f"a device is 'cpu', 'cuda' or 'cuda:0', not {device!r}; for a type of number give dtype=...")
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index == "" or (index.isascii() and index.isdigit() and len(index) < 6)):
        raise ValueError(f"unknown device {device!r}: give 'cpu', 'cuda' or 'cuda:0'")
    cupy = _cupy(device)
    count = cupy.cuda.runtime.getDeviceCount()
    if int(index or 0) >= count:
        raise RuntimeError(f"there is no device {device!r}: this computer has {count}, counted from cuda:0")
    with cupy.cuda.Device(int(index or 0)):
        return cupy.asarray(array)


def _cupy(device):
    """CuPy, if it can compute; else a RuntimeError that says what is missing."""
    try:
        import cupy
    except ImportError:
        raise RuntimeError(
            f"device {device!r} needs CuPy, which is not installed: pip install 'minifcn[gpu]' (a driver for CUDA 12) "
            "or 'minifcn[gpu-cuda13]' (CUDA 13), or use device 'cpu'"
        ) from None
    if not cupy.is_available():
        raise RuntimeError(
            f"device {device!r} needs an NVIDIA GPU and its driver, and CuPy finds none (does nvidia-smi?): "
            "use device 'cpu'"
        )
    return cupy


def cupy():
    """CuPy itself, for what only a device is asked: its properties, its streams.  ImportError without it."""
    return importlib.import_module("cupy")


def beside(array, other):
    """`array`, which may lie on the host, where `other` lies.

    Parameters
    ----------
    array, other : array

    Raises
    ------
    ValueError
        If it lies on a device and `other` does not, or on another one.
    """
    return to_device(array, device(other)) if of(array) is np else of(array, other) and array


def asnumpy(array):
    """`array` as a NumPy array (copied from the device if it lies there); lists and numbers become one."""
    if isinstance(array, np.ndarray):
        return array
    return array.get() if is_array(array) else np.asarray(array)


def gpu_available():
    """Whether CuPy imports and finds a driver and a device."""
    try:
        import cupy
    except ImportError:
        return False
    return cupy.is_available()


# One host generator feeds initialisers and dropout, so that a run on the CPU and a run on a GPU draw the same numbers.
_generator = np.random.default_rng()


def manual_seed(seed):
    """Start the generator behind initialisers and dropout from `seed`."""
    global _generator
    _generator = np.random.default_rng(seed)


def rng():
    """The host's random generator (a ``numpy.random.Generator``); its ``bit_generator.state`` can be saved."""
    return _generator
