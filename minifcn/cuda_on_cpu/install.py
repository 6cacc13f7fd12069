"""Building the emulation: CuPy's wheel, its runtime module rebuilt, and replacements for the CUDA libraries.

The wheel's runtime module contains CUDA's runtime library, so it is compiled again with runtime.cpp instead.
"""

import importlib.machinery
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import folder
from .compiler import ROOM

CUPY, CUDA, CYTHON = "14.2.0", "13.2.*", "3.2.4"  # exact versions: the runtime module is rebuilt from CuPy's source
WHEELS = [
    f"cupy-cuda13x=={CUPY}", f"nvidia-cuda-runtime=={CUDA}", f"nvidia-cuda-crt=={CUDA}",
    f"nvidia-cuda-profiler-api=={CUDA}", f"Cython=={CYTHON}",
]  # fmt: skip
DIRECTIVES = ["embedsignature=True", "c_api_binop_methods=True", "binding=False", "freethreading_compatible=True"]
SETTINGS = "CUPY_CUDA_VERSION=13020,CUPY_HIP_VERSION=0,CUPY_USE_CUDA_PYTHON=0,CUPY_CUFFT_STATIC=0"
GXX = ["g++", "-O2", "-fPIC", "-w", "-std=c++17"]


def site():
    """The folder of the emulation's packages; it stands first on PYTHONPATH, before an installed CuPy."""
    return folder() / f"python{sys.version_info.major}.{sys.version_info.minor}"


def libraries():
    """The folder of the libraries that replace CUDA's."""
    return site() / "minifcn_cuda"


def is_set_up():
    """Whether the emulation is completely built, from the present sources."""
    mark = libraries() / "complete"
    return mark.is_file() and mark.read_text(encoding="utf-8") == _version()


def _version():
    ours = sorted([*ROOM.glob("*.cpp"), ROOM / "pathfinder.py"])
    return "\n".join([*WHEELS, *(path.read_text(encoding="utf-8") for path in ours)])


def require_possible():
    """Raise UserError with the reason if the emulation cannot be built on this computer."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise UserError(f"CUDA on the CPU needs Linux on x86-64, and this is {sys.platform} {platform.machine()}")
    if not shutil.which("g++"):
        raise UserError("CUDA on the CPU needs g++; install it (Debian, Ubuntu: apt install g++), then run setup again")
    if tuple(map(int, np.__version__.split(".")[:2])) >= (2, 6):
        raise UserError(f"CuPy {CUPY} needs NumPy below 2.6, and this is {np.__version__}: pip install 'numpy<2.6'")
    try:
        import pip  # noqa: F401
    except ImportError:
        raise UserError("setup fetches CuPy with pip, which this Python does not have: python -m ensurepip") from None
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        raise UserError("Python's C headers are missing; install them (Debian, Ubuntu: apt install python3-dev)")


def setup(say=print):
    """Fetch CuPy (about 75 MB) and build the emulation into :func:`minifcn.cuda_on_cpu.folder`."""
    require_possible()
    began = time.monotonic()
    shutil.rmtree(site(), ignore_errors=True)
    libraries().mkdir(parents=True)
    say(f"fetching CuPy {CUPY} and CUDA's headers")
    _pip("install", "--target", site(), "--no-deps", *WHEELS)
    say("fetching CuPy's source")
    source = libraries() / "source"
    environment = os.environ | {"CUPY_INSTALL_USE_STUB": "1"}
    _pip("download", "--no-deps", "--no-binary", "cupy", "-d", source, f"cupy=={CUPY}", env=environment)
    with tarfile.open(next(source.glob("*.tar.gz"))) as archive:
        archive.extractall(source, filter="data")
    say("building the runtime, driver, compiler, products and random numbers")
    _build_runtime(source / f"cupy-{CUPY}")
    for name, library in (("driver", "libcuda.so.1"), ("nvrtc", "libnvrtc.so.13"), ("curand", "libcurand.so.10")):
        _link(library, ROOM / f"{name}.cpp")
    _build_cublas()
    (site() / "cuda" / "pathfinder").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOM / "pathfinder.py", site() / "cuda" / "pathfinder" / "__init__.py")
    shutil.rmtree(source)
    (libraries() / "complete").write_text(_version(), encoding="utf-8")
    say(f"done in {time.monotonic() - began:.0f} s, in {site()}")


def _build_runtime(source):
    """Build CuPy's runtime module from its Cython source, linked with runtime.cpp instead of CUDA's runtime."""
    backends = site() / "cupy_backends" / "cuda" / "api"
    directives = [word for directive in DIRECTIVES for word in ("-X", directive)]
    cython = [sys.executable, "-m", "cython", "-3", "--cplus", *directives, "-E", SETTINGS]
    _run([*cython, "cupy_backends/cuda/api/runtime.pyx"], cwd=source, env=os.environ | {"PYTHONPATH": str(site())})
    includes = [f"-I{site() / 'nvidia' / 'cu13' / 'include'}", f"-I{sysconfig.get_paths()['include']}"]
    theirs, ours = libraries() / "theirs.o", libraries() / "ours.o"
    _run([*GXX, *includes, "-O1", "-c", source / "cupy_backends/cuda/api/runtime.cpp", "-o", theirs])
    _run([*GXX, *includes, "-c", ROOM / "runtime.cpp", "-o", ours])
    stubs = _stubs("cuda", _symbols(theirs, "U"), ours, 801)  # 801: cudaErrorNotSupported
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    _run([*GXX, "-shared", theirs, ours, stubs, "-o", backends / f"runtime{suffix}"])


def _build_cublas():
    objects = libraries() / "cublas.o"
    _run([*GXX, "-O3", "-march=native", "-c", ROOM / "cublas.cpp", "-o", objects])
    wrapper = next((site() / "cupy_backends" / "cuda" / "libs").glob("cublas.cpython*.so"))
    stubs = _stubs("cublas", _symbols(wrapper, "U", "-D"), objects, 15)  # 15: CUBLAS_STATUS_NOT_SUPPORTED
    _link("libcublas.so.13", objects, stubs)
    version = libraries() / "cublaslt.cpp"
    version.write_text('extern "C" int cublasLtGetVersion() { return 0; }\n', encoding="utf-8")
    _link("libcublasLt.so.13", version)


def _link(library, *parts):
    """Link a shared library whose symbols have its name as their version, as in CUDA's libraries."""
    versions = libraries() / "versions"
    versions.write_text(f"{library} {{ global: *; }};\n", encoding="utf-8")
    flags = [f"-Wl,-soname,{library}", f"-Wl,--version-script={versions}"]
    _run([*GXX, "-shared", *parts, *flags, "-ldl", "-o", libraries() / library])


def _symbols(file, kind, *options):
    """The symbols that an object file or library defines (`kind` "T") or needs ("U"), from ``nm``."""
    lines = _run(["nm", *options, file]).splitlines()
    return {words[-1].partition("@")[0] for line in lines if (words := line.split())[-2:-1] == [kind]}


def _stubs(prefix, needed, objects, status):
    """Write a C++ file with a function for each needed symbol that `objects` lacks; each returns `status`."""
    missing = sorted(name for name in needed - _symbols(objects, "T") if name.startswith(prefix))
    path = libraries() / f"{prefix}_stubs.cpp"
    lines = [f"int {name}() {{ return {status}; }}" for name in missing]
    path.write_text("\n".join(['extern "C" {', *lines, "}\n"]), encoding="utf-8")
    return path


def _pip(*arguments, **options):
    _run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], **options)


def _run(command, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode:
        log = folder() / "setup.log"
        log.write_text(f"{command}\n{result.stdout}\n{result.stderr}", encoding="utf-8")
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:]
        raise UserError(f"{Path(command[0]).name} failed ({''.join(last)}); its whole output is in {log}")
    return result.stdout
