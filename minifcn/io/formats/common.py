"""What the readers of weight files share: their error, the limits, bfloat16, and files beside a file."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays.types import Array

TIMES = 4  # the arrays of a file have at most so many times its bytes: several names may share one storage
MOST = 100_000  # arrays in a file
DEEPEST = 12  # levels of nested dicts, lists or groups


class Unfit(ValueError):
    """A file cannot be read as weights.  The message continues the sentence ``FILE: ...``."""


class Found(dict[str, Any]):
    """The arrays of a file; every name occurs once."""

    def add(self, name: str, array: Any) -> None:
        if name in self:
            raise Unfit(f"two of its arrays have the name {name[:100]!r}; give another file")
        if len(self) == MOST:
            raise Unfit(f"it holds more than {MOST:,} arrays; give another file")
        self[name] = array


def mapped(path: str | Path) -> mmap.mmap:
    """The bytes of a file, not copied; reading beyond the end gives fewer bytes, and never reserves memory."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def widened(bits: Array) -> Array:
    """bfloat16 numbers, given as uint16, in float32.  The 16 bits are the upper half of a float32."""
    return (bits.astype(np.uint32, order="C") << 16).view(np.float32)


def check_total(nbytes: int, size: int) -> None:
    """Raise Unfit if the arrays of a file have many more bytes than the file itself.

    Parameters
    ----------
    nbytes : int
        Of all arrays.
    size : int
        Of the file.
    """
    if nbytes > TIMES * size:
        raise Unfit(f"its arrays would take more than {TIMES} times the file's {size:,} bytes; give another file")


def beside(path: str | Path, name: str) -> Path:
    """The file called `name` in the folder of `path`; Unfit if `name` leads out of the folder.

    Parameters
    ----------
    path : path-like
    name : str
        From a file, so it may be hostile.
    """
    if name in ("", ".", "..") or any(c in name for c in "/\\:\0"):
        raise Unfit(f"it refers to the file {name[:100]!r}, which must be a plain name in the same folder")
    other = Path(path).with_name(name)
    if not other.is_file():
        raise Unfit(f"it needs the file {name[:100]!r} beside it, which is not there; give all of its files")
    return other
