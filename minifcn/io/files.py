"""Check that a path is a regular file before opening it; opening a named pipe would block for ever."""

import os
import stat
from pathlib import Path

from ..errors import UserError

KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def require_file(path: str | Path) -> None:
    """Raise UserError unless `path` is a regular file, or a link to one.

    Parameters
    ----------
    path : path-like
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be opened ({reason}); check the path and its permissions") from None
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        raise UserError(f"{path} is {kind}, not a regular file; give a file")
