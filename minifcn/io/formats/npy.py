"""NumPy's files: ``.npz`` archives (also Chainer's), and ``.npy`` files that hold a pickled dict of arrays."""

import io
import math
import os
import warnings
from collections.abc import Iterable
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np

from . import zips
from .common import Found, Unfit, mapped
from .pickles import unpickle
from .values import arrays

HEAD = 1 << 14  # bytes that hold any header: NumPy refuses one of more than 10,000


def read_npz(path: str | Path, names: Iterable[str] | None = None) -> Found:
    """The arrays of an npz file, each only as large as its entry.

    Parameters
    ----------
    path : path-like
    names : iterable of str, optional
        Read only these.
    """
    found = Found()
    with zips.opened(path) as archive:
        entries = archive.namelist() if names is None else [f"{name}.npy" for name in names]
        for entry in entries:
            name = entry.removesuffix(".npy")
            data = zips.content(archive, entry)
            shape, fortran, dtype, start = _header(data)
            if dtype.hasobject:
                raise Unfit(f"{name[:100]!r} holds pickled objects; save arrays of numbers")
            if math.prod(shape) * dtype.itemsize != len(data) - start:
                raise Unfit(f"the size of {name[:100]!r} is not that of its data; give another file")
            flat = np.frombuffer(data, dtype, offset=start)  # not copied
            found.add(name, flat.reshape(shape, order="F" if fortran else "C"))
    return found


def read_npy(path: str | Path) -> Found:
    """The arrays of a dict in a ``.npy`` file: ``{layer: {name: array}}`` or ``{layer: [weights, biases]}``.

    Parameters
    ----------
    path : path-like
    """
    data = mapped(path)
    _, _, dtype, start = _header(data)
    if not dtype.hasobject:
        raise Unfit("it holds one array without a name; save several with numpy.savez")
    return _pickled(data, start, path)


def read_pickle(path: str | Path) -> Found:
    """The arrays of a dict that was pickled alone.

    Parameters
    ----------
    path : path-like
    """
    return _pickled(mapped(path), 0, path)


def _pickled(data, start, path):
    data.seek(start)
    return arrays(unpickle(data), os.path.getsize(path), parts=("weights", "biases"))


def _header(data: bytearray | mmap) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """The shape, whether the order is Fortran's, the dtype, and where the numbers begin."""
    head = io.BytesIO(data[:HEAD])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the parser, about headers that Python 2 wrote
        version = np.lib.format.read_magic(head)
        if version not in ((1, 0), (2, 0)):
            raise Unfit(f"it has NumPy's format {version}, and minifcn reads (1, 0) and (2, 0); save it again")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(head)
    return shape, fortran, dtype, head.tell()
