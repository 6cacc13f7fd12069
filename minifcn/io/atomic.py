"""Files that are complete or not there at all."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic(path):
    """Write a file all or nothing: ``with atomic(path) as partial: ...`` writes `partial`, which then takes its place.

    Whenever the writing ends, by an error or a power cut, `path` holds the old contents or the new, never a part.
    The partial file lies beside it, under the same name with ``.partial``; one that a crash left is replaced.  Links
    are replaced, too: nothing is written through them.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    Path
        Where to write.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        mode = partial.stat().st_mode
        yield partial
        os.chmod(partial, mode)  # a writer may have made it private; who may read is the user's umask to say
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except Exception:  # a full disk needs the space
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder):
    """Have the folder's new entry on the disk, where the system can do so: else a power cut may take it back."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
