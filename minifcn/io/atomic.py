"""Files that are complete or not there at all."""

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path):
    """Write a file all or nothing: ``with atomic(path) as partial: ...`` writes `partial`, which then takes its place.

    Whenever the writing ends, by an error or a power cut, `path` holds the old contents or the new, never a part.
    The partial file lies beside it, under the same name with ``.partial``; one that a crash left is overwritten.

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
    partial.touch()
    mode = partial.stat().st_mode
    yield partial
    os.chmod(partial, mode)  # a writer may have made it private; who may read is the user's umask to say
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
