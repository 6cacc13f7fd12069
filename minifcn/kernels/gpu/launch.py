"""Launching the kernels of the ``.cu`` files, in the one checked way.

CuPy hands a RawKernel whatever it is given: a view with gaps as a bare pointer, a float64 array where floats are
meant, a Python number in eight bytes where the kernel reads four.  Nothing is said, the numbers are wrong.  Here every
argument is held against the C signature first.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np

from ...arrays import backend

BLOCK = 256  # threads a block; a power of two, for sums in halves
LARGEST = 1 << 30  # elements up to which int can count, a step of the whole grid beyond the end included
ROOM = Path(__file__).parent
C_TYPES = {
    "float": "f4", "double": "f8", "int": "i4", "long long": "i8", "unsigned char": "u1",
}  # fmt: skip


@cache
def source(file):
    """The text of a ``.cu`` file as it is compiled: the common beginning, then its own lines, with their numbers."""
    own = (ROOM / file).read_text(encoding="utf-8")
    return f'{(ROOM / "common.cuh").read_text(encoding="utf-8")}\n#line 1 "{file}"\n{own}'


def options(real, index):
    """The compiler's options for a floating-point type and a type that counts elements, by their C names."""
    return (f"-DMF_REAL={real}", f"-DMF_INDEX={index}", f"-DMF_BLOCK={BLOCK}", "--std=c++17")


@cache
def signature(file, name):
    """[(C type, is it a pointer, its name)] of a kernel's parameters."""
    text = re.sub(r"//[^\n]*", "", source(file))
    found = re.search(rf"__global__\s+void\s+{name}\s*\(([^)]*)\)", text)
    if not found:
        raise ValueError(f"{file} has no kernel {name!r}")
    parameters = []
    for parameter in found[1].split(","):
        words = parameter.replace("*", " * ").split()
        kind = " ".join(word for word in words[:-1] if word not in ("const", "*"))
        parameters.append((kind, "*" in words, words[-1]))
    return parameters


def kernels(file):
    """The names of the kernels of a file."""
    return re.findall(r"__global__\s+void\s+(\w+)\s*\(", source(file))


def _cupy_module(file, real, index):
    import cupy

    return cupy.RawModule(code=source(file), options=options(real, index))


COMPILERS = {"cupy": cache(_cupy_module)}
"""By the owner of the arrays: (file, real, index) -> a module; ``get_function(name)`` takes (grid, block, arguments).

One more stands here while the kernels run on NumPy arrays (``minifcn.cuda_on_cpu.host``)."""


def launch(file, name, total, *args):
    """Run a kernel that has one thread for each of `total` elements; `total` is its first MF_INDEX argument.

    Parameters
    ----------
    file, name : str
        Of the ``.cu`` file in this folder, and of the kernel in it.
    total : int
    *args
        All but `total`, in the order of the C signature: arrays of one owner, and Python numbers.

    Raises
    ------
    TypeError
        If their number is another, or an array has another dtype than the C type, or is not C-contiguous.
    """
    arrays = sum(pointer for _, pointer, _ in signature(file, name))
    if total:
        _launch(file, name, -(-total // BLOCK), (*args[:arrays], total, *args[arrays:]))


def launch_blocks(file, name, blocks, *args):
    """Run a kernel that has one block for each of `blocks` results; `args` as its C signature has them."""
    if blocks:
        _launch(file, name, blocks, args)


def _launch(file, name, blocks, args):
    parameters = signature(file, name)
    if len(args) != len(parameters):
        raise TypeError(f"{file}: {name} takes {len(parameters)} arguments, got {len(args)}")
    arrays = [a for a, (_, pointer, _) in zip(args, parameters) if pointer]
    types = dict(
        MF_REAL=next(_c_name(a) for a, (kind, pointer, _) in zip(args, parameters) if pointer and kind == "MF_REAL"),
        MF_INDEX="int" if max(a.size for a in arrays) <= LARGEST else "long long",
    )
    checked = [_checked(a, types.get(kind, kind), *rest, name) for a, (kind, *rest) in zip(args, parameters)]
    module = COMPILERS[backend.of(*arrays).__name__](file, types["MF_REAL"], types["MF_INDEX"])
    module.get_function(name)((blocks,), (BLOCK,), tuple(checked))


def _c_name(array):
    names = {"f4": "float", "f8": "double"}
    if array.dtype.str[1:] not in names:
        raise TypeError(f"the CUDA kernels compute in float32 and float64, got {array.dtype}")
    return names[array.dtype.str[1:]]


def _checked(value, kind, pointer, parameter, name):
    dtype = np.dtype(C_TYPES[kind])
    if not pointer:
        return dtype.type(value)  # OverflowError if it does not fit
    if value.dtype != dtype:
        raise TypeError(f"{name}: {parameter} is {kind}*, got an array of {value.dtype}")
    if not value.flags.c_contiguous:
        raise TypeError(f"{name}: {parameter} has gaps: hand over xp.ascontiguousarray(...)")
    return value
