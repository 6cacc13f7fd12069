"""Read arrays from weight files of many programs.  The contents of a file decide how it is read, not its suffix."""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays.types import Array
from ..errors import UserError
from .formats.common import Unfit

READERS = {  # a format in words: the module of formats/ and the function that reads it
    "safetensors": "shards.read_shard",
    "index of safetensors shards": "shards.read_index",
    "NumPy archive (npz)": "npy.read_npz",
    "NumPy file (npy)": "npy.read_npy",
    "pickle": "npy.read_pickle",
    "PyTorch (zip)": "pytorch.read_zip",
    "PyTorch (before 1.6)": "pytorch.read_legacy",
    "Keras (zip)": "hdf5.read_keras",
    "HDF5 of Keras or Caffe": "hdf5.read",
    "Caffe": "caffe.read",
    "ONNX": "onnx.read",
}
STARTS = {  # the first bytes of a file: its format
    rb"\x93NUMPY": "NumPy file (npy)",
    rb"\x89HDF\r\n\x1a\n": "HDF5 of Keras or Caffe",
    rb"\x80.(\x95.{8})?\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19": "PyTorch (before 1.6)",
    rb"\x80[\x00-\x05]|\([dl]|c\w+\n": "pickle",
    rb".{8}\{": "safetensors",
    rb"\s*\{": "index of safetensors shards",
    rb"\x08": "ONNX",
    rb"\x0a|\x12|\xa2\x06": "Caffe",
}
OTHERS = {  # the first bytes of a file that is not read: what it is, and what to do
    rb"\s*<": "it is a web page, not weights; download the file again",
    rb"version https://git-lfs": "it is a pointer of Git LFS, not the file itself; run git lfs pull",
    rb"\x1f\x8b|BZh|\xfd7zXZ": "it is compressed; unpack it",
    rb".{257}ustar": "it is a tar archive, as of PyTorch before 0.1.10; save it again with PyTorch 1.6 or later",
}
SUFFIXES = {  # what a file should be: for messages only
    ".safetensors": "a .safetensors file", ".npz": "a .npz file", ".npy": "a .npy file", ".pth": "a file of PyTorch",
    ".pt": "a file of PyTorch", ".bin": "a file of PyTorch", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file",
    ".keras": "a .keras file", ".caffemodel": "a .caffemodel file", ".onnx": "an ONNX model",
}  # fmt: skip
HEAD = 512  # bytes in which every format shows itself


def load_weights(path: str | Path) -> dict[str, Array]:
    """The arrays of a weight file, under the names that the file has for them.

    Nothing that a file says is run.  The arrays have at most four times the file's bytes (eight for ONNX's small
    integers, twenty and 64 MB for a compressed npz), and reading takes three times its bytes and 100 MB besides.

    Parameters
    ----------
    path : str or Path
        A file of PyTorch, Keras, Caffe, Chainer, NumPy or ONNX, or safetensors (one file, an index, or a shard).  The
        page "Weights" lists the formats.

    Returns
    -------
    dict of {str: ndarray}
        Numbers have the file's type, but bfloat16 becomes float32.  Axes are in the file's order.

    Raises
    ------
    UserError
        If the file is missing, damaged or of another kind, or contains objects other than arrays.  They are never
        loaded, because loading them can execute code from the file.
    """
    return _read(Path(path))[1]


class Description(list[dict[str, Any]]):
    """A dict for each array of a file, with name, shape, dtype, least and greatest value; `format` is the file's."""

    format: str


def describe(path: str | Path) -> Description:
    """The format of a weight file, and for each array its name, shape, dtype, least and greatest value.

    Parameters
    ----------
    path : str or Path
        A file that :func:`load_weights` reads.

    Returns
    -------
    list of dict
        With the keys ``name``, ``shape``, ``dtype``, ``least`` and ``greatest``.  The last two are None for an empty
        array.  The attribute ``format`` is the name of the format.

    Raises
    ------
    UserError
        As for :func:`load_weights`.
    """
    kind, arrays = _read(Path(path))
    rows = Description(
        {
            "name": name,
            "shape": array.shape,
            "dtype": str(array.dtype),
            "least": array.min().item() if array.size else None,
            "greatest": array.max().item() if array.size else None,
        }
        for name, array in arrays.items()
    )
    rows.format = kind
    return rows


def _read(path):
    """The format of a file and its arrays."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such weight file; check the path")
    try:
        kind = _format(path)
        module, function = READERS[kind].split(".")
        arrays = dict(getattr(import_module(f".formats.{module}", __package__), function)(path))
    except UserError:
        raise
    except Unfit as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # for a damaged file zipfile, zlib, NumPy, h5py and ast raise many kinds of exception
        expected = SUFFIXES.get(path.suffix.lower(), "a weight file")
        raise UserError(f"{path}: the file is damaged, or not {expected} ({_line(error)}); give another file") from None
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise UserError(f"{path}: {_line(name)} is {array.dtype}; weights must be real numbers, such as float32")
    return kind, arrays


def _line(message):
    """A text from a library or a file, on one line of characters that cannot change the console."""
    return "".join(c if c.isprintable() else " " for c in str(message)[:200])


def _format(path):
    """The format of a file, from its contents."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PK"):
        from zipfile import ZipFile  # here, because importing minifcn must be quick

        with ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return "PyTorch (zip)"
        return "Keras (zip)" if "model.weights.h5" in names else "NumPy archive (npz)"
    for start, reason in OTHERS.items():
        if re.match(start, head, re.DOTALL):
            raise Unfit(reason)
    for start, kind in STARTS.items():
        if re.match(start, head, re.DOTALL):
            return kind
    raise ValueError("it is empty" if not head else "its first bytes are those of no format that minifcn reads")


def require_finite(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Raise UserError if a weight is NaN or infinite.

    Parameters
    ----------
    path : path-like
    arrays : dict of {str: ndarray}
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinite numbers; give another file")
