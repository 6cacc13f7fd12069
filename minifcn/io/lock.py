"""A folder that one process at a time works in."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

NAME = "lock"


@contextmanager
def locked(folder):
    """Inside, no other process can be inside for the same folder; the kernel ends it with the process, however it ends.

    The file ``lock`` lies in the folder meanwhile.  On a file system that knows no locks, nothing is locked.

    Parameters
    ----------
    folder : path-like

    Raises
    ------
    UserError
        If another process is inside.
    OSError
        If the folder cannot be written.
    """
    path = Path(folder) / NAME
    file = _take(path)
    try:
        yield
    finally:
        if fcntl is None:  # Windows removes no open file
            os.close(file)
        with suppress(OSError):
            path.unlink()
        if fcntl is not None:
            os.close(file)


def _take(path):
    """The descriptor of the locked file."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            os.close(file)
            raise UserError(
                f"{path.parent} is in use: another process trains in it; wait for its end, or stop it"
            ) from None
        except OSError:
            return file  # a file system without locks
        with suppress(OSError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)  # who had it before has removed it since: another process may lock a new file


def _lock(file):
    """Raises BlockingIOError, or on Windows PermissionError, if another process has locked the file."""
    if fcntl is None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
