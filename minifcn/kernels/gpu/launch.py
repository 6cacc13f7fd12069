"""Launches the kernels of the ``.cu`` files, after checking every argument against the C signature.

CuPy's RawKernel checks nothing.  It passes a view with gaps as a bare pointer, a float64 array to a kernel that reads
floats, and a Python number in eight bytes to a kernel that reads four.  The results would be wrong without an error.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np

from ...arrays import backend

BLOCK = 256  # threads in a block; a power of two, because block_sum halves it
LARGEST = 1 << 30  # elements that an int can count: the loop's last step goes beyond the end by up to the whole grid
FOLDER = Path(__file__).parent
C_TYPES = {
    "float": "f4", "double": "f8", "int": "i4", "long long": "i8", "unsigned char": "u1",
}  # fmt: skip


@cache
def source(file):
    """The text of a ``.cu`` file as it is compiled: ``common.cuh``, then the file with its own line numbers."""
    text = (FOLDER / file).read_text(encoding="utf-8")
    return f'{(FOLDER / "common.cuh").read_text(encoding="utf-8")}\n#line 1 "{file}"\n{text}'


def options(real, index):
    """The compiler's options for a floating-point type and an integer type that counts elements, by their C names."""
    return (f"-DMF_REAL={real}", f"-DMF_INDEX={index}", f"-DMF_BLOCK={BLOCK}", "--std=c++17")


@cache
def signature(file, name):
    """The parameters of a kernel as [(C type, whether it is a pointer, name)]."""
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
    """The names of the kernels in a file."""
    return re.findall(r"__global__\s+void\s+(\w+)\s*\(", source(file))


def _cupy_module(file, real, index):
    import cupy

    return cupy.RawModule(code=source(file), options=options(real, index))


COMPILERS = {"cupy": cache(_cupy_module)}
"""For each owner of arrays, a function (file, real, index) -> module.  ``module.get_function(name)`` returns a function
of (grid, block, arguments) that runs a kernel.

``minifcn.cuda_on_cpu.host`` adds an entry to run the kernels on NumPy arrays."""


def launch(file, name, total, *args):
    """Run a kernel that has one thread for each of `total` elements; `total` is its first MF_INDEX argument.

    Parameters
    ----------
    file, name : str
        The name of a ``.cu`` file in this folder, and of a kernel in it.
    total : int
    *args
        The kernel's arguments without `total`, in the order of the C signature: arrays of one owner, Python numbers.

    Raises
    ------
    TypeError
        If the number of arguments is wrong, or an array is not C-contiguous or not of the C type.
    """
    arrays = sum(pointer for _, pointer, _ in signature(file, name))
    if total:
        _launch(file, name, -(-total // BLOCK), (*args[:arrays], total, *args[arrays:]))


def launch_blocks(file, name, blocks, *args):
    """Run a kernel that has one block for each of `blocks` results; `args` are all arguments of its C signature."""
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
        raise TypeError(f"{name}: {parameter} is {kind}*, got an array of {value.dtype}: convert it first")
    if not value.flags.c_contiguous:
        raise TypeError(f"{name}: {parameter} is not C-contiguous: pass xp.ascontiguousarray(...)")
    return value
