"""Lock a folder, so that only one process at a time works in it."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

NAME = "lock"


@contextmanager
def locked(folder):
    """Hold an exclusive lock on a folder inside the block.

    The lock is on the file ``lock`` in the folder, which is removed at the end.  The operating system releases the
    lock when the process ends, even if it is killed, so a left-over file does not block the next process.  If the file
    system does not support locks, the block runs without one: two processes can then write to the same folder.

    Parameters
    ----------
    folder : path-like

    Raises
    ------
    UserError
        If another process holds the lock.
    OSError
        If the folder cannot be written.
    """
    path = Path(folder) / NAME
    file = _take(path)
    try:
        yield
    finally:
        if fcntl is None:  # Windows cannot remove an open file; elsewhere remove it while it is still locked
            os.close(file)
        with suppress(OSError):
            path.unlink()
        if fcntl is not None:
            os.close(file)


def _take(path):
    """Open and lock the file `path`, and return its descriptor; UserError if another process has locked it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            os.close(file)
            raise UserError(
                f"{path.parent} is in use by another training process; wait until it ends, or stop it"
            ) from None
        except OSError:
            return file  # the file system does not support locks
        with suppress(OSError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        # The previous owner removed the file between open() and the lock.  Try again: this lock is on a removed file,
        # and does not exclude a process that creates and locks a new one.
        os.close(file)


def _lock(file):
    """Lock a file; BlockingIOError, or PermissionError on Windows, if another process has locked it."""
    if fcntl is None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
