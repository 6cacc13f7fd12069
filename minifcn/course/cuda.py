"""Kernels that students write in CUDA C++: called like the library's kernels, on a GPU or compiled for the CPU.

A student's kernel runs as native code, which no Python audit hook can restrict.  So the grader compiles it in a
separate process with resource limits (``python -m minifcn.course.cuda SOURCE LIBRARY``).  Another process, which runs
none of the student's Python, installs a seccomp filter, loads the library and runs the kernel (see ``judge.py``,
``child.py`` and ``confine.py``).
"""

import ctypes
import mmap
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
"""The parameters of each kernel: input arrays, output arrays, the number of threads, sizes."""

ROOM = 1 << 21  # bytes around an array on the CPU; a write there is detected, and a read changes the result
GUARD = 64 << 20  # bytes before and after them that no access survives
LARGEST = 1 << 20  # bytes of an array that is placed between guards
# (order of threads, threads per block, value of the bytes around the input: NaN, or a large number)
LAUNCHES = ((0, 256, 0xFF), (1, 96, 0x7E), (2, 32, 0xFF), (3, 256, 0x7E))
ALONE = 8  # threads that are run alone, to see what each of them writes
# Ways to read files of the grader's computer through the compiler: #include, #embed, and .incbin in asm.  `%:`, `??=`
# are other spellings of #, and ## can paste a forbidden word together from two parts.
FILES = re.compile(r"(#|%:|\?\?=)\s*(include|import|embed)|\b_*asm_*\b|##|%:%:")
# Thread by thread, the emulator runs only kernels without barriers; its own names would tell a kernel how it is run.
ALIEN = re.compile(r"__sync\w*|__shfl\w*|\bemulation\b|\bcuda_\w+|\bSHUFFLE\b|\bLANE\b")
LONGEST = 20_000  # characters of a source
MEMORY, SECONDS, FILE = 2 << 30, 60, 32 << 20  # the compiler's limits: bytes of memory, CPU seconds, bytes per file


def available():
    """Whether this machine can compile kernels for the CPU: Linux on x86-64 with g++."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and bool(shutil.which("g++"))


class Kernel:
    """A kernel in CUDA C++ that replaces one of the library's kernels: it has the same name and arguments.

    Parameters
    ----------
    name : str
        A key of :data:`SIGNATURES`.
    module
        The compiled module: a ``cupy.RawModule`` for CuPy's arrays, a ``Module`` or ``Library`` of
        ``minifcn.cuda_on_cpu.host`` for NumPy's.  Or the source, a str: it is compiled at the first call, for the
        kind of arrays of that call.
    """

    def __init__(self, name, module):
        self.name, self.block, self.source, self.owner = name, 256, None, None
        self.around, self.arenas = 0xFF, {}
        self.edges, self.outputs = [], []
        if hasattr(module, "get_function"):
            self.module, self.function = module, module.get_function(name)
        else:
            check(name, module)
            self.source = module

    def __call__(self, *args):
        return ADAPTERS[self.name](self._launch, *args)

    def in_every_order(self, *args):
        """Call the kernel with several orders of threads and block sizes, and return the result.

        Raises
        ------
        RuntimeError
            If the results are not the same to the bit, if the kernel writes outside its arrays, or if one thread writes
            more than :data:`MOST` allows.
        """
        results = []
        for order, block, self.around in LAUNCHES:
            self._compile(np)
            self.module.order, self.block = order, block
            results.append(self(*args))
            if any((edge != around).any() for edge, around in self.edges):
                raise RuntimeError(
                    f"{self.name} writes outside its arrays: threads with e >= total must return at once"
                )
        self.module.order, self.block, self.around = 0, 256, 0xFF
        same = [[a.tobytes() for a in (r if isinstance(r, tuple) else (r,))] for r in results]
        if any(s != same[0] for s in same):
            raise RuntimeError(
                f"the result of {self.name} depends on the order of the threads, on the size of blocks, or on memory "
                "outside the arrays: compute e from blockDim.x, and write only the thread's own element"
            )
        self._alone(args, results[0])
        return results[0]

    def _alone(self, args, result):
        """Run some threads alone; RuntimeError if one writes more elements than it should.

        Output memory that no thread has written is 0xFF in all bytes, and no right result is.
        """
        first = result[0] if isinstance(result, tuple) else result
        most = MOST[self.name](first.shape)
        for thread in np.linspace(0, first.size - 1, ALONE).astype(int).tolist():
            if not self.module.run_only(thread):
                return
            try:
                self(*args)
            finally:
                self.module.run_only(-1)
            for output in self.outputs:
                bytes_of_each = output.reshape(-1).view("u1").reshape(output.size, -1)
                count = int((bytes_of_each != 0xFF).any(axis=1).sum())
                if count > most:
                    raise RuntimeError(
                        f"one thread of {self.name} writes {count} of {output.size} elements: use one thread for each "
                        "element, so that a GPU can compute them at the same time"
                    )

    def _compile(self, xp):
        """Compile the source for the arrays of `xp` (NumPy or CuPy), unless that is done."""
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
        """Run the kernel with one thread for each element of the first output, and return the outputs.

        Parameters
        ----------
        read : list of array
        written : sequence of (dtype, shape)
            The outputs.
        *sizes : int
            The kernel's parameters after `total`.
        """
        xp, self.edges = backend.of(*read), []
        self._compile(xp)
        arrays = [self._placed(i, a, xp, self.around) for i, a in enumerate(read)]
        arrays += [self._placed(-1 - i, xp.empty(shape, dtype), xp) for i, (dtype, shape) in enumerate(written)]
        total = arrays[len(read)].size
        numbers = [np.int32(n) for n in (total, *sizes)]
        if total:
            self.function((-(-total // self.block),), (self.block,), (*arrays, *numbers))
        self.outputs = [a.copy() for a in arrays[len(read) :]]  # the next launch uses the same memory
        return self.outputs

    def _placed(self, number, array, xp, around=None):
        """A copy of `array` for a launch; on the CPU it lies between :data:`ROOM` and :data:`GUARD`.

        The bytes of an output (`around` is None) and those around it are 0xFF: NaN as a float, 255 as a byte.
        """
        if xp is not np or array.nbytes > LARGEST:
            copy = xp.full(array.nbytes, 0xFF, "u1").view(array.dtype).reshape(array.shape)
            if around is not None:
                copy[...] = array
            return copy
        if number not in self.arenas:
            self.arenas[number] = _guarded(LARGEST + 2 * ROOM)
        room = self.arenas[number]
        end = ROOM + array.nbytes
        room[: end + ROOM] = 0xFF if around is None else around
        self.edges += [(part, 0xFF if around is None else around) for part in (room[:ROOM], room[end : end + ROOM])]
        copy = room[ROOM:end].view(array.dtype).reshape(array.shape)
        if around is not None:
            copy[...] = array
        return copy


def _guarded(size):
    """`size` bytes of memory, with pages before and after them whose use ends the process."""
    memory = mmap.mmap(-1, size + 2 * GUARD)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    for address in (start, start + GUARD + size):
        protect(ctypes.c_void_p(address), ctypes.c_size_t(GUARD), 0)
    return np.frombuffer(memory, "u1", size, GUARD)


MOST = {
    "max_pool2d": lambda shape: 1,
    "max_pool2d_grad": lambda shape: shape[2] * shape[3],  # a thread may gather for a whole map
}
"""The number of elements that one thread may write, given the shape of the first output."""


def max_pool2d(launch, x, kernel_size, stride, padding, dilation, ceil_mode):
    """The library's kernel of this name, computed by a student's kernel through `launch`; without dilation."""
    _undilated(dilation)
    out = pool_sizes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    shape = (*x.shape[:2], *out)
    written = (("f4", shape), ("u1", shape))
    y, index = launch([x.astype("f4")], written, *x.shape[2:], *out, *kernel_size, *stride, *padding)
    return y.astype(x.dtype), index


def max_pool2d_grad(launch, gy, index, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """The library's kernel of this name, computed by a student's kernel through `launch`; without dilation."""
    _undilated(dilation)
    read = [gy.astype("f4"), index.astype("u1")]
    (gx,) = launch(read, (("f4", x_shape),), *x_shape[2:], *gy.shape[2:], *kernel_size, *stride, *padding)
    return gx.astype(gy.dtype)


def _undilated(dilation):
    if tuple(dilation) != (1, 1):
        raise ValueError(f"this kernel supports only dilation (1, 1), got {dilation}")


ADAPTERS = {"max_pool2d": max_pool2d, "max_pool2d_grad": max_pool2d_grad}


def check(name, source):
    """Check a source before it is compiled.

    Raises
    ------
    CompileError
        If it does not define the kernel, if the parameters have other types, or if it could read files.
    """
    if not isinstance(source, str) or len(source) > LONGEST or re.search("[\ud800-\udfff]", source):
        raise CompileError(f"the source should be a str of at most {LONGEST} characters, without surrogates")
    joined = re.sub(r"\\[ \t\v\f\r]*\n", "", source)  # g++ joins such lines
    if FILES.search(joined):  # comments included: a string with /* or */ in it would hide what follows
        raise CompileError(
            "a kernel may not contain #include, ## or asm, because a GPU has neither files nor C's library: remove them"
        )
    if found := ALIEN.search(joined):
        raise CompileError(
            f"this kernel needs no barrier, and may not use `{found[0]}`: each thread computes its own element alone"
        )
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", "", joined, flags=re.S)
    if name not in KERNEL.findall(plain) or not re.search(r'extern\s+"C"', plain):
        raise CompileError(f'the source defines no extern "C" __global__ void {name}(...)')
    found = re.search(rf"__global__[^{{;]*?\b{name}\s*\(([^)]*)\)", plain)
    if not found or _types(found[1]) != _types(SIGNATURES[name]):
        raise CompileError(f"the parameters of {name} should be ({SIGNATURES[name]})")


def _types(parameters):
    """The C types of a list of parameters, without their names."""
    words = [p.replace("*", " * ").replace("__restrict__", "").split() for p in parameters.split(",")]
    return [" ".join(w[:-1]) for w in words]


def build(name, source, library):
    """Compile a student's source into the shared library `library`, in a separate process with resource limits.

    Raises
    ------
    CompileError
        With the first error of the compiler, in one line.
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
    """The first error in the compiler's output, with its line."""
    said = re.search(r"kernel\.cu:(\d+):(?:\d+:)? (?:fatal )?error: (.*)", text)
    return f"line {said[1]}: {said[2]}" if said else "the compiler gave up"


def main(source, library):
    """Limit memory, CPU time and file size of this process, then compile a file; exit with the compiler's errors.

    A short source can make a compiler run for hours or fill the memory or the disk.
    """
    import resource  # here, because Windows does not have it, and students import this module there, too

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        compile_cuda(Path(source).read_text(encoding="utf-8"), (), library)
    except CompileError as error:
        sys.exit(str(error))


def load(name, library):
    """Load a compiled kernel into this process, which from then on can only compute, for a limited CPU time."""
    import resource

    from ..cuda_on_cpu.host import Library
    from .confine import confine

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    confine(may_load=True)  # before loading: the library's static initialisers run at once
    kernel = Kernel(name, Library(library))
    kernel.arenas = {number: _guarded(LARGEST + 2 * ROOM) for number in (-2, -1, 0, 1)}
    confine(may_load=False)
    return kernel


if __name__ == "__main__":
    main(*sys.argv[1:])
