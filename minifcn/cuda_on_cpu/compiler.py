"""A compiler from CUDA C++ to a shared library of the host, with g++.

``compile_cuda(source, options, out)`` puts :file:`cuda.h` before the source, and after it one function for each kernel,
which takes the kernel's arguments as pointers.  The emulated NVRTC runs this file as a script,
``compiler.py FOLDER OPTIONS...``, without site packages: it must import nothing but the standard library.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOM = Path(__file__).resolve().parent
KERNEL = re.compile(
    r"__global__\s+(?:__launch_bounds__\([^)]*\)\s*)?void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\("
)
TEMPLATE = re.compile(r"template\s*<[^{};]*>\s*__global__\s+void\s+(\w+)")
DYNAMIC = re.compile(r"extern\s+__shared__\s+([^;\[]+?)\s*(\w+)\s*\[\s*\]\s*;")
FLAGS = ["-O1", "-g", "-fPIC", "-shared", "-ffp-contract=off"]
LAUNCH = """
extern "C" const char* cuda_launch(void (*f)(void**), void** a, const unsigned* grid, const unsigned* block,
                                   unsigned shared, unsigned order) {{
    return emulation::launch(f, a, grid, block, shared, order, {barriers});
}}
extern "C" int cuda_run_only(int thread) {{
    emulation::only = thread;
    return !{barriers};
}}
"""


class CompileError(RuntimeError):
    """A source cannot be compiled; the message is the compiler's output or the reason."""


def compile_cuda(source, options, out, names=(), cupy=False, sanitize=()):
    """Compile CUDA C++ for the host.

    Parameters
    ----------
    source : str
    options : sequence of str
        Options of NVRTC; only -D, -I and the language standard have an effect.
    out : path
        The shared library to write.  Its ``cuda_launch(f, arguments, grid, block, shared, order)`` launches a kernel;
        f is ``cuda_NAME`` or, for the template instance ``names[i]``, ``cuda_expression_i``.
    names : sequence of str
        The template instances that are needed.
    cupy : bool
        Whether CuPy generated the source: such sources convert types implicitly, and need CUDA's headers.
    sanitize : sequence of str
        More flags for g++, such as ``-fsanitize=address``.

    Raises
    ------
    CompileError
        If g++ rejects the source; the message is its output.
    """
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.S)
    kernels = dict.fromkeys(n for n in KERNEL.findall(plain) if n not in TEMPLATE.findall(plain))
    barriers = (
        any(word in plain for word in ("__syncthreads", "__syncwarp", "__shfl")) or "-fsanitize=thread" in sanitize
    )
    body = DYNAMIC.sub(r"\1 *\2 = (\1 *)emulation::dynamic_shared_memory();", source)
    calls = [(f"cuda_{name}", name) for name in kernels] + [(f"cuda_expression_{i}", n) for i, n in enumerate(names)]
    flags = [_standard(options), *FLAGS, *(o for o in options if o[:2] in ("-D", "-I")), *sanitize]
    if cupy:
        flags += ["-fpermissive", "-w", "-DWITH_CUDA_HEADERS"]
    else:
        flags += ["-Wall", "-Wno-unused", "-Wno-sign-compare", "-Wno-unknown-pragmas", "-Werror=return-type"]
    text = [f'#include "{_header(source, flags) if cupy else ROOM / "cuda.h"}"\n#line 1 "kernel.cu"\n', body, "\n"]
    text += [f'extern "C" void {c}(void** a) {{ emulation::call(&{n}, a); }}\n' for c, n in calls]
    cpp = Path(f"{out}.cpp")
    cpp.write_text("".join(text) + LAUNCH.format(barriers=str(barriers).lower()), encoding="utf-8")
    _run(["g++", *flags, str(cpp), "-o", f"{out}.part"])
    os.replace(f"{out}.part", out)


def _standard(options):
    return next((f"-{o.lstrip('-')}" for o in options if "std=" in o), "-std=c++17")


def _header(source, flags):
    """The header to include: cuda.h or, for most of CuPy's kernels, cuda.h and CuPy's headers, precompiled."""
    half = "float16.cuh" in source or "cuda_fp16" in source
    if half or not source.startswith("#include <cupy/complex.cuh>") or flags[0] != "-std=c++17":
        if half:
            flags += ["-include", "cuda_fp16.h", "-D__CUDACC_VER_MAJOR__=13"]
        return ROOM / "cuda.h"
    cache = Path(os.environ.get("CUPY_CACHE_DIR", "."))
    cache.mkdir(parents=True, exist_ok=True)
    header, headers = cache / "cuda_and_cupy.h", ("complex.cuh", "carray.cuh", "atomics.cuh", "math_constants.h")
    compiled = Path(f"{header}.gch")
    if not compiled.exists():
        lines = [f'#include "{ROOM / "cuda.h"}"', *(f"#include <cupy/{name}>" for name in headers)]
        header.write_text("\n".join(lines) + "\n", encoding="utf-8")
        part = f"{compiled}.{os.getpid()}"
        _run(["g++", *(f for f in flags if f != "-shared"), "-x", "c++-header", str(header), "-o", part])
        os.replace(part, compiled)
    return header


def _run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise CompileError(result.stderr)


def main(folder, *options):
    """Compile FOLDER/kernel.cu, with the names in FOLDER/names, to FOLDER/kernel.so; 1, and FOLDER/log, if it fails."""
    folder = Path(folder)
    source, names = ((folder / file).read_text(encoding="utf-8") for file in ("kernel.cu", "names"))
    if keep := os.environ.get("MINIFCN_CUDA_KEEP"):
        Path(keep).mkdir(parents=True, exist_ok=True)
        (Path(keep) / f"{folder.name}.cu").write_text(f"// {' '.join(options)}\n{source}", encoding="utf-8")
    try:
        more = os.environ.get("MINIFCN_CUDA_CXXFLAGS", "").split()
        compile_cuda(source, options, folder / "kernel.so", names.splitlines(), cupy=True, sanitize=more)
    except CompileError as error:
        (folder / "log").write_text(str(error), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
