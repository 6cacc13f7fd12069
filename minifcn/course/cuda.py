"""Kernels that students write in CUDA C++: called as the library's own are, compiled and run where no GPU is, too.

What a student hands in here runs as native code, which no audit hook can hold.  So the grader compiles it in a process
of its own (``python -m minifcn.course.cuda SOURCE LIBRARY``), and a second one, without any of the student's Python,
confines itself, loads the library and runs it (see ``judge.py``, ``child.py`` and ``confine.py``).
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from ..arrays import backend
from ..cuda_on_cpu.compiler import KERNEL, CompileError, compile_cuda
from ..kernels.shapes import pool_sizes

WINDOWS = "int total, int H, int W, int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw"
SIGNATURES = {
    "max_pool2d": f"const float* x, float* y, unsigned char* index, {WINDOWS}",
    "max_pool2d_grad": f"const float* gy, const unsigned char* index, float* gx, {WINDOWS}",
}
"""The parameters of each kernel: arrays that are read, arrays that are written, the number of threads, sizes."""

MARGIN = 1 << 12  # elements around each array, in which a kernel that leaves it is seen
LAUNCHES = ((0, 256), (1, 96), (2, 32), (3, 256))  # (order of threads, threads a block)
FILES = re.compile(r"(#|%:|\?\?=)\s*(include|import|embed)|\b_*asm_*\b|##|%:%:")
LONGEST = 20_000  # characters of a source
MEMORY, SECONDS, FILE = 2 << 30, 60, 32 << 20  # of the compiler: bytes, seconds, bytes of a file that it writes


def available():
    """Whether kernels can be compiled for the CPU here."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and bool(shutil.which("g++"))


class Kernel:
    """A kernel in CUDA C++ in the place of one of the library's, whose name and arguments it has.

    Parameters
    ----------
    name : str
        One of :data:`SIGNATURES`.
    module
        What its functions are got from: for CuPy's arrays a ``cupy.RawModule``, for NumPy's what
        ``minifcn.cuda_on_cpu.host`` has; or its source, a str, which is compiled for the arrays that come.
    """

    def __init__(self, name, module):
        self.name, self.block, self.source, self.owner = name, 256, None, None
        if hasattr(module, "get_function"):
            self.module, self.function = module, module.get_function(name)
        else:
            check(name, module)
            self.source = module

    def __call__(self, *args):
        return ADAPTERS[self.name](self._launch, *args)

    def in_every_order(self, *args):
        """What a call gives, made with several orders of threads and sizes of blocks, its arrays watched at both ends.

        Raises
        ------
        RuntimeError
            If results differ, to the bit, or the kernel writes outside its arrays.
        """
        results = []
        for order, block in LAUNCHES:
            self._compile(np)
            self.module.order, self.block, self.edges = order, block, []
            results.append(self(*args))
            if any((edge.view("u1") != 0xFF).any() for edge in self.edges):
                raise RuntimeError(f"{self.name} writes outside its arrays: are there threads without an element?")
        self.module.order, self.block = 0, 256
        same = [[a.tobytes() for a in (r if isinstance(r, tuple) else (r,))] for r in results]
        if any(s != same[0] for s in same):
            raise RuntimeError(
                f"the result of {self.name} depends on the order of the threads, or on the size of blocks"
            )
        return results[0]

    def _compile(self, xp):
        """The function for arrays of a library, if it is not there."""
        if self.source and self.owner is not xp:
            if xp is np:
                from ..cuda_on_cpu.host import Module

                try:
                    self.module = Module(self.source)
                except CompileError as error:
                    raise CompileError(_first_error(str(error))) from None
            else:
                self.module = xp.RawModule(code=self.source, options=("--std=c++17",))
            self.function, self.owner = self.module.get_function(self.name), xp

    def _launch(self, read, written, *sizes):
        """Run it with a thread for each element of the first array written: those arrays, given as (dtype, shape)."""
        xp = backend.of(*read)
        self._compile(xp)
        arrays = [_roomy(a, xp) for a in read] + [
            _roomy(xp.empty(shape, dtype), xp, fresh=True) for dtype, shape in written
        ]
        total = arrays[len(read)][0].size
        numbers = [np.int32(n) for n in (total, *sizes)]
        if total:
            self.function((-(-total // self.block),), (self.block,), (*(a for a, _ in arrays), *numbers))
        self.edges = [edge for _, room in arrays for edge in (room[:MARGIN], room[-MARGIN:])]
        return [a for a, _ in arrays[len(read) :]]


def _roomy(array, xp, fresh=False):
    """(a copy of `array` within a larger one, that one).  Fresh memory, and all around, is bits of 1: NaN, 255."""
    room = xp.full((array.size + 2 * MARGIN) * array.itemsize, 0xFF, "u1").view(array.dtype)
    inside = room[MARGIN : MARGIN + array.size].reshape(array.shape)
    if not fresh:
        inside[...] = array
    return inside, room


def max_pool2d(launch, x, kernel_size, stride, padding, dilation, ceil_mode):
    """The library's kernel of that name, by a launch of a student's; without dilation."""
    _undilated(dilation)
    out = pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    shape = (*x.shape[:2], *out)
    written = (("f4", shape), ("u1", shape))
    y, index = launch([x.astype("f4")], written, *x.shape[2:], *out, *kernel_size, *stride, *padding)
    return y.astype(x.dtype), index


def max_pool2d_grad(launch, gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """The library's kernel of that name, by a launch of a student's; without dilation."""
    _undilated(dilation)
    read = [gy.astype("f4"), index.astype("u1")]
    (gx,) = launch(read, (("f4", x_shape),), *x_shape[2:], *gy.shape[2:], *kernel_size, *stride, *padding)
    return gx.astype(gy.dtype)


def _undilated(dilation):
    if tuple(dilation) != (1, 1):
        raise ValueError(f"this kernel knows no dilation, got {dilation}")


ADAPTERS = {"max_pool2d": max_pool2d, "max_pool2d_grad": max_pool2d_grad}


def check(name, source):
    """Hold a source against what is asked for.

    Raises
    ------
    CompileError
        If it has no such kernel, if its parameters have other types, or if it reaches for files of the computer.
    """
    if not isinstance(source, str) or len(source) > LONGEST or re.search("[\ud800-\udfff]", source):
        raise CompileError(f"the source is no text of at most {LONGEST} characters")
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", "", source.replace("\\\n", ""), flags=re.S)
    if FILES.search(plain):
        raise CompileError(
            "a kernel takes no #include, no ## and no asm: on a GPU there is neither a disk nor C's library"
        )
    if name not in KERNEL.findall(plain) or not re.search(r'extern\s+"C"', plain):
        raise CompileError(f'there is no extern "C" __global__ void {name}(...) in it')
    own = re.search(rf"__global__[^{{;]*?\b{name}\s*\(([^)]*)\)", plain)
    if not own or _types(own[1]) != _types(SIGNATURES[name]):
        raise CompileError(f"the parameters of {name} should be ({SIGNATURES[name]})")


def _types(parameters):
    """The C types of a list of parameters, without their names."""
    words = [p.replace("*", " * ").replace("__restrict__", "").split() for p in parameters.split(",")]
    return [" ".join(w[:-1]) for w in words]


def build(name, source, library):
    """Compile a student's source, in a process of its own.

    Raises
    ------
    CompileError
        With one line of what is wrong.
    """
    check(name, source)
    text = Path(f"{library}.cu")
    text.write_text(source, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "minifcn.course.cuda", str(text), str(library)]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONPATH": str(Path(__file__).parents[2])}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=2 * SECONDS, cwd=text.parent, env=environment
        )
    except subprocess.TimeoutExpired:
        raise CompileError(f"the compiler took more than {2 * SECONDS} seconds") from None
    if done.returncode:
        raise CompileError(_first_error(done.stderr))


def _first_error(text):
    """Of all that the compiler said, the line to begin with."""
    said = re.search(r"kernel\.cu:(\d+):(?:\d+:)? (?:fatal )?error: (.*)", text)
    return f"line {said[1]}: {said[2]}" if said else "the compiler gave up"


def main(source, library):
    """Compile a file, with limits; exit with what the compiler says."""
    import resource  # not on Windows, where students import this module, too

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        compile_cuda(Path(source).read_text(encoding="utf-8"), (), library)
    except CompileError as error:
        sys.exit(str(error))


def load(name, library):
    """The kernel in a compiled library, in a process that from here on computes for a limited time, and no more."""
    import resource

    from ..cuda_on_cpu.host import Library
    from .confine import confine

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    confine(may_load=True)  # first: a library's first lines run while it is loaded
    kernel = Kernel(name, Library(library))
    confine(may_load=False)
    return kernel


if __name__ == "__main__":
    main(*sys.argv[1:])
