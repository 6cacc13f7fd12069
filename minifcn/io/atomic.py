"""Write files atomically: a file is replaced by its complete new version, or not changed at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Replace a file atomically: ``with atomic(path) as partial: ...`` writes `partial`, which then replaces `path`.

    After an error, a kill or a power cut, `path` holds either the old contents or the new, never a part of them.
    The partial file is beside `path` and has its name with ``.partial`` added; one that a crash left is replaced.
    Symbolic links at either name are replaced, not followed, so a link cannot redirect the write to another file.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    Path
        The partial file, which exists and is empty.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        mode = partial.stat().st_mode
        yield partial
        os.chmod(partial, mode)  # a writer may have replaced the file with a private one; restore the umask's mode
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except Exception:  # the disk may be full: free the space
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder):
    """Flush the folder's new entry to disk, if the system can; otherwise a power cut may undo the replacement."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
